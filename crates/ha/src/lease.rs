//! When the leader's lock must be renewed, and what happens at which moment when it is not
//! (architecture, "Leases" and "Safety" 1). Pure: times in, times and answers out.
//!
//! Everything counts from the moment at which the last *confirmed* renewal was SENT, never from
//! its answer: the store may have started the lease's life at any moment in between.

use pgherd_model::{Settings, Span, Time};

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

    /// When the next renewal is due: L/5 after the last confirmed one.
    pub fn renewal_due(&self) -> Time {
        self.sent + self.life / 5
    }

    /// How long one try may take before the next endpoint is asked: L/5.
    pub fn try_budget(&self) -> Span {
        self.life / 5
    }

    /// The lease with a failsafe round taken into account: every listed member answered
    /// `Accepted`, and `oldest_sent` is when the first `POST /failsafe` of that round was SENT.
    ///
    /// A round counts like a renewal sent then. So the guard fires at `oldest_sent + L - margin`
    /// with a margin of L/4, never later; those who accepted keep off the lock for `ttl` (at
    /// least L) after their answer (Safety 3 and 5).
    #[must_use]
    pub fn with_failsafe(self, oldest_sent: Time) -> Lease {
        Lease {
            sent: self.sent.max(oldest_sent),
            ..self
        }
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

/// Why the lock is not renewed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The loop has finished no tick for this long.
    LoopHangs(Span),
    /// PostgreSQL has not answered a probe for this long.
    PostgresHangs(Span),
}

impl core::fmt::Display for Revoked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (who, span) = match self {
            Revoked::LoopHangs(span) => ("the agent's loop has finished no tick", span),
            Revoked::PostgresHangs(span) => ("PostgreSQL has answered no commit", span),
        };
        write!(
            f,
            "{who} for {}.{:03}s",
            span.as_secs(),
            span.subsec_millis()
        )
    }
}

impl Licence {
    /// When the licence ends if nothing new happens, and what will be the reason.
    /// `None`: not bounded.
    ///
    /// A loop may rest for `loop_wait` and then work for as long as PostgreSQL or etcd may hang.
    pub fn ends(&self, settings: &Settings) -> Option<(Time, fn(Span) -> Revoked)> {
        let work = settings.hang_timeout.max(settings.retry_timeout);
        let mut tick = self.tick_finished + settings.loop_wait + work;
        let probe = match self.excuse {
            Some(Excuse::LongJob { until }) => {
                tick = tick.max(until);
                Some(until.max(self.last_answer() + settings.hang_timeout))
            }
            Some(Excuse::Starting | Excuse::CrashRecovery | Excuse::Pause) => None,
            None => Some(self.last_answer() + settings.hang_timeout),
        };
        match probe {
            Some(probe) if probe < tick => Some((probe, Revoked::PostgresHangs)),
            _ => Some((tick, Revoked::LoopHangs)),
        }
    }

    fn last_answer(&self) -> Time {
        self.probe_sent
            .map_or(self.primary_since, |sent| sent.max(self.primary_since))
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

/// What the renewal task does now. `last_try`: when the last try (confirmed or not) was sent;
/// the next one follows at once when it failed, but not more often than every L/50.
pub fn renewal(
    now: Time,
    lease: &Lease,
    last_try: Option<Time>,
    licence: &Licence,
    settings: &Settings,
) -> Renewal {
    let expires = lease.deadlines().expires;
    if now >= expires {
        return Renewal::Expired;
    }
    let ends = licence.ends(settings);
    if let Some((end, why)) = ends
        && now >= end
    {
        let began = match why(Span::ZERO) {
            Revoked::LoopHangs(_) => licence.tick_finished,
            Revoked::PostgresHangs(_) => licence.last_answer(),
        };
        return Renewal::LicenceOver(why(now.since(began)));
    }
    let mut due = lease.renewal_due();
    if let Some(last) = last_try {
        due = due.max(last + lease.life / 50);
    }
    if now >= due {
        return Renewal::Renew {
            until: (now + lease.try_budget()).min(expires),
        };
    }
    let end = ends.map_or(due, |(end, _)| end);
    Renewal::Wait(due.min(end).min(expires))
}
