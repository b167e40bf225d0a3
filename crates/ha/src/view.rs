//! Everything a decision may depend on, and nothing else.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{
    Cluster, ControlFile, ControlState, DataDir, GuardMode, HistoryLine, LeaseSight, Look, Lsn,
    MemberName, PeerStatus, Postmaster, ReinitializeOrder, RestartOrder, Settings, Span, SystemId,
    Tags, Time, Timeline, Version, WallTime,
};
use serde::{Deserialize, Serialize};

use crate::decision::JobKind;
use crate::failsafe::FailsafeFact;
use crate::lease::{Deadlines, Lease};
use crate::memory::Memory;

/// Facts at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Now, on the boot-time clock.
    pub now: Time,
    /// Now, on the wall clock: only for what people have scheduled.
    pub wall: WallTime,
    /// Own name.
    pub me: MemberName,
    /// What this node publishes about itself whatever happens.
    pub identity: Identity,
    /// The lock service.
    pub dcs: Dcs,
    /// When the lock service last told something: an answer, or news of the watch.
    pub heard: Time,
    /// Who leads the lock service, as far as this node can tell.
    pub tenure: Tenure,
    /// Own leader lease, as last confirmed, or proved to live on.
    pub lease: Option<LeaseFact>,
    /// Rounds and promises of the failsafe mode.
    #[serde(default)]
    pub failsafe: FailsafeFact,
    /// The lease of somebody else's lock, as last looked at.
    pub sight: Option<LeaseSight>,
    /// The local PostgreSQL.
    pub local: Local,
    /// Last answer of each other member.
    pub peers: BTreeMap<MemberName, PeerFact>,
    /// A question to peers is under way.
    pub asking: bool,
    /// The present leader's timeline history, as last fetched.
    pub history: Option<RemoteHistory>,
    /// Effective settings.
    pub settings: Settings,
    /// The dynamic configuration that they come from, JSON text: the last good one of `config`, or
    /// what this node kept of it. Empty: none is known.
    pub config: String,
    /// The member lease in force; 0: none, the next write of the member key takes one.
    pub member_lease: i64,
    /// What people and the system asked for.
    pub orders: Orders,
}

/// Unchanging parts of the own member key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// `conn_url`.
    pub conn_url: String,
    /// Host and port of it.
    pub address: Option<(String, u16)>,
    /// `api_url`.
    pub api_url: String,
    /// `proxy_url`.
    pub proxy_url: Option<String>,
    /// `version`.
    pub version: Version,
    /// `tags`.
    pub tags: Tags,
    /// `bootstrap` is configured: this node may create a cluster.
    pub may_bootstrap: bool,
    /// It does so by a command, not by initdb: `bootstrap.method`.
    #[serde(default)]
    pub custom_bootstrap: bool,
    /// One of the methods to make a copy needs nobody to copy: `no_leader`.
    #[serde(default)]
    pub copies_alone: bool,
    /// Full name of the `leader` key, for what a person is to do.
    pub leader_key: String,
    /// `postgresql.data_dir`, likewise.
    pub data_dir: String,
}

/// What is known of the lock service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dcs {
    /// Proven current.
    Fresh(Cluster),
    /// Cannot be read.
    Unreachable {
        /// Last moment it was known to be current (start of the agent if never).
        since: Time,
        /// The picture from then.
        last: Option<Cluster>,
    },
}

/// The time for which one leader of etcd is known to have been in charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    /// When this node first saw an answer of the present raft term, the highest seen.
    pub since: Time,
    /// When the last linearizable read was sent that was answered: later than `since`, in that term.
    pub proved: Time,
}

/// The own leader lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFact {
    /// Its id.
    pub lease: i64,
    /// When the last confirmed renewal was sent, or what a [proof](crate::election) puts in its place.
    pub sent: Time,
    /// L, as asked for.
    pub length: Span,
}

