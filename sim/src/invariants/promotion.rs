//! A promotion needs the lock and, unless it could not be armed, the guard.

use pgherd_ha::{JobKind, StartAs};
use pgherd_model::{GuardMode, Op, Span};

use crate::world::World;

impl World {
    pub(crate) fn check_promotion(&mut self, node: usize) {
        let picture = self.etcd.picture();
        let name = self.nodes[node].name.clone();
        let life = self.nodes[node].settings.lease_ttl + Span::from_secs(1);
        let vanished = self
            .chaos
            .vanished
            .is_some_and(|at| self.now.since(at) < life)
            && picture.leader.is_none();
        // One that was begun in time is brought to its end in a pause, where nothing is guarded.
        let hands_off = self.oracle.hands_off[node];
        if picture.leader_name() != Some(&name) && !vanished && !hands_off {
            let holder = picture.leader_name().cloned();
            self.fail(format!(
                "promotion: {name} without the lock, which {holder:?} holds"
            ));
        }
        self.check_tail(node);
        let it = &self.nodes[node];
        let armed = it.guards.values().any(|guard| guard.deadline.is_some());
        let excused = self.now.since(self.chaos.disturbed) < Span::from_secs(8);
        let automatic =
            it.settings.guard == GuardMode::Automatic && it.agent.guard_failed.is_some();
        if it.settings.guard != GuardMode::Off
            && !it.settings.pause
            && !armed
            && !excused
            && !automatic
        {
            self.fail(format!("promotion: {name} without an armed guard"));
        }
    }

    /// A job is ordered: none makes a primary in what this node knows to be a copy of another cluster.
    pub(crate) fn check_copy(&mut self, node: usize, kind: &JobKind) {
        let primary = matches!(kind, JobKind::Promote | JobKind::Start(StartAs::Primary));
        let it = &self.nodes[node];
        if primary && it.settings.standby_cluster.is_some() && !it.settings.pause {
            let (name, word) = (it.name.clone(), kind.name());
            self.fail(format!("promotion: {word} by {name} in a standby cluster"));
        }
    }

    /// etcd has carried out a write of this node.
    pub(crate) fn note_named(&mut self, node: usize, op: &Op) {
        if matches!(op, Op::AcquireLeader { .. }) {
            let named = self.chaos.failover_to == Some(node);
            self.oracle.named = named.then_some(node);
        }
    }

    /// An operator has named it for a failover: now, or when it took the lock.
    pub(crate) fn is_named(&self, node: usize) -> bool {
        self.chaos.failover_to == Some(node) || self.oracle.named == Some(node)
    }

    /// Nobody goes on from a tail that the cluster has left behind, unless people asked for that.
    fn check_tail(&mut self, node: usize) {
        let picture = self.etcd.picture();
        let Some((timeline, end)) = self.nodes[node].pg.disk.history.last().copied() else {
            return;
        };
        let lines = picture.history.iter().flat_map(|stored| &stored.value);
        let left = lines
            .filter(|line| line.timeline.0 == timeline)
            .map(|line| line.end.0)
            .next();
        if let Some(left) = left.filter(|left| *left < end)
            && !self.is_named(node)
        {
            self.fail(format!(
                "promotion: {node} goes on from {end:X} on timeline {timeline}, which the cluster left at {left:X}"
            ));
        }
    }
}
