//! A primary that does not commit must not hold the lock for ever (architecture, Licence).

use alloc::string::String;
use alloc::vec;
use pgherd_model::{Lsn, Postmaster, StopMode, Time};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::race;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let local = &ctx.view.local;
    if !leads(ctx, memory) {
        return Verdict::pass("this node is not the primary");
    }
    if !matches!(local.postmaster, Postmaster::Alive { .. }) {
        return Verdict::pass("the postmaster does not live");
    }
    let Some(probed) = last_sign(ctx) else {
        return Verdict::pass("PostgreSQL was not probed yet");
    };
    let over = probed + ctx.view.settings.hang_timeout;
    if ctx.now() < over {
        return Verdict::pass("PostgreSQL committed lately");
    }
    let questions = race::questions(ctx, memory, over);
    if !questions.is_empty() && !ctx.view.asking {
        let ask = Action::AskPeers(questions);
        let reason = "PostgreSQL hangs: asking who could take over";
        return Verdict::act(vec![ask], reason).warning();
    }
    let wake = ctx.now() + race::ANSWER_AGE;
    if ctx.view.asking {
        return Verdict::stay("PostgreSQL hangs: waiting for the others' answers")
            .warning()
            .wake(wake);
    }
    if race::candidates(ctx, tolerable(ctx), false).is_empty() {
        return Verdict::stay("PostgreSQL hangs and nobody could take over")
            .error()
            .wake(wake);
    }
    memory.give_up = Some(String::from(
        "PostgreSQL did not commit within hang_timeout",
    ));
    let stop = JobKind::Stop {
        mode: StopMode::Kill,
        checkpoint_first: false,
    };
    Verdict::only(
        vec![Action::StartJob(stop)],
        "PostgreSQL did not commit within hang_timeout: killed",
    )
}

/// When a primary that commits nothing from now on counts as one that hangs.
pub(crate) fn due(ctx: &Ctx<'_>, memory: &Memory) -> Option<Time> {
    let over = last_sign(ctx)? + ctx.view.settings.hang_timeout;
    (leads(ctx, memory) && ctx.now() < over).then_some(over)
}

/// It is the primary, or should be: one that says nothing may have hung before this agent began.
fn leads(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    ctx.holding().is_some() && (memory.was_primary || ctx.view.is_mute())
}

/// From when the patience with it counts.
fn last_sign(ctx: &Ctx<'_>) -> Option<Time> {
    ctx.view.local.probed.or(ctx.view.local.silent_since)
}

/// Least position of somebody who may take over.
pub(crate) fn tolerable(ctx: &Ctx<'_>) -> Lsn {
    let optime = ctx
        .cluster()
        .and_then(|cluster| cluster.optime())
        .unwrap_or_default();
    Lsn(optime
        .0
        .saturating_sub(ctx.view.settings.maximum_lag_on_failover))
}
