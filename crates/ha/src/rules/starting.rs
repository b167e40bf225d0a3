//! A long job runs, or PostgreSQL is between dead and answering: the lock is kept, nothing else
//! begins.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Postmaster, StopMode, Time};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::race;
use crate::rules::{hang, identity, restart_order, switchover};
use crate::view::Job;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(job) = ctx.view.running_job() {
        return busy(ctx, memory, job);
    }
    let local = &ctx.view.local;
    if identity::is_foreign(ctx, memory) {
        return Verdict::pass("the data are another cluster's");
    }
    match local.postmaster {
        Postmaster::Down => Verdict::pass("no job runs and PostgreSQL is down"),
        Postmaster::Leftovers(count) => {
            let stop = JobKind::Stop {
                mode: StopMode::Kill,
                checkpoint_first: false,
            };
            let reason = format!("the postmaster is dead, {count} of its processes are not yet");
            Verdict::only(vec![Action::StartJob(stop)], reason)
        }
        Postmaster::Alive { .. } if local.look.is_some() => Verdict::pass("PostgreSQL answers"),
        Postmaster::Alive { pid } if memory.has_answered(pid) && to_restart(ctx, memory) => {
            Verdict::pass("PostgreSQL does not answer any more, and a restart is asked for")
        }
        Postmaster::Alive { .. }
            if (memory.was_primary || ctx.view.is_mute())
                && ctx.holding().is_some()
                && !ctx.view.is_recovering() =>
        {
            Verdict::pass("the primary does not answer")
        }
        Postmaster::Alive { .. } if ctx.holding().is_some() => silent(ctx, memory),
        Postmaster::Alive { .. } => Verdict::stay("PostgreSQL lives and does not answer (yet)"),
    }
}

/// A restart is open, or has not got as far as the stop.
fn to_restart(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let begun = memory.restart.as_ref();
    restart_order::open(ctx, memory).is_some() || begun.is_some_and(|it| !it.stopping)
}

/// The holder of the lock recovers, or does not answer and is not known to have been a primary: it may
/// take as long as a start may.
fn silent(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let since = ctx.view.local.silent_since.unwrap_or(ctx.now());
    let reason = "PostgreSQL lives and does not answer (yet)";
    overlong(ctx, memory, since).unwrap_or_else(|| Verdict::stay(reason))
}

/// What takes longer than `primary_start_timeout` ends in a hand-over, if there is somebody.
fn overlong(ctx: &Ctx<'_>, memory: &mut Memory, since: Time) -> Option<Verdict> {
    let asked = memory.restart.as_ref().and_then(|restart| restart.timeout);
    let settings = &ctx.view.settings;
    let mut timeout = asked.unwrap_or(settings.primary_start_timeout);
    if timeout.is_zero() && ctx.view.is_recovering() && ctx.view.running_job().is_none() {
        // The postmaster lives: what one of its children left behind is done in a moment, mostly.
        timeout = settings.hang_timeout;
    }
    if timeout.is_zero() || settings.pause {
        return None;
    }
    let reason = "PostgreSQL does not answer and holds the lock";
    let over = since + timeout;
    if ctx.now() < over {
        return Some(Verdict::stay(reason).wake(over));
    }
    let questions = race::questions(ctx, memory, over);
    if !questions.is_empty() && !ctx.view.asking {
        let reason = "primary_start_timeout is over: asking who could take over";
        return Some(Verdict::act(vec![Action::AskPeers(questions)], reason).warning());
    }
    if ctx.view.asking || race::candidates(ctx, hang::tolerable(ctx), false).is_empty() {
        let reason = "primary_start_timeout is over and nobody could take over";
        let wake = ctx.now() + race::ANSWER_AGE;
        return Some(Verdict::stay(reason).error().wake(wake));
    }
    memory.give_up = Some(String::from(
        "the start took longer than primary_start_timeout",
    ));
    let stop = JobKind::Stop {
        mode: StopMode::Kill,
        checkpoint_first: false,
    };
    let reason = "PostgreSQL did not start within primary_start_timeout";
    Some(Verdict::only(vec![Action::StartJob(stop)], reason))
}

fn busy(ctx: &Ctx<'_>, memory: &mut Memory, job: &Job) -> Verdict {
    let words = job.kind.words();
    let stopping = matches!(job.kind, JobKind::Stop { .. });
    if stopping && memory.demotion.is_some() && ctx.holding().is_some() {
        return Verdict::pass("a demotion is under way");
    }
    if stopping
        && (memory.restart.is_some() || ctx.standby_cluster().is_some())
        && let Some(verdict) = switchover::end_senders_to_restart(ctx, memory)
    {
        return verdict;
    }
    if matches!(job.kind, JobKind::Start(_))
        && ctx.holding().is_some()
        && let Some(verdict) = overlong(ctx, memory, job.since)
    {
        return verdict;
    }
    if ctx.holding().is_some() {
        return Verdict::stay(format!("updated leader lock, {words} is in progress"));
    }
    Verdict::stay(format!("{words} is in progress"))
}
