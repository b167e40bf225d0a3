//! Server parameters: the user's, and those that the agent owns with their defaults and lower limits;
//! how they reach the command line (contract: patroni-config, section 2). What the installed server
//! takes is asked in `check`.

use crate::control::ControlData;
use crate::{Options, ServerConfig};
use std::collections::BTreeMap;

/// Parameters that the configuration file's recovery part holds.
pub(crate) const RECOVERY: [&str; 15] = [
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "recovery_target",
    "recovery_target_action",
    "recovery_target_inclusive",
    "recovery_target_lsn",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_timeline",
    "recovery_target_xid",
    "restore_command",
];

/// Whether the name belongs to the recovery part.
pub(crate) fn is_recovery(name: &str) -> bool {
    RECOVERY.contains(&name)
}

/// Recovery parameters that a user cannot set, beside the recovery targets.
const OURS: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// What a line of postgresql.conf may begin with that is no parameter.
const DIRECTIVES: [&str; 3] = ["include", "include_dir", "include_if_exists"];

/// Where files lie is not the user's to say through parameters.
const IGNORED: [&str; 5] = [
    "cluster_name",
    "config_file",
    "data_directory",
    "listen_addresses",
    "port",
];

/// Parameters on the command line, in Patroni's order.
pub(crate) const COMMAND_LINE: [&str; 13] = [
    "listen_addresses",
    "port",
    "cluster_name",
    "wal_level",
    "hot_standby",
    "max_connections",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "track_commit_timestamp",
    "max_replication_slots",
    "max_worker_processes",
    "wal_log_hints",
];

/// Default and lowest value of the owned numbers.
const NUMBERS: [(&str, u32, u32); 6] = [
    ("max_connections", 100, 25),
    ("max_wal_senders", 10, 3),
    ("max_replication_slots", 10, 4),
    ("max_worker_processes", 8, 2),
    ("max_prepared_transactions", 0, 0),
    ("max_locks_per_transaction", 64, 32),
];

/// Owned switches and their defaults.
const SWITCHES: [(&str, &str); 2] = [("track_commit_timestamp", "off"), ("wal_log_hints", "on")];

/// `wal_keep_size`, which the server reads; that it is not too little is said by who reads the configuration.
const WAL_KEEP: &str = "128MB";

/// The parameters for postgresql.conf and what had to be replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective {
    /// All but the recovery part.
    pub(crate) values: BTreeMap<String, String>,
    /// The user's parameters for the recovery part, wherever they were given.
    pub(crate) recovery: BTreeMap<String, String>,
    /// Sentences for the log.
    pub(crate) warnings: Vec<String>,
}

/// A value that the installed server does not take, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) value: String,
    pub(crate) reason: String,
}

/// By parameter.
pub(crate) type Refusals = BTreeMap<String, Refusal>;

/// Merges the user's parameters with those that we own.
pub(crate) fn effective(options: &Options, server: &ServerConfig) -> Effective {
    let mut out = Effective::default();
    let mut given = out.named(&server.parameters, "postgresql.parameters");
    for name in IGNORED {
        given.remove(name);
    }
    out.own(&mut given);
    for (name, value) in [
        ("listen_addresses", options.listen_addresses.clone()),
        ("port", options.port.to_string()),
        ("cluster_name", options.scope.clone()),
    ] {
        out.keep(name, &value);
    }
    for (name, value) in given {
        if is_recovery(&name) {
            out.recovery.insert(name, value);
        } else {
            out.values.insert(name, value);
        }
    }
    let recovery = out.named(&server.recovery, "postgresql.recovery_conf");
    out.recovery.extend(recovery);
    out.recovery
        .retain(|name, _| !name.starts_with("recovery_target") && !OURS.contains(&name.as_str()));
    out
}

/// A name as postgresql.conf can hold it: an identifier, or two with a dot between them.
fn is_name(name: &str) -> bool {
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
    };
    let mut parts = name.split('.');
    let few = parts.clone().count() <= 2;
    few && parts.all(identifier) && !DIRECTIVES.contains(&name)
}

