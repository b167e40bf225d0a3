//! Somebody asked for a new copy of the data (`POST /reinitialize`): PostgreSQL is stopped, the data are
//! removed, and rule `bootstrap` copies them anew. Only where another member holds the lock and there is
//! somebody to copy, before the stop and again before the removal: the last copy is never removed.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{DataDir, StopMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::holder;
use crate::memory::{Memory, Reinitializing};
use crate::rules::bootstrap;
use crate::view::Outcome;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let orders = &ctx.view.orders;
    let order = orders
        .reinitialize
        .filter(|order| order.number > memory.dealt_with);
    if let Some(order) = order {
        memory.dealt_with = order.number;
        let under_way = ctx.view.under_way(memory).filter(|_| !order.force);
        let reason = match under_way {
            Some(action) => Some(format!("{action} already in progress")),
            None => no_source(ctx, order.from_leader),
        };
        if let Some(reason) = reason {
            let words = format!("reinitialize: dropped, {reason}");
            memory.copy_refused = Some((order.number, reason));
            return Verdict::stay(words).warning();
        }
        let running = ctx.view.running_job().map(|job| &job.kind);
        memory.restart = None;
        memory.reinitialize = Some(Reinitializing {
            from_leader: order.from_leader,
            removed: false,
            cannot_write: ctx.cannot_write(),
        });
        // A removal cannot be given up: it would go on beside whatever follows it. It is what was asked for.
        if running.is_some() && running != Some(&JobKind::RemoveData) {
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
    let reason = match removal_failed {
        true => Some("the old data cannot be removed".into()),
        false => no_source(ctx, state.from_leader),
    };
    if let Some(reason) = reason {
        memory.reinitialize = None;
        return Verdict::stay(format!("reinitialize: given up, {reason}")).error();
    }
    if !ctx.view.is_down() {
        return stop("reinitialize: stopping PostgreSQL");
    }
    let actions = vec![Action::StartJob(JobKind::RemoveData)];
    Verdict::only(actions, "reinitialize: removing the old data")
}

/// Why there is nobody to copy.
fn no_source(ctx: &Ctx<'_>, from_leader: bool) -> Option<String> {
    let Some(leader) = ctx.view.fresh().and(ctx.other_leader()) else {
        return Some("nothing is removed without another leader to copy".into());
    };
    match bootstrap::source(ctx, &leader.name, from_leader) {
        None => Some(format!(
            "nothing is removed while {} does not run as primary",
            leader.name
        )),
        Some(source) if source.address.is_none() => Some(holder::no_address(ctx, source)),
        Some(_) => None,
    }
}

fn stop(reason: &'static str) -> Verdict {
    let stop = JobKind::Stop {
        mode: StopMode::Immediate,
        checkpoint_first: false,
    };
    Verdict::only(vec![Action::StartJob(stop)], reason)
}
