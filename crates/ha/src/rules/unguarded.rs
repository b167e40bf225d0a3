//! A primary whose guard (or watchdog) is required and cannot be armed any more gives up its place (architecture,
//! Safety 3), in order: the lock is renewed by an agent that lives, so there is time for a switchover.

use alloc::format;

use crate::ctx::{Ctx, Lock, Verdict};
use crate::memory::{Demotion, Memory};
use crate::rules::switchover;
use crate::upkeep::guard;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !guard::is_unusable(ctx) {
        return Verdict::pass(
            "neither guard nor watchdog is required, or nothing is wrong with them",
        );
    }
    if !guard::is_given_up(ctx) {
        return Verdict::pass("arming failed once, the next try is due soon");
    }
    if ctx.view.settings.pause {
        return Verdict::pass("the cluster is paused");
    }
    if memory.demotion.is_some() {
        return Verdict::pass("a demotion is under way");
    }
    if !matches!(ctx.lock, Lock::Mine { .. }) || !ctx.view.is_primary() {
        return Verdict::pass("PostgreSQL is not primary");
    }
    let demotion = Demotion {
        since: ctx.now(),
        request: None,
        candidate: None,
        manual: false,
        word: format!("no {}", guard::culprit(ctx)),
        down_since: None,
        taking_back: None,
    };
    let culprit = guard::culprit(ctx);
    let reason = format!("the {culprit} is required and cannot be armed any more: demoting myself");
    switchover::demote(memory, demotion, reason).error()
}
