//! Somebody asked for a restart of PostgreSQL, now or at a time: it is stopped in order. That it starts
//! again follows from the facts (rules `restart` and `follow`), also when the agent dies in between
//! (contract: patroni-rest, section 8; patroni-ha-rules, section 14).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{
    Postmaster, RestartOrder, Role, ScheduledRestart, Span, StopMode, SynchronousMode,
};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::{Memory, Restarting};
use crate::race;
use crate::schedule::{self, When};
use crate::view::Outcome;

/// How long PostgreSQL may be down, at least, before a restart counts as failed.
const PATIENCE: Span = Span::from_secs(60);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(restart) = memory.restart.clone() {
        return go_on(ctx, memory, restart);
    }
    if let Some(order) = open(ctx, memory) {
        if ctx.lock == Lock::Free && !ctx.view.settings.pause {
            return Verdict::pass("a restart waits for the end of the race for the lock");
        }
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
        // Whoever could not be asked when it was scheduled has no start to compare.
        _ if !start_time.is_empty() && look.is_some_and(|look| look.start_time != *start_time) => {
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
    if ctx.view.settings.pause && ctx.view.fresh().is_none() {
        // As what it would have to be started again only the lock service can tell.
        let reason = format!("{word}: dropped, the lock service cannot be read");
        return Verdict::stay(reason).warning();
    }
    let restart = Restarting {
        number: order.number,
        since: ctx.now(),
        timeout: order.timeout,
        stopping: false,
        down_since: None,
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
    if ctx.lock == Lock::Free && !ctx.view.settings.pause {
        memory.restart = Some(restart);
        return Verdict::pass("a restart waits for the end of the race for the lock");
    }
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

/// One that has begun. It ends with PostgreSQL running, with a start that failed, or with nobody starting
/// it in time. A stop that takes long goes on by itself.
fn go_on(ctx: &Ctx<'_>, memory: &mut Memory, mut restart: Restarting) -> Verdict {
    if !restart.stopping {
        return step_out(ctx, memory, restart, "restart");
    }
    let now = ctx.now();
    let runs = ctx.view.local.look.is_some();
    let failed = ctx.view.local.job.as_ref().is_some_and(|job| {
        let counts = match job.kind {
            JobKind::Start(_) => true,
            JobKind::Stop { .. } => runs,
            _ => false,
        };
        let of_it = counts && job.since >= restart.since;
        of_it && matches!(job.outcome, Some(Outcome::Failed(_)))
    });
    if ctx.view.is_down() {
        restart.down_since.get_or_insert(now);
    }
    let patience = restart
        .timeout
        .unwrap_or(ctx.view.settings.primary_start_timeout);
    let over = restart
        .down_since
        .is_some_and(|since| now.since(since) >= patience.max(PATIENCE));
    if failed || runs || over {
        memory.restart = None;
        memory.restarted = Some((restart.number, runs && !failed));
        let how = if runs && !failed { "is done" } else { "failed" };
        // In a pause the rules behind this one are for a restart under way only.
        return Verdict::stay(format!("the restart {how}")).wake(now);
    }
    memory.restart = Some(restart);
    Verdict::pass(String::from("a restart is under way"))
}
