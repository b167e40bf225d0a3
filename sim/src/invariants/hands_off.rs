//! Pause: no agent starts, stops or promotes PostgreSQL, unless an operator names somebody to take
//! over, or a switchover was begun before. Nothing is guarded meanwhile, so two primaries are possible until the agent of each has
//! seen the end of the pause (docs/safety.md, "Not guaranteed").

use pgherd_ha::{Action, Decision, View};
use pgherd_model::GuardMode;

use crate::event::NODES;
use crate::world::World;

impl World {
    /// The operator has paused the cluster.
    pub(crate) fn paused(&mut self) {
        self.oracle.hands_off = [true; NODES];
    }

    /// What an agent decides in a pause, and when it looks after its PostgreSQL again.
    pub(crate) fn check_hands_off(&mut self, node: usize, view: &View, decision: &Decision) {
        if view.is_standby() || (view.is_primary() && decision.memory.demotion.is_none()) {
            self.oracle.stepped_down[node] = false;
        }
        if view.settings.pause {
            self.oracle.hands_off[node] = true;
            let job = decision.actions.iter().find_map(|action| match action {
                Action::StartJob(kind) => Some(kind.name()),
                _ => None,
            });
            let ordered = [&self.nodes[node].agent.memory, &decision.memory];
            let ordered = ordered
                .iter()
                .any(|memory| memory.restart.is_some() || memory.reinitialize.is_some());
            let dealt_with = self.nodes[node].agent.memory.dealt_with;
            let open = view.orders.restart.as_ref().map(|order| order.number);
            let copy = view.orders.reinitialize.map(|order| order.number);
            let ordered = ordered || open.max(copy) > Some(dealt_with);
            let asked = self.operator_asked() || self.oracle.stepped_down[node] || ordered;
            if let Some(job) = job.filter(|_| !asked) {
                self.fail(format!("pause: {node} begins {job}: {}", decision.why));
            }
            return;
        }
        let guard = &view.local.guard;
        let guarded = view.settings.guard == GuardMode::Off
            || guard.armed_for.is_some()
            || guard.failed.is_some()
            || view.is_standby()
            || view.is_down();
        if guarded && !self.present().pause {
            self.oracle.hands_off[node] = false;
        }
    }
}
