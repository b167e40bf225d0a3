//! What is another than before: facts by name, or what a decision was made on, field by field.

use pgherd_model::{Lsn, Span};
use serde::Serialize;
use serde_json::Value;

use super::Facts;

/// Moves with every commit or every look: it is told in a situation, and is no news.
const MOVES: [&str; 24] = [
    "view.now",
    "view.wall",
    "view.heard",
    "memory.heard",
    "view.tenure",
    "view.config",
    "lease.sent",
    "armed_by.sent",
    "asked",
    "answered",
    "remaining",
    "probed",
    ".wal.",
    " wal",
    "latest_end",
    "flushed",
    "written",
    "replayed",
    "restart",
    "optime",
    "xlog_location",
    "receive_lsn",
    "replay_lsn",
    "revision",
];

/// Fields that hold positions in the WAL.
const POSITIONS: [&str; 10] = [
    "lsn",
    "optime",
    "location",
    "received",
    "writable_at",
    "flushed",
    "checkpoint",
    "end",
    "replayed",
    "recovery_end",
];

/// `name: before -> now` for everything that is another.
pub(super) fn changes(before: &Facts, now: &Facts) -> Vec<String> {
    let names = before.keys().chain(now.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    let of = |facts: &Facts, name: &String| facts.get(name).cloned();
    let changed = names.into_iter().filter_map(|name| {
        let (old, new) = (of(before, name), of(now, name));
        let word = |value: Option<String>| value.unwrap_or_else(|| "nothing".into());
        (old != new && !moves(name)).then(|| format!("{name}: {} -> {}", word(old), word(new)))
    });
    changed.collect()
}

/// All fields of a value by their paths.
pub(super) fn fields(name: &str, value: &impl Serialize) -> Facts {
    let mut facts = Facts::new();
    match serde_json::to_value(value) {
        Ok(value) => flatten(name, &value, &mut facts),
        Err(error) => drop(facts.insert(name.into(), format!("cannot be shown: {error}"))),
    }
    facts
}

/// The same of what is read already.
pub(super) fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    match value {
        // What is not the case is nothing to tell of.
        Value::Null | Value::Bool(false) => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, facts);
            }
        }
        Value::Array(values) if values.iter().any(|it| it.is_object() || it.is_array()) => {
            for (index, value) in values.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, facts);
            }
        }
        Value::Array(values) => {
            let words: Vec<String> = values.iter().map(|value| word(path, value)).collect();
            facts.insert(path.into(), format!("[{}]", words.join(", ")));
        }
        value => drop(facts.insert(path.into(), word(path, value))),
    }
}

fn word(path: &str, value: &Value) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    match (value.as_u64(), value) {
        (Some(number), _) if POSITIONS.iter().any(|it| name.ends_with(it)) => {
            Lsn(number).to_string()
        }
        // Nothing but times is counted in millions here.
        (Some(number), _) if number >= 1_000_000 && !path.contains("system_id") => {
            format!("{:?}", Span::from_nanos(number))
        }
        (_, Value::String(text)) => text.clone(),
        _ => value.to_string(),
    }
}

fn moves(name: &str) -> bool {
    MOVES.iter().any(|it| match it.strip_prefix('.') {
        Some(_) => name.contains(it),
        None => name.starts_with(it) || name.ends_with(it),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_another_is_told_with_its_path() {
        let facts = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            let mut facts = Facts::new();
            flatten("view", &value, &mut facts);
            facts
        };
        let before = facts(
            r#"{"now": 1, "dcs": {"leader": "a"}, "names": ["a"], "gone": true, "free_since": null, "so": false}"#,
        );
        let now = facts(
            r#"{"now": 2, "dcs": {"leader": "b"}, "names": ["a", "b"], "free_since": 12500000000, "end": 16777216}"#,
        );
        let expected = [
            "view.dcs.leader: a -> b",
            "view.end: nothing -> 0/1000000",
            "view.free_since: nothing -> 12.5s",
            "view.gone: true -> nothing",
            "view.names: [a] -> [a, b]",
        ];
        assert_eq!(changes(&before, &now), expected);
        assert!(changes(&now, &now).is_empty());
    }
}
