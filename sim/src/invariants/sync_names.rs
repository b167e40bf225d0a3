//! Whoever `/sync` names is waited for by every commit of the leader that named him, and has all that was
//! acknowledged before.

use pgherd_model::{Cluster, Op};

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

    /// etcd has carried out a write of this node; `before`: what was there.
    pub(crate) fn check_named(&mut self, node: usize, before: &Cluster, op: &Op) {
        let Op::PutSync { sync, .. } = op else {
            return;
        };
        let old = before.sync.as_ref().map(|stored| &stored.value);
        let kept = old.filter(|old| old.leader == sync.leader);
        for name in &sync.standbys {
            let known = kept.is_some_and(|old| old.standbys.contains(name));
            let Some(standby) = self.node_of(name).filter(|_| !known) else {
                continue;
            };
            let missing = self.missing_rows(standby, true);
            if let Some(first) = missing.first() {
                let count = missing.len();
                self.fail(format!(
                    "sync: {node} names {name} in /sync, which lacks {count} acknowledged rows, the first is {first}"
                ));
                return;
            }
        }
    }
}
