//! `status`: the leader's position and its slots, at most once per loop_wait, since each write
//! wakes every genuine Patroni replica. Where others count on signs of life it is written that often, also with
//! nothing new. Small steps wait, also where it is written: what each of them moves elsewhere (the other members' slots)
//! costs more than the write.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Look, Lsn, Op, SlotKind, Status, slot_name};

use crate::beat;
use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING, positions};

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    if ctx.holding().is_none() && ctx.lock != Lock::Unknown {
        memory.slots_term = None;
        memory.slots_seen.clear();
    }
    let (Lock::Mine { term }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let Some(look) = ctx
        .view
        .local
        .look
        .as_ref()
        .filter(|look| !look.in_recovery || ctx.leads_in_recovery())
    else {
        return NOTHING;
    };
    let due = memory
        .status_written
        .map(|at| at + ctx.view.settings.loop_wait);
    if due.is_some_and(|at| ctx.now() < at) {
        return (vec![], due);
    }
    let mut status = Status {
        optime: look.wal.position(),
        slots: slots(ctx, look),
        retain_slots: retained(ctx, memory, term),
        other: String::new(),
    };
    let next = Some(ctx.now() + ctx.view.settings.loop_wait);
    memory.status_written = Some(ctx.now());
    if let Some(stored) = &cluster.status
        && stored.revision > term
        && waits(ctx, memory, &stored.value, &status)
    {
        status = stored.value.clone();
    }
    let stored = cluster.status.as_ref().map(|stored| &stored.value);
    if stored != Some(&status) {
        memory.status_told = Some(ctx.now());
    } else if beat::rest(&ctx.view.settings).is_none() {
        return (vec![], next);
    }
    (vec![Action::Store(Op::PutStatus { status, term })], next)
}

/// What is new is only a small step, and the last one was told lately. Not asked about what somebody else has written:
/// whoever leads says where it stands.
fn waits(ctx: &Ctx<'_>, memory: &Memory, stored: &Status, status: &Status) -> bool {
    let settings = &ctx.view.settings;
    let until = memory
        .status_told
        .map(|told| told + positions::small_pause(settings));
    until.is_some_and(|until| ctx.now() < until)
        && positions::is_small_step(settings, stored, status)
}

/// Position of every slot, and the leader's own, so that replicas can keep one for it. Slots of
/// members are kept nowhere else without `member_slots_ttl`.
pub(crate) fn slots(ctx: &Ctx<'_>, look: &Look) -> BTreeMap<String, Lsn> {
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
    slots.insert(slot_name(ctx.me()), look.wal.position());
    let settings = &ctx.view.settings;
    if settings.member_slots_ttl.is_zero() {
        let logical = |name: &String| settings.logical_slots.iter().any(|it| it.name == *name);
        slots.retain(|name, _| settings.permanent_slots.contains(name) || logical(name));
    }
    slots
}

/// Slots of members seen within `member_slots_ttl`. The clock of those that a leader before has
/// seen begins with the own term, once.
fn retained(ctx: &Ctx<'_>, memory: &mut Memory, term: u64) -> Vec<String> {
    let now = ctx.now();
    let settings = &ctx.view.settings;
    let ttl = settings.member_slots_ttl;
    let seen = &mut memory.slots_seen;
    if memory.slots_term != Some(term) {
        memory.slots_term = Some(term);
        seen.clear();
        let published = ctx.cluster().and_then(|cluster| cluster.status.as_ref());
        for name in published.into_iter().flat_map(|it| &it.value.retain_slots) {
            seen.insert(name.clone(), now);
        }
    }
    let own = (ctx.me(), &ctx.view.identity.tags);
    let others = ctx.others().map(|member| (&member.name, &member.tags));
    for (name, tags) in others.chain([own]) {
        if tags.nostream {
            seen.remove(&slot_name(name));
        } else {
            seen.insert(slot_name(name), now);
        }
    }
    seen.retain(|name, at| now.since(*at) <= ttl && !settings.permanent_slots.contains(name));
    if ttl.is_zero() {
        Vec::new()
    } else {
        seen.keys().cloned().collect()
    }
}
