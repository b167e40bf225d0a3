//! The cluster as the lock service shows it (contract: patroni-dcs, section 2).

use crate::{Lsn, MemberName, PostgresState, Role, SystemId, Timeline, WallTime};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A value together with the store's revision of its last change, which guards later writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored<T> {
    /// The value.
    pub value: T,
    /// etcd's mod revision of the key.
    pub revision: u64,
}

/// One consistent picture of all keys below `/<namespace>/<scope>/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Revision of the store this picture shows.
    pub revision: u64,
    /// `initialize`.
    pub initialize: Option<Stored<Initialize>>,
    /// `config`: the dynamic configuration as text; the body parses it into `Settings`.
    pub config: Option<Stored<Config>>,
    /// `leader`.
    pub leader: Option<Leader>,
    /// Revision at which the last `leader` key was deleted, if that was seen as an event: a
    /// member key of the same revision or a later one tells what its holder was by then.
    pub leader_deleted: Option<u64>,
    /// Create revision of the `leader` key that was deleted then; `None`: others may have been there since
    /// the last one that was seen.
    #[serde(default)]
    pub leader_ended: Option<u64>,
    /// `members/*`.
    pub members: BTreeMap<MemberName, Stored<Member>>,
    /// `status` (or the older `optime/leader`).
    pub status: Option<Stored<Status>>,
    /// `sync`; absent: never activated.
    pub sync: Option<Stored<Sync>>,
    /// `failover`; an empty object counts as nothing asked but keeps its revision.
    pub failover: Option<Stored<Failover>>,
    /// `failsafe`: API addresses by member.
    pub failsafe: Option<Stored<BTreeMap<String, String>>>,
    /// `history`.
    pub history: Option<Stored<History>>,
}

impl Cluster {
    /// Name of the holder of the lock.
    pub fn leader_name(&self) -> Option<&MemberName> {
        self.leader.as_ref().map(|leader| &leader.name)
    }

    /// A member by name.
    pub fn member(&self, name: &MemberName) -> Option<&Member> {
        self.members.get(name).map(|stored| &stored.value)
    }

    /// Member key of the holder of the lock.
    pub fn leader_member(&self) -> Option<&Member> {
        self.member(self.leader_name()?)
    }

    /// System identifier, once a bootstrap has finished.
    pub fn system_id(&self) -> Option<SystemId> {
        match self.initialize.as_ref()?.value {
            Initialize::Done(id) => Some(id),
            Initialize::UnderWay | Initialize::Invalid(_) => None,
        }
    }

    /// What is asked for in `failover`, if anything.
    pub fn failover_request(&self) -> Option<&Failover> {
        let request = &self.failover.as_ref()?.value;
        (request.leader.is_some() || request.member.is_some()).then_some(request)
    }

    /// Leader's last published position.
    pub fn optime(&self) -> Option<Lsn> {
        self.status
            .as_ref()
            .map(|status| status.value.optime)
            .filter(|lsn| *lsn != Lsn(0))
    }
}

/// Value of `initialize`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Initialize {
    /// Empty: a bootstrap is under way.
    UnderWay,
    /// The cluster's system identifier.
    Done(SystemId),
    /// Something else.
    Invalid(String),
}

/// Value of `config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// JSON text as stored; unknown keys are kept.
    pub text: String,
    /// It is a JSON object; anything else is no configuration.
    pub is_object: bool,
}

/// The `leader` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its value.
    pub name: MemberName,
    /// The lease it lives under; 0: none.
    pub lease: i64,
    /// Revision at which it was created: identifies one term of leadership.
    pub create_revision: u64,
    /// Revision of its last change.
    pub mod_revision: u64,
}

/// Dotted version of an agent; `None` parts are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u32, pub u32, pub u32);

