//! `GET /cluster`, also the data of `list` (contract: patroni-rest, section 6).

use super::super::lenient::truthy;
use super::reasons;
use pgherd_model::{Cluster, Lsn, Member, MemberName, SynchronousMode};
use serde_json::{Map, Value, json};

/// What the dynamic configuration says about the cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `pause`.
    pub paused: bool,
    /// `synchronous_mode`. Counts as off in a standby cluster.
    pub synchronous: SynchronousMode,
    /// `standby_cluster` is configured.
    pub standby_cluster: bool,
}

impl Mode {
    /// What a dynamic configuration says.
    pub fn of(dynamic: &Value) -> Mode {
        let on = |value: &Value| match value.as_str() {
            Some(text) => matches!(text.to_lowercase().as_str(), "on" | "true" | "yes" | "1"),
            None => truthy(value),
        };
        let flag = |key: &str| dynamic.get(key).is_some_and(on);
        let mode = dynamic.get("synchronous_mode").and_then(Value::as_str);
        let quorum = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("quorum"));
        let origin = ["host", "port", "restore_command"];
        Mode {
            paused: flag("pause"),
            synchronous: match (quorum, flag("synchronous_mode")) {
                (true, _) => SynchronousMode::Quorum,
                (false, true) => SynchronousMode::On,
                (false, false) => SynchronousMode::Off,
            },
            standby_cluster: dynamic.get("standby_cluster").is_some_and(|section| {
                origin
                    .iter()
                    .any(|key| section.get(key).is_some_and(truthy))
            }),
        }
    }

    /// The synchronous mode that is active: none in a standby cluster.
    pub fn active_sync(&self) -> SynchronousMode {
        match self.standby_cluster {
            true => SynchronousMode::Off,
            false => self.synchronous,
        }
    }
}

/// Builds the document.
pub fn cluster_document(cluster: &Cluster, scope: &str, mode: Mode) -> Value {
    // A BTreeMap: sorted by name already.
    let members = cluster.members.values();
    let members = members.map(|stored| member(cluster, &stored.value, mode));
    let mut document = Map::new();
    document.insert("members".into(), Value::Array(members.collect()));
    if mode.paused {
        document.insert("pause".into(), json!(true));
    }
    if let Some(request) = cluster.failover_request()
        && let Some(schedule) = &request.scheduled_at
    {
        let mut scheduled = Map::new();
        scheduled.insert("at".into(), json!(schedule.text));
        if let Some(from) = &request.leader {
            scheduled.insert("from".into(), json!(from.as_str()));
        }
        if let Some(to) = &request.member {
            scheduled.insert("to".into(), json!(to.as_str()));
        }
        document.insert("scheduled_switchover".into(), Value::Object(scheduled));
    }
    document.insert("scope".into(), json!(scope));
    Value::Object(document)
}

/// Is this node one of those that `/sync` names? Names of PostgreSQL's `application_name` are
/// compared without regard to case.
pub(super) fn named_in_sync(cluster: &Cluster, name: &MemberName) -> bool {
    cluster.sync.as_ref().is_some_and(|sync| {
        let mut standbys = sync.value.standbys.iter();
        standbys.any(|standby| standby.as_str().eq_ignore_ascii_case(name.as_str()))
    })
}

fn member(cluster: &Cluster, member: &Member, mode: Mode) -> Value {
    let leads = cluster.leader_name() == Some(&member.name);
    let role = role(cluster, member, mode, leads);
    let state = member.state.map(|state| state.as_str());
    let shown_state = match (&member.replication_state, role) {
        (Some(replication), role) if role != "leader" => Some(replication.as_str()),
        _ => state,
    };
    let mut document = Map::new();
    let mut put = |key: &str, value: Value| {
        document.insert(key.into(), value);
    };
    put("name", json!(member.name.as_str()));
    put("role", json!(role));
    put("state", json!(shown_state.unwrap_or_default()));
    put("api_url", json!(member.api_url));
    if let Some((host, port)) = &member.address {
        put("host", json!(host));
        put("port", json!(port));
    }
    if let Some(timeline) = member.timeline {
        put("timeline", json!(timeline.0));
    }
    if member.guard_missing {
        put("guard", json!("missing"));
    }
    if member.pending_restart {
        put("pending_restart", json!(true));
    }
    if !member.pending_restart_reason.is_empty() {
        let reason = reasons(&member.pending_restart_reason);
        put("pending_restart_reason", reason);
    }
    let restart = member.scheduled_restart.as_deref();
    if let Some(Ok(restart)) = restart.map(serde_json::from_str::<Value>) {
        put("scheduled_restart", restart);
    }
    if let Ok(Value::Object(tags)) = serde_json::from_str(&member.tags.json)
        && !tags.is_empty()
    {
        put("tags", Value::Object(tags));
    }
    if !leads {
        let leader = cluster.optime().unwrap_or_default();
        for (lsn_key, lag_key, lsn) in positions(member) {
            let known = lsn.filter(|lsn| lsn.0 != 0);
            let lag = known.map_or(json!("unknown"), |lsn| json!(leader.since(lsn)));
            put(lag_key, lag);
            let lsn = known.map_or_else(|| "unknown".into(), |lsn| lsn.to_string());
            put(lsn_key, json!(lsn));
        }
    }
    Value::Object(document)
}

/// What the member publishes, and nothing else: versions before 4.1 publish the last one only.
fn positions(member: &Member) -> [(&'static str, &'static str, Option<Lsn>); 3] {
    [
        ("receive_lsn", "receive_lag", member.receive_lsn),
        ("replay_lsn", "replay_lag", member.replay_lsn),
        ("lsn", "lag", member.xlog_location),
    ]
}

fn role(cluster: &Cluster, member: &Member, mode: Mode, leads: bool) -> &'static str {
    if leads {
        return match mode.standby_cluster {
            true => "standby_leader",
            false => "leader",
        };
    }
    match mode.active_sync() {
        SynchronousMode::On if named_in_sync(cluster, &member.name) => "sync_standby",
        SynchronousMode::Quorum if named_in_sync(cluster, &member.name) => "quorum_standby",
        _ => "replica",
    }
}
