//! What the brain orders, and why.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use pgherd_model::{LogicalSlot, Lsn, MemberName, Op, Span, StopMode, Time, Timeline, Upstream};
use serde::{Deserialize, Serialize};

use crate::failsafe::Wish;
use crate::memory::Memory;

/// The whole answer of one look.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Orders, to be carried out one after the other; the first failure ends the list.
    pub actions: Vec<Action>,
    /// What to remember.
    pub memory: Memory,
    /// The rule that answered.
    pub why: Why,
    /// The renewal task is to keep the leader lease alive.
    pub keep_lease: bool,
    /// Whom to ask when renewals stay away, so that this node stays in office.
    pub failsafe: Option<Wish>,
    /// The lock service need not be asked by itself while its watch has news at least this often; `None`: it is asked
    /// all the time.
    pub rest: Option<Span>,
    /// Look again no later than then; with who asked for it. Whatever time alone makes due is due then at
    /// the earliest, so that nobody has to decide again before who sees nothing new ([`goes_on`](crate::goes_on)).
    pub wake_at: Option<(Time, &'static str)>,
    /// The same but for the deadline of the own lease, which moves with each renewal: [`goes_on`](crate::goes_on) minds it.
    pub due: Time,
    /// Rules that were asked before one answered, and what they said.
    pub ladder: Vec<Rung>,
}

/// The rule that decided and its reason in one sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Why {
    /// Name of the rule.
    pub rule: &'static str,
    /// How much it matters to whoever reads the log.
    pub severity: Severity,
    /// One sentence for the log. What changes with every look stays out of it: the log tells each
    /// sentence once.
    pub reason: Cow<'static, str>,
}

/// How much a decision matters to whoever reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// All is as it should be. The log repeats it once per loop_wait as a sign of life, like Patroni.
    Routine,
    /// A step that belongs to daily work.
    Info,
    /// It goes on, but not as it should: PostgreSQL is killed, has crashed, or has to demote.
    Warning,
    /// It does not go on by itself: somebody must act.
    Error,
}

impl Severity {
    /// What an order says about the decision, whatever its rule says: a kill or an end of the agent
    /// with an error is never a matter of course.
    pub(crate) fn at_least(actions: &[Action]) -> Severity {
        let of = |action: &Action| match action {
            Action::Exit { code, .. } if *code != 0 => Severity::Error,
            Action::StartJob(
                JobKind::Stop {
                    mode: StopMode::Kill | StopMode::Immediate,
                    ..
                }
                | JobKind::RemoveData,
            ) => Severity::Warning,
            _ => Severity::Routine,
        };
        actions.iter().map(of).max().unwrap_or(Severity::Routine)
    }
}

/// One rule of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rung {
    /// Name.
    pub rule: &'static str,
    /// It answered.
    pub fired: bool,
    /// Why, or why not.
    pub reason: Cow<'static, str>,
}

/// A question to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Who.
    pub member: MemberName,
    /// Its `api_url`.
    pub url: String,
    /// How long to wait.
    pub timeout: Span,
}

