//! When the leader's lock must be renewed, and what happens at which moment when it is not
//! (architecture, "Leases" and "Safety" 1). Pure: times in, times and answers out.
//!
//! Everything counts from the moment at which the last *confirmed* renewal was SENT, never from
//! its answer: the store may have started the lease's life at any moment in between.

use pgherd_model::{Settings, Span, StopMode, Time};

use crate::decision::{JobKind, StartAs};
use crate::memory::Memory;
use crate::view::View;

/// How long etcd may be without a leader: its followers wait 1 to 2 s (its default) before they vote,
/// and the next try has to reach the winner.
const ELECTION: Span = Span::from_millis(2500);

/// A lease that lives so long is renewed every three eighths of its life, a shorter one every fifth: the shorter it
/// is, the less does a lost renewal leave.
const LONG: Span = Span::from_secs(10);

/// How long a guard may leave an order unanswered, where a lease lives for `life`, before it counts as
/// hanging: L/5, but never so short that one that is only slow on a busy machine is replaced all the
/// time, nor longer than whoever arms it waits for its answer.
pub fn guard_patience(life: Span) -> Span {
    (life / 5).clamp(Span::from_secs(1), Span::from_secs(2))
}

/// How long after a probe of PostgreSQL the next one follows. The licence counts from the last that was answered, so
/// what is left of `hang_timeout`, two thirds, is what a commit may take; each moves the WAL.
pub fn probe_pause(hang_timeout: Span) -> Span {
    hang_timeout / 3
}

/// A lease on the lock, as of its last confirmed renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When that renewal (or the taking of the lock) was sent.
    pub sent: Time,
    /// L: the life that was asked for. A store that granted more does not prolong anything.
    pub life: Span,
}

/// The moments that follow from one [`Lease`], in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// 0.6 L: the agent begins to demote, by a fast stop.
    pub demote_fast: Time,
    /// 0.7 L: the agent goes on with an immediate stop.
    pub demote_immediate: Time,
    /// 0.75 L: the guard fires (and an agent that is still at it kills).
    pub guard: Time,
    /// 0.9 L: no process of the data directory is left.
    pub gone: Time,
    /// L: somebody else may hold the lock from here on.
    pub expires: Time,
}

impl Deadlines {
    /// What is due sooner by one of the two.
    pub fn sooner(self, other: Deadlines) -> Deadlines {
        Deadlines {
            demote_fast: self.demote_fast.min(other.demote_fast),
            demote_immediate: self.demote_immediate.min(other.demote_immediate),
            guard: self.guard.min(other.guard),
            gone: self.gone.min(other.gone),
            expires: self.expires.min(other.expires),
        }
    }

    /// What is due later by one of the two.
    pub fn later(self, other: Deadlines) -> Deadlines {
        Deadlines {
            demote_fast: self.demote_fast.max(other.demote_fast),
            demote_immediate: self.demote_immediate.max(other.demote_immediate),
            guard: self.guard.max(other.guard),
            gone: self.gone.max(other.gone),
            expires: self.expires.max(other.expires),
        }
    }
}

impl Lease {
    /// The moments that follow from it.
    pub fn deadlines(&self) -> Deadlines {
        Deadlines {
            demote_fast: self.at(60),
            demote_immediate: self.at(70),
            guard: self.at(75),
            gone: self.at(90),
            expires: self.at(100),
        }
    }

    /// Whether this node may call itself leader (`/leader`, `/primary`): until L has passed.
    pub fn is_leader(&self, now: Time) -> bool {
        now < self.deadlines().expires
    }

    /// When the next renewal is due: L/5 (3/8 L of a long lease) after the last confirmed one, sooner (down to L/10)
    /// where a store that loses its leader just then could not be outlived before 0.6 L.
    pub fn renewal_due(&self) -> Time {
        let patience = self.deadlines().demote_fast.since(self.sent);
        let early = patience.saturating_sub(ELECTION).max(self.life / 10);
        let long = self.life >= LONG;
        self.sent
            + early.min(if long {
                self.life * 3 / 8
            } else {
                self.life / 5
            })
    }

    /// How long one try may take before the next endpoint is asked: L/5.
    pub fn try_budget(&self) -> Span {
        self.life / 5
    }

