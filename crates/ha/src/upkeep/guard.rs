//! The guard watches the postmaster of whoever holds the lock.

use alloc::vec;
use pgherd_model::{GuardMode, Postmaster};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let guard = &ctx.view.local.guard;
    let off = ctx.view.settings.guard == GuardMode::Off || ctx.view.settings.pause;
    match (ctx.lock, ctx.view.local.postmaster) {
        (Lock::Mine { .. }, _) if !off => (arm(ctx).into_iter().collect(), None),
        _ if guard.armed_for.is_some() && (ctx.view.settings.pause || ctx.cannot_write()) => {
            (vec![Action::DisarmGuard], None)
        }
        _ => NOTHING,
    }
}

/// The lock is about to live under a shorter lease than the one that the guard was armed with: its
/// deadline has to be the shorter one before that, since others count on it from then on.
pub(crate) fn shorten(ctx: &Ctx<'_>) -> Option<Action> {
    let guard = &ctx.view.local.guard;
    let shorter = guard
        .armed_by
        .zip(ctx.view.lease)
        .is_some_and(|(old, new)| new.length < old.length);
    guard.armed_for?;
    arm(ctx).filter(|_| shorter)
}

/// Arms the guard for the postmaster that runs, unless it is armed, unwanted or known not to work.
/// One that was armed with the deadline of another lease may keep that for long.
pub(crate) fn arm(ctx: &Ctx<'_>) -> Option<Action> {
    let guard = &ctx.view.local.guard;
    let lease = ctx.view.lease.map(|fact| fact.lease);
    let armed_by = guard.armed_by.map(|fact| fact.lease);
    match ctx.view.local.postmaster {
        Postmaster::Alive { pid }
            if ctx.view.settings.guard != GuardMode::Off
                && (guard.armed_for != Some(pid) || armed_by != lease)
                && !guard.failed =>
        {
            Some(Action::ArmGuard { pid })
        }
        _ => None,
    }
}
