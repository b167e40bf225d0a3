//! The one place that reads the boot-time clock and waits for its moments, and the wall clock for the brain.

use std::io;
use std::os::fd::OwnedFd;

use pgherd_model::{Time, WallTime};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
/// suspended, so long sleeps are cut into short ones. Whoever waits again and again takes an [`Alarm`].
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

/// Waits for moments on the boot-time clock, one after the other, by a timer of the kernel. It counts while the
/// machine is suspended, and wakes the program once, where tokio's wheel of timers looks after each of its
/// sleeps two or three times before it is over: half of what an idle agent did.
pub(crate) struct Alarm {
    /// `None`: the system gave none, or it failed.
    timer: Option<AsyncFd<OwnedFd>>,
    /// What the timer waits for; `None`: nothing, or its end was taken.
    set: Option<Time>,
}

impl Alarm {
    /// Belongs to the runtime on which this is called.
    pub(crate) fn new() -> Alarm {
        let timer = match timer() {
            Ok(timer) => Some(timer),
            Err(error) => {
                tracing::warn!("no timer of the kernel, the agent wakes more often: {error}");
                None
            }
        };
        Alarm { timer, set: None }
    }

    /// Waits until `at`. May be dropped at any time and asked again, for the same moment or another.
    pub(crate) async fn at(&mut self, at: Time) {
        while now() < at {
            let rang = match &self.timer {
                Some(timer) => ring(timer, at, &mut self.set).await,
                None => return sleep_until(at).await,
            };
            if let Err(error) = rang {
                tracing::warn!("the kernel's timer fails, so the agent wakes more often: {error}");
                self.timer = None;
            }
        }
    }
}

#[allow(unsafe_code)]
fn timer() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
    // SAFETY: an OwnedFd always answers the same open descriptor until it is dropped, and AsyncFd
    // drops it only after deregistering it.
    unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }.map_err(Into::into)
}

/// Sets the timer, unless it is, and waits for it.
async fn ring(timer: &AsyncFd<OwnedFd>, at: Time, set: &mut Option<Time>) -> io::Result<()> {
    if *set != Some(at) {
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let spec = Itimerspec {
            it_interval: none,
            it_value: timespec(at),
        };
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        *set = Some(at);
    }
    loop {
        let mut ready = timer.readable().await?;
        // Not ready: that was the end of a moment that nobody waited for any more.
        if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0_u8; 8])?)) {
            ready.clear_ready();
            *set = None;
            return read.map(drop);
        }
    }
}

fn timespec(at: Time) -> Timespec {
    const SECOND: u64 = 1_000_000_000;
    Timespec {
        tv_sec: i64::try_from(at.0 / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(at.0 % SECOND).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_model::Span;

    /// Each wait ends when it is due and not before, whatever was waited for until then.
    #[tokio::test]
    async fn an_alarm_rings_when_it_is_due() {
        let mut alarm = Alarm::new();
        assert!(alarm.timer.is_some());
        let ms = |ms| now() + Span::from_millis(ms);
        for past in [Time::ZERO, now()] {
            alarm.at(past).await;
        }
        for given_up in [3_600_000, 2, 2, 2] {
            // All but the first ring while nobody waits for them, and do not count for the next.
            tokio::time::timeout(Span::ZERO, alarm.at(ms(given_up)))
                .await
                .ok();
            sleep_until(ms(5)).await;
            let next = ms(20);
            alarm.at(next).await;
            assert!(now() >= next, "rang {:?} early", next.since(now()));
        }
    }

    #[tokio::test]
    async fn without_a_timer_an_alarm_sleeps() {
        let mut alarm = Alarm {
            timer: None,
            set: None,
        };
        let at = now() + Span::from_millis(5);
        alarm.at(at).await;
        assert!(now() >= at);
    }
}
