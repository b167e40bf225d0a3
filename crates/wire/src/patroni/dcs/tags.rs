//! Tags of a member: those that decide something, and which of them are shown
//! (contract: patroni-ha-rules, section 15).

use super::super::lenient::{as_i64, truthy};
use pgherd_model::Tags;
use serde_json::{Map, Value};

/// Reads published or configured tags. A boolean wins over its priority tag; without the
/// boolean a priority of 0 or less means the same as the boolean.
pub fn tags_from_value(value: &Value) -> Tags {
    let Some(tags) = value.as_object() else {
        return Tags::default();
    };
    let flag = |name: &str| tags.get(name).is_some_and(truthy);
    let (nofailover, failover_priority) = pair(tags, "nofailover", "failover_priority");
    let (nosync, sync_priority) = pair(tags, "nosync", "sync_priority");
    Tags {
        nofailover,
        clonefrom: flag("clonefrom"),
        noloadbalance: flag("noloadbalance"),
        nosync,
        nostream: flag("nostream"),
        replicatefrom: tags
            .get("replicatefrom")
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .map(Into::into),
        failover_priority,
        sync_priority,
        json: value.to_string(),
    }
}

/// Which of the configured tags a node publishes: own tags always, the known booleans only when
/// true (a false one too if the matching priority is set as well).
pub fn published_tags(configured: &Map<String, Value>) -> Map<String, Value> {
    let shown = |name: &str, value: &Value| match name {
        "nofailover" => truthy(value) || configured.contains_key("failover_priority"),
        "nosync" => truthy(value) || configured.contains_key("sync_priority"),
        "noloadbalance" | "clonefrom" | "nostream" => truthy(value),
        _ => true,
    };
    configured
        .iter()
        .filter(|(name, value)| shown(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The published tags, for a member that steps out of synchronous duty with those that say so.
pub(crate) fn tags_in_force(tags: &Tags, leaves_sync: bool) -> Map<String, Value> {
    let mut tags: Map<String, Value> = serde_json::from_str(&tags.json).unwrap_or_default();
    if leaves_sync {
        tags.insert("nosync".into(), Value::Bool(true));
        tags.insert("sync_priority".into(), Value::from(0));
    }
    tags
}

/// (is excluded, priority)
fn pair(tags: &Map<String, Value>, flag: &str, priority: &str) -> (bool, i64) {
    let given = tags.get(priority).and_then(as_i64);
    let excluded = match tags.get(flag) {
        None | Some(Value::Null) => given.is_some_and(|priority| priority <= 0),
        Some(flag) => truthy(flag),
    };
    (excluded, if excluded { 0 } else { given.unwrap_or(1) })
}
