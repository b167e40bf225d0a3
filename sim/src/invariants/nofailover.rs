//! A node tagged `nofailover` is never promoted.

use crate::world::World;

impl World {
    pub(crate) fn check_nofailover(&mut self, node: usize) {
        if self.swarm.nofailover == Some(node) {
            self.fail(format!("nofailover: {node} was promoted"));
        }
    }
}
