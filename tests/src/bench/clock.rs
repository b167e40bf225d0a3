//! The clock of every measurement: boot time, which no time service steps.

use std::time::Duration;

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

    /// Milliseconds that have passed since this.
    pub(crate) fn elapsed_ms(self) -> f64 {
        Instant::now().ms_since(self)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
