//! The agent is to end: PostgreSQL is stopped in order, then the lock is released.

use alloc::string::String;
use alloc::vec;
use pgherd_model::StopMode;

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.view.orders.shutdown {
        return Verdict::pass("nobody asked the agent to end");
    }
    let stopping = ctx
        .view
        .running_job()
        .is_some_and(|job| matches!(job.kind, JobKind::Stop { .. }));
    if stopping {
        return Verdict::only(vec![], "PostgreSQL is being stopped");
    }
    if !ctx.view.is_down() || ctx.view.running_job().is_some() {
        // A stop that failed is followed by the one that cannot.
        let failed = ctx.view.local.job.as_ref().is_some_and(|job| {
            matches!(job.kind, JobKind::Stop { .. }) && job.outcome != Some(crate::Outcome::Done)
        });
        let mode = if failed {
            StopMode::Kill
        } else {
            StopMode::Fast
        };
        let stop = JobKind::Stop {
            mode,
            checkpoint_first: false,
        };
        return Verdict::only(
            vec![Action::StartJob(stop)],
            "the agent ends: stopping PostgreSQL",
        );
    }
    if let Some(term) = ctx.holding() {
        let release = ctx.release(term, memory);
        return Verdict::only(vec![release], "the agent ends: releasing the lock");
    }
    let exit = Action::Exit {
        code: 0,
        message: String::from("PostgreSQL is stopped"),
    };
    Verdict::only(vec![exit], "the agent ends")
}
