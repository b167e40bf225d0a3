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
use crate::memory::{Memory, Restarted, Restarting};
use crate::race;
use crate::schedule::{self, When};
use crate::view::Outcome;

/// How long a start may take where neither the order nor the settings give it any time.
const PATIENCE: Span = Span::from_secs(60);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(restart) = memory.restart.clone() {
        return go_on(ctx, memory, restart);
    }
    if let Some(order) = open(ctx, memory) {
        if in_race(ctx, memory) {
            return Verdict::pass(WAITS);
        }
        return begin(ctx, memory, order, "restart asked for");
    }
    let orders = &ctx.view.orders;
    let scheduled = orders.scheduled_restart.as_ref();
    match scheduled.filter(|order| order.number > memory.scheduled_dealt) {
        Some(order) => at_its_time(ctx, memory, order),
        None => Verdict::pass("no restart is asked for"),
    }
}

/// A restart that is to happen now and has not begun.
pub(crate) fn open<'a>(ctx: &Ctx<'a>, memory: &Memory) -> Option<&'a RestartOrder> {
    let order = ctx.view.orders.restart.as_ref();
    order.filter(|order| order.number > memory.dealt_with)
}

const WAITS: &str = "a restart waits for the end of the race for the lock";

/// Somebody is about to take the lock, perhaps this node: the best candidate does not go away meanwhile.
/// Where nobody takes it for so long there is no race to be lost, and a restart may be what helps.
fn in_race(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let settings = &ctx.view.settings;
    let since = memory.free_since.unwrap_or(ctx.now());
    ctx.lock == Lock::Free && !settings.pause && ctx.now().since(since) <= settings.loop_wait
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
            let pending = !memory.pending_restart().is_empty();
            let holds = order.condition.holds(role, version, pending);
            (!holds).then_some("its conditions are not satisfied")
        }
    };
    if let Some(reason) = why_not {
        memory.scheduled_dealt = order.number;
        return Verdict::stay(format!("restart scheduled at {text}: dropped, {reason}"));
    }
    begin(ctx, memory, order, &format!("restart scheduled at {text}"))
}

fn begin(ctx: &Ctx<'_>, memory: &mut Memory, order: &RestartOrder, word: &str) -> Verdict {
    match order.scheduled {
        Some(_) => memory.scheduled_dealt = order.number,
        None => memory.dealt_with = order.number,
    }
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
    if in_race(ctx, memory) {
        memory.restart = Some(restart);
        return Verdict::pass(WAITS);
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
        // Of one that does not answer it would be waited for in vain.
        checkpoint_first: ctx.view.local.look.is_some(),
    };
    let reason = format!("{word}: stopping PostgreSQL");
    Verdict::only(vec![Action::StartJob(stop)], reason)
}

/// `/sync` names this standby.
pub(crate) fn waited_for(ctx: &Ctx<'_>) -> bool {
    ctx.view.is_standby()
        && ctx.view.settings.synchronous_mode != SynchronousMode::Off
        && race::sync_standbys(ctx).is_some_and(|names| names.contains(&ctx.me()))
}

/// This node restarts or ends soon, or is doing it, and is not to be waited for.
pub(crate) fn leaves_sync(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let restarts = memory.restart.is_some() || memory.slot_copy.leaving.is_some();
    (restarts || memory.stepping_out.is_some())
        && ctx.view.settings.synchronous_mode != SynchronousMode::Off
        && ctx.other_leader().is_some()
}

/// How long PostgreSQL may take to come up again.
fn patience(ctx: &Ctx<'_>, restart: &Restarting) -> Span {
    let settings = ctx.view.settings.primary_start_timeout;
    let asked = restart.timeout.unwrap_or(settings);
    if asked.is_zero() { PATIENCE } else { asked }
}

/// Whoever asked is told when a start has taken all of its time; the restart itself goes on until it is
/// known how it ends. Whatever rule decides meanwhile: that one leads to another end or to none.
pub(crate) fn note_overlong_start(ctx: &Ctx<'_>, memory: &mut Memory) {
    let Some(restart) = memory.restart.as_ref().filter(|it| it.stopping) else {
        return;
    };
    let job = ctx.view.local.job.as_ref();
    let start = job.filter(|job| matches!(job.kind, JobKind::Start(_)));
    let Some(start) = start.filter(|job| job.since >= restart.since) else {
        return;
    };
    let over = ctx.now().since(start.since) >= patience(ctx, restart);
    let alive = matches!(ctx.view.local.postmaster, Postmaster::Alive { .. });
    let goes_on = alive || start.outcome.is_none();
    if over && goes_on && ctx.view.local.look.is_none() {
        memory.restarted = Some((restart.number, Restarted::Starting));
    }
}

/// One that has begun. It ends with PostgreSQL running, with a start that failed, or with nobody starting
/// it in time. A stop that takes long goes on by itself, and so does a start.
fn go_on(ctx: &Ctx<'_>, memory: &mut Memory, mut restart: Restarting) -> Verdict {
    if !restart.stopping {
        return step_out(ctx, memory, restart, "restart");
    }
    let now = ctx.now();
    let (runs, down) = (ctx.view.local.look.is_some(), ctx.view.is_down());
    let failed = ctx.view.local.job.as_ref().is_some_and(|job| {
        let counts = match job.kind {
            JobKind::Start(_) => down,
            JobKind::Stop { .. } => runs,
            _ => false,
        };
        let of_it = counts && job.since >= restart.since;
        of_it && matches!(job.outcome, Some(Outcome::Failed(_)))
    });
    if down {
        restart.down_since.get_or_insert(now);
    }
    let over = down
        && restart
            .down_since
            .is_some_and(|since| now.since(since) >= patience(ctx, &restart));
    if failed || runs || over {
        let (end, words) = match runs && !failed {
            true => (Restarted::Runs, "is done"),
            false => (Restarted::Failed, "failed"),
        };
        memory.restart = None;
        memory.restarted = Some((restart.number, end));
        // In a pause the rules behind this one are for a restart under way only.
        return Verdict::stay(format!("the restart {words}")).wake(now);
    }
    memory.restart = Some(restart);
    Verdict::pass(String::from("a restart is under way"))
}
