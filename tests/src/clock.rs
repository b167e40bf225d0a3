//! Boot time: the clock by which acknowledgements of different clients are compared.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Time since boot, suspended time included (`CLOCK_BOOTTIME`).
pub fn now() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(
        t.tv_sec.unsigned_abs(),
        u32::try_from(t.tv_nsec).unwrap_or(0),
    )
}