/// One order to the hands. Each can be repeated after a crash half-way.
#[expect(
    clippy::large_enum_variant,
    reason = "a handful at a time, gone after a moment"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// A guarded write to, or a question to, the lock service. Before `AcquireLeader` and
    /// `ReattachLeader` the body renews the leader lease.
    Store(Op),
    /// `GET /patroni` of these members, all at once; the answers become facts.
    AskPeers(Vec<Ask>),
    /// Read the timeline history of a member over SQL.
    AskHistory {
        /// Whom.
        member: MemberName,
        /// Host and port.
        address: (String, u16),
        /// Its timeline.
        timeline: Timeline,
    },
    /// Begin a long job; at most one runs.
    StartJob(JobKind),
    /// Stream from there (`None`: from nobody), without a restart.
    SetUpstream(Option<Upstream>),
    /// End the WAL receiver, so that positions stand still while they are compared.
    StopReceiving,
    /// Tell these WAL senders to end, which hold up a stop.
    EndSenders(Vec<u32>),
    /// The guard is to watch this postmaster.
    ArmGuard {
        /// Process id.
        pid: u32,
        /// It is to fire by then, however long the present lease may live.
        no_later: Option<Time>,
    },
    /// Arming has failed: the guard is armed and disarmed again, to see whether it works now.
    TryGuard {
        /// Process id.
        pid: u32,
    },
    /// The guard is to stand down.
    DisarmGuard,
    /// The next promotion is to take a number above this one, which another member has used: no
    /// history file up to it may be missing in the own pg_wal, since PostgreSQL counts upwards from
    /// its own timeline to the first that is.
    ReserveTimelines {
        /// The last number that is taken.
        last: Timeline,
    },
    /// Create a physical slot.
    CreateSlot(String),
    /// Drop a slot.
    DropSlot(String),
    /// Advance a physical slot.
    AdvanceSlot(String, Lsn),
    /// Create a logical slot on the leader, beside the loop: it waits for transactions that are open.
    CreateLogicalSlot(LogicalSlot),
    /// Advance a logical slot on a standby, beside the loop: it reads the WAL in between.
    AdvanceLogicalSlot(LogicalSlot, Lsn),
    /// Set `synchronous_standby_names`.
    SetSynchronousStandbys(String),
    /// Ask for a checkpoint, without waiting for it.
    Checkpoint,
    /// End the agent.
    Exit {
        /// Exit status.
        code: u8,
        /// For the log.
        message: String,
    },
}

impl Action {
    /// Its name, for logs and tests.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Store(op) => op_name(op),
            Action::AskPeers(_) => "AskPeers",
            Action::AskHistory { .. } => "AskHistory",
            Action::StartJob(kind) => kind.name(),
            Action::SetUpstream(_) => "SetUpstream",
            Action::StopReceiving => "StopReceiving",
            Action::EndSenders(_) => "EndSenders",
            Action::ArmGuard { .. } => "ArmGuard",
            Action::TryGuard { .. } => "TryGuard",
            Action::DisarmGuard => "DisarmGuard",
            Action::ReserveTimelines { .. } => "ReserveTimelines",
            Action::CreateSlot(_) => "CreateSlot",
            Action::DropSlot(_) => "DropSlot",
            Action::AdvanceSlot(..) => "AdvanceSlot",
            Action::CreateLogicalSlot(_) => "CreateLogicalSlot",
            Action::AdvanceLogicalSlot(..) => "AdvanceLogicalSlot",
            Action::SetSynchronousStandbys(_) => "SetSynchronousStandbys",
            Action::Checkpoint => "Checkpoint",
            Action::Exit { .. } => "Exit",
        }
    }
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::AcquireLeader { .. } => "AcquireLeader",
        Op::ReattachLeader { .. } => "ReattachLeader",
        Op::ReleaseLeader { .. } => "ReleaseLeader",
        Op::PutMember(_) => "PutMember",
        Op::PutInitialize { .. } => "PutInitialize",
        Op::DeleteInitialize { .. } => "DeleteInitialize",
        Op::PutConfig { .. } => "PutConfig",
        Op::PutStatus { .. } => "PutStatus",
        Op::PutSync { .. } => "PutSync",
        Op::DeleteSync { .. } => "DeleteSync",
        Op::PutFailover { .. } => "PutFailover",
        Op::PutFailsafe { .. } => "PutFailsafe",
        Op::PutHistory { .. } => "PutHistory",
        Op::LookAtLease { .. } => "LookAtLease",
        Op::Refresh => "Refresh",
    }
}

/// As what to start PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAs {
    /// In place, same timeline.
    Primary,
    /// In recovery.
    Standby {
        /// From whom to stream.
        upstream: Option<Upstream>,
        /// History to install first, so that recovery follows the leader's timeline and does not
        /// replay own WAL past the fork: member and its timeline.
        follow: Option<(MemberName, Timeline)>,
    },
}

