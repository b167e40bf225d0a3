//! Facts about one local PostgreSQL, as `instance` reports them.

use crate::{Lsn, SystemId, Timeline};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Names that PostgreSQL's server program is known by, in its packages and their forks. Where it is
/// called otherwise, the configuration says so.
pub const SERVER_PROGRAMS: [&str; 3] = ["postgres", "postmaster", "edb-postgres"];

/// State of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataDir {
    /// Missing or without any file.
    Empty,
    /// Holds a database cluster.
    Initialized,
    /// A bootstrap or copy was begun by us and did not finish: ours to remove.
    Unfinished,
    /// Something else: not ours to touch. The text says what and the remedy.
    Unusable(String),
}

/// `Database cluster state` of pg_control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControlState {
    /// starting up
    StartingUp,
    /// shut down
    ShutDown,
    /// shut down in recovery
    ShutDownInRecovery,
    /// shutting down
    ShuttingDown,
    /// in crash recovery
    InCrashRecovery,
    /// in archive recovery
    InArchiveRecovery,
    /// in production
    InProduction,
}

/// What pg_control says. After an unclean stop it proves divergence, never its absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    /// System identifier.
    pub system_id: SystemId,
    /// State.
    pub state: ControlState,
    /// Timeline of the latest checkpoint.
    pub timeline: Timeline,
    /// Start of the latest checkpoint record.
    pub checkpoint: Lsn,
    /// Minimum recovery ending location; 0 when not in recovery.
    pub min_recovery_end: Lsn,
    /// Its timeline.
    pub min_recovery_timeline: Timeline,
    /// Data checksums or wal_log_hints are on: pg_rewind can work.
    pub rewindable: bool,
}

/// The postmaster as a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Postmaster {
    /// No process of the data directory is left.
    Down,
    /// The postmaster is gone, but this many of its children are still there.
    Leftovers(u32),
    /// It lives.
    Alive {
        /// Process id.
        pid: u32,
    },
}

/// How to stop PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopMode {
    /// Ends sessions, writes the shutdown checkpoint.
    Fast,
    /// No checkpoint: crash recovery at the next start.
    Immediate,
    /// The fence's way (architecture, Safety 2): nothing acknowledges any more.
    Kill,
}

/// Where a standby is to stream from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// `primary_slot_name`, if slots are used.
    pub slot: Option<String>,
    /// Other places, tried in turn until one is found that is writable: only those of another cluster's primary.
    #[serde(default)]
    pub others: Vec<(String, u16)>,
}

impl Upstream {
    /// All places, in the order in which they are tried.
    pub fn places(&self) -> impl Iterator<Item = (&str, u16)> {
        let others = self
            .others
            .iter()
            .map(|(host, port)| (host.as_str(), *port));
        core::iter::once((self.host.as_str(), self.port)).chain(others)
    }
}

/// pg_stat_wal_receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receiver {
    /// `status` is `streaming`.
    pub streaming: bool,
    /// `received_tli`.
    pub timeline: Timeline,
    /// `sender_host`.
    pub host: String,
    /// `sender_port`.
    pub port: u16,
    /// `slot_name`.
    pub slot: Option<String>,
    /// `latest_end_lsn`: the sender's end of WAL as last told.
    pub latest_end: Lsn,
}

/// Positions read from a running PostgreSQL at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WalPositions {
    /// Primary: flushed. 0 in recovery.
    pub flushed: Lsn,
    /// Standby: received and flushed (docs/decisions/0007).
    pub received: Lsn,
    /// Standby: replayed.
    pub replayed: Lsn,
}

impl WalPositions {
    /// What counts when positions are compared: primary's flush, or max(receive, replay).
    pub fn position(&self) -> Lsn {
        self.flushed.max(self.received).max(self.replayed)
    }
}

/// Kind of a replication slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotKind {
    /// Physical.
    Physical,
    /// Logical, with database and plugin.
    Logical {
        /// Database.
        database: String,
        /// Output plugin.
        plugin: String,
    },
}

/// One row of pg_replication_slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: SlotKind,
    /// In use.
    pub active: bool,
    /// Temporary slots are nobody's business.
    pub temporary: bool,
    /// `restart_lsn`.
    pub restart: Option<Lsn>,
    /// `confirmed_flush_lsn`.
    pub confirmed_flush: Option<Lsn>,
    /// Holds back vacuum (`xmin` or `catalog_xmin` set).
    pub holds_xmin: bool,
    /// `wal_status` is `lost`.
    pub lost: bool,
    /// A failover slot of PostgreSQL 17+.
    pub failover: bool,
}

/// One row of pg_stat_replication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// Process of its WAL sender.
    #[serde(default)]
    pub pid: u32,
    /// `application_name`.
    pub name: String,
    /// `usename`.
    pub user: String,
    /// `client_addr`.
    pub address: Option<String>,
    /// `state`.
    pub state: String,
    /// `sync_state`.
    pub sync_state: String,
    /// `sync_priority`.
    pub sync_priority: i64,
    /// `write_lsn`.
    pub written: Lsn,
    /// `flush_lsn`.
    pub flushed: Lsn,
    /// `replay_lsn`.
    pub replayed: Lsn,
}

/// Everything a running PostgreSQL says in one look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Primary: of the current WAL file. Standby: of what is being received, else of the control file.
    pub timeline: Timeline,
    /// Positions.
    pub wal: WalPositions,
    /// The WAL receiver, if there is one.
    pub receiver: Option<Receiver>,
    /// `primary_conninfo`'s host and port and `primary_slot_name`, as PostgreSQL has them now.
    pub upstream: Option<Upstream>,
    /// Slots.
    pub slots: Vec<Slot>,
    /// Attached standbys.
    pub standbys: Vec<Standby>,
    /// `pg_postmaster_start_time()` as text `2026-11-21 00:21:11.967788+00:00`.
    pub start_time: String,
    /// `server_version_num`.
    pub server_version: u32,
    /// Replay is paused.
    pub replay_paused: bool,
    /// `pg_last_xact_replay_timestamp()` in the same form as `start_time`.
    pub replayed_at: Option<String>,
    /// `synchronous_standby_names` as sessions know it.
    pub synchronous_standby_names: String,
    /// The checkpointer waits for work: it has acted on every reload before this moment.
    pub checkpointer_ready: bool,
    /// `restore_command` is set: a standby that does not stream recovers from an archive.
    pub restore_command: bool,
    /// Settings with `pending_restart`, by name: (value in force, value in the file).
    pub pending_restart: Vec<(String, String, String)>,
}
