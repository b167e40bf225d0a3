//! Logical slots, beside the loop: making one waits for transactions that are open, advancing one reads the WAL in between,
//! and whether a copied one could be used after a failover only the leader knows. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgherd_ha::View;
use pgherd_instance::{self as instance, CatalogXmins, Instance, Source};
use pgherd_model::{LogicalSlot, Lsn, MemberName, Time, slot_name};
use tokio::sync::mpsc::UnboundedSender;

use crate::event::Event;
use crate::jobs::source;

/// Longest wait for the transactions that are open when a slot is made. Afterwards it is tried again.
const CREATE: Duration = Duration::from_secs(60);
/// Longest advance of one slot: given up, all that it has read is read again.
const ADVANCE: Duration = Duration::from_secs(3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(10);

/// Work on slots that is under way, and what is known of those that were copied.
pub(crate) struct SlotKeeper {
    instance: Instance,
    events: UnboundedSender<Event>,
    shared: Arc<Mutex<Shared>>,
    next_check: Time,
    /// Slots whose name is a member's, as of the last look.
    conflicts: BTreeSet<String>,
}

#[derive(Default)]
struct Shared {
    /// Slots that somebody works upon, or rests before the next try.
    busy: BTreeSet<String>,
    /// The last failure of each that was told.
    told: BTreeMap<String, String>,
    copies: Copies,
    checking: bool,
}

/// Slots of a standby.
#[derive(Debug, Default, PartialEq)]
struct Copies {
    /// Those that could be used after a failover.
    ready: BTreeSet<String>,
    /// Those of which that is not known: with what each held back on the leader when the leader first heard of what
    /// this standby needs.
    unready: BTreeMap<String, Option<u32>>,
}

impl Copies {
    /// These are here now. Others are forgotten: one that comes back is another one.
    fn are(&mut self, names: &BTreeSet<String>) {
        self.ready.retain(|name| names.contains(name));
        self.unready.retain(|name, _| names.contains(name));
        for name in names.difference(&self.ready) {
            self.unready.entry(name.clone()).or_default();
        }
    }

    /// Those that have become ready. Until the leader holds back, for this standby's sake, all that a slot needs, it may
    /// have removed some of that: the slot is to be used once it has come beyond everything from before.
    fn compare(
        &mut self,
        here: &CatalogXmins,
        leader: &CatalogXmins,
        own_slot: &str,
    ) -> Vec<String> {
        let Some(held) = leader.get(own_slot).copied() else {
            return Vec::new();
        };
        let mut ready = Vec::new();
        for (name, first) in &mut self.unready {
            *first = first.or(leader.get(name).copied());
            let (Some(first), Some(needed)) = (*first, here.get(name).copied()) else {
                continue;
            };
            if !is_older(held, first) && !is_older(needed, held) {
                ready.push(name.clone());
            }
        }
        for name in &ready {
            self.unready.remove(name);
            self.ready.insert(name.clone());
        }
        ready
    }
}

/// Transaction numbers go round.
fn is_older(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) > u32::MAX / 2
}

impl SlotKeeper {
    pub(crate) fn new(instance: Instance, events: UnboundedSender<Event>) -> SlotKeeper {
        SlotKeeper {
            instance,
            events,
            shared: Arc::default(),
            next_check: Time::ZERO,
            conflicts: BTreeSet::new(),
        }
    }

    /// On the leader.
    pub(crate) fn create(&self, slot: LogicalSlot) {
        let instance = self.instance.clone();
        self.begin(&slot.name.clone(), async move {
            instance.create_logical_slot(&slot, CREATE).await?;
            tracing::info!("logical slot {} was made", slot.name);
            Ok(())
        });
    }

    /// On a standby.
    pub(crate) fn advance(&self, slot: LogicalSlot, to: Lsn) {
        let instance = self.instance.clone();
        self.begin(&slot.name.clone(), async move {
            instance.advance_logical_slot(&slot, to, ADVANCE).await
        });
    }

