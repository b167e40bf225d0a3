//! `status`: the leader's position and its slots, at most once per loop_wait, since each write
//! wakes every genuine Patroni replica.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Look, Lsn, Op, SlotKind, Status, slot_name};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let (Lock::Mine { term }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let Some(look) = ctx
        .view
        .local
        .look
        .as_ref()
        .filter(|look| !look.in_recovery)
    else {
        return NOTHING;
    };
    let retain_slots = retained(ctx, memory);
    let due = memory
        .status_written
        .map(|at| at + ctx.view.settings.loop_wait);
    if due.is_some_and(|at| ctx.now() < at) {
        return NOTHING;
    }
    let status = Status {
        optime: look.wal.flushed,
        slots: slots(ctx, look),
        retain_slots,
    };
    memory.status_written = Some(ctx.now());
    if cluster
        .status
        .as_ref()
        .is_some_and(|stored| stored.value == status)
    {
        return NOTHING;
    }
    (vec![Action::Store(Op::PutStatus { status, term })], None)
}

/// Position of every slot, and the leader's own, so that replicas can keep one for it.
fn slots(ctx: &Ctx<'_>, look: &Look) -> BTreeMap<String, Lsn> {
    let mut slots: BTreeMap<String, Lsn> = look
        .slots
        .iter()
        .filter(|slot| !slot.temporary && !slot.failover)
        .filter_map(|slot| {
            let position = match slot.kind {
                SlotKind::Physical => slot.restart,
                SlotKind::Logical { .. } => slot.confirmed_flush,
            };
            Some((slot.name.clone(), position?))
        })
        .collect();
    slots.insert(slot_name(ctx.me()), look.wal.flushed);
    slots
}

/// Slots of members seen within `member_slots_ttl`.
fn retained(ctx: &Ctx<'_>, memory: &mut Memory) -> Vec<String> {
    let now = ctx.now();
    let ttl = ctx.view.settings.member_slots_ttl;
    let seen = &mut memory.slots_seen;
    seen.insert(slot_name(ctx.me()), now);
    for member in ctx.others() {
        seen.insert(slot_name(&member.name), now);
    }
    let published = ctx.cluster().and_then(|cluster| cluster.status.as_ref());
    for name in published
        .map(|stored| stored.value.retain_slots.as_slice())
        .unwrap_or_default()
    {
        seen.entry(name.clone()).or_insert(now);
    }
    seen.retain(|_, at| now.since(*at) <= ttl);
    if ttl.is_zero() {
        Vec::new()
    } else {
        seen.keys().cloned().collect()
    }
}
