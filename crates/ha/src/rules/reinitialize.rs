//! Somebody asked for a new copy of the data (`POST /reinitialize`): PostgreSQL is stopped, the data are
//! removed, and rule `bootstrap` copies them anew. Only where another member holds the lock: the last
//! copy is never removed.

use alloc::vec;
use pgherd_model::{DataDir, StopMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::{Memory, Reinitializing};
use crate::view::Outcome;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let orders = &ctx.view.orders;
    let order = orders
        .reinitialize
        .filter(|order| order.number > memory.dealt_with);
    if let Some(order) = order {
        memory.dealt_with = order.number;
        let busy = ctx.view.running_job().is_some();
        if ctx.other_leader().is_none() || (busy && !order.force) {
            let reason = "reinitialize: dropped, there is no other leader, or something else runs";
            return Verdict::stay(reason).warning();
        }
        memory.restart = None;
        memory.reinitialize = Some(Reinitializing {
            from_leader: order.from_leader,
            removed: false,
        });
        if busy {
            return stop("reinitialize: whatever runs is given up");
        }
    }
    match memory.reinitialize {
        Some(state) => go_on(ctx, memory, state),
        None => Verdict::pass("nobody asked for a new copy"),
    }
}

fn go_on(ctx: &Ctx<'_>, memory: &mut Memory, state: Reinitializing) -> Verdict {
    let job = ctx.view.running_job().map(|job| &job.kind);
    match &ctx.view.local.data {
        DataDir::Empty | DataDir::Unfinished => {
            memory.reinitialize = Some(Reinitializing {
                removed: true,
                ..state
            });
            return Verdict::pass("the old data are gone");
        }
        DataDir::Initialized | DataDir::Unusable(_) if state.removed => {
            if ctx.view.local.look.is_none() {
                return Verdict::pass("there is a new copy, it is started");
            }
            memory.reinitialize = None;
            return Verdict::stay("reinitialize: the new copy runs").wake(ctx.now());
        }
        DataDir::Initialized | DataDir::Unusable(_) => {}
    }
    if matches!(job, Some(JobKind::Stop { .. } | JobKind::RemoveData)) {
        return Verdict::stay("reinitialize: PostgreSQL is stopped, the old data are removed");
    }
    let removal_failed = ctx.view.local.job.as_ref().is_some_and(|job| {
        job.kind == JobKind::RemoveData && matches!(job.outcome, Some(Outcome::Failed(_)))
    });
    if removal_failed || ctx.view.fresh().is_none() || ctx.other_leader().is_none() {
        memory.reinitialize = None;
        let reason = if removal_failed {
            "reinitialize: given up, the old data cannot be removed"
        } else {
            "reinitialize: given up, nothing is removed without another leader to copy"
        };
        return Verdict::stay(reason).error();
    }
    if !ctx.view.is_down() {
        return stop("reinitialize: stopping PostgreSQL");
    }
    let actions = vec![Action::StartJob(JobKind::RemoveData)];
    Verdict::only(actions, "reinitialize: removing the old data")
}

fn stop(reason: &str) -> Verdict {
    let stop = JobKind::Stop {
        mode: StopMode::Immediate,
        checkpoint_first: false,
    };
    Verdict::only(vec![Action::StartJob(stop)], reason)
}
