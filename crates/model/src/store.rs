//! Operations on the lock service and their answers, as data: the same list goes to etcd and to
//! the simulator's fake. Every write names what it was decided on.

use crate::{Failover, History, Member, Span, Status, Sync, SystemId, Time};
use alloc::collections::BTreeMap;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// How long after a proof that the picture of the keys is current the next one is asked for, where news of the watch
/// are not enough and the lock's lease lives for `lease_ttl`. A lease of less than 4 s is over before a rare proof
/// would find out that the watch does not deliver. Up to 5 s those who look at it read as often, two fifths of it: an
/// eighth later there is nothing left to ask.
pub fn proof_pause(lease_ttl: Span) -> Span {
    if lease_ttl < Span::from_secs(4) {
        return Span::from_millis(500);
    }
    let looks = lease_ttl * 2 / 5;
    match looks > Span::from_secs(2) {
        true => Span::from_secs(2),
        false => looks * 9 / 8,
    }
}

/// One guarded write. `expected` is the revision the key was seen at; `None`: it was absent.
/// A write whose guard does not hold changes nothing and is answered with [`Answer::Refused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Create `leader` under the leader lease, which is renewed (or granted) first. Refused if
    /// the key exists; or if `status` or `failover` is newer than the picture: somebody else has led since, or has been
    /// named, and an order that arrives late must not take a later vacancy on the judgement of an earlier one.
    AcquireLeader {
        /// Revision of the picture that showed the lock free.
        seen: u64,
    },
    /// Put `leader` under our present leader lease: it carries our name, but another lease.
    ReattachLeader {
        /// Term that is held.
        create_revision: u64,
    },
    /// In one transaction: delete `leader`, write `status` and the own member key, so that
    /// whoever sees the lock free also sees why.
    ReleaseLeader {
        /// Term that is held.
        create_revision: u64,
        /// Last change of the key as seen: whoever has put it under another lease since goes on with it,
        /// and an order that arrives late must not take it away.
        mod_revision: u64,
        /// Last words: end of the WAL.
        status: Option<Status>,
        /// Own member key, saying that PostgreSQL is not writable any more.
        member: Option<Member>,
    },
    /// Own member key under the member lease; refused if it is not the one of the picture any more.
    PutMember(Member),
    /// Create `initialize` (empty: bootstrap begins; the key lives under the member lease until the
    /// bootstrap is done), or replace it.
    PutInitialize {
        /// `None`: bootstrap under way.
        system_id: Option<SystemId>,
        /// Revision seen.
        expected: Option<u64>,
    },
    /// Remove `initialize` after a failed bootstrap.
    DeleteInitialize {
        /// Revision seen.
        expected: u64,
    },
    /// Dynamic configuration, JSON text.
    PutConfig {
        /// JSON object.
        text: String,
        /// Revision seen.
        expected: Option<u64>,
    },
    /// `status`, only while this term of leadership lasts.
    PutStatus {
        /// Value.
        status: Status,
        /// Term that is held.
        term: u64,
    },
    /// `sync`, only while this term of leadership lasts.
    PutSync {
        /// Value.
        sync: Sync,
        /// Revision seen.
        expected: Option<u64>,
        /// Term that is held.
        term: u64,
    },
    /// Remove `sync`.
    DeleteSync {
        /// Revision seen.
        expected: u64,
        /// Term that is held.
        term: u64,
    },
    /// A request for a switchover or failover; an empty one cleans up.
    PutFailover {
        /// Value.
        failover: Failover,
        /// Revision seen.
        expected: Option<u64>,
    },
    /// `failsafe`, only while this term of leadership lasts.
    PutFailsafe {
        /// API addresses by member.
        members: BTreeMap<String, String>,
        /// Revision seen.
        expected: Option<u64>,
        /// Term that is held.
        term: u64,
    },
    /// `history`, only while this term of leadership lasts.
    PutHistory {
        /// Value.
        history: History,
        /// Term that is held.
        term: u64,
    },
    /// Ask how long the leader's lease has to live.
    LookAtLease {
        /// Lease of the `leader` key.
        lease: i64,
    },
    /// Read everything anew, linearizably.
    Refresh,
}

/// What the store said to an [`Op`]. Failure to get an answer is an error of the hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Written, at this revision.
    Done {
        /// Store revision of the write.
        revision: u64,
    },
    /// The guard did not hold: somebody else changed it. Look again.
    Refused,
    /// Answer to [`Op::LookAtLease`].
    Lease(LeaseSight),
}

/// What is known about the renewal of another node's leader lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSight {
    /// The lease.
    pub lease: i64,
    /// Life granted to it; zero: the store does not know it (any more).
    pub granted: Span,
    /// Remaining life, whole seconds rounded down (etcd's answer).
    pub remaining: Span,
    /// When the question was sent.
    pub asked: Time,
    /// When the answer came.
    pub answered: Time,
}

impl LeaseSight {
    /// The latest moment at which the lease can have been renewed, given this answer: etcd
    /// rounds the remaining life down to whole seconds.
    pub fn renewed_before(&self) -> Time {
        self.answered + self.remaining + Span::from_secs(1) - self.granted
    }
}

/// What a member of etcd has told of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftAnswer {
    /// Its id.
    pub member: u64,
    /// Its raft term, at some moment between the two that follow.
    pub term: u64,
    /// When the question was sent; taken before that.
    pub asked: Time,
    /// When the answer came.
    pub answered: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_come_after_looks_and_before_a_lease_is_over() {
        for (lease, pause) in [(3, 500), (4, 1800), (5, 2250), (6, 2000), (20, 2000)] {
            let pause = Span::from_millis(pause);
            assert_eq!(proof_pause(Span::from_secs(lease)), pause, "L {lease}");
        }
    }
}
