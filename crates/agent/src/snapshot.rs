//! What the loop tells the REST server, and what the REST server asks of the loop.
//!
//! After each tick the loop publishes one immutable [`Snapshot`] through a tokio watch channel;
//! health checks answer from it. Where a glance then shows that all is as it was, only the moment
//! moves on for which the snapshot holds ([`Confirmed`]). What must be fresh, and every write, goes to the loop (or a task
//! of its own beside it) as an [`Order`] with a place for the answer.

use crate::asked::{ReinitializeRequest, RestartEnd, RestartRequest};
use crate::configured::Configured;
use crate::failsafe::Failsafe;
use crate::looks::Looks;
use pgherd_dcs::Picture;
use pgherd_instance::Instance;
use pgherd_model::{
    Answer, Cluster, Look, MemberName, Op, PostgresState, Role, Settings, Span, SystemId, Tags,
    Time,
};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};

/// Until when a snapshot has been found to hold, beyond its tick. Each number is good by itself: readers
/// may see one that is older than another.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// 0: not since the tick.
    at: AtomicU64,
    dcs_last_seen: AtomicI64,
    leader_until: AtomicU64,
}

impl Confirmed {
    /// All is as it was at `at`; `dcs_last_seen` and `leader_until` as in a snapshot of then.
    pub fn set(&self, at: Time, dcs_last_seen: i64, leader_until: Option<Time>) {
        self.dcs_last_seen.store(dcs_last_seen, Ordering::Relaxed);
        let until = leader_until.unwrap_or(Time::ZERO);
        self.leader_until.store(until.0, Ordering::Relaxed);
        self.at.store(at.0, Ordering::Relaxed);
    }

    fn at(&self) -> Time {
        Time(self.at.load(Ordering::Relaxed))
    }
}

/// Whether anybody looks at what the loop publishes: for nobody it need not be so young.
#[derive(Debug, Default)]
pub struct Attention(AtomicU64);

impl Attention {
    /// Who has looked is likely to come again: load balancers and monitors do, every few seconds or tens of them.
    const SPAN: Span = Span::from_secs(60);

    /// Somebody looks now.
    pub fn paid(&self, now: Time) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// Somebody has looked lately.
    pub fn is_paid(&self, now: Time) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last > 0 && now.since(Time(last)) <= Attention::SPAN
    }
}

/// Facts about this node, as of the last tick.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `name` of this node.
    pub name: MemberName,
    /// `scope` of the cluster.
    pub scope: String,
    /// Version that Patroni's clients see (`patroni.version`), such as `4.1.5`.
    pub version: String,
    /// When the tick began that this snapshot shows.
    pub tick: Time,
    /// Since when it has gone on to hold; shared by its copies.
    pub confirmed: Arc<Confirmed>,
    /// The cluster as last seen; `None`: never seen.
    pub cluster: Option<Arc<Cluster>>,
    /// The lock service did not answer in this tick; `cluster` is old then.
    pub dcs_unreachable: bool,
    /// When the lock service last answered, seconds since 1970.
    pub dcs_last_seen: i64,
    /// Effective settings.
    pub settings: Settings,
    /// A standby cluster is configured.
    pub standby_cluster: bool,
    /// The agent's own idea of its role, as published.
    pub role: Role,
    /// State of PostgreSQL, as published.
    pub state: PostgresState,
    /// What PostgreSQL said then; `None`: it does not answer.
    pub look: Option<Look>,
    /// When it was asked: in this tick, or for one request.
    pub looked: Time,
    /// This node holds the lock until then by its own clock: the end of L, from the moment the last
    /// confirmed renewal was sent. `None`: it does not hold it, or is giving it up.
    pub leader_until: Option<Time>,
    /// The failsafe mode keeps this leader in office.
    pub failsafe_active: bool,
    /// Tags as configured.
    pub tags: Tags,
    /// `Database system identifier`, when known.
    pub system_id: Option<SystemId>,
    /// Settings that wait for a restart: name, value in force, value in the file, with units. As the
    /// PostgreSQL that runs said last.
    pub pending_restart: Vec<(String, String, String)>,
    /// `watchdog.mode: required`, but it can not be used.
    pub watchdog_failed: bool,
    /// `pgherd.guard` is not `off`, but the guard is not there.
    pub guard_missing: bool,
    /// What is under way and in the way of a restart or a new copy, in Patroni's words where it has some:
    /// `restart`, `reinitialize`.
    pub under_way: Option<String>,
    /// A restart that is scheduled, as the member key has it.
    pub scheduled_restart: Option<String>,
    /// The node steps out of synchronous duty: it restarts.
    pub leaves_sync: bool,
    /// The last decision for `GET /pgherd/explain`: an object with `decision` (one sentence) and
    /// `ladder` (array of `{rule, fired, reason}`), and what else is useful.
    pub explain: Value,
}

