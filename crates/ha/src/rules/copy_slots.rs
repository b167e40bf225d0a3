//! A standby that follows the leader lacks permanent logical slots: they are copied from the leader, which takes a restart
//! of PostgreSQL. Not a rule of its own: `follow` asks it when there is nothing else to do (docs/decisions/0025).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{LogicalSlot, Look, Member, PostgresState, Span};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind, Origin};
use crate::logical;
use crate::memory::Memory;
use crate::rules::restart_order;

/// Members begin so far apart, by their names, so that not all are away at once.
const TURN: Span = Span::from_secs(5);
/// Longest wait for another member that is not running.
const PATIENCE: Span = Span::from_secs(60);
/// Between two tries, and once more for each that came before, up to this many times.
const PAUSE: Span = Span::from_secs(60);
const PAUSES: u32 = 3;
/// What has held for so long after the last copy is forgotten.
const SETTLED: Span = Span::from_secs(600);

/// `None`: nothing is missing, or this is no time for it.
pub(super) fn ask(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    look: &Look,
    leader: &Member,
) -> Option<Verdict> {
    let missing = logical::missing(ctx, look);
    let now = ctx.now();
    let copy = &mut memory.slot_copy;
    if missing.is_empty() {
        let last = copy.tries.counted;
        if last.is_some_and(|at| now.since(at) > SETTLED) {
            copy.tries.clear();
        }
        copy.missing_since = None;
        copy.leaving = None;
        return None;
    }
    let streams = look.receiver.as_ref().is_some_and(|it| it.streaming);
    let address = leader.address.clone();
    let (Some(address), true, false) = (address, streams, ctx.view.settings.pause) else {
        copy.leaving = None;
        return None;
    };
    let names = names(&missing);
    let since = *copy.missing_since.get_or_insert(now);
    let rested = copy.tries.counted.map(|last| {
        let pauses = copy.tries.failures.clamp(1, PAUSES);
        last + PAUSE * pauses
    });
    let begin = rested.unwrap_or(since).max(since + turn(ctx, leader));
    if now < begin {
        let reason = format!("logical slots are missing here ({names}): they are copied soon");
        return Some(Verdict::stay(reason).wake(begin));
    }
    if let Some(absent) = absent(ctx, leader).filter(|_| now < begin + PATIENCE) {
        let reason = format!("logical slots are missing here ({names}), and {absent}");
        return Some(Verdict::stay(reason).wake(begin + PATIENCE));
    }
    let leaving = *copy.leaving.get_or_insert(now);
    let until = leaving + ctx.view.settings.loop_wait * 2;
    if restart_order::waited_for(ctx) && now < until {
        let reason = "copying logical slots: asking to be let out of synchronous duty first";
        return Some(Verdict::stay(reason).wake(until));
    }
    let from = Origin {
        name: leader.name.clone(),
        address,
    };
    let job = JobKind::CopySlots {
        from,
        slots: missing,
    };
    let reason = format!("copying logical slots from {}: {names}", leader.name);
    Some(Verdict::only(vec![Action::StartJob(job)], reason))
}

fn names(slots: &[LogicalSlot]) -> String {
    let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    names.join(", ")
}

/// How long those take that come first by their names.
fn turn(ctx: &Ctx<'_>, leader: &Member) -> Span {
    let others = ctx.others().filter(|member| member.name != leader.name);
    let before = others.filter(|member| member.name < *ctx.me()).count();
    TURN * u32::try_from(before).unwrap_or(u32::MAX)
}

/// Another standby that could take over and does not run now: two at a time are too many.
fn absent(ctx: &Ctx<'_>, leader: &Member) -> Option<String> {
    let mut others = ctx.others().filter(|member| member.name != leader.name);
    let absent = others
        .find(|member| !member.tags.nofailover && member.state != Some(PostgresState::Running))?;
    Some(format!("member {} does not run", absent.name))
}
