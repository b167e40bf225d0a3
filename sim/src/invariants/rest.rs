//! Rest: an agent that has found nothing to do and sees nothing new need not decide before the moment that
//! its decision names (docs/decisions, 0012). Here it decides all the same, with what one that rests
//! would have in mind: that must be what it has decided before.

use pgherd_ha::{
    Action, Decision, Local, Memory, Pulse, View, Why, decide, goes_on, is_calm, may_be_kept,
};
use pgherd_model::{Cluster, Span, Time};

use crate::world::World;

/// A decision that goes on to hold.
pub(crate) struct Resting {
    view: View,
    memory: Memory,
    why: Why,
    until: Time,
}

impl World {
    /// What an agent decides that might have rested.
    pub(crate) fn check_rest(&mut self, node: usize, view: &View, decision: &Decision) {
        if let Some(mut resting) = self.nodes[node].agent.resting.take()
            && view.now < resting.until
            && is_as_before(&resting.view, view)
            && goes_on(&mut resting.memory, pulse(view), &view.settings)
        {
            let now = decide(view, &resting.memory);
            if !now.actions.is_empty() || now.why != resting.why {
                let orders: Vec<&str> = now.actions.iter().map(Action::name).collect();
                self.fail(format!(
                    "rest: {node} sees nothing new and decides {orders:?}, {}, after {}",
                    now.why, resting.why
                ));
            }
            self.nodes[node].agent.resting = Some(resting);
            return;
        }
        self.nodes[node].agent.resting = may_rest(view, decision).then(|| Resting {
            view: view.clone(),
            memory: decision.memory.clone(),
            why: decision.why.clone(),
            until: decision.wake_at.map_or(view.now, |(at, _)| at),
        });
    }
}

fn pulse(view: &View) -> Pulse {
    Pulse {
        now: view.now,
        lease: view.lease,
        heard: view.heard,
    }
}

/// As the agent's loop judges it (`agent::glance`).
fn may_rest(view: &View, decision: &Decision) -> bool {
    let orders = &view.orders;
    let asked = orders.shutdown || orders.restart.is_some() || orders.reinitialize.is_some();
    let waits = view.asking || asked;
    is_calm(view, decision) && may_be_kept(view, decision) && !waits
}

/// Nothing has changed but what goes on by itself. The wall clock may be set, which a loop notices later.
fn is_as_before(before: &View, view: &View) -> bool {
    let waits = |cluster: &Cluster| {
        let request = cluster.failover_request();
        request.is_some_and(|request| request.scheduled_at.is_some())
    };
    let scheduled = view.orders.scheduled_restart.is_some() || view.cluster().is_some_and(waits);
    let (wall, time) = (view.wall.since(before.wall), view.now.since(before.now));
    let set = scheduled && wall.abs_diff(time) > Span::from_millis(1);
    let local = Local {
        probed: view.local.probed,
        ..before.local.clone()
    };
    let as_before = View {
        now: view.now,
        wall: view.wall,
        lease: view.lease,
        tenure: view.tenure,
        heard: view.heard,
        local,
        ..before.clone()
    };
    !set && as_before == *view
}
