//! Once everything is healed the cluster must be whole again within a bound: one primary with the
//! lock, two standbys that stream from it.

use pgherd_model::{GuardMode, Lsn, Span};

use crate::event::NODES;
use crate::world::World;

/// How long healing may take.
const BOUND: Span = Span::from_secs(240);
/// How long it must stay so.
const STEADY: Span = Span::from_secs(15);

impl World {
    pub(crate) fn check_convergence(&mut self) {
        let Some(healed) = self.chaos.healed else {
            return;
        };
        if self.oracle.idle.is_some() {
            self.check_idle();
            return;
        }
        match self.pending() {
            None => {
                let since = *self.chaos.fine.get_or_insert(self.now);
                if self.now.since(since) >= STEADY {
                    self.check_end();
                    self.begin_idle();
                }
            }
            Some(what) => {
                self.chaos.fine = None;
                if self.now.since(healed) > BOUND {
                    self.fail(format!("convergence: {what}"));
                }
            }
        }
    }

    /// What is not yet as it should be.
    pub(crate) fn pending(&self) -> Option<String> {
        let picture = self.etcd.picture();
        let Some(leader) = picture.leader_name().and_then(|name| self.node_of(name)) else {
            return (!self.nobody_may_lead()).then(|| "nobody holds the lock".into());
        };
        let pg = &self.nodes[leader].pg;
        let copy = self.present().standby_cluster.is_some();
        if copy && !(pg.accepts() && self.follows_far(leader)) {
            return Some(format!(
                "the leader {leader} does not stream from the other cluster{}",
                self.why(leader)
            ));
        }
        if !copy && (!pg.accepts() || pg.in_recovery) {
            return Some(format!(
                "the leader {leader} is no primary{}",
                self.why(leader)
            ));
        }
        let it = &self.nodes[leader];
        if !copy && it.guard_broken && it.settings.guard == GuardMode::Required {
            return Some(format!("the leader {leader} has no guard"));
        }
        for node in (0..NODES).filter(|node| *node != leader) {
            let pg = &self.nodes[node].pg;
            let streams = pg
                .stream
                .as_ref()
                .is_some_and(|stream| stream.from == leader);
            if !pg.accepts() || !pg.in_recovery || !streams {
                return Some(format!(
                    "{node} does not stream from {leader}{}",
                    self.why(node)
                ));
            }
        }
        None
    }

    /// Whoever has the data cannot start the guard that is required, and all others are too far behind: that cluster has
    /// no primary (docs/safety.md).
    fn nobody_may_lead(&self) -> bool {
        let picture = self.etcd.picture();
        let optime = picture.optime().unwrap_or_default();
        let may = |node: usize| {
            let it = &self.nodes[node];
            let unguarded = it.guard_broken && it.settings.guard == GuardMode::Required;
            let end = Lsn(it.pg.disk.wal.end());
            !unguarded && optime.since(end) <= it.settings.maximum_lag_on_failover
        };
        !(0..NODES).any(may)
    }

    fn why(&self, node: usize) -> String {
        let it = &self.nodes[node];
        let job = it
            .agent
            .job
            .as_ref()
            .map(|job| (job.kind.name(), job.outcome.clone()));
        format!(
            " (agent alive: {}, data {:?}, {:?}, last job {job:?})",
            it.agent.alive, it.pg.disk.data, it.pg.phase
        )
    }

    /// All copies are one.
    fn check_end(&mut self) {
        let picture = self.etcd.picture();
        let Some(leader) = picture.leader_name().and_then(|name| self.node_of(name)) else {
            return;
        };
        for node in 0..NODES {
            let own = &self.nodes[node].pg.disk.wal;
            if own.common(&self.nodes[leader].pg.disk.wal) < own.end() {
                self.fail(format!(
                    "diverged copy: {node} streams from {leader} and is another"
                ));
            }
        }
        for node in 0..NODES {
            if !self.nodes[node].pg.disk.files.ends_well() {
                self.fail(format!(
                    "timelines: {node} keeps numbers for a promotion that did not come"
                ));
            }
        }
        let config = picture.config.as_ref().map(|config| &config.value.text);
        if let Some(forgotten) = &self.chaos.forgotten
            && config != Some(forgotten)
        {
            self.fail(format!(
                "config: {forgotten} was in force, and {config:?} was put back"
            ));
        }
        self.check_rows(leader);
    }
}
