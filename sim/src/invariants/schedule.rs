//! A scheduled switchover is begun at its time by the clock of the leader that was asked: not
//! before, not long after, once at most. Nobody else touches it.

use pgherd_ha::{Action, Decision, JobKind, View};
use pgherd_model::{Cluster, Failover, GuardMode, Op, Schedule, Span, Stored};

use crate::world::World;

/// A decision is on its way to etcd for at most so long.
const WAY: Span = Span::from_secs(4);

impl World {
    /// A brain has written `failover`; `before`: what was there.
    pub(crate) fn check_request(&mut self, node: usize, before: &Cluster, op: &Op) {
        let Op::PutFailover { failover, .. } = op else {
            return;
        };
        let asks = failover.leader.is_some() || failover.member.is_some();
        let stored = before.failover.as_ref();
        let schedule = stored.and_then(|stored| stored.value.scheduled_at.as_ref());
        match (stored, schedule) {
            _ if failover.scheduled_at.is_some() => {
                self.fail(format!("schedule: {node} has scheduled something itself"));
            }
            (Some(stored), Some(schedule)) if asks => {
                self.check_begun(node, stored, schedule, failover);
            }
            (Some(stored), Some(schedule)) => self.check_dropped(node, before, stored, schedule),
            _ if asks => self.fail(format!("schedule: {node} asks for something itself")),
            _ => {}
        }
    }

    fn check_begun(
        &mut self,
        node: usize,
        stored: &Stored<Failover>,
        schedule: &Schedule,
        failover: &Failover,
    ) {
        let asked = Failover {
            scheduled_at: None,
            ..stored.value.clone()
        };
        let (earliest, latest) = self.walls(node);
        let at = schedule.at.unwrap_or_default();
        let text = &schedule.text;
        if *failover != asked || failover.leader.as_ref() != Some(&self.nodes[node].name) {
            self.fail(format!("schedule: {node} begins {failover:?}, not {text}"));
        }
        if latest < at {
            let early = at.since(latest);
            self.fail(format!(
                "schedule: {node} begins {text} {early:?} too early"
            ));
        }
        if self.nodes[node].settings.pause {
            self.fail(format!("schedule: {node} begins {text} in a pause"));
        }
        if earliest.since(at) > self.nodes[node].settings.loop_wait * 3 / 2 + WAY {
            let late = earliest.since(at);
            self.fail(format!("schedule: {node} begins {text} {late:?} late"));
        }
        if !self.oracle.begun.insert(text.clone()) {
            self.fail(format!("schedule: {text} is begun once more"));
        }
        if failover.member.is_some() {
            self.chaos.asked = Some(self.now);
        }
        self.happened("schedule carried out");
    }

    /// Only what is too late, or of another leader or reign, or in the way of a leader that goes.
    fn check_dropped(
        &mut self,
        node: usize,
        before: &Cluster,
        stored: &Stored<Failover>,
        schedule: &Schedule,
    ) {
        let name = &self.nodes[node].name;
        let reign = before
            .leader
            .as_ref()
            .is_some_and(|leader| leader.name == *name && leader.create_revision < stored.revision);
        let mine = stored.value.leader.as_ref() == Some(name)
            && stored.value.member.as_ref() != Some(name);
        let (_, latest) = self.walls(node);
        let goes = self.nodes[node].agent.memory.demotion.is_some();
        if reign && mine && !goes && schedule.at.is_some_and(|at| latest < at) {
            let text = &schedule.text;
            self.fail(format!("schedule: {node} drops {text} before its time"));
        }
        self.happened("schedule dropped");
    }

    /// A leader steps down for a request that counts now, or because its required guard cannot be
    /// armed, or the cluster is to be a copy of another one, and for nothing else.
    pub(crate) fn check_demotion(&mut self, node: usize, view: &View, decision: &Decision) {
        let stops = decision.actions.iter().any(|action| {
            matches!(
                action,
                Action::StartJob(JobKind::Stop {
                    checkpoint_first: true,
                    ..
                })
            )
        });
        if !stops {
            return;
        }
        let ordered = decision.memory.restart.is_some();
        if ordered && matches!(decision.why.rule, "restart_order" | "paused") {
            return;
        }
        self.oracle.stepped_down[node] = true;
        if decision.why.rule == "unguarded" {
            let required = view.settings.guard == GuardMode::Required;
            if !required || view.local.guard.failed.is_none() || view.local.guard.failures < 2 {
                self.fail(format!(
                    "guard: {node} steps down, and its guard is no reason"
                ));
            }
            return;
        }
        if decision.why.rule == "standby_cluster" {
            if view.settings.standby_cluster.is_none() || !view.is_primary() {
                self.fail(format!("schedule: {node} steps down, and leads no copy"));
            }
            return;
        }
        let request = view.fresh().and_then(Cluster::failover_request);
        if request.is_none_or(|request| request.scheduled_at.is_some()) {
            self.fail(format!("schedule: {node} steps down for {request:?}"));
        }
    }
}
