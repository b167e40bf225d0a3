//! A primary that answers nothing does not keep the lock. A job that waits for it has a limit of its own.

use pgherd_model::Span;

use crate::event::ETCD;
use crate::world::World;

impl World {
    pub(crate) fn check_hung(&mut self) {
        let picture = self.etcd.picture();
        let holder = picture.leader_name().and_then(|name| self.node_of(name));
        let hung = holder.filter(|node| {
            let it = &self.nodes[*node];
            let pg = &it.pg;
            let alive = it.agent.alive && !it.agent.stopped;
            let works = it
                .agent
                .job
                .as_ref()
                .is_some_and(|job| job.outcome.is_none());
            // Whoever cannot renew it loses it anyway, however late where etcd prolongs every lease.
            let primary = !pg.in_recovery && self.connected(*node, ETCD);
            alive
                && !works
                && primary
                && pg.postmaster.is_some()
                && pg.stopped
                && !self.present().pause
        });
        let Some(node) = hung else {
            self.oracle.hung = None;
            return;
        };
        let since = match self.oracle.hung {
            Some((known, since)) if known == node => since,
            _ => self.now,
        };
        self.oracle.hung = Some((node, since));
        let settings = &self.nodes[node].settings;
        let limit = settings.hang_timeout * 4 / 3 + settings.lease_ttl + Span::from_secs(5);
        let silent = self.now.since(since);
        if silent > limit {
            self.fail(format!(
                "hung: {node} keeps the lock, and its postmaster has been stopped for {silent:?}"
            ));
        }
    }
}
