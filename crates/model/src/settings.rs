//! The settings that decisions depend on: effective values after defaults, dynamic and local
//! configuration were merged and ranges enforced (contract: patroni-config, section 2).

use crate::{Slot, SlotKind, Span, Upstream};
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// `synchronous_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SynchronousMode {
    /// Asynchronous replication.
    Off,
    /// A fixed list of synchronous standbys (priority).
    On,
    /// Any n of a set.
    Quorum,
}

/// `pgherd.guard`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuardMode {
    /// Used where it can be started; missing protection is shown.
    Automatic,
    /// No promotion without it.
    Required,
    /// Not used.
    Off,
}

/// `pgherd.crash_handover`: what follows the death of the postmaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CrashHandover {
    /// Restart in place, as `primary_start_timeout` says.
    Off,
    /// Hand over at once when `/sync` names a caught-up standby.
    Sync,
}

/// An entry of `ignore_slots`: a slot that has all that is named here is somebody else's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredSlot {
    /// `name`.
    pub name: Option<String>,
    /// `type`: `physical` or `logical`.
    pub kind: Option<String>,
    /// `database`.
    pub database: Option<String>,
    /// `plugin`.
    pub plugin: Option<String>,
}

impl IgnoredSlot {
    /// This is such a slot (contract: patroni-ha-rules, section 12).
    pub fn fits(&self, slot: &Slot) -> bool {
        let (kind, database, plugin) = match &slot.kind {
            SlotKind::Physical => ("physical", "", ""),
            SlotKind::Logical { database, plugin } => {
                ("logical", database.as_str(), plugin.as_str())
            }
        };
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.name, &slot.name)
            && is(&self.kind, kind)
            && is(&self.database, database)
            && is(&self.plugin, plugin)
    }
}

/// A permanent slot of type `logical`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalSlot {
    /// Name.
    pub name: String,
    /// `database`.
    pub database: String,
    /// `plugin`.
    pub plugin: String,
}

impl LogicalSlot {
    /// What PostgreSQL calls it.
    pub fn kind(&self) -> SlotKind {
        SlotKind::Logical {
            database: self.database.clone(),
            plugin: self.plugin.clone(),
        }
    }

    /// This slot of PostgreSQL's is the one that is meant: not only its name is the same.
    pub fn fits(&self, slot: &Slot) -> bool {
        slot.name == self.name && slot.kind == self.kind()
    }
}

/// `standby_cluster`: the cluster is a copy of another one, and has no primary of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyCluster {
    /// `host` and `port`: where the primary of the other cluster may be found, in the order in which that is tried. None:
    /// only its archive is read.
    pub places: Vec<(String, u16)>,
    /// `primary_slot_name`: the slot over there, if one is to be used.
    pub slot: Option<String>,
    /// One of its `create_replica_methods` needs nobody to copy.
    pub copies_alone: bool,
}

impl StandbyCluster {
    /// From where whoever leads this cluster streams.
    pub fn upstream(&self) -> Option<Upstream> {
        let ((host, port), others) = self.places.split_first()?;
        Some(Upstream {
            host: host.clone(),
            port: *port,
            slot: self.slot.clone(),
            others: others.to_vec(),
        })
    }
}

