//! Whoever `/sync` names is waited for by every commit of the leader that named him, and has all that was
//! acknowledged before; in quorum mode this holds for one at least of any voters that are one more than its quorum.

use std::collections::{BTreeMap, BTreeSet};

use pgherd_model::{Cluster, Op, Sync};

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
        let voters = sync.standbys.iter().map(|name| name.as_str());
        let all: BTreeSet<&str> = voters.chain(names.iter().copied()).collect();
        if !sync.standbys.is_empty() && sync.quorum + count < all.len() {
            let (text, sync) = (pg.waits_for.clone(), sync.clone());
            self.fail(format!(
                "sync: {node} names {:?} in /sync, quorum {}, and its commits wait for {text:?}",
                sync.standbys, sync.quorum
            ));
        }
    }

    /// So many voters lack this row that those who are needed may all lack it.
    fn check_votes(&mut self, node: usize, sync: &Sync) {
        let mut lacking: BTreeMap<u64, usize> = BTreeMap::new();
        for voter in sync.standbys.iter().filter_map(|name| self.node_of(name)) {
            for row in self.missing_rows(voter, true) {
                *lacking.entry(row).or_default() += 1;
            }
        }
        let lost = lacking
            .into_iter()
            .find(|(_, voters)| *voters > sync.quorum);
        if let Some((row, voters)) = lost {
            self.fail(format!(
                "sync: {node} asks for {} votes in /sync, and {voters} voters lack row {row}",
                sync.quorum
            ));
        }
    }

    /// etcd has carried out a write of this node; `before`: what was there.
    pub(crate) fn check_named(&mut self, node: usize, before: &Cluster, op: &Op) {
        let Op::PutSync { sync, .. } = op else {
            return;
        };
        if sync.quorum > 0 {
            let sync = sync.clone();
            self.check_votes(node, &sync);
            return;
        }
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
