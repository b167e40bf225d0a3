//! This node ordered the release of its lock: it holds to that until the release is seen, since
//! whoever saw it may be writable by now.

use alloc::vec;
use pgherd_model::{Span, StopMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;

/// How often the order is repeated.
const AGAIN: Span = Span::from_millis(200);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Lock::GivenUp { term } = ctx.lock else {
        return Verdict::pass("no release of the lock is open");
    };
    if !ctx.cannot_write() {
        let stop = JobKind::Stop {
            mode: StopMode::Kill,
            checkpoint_first: false,
        };
        let killing = ctx.view.running_job().is_some_and(|job| job.kind == stop);
        let actions = if killing {
            vec![]
        } else {
            vec![Action::StartJob(stop)]
        };
        let reason = "the lock was given up: PostgreSQL may not write";
        return Verdict::only(actions, reason).warning();
    }
    let release = ctx.release(term, memory);
    Verdict::only(
        vec![release],
        "the lock was given up: releasing it again, until that is seen",
    )
    .warning()
    .wake(ctx.now() + AGAIN)
}
