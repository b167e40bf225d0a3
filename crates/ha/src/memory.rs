//! What one decision leaves for the next: timers started, failures counted. Small and explicit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{Lsn, MemberName, Span, Sync, Time};
use serde::{Deserialize, Serialize};

use crate::beat::Beat;
use crate::failsafe::Standing;
use crate::view::LeaseFact;

/// Kept between two looks; lost with the agent, so nothing here may be needed for safety after
/// a restart of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// First moment the lock service could be read.
    pub first_fresh: Option<Time>,
    /// Other members that were seen while no holder of the lock was.
    #[serde(default)]
    pub met: BTreeSet<MemberName>,
    /// The last holder of the lock other than this node.
    pub former: Option<Former>,
    /// Term (create revision) of the lock while this node holds it.
    pub term: Option<u64>,
    /// The term whose release was ordered: whatever the picture says, this node does not hold it
    /// any more, since the order may have been carried out without an answer.
    pub released: Option<u64>,
    /// The last term of the lock that this agent has held under a lease of its own.
    pub attached_term: Option<u64>,
    /// Since when the lock of somebody else has had no lease.
    pub leaseless_since: Option<Time>,
    /// The agent is to end: since when this node asks to be let out of synchronous duty first.
    pub stepping_out: Option<Time>,
    /// The agent ends and PostgreSQL is down: since when the member key has been about to say so.
    pub farewell_since: Option<Time>,
    /// Since when the lock carries this node's name, but not its present lease.
    pub detached_since: Option<Time>,
    /// When the lock was last deleted, as of the last look at a free lock.
    pub leader_deleted: Option<u64>,
    /// Since when the lock service has not been readable.
    pub blind_since: Option<Time>,
    /// When the lock service had last told something, as of the last look that could read it.
    pub heard: Option<Time>,
    /// The last sign of life of whoever holds the lock.
    #[serde(default)]
    pub beat: Option<Beat>,
    /// Revision of the last `failover` request, and when it was first seen.
    pub request_seen: Option<(u64, Time)>,
    /// Revision of a `failover` request that was tried and could not be served.
    pub refused_request: Option<u64>,
    /// Promotions in a row that were ordered in this term and did not begin.
    pub not_begun: u32,
    /// A planned demotion under way.
    pub demotion: Option<Demotion>,
    /// PostgreSQL was a primary under this node's lock when last seen.
    pub was_primary: bool,
    /// This node gave up the lock and was not seen in recovery since.
    pub demoted: bool,
    /// Since when pg_control has said that PostgreSQL is shut down while processes are left of it, the archiver not
    /// among them: WAL senders wait for standbys that do not have everything yet.
    #[serde(default)]
    pub senders_since: Option<Time>,
    /// Processes of its WAL senders and what their standbys call themselves, as of the last look.
    #[serde(default)]
    pub senders: BTreeMap<u32, String>,
    /// Since when a stop of PostgreSQL has waited for them, and for nothing else, before its last checkpoint.
    #[serde(default)]
    pub stopping_since: Option<Time>,
    /// When some of them were last told to end.
    #[serde(default)]
    pub senders_told: Option<Time>,
    /// When PostgreSQL was first found dead under the lock.
    pub crashed_at: Option<Time>,
    /// The lock is to be given up as soon as nothing of PostgreSQL is left.
    pub give_up: Option<String>,
    /// After giving up the lock, others go first until then.
    pub stand_back_until: Option<Time>,
    /// `pre_promote` has forbidden a promotion: until then this node takes no lock, alone or not.
    #[serde(default)]
    pub forbidden_until: Option<Time>,
    /// What `/sync` said before it was claimed for a promotion in this term.
    #[serde(default)]
    pub sync_claim: Option<SyncClaim>,
    /// After giving up the lock PostgreSQL is not started before then unless there is a new leader:
    /// the promotion has the machine and the network to itself.
    pub rest_until: Option<Time>,
    /// Failures of starting.
    pub start: Backoff,
    /// Failures of copying.
    pub copy: Backoff,
    /// Failures of single-user crash recovery.
    pub recovery: Backoff,
    /// Failures of pg_rewind.
    pub rewind: Backoff,
    /// Last time the member key was written for positions alone.
    pub member_written: Option<Time>,
    /// Last time `status` was written, or would have been.
    pub status_written: Option<Time>,
    /// Last time it told something new.
    #[serde(default)]
    pub status_told: Option<Time>,
    /// Last time a standby was told (again) from whom to stream.
    pub reminded: Option<Time>,
    /// When the stream from the leader was first seen broken.
    pub stream_broken: Option<Time>,
    /// Since when the leader's lease has not been renewed as it should be.
    pub lease_stale: Option<Time>,
    /// The lease that the lock lived under when this node last held it for certain. Until the lock
    /// is seen under another one its deadlines count, also when nothing renews it any more.
    pub held: Option<LeaseFact>,
    /// What this node knows of `/failsafe` as the leader that writes it.
    #[serde(default)]
    pub failsafe: Option<Standing>,
    /// Since when members that `/failsafe` names have had no key.
    #[serde(default)]
    pub failsafe_absent: BTreeMap<String, Time>,
    /// Since when a free lock has been known to be free of every lease, while `/failsafe` does not name this node.
    #[serde(default)]
    pub unnamed_since: Option<Time>,
    /// When each of several waits in rules began: since when the lock has been seen free.
    pub free_since: Option<Time>,
    /// The checkpoint after the promotion to this timeline was asked for then.
    pub checkpoint_asked: Option<Time>,
    /// When each member's slot was last needed, as of the term of the lock in `slots_term`.
    pub slots_seen: BTreeMap<String, Time>,
    /// The term whose leader keeps `slots_seen`.
    pub slots_term: Option<u64>,
    /// Term and revision of `/sync` that its last change was decided on. As long as the picture shows that revision the
    /// change may have been made, or not.
    #[serde(default)]
    pub sync_put: Option<(u64, Option<u64>)>,
    /// What `synchronous_standby_names` was last told to be.
    pub sync_told: Option<String>,
    /// Since when PostgreSQL has said that it is so.
    pub sync_seen: Option<Time>,
    /// The end of the WAL when every commit was known to wait for it.
    pub sync_from: Option<Lsn>,
    /// PostgreSQL was taken down by a switchover: it comes back as a standby, also in a pause.
    pub rejoins: bool,
    /// People's orders for now up to this number were begun or dropped.
    pub dealt_with: u64,
    /// Likewise their restarts at a time: one for now that is dropped takes none of these with it.
    #[serde(default)]
    pub scheduled_dealt: u64,
    /// A restart under way.
    pub restart: Option<Restarting>,
    /// Number of the last restart that came to its end or to the end of its time, and how.
    pub restarted: Option<(u64, Restarted)>,
    /// The data are being copied anew because somebody asked for it.
    pub reinitialize: Option<Reinitializing>,
    /// Number of the last order for a new copy that was dropped, and why.
    #[serde(default)]
    pub copy_refused: Option<(u64, String)>,
    /// Logical slots that are to be copied from the leader.
    #[serde(default)]
    pub slot_copy: SlotCopy,
    /// The postmaster that has answered a look, while it lives.
    #[serde(default)]
    pub answered: Option<Answered>,
}

