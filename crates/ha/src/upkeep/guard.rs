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

/// Arms the guard for the postmaster that runs, unless it is armed, unwanted or known not to work.
pub(crate) fn arm(ctx: &Ctx<'_>) -> Option<Action> {
    let guard = &ctx.view.local.guard;
    match ctx.view.local.postmaster {
        Postmaster::Alive { pid }
            if ctx.view.settings.guard != GuardMode::Off
                && guard.armed_for != Some(pid)
                && !guard.failed =>
        {
            Some(Action::ArmGuard { pid })
        }
        _ => None,
    }
}
