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
        (Lock::Mine { .. }, Postmaster::Alive { pid }) if !off => {
            if guard.armed_for == Some(pid) || guard.failed {
                return NOTHING;
            }
            (vec![Action::ArmGuard { pid }], None)
        }
        (Lock::Mine { .. }, _) if !off => NOTHING,
        _ if guard.armed_for.is_some() && (ctx.view.settings.pause || ctx.cannot_write()) => {
            (vec![Action::DisarmGuard], None)
        }
        _ => NOTHING,
    }
}
