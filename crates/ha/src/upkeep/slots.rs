//! Physical slots for the other members, on every node, so that a failover finds them there
//! (contract: patroni-ha-rules, section 12).

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{Look, Slot, SlotKind, slot_name};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let (Some(look), Some(_)) = (&ctx.view.local.look, ctx.view.fresh()) else {
        return NOTHING;
    };
    // A free lock is no time for house-keeping, and says nothing about who belongs here.
    if matches!(ctx.lock, Lock::Free | Lock::Unknown) {
        return NOTHING;
    }
    let wanted = wanted(ctx);
    let mut actions = Vec::new();
    for name in &wanted {
        match look.slots.iter().find(|slot| slot.name == *name) {
            None => actions.push(Action::CreateSlot(name.clone())),
            Some(slot) => actions.extend(mended(ctx, look, slot)),
        }
    }
    for slot in &look.slots {
        let ours = slot.kind == SlotKind::Physical && !slot.temporary && !slot.failover;
        if ours && !slot.active && !wanted.contains(&slot.name) {
            actions.push(Action::DropSlot(slot.name.clone()));
        }
    }
    (actions, None)
}

/// Slots that must exist here. None without `use_slots`: one that nobody moves any more would keep
/// WAL for ever.
fn wanted(ctx: &Ctx<'_>) -> BTreeSet<String> {
    let settings = &ctx.view.settings;
    if !settings.use_slots {
        return BTreeSet::new();
    }
    let me = slot_name(ctx.me());
    // Nobody will ever follow a node that cannot be promoted, but those who are told to.
    let everybody = ctx.holding().is_some() || !ctx.view.identity.tags.nofailover;
    let mut wanted: BTreeSet<String> = ctx
        .others()
        .filter(|member| !member.tags.nostream)
        .filter(|member| everybody || member.tags.replicatefrom.as_ref() == Some(ctx.me()))
        .map(|member| slot_name(&member.name))
        .collect();
    if !settings.member_slots_ttl.is_zero()
        && let Some(status) = ctx.cluster().and_then(|cluster| cluster.status.as_ref())
    {
        wanted.extend(status.value.retain_slots.iter().cloned());
    }
    wanted.extend(settings.permanent_slots.iter().cloned());
    wanted.remove(&me);
    wanted
}

/// An inactive slot on a standby follows what the leader publishes; a broken one is made anew.
fn mended(ctx: &Ctx<'_>, look: &Look, slot: &Slot) -> Vec<Action> {
    let name = || slot.name.clone();
    if slot.active || slot.kind != SlotKind::Physical {
        return Vec::new();
    }
    if slot.lost || (look.in_recovery && (slot.holds_xmin || slot.restart.is_none())) {
        return alloc::vec![Action::DropSlot(name()), Action::CreateSlot(name())];
    }
    if !look.in_recovery {
        return Vec::new();
    }
    let published = ctx
        .cluster()
        .and_then(|cluster| cluster.status.as_ref())
        .and_then(|status| status.value.slots.get(&slot.name));
    match (published, slot.restart) {
        (Some(target), Some(at)) if *target > at && *target <= look.wal.replayed => {
            alloc::vec![Action::AdvanceSlot(name(), *target)]
        }
        _ => Vec::new(),
    }
}
