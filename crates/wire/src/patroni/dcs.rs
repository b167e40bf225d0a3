//! Values of the keys in etcd (contract: patroni-dcs, sections 2 and 3).
//!
//! Readers never fail: one unreadable value must not take the picture of the cluster away from
//! anybody. What cannot be understood counts as absent, unknown fields are ignored. Writers
//! produce compact JSON with Patroni's fields, so that genuine Patroni reads it.

use super::lenient::as_u64;
use super::rest::stored_schedule;
use pgherd_model::{
    Config, Failover, History, HistoryLine, Initialize, Lsn, MemberName, Status, Sync, SystemId,
    Timeline,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

mod member;
mod tags;

pub use member::{host_and_port, member_from_json, member_to_json};
pub(crate) use tags::tags_in_force;
pub use tags::{published_tags, tags_from_value};

/// Reads `initialize`.
pub fn initialize_from_text(text: &str) -> Initialize {
    match text.trim() {
        "" => Initialize::UnderWay,
        digits => match digits.parse() {
            Ok(id) => Initialize::Done(SystemId(id)),
            Err(_) => Initialize::Invalid(text.to_owned()),
        },
    }
}

/// Writes `initialize`; `None`: a bootstrap is under way.
pub fn initialize_to_text(system_id: Option<SystemId>) -> String {
    system_id.map(|id| id.to_string()).unwrap_or_default()
}

/// Reads `config`. The text is kept as it is; whoever needs its content parses it, so that a
/// broken one is reported there.
pub fn config_from_text(text: &str) -> Config {
    Config {
        text: text.to_owned(),
        is_object: parse(text).is_object(),
    }
}

/// Reads `status`, also its older form of a bare integer, and `slots` or `retain_slots` as JSON
/// text within the JSON. Reads `optime/leader` too.
pub fn status_from_text(text: &str) -> Status {
    let value = parse(text);
    if let Some(optime) = as_u64(&value) {
        return Status {
            optime: Lsn(optime),
            ..Status::default()
        };
    }
    let slots = value.get("slots").map(unwrap_json_text);
    let retained = value.get("retain_slots").map(unwrap_json_text);
    Status {
        optime: Lsn(value.get("optime").and_then(as_u64).unwrap_or(0)),
        slots: slots
            .as_ref()
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, lsn)| Some((name.clone(), Lsn(as_u64(lsn)?))))
            .collect(),
        retain_slots: retained
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect(),
        other: other_fields(value),
    }
}

/// What nobody here knows, as text.
fn other_fields(status: Value) -> String {
    let Value::Object(mut fields) = status else {
        return String::new();
    };
    fields.retain(|name, _| !matches!(name.as_str(), "optime" | "slots" | "retain_slots"));
    if fields.is_empty() {
        return String::new();
    }
    Value::Object(fields).to_string()
}

/// Writes `status`. Empty `slots` and `retain_slots` are left out, as Patroni does.
pub fn status_to_json(status: &Status) -> String {
    let mut object = Map::new();
    object.insert("optime".into(), json!(status.optime.0));
    if !status.slots.is_empty() {
        let slots = status.slots.iter();
        let slots: Map<String, Value> = slots.map(|(k, lsn)| (k.clone(), json!(lsn.0))).collect();
        object.insert("slots".into(), Value::Object(slots));
    }
    if !status.retain_slots.is_empty() {
        object.insert("retain_slots".into(), json!(status.retain_slots));
    }
    if let Value::Object(other) = parse(&status.other) {
        object.extend(other);
    }
    Value::Object(object).to_string()
}

/// Reads `sync`. Anything but an object is a mode that was never activated.
pub fn sync_from_text(text: &str) -> Sync {
    let value = parse(text);
    let mut standbys: Vec<MemberName> = match value.get("sync_standby") {
        Some(Value::String(list)) => list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(MemberName::from)
            .collect(),
        _ => Vec::new(),
    };
    standbys.sort();
    standbys.dedup();
    Sync {
        leader: name(&value, "leader"),
        standbys,
        quorum: value
            .get("quorum")
            .and_then(as_u64)
            .and_then(|quorum| usize::try_from(quorum).ok())
            .unwrap_or(0),
    }
}

