//! PostgreSQL is down and this node holds the lock: start it again, or hand over.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{ControlFile, ControlState, CrashHandover, Span};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind, StartAs};
use crate::memory::Memory;
use crate::upkeep::guard;
use crate::view::Outcome;
use crate::{race, rules::hang, rules::standby_cluster};

/// How long PostgreSQL rests before it is started again without a new leader.
const REST: Span = Span::from_secs(3);
/// How long the others go first after a hand-over.
const STAND_BACK: Span = Span::from_secs(5);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Some(term) = ctx.holding() else {
        return Verdict::pass("the lock is not held");
    };
    if !ctx.view.is_down() {
        return Verdict::pass("PostgreSQL is not down");
    }
    let now = ctx.now();
    if let Some(reason) = memory.give_up.take() {
        return hand_over(ctx, memory, term, format!("released the lock: {reason}"));
    }
    let Some(control) = ctx.view.local.control else {
        let reason = String::from("released the lock: pg_control is unreadable");
        return hand_over(ctx, memory, term, reason).error();
    };
    let ordered = memory.restart.is_some();
    if !ordered {
        memory.crashed_at.get_or_insert(now);
    }
    let far = ctx.standby_cluster();
    let standby =
        far.is_some() || !was_primary(ctx, memory, &control) || ctx.view.local.standby_signal;
    if !standby && guard::is_unusable(ctx) && !ctx.view.settings.pause {
        let culprit = guard::culprit(ctx);
        let reason = format!("released the lock: the {culprit} is required and cannot be armed");
        return hand_over(ctx, memory, term, reason).error();
    }
    let handover = memory.start.failures > 0 || (!standby && !ordered && wants_handover(ctx));
    if handover && !ctx.view.settings.pause {
        let since = memory.crashed_at.unwrap_or(now);
        let questions = race::questions(ctx, memory, since);
        if !questions.is_empty() && !ctx.view.asking {
            return Verdict::act(
                vec![Action::AskPeers(questions)],
                "PostgreSQL crashed: asking who could take over",
            )
            .warning();
        }
        if ctx.view.asking {
            return Verdict::stay("PostgreSQL crashed: waiting for the others' answers").warning();
        }
        if !race::candidates(ctx, hang::tolerable(ctx), false).is_empty() {
            let reason = String::from("stopped PostgreSQL to fail over after a crash");
            return hand_over(ctx, memory, term, reason);
        }
    }
    if let Some(far) = far {
        return standby_cluster::start(ctx, memory, &control, far);
    }
    if standby {
        let start = StartAs::Standby {
            upstream: None,
            follow: None,
        };
        let reason = "starting as a standby, to be promoted";
        return start_as(ctx, memory, start, reason);
    }
    if ordered {
        return start_as(ctx, memory, StartAs::Primary, "starting PostgreSQL again");
    }
    let reason = "starting the crashed primary in place";
    start_as(ctx, memory, StartAs::Primary, reason).warning()
}

/// Its WAL goes on where this node wrote it. A copy that was never started has the pg_control of a primary, and a
/// backup_label; so has a primary that crashed during an exclusive backup (PostgreSQL 14 and older), which this agent has
/// seen at work.
pub(crate) fn was_primary(ctx: &Ctx<'_>, memory: &Memory, control: &ControlFile) -> bool {
    if ctx.view.local.backup_label && !memory.was_primary {
        return false;
    }
    match control.state {
        ControlState::InProduction
        | ControlState::ShuttingDown
        | ControlState::ShutDown
        | ControlState::InCrashRecovery
        | ControlState::StartingUp => true,
        ControlState::InArchiveRecovery | ControlState::ShutDownInRecovery => false,
    }
}

fn wants_handover(ctx: &Ctx<'_>) -> bool {
    let settings = &ctx.view.settings;
    let sync_named = ctx
        .cluster()
        .and_then(|cluster| cluster.sync.as_ref())
        .is_some_and(|sync| !sync.value.standbys.is_empty());
    settings.primary_start_timeout.is_zero()
        || (settings.crash_handover == CrashHandover::Sync && sync_named)
}

fn hand_over(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, reason: String) -> Verdict {
    memory.crashed_at = None;
    memory.was_primary = false;
    memory.demoted = true;
    memory.rest_until = Some(ctx.now() + REST);
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let release = ctx.release(term, memory);
    Verdict::only(vec![release], reason).warning()
}

pub(crate) fn start_as(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    start: StartAs,
    reason: &'static str,
) -> Verdict {
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::Start(_), Some(Outcome::Failed(_)), Some(ended)) =
            (&job.kind, &job.outcome, job.ended)
        && memory.start.counted != Some(ended)
    {
        memory.start.fail(ended);
        // Once more through the rule: a failed start is a reason to hand over.
        return Verdict::act(vec![], "PostgreSQL failed to start")
            .warning()
            .wake(ctx.now());
    }
    match memory.start.not_before {
        Some(at) if ctx.now() < at => {
            Verdict::stay("PostgreSQL failed to start, the next try is due soon")
                .warning()
                .wake(at)
        }
        _ => Verdict::act(vec![Action::StartJob(JobKind::Start(start))], reason),
    }
}