/// Effective settings of the cluster as this node sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `ttl`: life of the member key, and Patroni's lock.
    pub ttl: Span,
    /// `loop_wait`: the longest pause between two looks.
    pub loop_wait: Span,
    /// `retry_timeout`: how long etcd may be away before a leader gives up.
    pub retry_timeout: Span,
    /// `maximum_lag_on_failover`, bytes.
    pub maximum_lag_on_failover: u64,
    /// `check_timeline`.
    pub check_timeline: bool,
    /// `primary_start_timeout`; zero: fail over at once.
    pub primary_start_timeout: Span,
    /// `primary_stop_timeout`; zero: none.
    pub primary_stop_timeout: Span,
    /// `max_timelines_history`; 0: all.
    pub max_timelines_history: usize,
    /// `synchronous_mode`.
    pub synchronous_mode: SynchronousMode,
    /// `synchronous_mode_strict`.
    pub synchronous_mode_strict: bool,
    /// `synchronous_node_count`, 1 or more.
    pub synchronous_node_count: usize,
    /// `maximum_lag_on_syncnode`, bytes; `None`: never swap.
    pub maximum_lag_on_syncnode: Option<u64>,
    /// `synchronous_commit` of the server parameters: how far a commit waits for a synchronous standby.
    #[serde(default)]
    pub commits_wait: CommitsWait,
    /// `failsafe_mode`.
    pub failsafe_mode: bool,
    /// `pause`.
    pub pause: bool,
    /// `member_slots_ttl`.
    pub member_slots_ttl: Span,
    /// `postgresql.use_pg_rewind`.
    pub use_pg_rewind: bool,
    /// `postgresql.use_slots`.
    pub use_slots: bool,
    /// `postgresql.remove_data_directory_on_rewind_failure`.
    pub remove_data_directory_on_rewind_failure: bool,
    /// `postgresql.remove_data_directory_on_diverged_timelines`.
    pub remove_data_directory_on_diverged_timelines: bool,
    /// L: life of the leader lease, `pgherd.lease_ttl` or what follows from `ttl`
    /// (architecture, Leases). Whole seconds, 2 or more.
    pub lease_ttl: Span,
    /// `pgherd.hang_timeout`: how long PostgreSQL may fail to commit before it loses its licence.
    pub hang_timeout: Span,
    /// `pgherd.crash_handover`.
    pub crash_handover: CrashHandover,
    /// `pgherd.guard`.
    pub guard: GuardMode,
    /// Physical slots that are always kept (`slots` of type physical), by name.
    pub permanent_slots: Vec<String>,
    /// Logical slots that are always kept (`slots` of type logical), in the order of their names.
    #[serde(default)]
    pub logical_slots: Vec<LogicalSlot>,
    /// `ignore_slots`: never dropped.
    #[serde(default)]
    pub ignored_slots: Vec<IgnoredSlot>,
    /// `standby_cluster`. With it `synchronous_mode` and `failsafe_mode` count as off: there are no commits.
    #[serde(default)]
    pub standby_cluster: Option<StandbyCluster>,
}

/// What a synchronous standby has done with the WAL of a commit that is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommitsWait {
    /// `remote_write`: written.
    Written,
    /// `on`, and where nothing is waited for: flushed.
    #[default]
    Flushed,
    /// `remote_apply`: replayed.
    Replayed,
}

impl Default for Settings {
    /// Patroni's defaults; L = ttl - loop_wait.
    fn default() -> Self {
        Settings {
            ttl: Span::from_secs(30),
            loop_wait: Span::from_secs(10),
            retry_timeout: Span::from_secs(10),
            maximum_lag_on_failover: 1_048_576,
            check_timeline: false,
            primary_start_timeout: Span::from_secs(300),
            primary_stop_timeout: Span::ZERO,
            max_timelines_history: 0,
            synchronous_mode: SynchronousMode::Off,
            synchronous_mode_strict: false,
            synchronous_node_count: 1,
            maximum_lag_on_syncnode: None,
            commits_wait: CommitsWait::Flushed,
            failsafe_mode: false,
            pause: false,
            member_slots_ttl: Span::from_secs(1800),
            use_pg_rewind: false,
            use_slots: true,
            remove_data_directory_on_rewind_failure: false,
            remove_data_directory_on_diverged_timelines: false,
            lease_ttl: Span::from_secs(20),
            hang_timeout: Span::from_secs(30),
            crash_handover: CrashHandover::Off,
            guard: GuardMode::Automatic,
            permanent_slots: Vec::new(),
            logical_slots: Vec::new(),
            ignored_slots: Vec::new(),
            standby_cluster: None,
        }
    }
}