impl Effective {
    /// The parameters whose names can stand in the file, in lower case.
    fn named(&mut self, given: &BTreeMap<String, String>, place: &str) -> BTreeMap<String, String> {
        let mut named = BTreeMap::new();
        for (name, value) in given {
            let lower = name.to_lowercase();
            if is_name(&lower) {
                named.insert(lower, value.clone());
            } else {
                let reason = "this is not the name of a parameter";
                let warning = left_out(name, value, place, reason);
                self.warnings.push(warning);
            }
        }
        named
    }

    /// Takes the owned parameters out of `given`.
    fn own(&mut self, given: &mut BTreeMap<String, String>) {
        if let Some(level) = given.remove("wal_level") {
            let level = level.to_lowercase();
            let known = match level.as_str() {
                "hot_standby" | "replica" => Some("replica"),
                "logical" => Some("logical"),
                _ => None,
            };
            self.set("wal_level", &level, known, "replica");
        } else {
            self.keep("wal_level", "replica");
        }
        given.remove("hot_standby");
        self.keep("hot_standby", "on");
        for (name, default, least) in NUMBERS {
            let default = default.to_string();
            match given.remove(name) {
                Some(value) => {
                    let number = value.trim().parse::<u32>().ok().filter(|n| *n >= least);
                    let good = number.map(|n| n.to_string());
                    self.set(name, &value, good.as_deref(), &default);
                }
                None => self.keep(name, &default),
            }
        }
        for (name, default) in SWITCHES {
            match given.remove(name) {
                Some(value) => self.set(name, &value, switch(&value), default),
                None => self.keep(name, default),
            }
        }
        // A number with a unit is what the server reads it for, and that is asked; so nobody else does.
        let size = given.remove("wal_keep_size");
        self.keep("wal_keep_size", size.as_deref().unwrap_or(WAL_KEEP));
    }

