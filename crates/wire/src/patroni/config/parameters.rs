//! Parameters of PostgreSQL: the user's, and those that the agent owns
//! (contract: patroni-config, section 2).

use super::effective::plain;
use super::{NodeConfig, units};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

enum Rule {
    Number(i64),
    Flag,
    Word(&'static [&'static str]),
    /// Size of kept WAL, in MB.
    Megabytes(i64),
}

/// (name, default, what is accepted)
const OWNED: &[(&str, &str, Rule)] = &[
    (
        "wal_level",
        "replica",
        Rule::Word(&["hot_standby", "replica", "logical"]),
    ),
    ("hot_standby", "on", Rule::Word(&["on"])),
    ("max_connections", "100", Rule::Number(25)),
    ("max_wal_senders", "10", Rule::Number(3)),
    ("max_replication_slots", "10", Rule::Number(4)),
    ("max_worker_processes", "8", Rule::Number(2)),
    ("max_prepared_transactions", "0", Rule::Number(0)),
    ("max_locks_per_transaction", "64", Rule::Number(32)),
    ("track_commit_timestamp", "off", Rule::Flag),
    ("wal_log_hints", "on", Rule::Flag),
    ("wal_keep_size", "128MB", Rule::Megabytes(16)),
];

/// Those that nobody can set, because they follow from the node's own configuration.
pub(super) const FIXED: &[&str] = &["listen_addresses", "port", "cluster_name"];

/// Is this a parameter that the agent decides, from the dynamic configuration only? Most are
/// passed on the command line; `wal_keep_size` stands in the file.
pub fn is_owned(parameter: &str) -> bool {
    parameter == "wal_keep_segments"
        || FIXED.contains(&parameter)
        || OWNED.iter().any(|(name, _, _)| *name == parameter)
}

/// Is this a parameter that nobody can set, because it follows from the node's own configuration?
pub fn is_fixed(parameter: &str) -> bool {
    FIXED.contains(&parameter)
}

/// Default of a parameter that the agent owns.
pub fn owned_default(parameter: &str) -> Option<&'static str> {
    let found = OWNED.iter().find(|(name, _, _)| *name == parameter);
    found.map(|(_, default, _)| *default)
}

/// Names of the parameters that the agent decides and somebody can set.
pub fn owned_parameters() -> Vec<&'static str> {
    OWNED.iter().map(|(name, _, _)| *name).collect()
}

/// What the agent would make of a value of one of them; `false`: it would take its own default.
pub(super) fn is_accepted(name: &str, value: &str) -> bool {
    accepts(name, &Value::from(value))
}

/// Whether a dynamic value of a parameter that the agent owns is taken; else the default holds. `wal_keep_segments` is the
/// older form of `wal_keep_size`.
pub fn accepts(name: &str, value: &Value) -> bool {
    let dynamic = Map::from_iter([(name.to_owned(), value.clone())]);
    let known = match name {
        "wal_keep_segments" if segments(&dynamic).is_null() => return false,
        "wal_keep_segments" => "wal_keep_size",
        name => name,
    };
    let mut warnings = Vec::new();
    let rule = OWNED.iter().find(|(name, _, _)| *name == known);
    rule.is_some_and(|(name, default, rule)| {
        owned(&dynamic, name, default, rule, &mut warnings);
        warnings.is_empty()
    })
}

/// Dynamic values, local ones over them, then the owned ones.
pub(super) fn merged(
    node: &NodeConfig,
    dynamic: Option<&Map<String, Value>>,
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let dynamic = dynamic.and_then(|section| section.get("parameters"));
    let local = node.postgresql.shared.get("parameters");
    let values = |section: Option<&Value>| -> Map<String, Value> {
        let section = section.and_then(Value::as_object).into_iter().flatten();
        section
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect()
    };
    let (dynamic, local) = (values(dynamic), values(local));
    let mut parameters = BTreeMap::new();
    for (name, value) in dynamic.iter().chain(&local) {
        if is_owned(name) {
            continue;
        }
        match plain(value) {
            Some(text) => parameters.insert(name.clone(), text),
            None => parameters.remove(name),
        };
    }
    for (name, default, rule) in OWNED {
        let value = owned(&dynamic, name, default, rule, warnings);
        parameters.insert((*name).to_owned(), value);
    }
    let listen = &node.postgresql.listen;
    parameters.insert("listen_addresses".into(), listen.addresses.clone());
    parameters.insert("port".into(), listen.port.to_string());
    parameters.insert("cluster_name".into(), node.scope.clone());
    parameters
}

fn owned(
    dynamic: &Map<String, Value>,
    name: &str,
    default: &str,
    rule: &Rule,
    warnings: &mut Vec<String>,
) -> String {
    let converted = segments(dynamic);
    let given = match dynamic.get(name) {
        Some(value) if !value.is_null() => value,
        _ if name == "wal_keep_size" && !converted.is_null() => &converted,
        _ => return default.to_owned(),
    };
    let accepted = match rule {
        Rule::Number(least) => units::integer(given)
            .filter(|number| number >= least)
            .map(|number| number.to_string()),
        Rule::Flag => units::boolean(given).map(|flag| if flag { "on" } else { "off" }.to_owned()),
        Rule::Word(words) => plain(given).and_then(|text| {
            // `on` in YAML is a boolean, `true` the same in PostgreSQL.
            let text = match units::boolean(given) {
                Some(true) => "on".to_owned(),
                _ => text.to_ascii_lowercase(),
            };
            words.contains(&text.as_str()).then_some(text)
        }),
        // As it was given: PostgreSQL reads it the same.
        Rule::Megabytes(least) => units::megabytes(given)
            .filter(|megabytes| megabytes >= least)
            .and_then(|_| plain(given)),
    };
    accepted.unwrap_or_else(|| {
        let shown = plain(given).unwrap_or_else(|| given.to_string());
        warnings.push(format!(
            "postgresql parameter {name}={shown} failed validation, defaulting to {default}"
        ));
        default.to_owned()
    })
}

/// `wal_keep_segments` of old documents as `wal_keep_size`: 16 MB each.
fn segments(dynamic: &Map<String, Value>) -> Value {
    let segments = dynamic.get("wal_keep_segments").and_then(units::integer);
    let megabytes = segments.and_then(|segments| segments.checked_mul(16));
    megabytes.map_or(Value::Null, |size| Value::String(format!("{size}MB")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL reads it, and never less than 16 MB.
    #[test]
    fn sizes_of_kept_wal() {
        let accepts = |value: &Value| accepts("wal_keep_size", value);
        for good in ["1.5GB", "0x40", "2147483648B", "16", "0.1 TB", "1e2"] {
            assert!(accepts(&good.into()), "{good}");
        }
        assert!(accepts(&64.into()));
        for bad in ["15", "64kB", "1gb", "1.5.5GB", "many", "-1", "2048TB"] {
            assert!(!accepts(&bad.into()), "{bad}");
        }
        let given = Map::from_iter([("wal_keep_size".to_owned(), Value::from("1.5GB"))]);
        let rule = Rule::Megabytes(16);
        let kept = owned(&given, "wal_keep_size", "128MB", &rule, &mut Vec::new());
        assert_eq!(kept, "1.5GB");
    }
}
