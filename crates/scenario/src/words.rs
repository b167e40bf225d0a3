//! What a scenario says, as types. Nothing here knows whether a simulator or real processes carry it out.

use crate::Span;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name, as errors show it.
    pub file: String,
    /// The comment at its head.
    pub story: String,
    /// Where chance begins.
    pub seed: u64,
    /// Why no simulator can play it, if it says so.
    pub only_real: Option<String>,
    /// What is known to be wrong, so that its expectations are not met yet, if it says so.
    pub known_to_fail: Option<String>,
    /// Members, each with a PostgreSQL and an agent.
    pub nodes: usize,
    /// What differs from the defaults of Patroni's settings.
    pub settings: Vec<Setting>,
    /// What happens and what is expected, in this order.
    pub lines: Vec<Line>,
}

/// One statement and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1 on.
    pub number: usize,
    /// As written, without its comment.
    pub text: String,
    /// What it says.
    pub statement: Statement,
}

/// A statement after the head of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// A name for whoever it is now.
    Let {
        /// The name.
        name: String,
        /// Who gets it.
        who: Who,
    },
    /// Something is done.
    Step(Step),
    /// Something must be so.
    Expect(Expectation),
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// `n1` and so on, counted from 0 here.
    Node(usize),
    /// Whoever holds the lock and is primary.
    Primary,
    /// The first of the replicas.
    Replica,
    /// The one replica that no `let` has named.
    OtherReplica,
    /// Named by a `let` before.
    Named(String),
}

/// One end of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A member.
    Member(Who),
    /// All of etcd.
    Etcd,
    /// Every member but the one at the other end.
    Others,
    /// Etcd and every other member.
    Everybody,
}

/// A setting of the cluster, by the name of the file of settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `pgherd.lease_ttl`.
    Lease(Span),
    /// `ttl`.
    Ttl(Span),
    /// `loop_wait`.
    Loop(Span),
    /// `retry_timeout`.
    Retry(Span),
    /// `pgherd.hang_timeout`.
    Hang(Span),
    /// `primary_start_timeout`.
    StartTimeout(Span),
    /// `maximum_lag_on_failover`, bytes.
    LagLimit(u64),
    /// `synchronous_mode` off.
    Asynchronous,
    /// `synchronous_mode` on.
    Synchronous,
    /// `synchronous_mode` and `synchronous_mode_strict` on.
    Strict,
    /// `pgherd.guard`.
    Guard(Guard),
    /// `pgherd.crash_handover: sync`.
    HandOver,
    /// `postgresql.use_pg_rewind`.
    Rewind,
    /// `postgresql.remove_data_directory_on_*`: what cannot be rewound is copied anew.
    CopyAnew,
}

/// Values of `pgherd.guard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// One is armed where it can be.
    Automatic,
    /// Nobody is primary without one.
    Required,
    /// There is none.
    Off,
}

/// What can be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The agent, with SIGKILL.
    Agent,
    /// The guard.
    Guard,
    /// The postmaster alone; its children notice later.
    Postmaster,
    /// The postmaster and every child.
    Postgres,
    /// The machine loses its power.
    Node,
}

/// What can be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starter {
    /// The agent.
    Agent,
    /// The machine, and the agent with it.
    Node,
}

/// What can be frozen and thawed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// The agent, with SIGSTOP.
    Agent,
    /// The guard.
    Guard,
    /// The postmaster alone.
    Postmaster,
    /// The process that receives WAL.
    Walreceiver,
    /// The disk of the data directory: whoever writes waits, and cannot be killed.
    Disk,
}

/// How much of etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdPart {
    /// The member that leads.
    Leader,
    /// As many as may be lost, and not the leader.
    Minority,
    /// The leader and so many that the rest is no majority.
    Majority,
}

