//! Slots for the other members and permanent ones, on every node, so that a failover finds them there
//! (contract: patroni-ha-rules, section 12). Logical ones come to a standby by a copy, which is not made here.

use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{LogicalSlot, Look, Lsn, Member, Slot, SlotKind, slot_name};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::logical;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let Some(look) = &ctx.view.local.look else {
        return NOTHING;
    };
    if ctx.view.fresh().is_none() || ctx.promised {
        return (advanced(ctx, look), None);
    }
    // A free lock is no time for house-keeping, and says nothing about who belongs here.
    if matches!(ctx.lock, Lock::Free | Lock::Unknown) {
        return NOTHING;
    }
    let wanted = wanted(ctx);
    let mut actions = Vec::new();
    for name in &wanted {
        match look.slots.iter().find(|slot| slot.name == *name) {
            None => actions.push(Action::CreateSlot(String::from(&**name))),
            Some(slot) => actions.extend(mended(ctx, look, slot)),
        }
    }
    let logical = logical::wanted(ctx);
    for wanted in &logical {
        let found = look.slots.iter().find(|slot| slot.name == wanted.name);
        actions.extend(kept(ctx, look, wanted, found));
    }
    // Hands off in a pause: somebody may have made one for himself.
    if !ctx.view.settings.pause {
        for slot in &look.slots {
            let ours = !slot.temporary && !slot.failover;
            let ignored = ctx.view.settings.ignored_slots.iter();
            let foreign = ignored.into_iter().any(|entry| entry.fits(slot));
            let known = wanted.contains(slot.name.as_str())
                || logical.iter().any(|wanted| is_kept(look, wanted, slot));
            if ours && !foreign && !slot.active && !known {
                actions.push(Action::DropSlot(slot.name.clone()));
            }
        }
    }
    (actions, None)
}

/// A permanent logical slot: made where it is missing on the leader, and on a standby as far as the leader's, or as far
/// as it has replayed. Where the leader has another slot of its name whoever carries the order out says so.
fn kept(ctx: &Ctx<'_>, look: &Look, wanted: &LogicalSlot, found: Option<&Slot>) -> Option<Action> {
    if found.is_some_and(|slot| slot.failover) {
        return None;
    }
    if !look.in_recovery {
        let there = found.is_some_and(|slot| wanted.fits(slot));
        let leads = matches!(ctx.lock, Lock::Mine { .. });
        return (leads && !there).then(|| Action::CreateLogicalSlot(wanted.clone()));
    }
    let found = found.filter(|slot| wanted.fits(slot) && !slot.active && !slot.lost)?;
    let status = ctx.cluster()?.status.as_ref()?;
    let told = status.value.slots.get(&wanted.name)?;
    let target = (*told).min(look.wal.replayed);
    let behind = found.confirmed_flush.is_some_and(|at| at < target);
    behind.then(|| Action::AdvanceLogicalSlot(wanted.clone(), target))
}

/// Nothing that the leader has under the name of a permanent slot is dropped: somebody's position may be lost with it. On
/// a standby only the right one is of use.
fn is_kept(look: &Look, wanted: &LogicalSlot, slot: &Slot) -> bool {
    slot.name == wanted.name && (!look.in_recovery || wanted.fits(slot))
}

/// A leader that is kept in office by this node's word tells where its slots stand; those here that nobody uses follow, so
/// that they keep no WAL for the length of an outage.
fn advanced(ctx: &Ctx<'_>, look: &Look) -> Vec<Action> {
    let promise = ctx.view.failsafe.promise.as_ref();
    let Some(promise) = promise.filter(|_| ctx.promised && look.in_recovery) else {
        return Vec::new();
    };
    let idle = look
        .slots
        .iter()
        .filter(|slot| !slot.active && !slot.lost && !slot.failover);
    idle.filter_map(|slot| {
        let target = promise.slots.get(&slot.name).copied()?;
        let name = slot.name.clone();
        let (at, action) = match slot.kind.clone() {
            SlotKind::Physical => (slot.restart, Action::AdvanceSlot(name, target)),
            SlotKind::Logical { database, plugin } => {
                let slot_of = LogicalSlot {
                    name,
                    database,
                    plugin,
                };
                let order = Action::AdvanceLogicalSlot(slot_of, target);
                (slot.confirmed_flush, order)
            }
        };
        let behind = at.is_some_and(|at| at < target);
        (behind && target <= look.wal.replayed).then_some(action)
    })
    .collect()
}

