//! Time for a program that lives for one command: only differences count, so its start is zero
//! enough.

use pgherd_model::Time;
use std::sync::OnceLock;
use std::time::Instant;

/// Time since the first call, plus one hour so that nothing lies before zero.
pub(crate) fn now() -> Time {
    static START: OnceLock<Instant> = OnceLock::new();
    Time::from_millis(3_600_000) + START.get_or_init(Instant::now).elapsed()
}
