//! Every job that was started ends.

use pgherd_model::Span;

use crate::event::NODES;
use crate::world::World;

impl World {
    pub(crate) fn check_jobs(&mut self) {
        let limit = Span::from_secs(90) + self.swarm.settings.primary_start_timeout;
        for node in 0..NODES {
            let now = self.clock(node);
            let agent = &self.nodes[node].agent;
            let running = agent
                .job
                .as_ref()
                .filter(|job| job.outcome.is_none() && !agent.stopped);
            if let Some(job) = running
                && agent.alive
                && now.since(job.since) > limit
                && self.now.since(self.chaos.disturbed) > limit
            {
                let name = job.kind.name();
                self.fail(format!("jobs: {name} of {node} does not end"));
            }
        }
    }
}