/// Something that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Etcd and all agents, on empty directories.
    Start,
    /// Nothing for so long.
    Wait(Span),
    /// Clients write to whoever accepts it, or stop.
    Writers(bool),
    /// Kills something of a member.
    Kill(Victim, Who),
    /// Starts it again.
    StartAgain(Starter, Who),
    /// Freezes (`true`) or thaws.
    Freeze(Frozen, Who, bool),
    /// The disk of the data directory is full (`true`), or has room again.
    FillDisk(Who, bool),
    /// Packets from one place do not reach the other.
    Cut {
        /// They come from here.
        from: Place,
        /// And do not arrive here.
        to: Place,
        /// Nor the other way.
        both_ways: bool,
    },
    /// All cuts are mended.
    HealNetwork,
    /// Kills members of etcd.
    KillEtcd(EtcdPart),
    /// All of them run again.
    StartEtcd,
    /// `POST /switchover`, with or without a candidate.
    Switchover(Option<Who>),
    /// `POST /failover` to this member.
    Failover(Who),
    /// `POST /restart` to this member.
    Restart(Who),
    /// `POST /reinitialize` to this member.
    Reinitialize(Who),
    /// `POST /pgherd/upgrade` to this member.
    Upgrade(Who),
    /// `pause` in the configuration, or its end.
    Pause(bool),
    /// `PATCH /config`.
    Set(Vec<Setting>),
    /// `PATCH /config` with a parameter of PostgreSQL.
    SetParameter {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Step {
    /// The members that it names, in the order in which it does.
    pub fn named(&self) -> Vec<&Who> {
        match self {
            Step::Kill(_, who)
            | Step::StartAgain(_, who)
            | Step::Freeze(_, who, _)
            | Step::FillDisk(who, _)
            | Step::Switchover(Some(who))
            | Step::Failover(who)
            | Step::Restart(who)
            | Step::Reinitialize(who)
            | Step::Upgrade(who) => vec![who],
            Step::Cut { from, to, .. } => [from, to]
                .into_iter()
                .filter_map(|it| match it {
                    Place::Member(who) => Some(who),
                    Place::Etcd | Place::Others | Place::Everybody => None,
                })
                .collect(),
            Step::Start
            | Step::Wait(_)
            | Step::Writers(_)
            | Step::HealNetwork
            | Step::KillEtcd(_)
            | Step::StartEtcd
            | Step::Switchover(None)
            | Step::Pause(_)
            | Step::Set(_)
            | Step::SetParameter { .. } => Vec::new(),
        }
    }
}

/// Something that must be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// What.
    pub condition: Condition,
    /// When.
    pub bound: Bound,
}

/// When a condition must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// At some moment until then, counted from the last step.
    Within(Span),
    /// All the time, counted from this line.
    For(Span),
    /// Now.
    Now,
}

/// A state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds the lock and accepts writes.
    Primary,
    /// It streams from the primary.
    Replica,
    /// PostgreSQL answers and is in recovery, whoever leads.
    ReadOnly,
    /// No process of the data directory is left.
    Down,
}

/// What can be expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Exactly one member is primary, and not this one.
    Primary {
        /// Whoever does not count.
        other_than: Option<Who>,
    },
    /// Nobody accepts writes.
    NoPrimary,
    /// The member is, or is not, in this state.
    Is {
        /// The member.
        who: Who,
        /// `false`: it must not be so.
        be: bool,
        /// The state.
        state: State,
    },
    /// One primary, every other member streams from it, and all publish that they run.
    Whole,
    /// A row is acknowledged after this line was reached.
    Writes,
    /// None is.
    NoWrites,
    /// No longer than that between two acknowledged rows, since the last step.
    NoGap(Span),
    /// The timeline of the primary.
    Timeline(u32),
    /// The member publishes (or not) that a parameter waits for a restart.
    PendingRestart {
        /// The member.
        who: Who,
        /// `false`: it must not.
        pending: bool,
    },
    /// The primary has every row that was ever acknowledged.
    NoRowLost,
}

impl Condition {
    /// The member whom it is about.
    pub fn about(&self) -> Option<&Who> {
        match self {
            Condition::Primary { other_than } => other_than.as_ref(),
            Condition::Is { who, .. } | Condition::PendingRestart { who, .. } => Some(who),
            Condition::NoPrimary
            | Condition::Whole
            | Condition::Writes
            | Condition::NoWrites
            | Condition::NoGap(_)
            | Condition::Timeline(_)
            | Condition::NoRowLost => None,
        }
    }
}