/// Value of `members/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Last part of the key.
    pub name: MemberName,
    /// `conn_url` as published, without credentials. Empty if missing.
    pub conn_url: String,
    /// Host and port of `conn_url`, if it is a URL at all: a broken one must not stop anybody.
    pub address: Option<(String, u16)>,
    /// `api_url`. Empty if missing.
    pub api_url: String,
    /// `proxy_url`.
    pub proxy_url: Option<String>,
    /// `state`; `None`: a text nobody knows.
    pub state: Option<PostgresState>,
    /// `role`.
    pub role: Option<Role>,
    /// `version` of the agent; `None`: unparsable, treated as ancient.
    pub version: Option<Version>,
    /// `xlog_location`.
    pub xlog_location: Option<Lsn>,
    /// `receive_lsn`.
    pub receive_lsn: Option<Lsn>,
    /// `replay_lsn`.
    pub replay_lsn: Option<Lsn>,
    /// `timeline`.
    pub timeline: Option<Timeline>,
    /// `replication_state`: `streaming` or `in archive recovery`.
    pub replication_state: Option<String>,
    /// `checkpoint_after_promote`: `Some(false)` until the checkpoint after a promotion is done.
    pub checkpoint_after_promote: Option<bool>,
    /// `tags`.
    pub tags: Tags,
    /// `guard` is `missing`: it leads without the protection that its settings ask for. Patroni knows
    /// no such key.
    pub guard_missing: bool,
    /// `pending_restart`.
    pub pending_restart: bool,
    /// `pending_restart_reason`, by name: (value in force, new value).
    pub pending_restart_reason: Vec<(String, String, String)>,
    /// It is about to restart and asks to be let out of synchronous duty first: it publishes
    /// `nosync: true, sync_priority: 0`. Found as tags, not as a field.
    pub leaves_sync: bool,
    /// `scheduled_restart` as JSON text.
    pub scheduled_restart: Option<String>,
    /// `pause`: this node has noticed the pause.
    pub pause: bool,
    /// Lease of the key as found; 0 when not known. Not part of the value.
    pub lease: i64,
}

/// `tags` of a member: those that decide something, and all of them as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tags {
    /// Never becomes leader (also by `failover_priority` <= 0).
    pub nofailover: bool,
    /// Preferred source of copies.
    pub clonefrom: bool,
    /// Health check for replicas answers 503.
    pub noloadbalance: bool,
    /// Never synchronous (also by `sync_priority` <= 0).
    pub nosync: bool,
    /// Does not stream.
    pub nostream: bool,
    /// `replicatefrom`.
    pub replicatefrom: Option<MemberName>,
    /// `failover_priority`, default 1.
    pub failover_priority: i64,
    /// `sync_priority`, default 1.
    pub sync_priority: i64,
    /// All published tags, JSON object as text, types as in the YAML.
    pub json: String,
}

impl Default for Tags {
    fn default() -> Self {
        Tags {
            nofailover: false,
            clonefrom: false,
            noloadbalance: false,
            nosync: false,
            nostream: false,
            replicatefrom: None,
            failover_priority: 1,
            sync_priority: 1,
            json: String::from("{}"),
        }
    }
}

/// Value of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Leader's position; 0 when absent.
    pub optime: Lsn,
    /// Positions of slots by name.
    pub slots: BTreeMap<String, Lsn>,
    /// Slots of members seen lately.
    pub retain_slots: Vec<String>,
    /// Other fields as found, a JSON object as text; empty: none. They are kept where only `optime`
    /// is written.
    pub other: String,
}

/// Value of `sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sync {
    /// Leader that wrote it.
    pub leader: Option<MemberName>,
    /// Synchronous standbys (priority mode) or voters (quorum mode), sorted.
    pub standbys: Vec<MemberName>,
    /// Votes needed; 0 outside quorum mode.
    pub quorum: usize,
}

/// Value of `failover`: `leader` set = switchover, not set = manual failover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Who gives up the lock.
    pub leader: Option<MemberName>,
    /// Who is to take it.
    pub member: Option<MemberName>,
    /// Not before then; `None`: now.
    pub scheduled_at: Option<Schedule>,
}

/// When something is to happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// As it is stored and shown: ISO 8601 with the offset that was asked for,
    /// `2030-01-01T00:00:00+00:00`.
    pub text: String,
    /// The moment; `None`: somebody wrote what is no time with a zone.
    pub at: Option<WallTime>,
}

/// Value of `history`, oldest first.
pub type History = Vec<HistoryLine>;

/// One past timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where it ended.
    pub end: Lsn,
    /// Reason from the history file.
    pub reason: String,
    /// ISO 8601; missing in old entries.
    pub timestamp: Option<String>,
    /// Who was promoted; missing in old entries.
    pub leader: Option<MemberName>,
}