impl LeaseFact {
    /// The moments that follow from it.
    pub fn deadlines(&self) -> Deadlines {
        self.lease().deadlines()
    }

    /// The same without its id.
    pub fn lease(&self) -> Lease {
        Lease {
            sent: self.sent,
            life: self.length,
        }
    }
}

/// The local PostgreSQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// Data directory.
    pub data: DataDir,
    /// pg_control, if it can be read.
    pub control: Option<ControlFile>,
    /// After a clean shutdown: where the shutdown checkpoint record ends.
    pub shutdown_end: Option<Lsn>,
    /// standby.signal is there.
    pub standby_signal: bool,
    /// backup_label is there: a copy that has not been started yet.
    pub backup_label: bool,
    /// PostgreSQL is being stopped, and its archiver is still at work.
    #[serde(default)]
    pub archiving: bool,
    /// PostgreSQL is being stopped, and of what has to end before its last checkpoint nothing is left but WAL senders.
    #[serde(default)]
    pub awaits_senders: bool,
    /// Processes.
    pub postmaster: Postmaster,
    /// What it says; `None`: not running or not answering.
    pub look: Option<Look>,
    /// It lives but has not answered since then.
    pub silent_since: Option<Time>,
    /// It answers that it takes no connections yet, or not any more.
    pub not_ready: bool,
    /// It has come up (postmaster.pid says so), and a connection waited for its answer in vain.
    #[serde(default)]
    pub hangs: bool,
    /// Its postmaster is stopped by a signal (SIGSTOP, a debugger): it gets nowhere, whatever it was at.
    #[serde(default)]
    pub halted: bool,
    /// The long job: running, or the last one that ended.
    pub job: Option<Job>,
    /// The guard.
    pub guard: GuardFact,
    /// The watchdog device.
    #[serde(default)]
    pub watchdog: WatchdogFact,
    /// History file of the timeline that PostgreSQL is on, or was when it last ran, oldest line first.
    /// Empty: there is none, or it cannot be read.
    pub own_history: Vec<HistoryLine>,
    /// Last connection to PostgreSQL with a trivial commit that worked was begun at this time.
    pub probed: Option<Time>,
}

/// A long job and its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What it does.
    pub kind: JobKind,
    /// When it began.
    pub since: Time,
    /// How it ended; `None`: it runs.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended: Option<Time>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// Failed, for this reason.
    Failed(String),
    /// Not begun, since somebody who was asked before did not want it: nothing has changed.
    Refused(String),
}

/// The guard as the agent knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardFact {
    /// The process lives.
    pub alive: bool,
    /// It lives and answers nothing (`lease::guard_patience`): it protects nothing, but may fire when
    /// it goes on.
    #[serde(default)]
    pub hangs: bool,
    /// It watches this postmaster.
    pub armed_for: Option<u32>,
    /// The lease whose deadline it was armed with. Renewals move that deadline on, never back.
    pub armed_by: Option<LeaseFact>,
    /// The last try to arm it failed at this time; `None`: it worked, or there was none.
    pub failed: Option<Time>,
    /// Tries in a row that failed.
    #[serde(default)]
    pub failures: u32,
}

impl GuardFact {
    /// Whether it protects: it is armed, and would do what it is told.
    pub fn protects(&self) -> bool {
        self.armed_for.is_some() && !self.hangs
    }
}

/// The watchdog device as the agent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogFact {
    /// `watchdog.mode`.
    pub mode: GuardMode,
    /// It runs, and is fed by renewals of a lease that lives so long.
    pub armed: Option<Span>,
    /// It runs, armed or not: it resets the machine unless it is fed or stopped.
    pub running: bool,
    /// The last try to arm it failed at this time; `None`: it worked, or there was none.
    pub failed: Option<Time>,
    /// Tries in a row that failed.
    pub failures: u32,
}