    /// `sent` plus this many hundredths of L.
    fn at(&self, percent: u32) -> Time {
        self.sent + self.life * percent / 100
    }
}

/// What the renewal task knows about loop and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Licence {
    /// When the loop last finished a tick; before the first one: when the loop began.
    pub tick_finished: Time,
    /// When the last successful probe (a new connection and a trivial commit) was SENT;
    /// `None`: none since this node became primary, then `primary_since` counts.
    pub probe_sent: Option<Time>,
    /// When the wait for a first answer began: promotion, or the end of an [`Excuse`].
    pub primary_since: Time,
    /// Why PostgreSQL need not answer now.
    pub excuse: Option<Excuse>,
}

/// Reasons for which PostgreSQL need not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// It is being started; `primary_start_timeout` bounds that.
    Starting,
    /// It is in crash recovery; bounded likewise.
    CrashRecovery,
    /// The cluster is paused.
    Pause,
    /// A long job has a licence of its own, for the loop as well, up to this moment.
    LongJob {
        /// End of that licence.
        until: Time,
    },
}

/// Why PostgreSQL need not answer now, if it need not; after a decision.
pub fn excuse(view: &View, memory: &Memory) -> Option<Excuse> {
    match view.running_job().map(|job| &job.kind) {
        Some(JobKind::Start(StartAs::Primary)) => Some(Excuse::Starting),
        // Killed because it hangs, and what waits for a disk that hangs cannot be killed either: the lock is not kept
        // for that.
        Some(JobKind::Stop {
            mode: StopMode::Kill,
            ..
        }) if memory.give_up.is_some() => None,
        // It hung before it was told to stop: that takes no more time than the deadlines leave.
        Some(JobKind::Stop { .. }) if hung_before(view) => None,
        Some(_) => Some(Excuse::LongJob {
            until: view.now + view.settings.hang_timeout,
        }),
        None if view.settings.pause => Some(Excuse::Pause),
        None if view.is_recovering() => Some(Excuse::CrashRecovery),
        None if view.is_primary() || memory.was_primary => None,
        // Found hanging by an agent that has just begun: it has no more time than one that was seen at work.
        None if view.is_mute() && memory.term.is_some() => None,
        None => Some(Excuse::Starting),
    }
}

/// The job that runs began when PostgreSQL had committed nothing for `hang_timeout`.
fn hung_before(view: &View) -> bool {
    let begun = view.running_job().map(|job| job.since);
    let over = view
        .local
        .probed
        .map(|probed| probed + view.settings.hang_timeout);
    begun.zip(over).is_some_and(|(begun, over)| begun >= over)
}

/// Who hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// The agent's loop finishes no tick.
    Loop,
    /// PostgreSQL answers no commit.
    Postgres,
}

/// Why the lock is not renewed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Who hangs.
    pub who: Hang,
    /// For how long.
    pub silent: Span,
}

impl core::fmt::Display for Revoked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let who = match self.who {
            Hang::Loop => "the agent's loop has finished no tick",
            Hang::Postgres => "PostgreSQL has answered no commit",
        };
        let (secs, millis) = (self.silent.as_secs(), self.silent.subsec_millis());
        write!(f, "{who} for {secs}.{millis:03}s")
    }
}

/// When a licence ends if nothing new happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LicenceEnd {
    /// The moment.
    pub at: Time,
    /// Who will have been silent.
    pub who: Hang,
    /// Since when.
    pub since: Time,
}

impl Licence {
    /// When the licence ends if nothing new happens.
    ///
    /// A loop may rest for `loop_wait` and then work for as long as PostgreSQL or etcd may hang.
    pub fn end(&self, settings: &Settings) -> LicenceEnd {
        let work = settings.hang_timeout.max(settings.retry_timeout);
        let mut tick = LicenceEnd {
            at: self.tick_finished + settings.loop_wait + work,
            who: Hang::Loop,
            since: self.tick_finished,
        };
        let answered = self
            .probe_sent
            .map_or(self.primary_since, |sent| sent.max(self.primary_since));
        let mut probe = LicenceEnd {
            at: answered + settings.hang_timeout,
            who: Hang::Postgres,
            since: answered,
        };
        match self.excuse {
            None => {}
            Some(Excuse::Starting | Excuse::CrashRecovery | Excuse::Pause) => return tick,
            Some(Excuse::LongJob { until }) => {
                tick.at = tick.at.max(until);
                probe.at = probe.at.max(until);
            }
        }
        if probe.at < tick.at { probe } else { tick }
    }
}

