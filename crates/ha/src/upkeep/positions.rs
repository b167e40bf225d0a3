//! Which movements of a position are worth a write: each wakes every member, and each commit of the licence's
//! probe moves the WAL by a hundred bytes, also where nobody writes anything.

use pgherd_model::{Lsn, Settings, Span};

/// More than a page of WAL is told as soon as it may be.
const PAGE: u64 = 8192;
/// Less is told after so long.
pub(crate) const SMALL_AFTER: Span = Span::from_secs(120);

/// The way from one to the other is worth telling; less than that must not matter to a race either.
pub(crate) fn differ(settings: &Settings, one: Lsn, other: Lsn) -> bool {
    let page = PAGE.min(settings.maximum_lag_on_failover / 128);
    one.since(other).max(other.since(one)) > page
}

/// Likewise, of positions that may be unknown.
pub(crate) fn unlike(settings: &Settings, one: Option<Lsn>, other: Option<Lsn>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => differ(settings, one, other),
        (one, other) => one != other,
    }
}