/// Writes `sync`: standbys sorted, `null` when there are none.
pub fn sync_to_json(sync: &Sync) -> String {
    let mut names: Vec<&str> = sync.standbys.iter().map(MemberName::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let standbys = (!names.is_empty()).then(|| names.join(","));
    let leader = sync.leader.as_ref().map(MemberName::as_str);
    json!({"leader": leader, "quorum": sync.quorum, "sync_standby": standbys}).to_string()
}

/// Reads `failover`, also the legacy text `leader:candidate`.
pub fn failover_from_text(text: &str) -> Failover {
    let trimmed = text.trim();
    if let Ok(value) = serde_json::from_str::<Value>(trimmed) {
        return Failover {
            leader: name(&value, "leader"),
            member: name(&value, "member"),
            scheduled_at: value
                .get("scheduled_at")
                .and_then(Value::as_str)
                .filter(|time| !time.is_empty())
                .map(stored_schedule),
        };
    }
    // Something cut off or mangled is nothing that anybody asked for.
    if trimmed.starts_with(['{', '[', '"']) {
        return Failover::default();
    }
    let part = |text: &str| Some(text.trim()).filter(|t| !t.is_empty()).map(Into::into);
    let (leader, member) = trimmed.split_once(':').unwrap_or((trimmed, ""));
    Failover {
        leader: part(leader),
        member: part(member),
        scheduled_at: None,
    }
}

/// Writes `failover`; nothing asked is `{}`.
pub fn failover_to_json(failover: &Failover) -> String {
    let mut object = Map::new();
    if let Some(leader) = &failover.leader {
        object.insert("leader".into(), json!(leader.as_str()));
    }
    if let Some(member) = &failover.member {
        object.insert("member".into(), json!(member.as_str()));
    }
    if let Some(schedule) = &failover.scheduled_at {
        object.insert("scheduled_at".into(), json!(schedule.text));
    }
    Value::Object(object).to_string()
}

/// Reads `failsafe`: API addresses by member.
pub fn failsafe_from_text(text: &str) -> BTreeMap<String, String> {
    parse(text)
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, url)| Some((name.clone(), url.as_str()?.to_owned())))
        .collect()
}

/// Writes `failsafe`.
pub fn failsafe_to_json(members: &BTreeMap<String, String>) -> String {
    json!(members).to_string()
}

/// Reads `history`; lines that are not of the form `[timeline, lsn, reason, …]` are left out.
pub fn history_from_text(text: &str) -> History {
    let line = |line: &Value| {
        let fields = line.as_array()?;
        Some(HistoryLine {
            timeline: Timeline(u32::try_from(as_u64(fields.first()?)?).ok()?),
            end: Lsn(as_u64(fields.get(1)?)?),
            reason: fields.get(2)?.as_str()?.to_owned(),
            timestamp: fields.get(3).and_then(Value::as_str).map(str::to_owned),
            leader: fields.get(4).and_then(Value::as_str).map(MemberName::from),
        })
    };
    let value = parse(text);
    let lines = value.as_array().into_iter().flatten();
    lines.filter_map(line).collect()
}

/// Writes `history`.
pub fn history_to_json(history: &[HistoryLine]) -> String {
    history_value(history).to_string()
}

/// `history` as a document: the body of `GET /history`.
pub fn history_value(history: &[HistoryLine]) -> Value {
    let line = |line: &HistoryLine| {
        let mut fields = vec![
            json!(line.timeline.0),
            json!(line.end.0),
            json!(line.reason),
        ];
        // Fields go by position: a missing time with a leader after it has to be there as null.
        if line.timestamp.is_some() || line.leader.is_some() {
            fields.push(json!(line.timestamp));
        }
        if let Some(leader) = &line.leader {
            fields.push(json!(leader.as_str()));
        }
        Value::Array(fields)
    };
    Value::Array(history.iter().map(line).collect())
}

/// JSON, or null for whatever is none.
fn parse(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or(Value::Null)
}

/// A value that somebody encoded twice.
fn unwrap_json_text(value: &Value) -> Value {
    match value {
        Value::String(text) => parse(text),
        other => other.clone(),
    }
}

fn name(value: &Value, key: &str) -> Option<MemberName> {
    let name = value.get(key)?.as_str()?;
    (!name.is_empty()).then(|| name.into())
}

#[cfg(test)]
mod tests;