impl Snapshot {
    /// When the loop last found what this shows; `/liveness` counts from here.
    pub fn held_at(&self) -> Time {
        self.tick.max(self.confirmed.at())
    }

    /// When PostgreSQL was last asked, and said this.
    pub fn asked_at(&self) -> Time {
        self.looked.max(self.confirmed.at())
    }

    /// When the lock service last answered, seconds since 1970.
    pub fn dcs_seen_at(&self) -> i64 {
        // Not the later of the two: that clock may have been set back.
        match self.confirmed.dcs_last_seen.load(Ordering::Relaxed) {
            0 => self.dcs_last_seen,
            seen => seen,
        }
    }

    /// [`Snapshot::leader_until`] as the lease has been renewed since then.
    pub fn leads_until(&self) -> Option<Time> {
        let renewed = Time(self.confirmed.leader_until.load(Ordering::Relaxed));
        self.leader_until.map(|until| until.max(renewed))
    }
}

/// What the REST server asks of the loop. Dropping an answer channel means: not possible now.
#[derive(Debug)]
pub enum Order {
    /// Tick at once.
    WakeUp,
    /// Read the configuration files again, as on SIGHUP.
    Reload,
    /// Read the cluster from the lock service now, linearizably.
    FreshCluster {
        /// For the answer; `Err`: why there is none.
        answer: oneshot::Sender<Result<Cluster, String>>,
    },
    /// Restart PostgreSQL now.
    Restart {
        /// How.
        request: RestartRequest,
        /// For the end of it; `None`: another one is under way. One that has not begun is forgotten
        /// where nobody waits for the answer any more.
        answer: oneshot::Sender<Option<RestartEnd>>,
    },
    /// Restart PostgreSQL at a time.
    ScheduleRestart {
        /// When and how.
        request: RestartRequest,
        /// For the answer; false: one is scheduled already.
        answer: oneshot::Sender<bool>,
    },
    /// Forget the scheduled restart.
    ForgetRestart {
        /// For the answer; false: none was scheduled.
        answer: oneshot::Sender<bool>,
    },
    /// Copy the data anew.
    Reinitialize {
        /// How.
        request: ReinitializeRequest,
        /// For the answer, once it is decided; `Err`: why it is not done.
        answer: oneshot::Sender<Result<(), String>>,
    },
    /// Let the program that has replaced this one's file take over.
    Upgrade {
        /// For the answer, before it happens: the version that takes over, or why nothing does.
        answer: oneshot::Sender<Result<String, String>>,
    },
    /// Write one key on behalf of an operator (only [`Op::PutFailover`] and [`Op::PutConfig`]
    /// come) and tick at once.
    Write {
        /// What to write, with its guard.
        op: Box<Op>,
        /// For the answer; `Err`: the lock service did not answer.
        answer: oneshot::Sender<Result<Answer, String>>,
    },
}

/// The REST server's ends of the channels between it and the loop.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// Last snapshot.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Told of every look at it.
    pub attention: Arc<Attention>,
    /// The keys as the lock service tells of them, without waiting for a tick: from
    /// [`Store::picture`](pgherd_dcs::Store::picture). The end of a switchover is seen here.
    pub picture: watch::Receiver<Picture>,
    /// Orders to the loop.
    pub orders: mpsc::Sender<Order>,
    /// What PostgreSQL says at this moment.
    pub looks: Looks,
    /// Who knows which parameters the installed PostgreSQL does not take; `None`: nobody.
    pub instance: Option<Instance>,
    /// Promises of the failsafe mode.
    pub failsafe: Arc<Failsafe>,
    /// File of the journal; `None`: none is kept.
    pub journal: Option<PathBuf>,
    /// The configuration that is loaded, as it may be told.
    pub configured: Arc<Configured>,
}

impl Hooks {
    /// The last snapshot, for one who asks `now`.
    pub fn asked(&self, now: Time) -> Arc<Snapshot> {
        self.attention.paid(now);
        self.last()
    }

    /// The last snapshot.
    pub fn last(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_is_paid_for_a_minute() {
        let (attention, at) = (Attention::default(), Time::from_millis);
        assert!(!attention.is_paid(at(0)) && !attention.is_paid(at(5000)));
        attention.paid(at(100_000));
        for (now, paid) in [(100_000, true), (160_000, true), (160_001, false)] {
            assert_eq!(attention.is_paid(at(now)), paid, "{now}");
        }
        // Read the clock before somebody else did.
        assert!(attention.is_paid(at(99_999)));
    }
}
