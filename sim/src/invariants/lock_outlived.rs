//! When etcd deletes a lock because its lease is over, whoever held it can acknowledge nothing any more, unless
//! everybody whom `/failsafe` names keeps it in office.

use crate::world::World;

impl World {
    /// The lease of this id is over.
    pub(crate) fn check_outlived(&mut self, id: i64) {
        let picture = self.etcd.picture();
        let Some(leader) = picture.leader.as_ref().filter(|leader| leader.lease == id) else {
            return;
        };
        let Some(node) = self.node_of(&leader.name) else {
            return;
        };
        let kept = self.now < self.oracle.kept_until[node];
        if self.nodes[node].pg.can_write(self.now) && !self.oracle.hands_off[node] && !kept {
            self.fail(format!(
                "lock outlived: {node} is writable, and the lease of its lock is over"
            ));
        }
    }
}
