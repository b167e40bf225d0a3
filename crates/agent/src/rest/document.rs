//! Snapshots as the documents that `wire` writes.

use super::health::Health;
use crate::logging;
use crate::snapshot::Snapshot;
use axum::body::Bytes;
use pgherd_instance::Refused;
use pgherd_model::{Cluster, Role};
use pgherd_wire::patroni::config::{HIDDEN, text_without_secrets, without_secrets};
use pgherd_wire::patroni::rest::{
    Mode, StatusInput, cluster_document, python_json, status_document,
};
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// The status document: `GET /patroni` and the body of every health check.
pub(super) fn status(snapshot: &Snapshot, health: &Health<'_>) -> String {
    python_json(&status_document(&input(snapshot, health)))
}

/// The last status document: load balancers ask much more often than anything changes.
#[derive(Default)]
pub(super) struct Shown(Mutex<Option<Kept>>);

/// It, and all that it depends on.
struct Kept {
    snapshot: Arc<Snapshot>,
    /// PostgreSQL counts as one that answers.
    answers: bool,
    dcs_seen_at: i64,
    backlog: (usize, u64),
    text: Bytes,
}

impl Shown {
    /// [`status`], written when something is another one than at the last call.
    pub(super) fn status(&self, snapshot: &Arc<Snapshot>, health: &Health<'_>) -> Bytes {
        let (answers, backlog) = (health.look().is_some(), logging::backlog());
        let dcs_seen_at = snapshot.dcs_seen_at();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.as_ref()
            && Arc::ptr_eq(&kept.snapshot, snapshot)
            && (kept.answers, kept.dcs_seen_at, kept.backlog) == (answers, dcs_seen_at, backlog)
        {
            return kept.text.clone();
        }
        let text = Bytes::from(status(snapshot, health));
        *kept = Some(Kept {
            snapshot: snapshot.clone(),
            answers,
            dcs_seen_at,
            backlog,
            text: text.clone(),
        });
        text
    }
}

/// `GET /metrics`.
pub(super) fn metrics(snapshot: &Snapshot, health: &Health<'_>) -> String {
    pgherd_wire::patroni::rest::metrics(&input(snapshot, health))
}

fn input<'a>(snapshot: &'a Snapshot, health: &Health<'a>) -> StatusInput<'a> {
    let (sync_standby, quorum_standby) = health.sync_duty();
    let mut extra = Map::new();
    if snapshot.guard_missing {
        extra.insert("guard".into(), "missing".into());
    }
    if snapshot.role == Role::Promoted {
        extra.insert("promoting".into(), true.into());
    }
    // As Patroni: two lines per loop are usual.
    if let (waiting @ 3.., lost) = logging::backlog() {
        extra.insert("logger_queue_size".into(), waiting.into());
        if lost > 0 {
            extra.insert("logger_records_lost".into(), lost.into());
        }
    }
    StatusInput {
        state: snapshot.state,
        role: snapshot.role,
        look: health.look(),
        standby_cluster: snapshot.standby_cluster,
        sync_standby,
        quorum_standby,
        paused: snapshot.settings.pause,
        cluster_unlocked: health
            .cluster()
            .is_none_or(|cluster| cluster.leader.is_none()),
        failsafe_active: snapshot.failsafe_active,
        dcs_last_seen: snapshot.dcs_seen_at(),
        tags: &snapshot.tags,
        stepping_out_of_sync: snapshot.leaves_sync,
        system_id: snapshot.system_id,
        pending_restart: !snapshot.pending_restart.is_empty(),
        pending_restart_reason: &snapshot.pending_restart,
        version: &snapshot.version,
        scope: &snapshot.scope,
        name: snapshot.name.as_str(),
        scheduled_restart: snapshot.scheduled_restart.as_deref(),
        watchdog_failed: snapshot.watchdog_failed,
        extra,
    }
}

/// `GET /cluster`.
pub(super) fn cluster(snapshot: &Snapshot, cluster: &Cluster) -> String {
    python_json(&cluster_document(cluster, &snapshot.scope, mode(cluster)))
}

/// Parameters that PostgreSQL does not take, for everybody: without secrets.
pub(super) fn refused(parameters: &[Refused]) -> Value {
    let one = |refused: &Refused| {
        let value = |value: &str| without_secrets(&refused.name, value.into());
        let mut reason = refused.reason.clone();
        if value(&refused.value) != refused.value.as_str() && !refused.value.is_empty() {
            reason = reason.replace(&refused.value, HIDDEN);
        }
        json!({
            "name": refused.name,
            "value": value(&refused.value),
            "reason": text_without_secrets(&reason),
            "in_force": refused.in_force.as_deref().map(value),
        })
    };
    parameters.iter().map(one).collect()
}

/// What the configuration in the same picture says about the cluster as a whole: the loop may not
/// have noticed a pause yet.
pub(super) fn mode(cluster: &Cluster) -> Mode {
    let config = cluster.config.as_ref().map(|stored| &stored.value.text);
    let dynamic = config.and_then(|text| serde_json::from_str(text).ok());
    Mode::of(&dynamic.unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_told_without_secrets() {
        let one = |name: &str, value: &str| Refused {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: format!("invalid value for parameter \"{name}\": \"{value}\""),
            in_force: None,
        };
        let work_mem = Refused {
            in_force: Some("4MB".to_owned()),
            ..one("work_mem", "1kB")
        };
        let told = refused(&[work_mem, one("app.token", "abc")]);
        let expected = json!([
            {"name": "work_mem", "value": "1kB", "in_force": "4MB",
             "reason": "invalid value for parameter \"work_mem\": \"1kB\""},
            {"name": "app.token", "value": HIDDEN, "in_force": null,
             "reason": format!("invalid value for parameter \"app.token\": \"{HIDDEN}\"")},
        ]);
        assert_eq!(told, expected);
    }
}
