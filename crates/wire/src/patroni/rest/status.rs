//! The status document: `GET /patroni` and the body of every health check
//! (contract: patroni-rest, section 3).

use super::restart::shown_restart;
use crate::patroni::dcs::tags_in_force;
use pgherd_model::{Look, PostgresState, Role, SystemId, Tags};
use serde_json::{Map, Value, json};

/// Everything that the document tells. What is `None`, false or empty does not appear.
#[derive(Clone, Debug)]
pub struct StatusInput<'a> {
    /// What the agent knows of its PostgreSQL.
    pub state: PostgresState,
    /// The agent's own role; shown when PostgreSQL cannot be asked, and in a standby cluster.
    pub role: Role,
    /// What PostgreSQL said; `None`: it could not be asked.
    pub look: Option<&'a Look>,
    /// A standby cluster is configured.
    pub standby_cluster: bool,
    /// `sync_standby`: `/sync` names this node, priority mode.
    pub sync_standby: bool,
    /// `quorum_standby`: `/sync` names this node, quorum mode.
    pub quorum_standby: bool,
    /// `pause`.
    pub paused: bool,
    /// `cluster_unlocked`: no leader key, or the DCS is unknown.
    pub cluster_unlocked: bool,
    /// `failsafe_mode_is_active`.
    pub failsafe_active: bool,
    /// `dcs_last_seen`, seconds since 1970.
    pub dcs_last_seen: i64,
    /// `tags`, as published.
    pub tags: &'a Tags,
    /// Stepping out of sync duty: shows `nosync: true, sync_priority: 0`.
    pub stepping_out_of_sync: bool,
    /// `database_system_identifier`.
    pub system_id: Option<SystemId>,
    /// `pending_restart`.
    pub pending_restart: bool,
    /// `pending_restart_reason`: (parameter, value in force, new value).
    pub pending_restart_reason: &'a [(String, String, String)],
    /// `patroni.version`.
    pub version: &'a str,
    /// `patroni.scope`.
    pub scope: &'a str,
    /// `patroni.name`.
    pub name: &'a str,
    /// `scheduled_restart` as JSON text.
    pub scheduled_restart: Option<&'a str>,
    /// `watchdog_failed`: protection is required and missing.
    pub watchdog_failed: bool,
    /// More keys, behind those of Patroni: what pgherd alone tells.
    pub extra: Map<String, Value>,
}

/// Builds the document.
pub fn status_document(input: &StatusInput<'_>) -> Value {
    let mut document = Map::new();
    match input.look {
        Some(look) => put_look(&mut document, input, look),
        None => {
            let state = match input.state {
                PostgresState::Running => "unknown",
                other => other.as_str(),
            };
            document.insert("state".into(), json!(state));
            document.insert("role".into(), json!(input.role.as_str()));
        }
    }
    put_cluster(&mut document, input);
    put_node(&mut document, input);
    document.extend(input.extra.clone());
    Value::Object(document)
}

/// `pending_restart_reason` as Patroni shows it: `{"name": {"old_value": …, "new_value": …}}`.
pub(crate) fn reasons(reasons: &[(String, String, String)]) -> Value {
    let reason = |(name, old, new): &(String, String, String)| {
        (name.clone(), json!({"old_value": old, "new_value": new}))
    };
    Value::Object(reasons.iter().map(reason).collect())
}

/// `role`: what PostgreSQL says, else the agent's idea.
pub(super) fn shown_role(input: &StatusInput<'_>) -> Role {
    match input.look {
        Some(look) if !look.in_recovery => Role::Primary,
        Some(_) if !input.standby_cluster => Role::Replica,
        Some(_) | None => input.role,
    }
}

fn put_look(document: &mut Map<String, Value>, input: &StatusInput<'_>, look: &Look) {
    let role = shown_role(input);
    let xlog = match look.in_recovery {
        false => json!({"location": look.wal.flushed.0}),
        true => {
            let replayed = look.wal.replayed.0;
            let received = match look.wal.received.0 {
                0 => replayed,
                received => received,
            };
            json!({
                "received_location": received,
                "replayed_location": replayed,
                "replayed_timestamp": look.replayed_at,
                "paused": look.replay_paused,
            })
        }
    };
    let mut put = |key: &str, value: Value| {
        document.insert(key.into(), value);
    };
    put("state", json!(input.state.as_str()));
    put("postmaster_start_time", json!(look.start_time));
    put("role", json!(role.as_str()));
    put("server_version", json!(look.server_version));
    put("xlog", xlog);
    if look.in_recovery && input.sync_standby {
        put("sync_standby", json!(true));
    }
    if look.in_recovery && input.quorum_standby {
        put("quorum_standby", json!(true));
    }
    put("timeline", json!(look.timeline.0));
    if look.in_recovery {
        let streaming = look.receiver.as_ref().is_some_and(|r| r.streaming);
        if streaming {
            put("replication_state", json!("streaming"));
        } else if look.restore_command {
            put("replication_state", json!("in archive recovery"));
        }
    }
    if !look.standbys.is_empty() {
        let standby = |standby: &pgherd_model::Standby| {
            json!({
                "usename": standby.user,
                "application_name": standby.name,
                "client_addr": standby.address,
                "state": standby.state,
                "sync_state": standby.sync_state,
                "sync_priority": standby.sync_priority,
            })
        };
        let standbys = look.standbys.iter().map(standby).collect();
        put("replication", Value::Array(standbys));
    }
}

fn put_cluster(document: &mut Map<String, Value>, input: &StatusInput<'_>) {
    for (key, shown) in [
        ("pause", input.paused),
        ("cluster_unlocked", input.cluster_unlocked),
        ("failsafe_mode_is_active", input.failsafe_active),
    ] {
        if shown {
            document.insert(key.into(), json!(true));
        }
    }
    document.insert("dcs_last_seen".into(), json!(input.dcs_last_seen));
}

fn put_node(document: &mut Map<String, Value>, input: &StatusInput<'_>) {
    let tags = tags_in_force(input.tags, input.stepping_out_of_sync);
    if !tags.is_empty() {
        document.insert("tags".into(), Value::Object(tags));
    }
    if let Some(id) = input.system_id {
        let id = json!(id.to_string());
        document.insert("database_system_identifier".into(), id);
    }
    if input.pending_restart {
        document.insert("pending_restart".into(), json!(true));
        if !input.pending_restart_reason.is_empty() {
            let reason = reasons(input.pending_restart_reason);
            document.insert("pending_restart_reason".into(), reason);
        }
    }
    let agent = json!({"version": input.version, "scope": input.scope, "name": input.name});
    document.insert("patroni".into(), agent);
    if let Some(restart) = input.scheduled_restart.and_then(shown_restart) {
        document.insert("scheduled_restart".into(), restart);
    }
    if input.watchdog_failed {
        document.insert("watchdog_failed".into(), json!(true));
    }
}
