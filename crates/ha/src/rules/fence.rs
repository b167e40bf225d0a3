//! A primary without a right to be one is stopped (architecture, Safety 1 and 2).

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Postmaster, StopMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::rules::identity;
use crate::view::Dcs;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !may_write(ctx, memory) {
        return Verdict::pass("PostgreSQL cannot acknowledge a write");
    }
    if identity::is_foreign(ctx, memory) {
        return Verdict::pass(
            "the data are another cluster's: what is written there is none of this one's business",
        );
    }
    match ctx.lock {
        Lock::Mine { .. } => Verdict::pass("the lock is held and renewed in time"),
        Lock::GivenUp { .. } => Verdict::pass("the lock was given up: another rule sees to it"),
        // The lease before is not renewed any more; what it was last good for counts.
        Lock::Detached { .. } if ctx.deadlines.is_some() => overdue(ctx),
        Lock::Detached { .. } => match memory.detached_since {
            Some(since) if ctx.now().since(since) >= ctx.view.settings.lease_ttl * 6 / 10 => {
                let reason =
                    "the lock could not be put under the present lease: PostgreSQL is killed";
                stop(ctx, StopMode::Kill, reason.into())
            }
            _ => Verdict::pass("the lock carries this node's name"),
        },
        Lock::Free if ctx.is_becoming_primary() => stop(
            ctx,
            StopMode::Kill,
            "the lock went before PostgreSQL was primary: PostgreSQL is killed".into(),
        ),
        Lock::Free
            if ctx
                .deadlines
                .is_none_or(|lease| ctx.now() < lease.demote_fast) =>
        {
            Verdict::pass("nobody else holds the lock")
        }
        Lock::Free | Lock::Unknown => overdue(ctx),
        Lock::Other(leader) => stop(
            ctx,
            StopMode::Kill,
            format!("{} holds the lock: PostgreSQL is killed", leader.name),
        ),
    }
}

/// It says that it is primary, or it was one and still lives, or it is becoming one.
fn may_write(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let view = ctx.view;
    let alive = view.local.postmaster != Postmaster::Down;
    view.is_primary() || ctx.is_becoming_primary() || (alive && ctx.may_be_primary(memory))
}

/// The own lease was not confirmed in time.
fn overdue(ctx: &Ctx<'_>) -> Verdict {
    let now = ctx.now();
    let Some(lease) = ctx.deadlines else {
        return never_confirmed(ctx);
    };
    if now < lease.demote_fast {
        return Verdict::pass("the lease was confirmed in time");
    }
    if now < lease.demote_immediate {
        let reason = "no renewal of the lock was confirmed for 0.6 of its life: demoting";
        return stop(ctx, StopMode::Fast, reason.into()).wake(lease.demote_immediate);
    }
    let reason = "no renewal of the lock was confirmed for 0.7 of its life: PostgreSQL is killed";
    stop(ctx, StopMode::Kill, reason.into())
}

/// A primary that this agent found running and for which it never had a lease.
fn never_confirmed(ctx: &Ctx<'_>) -> Verdict {
    let Dcs::Unreachable { since, .. } = ctx.view.dcs else {
        return Verdict::pass("the lock service can be read");
    };
    let at = since + ctx.view.settings.lease_ttl * 6 / 10;
    if ctx.now() < at {
        return Verdict::stay("a primary without lock; the lock service is not reachable yet")
            .warning()
            .wake(at);
    }
    let reason = "demoted self because DCS is not accessible and I was a leader";
    stop(ctx, StopMode::Kill, reason.into())
}

/// Begins a stop unless one of at least that force runs already.
fn stop(ctx: &Ctx<'_>, mode: StopMode, reason: alloc::string::String) -> Verdict {
    let running = ctx.view.running_job().map(|job| &job.kind);
    let enough = match running {
        Some(JobKind::Stop {
            mode: StopMode::Kill,
            ..
        }) => true,
        Some(JobKind::Stop { .. }) => mode != StopMode::Kill,
        _ => false,
    };
    let actions = if enough {
        Vec::new()
    } else {
        vec![Action::StartJob(JobKind::Stop {
            mode,
            checkpoint_first: false,
        })]
    };
    Verdict::only(actions, reason).warning()
}