    /// One thing at a time for each slot; what is asked for again meanwhile comes again.
    fn begin(&self, name: &str, work: impl Future<Output = instance::Result<()>> + Send + 'static) {
        if !lock(&self.shared).busy.insert(name.to_owned()) {
            return;
        }
        let (name, shared, events) = (name.to_owned(), self.shared.clone(), self.events.clone());
        tokio::spawn(async move {
            match work.await {
                Ok(()) => {
                    lock(&shared).told.remove(&name);
                }
                Err(error) => {
                    let text = error.to_string();
                    let last = lock(&shared).told.insert(name.clone(), text.clone());
                    if last.as_ref() != Some(&text) {
                        tracing::error!("logical slot {name}: {text}");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
            lock(&shared).busy.remove(&name);
            events.send(Event::WakeUp).ok();
        });
    }

    /// These are about to be copied anew.
    pub(crate) fn copied(&self, slots: &[LogicalSlot]) {
        let mut shared = lock(&self.shared);
        for slot in slots {
            shared.copies.ready.remove(&slot.name);
            shared.copies.unready.remove(&slot.name);
        }
    }

    /// PostgreSQL is about to be promoted.
    pub(crate) fn promoting(&self) {
        let shared = lock(&self.shared);
        let names: Vec<&str> = shared.copies.unready.keys().map(String::as_str).collect();
        if !names.is_empty() {
            tracing::warn!(
                "logical slots that may not be safe to use after the promotion, since the leader may have removed rows \
                 that they need: {}",
                names.join(", ")
            );
        }
    }

    /// After a look: copies whose state is not known yet are compared with the leader's.
    pub(crate) fn seen(&mut self, view: &View) {
        self.tell_conflicts(view);
        let Some(look) = view.local.look.as_ref() else {
            return;
        };
        let permanent = &view.settings.logical_slots;
        let kept = look.slots.iter().filter(|slot| {
            look.in_recovery && !slot.failover && permanent.iter().any(|it| it.fits(slot))
        });
        let names = kept.map(|slot| slot.name.clone()).collect();
        let mut shared = lock(&self.shared);
        shared.copies.are(&names);
        let due = view.now >= self.next_check && !shared.checking;
        if shared.copies.unready.is_empty() || !due {
            return;
        }
        let cluster = view.fresh();
        let leader = cluster.and_then(|it| it.member(it.leader_name()?)?.address.clone());
        let (Some(leader), Some(own)) = (leader, pgherd_ha::slot_on_leader(view)) else {
            return;
        };
        shared.checking = true;
        self.next_check = view.now + view.settings.loop_wait;
        let (instance, shared) = (self.instance.clone(), self.shared.clone());
        tokio::spawn(async move {
            let seen = compare(&instance, &source(&leader)).await;
            let mut shared = lock(&shared);
            shared.checking = false;
            match seen {
                Ok((here, there)) => {
                    for name in shared.copies.compare(&here, &there, &own) {
                        tracing::info!("Logical slot {name} is safe to be used after a failover");
                    }
                }
                Err(error) => tracing::debug!("logical slots cannot be compared: {error}"),
            }
        });
    }

    fn tell_conflicts(&mut self, view: &View) {
        let cluster = view.cluster();
        let members: BTreeSet<String> = cluster
            .into_iter()
            .flat_map(|it| it.members.keys())
            .map(|name: &MemberName| slot_name(name))
            .collect();
        let slots = view.settings.logical_slots.iter();
        let conflicts: BTreeSet<String> = slots
            .map(|slot| slot.name.clone())
            .filter(|name| members.contains(name))
            .collect();
        for name in conflicts.difference(&self.conflicts) {
            tracing::error!(
                "slots.{name}: the logical slot is not made, a member's slot has this name"
            );
        }
        self.conflicts = conflicts;
    }
}

async fn compare(
    instance: &Instance,
    leader: &Source,
) -> instance::Result<(CatalogXmins, CatalogXmins)> {
    let there = instance.remote_catalog_xmins(leader).await?;
    Ok((instance.catalog_xmins().await?, there))
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xmins(pairs: &[(&str, u32)]) -> CatalogXmins {
        pairs
            .iter()
            .map(|(name, at)| ((*name).into(), *at))
            .collect()
    }

    /// Leader's slot, the leader's slot for this standby, and the copy: after each, is it ready?
    #[test]
    fn a_copy_is_ready_once_the_leader_holds_back_what_it_needs() {
        for (steps, ready) in [
            // Nobody has moved since the copy.
            (vec![(700, Some(700), 700)], true),
            // The leader went on before it heard of the copy.
            (vec![(710, Some(700), 700)], false),
            (vec![(710, Some(700), 700), (720, Some(705), 705)], false),
            (vec![(710, Some(700), 700), (720, Some(712), 715)], true),
            // No feedback has arrived.
            (vec![(700, None, 700)], false),
            (vec![(700, None, 700), (710, Some(700), 700)], false),
            // The standby asks for less than its slot needs.
            (vec![(700, Some(705), 700)], false),
            // Numbers go round.
            (vec![(u32::MAX, Some(u32::MAX), 2)], true),
            (vec![(2, Some(u32::MAX), u32::MAX)], false),
        ] {
            let mut copies = Copies::default();
            copies.are(&BTreeSet::from(["feed".into()]));
            for (there, own, here) in &steps {
                let mut leader = xmins(&[("feed", *there)]);
                leader.extend(own.map(|at| ("n2".to_owned(), at)));
                copies.compare(&xmins(&[("feed", *here)]), &leader, "n2");
            }
            assert_eq!(copies.ready.contains("feed"), ready, "{steps:?}");
            assert_eq!(copies.unready.is_empty(), ready, "{steps:?}");
            copies.are(&BTreeSet::new());
            assert_eq!(copies, Copies::default());
        }
    }
}
