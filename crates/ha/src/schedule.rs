//! When a scheduled request is due. Here, and nowhere else, the wall clock counts: it is the clock
//! by which somebody named a time (contract: patroni-ha-rules, section 14).

use pgherd_model::{Failover, Schedule, Span, Time};

use crate::ctx::Ctx;
use crate::memory::Memory;
use crate::race;

/// How a time lies to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// It lies ahead; look again then.
    NotBefore(Time),
    /// It has come.
    Due,
    /// It passed so long ago that nobody counts on it any more.
    Stale,
    /// What is written there is no time.
    Unreadable,
}

pub(crate) fn when(ctx: &Ctx<'_>, schedule: &Schedule) -> When {
    let Some(at) = schedule.at else {
        return When::Unreadable;
    };
    let wall = ctx.view.wall;
    if wall < at {
        return When::NotBefore(ctx.now() + at.since(wall));
    }
    // In whole seconds, as Patroni: in a mixed cluster either may be the leader.
    let late = Span::from_secs((ctx.view.settings.loop_wait * 3 / 2).as_secs());
    match wall.since(at) > late {
        true => When::Stale,
        false => When::Due,
    }
}

/// When a scheduled restart that has not begun is due.
pub(crate) fn restart_due(ctx: &Ctx<'_>, memory: &Memory) -> Option<Time> {
    let order = ctx.view.orders.scheduled_restart.as_ref()?;
    let scheduled = order.scheduled.as_ref()?;
    match when(ctx, &scheduled.schedule) {
        When::NotBefore(at) if order.number > memory.scheduled_dealt => Some(at),
        _ => None,
    }
}

/// The request that counts while nobody holds the lock. A leader of ours strikes the time out
/// before it stops. A genuine Patroni leaves it there: then it counts if the leader released the
/// lock by itself at about that time.
pub(crate) fn in_force<'a>(ctx: &Ctx<'a>, memory: &Memory) -> Option<&'a Failover> {
    let request = ctx.cluster()?.failover_request()?;
    let Some(schedule) = &request.scheduled_at else {
        return Some(request);
    };
    (has_begun(ctx, schedule) && race::was_released(ctx, memory)).then_some(request)
}

/// It is about that time.
pub(crate) fn has_begun(ctx: &Ctx<'_>, schedule: &Schedule) -> bool {
    match when(ctx, schedule) {
        When::NotBefore(at) => at.since(ctx.now()) <= ctx.view.settings.loop_wait,
        When::Due => true,
        When::Stale | When::Unreadable => false,
    }
}
