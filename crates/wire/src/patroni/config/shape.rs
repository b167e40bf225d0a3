//! What each key of the dynamic configuration may hold (contract: patroni-config, section 2).
//!
//! One table, read twice: strictly in `bootstrap.dcs`, where file and line are known
//! ([`super::read_bootstrap`]), and leniently in what comes from etcd ([`sound`]), which must
//! never stop a node that runs.

use super::effective::plain;
use super::units;
use pgherd_model::Span;
use serde_json::{Map, Value};

/// Numbers that fit into an `int` of PostgreSQL: more seconds, slots or connections than anybody
/// has, and no calculation with them overflows.
const MOST: i64 = i32::MAX as i64;
const SECONDS_MOST: Span = Span::from_secs(MOST.unsigned_abs());

/// What a value may be. Null is a missing key, and always right.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// [`units::boolean`].
    Flag,
    /// An integer in this range.
    Integer(i64, i64),
    /// Bytes, plain or with a unit: at least this many.
    Bytes(i64),
    /// A time in seconds, or with a unit: at least this long.
    Time(Span),
    /// One of these words; `off` and `on` stand for [`units::boolean`] too.
    Word(&'static [&'static str]),
    /// A scalar.
    Text,
    /// A list of texts, or text with commas.
    Words,
    /// A list of texts.
    Lines,
    /// A mapping of names to scalars.
    Scalars,
    /// Options of a program: a list of names and single pairs, or a mapping.
    Options,
    /// Replication slots: a mapping of names to mappings.
    Slots,
    /// A list.
    List,
    /// A mapping with these keys.
    Section(&'static [(&'static str, Shape)]),
}

use Shape::{Bytes, Flag, Integer, Lines, List, Options, Scalars, Section, Slots, Text, Time};
use Shape::{Word, Words};

/// `ttl`, `loop_wait` and `retry_timeout` have a smallest value, to which they are raised later.
const RAISED: Shape = Integer(-MOST, MOST);
const ANY_TIME: Shape = Time(Span::ZERO);
const LEASE: Shape = Time(Span::from_secs(2));

/// Everything.
pub(super) const DYNAMIC: &[(&str, Shape)] = &[
    ("ttl", RAISED),
    ("loop_wait", RAISED),
    ("retry_timeout", RAISED),
    ("maximum_lag_on_failover", Bytes(0)),
    ("maximum_lag_on_syncnode", Bytes(-1)),
    ("max_timelines_history", Integer(0, MOST)),
    ("check_timeline", Flag),
    ("primary_start_timeout", ANY_TIME),
    ("master_start_timeout", ANY_TIME),
    ("primary_stop_timeout", ANY_TIME),
    ("master_stop_timeout", ANY_TIME),
    ("synchronous_mode", Word(&["off", "on", "quorum"])),
    ("synchronous_mode_strict", Flag),
    ("synchronous_node_count", Integer(1, MOST)),
    ("failsafe_mode", Flag),
    ("pause", Flag),
    ("member_slots_ttl", ANY_TIME),
    ("slots", Slots),
    ("permanent_slots", Slots),
    ("permanent_replication_slots", Slots),
    ("ignore_slots", List),
    ("standby_cluster", Section(STANDBY_CLUSTER)),
    ("postgresql", Section(POSTGRESQL)),
    ("pgherd", Section(PGHERD)),
];

const STANDBY_CLUSTER: &[(&str, Shape)] = &[
    ("host", Text),
    ("port", Text),
    ("restore_command", Text),
    ("primary_slot_name", Text),
    ("create_replica_methods", Words),
    ("archive_cleanup_command", Text),
    ("recovery_min_apply_delay", Text),
];

/// Keys of `postgresql` that the dynamic and the local configuration share, and `use_slots`, which
/// counts in the dynamic one only.
pub(super) const POSTGRESQL: &[(&str, Shape)] = &[
    ("parameters", Scalars),
    ("pg_hba", Lines),
    ("pg_ident", Lines),
    ("recovery_conf", Scalars),
    ("create_replica_methods", Words),
    ("create_replica_method", Words),
    ("basebackup", Options),
    ("callbacks", Section(CALLBACKS)),
    ("pre_promote", Text),
    ("before_stop", Text),
    ("use_pg_rewind", Flag),
    ("use_slots", Flag),
    ("remove_data_directory_on_rewind_failure", Flag),
    ("remove_data_directory_on_diverged_timelines", Flag),
    ("pg_ctl_timeout", ANY_TIME),
];

const CALLBACKS: &[(&str, Shape)] = &[
    ("on_start", Text),
    ("on_stop", Text),
    ("on_restart", Text),
    ("on_reload", Text),
    ("on_role_change", Text),
];