    /// What the user could have got wrong: everything but what the node's own configuration says.
    pub(crate) fn to_check(&self) -> Vec<(String, String)> {
        self.values
            .iter()
            .chain(&self.recovery)
            .filter(|(name, _)| !IGNORED.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Without what the installed server does not take: defaults for what we own, nothing else.
    pub(crate) fn without(mut self, refused: &Refusals) -> Effective {
        for (name, Refusal { value, reason }) in refused {
            if self.recovery.get(name) == Some(value) {
                self.recovery.remove(name);
                let place = "postgresql.recovery_conf or postgresql.parameters";
                self.warnings.push(left_out(name, value, place, reason));
            }
            if self.values.get(name) != Some(value) {
                continue;
            }
            if let Some(default) = default_of(name) {
                self.warnings.push(format!(
                    "postgresql parameter {name}={value} failed validation, defaulting to {default}: \
                     postgresql.parameters: {reason}"
                ));
                self.keep(name, &default);
            } else {
                self.values.remove(name);
                let warning = left_out(name, value, "postgresql.parameters", reason);
                self.warnings.push(warning);
            }
        }
        self.leave_connections();
        self
    }

    /// A server with no connection for ordinary users does not start.
    fn leave_connections(&mut self) {
        const RESERVED: [(&str, u32); 2] = [
            ("superuser_reserved_connections", 3),
            ("reserved_connections", 0),
        ];
        let number = |name: &str, default: u32| {
            let value = self.values.get(name);
            value.map_or(Some(default), |value| value.trim().parse().ok())
        };
        let most = number("max_connections", 100);
        let reserved = RESERVED.iter().try_fold(0u32, |sum, (name, default)| {
            Some(sum + number(name, *default)?)
        });
        let (Some(most), Some(reserved)) = (most, reserved) else {
            return;
        };
        if reserved < most {
            return;
        }
        let reason = format!("{reserved} connections are reserved, max_connections is {most}");
        for (name, _) in RESERVED {
            if let Some(value) = self.values.remove(name) {
                let warning = left_out(name, &value, "postgresql.parameters", &reason);
                self.warnings.push(warning);
            }
        }
    }

    fn keep(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    fn set(&mut self, name: &str, given: &str, good: Option<&str>, default: &str) {
        if good.is_none() {
            self.warnings.push(format!(
                "postgresql parameter {name}={given} failed validation, defaulting to {default}"
            ));
        }
        self.keep(name, good.unwrap_or(default));
    }
}

fn left_out(name: &str, value: &str, place: &str, reason: &str) -> String {
    format!("postgresql parameter {name}={value} failed validation, left out: {place}: {reason}")
}

/// Default of an owned parameter.
fn default_of(name: &str) -> Option<String> {
    let number = NUMBERS.iter().find(|(known, ..)| *known == name);
    let switch = SWITCHES.iter().find(|(known, _)| *known == name);
    match name {
        "wal_level" => Some("replica".to_owned()),
        "hot_standby" => Some("on".to_owned()),
        "wal_keep_size" => Some(WAL_KEEP.to_owned()),
        _ => number
            .map(|(_, default, _)| default.to_string())
            .or(switch.map(|(_, default)| (*default).to_owned())),
    }
}

/// A boolean as PostgreSQL reads it.
pub(crate) fn switch(value: &str) -> Option<&'static str> {
    match value.trim().to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        _ => None,
    }
}

/// `--name=value` for the owned parameters. A standby must not have less than its primary had:
/// pg_control says how much that was.
pub(crate) fn command_line(
    values: &BTreeMap<String, String>,
    standby_of: Option<&ControlData>,
) -> Vec<String> {
    COMMAND_LINE
        .iter()
        .filter_map(|name| {
            let value = values.get(*name)?;
            let least = standby_of.and_then(|control| match *name {
                "max_connections" => Some(control.max_connections),
                "max_wal_senders" => Some(control.max_wal_senders),
                "max_prepared_transactions" => Some(control.max_prepared_transactions),
                "max_locks_per_transaction" => Some(control.max_locks_per_transaction),
                "max_worker_processes" => Some(control.max_worker_processes),
                _ => None,
            });
            let value = match (value.parse::<u32>(), least) {
                (Ok(wanted), Some(least)) => wanted.max(least).to_string(),
                _ => value.clone(),
            };
            Some(format!("--{name}={value}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    fn options() -> Options {
        let nobody = Credentials::default();
        Options::new(
            "demo",
            "n1",
            "/d",
            ("127.0.0.1", 5432),
            nobody.clone(),
            nobody,
        )
    }

    fn with(pairs: &[(&str, &str)]) -> Effective {
        let parameters = pairs
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect();
        effective(
            &options(),
            &ServerConfig {
                parameters,
                ..ServerConfig::default()
            },
        )
    }

    #[test]
    fn defaults_and_limits() {
        let out = with(&[
            ("max_connections", "20"),
            ("wal_level", "minimal"),
            ("wal_log_hints", "False"),
            ("port", "1"),
            ("hot_standby", "off"),
            ("max_worker_processes", "4"),
            ("restore_command", "cp"),
        ]);
        let get = |name: &str| out.values.get(name).map(String::as_str);
        assert_eq!(get("max_connections"), Some("100"));
        assert_eq!(get("wal_level"), Some("replica"));
        assert_eq!(get("wal_log_hints"), Some("off"));
        assert_eq!(get("port"), Some("5432"));
        assert_eq!(get("hot_standby"), Some("on"));
        assert_eq!(get("max_worker_processes"), Some("4"));
        assert_eq!(get("wal_keep_size"), Some("128MB"));
        assert_eq!(get("restore_command"), None);
        assert_eq!(out.recovery.get("restore_command").unwrap(), "cp");
        assert_eq!(
            out.warnings,
            [
                "postgresql parameter wal_level=minimal failed validation, defaulting to replica",
                "postgresql parameter max_connections=20 failed validation, defaulting to 100",
            ]
        );
    }

    #[test]
    fn names_that_would_be_something_else_in_the_file() {
        let out = with(&[
            ("include_if_exists", "/tmp/x"),
            ("work_mem = '1MB'\nfsync", "off"),
            ("a.b.c", "1"),
            ("App.X", "1"),
        ]);
        assert!(out.values.contains_key("app.x"));
        let names: Vec<&String> = out.values.keys().filter(|n| !n.contains("_")).collect();
        assert_eq!(names, ["app.x", "port"]);
        assert_eq!(out.warnings.len(), 3, "{:?}", out.warnings);
    }

    #[test]
    fn refused_values_are_left_out_or_replaced() {
        let out = with(&[("work_mem", "x"), ("max_connections", "300000")]);
        let refusal = |value: &str| Refusal {
            value: value.to_owned(),
            reason: "no".to_owned(),
        };
        let refused = [
            ("work_mem", refusal("x")),
            ("max_connections", refusal("300000")),
            // Said of another value.
            ("wal_log_hints", refusal("maybe")),
        ];
        let refused = refused.map(|(name, refusal)| (name.to_owned(), refusal));
        let out = out.without(&refused.into_iter().collect());
        assert_eq!(out.values.get("work_mem"), None);
        assert_eq!(out.values["max_connections"], "100");
        assert_eq!(out.values["wal_log_hints"], "on");
        assert_eq!(
            out.warnings,
            [
                "postgresql parameter max_connections=300000 failed validation, defaulting to 100: \
                 postgresql.parameters: no",
                "postgresql parameter work_mem=x failed validation, left out: \
                 postgresql.parameters: no",
            ]
        );
    }

    #[test]
    fn somebody_can_always_connect() {
        let reserved = ("superuser_reserved_connections", "50");
        let out = with(&[reserved, ("max_connections", "51")]).without(&Refusals::new());
        assert_eq!(out.warnings, [""; 0]);
        let out = with(&[reserved, ("max_connections", "50")]).without(&Refusals::new());
        assert!(!out.values.contains_key("superuser_reserved_connections"));
        assert_eq!(out.warnings.len(), 1);
    }

    #[test]
    fn kept_wal_is_the_servers_to_read() {
        assert_eq!(with(&[]).values["wal_keep_size"], "128MB");
        for value in ["1.5GB", "0x40", "2147483648B"] {
            let out = with(&[("wal_keep_size", value)]);
            assert_eq!(out.values["wal_keep_size"], value);
            assert_eq!(out.warnings, [""; 0]);
        }
        let refusal = Refusal {
            value: "1 fortnight".to_owned(),
            reason: "no".to_owned(),
        };
        let refused = Refusals::from([("wal_keep_size".to_owned(), refusal)]);
        let out = with(&[("wal_keep_size", "1 fortnight")]).without(&refused);
        assert_eq!(out.values["wal_keep_size"], "128MB");
        assert_eq!(out.warnings.len(), 1);
    }

    /// A standby that had less would not start; what it was to have is a pending restart.
    #[test]
    fn a_standby_has_no_less_than_its_primary_had() {
        let control = "\
Database cluster state: in archive recovery
Database system identifier: 7
Latest checkpoint's TimeLineID: 1
Latest checkpoint location: 0/1
Minimum recovery ending location: 0/1
Min recovery ending loc's timeline: 1
Data page checksum version: 0
max_connections setting: 200
max_worker_processes setting: 4
max_wal_senders setting: 20
max_prepared_xacts setting: 5
max_locks_per_xact setting: 128
WAL block size: 8192
Bytes per WAL segment: 16777216
";
        let control = crate::control::parse_text(control).unwrap();
        let values = with(&[("max_replication_slots", "7")]).values;
        for (standby_of, most) in [
            (None, [100, 10, 0, 64, 8]),
            (Some(&control), [200, 20, 5, 128, 8]),
        ] {
            let line = command_line(&values, standby_of);
            let names = [
                "max_connections",
                "max_wal_senders",
                "max_prepared_transactions",
                "max_locks_per_transaction",
                "max_worker_processes",
            ];
            for (name, value) in names.iter().zip(most) {
                assert!(line.contains(&format!("--{name}={value}")), "{line:?}");
            }
            assert!(line.contains(&"--max_replication_slots=7".to_owned()));
        }
    }
}
