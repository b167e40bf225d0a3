//! Names of members, roles and states, in Patroni's words (contract: patroni-rest, section 3).

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// `name` of a node in its YAML: unique in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberName(pub String);

impl MemberName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for MemberName {
    fn from(name: &str) -> Self {
        MemberName(name.to_owned())
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Replication slot of a member: lower case, `-` and `.` become `_`, other characters `uNNNN`,
/// at most 63 characters (Patroni's rule, so mixed clusters agree).
pub fn slot_name(member: &MemberName) -> String {
    let mut slot = String::new();
    for c in member.0.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => slot.push(c),
            '-' | '.' => slot.push('_'),
            other => slot.push_str(&format!("u{:04}", other as u32)),
        }
    }
    slot.truncate(63);
    slot
}

/// What a node is to the cluster, as published in its member key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Writable.
    Primary,
    /// In recovery.
    Replica,
    /// Leader of a standby cluster.
    StandbyLeader,
    /// Told to promote, still in recovery.
    Promoted,
    /// Was primary, gave it up.
    Demoted,
    /// No data yet.
    Uninitialized,
}

impl Role {
    /// Patroni 4's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::StandbyLeader => "standby_leader",
            Role::Promoted => "promoted",
            Role::Demoted => "demoted",
            Role::Uninitialized => "uninitialized",
        }
    }

    /// Reads Patroni 3's and 4's words.
    pub fn parse(text: &str) -> Option<Role> {
        Some(match text {
            "primary" | "master" => Role::Primary,
            "replica" => Role::Replica,
            "standby_leader" => Role::StandbyLeader,
            "promoted" => Role::Promoted,
            "demoted" => Role::Demoted,
            "uninitialized" => Role::Uninitialized,
            _ => return None,
        })
    }
}

/// What PostgreSQL on a node is doing, as published. The number is that of
/// `patroni_postgres_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum PostgresState {
    /// initdb runs.
    Initdb = 0,
    /// initdb failed.
    InitdbFailed = 1,
    /// A bootstrap method of the user's runs.
    CustomBootstrap = 2,
    /// It failed.
    CustomBootstrapFailed = 3,
    /// A copy of another member is being made.
    CreatingReplica = 4,
    /// Accepts connections.
    Running = 5,
    /// Started, not yet accepting connections.
    Starting = 6,
    /// The same after a bootstrap method of the user's.
    BootstrapStarting = 7,
    /// Could not be started.
    StartFailed = 8,
    /// Restart under way.
    Restarting = 9,
    /// Restart failed.
    RestartFailed = 10,
    /// Stop under way.
    Stopping = 11,
    /// Stopped in order.
    Stopped = 12,
    /// Could not be stopped.
    StopFailed = 13,
    /// Gone without having been stopped.
    Crashed = 14,
}

impl PostgresState {
    /// All states, in the order of their numbers.
    pub const ALL: [PostgresState; 15] = [
        PostgresState::Initdb,
        PostgresState::InitdbFailed,
        PostgresState::CustomBootstrap,
        PostgresState::CustomBootstrapFailed,
        PostgresState::CreatingReplica,
        PostgresState::Running,
        PostgresState::Starting,
        PostgresState::BootstrapStarting,
        PostgresState::StartFailed,
        PostgresState::Restarting,
        PostgresState::RestartFailed,
        PostgresState::Stopping,
        PostgresState::Stopped,
        PostgresState::StopFailed,
        PostgresState::Crashed,
    ];

    /// Patroni's text.
    pub fn as_str(self) -> &'static str {
        match self {
            PostgresState::Initdb => "initializing new cluster",
            PostgresState::InitdbFailed => "initdb failed",
            PostgresState::CustomBootstrap => "running custom bootstrap script",
            PostgresState::CustomBootstrapFailed => "custom bootstrap failed",
            PostgresState::CreatingReplica => "creating replica",
            PostgresState::Running => "running",
            PostgresState::Starting => "starting",
            PostgresState::BootstrapStarting => "starting after custom bootstrap",
            PostgresState::StartFailed => "start failed",
            PostgresState::Restarting => "restarting",
            PostgresState::RestartFailed => "restart failed",
            PostgresState::Stopping => "stopping",
            PostgresState::Stopped => "stopped",
            PostgresState::StopFailed => "stop failed",
            PostgresState::Crashed => "crashed",
        }
    }

    /// Reads Patroni's text.
    pub fn parse(text: &str) -> Option<PostgresState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_follow_patroni() {
        assert_eq!(slot_name(&"Node-1.example".into()), "node_1_example");
        assert_eq!(slot_name(&"a b".into()), "au0032b");
        assert_eq!(slot_name(&MemberName("x".repeat(80))).len(), 63);
    }

    #[test]
    fn states_round_trip() {
        for (number, state) in PostgresState::ALL.into_iter().enumerate() {
            assert_eq!(state as usize, number);
            assert_eq!(PostgresState::parse(state.as_str()), Some(state));
        }
    }
}