impl Memory {
    /// This postmaster has answered before: it has come up, whatever it does now.
    pub(crate) fn has_answered(&self, pid: u32) -> bool {
        self.answered.as_ref().is_some_and(|it| it.pid == pid)
    }

    /// Settings that wait for a restart of the PostgreSQL that runs, as it last said.
    pub(crate) fn pending_restart(&self) -> &[(String, String, String)] {
        let answered = self.answered.as_ref();
        answered.map_or(&[], |it| it.pending_restart.as_slice())
    }
}

/// What is remembered of logical slots that a standby lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCopy {
    /// Since when some have been missing.
    pub missing_since: Option<Time>,
    /// Since when this node has been about to restart PostgreSQL for them, and is not to be waited for.
    pub leaving: Option<Time>,
    /// Copies that were tried, whatever came of them.
    pub tries: Backoff,
}

/// A claim on `/sync` that can be taken back, as long as nothing has made PostgreSQL a primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncClaim {
    /// The term of the lock.
    pub term: u64,
    /// What was there; `None`: nothing.
    pub before: Option<Sync>,
    /// A promotion was ordered since.
    pub used: bool,
}

/// What is known of a postmaster also while it gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Its process id.
    pub pid: u32,
    /// Settings that wait for its end: name, value in force, value in the file, with units.
    pub pending_restart: Vec<(String, String, String)>,
}

