//! Nobody is promoted who is more than `maximum_lag_on_failover` behind the position that the last leader
//! published, unless an operator named him.

use pgherd_model::Lsn;

use crate::world::World;

impl World {
    pub(crate) fn check_lag(&mut self, node: usize) {
        let picture = self.etcd.picture();
        let Some((_, end)) = self.nodes[node].pg.disk.history.last().copied() else {
            return;
        };
        let published = picture.optime().unwrap_or_default();
        let behind = published.since(Lsn(end));
        let limit = self.nodes[node].settings.maximum_lag_on_failover;
        if behind > limit && !self.is_named(node) {
            self.fail(format!(
                "lag: {node} is promoted at {end:X}, {behind} bytes behind {published}, and {limit} are allowed"
            ));
        }
    }
}