/// Whom a copy is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: MemberName,
    /// Host and port.
    pub address: (String, u16),
}

/// A long job. It has a deadline of its own and always ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobKind {
    /// initdb or the method that is configured, first start, roles, post_bootstrap; a failed one is moved out of the
    /// way.
    Bootstrap,
    /// Make a copy, by the methods that are configured.
    Clone {
        /// Of whom; `None`: by those that need nobody.
        from: Option<Origin>,
        /// By those of `standby_cluster`: of another cluster, as the first member of this one.
        #[serde(default)]
        far: bool,
    },
    /// Start PostgreSQL and wait until it accepts connections.
    Start(StartAs),
    /// Stop PostgreSQL and wait until no process of the data directory is left.
    Stop {
        /// How.
        mode: StopMode,
        /// A checkpoint first, so that the shutdown checkpoint is short.
        checkpoint_first: bool,
    },
    /// Ask `pre_promote`, promote and wait until PostgreSQL is out of recovery. It may be
    /// [refused](crate::Outcome::Refused).
    Promote,
    /// Single-user crash recovery: afterwards pg_control tells the true end of WAL.
    CrashRecovery,
    /// pg_rewind against the leader.
    Rewind {
        /// Whom.
        from: MemberName,
        /// Host and port.
        address: (String, u16),
    },
    /// Remove the data directory, so that it is copied anew.
    RemoveData,
    /// Read logical slots of the leader, stop PostgreSQL in order, and put them into the data directory. What cannot be
    /// of use is found out before the stop. PostgreSQL is down afterwards.
    CopySlots {
        /// The leader.
        from: Origin,
        /// Which.
        slots: Vec<LogicalSlot>,
    },
}

impl JobKind {
    /// What it does, for people.
    pub fn words(&self) -> String {
        match self {
            JobKind::Bootstrap => "creating the cluster".into(),
            JobKind::Clone {
                from: Some(origin), ..
            } => format!("copying {}", origin.name),
            JobKind::Clone { from: None, .. } => "making a copy without a leader".into(),
            JobKind::Start(StartAs::Primary) => "starting PostgreSQL as primary".into(),
            JobKind::Start(StartAs::Standby { .. }) => "starting PostgreSQL as a standby".into(),
            JobKind::Stop { mode, .. } => match mode {
                StopMode::Fast => "stopping PostgreSQL".into(),
                StopMode::Immediate => "stopping PostgreSQL at once".into(),
                StopMode::Kill => "killing PostgreSQL".into(),
            },
            JobKind::Promote => "promoting PostgreSQL".into(),
            JobKind::CrashRecovery => "crash recovery".into(),
            JobKind::Rewind { from, .. } => format!("pg_rewind from {from}"),
            JobKind::RemoveData => "removing the data directory".into(),
            JobKind::CopySlots { from, .. } => format!("copying logical slots from {}", from.name),
        }
    }

    /// Its name, for tests and `explain`.
    pub fn name(&self) -> &'static str {
        match self {
            JobKind::Bootstrap => "Bootstrap",
            JobKind::Clone { .. } => "Clone",
            JobKind::Start(StartAs::Primary) => "StartPrimary",
            JobKind::Start(StartAs::Standby { .. }) => "StartStandby",
            JobKind::Stop {
                mode: StopMode::Fast,
                ..
            } => "StopFast",
            JobKind::Stop {
                mode: StopMode::Immediate,
                ..
            } => "StopImmediate",
            JobKind::Stop {
                mode: StopMode::Kill,
                ..
            } => "StopKill",
            JobKind::Promote => "Promote",
            JobKind::CrashRecovery => "CrashRecovery",
            JobKind::Rewind { .. } => "Rewind",
            JobKind::RemoveData => "RemoveData",
            JobKind::CopySlots { .. } => "CopySlots",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.reason)
    }
}
