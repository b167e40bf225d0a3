//! Points in time on the boot-time clock, and on the wall clock for what people schedule. Only
//! `agent::clock` (and `sim`) make one.

use core::fmt;
use core::ops::{Add, Sub};
use serde::{Deserialize, Serialize};

/// A length of time.
pub type Span = core::time::Duration;

/// Nanoseconds on CLOCK_BOOTTIME, which goes on counting while the machine is suspended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// The clock's zero: boot of the machine.
    pub const ZERO: Time = Time(0);

    /// From whole milliseconds since boot.
    pub const fn from_millis(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    /// Whole milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time passed since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: Time) -> Span {
        Span::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_sub(nanos))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_millis();
        write!(f, "{}.{:03}s", ms / 1000, ms % 1000)
    }
}

/// Microseconds since 1970 by the wall clock, which people set and which jumps. Nothing but a time
/// that somebody named (a scheduled switchover) may be compared with it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Time passed since `earlier`; zero if that lies ahead.
    pub fn since(self, earlier: WallTime) -> Span {
        let micros = i128::from(self.0) - i128::from(earlier.0);
        Span::from_micros(u64::try_from(micros.max(0)).unwrap_or(u64::MAX))
    }
}
