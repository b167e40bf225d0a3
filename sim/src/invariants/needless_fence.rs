//! A guard kills only what nothing allows any more: while the lock's lease is renewed it does not fire,
//! wherever it was stopped before, and no guard fires in whose place another one is.

use crate::world::World;

impl World {
    /// The guard of this number is about to kill.
    pub(crate) fn check_fence(&mut self, node: usize, number: u64) {
        let now = self.clock(node);
        let agent = &self.nodes[node].agent;
        let Some(pid) = agent.armed_for.filter(|_| agent.alive) else {
            return;
        };
        // Under another lease the deadlines of the one before count.
        let renewed = agent.renewing.fact.is_some_and(|fact| {
            agent.renewing.attached == fact.lease
                && agent.armed_by.map(|it| it.lease) == Some(fact.lease)
                && now < fact.deadlines().guard
        });
        let replaced = agent.superseded && agent.guard != Some(number);
        if replaced || renewed {
            self.fail(format!(
                "fence: guard {number} of {node} fires at postmaster {pid}, renewed: {renewed}, replaced: {replaced}"
            ));
        }
    }
}
