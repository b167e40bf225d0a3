//! The guard watches the postmaster of whoever holds the lock, and the watchdog device the machine: both are armed
//! and disarmed together.

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
    let local = &ctx.view.local;
    let used = ctx.view.settings.guard != GuardMode::Off || local.watchdog.mode != GuardMode::Off;
    let off = !used || ctx.view.settings.pause;
    let armed = local.guard.armed_for.is_some() || local.watchdog.running;
    match (ctx.lock, local.postmaster) {
        (Lock::Mine { .. }, _) if !off && !ctx.leads_in_recovery() => {
            (arm(ctx).into_iter().collect(), rests_until(ctx))
        }
        _ if armed && (ctx.view.settings.pause || ctx.cannot_write()) => {
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

/// The guard or the watchdog is required, and the last try to arm it failed.
pub(crate) fn is_unusable(ctx: &Ctx<'_>) -> bool {
    unusable(ctx).is_some()
}

/// Which of the two that is, as it is called.
pub(crate) fn culprit(ctx: &Ctx<'_>) -> &'static str {
    unusable(ctx).map_or("guard", |(name, _)| name)
}

/// With the number of tries that failed.
fn unusable(ctx: &Ctx<'_>) -> Option<(&'static str, u32)> {
    let (guard, watchdog) = (&ctx.view.local.guard, &ctx.view.local.watchdog);
    let both = [
        (
            "guard",
            ctx.view.settings.guard,
            guard.failed,
            guard.failures,
        ),
        (
            "watchdog",
            watchdog.mode,
            watchdog.failed,
            watchdog.failures,
        ),
    ];
    let unusable = both
        .into_iter()
        .filter(|(_, mode, failed, _)| *mode == GuardMode::Required && failed.is_some());
    unusable
        .map(|(name, _, _, failures)| (name, failures))
        .max_by_key(|(_, failures)| *failures)
}

/// One try may fail because the machine is busy; whoever runs as primary is not stopped for that.
pub(crate) fn is_given_up(ctx: &Ctx<'_>) -> bool {
    unusable(ctx).is_some_and(|(_, failures)| failures >= 2)
}

/// What is required and not armed for the postmaster that runs, as it is called.
pub(crate) fn missing(ctx: &Ctx<'_>) -> Option<&'static str> {
    let (guard, watchdog) = (&ctx.view.local.guard, &ctx.view.local.watchdog);
    let guarded = matches!(ctx.view.local.postmaster, Postmaster::Alive { pid }
        if guard.armed_for == Some(pid) && guard.protects());
    if ctx.view.settings.guard == GuardMode::Required && !guarded {
        return Some("guard");
    }
    let unwatched = watchdog.mode == GuardMode::Required && watchdog.armed.is_none();
    unwatched.then_some("watchdog")
}

/// Arming has failed just now: until when it is not tried again.
fn rests_until(ctx: &Ctx<'_>) -> Option<Time> {
    let watchdog = &ctx.view.local.watchdog;
    // Where it is not required it is not tried again under this lock.
    let failed = watchdog
        .failed
        .filter(|_| watchdog.mode == GuardMode::Required);
    let rests = [ctx.view.local.guard.failed, failed].map(|failed| rests(ctx, failed?));
    rests.into_iter().flatten().min()
}

/// Likewise for what failed then.
fn rests(ctx: &Ctx<'_>, failed: Time) -> Option<Time> {
    let urgent = ctx.view.is_primary() && is_unusable(ctx) && !is_given_up(ctx);
    let again = failed + if urgent { ONCE_MORE } else { AGAIN };
    (ctx.now() < again).then_some(again)
}

/// The lock is about to live under a shorter lease than the one that the guard was armed with: its
/// deadline has to be the shorter one before that, since others count on it from then on. Not later
/// than that of the lease before, which the lock may still live under.
pub(crate) fn shorten(ctx: &Ctx<'_>) -> Option<Action> {
    let (guard, watchdog) = (&ctx.view.local.guard, &ctx.view.local.watchdog);
    let guarded = guard.armed_by.filter(|_| guard.armed_for.is_some());
    let lives = [guarded.map(|lease| lease.length), watchdog.armed];
    let longest = lives.into_iter().flatten().max();
    let shorter = longest
        .zip(ctx.view.lease)
        .is_some_and(|(old, new)| new.length < old);
    arm_until(ctx, before_lease(ctx)).filter(|_| shorter)
}

/// When it has to fire by the lease of before, or by the round of the failsafe mode that goes beyond that.
fn before_lease(ctx: &Ctx<'_>) -> Option<Time> {
    let lease = ctx.lease.map(|before| before.deadlines().guard);
    lease.max(ctx.extension.map(|it| it.deadlines().guard))
}

/// Arms guard and watchdog for the postmaster that runs, unless they are armed, unwanted or known not to work.
/// A guard that was armed with the deadline of another lease may keep that for long. For one that hangs
/// another one takes its place.
pub(crate) fn arm(ctx: &Ctx<'_>) -> Option<Action> {
    arm_until(ctx, None)
}

fn arm_until(ctx: &Ctx<'_>, no_later: Option<Time>) -> Option<Action> {
    match ctx.view.local.postmaster {
        Postmaster::Alive { pid } if guard_is_due(ctx, pid) || watchdog_is_due(ctx) => {
            Some(Action::ArmGuard { pid, no_later })
        }
        _ => None,
    }
}

fn guard_is_due(ctx: &Ctx<'_>, pid: u32) -> bool {
    let guard = &ctx.view.local.guard;
    let lease = ctx.view.lease.map(|fact| fact.lease);
    let armed_by = guard.armed_by.map(|fact| fact.lease);
    ctx.view.settings.guard != GuardMode::Off
        && (guard.armed_for != Some(pid) || armed_by != lease || guard.hangs)
        && guard.failed.and_then(|failed| rests(ctx, failed)).is_none()
}

fn watchdog_is_due(ctx: &Ctx<'_>) -> bool {
    let watchdog = &ctx.view.local.watchdog;
    let life = ctx.view.lease.map(|fact| fact.length);
    let may = match (watchdog.mode, watchdog.failed) {
        (GuardMode::Off, _) | (GuardMode::Automatic, Some(_)) => false,
        (GuardMode::Required, Some(failed)) => rests(ctx, failed).is_none(),
        (GuardMode::Automatic | GuardMode::Required, None) => true,
    };
    may && (watchdog.armed.is_none() || watchdog.armed != life)
}
