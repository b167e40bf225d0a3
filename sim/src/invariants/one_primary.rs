//! At any instant at most one PostgreSQL acknowledges writes, and never one of an older timeline
//! after one of a newer.

use crate::event::NODES;
use crate::invariants::Acknowledged;
use crate::world::World;

impl World {
    /// A client has its answer.
    pub(crate) fn acknowledged(&mut self, node: usize, row: u64, _lsn: u64) {
        let timeline = self.nodes[node].pg.disk.timeline;
        if let Some(ledger) = &mut self.oracle.ledger {
            ledger.note(self.now, row);
        }
        if self.oracle.hands_off[node] {
            // Nobody looks after it: somebody else may have been promoted since.
            return;
        }
        if let Some((newest, by)) = self.oracle.newest
            && (timeline < newest || (timeline == newest && by != node))
        {
            self.fail(format!(
                "one primary: {node} acknowledged a row on timeline {timeline} after {by} did on {newest}"
            ));
        }
        self.oracle.newest = Some((timeline, node));
        let picture = self.etcd.picture();
        let synchronous = self.swarm.settings.synchronous_mode
            != pgherd_model::SynchronousMode::Off
            && picture
                .sync
                .as_ref()
                .is_some_and(|sync| sync.value.leader.is_some());
        self.oracle.rows.insert(row, Acknowledged { synchronous });
    }

    /// Nobody else can acknowledge anything when somebody begins to.
    pub(crate) fn check_only_writer(&mut self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            if self.nodes[other].pg.can_write(self.now) && !self.oracle.hands_off[other] {
                self.fail(format!(
                    "one primary: {node} is writable and {other} still is"
                ));
            }
        }
    }
}