/// Keys of `pgherd`, local and dynamic.
pub(super) const PGHERD: &[(&str, Shape)] = &[
    ("lease_ttl", LEASE),
    ("hang_timeout", LEASE),
    ("guard", Word(&["automatic", "required", "off"])),
    ("crash_handover", Word(&["off", "sync"])),
];

impl Shape {
    /// In words, for `expected ...`.
    pub(super) fn expected(&self) -> String {
        match self {
            Flag => "a boolean (on or off)".into(),
            Integer(least, most) if *least == -*most => "an integer".into(),
            Integer(least, MOST | i64::MAX) => format!("an integer of {least} or more"),
            Integer(least, most) => format!("an integer from {least} to {most}"),
            Bytes(least) => format!("a size of {least} or more, in bytes or with a unit"),
            Time(Span::ZERO) => "a time in seconds or with a unit".into(),
            Time(least) => format!("a time of {} s or more", least.as_secs()),
            Word(words) => format!("one of {}", words.join(", ")),
            Text => "text".into(),
            Words | Lines => "a list of text".into(),
            Scalars => "a mapping of names to text, numbers or booleans".into(),
            Options => "a list of names and `name: value`".into(),
            Slots => "a mapping of names to slots".into(),
            List => "a list".into(),
            Section(_) => "a mapping".into(),
        }
    }

    /// Whether a value that is not null is right.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        let all = |items: &[Value]| items.iter().all(|item| plain(item).is_some());
        let scalar = |value: &Value| value.is_null() || plain(value).is_some();
        match self {
            Flag => units::boolean(value).is_some(),
            Integer(least, most) => {
                units::integer(value).is_some_and(|number| (*least..=*most).contains(&number))
            }
            Bytes(least) => units::bytes(value).is_some_and(|bytes| bytes >= *least),
            Time(least) => {
                units::seconds(value).is_some_and(|span| (*least..=SECONDS_MOST).contains(&span))
            }
            Word(words) => units::word(value, words).is_some(),
            Text => plain(value).is_some(),
            Words => value
                .as_array()
                .map_or_else(|| plain(value).is_some(), |items| all(items)),
            Lines => value.as_array().is_some_and(|items| all(items)),
            Scalars => value
                .as_object()
                .is_some_and(|pairs| pairs.values().all(scalar)),
            Options => match value {
                Value::Object(pairs) => pairs.values().all(scalar),
                Value::Array(items) => items.iter().all(|item| match item {
                    Value::Object(pair) => pair.len() == 1 && pair.values().all(scalar),
                    item => item.is_string(),
                }),
                _ => false,
            },
            Slots | Section(_) => value.is_object(),
            List => value.is_array(),
        }
    }

    /// Commands and lines can hold what the user considers secret; so can a mapping.
    fn shown(&self, value: &Value) -> String {
        let open = !matches!(self, Text | Lines | Scalars | Options);
        match value {
            Value::Array(_) => ": a list".into(),
            Value::Object(_) => ": a mapping".into(),
            Value::String(_) if !open => ": this text".into(),
            value => format!("={}", short(value)),
        }
    }
}

/// The part of a dynamic configuration that can be used. Each value that can not gives a warning
/// and is left out, so that a default (or the node's own value) holds. Unknown keys stay.
pub(super) fn sound(
    document: &Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    sound_section(document, DYNAMIC, "", warnings)
}

fn sound_section(
    document: &Map<String, Value>,
    table: &[(&str, Shape)],
    path: &str,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in document.iter().filter(|(_, value)| !value.is_null()) {
        let shape = table
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, shape)| shape);
        let value = match (shape, value) {
            (None, value) => value.clone(),
            (Some(Section(table)), Value::Object(section)) => {
                let path = format!("{path}{key}.");
                Value::Object(sound_section(section, table, &path, warnings))
            }
            (Some(Scalars), Value::Object(pairs)) => {
                Value::Object(sound_scalars(pairs, &format!("{path}{key}"), warnings))
            }
            (Some(shape), value) if shape.accepts(value) => value.clone(),
            (Some(shape), value) => {
                let (shown, expected) = (shape.shown(value), shape.expected());
                warnings.push(format!(
                    "{path}{key}{shown} failed validation (expected {expected}), ignored"
                ));
                continue;
            }
        };
        kept.insert(key.clone(), value);
    }
    kept
}

