//! Server parameters that the agent owns: their defaults and lower limits, and how they reach the
//! command line (contract: patroni-config, section 2).

use crate::control::ControlData;
use crate::{Options, ServerConfig};
use std::collections::BTreeMap;

/// Parameters that only a configuration file's recovery part may hold.
pub(crate) const RECOVERY: [&str; 14] = [
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
];

/// Whether the name belongs to the recovery part (`restore_command` too).
pub(crate) fn is_recovery(name: &str) -> bool {
    name == "restore_command" || RECOVERY.contains(&name)
}

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

/// `wal_keep_size` in MB.
const WAL_KEEP: (u64, u64) = (128, 16);

/// The parameters for postgresql.conf and what had to be replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effective {
    /// All but the recovery part.
    pub(crate) values: BTreeMap<String, String>,
    /// Of the user's parameters: those for the recovery part.
    pub(crate) recovery: BTreeMap<String, String>,
    /// Sentences for the log.
    pub(crate) warnings: Vec<String>,
}

/// Merges the user's parameters with those that we own.
pub(crate) fn effective(options: &Options, server: &ServerConfig) -> Effective {
    let mut given: BTreeMap<String, String> = server
        .parameters
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value.clone()))
        .collect();
    let mut out = Effective::default();
    for name in IGNORED {
        given.remove(name);
    }
    if let Some(level) = given.remove("wal_level") {
        let level = level.to_lowercase();
        let known = match level.as_str() {
            "hot_standby" | "replica" => Some("replica"),
            "logical" => Some("logical"),
            _ => None,
        };
        out.set("wal_level", &level, known, "replica");
    } else {
        out.keep("wal_level", "replica");
    }
    given.remove("hot_standby");
    out.keep("hot_standby", "on");
    for (name, default, least) in NUMBERS {
        let default = default.to_string();
        match given.remove(name) {
            Some(value) => {
                let number = value.trim().parse::<u32>().ok().filter(|n| *n >= least);
                let good = number.map(|n| n.to_string());
                out.set(name, &value, good.as_deref(), &default);
            }
            None => out.keep(name, &default),
        }
    }
    for (name, default) in SWITCHES {
        match given.remove(name) {
            Some(value) => out.set(name, &value, switch(&value), default),
            None => out.keep(name, default),
        }
    }
    wal_keep(&mut out, &mut given);
    for (name, value) in [
        ("listen_addresses", options.listen_addresses.clone()),
        ("port", options.port.to_string()),
        ("cluster_name", options.scope.clone()),
    ] {
        out.keep(name, &value);
    }
    if let Some(names) = &server.synchronous_standby_names {
        given.insert("synchronous_standby_names".to_owned(), names.clone());
    }
    for (name, value) in given {
        if is_recovery(&name) {
            out.recovery.insert(name, value);
        } else {
            out.values.insert(name, value);
        }
    }
    out
}

fn wal_keep(out: &mut Effective, given: &mut BTreeMap<String, String>) {
    let segments = given.remove("wal_keep_segments");
    let size = given.remove("wal_keep_size");
    let default = format!("{}MB", WAL_KEEP.0);
    let (shown, wanted) = match (size, segments) {
        (Some(size), _) => (size.clone(), megabytes(&size)),
        (None, Some(n)) => (n.clone(), n.trim().parse::<u64>().ok().map(|n| n * 16)),
        (None, None) => return out.keep("wal_keep_size", &default),
    };
    let good = wanted
        .filter(|mb| *mb >= WAL_KEEP.1)
        .map(|mb| format!("{mb}MB"));
    out.set("wal_keep_size", &shown, good.as_deref(), &default);
}

impl Effective {
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

/// A boolean as PostgreSQL reads it.
pub(crate) fn switch(value: &str) -> Option<&'static str> {
    match value.trim().to_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Some("on"),
        "off" | "false" | "no" | "0" => Some("off"),
        _ => None,
    }
}

/// A size whose unit, if none is given, is MB. Rounded up.
fn megabytes(value: &str) -> Option<u64> {
    let value = value.trim();
    let split = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (digits, unit) = value.split_at(split);
    let number: u64 = digits.parse().ok()?;
    match unit.trim() {
        "" | "MB" => Some(number),
        "kB" => Some(number.div_ceil(1024)),
        "GB" => number.checked_mul(1024),
        "TB" => number.checked_mul(1024 * 1024),
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
    fn wal_keep_in_both_words() {
        let keep = |name, value| with(&[(name, value)]).values["wal_keep_size"].clone();
        assert_eq!(keep("wal_keep_segments", "4"), "64MB");
        assert_eq!(keep("wal_keep_size", "1GB"), "1024MB");
        assert_eq!(keep("wal_keep_size", "15"), "128MB");
        assert_eq!(keep("wal_keep_size", "17000kB"), "17MB");
    }
}
