//! A member's key stays while its agent runs and reaches etcd.

use pgherd_model::Span;

use crate::event::{ETCD, NODES};
use crate::world::World;

/// Who comes back when the lease is almost over may be too late.
const BACK: Span = Span::from_secs(8);

impl World {
    pub(crate) fn note_reach(&mut self) {
        for node in 0..NODES {
            let agent = &self.nodes[node].agent;
            let runs = agent.alive && !agent.stopped && agent.picture.is_some();
            if !runs || !self.connected(node, ETCD) {
                self.oracle.apart[node] = self.now;
            }
        }
    }

    /// The lease of this id is over.
    pub(crate) fn check_member_key(&mut self, id: i64) {
        let picture = self.etcd.picture();
        let own = picture
            .members
            .values()
            .find(|member| member.value.lease == id);
        let Some(node) = own.and_then(|member| self.node_of(&member.value.name)) else {
            return;
        };
        self.note_reach();
        let reached = self.now.since(self.oracle.apart[node]);
        if reached > BACK {
            self.fail(format!(
                "member key: that of {node} goes, whose agent has reached etcd for {reached:?}"
            ));
        }
    }
}
