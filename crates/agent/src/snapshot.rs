//! What the loop tells the REST server, and what the REST server asks of the loop.
//!
//! After each tick the loop publishes one immutable [`Snapshot`] through a tokio watch channel;
//! health checks answer from it. What must be fresh, and every write, goes to the loop (or a task
//! of its own beside it) as an [`Order`] with a place for the answer.

use crate::asked::{ReinitializeRequest, RestartEnd, RestartRequest};
use crate::looks::Looks;
use pgherd_dcs::Picture;
use pgherd_model::{
    Answer, Cluster, Look, MemberName, Op, PostgresState, Role, Settings, SystemId, Tags, Time,
};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Facts about this node, as of the last tick.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// `name` of this node.
    pub name: MemberName,
    /// `scope` of the cluster.
    pub scope: String,
    /// Version that Patroni's clients see (`patroni.version`), such as `4.1.5`.
    pub version: String,
    /// When the tick began that this snapshot shows; `/liveness` counts from here.
    pub tick: Time,
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
    /// The keys as the lock service tells of them, without waiting for a tick: from
    /// [`Store::picture`](pgherd_dcs::Store::picture). The end of a switchover is seen here.
    pub picture: watch::Receiver<Picture>,
    /// Orders to the loop.
    pub orders: mpsc::Sender<Order>,
    /// What PostgreSQL says at this moment.
    pub looks: Looks,
    /// File of the journal; `None`: none is kept.
    pub journal: Option<PathBuf>,
}

impl Hooks {
    /// The last snapshot.
    pub fn last(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }
}