/// What the renewal task does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Send a renewal; give the try up at this moment and ask the next endpoint.
    Renew {
        /// End of this try.
        until: Time,
    },
    /// Nothing to do until then (look again when a fact changes).
    Wait(Time),
    /// The licence is over: kill, then release if there is a candidate.
    LicenceOver(Revoked),
    /// L has passed without a confirmed renewal: the lock is no longer ours.
    Expired,
}

/// What the renewal task does now. `confirmed`: when the last confirmed renewal was sent; `lease` may
/// count from later on, by a [proof](crate::election), which is no reason to wait with the next try.
/// `last_try`: when the last try (confirmed or not) was sent; the next one follows at once when it
/// failed, but not more often than every L/50.
pub fn renewal(
    now: Time,
    lease: &Lease,
    confirmed: Time,
    last_try: Option<Time>,
    licence: &Licence,
    settings: &Settings,
) -> Renewal {
    let expires = lease.deadlines().expires;
    if now >= expires {
        return Renewal::Expired;
    }
    let end = licence.end(settings);
    if now >= end.at {
        return Renewal::LicenceOver(Revoked {
            who: end.who,
            silent: now.since(end.since),
        });
    }
    let renewed = Lease {
        sent: confirmed,
        ..*lease
    };
    let mut due = renewed.renewal_due();
    if let Some(last) = last_try {
        due = due.max(last + lease.life / 50);
    }
    if now >= due {
        return Renewal::Renew {
            until: (now + lease.try_budget()).min(expires),
        };
    }
    Renewal::Wait(due.min(end.at).min(expires))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};

    fn lease(sent_ms: u64, life: u64) -> Lease {
        Lease {
            sent: Time::from_millis(sent_ms),
            life: Span::from_secs(life),
        }
    }

    #[test]
    fn deadlines_follow_from_the_sending() {
        for (sent, life, expected) in [
            (100_000, 5, "103.000 103.500 103.750 104.500 105.000"),
            (100_000, 2, "101.200 101.400 101.500 101.800 102.000"),
            (7_250, 20, "19.250 21.250 22.250 25.250 27.250"),
        ] {
            let d = lease(sent, life).deadlines();
            let all = [
                d.demote_fast,
                d.demote_immediate,
                d.guard,
                d.gone,
                d.expires,
            ];
            let text: String = all.map(|time| time.to_string().replace('s', " ")).concat();
            assert_eq!(text.trim(), expected);
            assert!(all.is_sorted());
        }
    }

    #[test]
    fn renewals_leave_time_for_an_election() {
        for (life, expected) in [
            (2, 200),
            (5, 500),
            (6, 1100),
            (8, 1600),
            (10, 3500),
            (20, 7500),
        ] {
            let due = lease(0, life).renewal_due();
            assert_eq!(due.since(Time::ZERO).as_millis(), expected, "L {life}");
        }
    }

    #[test]
    fn a_guard_is_given_time_on_a_busy_machine() {
        for (life, expected) in [(2, 1000), (5, 1000), (8, 1600), (20, 2000)] {
            let patience = guard_patience(Span::from_secs(life));
            assert_eq!(patience, Span::from_millis(expected), "L {life}");
        }
    }

    #[test]
    fn leader_until_l_has_passed() {
        let lease = lease(1000, 5);
        assert!(lease.is_leader(Time::from_millis(5999)));
        assert!(!lease.is_leader(Time::from_millis(6000)));
    }

    /// `now 100.0 sent 99.0 [proved T] [try T] tick T probe T|- since T [start|recovery|pause|job T]`, in
    /// seconds; L 5, loop_wait 10, retry_timeout 10, hang_timeout 5.
    fn answer(line: &str) -> String {
        let seconds = |word: &str| {
            let number: f64 = word.parse().unwrap();
            Time::from_millis((number * 1000.0) as u64)
        };
        let settings = Settings {
            lease_ttl: Span::from_secs(5),
            hang_timeout: Span::from_secs(5),
            ..Settings::default()
        };
        let mut now = Time::ZERO;
        let mut held = lease(0, 5);
        let mut confirmed = Time::ZERO;
        let mut last_try = None;
        let mut licence = Licence {
            tick_finished: Time::ZERO,
            probe_sent: None,
            primary_since: Time::ZERO,
            excuse: None,
        };
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let mut time = || seconds(words.next().unwrap());
            match word {
                "now" => now = time(),
                "sent" => {
                    confirmed = time();
                    held.sent = confirmed;
                }
                "proved" => held.sent = time(),
                "try" => last_try = Some(time()),
                "tick" => licence.tick_finished = time(),
                "probe" => licence.probe_sent = Some(time()),
                "since" => licence.primary_since = time(),
                "start" => licence.excuse = Some(Excuse::Starting),
                "recovery" => licence.excuse = Some(Excuse::CrashRecovery),
                "pause" => licence.excuse = Some(Excuse::Pause),
                "job" => licence.excuse = Some(Excuse::LongJob { until: time() }),
                other => panic!("{other}"),
            }
        }
        match renewal(now, &held, confirmed, last_try, &licence, &settings) {
            Renewal::Renew { until } => format!("renew until {until}"),
            Renewal::Wait(until) => format!("wait until {until}"),
            Renewal::LicenceOver(why) => format!("over: {why}"),
            Renewal::Expired => String::from("expired"),
        }
    }

    #[test]
    fn renewals() {
        for (facts, expected) in [
            // At L = 5 due every L/10; one try takes L/5 at most, the next one follows after L/50.
            ("now 100.4 sent 100 tick 99 probe 99", "wait until 100.500s"),
            ("now 101 sent 100 tick 99 probe 99", "renew until 102.000s"),
            (
                "now 102 sent 100 try 101 tick 99 probe 99",
                "renew until 103.000s",
            ),
            (
                "now 101.05 sent 100 try 101 tick 99 probe 99",
                "wait until 101.100s",
            ),
            (
                "now 104.5 sent 100 tick 99 probe 103",
                "renew until 105.000s",
            ),
            ("now 105 sent 100 tick 99 probe 104", "expired"),
            // A proof gives more time, but no rest.
            (
                "now 105 sent 100 proved 104.9 try 104.9 tick 99 probe 104",
                "renew until 106.000s",
            ),
            // PostgreSQL: hang_timeout after the sending of the last probe that was answered.
            (
                "now 104 sent 103.8 tick 100 probe 99.25",
                "wait until 104.250s",
            ),
            (
                "now 105 sent 104.5 tick 100 probe 100",
                "over: PostgreSQL has answered no commit for 5.000s",
            ),
            (
                "now 106 sent 105 tick 100 since 100.5",
                "over: PostgreSQL has answered no commit for 5.500s",
            ),
            // A promotion or the end of an excuse begins the wait anew.
            (
                "now 106 sent 105 tick 100 probe 50 since 102",
                "renew until 107.000s",
            ),
            // Excuses.
            ("now 106 sent 105 tick 100 start", "renew until 107.000s"),
            ("now 106 sent 105 tick 100 recovery", "renew until 107.000s"),
            ("now 106 sent 105 tick 100 pause", "renew until 107.000s"),
            ("now 106 sent 105 tick 100 job 107", "renew until 107.000s"),
            (
                "now 107 sent 106 tick 100 probe 101 job 107",
                "over: PostgreSQL has answered no commit for 6.000s",
            ),
            // The loop: it may rest for loop_wait and work for retry_timeout.
            (
                "now 119.9 sent 119.6 tick 100 probe 119",
                "wait until 120.000s",
            ),
            (
                "now 120 sent 119 tick 100 probe 119",
                "over: the agent's loop has finished no tick for 20.000s",
            ),
            (
                "now 121 sent 120 tick 100 pause",
                "over: the agent's loop has finished no tick for 21.000s",
            ),
            ("now 121 sent 120 tick 100 job 130", "renew until 122.000s"),
        ] {
            assert_eq!(answer(facts), expected, "{facts}");
        }
    }
}
