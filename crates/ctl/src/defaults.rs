//! The settings that have a default in the agent, older names of settings, and the names that a typing error may have meant.

use pgherd_model::{CrashHandover, GuardMode, Settings, Span, SynchronousMode};
use pgherd_wire::patroni::config::{
    EffectivePostgres, ReplicaMethod, local_settings, owned_parameters, top_level,
};
use serde_json::Value;

/// (name of today, older ones: of two that are set the later one here counts, and the one of today before all of them)
const OLDER: &[(&str, &[&str])] = &[
    (
        "postgresql.create_replica_methods",
        &["postgresql.create_replica_method"],
    ),
    ("primary_start_timeout", &["master_start_timeout"]),
    ("primary_stop_timeout", &["master_stop_timeout"]),
    ("slots", &["permanent_replication_slots", "permanent_slots"]),
];

/// Older names of a setting.
pub(crate) fn older(name: &str) -> &'static [&'static str] {
    let found = OLDER.iter().find(|(today, _)| *today == name);
    found.map(|(_, older)| *older).unwrap_or_default()
}

/// The name of today.
pub(crate) fn today(name: &str) -> &str {
    let found = OLDER.iter().find(|(_, older)| older.contains(&name));
    found.map_or(name, |(today, _)| *today)
}

/// The name that is most like one that nobody knows, if it is much like it.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let settings = SETTINGS.iter().map(|(known, ..)| *known);
    let known = settings.chain(local_settings()).chain(top_level());
    let known = known.chain(owned_parameters());
    let (changes, known) = known.map(|known| (distance(name, known), known)).min()?;
    (changes * 4 <= name.len()).then_some(known)
}

/// How many letters have to be changed, put in or taken out.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (index, wanted) in other.iter().enumerate() {
            let above = row[index + 1];
            let changed = corner + usize::from(letter != *wanted);
            row[index + 1] = changed.min(above + 1).min(row[index] + 1);
            corner = above;
        }
    }
    row[other.len()]
}

fn seconds(span: Span) -> Value {
    match span.subsec_nanos() {
        0 => span.as_secs().into(),
        _ => span.as_secs_f64().into(),
    }
}

fn method(method: &ReplicaMethod) -> Value {
    match method {
        ReplicaMethod::Basebackup => "basebackup".into(),
        ReplicaMethod::Custom { name, .. } => name.as_str().into(),
    }
}

/// Name, whether the node's own file counts, and what holds.
pub(crate) type Known = (&'static str, bool, Of);

/// Where what holds is found.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// Among what decisions depend on.
    Settings(fn(&Settings) -> Value),
    /// With what PostgreSQL is run.
    Postgres(fn(&EffectivePostgres) -> Value),
}

/// Sorted.
pub(crate) const SETTINGS: &[Known] = &[
    (
        "check_timeline",
        false,
        Of::Settings(|s| s.check_timeline.into()),
    ),
    (
        "failsafe_mode",
        false,
        Of::Settings(|s| s.failsafe_mode.into()),
    ),
    ("loop_wait", false, Of::Settings(|s| seconds(s.loop_wait))),
    (
        "max_timelines_history",
        false,
        Of::Settings(|s| s.max_timelines_history.into()),
    ),
    (
        "maximum_lag_on_failover",
        false,
        Of::Settings(|s| s.maximum_lag_on_failover.into()),
    ),
    (
        "maximum_lag_on_syncnode",
        false,
        Of::Settings(|s| {
            s.maximum_lag_on_syncnode
                .map_or_else(|| (-1).into(), Value::from)
        }),
    ),
    (
        "member_slots_ttl",
        false,
        Of::Settings(|s| seconds(s.member_slots_ttl)),
    ),
    ("pause", false, Of::Settings(|s| s.pause.into())),
    (
        "pgherd.crash_handover",
        true,
        Of::Settings(|s| match s.crash_handover {
            CrashHandover::Off => "off".into(),
            CrashHandover::Sync => "sync".into(),
        }),
    ),
    (
        "pgherd.guard",
        true,
        Of::Settings(|s| match s.guard {
            GuardMode::Automatic => "automatic".into(),
            GuardMode::Required => "required".into(),
            GuardMode::Off => "off".into(),
        }),
    ),
    (
        "pgherd.hang_timeout",
        true,
        Of::Settings(|s| seconds(s.hang_timeout)),
    ),
    (
        "pgherd.lease_ttl",
        true,
        Of::Settings(|s| seconds(s.lease_ttl)),
    ),
    (
        "postgresql.create_replica_methods",
        true,
        Of::Postgres(|p| p.methods.iter().map(method).collect()),
    ),
    (
        "postgresql.pg_ctl_timeout",
        true,
        Of::Postgres(|p| seconds(p.pg_ctl_timeout)),
    ),
    (
        "postgresql.remove_data_directory_on_diverged_timelines",
        true,
        Of::Settings(|s| s.remove_data_directory_on_diverged_timelines.into()),
    ),
    (
        "postgresql.remove_data_directory_on_rewind_failure",
        true,
        Of::Settings(|s| s.remove_data_directory_on_rewind_failure.into()),
    ),
    (
        "postgresql.use_pg_rewind",
        true,
        Of::Settings(|s| s.use_pg_rewind.into()),
    ),
    (
        "postgresql.use_slots",
        false,
        Of::Settings(|s| s.use_slots.into()),
    ),
    (
        "primary_start_timeout",
        false,
        Of::Settings(|s| seconds(s.primary_start_timeout)),
    ),
    (
        "primary_stop_timeout",
        false,
        Of::Settings(|s| seconds(s.primary_stop_timeout)),
    ),
    (
        "retry_timeout",
        false,
        Of::Settings(|s| seconds(s.retry_timeout)),
    ),
    (
        "synchronous_mode",
        false,
        Of::Settings(|s| match s.synchronous_mode {
            SynchronousMode::Off => "off".into(),
            SynchronousMode::On => "on".into(),
            SynchronousMode::Quorum => "quorum".into(),
        }),
    ),
    (
        "synchronous_mode_strict",
        false,
        Of::Settings(|s| s.synchronous_mode_strict.into()),
    ),
    (
        "synchronous_node_count",
        false,
        Of::Settings(|s| s.synchronous_node_count.into()),
    ),
    ("ttl", false, Of::Settings(|s| seconds(s.ttl))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_understood() {
        assert_eq!(nearest("ttll"), Some("ttl"));
        assert_eq!(
            nearest("primary_start_timout"),
            Some("primary_start_timeout")
        );
        assert_eq!(nearest("max_conections"), Some("max_connections"));
        assert_eq!(nearest("log_level"), Some("log.level"));
        for other in ["random_page_cost", "work_mem", "log_timezone", "x"] {
            assert_eq!(nearest(other), None, "{other}");
        }
    }

    #[test]
    fn older_names_lead_to_those_of_today() {
        assert_eq!(today("master_stop_timeout"), "primary_stop_timeout");
        assert_eq!(today("permanent_slots"), "slots");
        assert_eq!(today("ttl"), "ttl");
        assert_eq!(older("slots").len(), 2);
        assert!(older("ttl").is_empty());
    }
}
