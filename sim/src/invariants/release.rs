//! The lock is released when PostgreSQL is down, or never was writable under it, not before.

use pgherd_model::Op;

use crate::world::World;

impl World {
    /// etcd has carried out a write of this node.
    pub(crate) fn check_release(&mut self, node: usize, op: &Op) {
        let releases = matches!(op, Op::ReleaseLeader { .. });
        let writable = self.nodes[node].pg.can_write(self.now);
        if releases && writable && !self.oracle.hands_off[node] {
            self.fail(format!(
                "release: {node} gives up the lock and is still writable"
            ));
        }
    }
}