/// One parameter of a wrong type does not take the others away.
fn sound_scalars(
    pairs: &Map<String, Value>,
    path: &str,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let mut kept = pairs.clone();
    kept.retain(|name, value| {
        let good = value.is_null() || plain(value).is_some();
        if !good {
            let shown = Scalars.shown(value);
            warnings.push(format!(
                "{path}.{name}{shown} failed validation (expected text, a number or a boolean), ignored"
            ));
        }
        good
    });
    kept
}

/// A value for a message.
pub(super) fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_shape_accepts_and_refuses() {
        for (shape, right, wrong) in [
            (Flag, json!(["on", 0, true]), json!(["maybe", 2, [], {}])),
            (
                RAISED,
                json!([30, "30", -1, 4.0]),
                json!(["thirty", 3e12, "10s", []]),
            ),
            (Integer(1, MOST), json!([1, "0x10"]), json!([0, "one"])),
            (Bytes(0), json!([0, "1MB"]), json!([-1, "1mb", true])),
            (ANY_TIME, json!([0, "5min", 1.5]), json!([-1, "soon", 1e12])),
            (LEASE, json!([2, "2s"]), json!([1, "five", "1900ms"])),
            (
                Word(&["off", "on", "quorum"]),
                json!([true, 0, "QUORUM", "yes"]),
                json!(["maybe", 2, []]),
            ),
            (
                Word(&["off", "sync"]),
                json!([false, "Sync"]),
                json!([true, "on"]),
            ),
            (Text, json!(["a", 1]), json!([[], {}])),
            (Words, json!(["a,b", ["a", 1]]), json!([{}, [["a"]]])),
            (Lines, json!([["a b"], []]), json!(["a", {}, [{"a": 1}]])),
            (
                Scalars,
                json!([{"a": 1, "b": null}]),
                json!(["a", {"a": []}]),
            ),
            (
                Options,
                json!([["a", {"b": 1}], {"a": null}]),
                json!(["a", [{"a": 1, "b": 2}], [1]]),
            ),
            (Slots, json!([{}]), json!([[], "a"])),
            (List, json!([[]]), json!([{}, "a"])),
            (Section(PGHERD), json!([{}]), json!([[], "x"])),
        ] {
            for value in right.as_array().unwrap() {
                assert!(shape.accepts(value), "{shape:?} {value}");
            }
            for value in wrong.as_array().unwrap() {
                assert!(!shape.accepts(value), "{shape:?} {value}");
            }
        }
    }

    #[test]
    fn what_can_not_be_used_is_told_once_and_left_out() {
        let document = json!({
            "ttl": "thirty", "loop_wait": 5, "unknown": {"kept": [1]}, "pause": null,
            "slots": "x", "pgherd": {"lease_ttl": "five", "guard": "maybe", "surplus": 1},
            "postgresql": {
                "use_slots": "maybe", "pg_hba": "secret", "bin_dir": 7, "pre_promote": ["secret"],
                "callbacks": {"on_start": {"secret": 1}, "on_stop": "x"},
                "parameters": {"work_mem": ["8MB"], "a": 1, "b": null},
            },
        });
        let mut warnings = Vec::new();
        let kept = sound(document.as_object().unwrap(), &mut warnings);
        assert_eq!(
            Value::Object(kept),
            json!({
                "loop_wait": 5, "unknown": {"kept": [1]}, "pgherd": {"surplus": 1},
                "postgresql": {
                    "bin_dir": 7, "callbacks": {"on_stop": "x"}, "parameters": {"a": 1, "b": null},
                },
            })
        );
        assert_eq!(
            warnings,
            [
                "ttl=thirty failed validation (expected an integer), ignored",
                "slots=x failed validation (expected a mapping of names to slots), ignored",
                "pgherd.lease_ttl=five failed validation (expected a time of 2 s or more), ignored",
                "pgherd.guard=maybe failed validation (expected one of automatic, required, off), ignored",
                "postgresql.use_slots=maybe failed validation (expected a boolean (on or off)), ignored",
                "postgresql.pg_hba: this text failed validation (expected a list of text), ignored",
                "postgresql.pre_promote: a list failed validation (expected text), ignored",
                "postgresql.callbacks.on_start: a mapping failed validation (expected text), ignored",
                "postgresql.parameters.work_mem: a list failed validation (expected text, a number or a boolean), ignored",
            ]
        );
        let mut warnings = Vec::new();
        let document = json!({"postgresql": "x", "pgherd": [1]});
        assert!(sound(document.as_object().unwrap(), &mut warnings).is_empty());
        assert_eq!(
            warnings,
            [
                "postgresql=x failed validation (expected a mapping), ignored",
                "pgherd: a list failed validation (expected a mapping), ignored",
            ]
        );
    }
}
