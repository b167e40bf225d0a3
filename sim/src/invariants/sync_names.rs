//! Whoever `/sync` names is waited for by every commit of the leader that named him.

use crate::postgres::listed;
use crate::world::World;

impl World {
    /// `/sync` was written, or the leader's PostgreSQL waits for others now.
    pub(crate) fn check_sync_names(&mut self) {
        let picture = self.etcd.picture();
        let Some(sync) = picture.sync.as_ref().map(|stored| &stored.value) else {
            return;
        };
        let Some(node) = sync.leader.as_ref().and_then(|name| self.node_of(name)) else {
            return;
        };
        let pg = &self.nodes[node].pg;
        if pg.in_recovery || !pg.can_write(self.now) {
            return;
        }
        let (count, names) = listed(&pg.waits_for).unwrap_or_default();
        let waited = |name: &str| names.contains(&name) && count == names.len();
        let other = sync.standbys.iter().find(|name| !waited(name.as_str()));
        if let Some(name) = other {
            let text = &pg.waits_for;
            self.fail(format!(
                "sync: {node} names {name} in /sync, and its commits wait for {text:?}"
            ));
        }
    }
}
