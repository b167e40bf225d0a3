//! Permanent logical slots: who has them, what a member lacks of them, and whose feedback the leader needs so that
//! they can be used after a failover (contract: patroni-ha-rules, section 12; docs/decisions/0025).

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{LogicalSlot, Look, Member, MemberName, Slot, Tags, slot_name};

use crate::ctx::Ctx;
use crate::decision::JobKind;
use crate::memory::Memory;
use crate::view::View;

/// The permanent logical slots that belong here. A copy of another cluster has none, as with Patroni: nobody in it could make them.
pub(crate) fn wanted<'a>(ctx: &Ctx<'a>) -> Vec<&'a LogicalSlot> {
    let settings = &ctx.view.settings;
    if !settings.use_slots || settings.standby_cluster.is_some() {
        return Vec::new();
    }
    let tags = &ctx.view.identity.tags;
    let leads = ctx.holding().is_some();
    if !leads && (tags.nofailover || !reports(ctx.view, ctx.me(), tags)) {
        return Vec::new();
    }
    let slots = settings.logical_slots.iter();
    slots.filter(|slot| !is_member_slot(ctx, slot)).collect()
}

/// A member's slot has this name: that one is needed.
fn is_member_slot(ctx: &Ctx<'_>, slot: &LogicalSlot) -> bool {
    let mut others = ctx.others();
    slot.name == slot_name(ctx.me()) || others.any(|member| slot_name(&member.name) == slot.name)
}

/// Those that are to be copied from the leader: it has told where they stand, and here they are missing or of no use.
/// What PostgreSQL itself keeps in step with the leader is its business.
pub(crate) fn missing(ctx: &Ctx<'_>, look: &Look) -> Vec<LogicalSlot> {
    let Some(status) = ctx.view.fresh().and_then(|it| it.status.as_ref()) else {
        return Vec::new();
    };
    let told = |slot: &&LogicalSlot| status.value.slots.contains_key(&slot.name);
    let lacks = |wanted: &&LogicalSlot| {
        let found = look.slots.iter().find(|slot| slot.name == wanted.name);
        found.is_none_or(|slot| is_useless(wanted, slot))
    };
    let slots = wanted(ctx).into_iter().filter(told).filter(lacks);
    slots.cloned().collect()
}

fn is_useless(wanted: &LogicalSlot, slot: &Slot) -> bool {
    slot.lost && !slot.active && !slot.failover && wanted.fits(slot)
}

/// This member's stream tells the leader what its slots need: it streams, and so does everybody between it and the
/// leader. A circle leads nowhere.
fn reports(view: &View, name: &MemberName, tags: &Tags) -> bool {
    next_to_leader(view, name, tags).is_some()
}

/// The slot on the leader by which that holds back what this standby needs.
pub fn slot_on_leader(view: &View) -> Option<String> {
    next_to_leader(view, &view.me, &view.identity.tags).map(slot_name)
}

/// Who streams from the leader at the end of the row that this member's stream comes by.
fn next_to_leader<'a>(
    view: &'a View,
    name: &'a MemberName,
    tags: &'a Tags,
) -> Option<&'a MemberName> {
    let mut seen = vec![name];
    let mut tags = tags;
    loop {
        if tags.nostream {
            return None;
        }
        let last = seen.last().copied();
        let named = tags.replicatefrom.as_ref().filter(|it| Some(*it) != last);
        let upstream = named.and_then(|name| view.cluster()?.member(name));
        match upstream {
            None => return last,
            Some(member) if seen.contains(&&member.name) => return None,
            Some(member) => {
                seen.push(&member.name);
                tags = &member.tags;
            }
        }
    }
}

/// Whether this node's PostgreSQL has to tell whom it streams from which rows are still needed, whatever its own
/// `hot_standby_feedback` says: it has logical slots when it is a standby, or stands between the leader and a member that
/// has. `None`: the other members are not known.
pub fn feedback(view: &View) -> Option<bool> {
    let settings = &view.settings;
    if settings.logical_slots.is_empty() || !settings.use_slots {
        return Some(false);
    }
    view.cluster()?;
    Some(needs_feedback(view, &view.me, &view.identity.tags, 0))
}

fn needs_feedback(view: &View, name: &MemberName, tags: &Tags, depth: usize) -> bool {
    if !reports(view, name, tags) {
        return false;
    }
    if !tags.nofailover {
        return true;
    }
    let Some(cluster) = view.cluster() else {
        return false;
    };
    let leader = cluster.leader_name();
    let behind = |member: &&Member| {
        member.tags.replicatefrom.as_ref() == Some(name) && Some(&member.name) != leader
    };
    let members = cluster.members.values().map(|stored| &stored.value);
    // Nobody stands in a longer row than there are members.
    depth < cluster.members.len()
        && members
            .filter(behind)
            .any(|member| needs_feedback(view, &member.name, &member.tags, depth + 1))
}

/// Counts the copies that were tried, also those that worked: what is lost again at once must not keep PostgreSQL
/// restarting.
pub(crate) fn note(ctx: &Ctx<'_>, memory: &mut Memory) {
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::CopySlots { .. }, Some(_), Some(ended)) =
            (&job.kind, &job.outcome, job.ended)
        && memory.slot_copy.tries.counted != Some(ended)
    {
        memory.slot_copy.tries.fail(ended);
        memory.slot_copy.leaving = None;
    }
    if ctx.other_leader().is_none() {
        memory.slot_copy.missing_since = None;
        memory.slot_copy.leaving = None;
    }
}
