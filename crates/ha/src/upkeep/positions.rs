//! Which movements of a position are worth a write of the own key at once: each wakes every member, and each commit of
//! the licence's probe moves the WAL by a hundred bytes, also where nobody writes anything.

use pgherd_model::{Lsn, Member, Settings, Span};

/// More than a page of WAL is told every loop_wait.
const PAGE: u64 = 8192;
/// Less in every third: that is how long a standby may seem to lag by as much.
const SMALL: u32 = 3;
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

/// The way from one to the other is long; less than that must not matter to a race.
fn differ(settings: &Settings, one: Option<Lsn>, other: Option<Lsn>) -> bool {
    let page = PAGE.min(settings.maximum_lag_on_failover / 128);
    match (one, other) {
        (Some(one), Some(other)) => one.since(other).max(other.since(one)) > page,
        (one, other) => one != other,
    }
}
