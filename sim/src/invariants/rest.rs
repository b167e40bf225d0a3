//! Rest: an agent that has found nothing to do and sees nothing new need not decide before the moment that
//! its decision names (docs/decisions, 0012). Here it decides all the same, with what one that rests
//! would have in mind: that must be what it has decided before.

use pgherd_ha::{
    Action, Decision, Local, Memory, Pulse, View, Why, decide, goes_on, is_calm, may_be_kept,
};
use pgherd_model::{Cluster, Span, Time, WallTime};

use crate::world::World;

/// A decision that goes on to hold.
pub(crate) struct Resting {
    /// When it was made, by both clocks.
    since: (Time, WallTime),
    memory: Memory,
    why: Why,
    until: Time,
}

impl World {
    /// What an agent decides that might have rested.
    pub(crate) fn check_rest(&mut self, node: usize, view: &View, decision: &Decision) {
        let agent = &mut self.nodes[node].agent;
        let before = agent.view.as_ref();
        if let (Some(mut resting), Some(before)) = (agent.resting.take(), before)
            && view.now < resting.until
            && !is_set(resting.since, view)
            && is_as_before(before, view)
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
            since: (view.now, view.wall),
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

/// The wall clock was set, where something waits for it: a loop notices that later.
fn is_set((now, wall): (Time, WallTime), view: &View) -> bool {
    let waits = |cluster: &Cluster| {
        let request = cluster.failover_request();
        request.is_some_and(|request| request.scheduled_at.is_some())
    };
    let scheduled = view.orders.scheduled_restart.is_some() || view.cluster().is_some_and(waits);
    let (wall, time) = (view.wall.since(wall), view.now.since(now));
    scheduled && wall.abs_diff(time) > Span::from_millis(1)
}

/// Nothing has changed but what goes on by itself. While an agent rests this holds from look to look, and so since
/// the decision that goes on to hold.
fn is_as_before(before: &View, view: &View) -> bool {
    let View {
        now: _,
        wall: _,
        me,
        identity,
        dcs,
        heard: _,
        tenure: _,
        lease: _,
        failsafe,
        sight,
        local,
        peers,
        asking,
        history,
        settings,
        config,
        member_lease,
        orders,
    } = before;
    // What changes most often comes first.
    is_local_as_before(local, &view.local)
        && *dcs == view.dcs
        && *peers == view.peers
        && (asking, sight, history) == (&view.asking, &view.sight, &view.history)
        && (failsafe, orders) == (&view.failsafe, &view.orders)
        && (member_lease, settings, config) == (&view.member_lease, &view.settings, &view.config)
        && (me, identity) == (&view.me, &view.identity)
}

fn is_local_as_before(before: &Local, local: &Local) -> bool {
    let Local {
        data,
        control,
        shutdown_end,
        standby_signal,
        backup_label,
        archiving,
        awaits_senders,
        postmaster,
        look,
        silent_since,
        not_ready,
        hangs,
        halted,
        job,
        guard,
        watchdog,
        own_history,
        probed: _,
    } = before;
    *look == local.look
        && (postmaster, control, data) == (&local.postmaster, &local.control, &local.data)
        && (job, guard, watchdog) == (&local.job, &local.guard, &local.watchdog)
        && (shutdown_end, silent_since) == (&local.shutdown_end, &local.silent_since)
        && (standby_signal, backup_label) == (&local.standby_signal, &local.backup_label)
        && (archiving, awaits_senders) == (&local.archiving, &local.awaits_senders)
        && (not_ready, hangs, halted) == (&local.not_ready, &local.hangs, &local.halted)
        && *own_history == local.own_history
}
