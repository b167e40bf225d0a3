//! Whoever takes a free lock has no less WAL than anybody whom he could have asked.

use pgherd_model::{GuardMode, Op, Span, SynchronousMode, Time};

use crate::event::NODES;
use crate::world::World;

/// An answer counts for a second, and may take two: what has stood for longer was seen.
const SEEN: Span = Span::from_secs(4);
/// Who was silent is not asked again for a while.
const ANSWERS: Span = Span::from_secs(10);

/// How far one copy is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    end: u64,
    /// When it last moved.
    at: Time,
    /// When it last could not have answered the others.
    silent: Time,
}

impl World {
    pub(crate) fn note_growth(&mut self) {
        for node in 0..NODES {
            let end = self.nodes[node].pg.disk.wal.end();
            let answers = self.may_run(node) && (0..NODES).all(|it| self.connected(node, it));
            let growth = &mut self.oracle.growth[node];
            if growth.end != end {
                (growth.end, growth.at) = (end, self.now);
            }
            if !answers {
                growth.silent = self.now;
            }
        }
    }

    /// A standby that nothing keeps from the race.
    fn may_run(&self, node: usize) -> bool {
        let (it, name) = (&self.nodes[node], &self.nodes[node].name);
        let picture = self.etcd.picture();
        let sync = picture.sync.as_ref().map(|stored| &stored.value);
        let synchronous = self.swarm.settings.synchronous_mode == SynchronousMode::Off
            || sync.is_some_and(|sync| sync.standbys.contains(name));
        let guarded = !it.guard_broken || it.settings.guard != GuardMode::Required;
        picture.members.contains_key(name)
            && it.agent.alive
            && !it.agent.stopped
            && it.pg.accepts()
            && it.pg.in_recovery
            && guarded
            && synchronous
            && self.swarm.nofailover != Some(node)
    }

    /// `history` tells that the cluster left these data behind: they keep nobody from the lock.
    fn was_left(&self, node: usize) -> bool {
        let picture = self.etcd.picture();
        let lines = picture.history.iter().flat_map(|stored| &stored.value);
        let disk = &self.nodes[node].pg.disk;
        let own = disk
            .control
            .timeline
            .max(disk.control.min_recovery_timeline);
        let later = lines.filter(|line| line.timeline >= own);
        later
            .map(|line| line.end.0)
            .min()
            .is_some_and(|end| disk.wal.end() > end)
    }

    /// etcd has carried out a write of this node.
    pub(crate) fn check_healthiest(&mut self, node: usize, op: &Op) {
        let standby = self.nodes[node].pg.in_recovery;
        if !matches!(op, Op::AcquireLeader { .. }) || !standby || self.operator_asked() {
            return;
        }
        let picture = self.etcd.picture();
        let named = picture
            .failover_request()
            .and_then(|request| request.member.as_ref());
        if named == Some(&self.nodes[node].name) {
            // Asked for at a time that has come.
            return;
        }
        self.note_growth();
        let own = &self.nodes[node].pg.disk.wal;
        for other in (0..NODES).filter(|other| *other != node) {
            let growth = self.oracle.growth[other];
            let theirs = &self.nodes[other].pg.disk.wal;
            if self.was_left(other) {
                continue;
            }
            let (end, common) = (own.end(), own.common(theirs));
            let stands = self.now.since(growth.at) > SEEN;
            let answered = self.now.since(growth.silent) > ANSWERS;
            if stands && answered && common == end && growth.end > end {
                self.fail(format!(
                    "healthiest: {node} takes the lock with WAL up to {end:X}, and {other} has stood at {:X} for a while",
                    growth.end
                ));
                return;
            }
        }
    }
}
