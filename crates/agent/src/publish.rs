//! What the REST server shows: one snapshot per look.

use std::sync::Arc;

use pgherd_ha::{Dcs, Decision, View, describe, failsafe};
use pgherd_model::{GuardMode, PostgresState, Role};
use serde_json::json;

use crate::agent::Agent;
use crate::settings;
use crate::snapshot::Snapshot;

impl Agent {
    /// The snapshot of a look and its decision.
    pub(crate) fn snapshot(&self, view: &View, decision: &Decision) -> Snapshot {
        let own = describe(view, &decision.memory);
        let given_up = decision.memory.give_up.is_some() || decision.memory.released.is_some();
        let holds =
            !given_up && view.cluster().and_then(|cluster| cluster.leader_name()) == Some(&view.me);
        // That of the lock, not one that it is to be put under.
        let lease = decision.memory.held.filter(|_| holds);
        let kept = failsafe::leads_until(view, &decision.memory).filter(|_| !given_up);
        let leader_until = lease.map(|lease| lease.deadlines().expires).max(kept);
        let (guard, watchdog) = (&view.local.guard, &view.local.watchdog);
        let watchdog_failed = [
            (view.settings.guard, guard.failed),
            (watchdog.mode, watchdog.failed),
        ]
        .iter()
        .any(|(mode, failed)| *mode == GuardMode::Required && failed.is_some());
        let guard_missing = view.settings.guard != GuardMode::Off
            && leader_until.is_some()
            && own.role != Some(Role::StandbyLeader)
            && !view.local.guard.protects();
        Snapshot {
            name: view.me.clone(),
            scope: self.node.scope.clone(),
            version: settings::patroni_version(),
            tick: view.now,
            confirmed: Arc::default(),
            looked: view.now,
            cluster: view.cluster().map(|cluster| Arc::new(cluster.clone())),
            dcs_unreachable: matches!(view.dcs, Dcs::Unreachable { .. }),
            dcs_last_seen: self.dcs_last_seen,
            settings: view.settings.clone(),
            standby_cluster: view.settings.standby_cluster.is_some(),
            role: own.role.unwrap_or(Role::Uninitialized),
            state: own.state.unwrap_or(PostgresState::Stopped),
            look: view.local.look.clone(),
            leader_until,
            failsafe_active: kept.is_some() || view.failsafe.promise.is_some(),
            tags: view.identity.tags.clone(),
            system_id: view
                .local
                .control
                .map(|control| control.system_id)
                .or_else(|| view.cluster().and_then(|cluster| cluster.system_id())),
            pending_restart: own.pending_restart_reason,
            watchdog_failed,
            guard_missing,
            under_way: view.under_way(&decision.memory),
            scheduled_restart: own.scheduled_restart,
            leaves_sync: own.leaves_sync,
            explain: explain(decision),
        }
    }
}

fn explain(decision: &Decision) -> serde_json::Value {
    json!({
        "decision": decision.why.to_string(),
        "rule": decision.why.rule,
        "severity": decision.why.severity,
        "reason": decision.why.reason,
        "actions": decision.actions.iter().map(|action| action.name()).collect::<Vec<_>>(),
        "ladder": decision.ladder,
    })
}
