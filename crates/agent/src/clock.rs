//! The one place that reads the boot-time clock, and the wall clock for the brain.

use pgherd_model::{Time, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// Now: CLOCK_BOOTTIME, which goes on while the machine is suspended, so that a primary that was
/// paused knows that its lock is gone.
pub fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Time(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Now by the wall clock: for what people have scheduled, and nothing else.
pub(crate) fn wall() -> WallTime {
    WallTime(jiff::Timestamp::now().as_microsecond())
}

/// Sleeps until a moment on the boot-time clock. tokio's clock stands still while the machine is
/// suspended, so long sleeps are cut into short ones.
pub(crate) async fn sleep_until(at: Time) {
    const SLICE: std::time::Duration = std::time::Duration::from_secs(1);
    loop {
        let left = at.since(now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}
