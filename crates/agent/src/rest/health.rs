//! Health checks: pure rules from a snapshot, a moment and a request to yes or no
//! (contract: patroni-rest, section 4).

use super::query::{Query, bytes};
use crate::snapshot::Snapshot;
use pgherd_model::{Cluster, Look, Lsn, PostgresState, Role, Span, SynchronousMode, Time};
use serde_json::Value;

/// PostgreSQL is not known to answer any more once nobody has asked it for so long, at least: a loop
/// that hangs must not let clients go on to a server that hangs with it.
const FRESH: Span = Span::from_secs(5);

/// A snapshot as a health check sees it at one moment.
pub(crate) struct Health<'a> {
    snapshot: &'a Snapshot,
    now: Time,
}

impl<'a> Health<'a> {
    /// The snapshot, looked at now.
    pub(crate) fn at(snapshot: &'a Snapshot, now: Time) -> Health<'a> {
        Health { snapshot, now }
    }

    /// The cluster, unless the lock service was out of reach in the last tick.
    pub(crate) fn cluster(&self) -> Option<&'a Cluster> {
        let cluster = self.snapshot.cluster.as_deref();
        cluster.filter(|_| !self.snapshot.dcs_unreachable)
    }

    /// What PostgreSQL said a moment ago, if its state allows to ask it.
    pub(crate) fn look(&self) -> Option<&'a Look> {
        use PostgresState::{Restarting, Running, Starting};
        let asked = matches!(self.snapshot.state, Running | Restarting | Starting);
        let limit = self.snapshot.settings.loop_wait.max(FRESH);
        let fresh = self.now.since(self.snapshot.asked_at()) <= limit;
        self.snapshot.look.as_ref().filter(|_| asked && fresh)
    }

    /// `role` of the status document.
    pub(crate) fn role(&self) -> Role {
        match self.look() {
            Some(look) if !look.in_recovery => Role::Primary,
            Some(_) if !self.snapshot.standby_cluster => Role::Replica,
            _ => self.snapshot.role,
        }
    }

    /// State `running`, and it answers.
    pub(crate) fn running(&self) -> bool {
        self.snapshot.state == PostgresState::Running && self.look().is_some()
    }

    /// This node holds the lock by its own clock.
    pub(crate) fn holds_lock(&self) -> bool {
        self.snapshot
            .leads_until()
            .is_some_and(|until| self.now < until)
    }

    /// Named in `/sync`, in a synchronous mode: (synchronous, voter of a quorum).
    pub(crate) fn sync_duty(&self) -> (bool, bool) {
        let mode = self.snapshot.settings.synchronous_mode;
        let sync = self.cluster().and_then(|cluster| cluster.sync.as_ref());
        let name = self.snapshot.name.as_str();
        let named = sync.is_some_and(|sync| {
            let standbys = &sync.value.standbys;
            sync.value.leader.is_some()
                && standbys
                    .iter()
                    .any(|standby| standby.as_str().eq_ignore_ascii_case(name))
        });
        let duty = named
            && self.look().is_some()
            && self.role() == Role::Replica
            && !self.snapshot.standby_cluster;
        (
            duty && mode == SynchronousMode::On,
            duty && mode == SynchronousMode::Quorum,
        )
    }

    /// Whether `path?query` is healthy: matched by substring, first hit wins.
    pub(crate) fn check(&self, path: &str, query: &Query) -> bool {
        let path = if path == "/" { "/primary" } else { path };
        let has = |word: &str| path.contains(word);
        if has("standby_leader") || has("standby-leader") {
            return self.standby_leader();
        }
        if has("leader") {
            return self.leader();
        }
        if has("master") || has("primary") || has("read-write") {
            return self.primary();
        }
        let healthy = if has("replica") {
            self.replica(query)
        } else if has("read-only") && !has("sync") && !has("quorum") {
            self.writable_or_leading() || self.replica(query)
        } else if has("health") {
            self.running()
        } else {
            self.synchronous(path, query)
        };
        healthy && self.tags_match(query)
    }

    /// Who is synchronous only the lock service can tell; who leads, the lease.
    fn synchronous(&self, path: &str, query: &Query) -> bool {
        let (sync, quorum) = self.sync_duty();
        let known = self.cluster().is_some();
        match path {
            "/sync" | "/synchronous" => sync && self.replica(query),
            "/quorum" => quorum && self.replica(query),
            "/async" | "/asynchronous" => known && !sync && !quorum && self.replica(query),
            "/read-only-sync" | "/read-only-synchronous" => {
                self.writable_or_leading() || (sync && self.replica(query))
            }
            "/read-only-quorum" => self.writable_or_leading() || (quorum && self.replica(query)),
            _ => false,
        }
    }

    /// Paused, and nobody knows who holds the lock: the role decides.
    fn blind_pause(&self) -> bool {
        self.snapshot.settings.pause && self.cluster().is_none()
    }

    /// *leader* of the contract.
    pub(crate) fn leader(&self) -> bool {
        if self.blind_pause() {
            return matches!(self.role(), Role::Primary | Role::StandbyLeader);
        }
        self.holds_lock()
    }

    fn primary(&self) -> bool {
        if self.blind_pause() {
            return self.role() == Role::Primary;
        }
        self.holds_lock() && !self.snapshot.standby_cluster
    }

    fn standby_leader(&self) -> bool {
        if self.blind_pause() {
            return self.role() == Role::StandbyLeader;
        }
        self.holds_lock()
            && self.snapshot.standby_cluster
            && matches!(self.role(), Role::Replica | Role::StandbyLeader)
    }

    fn writable_or_leading(&self) -> bool {
        self.primary() || self.standby_leader()
    }

    fn replica(&self, query: &Query) -> bool {
        let leads_standby_cluster =
            !self.blind_pause() && self.holds_lock() && self.snapshot.standby_cluster;
        self.role() == Role::Replica
            && self.running()
            && !self.snapshot.tags.noloadbalance
            && !leads_standby_cluster
            && !self.lags(query)
    }

    fn lags(&self, query: &Query) -> bool {
        let Some(allowed) = query.get("lag").and_then(bytes) else {
            return false;
        };
        let replayed = self.look().map_or(Lsn(0), |look| look.wal.replayed);
        self.leader_position().is_some_and(|leader| {
            i128::from(leader.0) > i128::from(replayed.0).saturating_add(allowed)
        })
    }

    /// Where the leader is: `/status`, or what the WAL receiver was told, if that is later.
    fn leader_position(&self) -> Option<Lsn> {
        let published = self.cluster().and_then(Cluster::optime);
        let told = self
            .look()
            .and_then(|look| look.receiver.as_ref())
            .map(|receiver| receiver.latest_end);
        published.max(told).filter(|lsn| *lsn != Lsn(0))
    }

    fn tags_match(&self, query: &Query) -> bool {
        let configured: Value =
            serde_json::from_str(&self.snapshot.tags.json).unwrap_or(Value::Null);
        query
            .tags()
            .all(|(name, wanted)| match configured.get(name) {
                None | Some(Value::Null) => false,
                Some(Value::String(text)) => text == wanted,
                Some(other) => other.to_string().to_lowercase() == wanted,
            })
    }

    /// `GET /liveness`: the loop has begun to look not too long ago.
    pub(crate) fn liveness(&self) -> bool {
        // As the agent knows it: a PostgreSQL that hangs is not taken for a standby.
        let running = self.snapshot.state == PostgresState::Running;
        let primary = self.snapshot.role == Role::Primary && running;
        let ttl = self.snapshot.settings.ttl;
        let limit = if primary { ttl } else { ttl * 2 };
        self.snapshot.settings.pause || self.now < self.snapshot.held_at() + limit
    }

    /// `GET /readiness`: the leader, or a standby that streams and is not too far behind.
    pub(crate) fn readiness(&self, query: &Query) -> bool {
        if self.leader() {
            return true;
        }
        if self.snapshot.state != PostgresState::Running
            || self.replication_state() != Some("streaming")
        {
            return false;
        }
        let Some(look) = self.look() else {
            return false;
        };
        // Without the leader's position nothing says how far this one is behind.
        let Some(leader) = self.leader_position() else {
            return self.snapshot.failsafe_active;
        };
        let here = match query.get("mode") {
            Some("write") => look.wal.received.max(look.wal.replayed),
            _ => look.wal.replayed,
        };
        let allowed = query.get("lag").and_then(bytes);
        let allowed = allowed.unwrap_or(i128::from(self.snapshot.settings.maximum_lag_on_failover));
        i128::from(leader.0) - i128::from(here.0) <= allowed
    }

    /// `replication_state` of the status document.
    pub(crate) fn replication_state(&self) -> Option<&'static str> {
        let look = self.look().filter(|look| look.in_recovery)?;
        let receiver = look.receiver.as_ref();
        match receiver.is_some_and(|receiver| receiver.streaming) {
            true => Some("streaming"),
            false => look.restore_command.then_some("in archive recovery"),
        }
    }
}
