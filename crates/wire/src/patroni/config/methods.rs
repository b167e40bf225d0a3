//! Commands of the user's that make a data directory: `bootstrap.<method>` and `postgresql.<method>`, with the
//! arguments that each gets from its section (contract: patroni-ha-rules, section 10). Values are written as
//! Python writes them, since a script that Patroni has called until now compares texts.

use super::effective::plain;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// `bootstrap.method` with its section.
#[derive(Clone, PartialEq)]
pub struct BootstrapMethod {
    /// Its name.
    pub name: String,
    /// `command`: a command line.
    pub command: String,
    /// `no_params`: without `--scope` and `--datadir`.
    pub no_params: bool,
    /// `--name=value` for each other key of the section, in order.
    pub arguments: Vec<(String, String)>,
    /// How the data that it brings are recovered.
    pub recovery: BootstrapRecovery,
}

/// How data that were brought by `bootstrap.method` become a primary.
#[derive(Clone, PartialEq, Eq)]
pub enum BootstrapRecovery {
    /// Without `recovery_conf`: what the command left of another recovery goes.
    Crash,
    /// `keep_existing_recovery_conf`: as the command has left it.
    Kept,
    /// `recovery_conf`: names in lower case.
    Given(BTreeMap<String, String>),
}

/// One of `postgresql.create_replica_methods`.
#[derive(Clone, PartialEq, Eq)]
pub enum ReplicaMethod {
    /// `basebackup`: pg_basebackup.
    Basebackup,
    /// A command.
    Custom {
        /// Name of the method.
        name: String,
        /// `command`, else the name: a command line.
        command: String,
        /// `no_params`: without `--scope`, `--role`, `--datadir` and `--connstring`.
        no_params: bool,
        /// `no_leader`: also where there is nobody to copy.
        no_leader: bool,
        /// `keep_data`: what is in the data directory stays for the command.
        keep_data: bool,
        /// `--name=value` for each key of the section that the command is told, in order.
        arguments: Vec<(String, String)>,
    },
}

impl fmt::Debug for BootstrapMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Commands and their arguments may hold what the user considers secret.
        f.debug_struct("BootstrapMethod")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ReplicaMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplicaMethod::Basebackup => "basebackup",
            ReplicaMethod::Custom { name, .. } => name,
        })
    }
}

/// `bootstrap.<name>`; `command` was looked at before.
pub(super) fn bootstrap(name: &str, section: &Map<String, Value>) -> BootstrapMethod {
    const RESERVED: [&str; 6] = [
        "command",
        "no_params",
        "keep_existing_recovery_conf",
        "recovery_conf",
        "scope",
        "datadir",
    ];
    let recovery = match section.get("recovery_conf").and_then(Value::as_object) {
        Some(given) => BootstrapRecovery::Given(recovery_conf(given)),
        None if is_set(section, "keep_existing_recovery_conf") => BootstrapRecovery::Kept,
        None => BootstrapRecovery::Crash,
    };
    BootstrapMethod {
        name: name.to_owned(),
        command: section.get("command").and_then(plain).unwrap_or_default(),
        no_params: is_set(section, "no_params"),
        arguments: arguments(section, &RESERVED),
        recovery,
    }
}

fn recovery_conf(given: &Map<String, Value>) -> BTreeMap<String, String> {
    given
        .iter()
        .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), plain(value)?)))
        .collect()
}

/// `postgresql.<name>`, which need not be there.
pub(super) fn replica(name: &str, section: Option<&Map<String, Value>>) -> ReplicaMethod {
    if name == "basebackup" {
        return ReplicaMethod::Basebackup;
    }
    let empty = Map::new();
    let section = section.unwrap_or(&empty);
    let no_params = is_set(section, "no_params");
    // As Patroni: the switches are arguments like any other, but where the command is to get none of the usual.
    let reserved: &[&str] = match no_params {
        true => &[
            "command",
            "no_params",
            "no_master",
            "no_leader",
            "keep_data",
        ],
        false => &["command"],
    };
    ReplicaMethod::Custom {
        name: name.to_owned(),
        command: section
            .get("command")
            .and_then(plain)
            .unwrap_or_else(|| name.to_owned()),
        no_params,
        no_leader: is_set(section, "no_leader") || is_set(section, "no_master"),
        keep_data: is_set(section, "keep_data"),
        arguments: arguments(section, reserved),
    }
}

/// As Python takes a value for true.
fn is_set(section: &Map<String, Value>, key: &str) -> bool {
    match section.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(pairs)) => !pairs.is_empty(),
        Some(Value::Bool(true)) => true,
    }
}

fn arguments(section: &Map<String, Value>, reserved: &[&str]) -> Vec<(String, String)> {
    section
        .iter()
        .filter(|(key, _)| !reserved.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), as_python(value)))
        .collect()
}

fn as_python(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(arguments: &[(String, String)]) -> Vec<String> {
        let pairs = arguments.iter();
        pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    #[test]
    fn other_keys_of_a_bootstrap_method_are_its_arguments() {
        let section = json!({
            "command": "/bin/restore -v", "no_params": false, "keep_existing_recovery_conf": false,
            "recovery_conf": {"Recovery_Target_Action": "promote", "recovery_target_inclusive": false},
            "stanza": "a b", "jobs": 4, "delta": true, "scope": "other", "none": null,
        });
        let method = bootstrap("mine", section.as_object().unwrap());
        assert_eq!(method.command, "/bin/restore -v");
        assert!(!method.no_params);
        assert_eq!(
            words(&method.arguments),
            ["stanza=a b", "jobs=4", "delta=True", "none=None"]
        );
        let BootstrapRecovery::Given(recovery) = method.recovery else {
            panic!("recovery_conf is given");
        };
        assert_eq!(recovery["recovery_target_action"], "promote");
        assert_eq!(recovery["recovery_target_inclusive"], "off");
        let kept = json!({"command": "x", "keep_existing_recovery_conf": true, "no_params": 1});
        let method = bootstrap("mine", kept.as_object().unwrap());
        assert!(method.no_params && method.arguments.is_empty());
        assert!(method.recovery == BootstrapRecovery::Kept);
    }

    #[test]
    fn switches_of_a_replica_method_are_arguments_where_it_gets_any() {
        let of = |section: Value| match replica("wal", section.as_object()) {
            ReplicaMethod::Custom {
                command,
                no_params,
                no_leader,
                keep_data,
                arguments,
                ..
            } => (
                command,
                [no_params, no_leader, keep_data],
                words(&arguments),
            ),
            ReplicaMethod::Basebackup => panic!("a command"),
        };
        let section = json!({"command": "fetch", "no_leader": 1, "threshold": 10});
        assert_eq!(
            of(section),
            (
                "fetch".into(),
                [false, true, false],
                vec!["no_leader=1".into(), "threshold=10".into()]
            )
        );
        let section = json!({"no_params": true, "keep_data": true, "no_master": true, "a": "b"});
        assert_eq!(
            of(section),
            ("wal".into(), [true, true, true], vec!["a=b".into()])
        );
        assert_eq!(replica("basebackup", None), ReplicaMethod::Basebackup);
        assert_eq!(of(json!(null)).0, "wal");
    }

    /// Logs may show a configuration.
    #[test]
    fn commands_are_shown_nowhere() {
        let section = json!({"command": "x --key=secret", "token": "secret"});
        let section = section.as_object();
        let shown = format!(
            "{:?} {:?}",
            bootstrap("mine", section.unwrap()),
            replica("fetch", section)
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
