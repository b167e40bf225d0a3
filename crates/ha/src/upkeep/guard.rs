//! The guard watches the postmaster of whoever holds the lock.

use alloc::vec;
use pgherd_model::{GuardMode, Postmaster, Span, Time};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

/// After a failure arming is tried again no sooner than this.
const AGAIN: Span = Span::from_secs(5);
/// The same after the first one, where a primary's place hangs on the second.
const ONCE_MORE: Span = Span::from_secs(1);

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let guard = &ctx.view.local.guard;
    let off = ctx.view.settings.guard == GuardMode::Off || ctx.view.settings.pause;
    match (ctx.lock, ctx.view.local.postmaster) {
        (Lock::Mine { .. }, _) if !off => (arm(ctx).into_iter().collect(), rests_until(ctx)),
        _ if guard.armed_for.is_some() && (ctx.view.settings.pause || ctx.cannot_write()) => {
            (vec![Action::DisarmGuard], None)
        }
        // Whoever cannot be guarded stays out of every race, and says so until it can be.
        (_, Postmaster::Alive { pid }) if !off && is_unusable(ctx) && ctx.cannot_write() => {
            match rests_until(ctx) {
                None => (vec![Action::TryGuard { pid }], None),
                again => (vec![], again),
            }
        }
        _ => NOTHING,
    }
}

/// The guard is required, and the last try to arm it failed.
pub(crate) fn is_unusable(ctx: &Ctx<'_>) -> bool {
    ctx.view.settings.guard == GuardMode::Required && ctx.view.local.guard.failed.is_some()
}

/// One try may fail because the machine is busy; whoever runs as primary is not stopped for that.
pub(crate) fn is_given_up(ctx: &Ctx<'_>) -> bool {
    is_unusable(ctx) && ctx.view.local.guard.failures >= 2
}

/// Arming has failed just now: until when it is not tried again.
fn rests_until(ctx: &Ctx<'_>) -> Option<Time> {
    let failed = ctx.view.local.guard.failed?;
    let urgent = ctx.view.is_primary() && is_unusable(ctx) && !is_given_up(ctx);
    let again = failed + if urgent { ONCE_MORE } else { AGAIN };
    (ctx.now() < again).then_some(again)
}

/// The lock is about to live under a shorter lease than the one that the guard was armed with: its
/// deadline has to be the shorter one before that, since others count on it from then on. Not later
/// than that of the lease before, which the lock may still live under.
pub(crate) fn shorten(ctx: &Ctx<'_>) -> Option<Action> {
    let guard = &ctx.view.local.guard;
    let shorter = guard
        .armed_by
        .zip(ctx.view.lease)
        .is_some_and(|(old, new)| new.length < old.length);
    guard.armed_for?;
    arm_until(ctx, before_lease(ctx)).filter(|_| shorter)
}

/// When it has to fire by the lease of before, or by the round of the failsafe mode that goes beyond that.
fn before_lease(ctx: &Ctx<'_>) -> Option<Time> {
    let lease = ctx.lease.map(|before| before.deadlines().guard);
    lease.max(ctx.extension.map(|it| it.deadlines().guard))
}

/// Arms the guard for the postmaster that runs, unless it is armed, unwanted or known not to work.
/// One that was armed with the deadline of another lease may keep that for long. For one that hangs
/// another one takes its place.
pub(crate) fn arm(ctx: &Ctx<'_>) -> Option<Action> {
    arm_until(ctx, None)
}

fn arm_until(ctx: &Ctx<'_>, no_later: Option<Time>) -> Option<Action> {
    let guard = &ctx.view.local.guard;
    let lease = ctx.view.lease.map(|fact| fact.lease);
    let armed_by = guard.armed_by.map(|fact| fact.lease);
    match ctx.view.local.postmaster {
        Postmaster::Alive { pid }
            if ctx.view.settings.guard != GuardMode::Off
                && (guard.armed_for != Some(pid) || armed_by != lease || guard.hangs)
                && rests_until(ctx).is_none() =>
        {
            Some(Action::ArmGuard { pid, no_later })
        }
        _ => None,
    }
}
