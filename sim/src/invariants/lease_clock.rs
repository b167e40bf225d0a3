//! Deadlines count from the sending of a renewal, so no node believes that its lease lives longer than
//! etcd lets it live.

use crate::event::NODES;
use crate::world::World;

impl World {
    pub(crate) fn check_lease_clocks(&mut self) {
        // While etcd has no leader it ends nothing, and whoever is elected prolongs every lease.
        if self.quorum.is_voting() || self.etcd.down {
            return;
        }
        for node in 0..NODES {
            let Some(fact) = self.nodes[node].agent.renewing.fact else {
                continue;
            };
            let ends = self.truly(node, fact.deadlines().expires);
            let lease = self.etcd.leases.get(&fact.lease);
            if let Some(expires) = lease.map(|lease| lease.expires)
                && ends > expires
            {
                self.fail(format!(
                    "lease clock: {node} counts on lease {} until {ends}, and etcd ends it at {expires}",
                    fact.lease
                ));
            }
        }
    }
}