/// What came of a restart that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restarted {
    /// PostgreSQL runs again.
    Runs,
    /// It was not stopped, or not started.
    Failed,
    /// It was started, and its time was over before it answered.
    Starting,
}

/// A restart of PostgreSQL that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarting {
    /// Number of the order.
    pub number: u64,
    /// When it began.
    pub since: Time,
    /// How long the start may take; `None`: `primary_start_timeout`.
    pub timeout: Option<Span>,
    /// The stop was ordered; before that the node steps out of synchronous duty.
    pub stopping: bool,
    /// Since when PostgreSQL has been seen down.
    pub down_since: Option<Time>,
}

/// A new copy of the data that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinitializing {
    /// Copied from the leader, whoever is tagged `clonefrom`.
    pub from_leader: bool,
    /// The old data were seen gone.
    pub removed: bool,
    /// PostgreSQL was down or in recovery when it began, and nothing was making it a primary: it acknowledges no
    /// write while it is stopped and its data are removed.
    pub cannot_write: bool,
}

/// The last other holder of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Who.
    pub name: MemberName,
    /// Term (create revision) of its lock.
    #[serde(default)]
    pub term: u64,
    /// Lease of its lock.
    pub lease: i64,
    /// Life of that lease as far as known, else `ttl`.
    pub length: Span,
    /// `lease_ttl` as it was when this lease was first seen, or as it was raised to since.
    #[serde(default)]
    pub lease_ttl: Span,
    /// It was raised: the lock may have moved to a longer lease unseen.
    #[serde(default)]
    pub raised: bool,
    /// The lock is gone, and it is not known yet whether that was the end of this term: somebody else may have had it since.
    #[serde(default)]
    pub unsure: bool,
    /// No renewal can have happened after this, by what etcd said.
    pub renewed_before: Option<Time>,
    /// When that was last looked at.
    pub looked: Option<Time>,
    /// It led a standby cluster then: it had no guard that fires, and may go on when its lease does.
    #[serde(default)]
    pub copy: bool,
    /// When its lock was first seen gone.
    pub vanished: Option<Time>,
}

/// A planned demotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demotion {
    /// When it began.
    pub since: Time,
    /// Revision of the request that it serves; `None`: nobody asked for it.
    pub request: Option<u64>,
    /// To whom; `None`: whoever is best.
    pub candidate: Option<MemberName>,
    /// A manual failover: it may go to a member that is not synchronous.
    pub manual: bool,
    /// `switchover`, `manual failover` or `no guard`.
    pub word: String,
    /// When the last process was found gone.
    pub down_since: Option<Time>,
    /// Since when this node is about to go on as primary, and says so.
    pub taking_back: Option<Time>,
}

/// Failures in a row and when to try again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// In a row.
    pub failures: u32,
    /// Not before.
    pub not_before: Option<Time>,
    /// End of the job that was counted last.
    pub counted: Option<Time>,
}

impl Backoff {
    /// Counts a failure that ended at `ended`, once; the next try waits 1, 2, 4, ... 32 s.
    pub fn fail(&mut self, ended: Time) {
        if self.counted == Some(ended) {
            return;
        }
        self.counted = Some(ended);
        self.failures = self.failures.saturating_add(1);
        let seconds = 1_u64 << (self.failures - 1).min(5);
        self.not_before = Some(ended + Span::from_secs(seconds));
    }

    /// A try is due.
    pub fn due(&self, now: Time) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }

    /// Forgets failures.
    pub fn clear(&mut self) {
        *self = Backoff::default();
    }
}