/// Slots that must exist here. None without `use_slots`: one that nobody moves any more would keep
/// WAL for ever.
fn wanted<'a>(ctx: &Ctx<'a>) -> BTreeSet<Cow<'a, str>> {
    let settings = &ctx.view.settings;
    if !settings.use_slots {
        return BTreeSet::new();
    }
    // Nobody will ever follow a node that cannot be promoted, but those who are told to.
    let told_only = ctx.holding().is_none() && ctx.view.identity.tags.nofailover;
    // Nobody publishes where slots for later stand: then each node keeps those that are used here.
    let used_only = settings.member_slots_ttl.is_zero();
    let mut wanted: BTreeSet<Cow<'a, str>> = ctx
        .others()
        .filter(|member| !member.tags.nostream)
        .filter(|member| !told_only || member.tags.replicatefrom.as_ref() == Some(ctx.me()))
        .filter(|member| !used_only || streams_from_here(ctx, member))
        .map(|member| Cow::Owned(slot_name(&member.name)))
        .collect();
    if !told_only {
        if !used_only {
            wanted.extend(retained(ctx));
        }
        let permanent = settings.permanent_slots.iter();
        wanted.extend(permanent.map(|name| Cow::Borrowed(name.as_str())));
    }
    wanted.remove(slot_name(ctx.me()).as_str());
    wanted
}

/// Slots of members that were seen lately; who is here and does not stream needs none.
fn retained<'a>(ctx: &Ctx<'a>) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    let idle: BTreeSet<String> = ctx
        .others()
        .filter(|member| member.tags.nostream)
        .map(|member| slot_name(&member.name))
        .collect();
    let status = ctx.cluster().and_then(|cluster| cluster.status.as_ref());
    let names = status.into_iter().flat_map(|it| &it.value.retain_slots);
    let seen = names.filter(move |name| !idle.contains(*name));
    seen.map(|name| Cow::Borrowed(name.as_str()))
}

/// From whom this member streams by its tags, other than the leader.
fn upstream<'a>(ctx: &Ctx<'a>, member: &'a Member) -> Option<&'a Member> {
    let name = member.tags.replicatefrom.as_ref()?;
    ctx.cluster()?
        .member(name)
        .filter(|upstream| upstream.name != member.name)
}

/// This member's slot here is used, or will be as soon as the member streams again.
fn streams_from_here(ctx: &Ctx<'_>, member: &Member) -> bool {
    let leads = ctx.holding().is_some();
    match upstream(ctx, member) {
        Some(upstream) => upstream.name == *ctx.me() && (leads || !is_leader(ctx, member)),
        None => leads,
    }
}

fn is_leader(ctx: &Ctx<'_>, member: &Member) -> bool {
    ctx.other_leader()
        .is_some_and(|leader| leader.name == member.name)
}

/// A slot that nobody uses here follows its member; a broken one is made anew.
fn mended(ctx: &Ctx<'_>, look: &Look, slot: &Slot) -> Vec<Action> {
    let name = || slot.name.clone();
    if slot.active || slot.kind != SlotKind::Physical {
        return Vec::new();
    }
    let mut owners = ctx.others();
    let owner = owners.find(|member| slot_name(&member.name) == slot.name);
    let expected = owner.is_some_and(|member| streams_from_here(ctx, member));
    if slot.lost || slot.restart.is_none() || (slot.holds_xmin && !expected) {
        if ctx.view.settings.pause {
            return Vec::new();
        }
        return alloc::vec![Action::DropSlot(name()), Action::CreateSlot(name())];
    }
    let limit = if look.in_recovery {
        look.wal.replayed
    } else {
        look.wal.flushed
    };
    match (target(ctx, look, slot, owner), slot.restart) {
        (Some(target), Some(at)) if target > at && target <= limit => {
            alloc::vec![Action::AdvanceSlot(name(), target)]
        }
        _ => Vec::new(),
    }
}

/// Where an unused slot belongs: at its member's own position if that streams from a standby, else
/// where the leader says that it is.
fn target(ctx: &Ctx<'_>, look: &Look, slot: &Slot, owner: Option<&Member>) -> Option<Lsn> {
    let cascades = owner.filter(|member| {
        let upstream = upstream(ctx, member);
        upstream.is_some_and(|it| it.name != *ctx.me() && !is_leader(ctx, it))
    });
    if let Some(member) = cascades.filter(|it| {
        !ctx.view.settings.permanent_slots.contains(&slot.name)
            && it.timeline == Some(look.timeline)
    }) {
        return member.xlog_location;
    }
    if !look.in_recovery {
        return None;
    }
    let status = ctx.cluster().and_then(|cluster| cluster.status.as_ref());
    status?.value.slots.get(&slot.name).copied()
}