impl Default for WatchdogFact {
    /// None is used.
    fn default() -> WatchdogFact {
        WatchdogFact {
            mode: GuardMode::Off,
            armed: None,
            running: false,
            failed: None,
            failures: 0,
        }
    }
}

/// Last question to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerFact {
    /// When it was sent.
    pub asked: Time,
    /// When its answer came, or was not waited for any more: an agent whose PostgreSQL hangs takes a while to say so.
    #[serde(default)]
    pub answered: Time,
    /// Its answer; `None`: none came in time.
    pub answer: Option<PeerStatus>,
}

/// Timeline history of another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteHistory {
    /// Whose.
    pub from: MemberName,
    /// When the question was sent.
    pub asked: Time,
    /// Its timeline and the forks that lead there; `None`: it could not be read.
    pub lines: Option<(Timeline, Vec<(Timeline, Lsn)>)>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// The agent is to end: stop PostgreSQL, release the lock.
    pub shutdown: bool,
    /// Revision at which this agent created `initialize`: the bootstrap is its own.
    pub bootstrap_claim: Option<u64>,
    /// System identifier that the bootstrap has produced and that is not published yet.
    pub bootstrapped: Option<SystemId>,
    /// A restart of PostgreSQL that is due now.
    pub restart: Option<RestartOrder>,
    /// One that has a time.
    pub scheduled_restart: Option<RestartOrder>,
    /// A new copy of the data.
    pub reinitialize: Option<ReinitializeOrder>,
}

impl View {
    /// The picture of the cluster, also when it is an old one.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.dcs {
            Dcs::Fresh(cluster) => Some(cluster),
            Dcs::Unreachable { last, .. } => last.as_ref(),
        }
    }

    /// The picture, if it is current.
    pub fn fresh(&self) -> Option<&Cluster> {
        match &self.dcs {
            Dcs::Fresh(cluster) => Some(cluster),
            Dcs::Unreachable { .. } => None,
        }
    }

    /// A job that runs now.
    pub fn running_job(&self) -> Option<&Job> {
        self.local.job.as_ref().filter(|job| job.outcome.is_none())
    }

    /// What a restart or a new copy would get in the way of, in Patroni's words where it has some.
    pub fn under_way(&self, memory: &Memory) -> Option<String> {
        let job = self.running_job().map(|job| job.kind.words());
        match (&memory.restart, &memory.reinitialize, &memory.demotion) {
            (Some(_), ..) => Some("restart".into()),
            (None, Some(_), _) => Some("reinitialize".into()),
            (None, None, Some(demotion)) => Some(demotion.word.clone()),
            (None, None, None) => job,
        }
    }

    /// PostgreSQL runs and is not in recovery.
    pub fn is_primary(&self) -> bool {
        self.local
            .look
            .as_ref()
            .is_some_and(|look| !look.in_recovery)
    }

    /// PostgreSQL runs in recovery.
    pub fn is_standby(&self) -> bool {
        self.local
            .look
            .as_ref()
            .is_some_and(|look| look.in_recovery)
    }

    /// The postmaster lives, and what it was started for, or a crash of one of its children, is not
    /// recovered from yet: that takes as long as there is WAL. pg_control says it late, after the files
    /// were synchronised; the postmaster's answer comes from the beginning.
    pub fn is_recovering(&self) -> bool {
        let local = &self.local;
        let recovers = |control: ControlFile| control.state == ControlState::InCrashRecovery;
        matches!(local.postmaster, Postmaster::Alive { .. })
            && !local.halted
            && local.look.is_none()
            && (local.not_ready || local.control.is_some_and(recovers))
    }

    /// The postmaster had come up or is halted, lives, says nothing at all, and no job is at work on it.
    pub fn is_mute(&self) -> bool {
        (self.local.hangs || self.local.halted)
            && !self.is_recovering()
            && self.running_job().is_none()
    }

    /// No process of the data directory is left.
    pub fn is_down(&self) -> bool {
        self.local.postmaster == Postmaster::Down
    }
}
