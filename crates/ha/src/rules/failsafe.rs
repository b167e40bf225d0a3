//! The lock service cannot be reached, and everybody lets this node stay in office: go on, and begin nothing (contract:
//! patroni-ha-rules, section 8).

use pgherd_model::Postmaster;

use crate::ctx::{Ctx, Lock, Verdict};
use crate::memory::Memory;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.is_in_failsafe() {
        return Verdict::pass("the failsafe mode keeps nobody in office here");
    }
    let held = matches!(ctx.lock, Lock::Mine { .. }) || memory.term.is_some();
    if !held || !matches!(ctx.lock, Lock::Mine { .. } | Lock::Unknown) {
        return Verdict::pass("the lock service tells what has become of the lock");
    }
    let alive = matches!(ctx.view.local.postmaster, Postmaster::Alive { .. });
    if ctx.view.is_primary() || (memory.was_primary && alive) {
        // As Patroni.
        let reason = "continue to run as a leader because failsafe mode is enabled and all members are accessible";
        return Verdict::stay(reason).warning();
    }
    // Whoever was told that PostgreSQL is stopped may take over by that.
    Verdict::stay("PostgreSQL is not started in failsafe mode: waiting for the lock service")
        .warning()
}
