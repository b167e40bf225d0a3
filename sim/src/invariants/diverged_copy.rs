//! Data that went another way than the leader's are never started as its standby, and whoever streams
//! has nothing that its upstream does not have, whatever the numbers of their timelines.

use pgherd_ha::StartAs;

use crate::event::NODES;
use crate::far::is_far;
use crate::world::World;

impl World {
    /// Beside what `attach` sees at the beginning of a stream.
    pub(crate) fn check_copies(&mut self) {
        for node in 0..NODES {
            let own = &self.nodes[node].pg;
            let Some(stream) = &own.stream else {
                continue;
            };
            let from = stream.from;
            let theirs = &self.nodes[from].pg;
            let known = theirs.attached.get(&node);
            let valid =
                theirs.epoch == stream.epoch && known.is_some_and(|it| it.conn == stream.conn);
            let end = own.disk.wal.end();
            let common = own.disk.wal.common(&theirs.disk.wal);
            if valid && common < end {
                self.fail(format!(
                    "diverged copy: {node} has WAL up to {end:X} and streams from {from}, the same only up to {common:X}"
                ));
            }
        }
    }

    pub(crate) fn check_start(&mut self, node: usize, start: &StartAs) {
        let StartAs::Standby {
            upstream: Some(upstream),
            follow,
        } = start
        else {
            return;
        };
        if is_far(Some(upstream)) {
            return;
        }
        let from = usize::from(upstream.port).saturating_sub(5000);
        let name = self.nodes[from].name.clone();
        let theirs = &self.nodes[from].pg;
        let own = &self.nodes[node].pg;
        if self.etcd.picture().leader_name() != Some(&name)
            || theirs.in_recovery
            || !theirs.accepts()
        {
            return;
        }
        let mut end = own.disk.wal.end();
        if follow.is_some() {
            end = end.min(own.disk.readable_towards(&theirs.disk));
        }
        let common = own.disk.wal.common(&theirs.disk.wal);
        if common < end {
            self.fail(format!(
                "diverged copy: {node} starts as standby of {from} with WAL up to {end:X}, the same only up to {common:X}"
            ));
        }
    }
}
