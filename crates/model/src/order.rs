//! What people ask of one node: to restart its PostgreSQL, to copy its data anew.

use crate::{Role, Schedule, Span};
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// A restart of PostgreSQL that was asked for (`POST /restart`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartOrder {
    /// Number among this agent's orders; later ones are greater.
    pub number: u64,
    /// Only then.
    pub condition: RestartCondition,
    /// How long the start may take before a leader hands over; `None`: `primary_start_timeout`.
    pub timeout: Option<Span>,
    /// `None`: now.
    pub scheduled: Option<ScheduledRestart>,
}

/// When a scheduled restart is due, and of which PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRestart {
    /// The time.
    pub schedule: Schedule,
    /// `postmaster_start_time` when it was asked for: one that was started since needs no restart.
    pub start_time: String,
    /// The filters with `schedule`, a JSON object as text: for whoever looks.
    pub document: String,
}

/// The filters of a restart. Nothing set: always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartCondition {
    /// Only in this role.
    pub role: Option<Role>,
    /// Only if the server's version (as 150018) is older.
    pub older_than: Option<u32>,
    /// Only if settings wait for a restart.
    pub pending: bool,
}

impl RestartCondition {
    /// Whether it holds for a server in this role; `version`: `None` if it cannot be asked.
    pub fn holds(&self, role: Role, version: Option<u32>, pending: bool) -> bool {
        let role_fits = self.role.is_none_or(|wanted| wanted == role);
        let old = match (self.older_than, version) {
            (Some(limit), Some(version)) => version < limit,
            (Some(_), None) | (None, _) => true,
        };
        role_fits && old && (pending || !self.pending)
    }
}

/// A new copy of the data that was asked for (`POST /reinitialize`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReinitializeOrder {
    /// Number among this agent's orders; later ones are greater.
    pub number: u64,
    /// Whatever runs is given up for it.
    pub force: bool,
    /// Copied from the leader, also where members are tagged `clonefrom`.
    pub from_leader: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_happens_only_where_every_filter_agrees() {
        let always = RestartCondition::default();
        assert!(always.holds(Role::Primary, None, false));
        let picky = RestartCondition {
            role: Some(Role::Replica),
            older_than: Some(150_018),
            pending: true,
        };
        assert!(picky.holds(Role::Replica, Some(150_017), true));
        assert!(picky.holds(Role::Replica, None, true));
        assert!(!picky.holds(Role::Primary, Some(150_017), true));
        assert!(!picky.holds(Role::Replica, Some(150_018), true));
        assert!(!picky.holds(Role::Replica, Some(150_017), false));
    }
}
