//! What another agent says about itself, at one moment, over REST.

use crate::{Lsn, PostgresState, Role, Tags, Time, Timeline};
use serde::{Deserialize, Serialize};

/// Answer of a peer to `GET /patroni`. No answer is no `PeerStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// When the question was sent.
    pub asked: Time,
    /// `state`.
    pub state: Option<PostgresState>,
    /// `role`.
    pub role: Option<Role>,
    /// PostgreSQL answered its agent: the document has `xlog`.
    pub reachable: bool,
    /// `xlog.location`: only a primary has it.
    pub writable_at: Option<Lsn>,
    /// Standby: `xlog.received_location`.
    pub received: Lsn,
    /// Standby: `xlog.replayed_location`.
    pub replayed: Lsn,
    /// `timeline`.
    pub timeline: Option<Timeline>,
    /// `replication_state` is `streaming`.
    pub streaming: bool,
    /// `watchdog_failed`.
    pub watchdog_failed: bool,
    /// `cluster_unlocked`: it sees nobody holding the lock, since nobody does or it does not see the lock service.
    #[serde(default)]
    pub unlocked: bool,
    /// It is being promoted: what is in recovery now may acknowledge a write in a moment. Agents of
    /// genuine Patroni do not say so.
    pub promoting: bool,
    /// `failsafe_mode_is_active`: a leader that cannot reach the lock service stays in office by its word, or
    /// that leader is it.
    #[serde(default)]
    pub failsafe: bool,
    /// `tags`.
    pub tags: Tags,
}

impl PeerStatus {
    /// Position that a race compares.
    pub fn position(&self) -> Lsn {
        self.writable_at.unwrap_or(self.received.max(self.replayed))
    }

    /// Its PostgreSQL cannot acknowledge a write: in recovery, or stopped. One that is down and calls itself primary is
    /// about to be started as one.
    pub fn not_writable(&self) -> bool {
        let down = matches!(
            self.state,
            Some(
                PostgresState::Stopped
                    | PostgresState::StartFailed
                    | PostgresState::CreatingReplica
            )
        );
        let stopped = down && !matches!(self.role, Some(Role::Primary | Role::Promoted));
        let in_recovery = self.reachable
            && !self.promoting
            && self.writable_at.is_none()
            && !matches!(self.role, None | Some(Role::Primary | Role::Promoted));
        let demoted =
            self.role == Some(Role::Demoted) && self.state != Some(PostgresState::Running);
        stopped || in_recovery || demoted
    }
}
