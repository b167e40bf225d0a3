//! The clock of every measurement: boot time, which no time service steps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(pub(crate) u64);

impl Instant {
    /// Now.
    pub(crate) fn now() -> Instant {
        Instant(nanos(pgherd_tests::clock::now()))
    }

    /// Milliseconds from `earlier` to this; negative if it lies before.
    pub(crate) fn ms_since(self, earlier: Instant) -> f64 {
        (self.0 as f64 - earlier.0 as f64) / 1e6
    }

    /// The time of day (UTC) at this point, as the clock of the machine has it now.
    pub(crate) fn time_of_day(self) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let ago = Duration::from_nanos(Instant::now().0.saturating_sub(self.0));
        let then = now.saturating_sub(ago);
        let (seconds, ms) = (then.as_secs() % 86_400, then.subsec_millis());
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}.{ms:03}", seconds % 60)
    }

    /// Milliseconds that have passed since this.
    pub(crate) fn elapsed_ms(self) -> f64 {
        Instant::now().ms_since(self)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
