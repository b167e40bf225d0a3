//! A long job runs, or PostgreSQL is between dead and answering: the lock is kept, nothing else
//! begins.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Postmaster, StopMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind, StartAs};
use crate::memory::Memory;
use crate::view::Job;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(job) = ctx.view.running_job() {
        return busy(ctx, memory, job);
    }
    let local = &ctx.view.local;
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
        Postmaster::Alive { .. } if memory.was_primary && ctx.holding().is_some() => {
            Verdict::pass("the primary does not answer")
        }
        Postmaster::Alive { .. } => Verdict::stay("PostgreSQL lives and does not answer (yet)"),
    }
}

fn busy(ctx: &Ctx<'_>, memory: &mut Memory, job: &Job) -> Verdict {
    let name = job.kind.name();
    let timeout = ctx.view.settings.primary_start_timeout;
    if job.kind == JobKind::Start(StartAs::Primary) && ctx.holding().is_some() && !timeout.is_zero()
    {
        let at = job.since + timeout;
        if ctx.now() < at {
            return Verdict::stay("updated leader lock during StartPrimary").wake(at);
        }
        memory.give_up = Some(String::from(
            "the start took longer than primary_start_timeout",
        ));
        let stop = JobKind::Stop {
            mode: StopMode::Kill,
            checkpoint_first: false,
        };
        return Verdict::only(
            vec![Action::StartJob(stop)],
            "the primary did not start within primary_start_timeout",
        );
    }
    if ctx.holding().is_some() {
        return Verdict::stay(format!("updated leader lock during {name}"));
    }
    Verdict::stay(format!("{name} in progress"))
}
