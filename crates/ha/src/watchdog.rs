//! When a watchdog device is to reset the machine: after everything that ends PostgreSQL had its time, and before
//! somebody else may hold the lock. Pure: times in, times out.
//!
//! Such a device counts whole seconds from the moment at which it was fed, which is later than the sending of the
//! renewal that it is fed for. So it is never fed where it would outlast that renewal's lease.

use pgherd_model::{Span, Time};

use crate::lease::Lease;

/// Devices count in these.
const UNIT: Span = Span::from_secs(1);

/// How many seconds the device gets where a lease lives for `life`: what `margin` leaves (`None`: half of it), but not
/// less than 0.8 L, when agent and guard have killed PostgreSQL, which is no reason to reset the machine; and a second
/// less than L, for what a renewal takes.
///
/// `None`: there is no such number, L is too short (below 5 s).
pub fn timeout(life: Span, margin: Option<Span>) -> Option<Span> {
    let least = round_up(life * 4 / 5);
    let most = whole(life.saturating_sub(UNIT));
    let wish = whole(life.saturating_sub(margin.unwrap_or(life / 2)));
    (least <= most).then(|| wish.clamp(least, most))
}

/// Whether a device that has taken another number than it was told may be used: not before the guard, which fires at
/// 0.75 L, and not after the lease.
pub fn suits(life: Span, timeout: Span) -> bool {
    timeout >= life * 3 / 4 && timeout + UNIT <= life
}

/// A device that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// The life of the leases that `usual` is meant for.
    pub life: Span,
    /// What it is to count from each feeding.
    pub usual: Span,
    /// What it counts from now on, less after a feeding that came late.
    pub timeout: Span,
    /// When it resets the machine unless it is fed before.
    pub fires: Time,
    /// The renewal that it was fed for was sent then.
    pub sent: Time,
}

/// How to feed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// As before.
    Ping,
    /// With another timeout.
    For(Span),
}

impl Running {
    /// How it is to be fed for a renewal of a lease; `usual`: what it is to count under such a lease. `None`: it is not.
    pub fn feed(&self, now: Time, lease: &Lease, usual: Span) -> Option<Feed> {
        let other = lease.life != self.life || usual != self.usual;
        if lease.sent <= self.sent && !other {
            return None;
        }
        let timeout = fitting(now, lease.deadlines().expires, usual)?;
        // A short one is no gain where the last feeding lasts longer, unless that lasts too long.
        let gain = timeout == usual || other || now + timeout > self.fires;
        gain.then_some(if timeout == self.timeout {
            Feed::Ping
        } else {
            Feed::For(timeout)
        })
    }
}

/// What it may count from now on to fire by `limit`: the usual, or the whole seconds that are left.
pub fn fitting(now: Time, limit: Time, usual: Span) -> Option<Span> {
    let timeout = usual.min(whole(limit.since(now)));
    (timeout >= UNIT).then_some(timeout)
}

fn whole(span: Span) -> Span {
    Span::from_secs(span.as_secs())
}

fn round_up(span: Span) -> Span {
    let whole = whole(span);
    if whole < span { whole + UNIT } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Span {
        Span::from_secs(secs)
    }

    #[test]
    fn it_fires_after_the_kill_and_before_the_lease_ends() {
        for (life, margin, expected) in [
            (20, Some(5), Some(16)),
            (20, Some(2), Some(18)),
            (20, Some(0), Some(19)),
            (20, Some(100), Some(16)),
            (20, None, Some(16)),
            (40, Some(5), Some(35)),
            (5, Some(5), Some(4)),
            (5, Some(0), Some(4)),
            (6, Some(1), Some(5)),
            (7, None, Some(6)),
            (4, Some(1), None),
            (2, Some(0), None),
        ] {
            let found = timeout(secs(life), margin.map(secs));
            assert_eq!(found, expected.map(secs), "{life} {margin:?}");
        }
        for life in 2..200 {
            for margin in [None, Some(secs(0)), Some(secs(5)), Some(secs(60))] {
                match timeout(secs(life), margin) {
                    Some(found) => assert!(suits(secs(life), found), "{life} {found:?}"),
                    None => assert!(life < 5, "{life}"),
                }
            }
        }
    }

    #[test]
    fn a_device_that_counts_otherwise_has_to_fit_between_guard_and_lease() {
        for (life, timeout, fits) in [
            (20, 14, false),
            (20, 15, true),
            (20, 19, true),
            (20, 20, false),
        ] {
            assert_eq!(suits(secs(life), secs(timeout)), fits, "{life} {timeout}");
        }
    }

    #[test]
    fn it_is_never_fed_beyond_the_lease() {
        let at = Time::from_millis;
        let running = Running {
            life: secs(5),
            usual: secs(4),
            timeout: secs(4),
            fires: at(104_050),
            sent: at(100_000),
        };
        let feed = |now, sent| {
            let lease = Lease {
                sent: at(sent),
                life: secs(5),
            };
            running.feed(at(now), &lease, secs(4))
        };
        assert_eq!(feed(100_600, 100_500), Some(Feed::Ping));
        assert_eq!(feed(101_500, 100_500), Some(Feed::Ping));
        // An answer that took more than a second.
        assert_eq!(feed(101_700, 100_500), Some(Feed::For(secs(3))));
        // What is left of the last feeding is more than that.
        assert_eq!(feed(102_002, 100_001), None);
        assert_eq!(feed(105_000, 100_500), None);
        // Of a renewal that it was fed for.
        assert_eq!(feed(100_600, 100_000), None);
        let late = Running {
            timeout: secs(3),
            ..running
        };
        let lease = Lease {
            sent: at(100_500),
            life: secs(5),
        };
        assert_eq!(
            late.feed(at(100_600), &lease, secs(4)),
            Some(Feed::For(secs(4)))
        );
        assert_eq!(late.feed(at(101_900), &lease, secs(4)), Some(Feed::Ping));
    }

    #[test]
    fn another_lease_has_another_timeout() {
        let at = Time::from_millis;
        let running = Running {
            life: secs(20),
            usual: secs(16),
            timeout: secs(16),
            fires: at(116_000),
            sent: at(100_000),
        };
        let lease = Lease {
            sent: at(100_000),
            life: secs(5),
        };
        // A shorter one counts at once, also where that means less than what is left.
        let found = running.feed(at(101_000), &lease, secs(4));
        assert_eq!(found, Some(Feed::For(secs(4))));
        let found = running.feed(at(103_000), &lease, secs(4));
        assert_eq!(found, Some(Feed::For(secs(2))));
    }
}
