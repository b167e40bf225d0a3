//! What can happen next, and to whom.

use std::rc::Rc;

use pgherd_model::{Cluster, Op, RaftAnswer, Span, Time};

use crate::election::Step;
use crate::faults::Fault;

/// Number of nodes.
pub(crate) const NODES: usize = 3;
/// Place of etcd in the matrix of links.
pub(crate) const ETCD: usize = NODES;

/// A request to etcd.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    /// An order; with the revision of the own member key in the picture it was given on.
    Store { op: Rc<Op>, member: Option<u64> },
    /// Grant or renew the leader lease.
    Renew,
    /// Keep the member lease alive.
    Member,
    /// Read everything.
    Read,
}

/// An answer of etcd.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Store(pgherd_model::Answer),
    /// The lease and its life; `None`: etcd does not know it.
    Lease(Option<(i64, Span)>),
    Read,
}

/// Who kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killer {
    /// A job of the agent, by number.
    Job(u64),
    /// A guard, by number.
    Guard(u64),
}

/// `run` names one life of an agent, `epoch` one life of a PostgreSQL: what was meant for another
/// life is ignored.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A request arrives at etcd.
    Request {
        node: usize,
        run: u64,
        id: u64,
        call: Call,
    },
    /// Its answer arrives, with the picture of that moment.
    Answer {
        node: usize,
        run: u64,
        id: u64,
        reply: Reply,
        picture: Rc<Cluster>,
        /// The term in which etcd answered.
        term: u64,
    },
    /// No answer came in time.
    NoAnswer { node: usize, run: u64, id: u64 },
    /// A watch event arrives.
    Watch {
        node: usize,
        run: u64,
        picture: Rc<Cluster>,
    },
    /// The keeper reads to prove its picture.
    Keeper { node: usize, run: u64 },
    /// An election of etcd goes on.
    Election(Step),
    /// The renewal thread asks etcd's members for their terms.
    Raft { node: usize, run: u64 },
    /// Such a question arrives.
    RaftAsked {
        node: usize,
        run: u64,
        member: usize,
        asked: Time,
    },
    /// Its answer arrives.
    RaftTold {
        node: usize,
        run: u64,
        answer: RaftAnswer,
    },
    /// A lease may be over.
    Lease { id: i64, expires: Time },
    /// It is deleted.
    Revoke { id: i64, expires: Time },
    /// The loop is to look.
    Wake { node: usize, run: u64, number: u64 },
    /// The look at PostgreSQL is done.
    Decide { node: usize, run: u64 },
    /// An order that took time is done: `changed`, or failed.
    Performed {
        node: usize,
        run: u64,
        number: u64,
        outcome: Option<bool>,
    },
    /// The renewal thread wakes.
    Renewal { node: usize, run: u64, number: u64 },
    /// A question arrives at a peer.
    Question {
        from: usize,
        run: u64,
        to: usize,
        ask: u64,
    },
    /// The answer of a peer arrives, or its time is over.
    PeerAnswer {
        node: usize,
        run: u64,
        ask: u64,
        answer: Option<Box<pgherd_model::PeerStatus>>,
    },
    /// The next round of the failsafe mode may be due.
    Round { node: usize, run: u64, number: u64 },
    /// A question of such a round arrives.
    FailsafeAsked {
        to: usize,
        question: Box<crate::failsafe::Question>,
    },
    /// Its answer arrives.
    FailsafeTold {
        node: usize,
        run: u64,
        round: u64,
        by: usize,
        accepted: bool,
    },
    /// A history was read, or not.
    History {
        node: usize,
        run: u64,
        of: usize,
        asked: Time,
        timeline: u32,
    },
    /// A probe ended.
    Probe {
        node: usize,
        run: u64,
        sent: Time,
        ends: Time,
    },
    /// The next step of the job.
    Job { node: usize, run: u64, number: u64 },
    /// The next step of killing.
    Kill {
        node: usize,
        run: u64,
        killer: Killer,
    },
    /// A guard's timer.
    Guard { node: usize, number: u64 },
    /// PostgreSQL accepts connections.
    Ready { node: usize, epoch: u64 },
    /// It is out of recovery.
    Promoted { node: usize, epoch: u64 },
    /// A stop goes on.
    Stopping { node: usize, epoch: u64, step: u8 },
    /// The postmaster is gone.
    Dead { node: usize, epoch: u64 },
    /// A checkpoint is done.
    Checkpoint { node: usize, epoch: u64 },
    /// A reload is in force.
    Reload { node: usize, epoch: u64 },
    /// The checkpointer acts on the last reload, and with it everybody who commits.
    Applied { node: usize, epoch: u64 },
    /// The standby tries to stream.
    Connect { node: usize, epoch: u64 },
    /// WAL arrives.
    Receive { node: usize, conn: u64 },
    /// The standby's word arrives at its upstream.
    Flushed { node: usize, conn: u64, lsn: u64 },
    /// The stream is broken, as the standby sees it.
    Broken { node: usize, conn: u64 },
    /// A client goes on.
    Client { client: usize },
    /// A statement commits.
    Commit {
        client: usize,
        node: usize,
        pid: u32,
        epoch: u64,
        length: u64,
    },
    /// The client would get its answer.
    Acknowledge {
        client: usize,
        node: usize,
        pid: u32,
        epoch: u64,
        row: u64,
        lsn: u64,
    },
    /// Something goes wrong, or is healed.
    Fault(Fault),
    /// The next fault is drawn.
    Chaos,
    /// Somebody schedules something, or sets a clock.
    Calendar,
    /// The other cluster goes on.
    Far,
    /// The world looks whether it has converged.
    Look,
}
