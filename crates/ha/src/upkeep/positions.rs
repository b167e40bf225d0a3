//! Which movements of a position are worth telling at once: each write wakes every member, and where nobody writes
//! anything the WAL moves all the same, by a hundred bytes for each commit of the licence's probe and by what PostgreSQL
//! adds to that.

use pgherd_model::{Lsn, Member, Settings, Span, Status};

/// More than a page of WAL is told every loop_wait.
const PAGE: u64 = 8192;
/// Less in every sixth: that is how long a standby may seem to lag by as much.
const SMALL: u32 = 6;
/// Nobody reads the position of the leader from its key: `status` has it.
const LEADERS: u32 = 12;

/// How long after the last write of the own key positions alone are a reason for the next.
pub(crate) fn pause(settings: &Settings, told: &Member, now: &Member, leads: bool) -> Span {
    let all = |member: &Member| [member.xlog_location, member.receive_lsn, member.replay_lsn];
    let mut pairs = all(told).into_iter().zip(all(now));
    let far = pairs.any(|(told, now)| differ(settings, told, now));
    settings.loop_wait
        * match (far, leads) {
            (true, _) => 1,
            (false, false) => SMALL,
            (false, true) => LEADERS,
        }
}

/// Bytes of WAL that make no difference for a while. A race tells who is too far behind by the position in `status`: it
/// is no more than a hundred and twenty-eighth of what may be lost.
pub fn small_step(settings: &Settings) -> u64 {
    PAGE.min(settings.maximum_lag_on_failover / 128)
}

/// How long small steps may wait to be told in `status`.
pub(crate) fn small_pause(settings: &Settings) -> Span {
    settings.loop_wait * SMALL
}

/// Only positions in it have moved, and none of them far.
pub(crate) fn is_small_step(settings: &Settings, told: &Status, now: &Status) -> bool {
    let same = told.retain_slots == now.retain_slots
        && told.other == now.other
        && told.slots.keys().eq(now.slots.keys());
    let mut slots = told.slots.values().zip(now.slots.values());
    let far = |told: Lsn, now: Lsn| differ(settings, Some(told), Some(now));
    same && !far(told.optime, now.optime) && !slots.any(|(told, now)| far(*told, *now))
}

/// The way from one to the other is long.
fn differ(settings: &Settings, one: Option<Lsn>, other: Option<Lsn>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.since(other).max(other.since(one)) > small_step(settings),
        (one, other) => one != other,
    }
}
