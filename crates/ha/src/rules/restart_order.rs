//! Somebody asked for a restart of PostgreSQL, now or at a time: it is stopped in order. That it starts
//! again follows from the facts (rules `restart` and `follow`), also when the agent dies in between
//! (contract: patroni-rest, section 8; patroni-ha-rules, section 14).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Postmaster, RestartOrder, Role, ScheduledRestart, StopMode, SynchronousMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::{Memory, Restarting};
use crate::race;
use crate::schedule::{self, When};
use crate::view::Outcome;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(restart) = memory.restart.clone() {
        return go_on(ctx, memory, restart);
    }
    if let Some(order) = open(ctx, memory) {
        return begin(ctx, memory, order, "restart asked for");
    }
    let orders = &ctx.view.orders;
    let scheduled = orders.scheduled_restart.as_ref();
    match scheduled.filter(|order| order.number > memory.dealt_with) {
        Some(order) => at_its_time(ctx, memory, order),
        None => Verdict::pass("no restart is asked for"),
    }
}

/// A restart that is to happen now and has not begun.
pub(crate) fn open<'a>(ctx: &Ctx<'a>, memory: &Memory) -> Option<&'a RestartOrder> {
    let order = ctx.view.orders.restart.as_ref();
    order.filter(|order| order.number > memory.dealt_with)
}

fn at_its_time(ctx: &Ctx<'_>, memory: &mut Memory, order: &RestartOrder) -> Verdict {
    let Some(ScheduledRestart {
        schedule,
        start_time,
        ..
    }) = &order.scheduled
    else {
        return Verdict::pass("no restart is asked for");
    };
    let text = &schedule.text;
    let look = ctx.view.local.look.as_ref();
    let why_not = match schedule::when(ctx, schedule) {
        _ if look.is_some_and(|look| look.start_time != *start_time) => {
            Some("PostgreSQL was started since it was asked for")
        }
        When::NotBefore(_) => return Verdict::pass(format!("awaiting the restart at {text}")),
        When::Stale => Some("Found a stale restart value, cleaning up"),
        When::Unreadable => Some("its time cannot be read"),
        When::Due => {
            let role = ctx.own_member(memory).role.unwrap_or(Role::Uninitialized);
            let version = look.map(|look| look.server_version);
            let pending = look.is_some_and(|look| !look.pending_restart.is_empty());
            let holds = order.condition.holds(role, version, pending);
            (!holds).then_some("its conditions are not satisfied")
        }
    };
    if let Some(reason) = why_not {
        memory.dealt_with = order.number;
        return Verdict::stay(format!("restart scheduled at {text}: dropped, {reason}"));
    }
    begin(ctx, memory, order, &format!("restart scheduled at {text}"))
}

fn begin(ctx: &Ctx<'_>, memory: &mut Memory, order: &RestartOrder, word: &str) -> Verdict {
    memory.dealt_with = order.number;
    let restart = Restarting {
        number: order.number,
        since: ctx.now(),
        timeout: order.timeout,
        stopping: false,
        down: false,
    };
    if !matches!(ctx.view.local.postmaster, Postmaster::Alive { .. }) {
        let restart = Restarting {
            stopping: true,
            ..restart
        };
        return go_on(ctx, memory, restart);
    }
    step_out(ctx, memory, restart, word)
}

/// A synchronous standby asks to be let go first: commits would wait for it while it is down.
fn step_out(ctx: &Ctx<'_>, memory: &mut Memory, restart: Restarting, word: &str) -> Verdict {
    let until = restart.since + ctx.view.settings.loop_wait * 2;
    if waited_for(ctx) && ctx.now() < until {
        memory.restart = Some(restart);
        let reason = format!("{word}: asking to be let out of synchronous duty first");
        return Verdict::stay(reason).wake(until);
    }
    memory.restart = Some(Restarting {
        stopping: true,
        ..restart
    });
    let stop = JobKind::Stop {
        mode: StopMode::Fast,
        checkpoint_first: true,
    };
    let reason = format!("{word}: stopping PostgreSQL");
    Verdict::only(vec![Action::StartJob(stop)], reason)
}

/// `/sync` names this standby.
fn waited_for(ctx: &Ctx<'_>) -> bool {
    ctx.view.is_standby()
        && ctx.view.settings.synchronous_mode != SynchronousMode::Off
        && race::sync_standbys(ctx).is_some_and(|names| names.contains(&ctx.me()))
}

/// This node restarts soon, or is doing it, and is not to be waited for.
pub(crate) fn leaves_sync(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    memory.restart.is_some()
        && ctx.view.settings.synchronous_mode != SynchronousMode::Off
        && ctx.other_leader().is_some()
}

/// One that has begun. It ends with PostgreSQL running, or with a stop or start that failed.
fn go_on(ctx: &Ctx<'_>, memory: &mut Memory, mut restart: Restarting) -> Verdict {
    if !restart.stopping {
        return step_out(ctx, memory, restart, "restart");
    }
    let failed = ctx.view.local.job.as_ref().is_some_and(|job| {
        let of_it = job.since >= restart.since
            && matches!(job.kind, JobKind::Stop { .. } | JobKind::Start(_));
        of_it && matches!(job.outcome, Some(Outcome::Failed(_)))
    });
    let runs = ctx.view.local.look.is_some();
    restart.down |= ctx.view.is_down();
    if failed || runs {
        memory.restart = None;
        memory.restarted = Some((restart.number, runs && !failed));
        let how = if failed { "failed" } else { "is done" };
        // In a pause the rules behind this one are for a restart under way only.
        return Verdict::stay(format!("the restart {how}")).wake(ctx.now());
    }
    memory.restart = Some(restart);
    Verdict::pass(String::from("a restart is under way"))
}
