//! From the dynamic configuration to the settings of decisions: defaults, ranges and the rule
//! between the times (contract: patroni-config, section 2).

use super::read::{crash_handover, guard_mode};
use super::read_postgresql::LOCAL_KEYS;
use super::{NodeConfig, shape, units};
use pgherd_model::{CrashHandover, GuardMode, Settings, Span, SynchronousMode};
use serde_json::{Map, Value};

/// Below this lease a change of etcd's leader can cost the lock.
const SAFE_LEASE: Span = Span::from_secs(5);

/// The dynamic configuration as [`shape::sound`] leaves it: what is in it can be read.
pub(super) struct Dynamic<'w> {
    document: Map<String, Value>,
    pub(super) warnings: &'w mut Vec<String>,
}

impl<'w> Dynamic<'w> {
    pub(super) fn new(document: &Map<String, Value>, warnings: &'w mut Vec<String>) -> Self {
        let document = shape::sound(document, warnings);
        Dynamic { document, warnings }
    }

    pub(super) fn section(&self, key: &str) -> Option<&Map<String, Value>> {
        self.document.get(key)?.as_object()
    }

    pub(super) fn list(&self, key: &str) -> &[Value] {
        let list = self.document.get(key).and_then(Value::as_array);
        list.map_or(&[], Vec::as_slice)
    }

    fn read<T>(&self, key: &str, default: T, parse: impl Fn(&Value) -> Option<T>) -> T {
        self.document.get(key).and_then(parse).unwrap_or(default)
    }

    fn flag(&self, key: &str) -> bool {
        self.read(key, false, units::boolean)
    }

    /// One of the three times that are raised to their minimum.
    fn time(&mut self, key: &str, default: i64, least: i64) -> i64 {
        let value = self.read(key, default, units::integer);
        if value < least {
            let line = format!("{key}={value} can't be smaller than {least}, adjusting...");
            self.warnings.push(line);
        }
        value.max(least)
    }

    /// `primary_<rest>`, in older documents `master_<rest>`.
    fn timeout(&self, rest: &str, default: u64) -> Span {
        let old = self.read(
            &format!("master_{rest}"),
            Span::from_secs(default),
            units::seconds,
        );
        self.read(&format!("primary_{rest}"), old, units::seconds)
    }
}

impl Dynamic<'_> {
    /// Warns of what is right, but not acted on: a node that was run by Patroni until now must not
    /// lose a feature silently.
    pub(super) fn tell_unused(&mut self, node: &NodeConfig) {
        let mut told = Vec::new();
        let mut tell = |unused: bool, what: &str| {
            if unused {
                told.push(what.to_owned());
            }
        };
        let postgresql = self.section("postgresql").into_iter().flatten();
        for (key, value) in postgresql {
            // The same in the file was told when that was read, with its line.
            let in_file = node.bootstrap.dcs.get("postgresql");
            let known = in_file.and_then(|section| section.get(key)) == Some(value);
            tell(
                LOCAL_KEYS.contains(&key.as_str()) && !known,
                &format!("postgresql.{key}: {ONLY_LOCAL}"),
            );
        }
        self.warnings.append(&mut told);
    }
}

/// Of a key in the dynamic configuration that each node has for itself.
pub(super) const ONLY_LOCAL: &str =
    "ignored, it is only taken from section postgresql of the node itself";

/// All of [`Settings`] except the slots. `shared` is the joined `postgresql`.
pub(super) fn settings(
    dynamic: &mut Dynamic<'_>,
    node: &NodeConfig,
    shared: &Map<String, Value>,
) -> Settings {
    let times = times(dynamic);
    let ours = ours(dynamic, node, &times);
    let flag =
        |key: &str, default: bool| shared.get(key).and_then(units::boolean).unwrap_or(default);
    let count = |value: &Value| usize::try_from(units::integer(value)?).ok();
    let lag_on_syncnode = dynamic.read("maximum_lag_on_syncnode", -1, units::bytes);
    let use_slots = dynamic
        .section("postgresql")
        .and_then(|section| section.get("use_slots"));
    Settings {
        ttl: Span::from_secs(times.ttl.unsigned_abs()),
        loop_wait: Span::from_secs(times.loop_wait.unsigned_abs()),
        retry_timeout: Span::from_secs(times.retry_timeout.unsigned_abs()),
        maximum_lag_on_failover: dynamic
            .read("maximum_lag_on_failover", 1_048_576, units::bytes)
            .unsigned_abs(),
        check_timeline: dynamic.flag("check_timeline"),
        primary_start_timeout: dynamic.timeout("start_timeout", 300),
        primary_stop_timeout: dynamic.timeout("stop_timeout", 0),
        max_timelines_history: dynamic.read("max_timelines_history", 0, count),
        synchronous_mode: dynamic.read("synchronous_mode", SynchronousMode::Off, synchronous),
        synchronous_mode_strict: dynamic.flag("synchronous_mode_strict"),
        synchronous_node_count: dynamic.read("synchronous_node_count", 1, count),
        maximum_lag_on_syncnode: (lag_on_syncnode > 0).then(|| lag_on_syncnode.unsigned_abs()),
        failsafe_mode: dynamic.flag("failsafe_mode"),
        pause: dynamic.flag("pause"),
        member_slots_ttl: dynamic.read("member_slots_ttl", Span::from_secs(1800), units::seconds),
        use_pg_rewind: flag("use_pg_rewind", false),
        use_slots: use_slots.and_then(units::boolean).unwrap_or(true),
        remove_data_directory_on_rewind_failure: flag(
            "remove_data_directory_on_rewind_failure",
            false,
        ),
        remove_data_directory_on_diverged_timelines: flag(
            "remove_data_directory_on_diverged_timelines",
            false,
        ),
        ..ours
    }
}

/// Seconds.
struct Times {
    ttl: i64,
    loop_wait: i64,
    retry_timeout: i64,
}

/// `loop_wait + 2 * retry_timeout <= ttl`, or loop_wait is cut, then retry_timeout.
fn times(dynamic: &mut Dynamic<'_>) -> Times {
    let loop_wait = dynamic.time("loop_wait", 10, 1);
    let retry_timeout = dynamic.time("retry_timeout", 10, 3);
    let ttl = dynamic.time("ttl", 30, 20);
    let mut times = Times {
        ttl,
        loop_wait,
        retry_timeout,
    };
    let rule = "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\"";
    let twice = retry_timeout.saturating_mul(2);
    if twice.saturating_add(1) > ttl {
        times.loop_wait = 1;
        times.retry_timeout = (ttl - 1) / 2;
        dynamic.warnings.push(format!(
            "{rule}, where ttl={ttl}. Adjusting loop_wait from {loop_wait} to 1 and \
             retry_timeout from {retry_timeout} to {}",
            times.retry_timeout
        ));
    } else if twice.saturating_add(loop_wait) > ttl {
        times.loop_wait = ttl - twice;
        dynamic.warnings.push(format!(
            "{rule}, where ttl={ttl} and retry_timeout={retry_timeout}. Adjusting loop_wait from \
             {loop_wait} to {}",
            times.loop_wait
        ));
    }
    times
}

/// `pgherd`: the local value, else the dynamic one, else what follows from Patroni's times.
fn ours(dynamic: &mut Dynamic<'_>, node: &NodeConfig, times: &Times) -> Settings {
    let local = &node.pgherd;
    let empty = Map::new();
    let section = dynamic.section("pgherd").unwrap_or(&empty);
    let span = |key: &str| section.get(key).and_then(units::seconds);
    let word = |key: &str, words| section.get(key).and_then(|value| units::word(value, words));
    let (lease, hang) = (span("lease_ttl"), span("hang_timeout"));
    let guard = word("guard", &["automatic", "required", "off"]).map(guard_mode);
    let handover = word("crash_handover", &["off", "sync"]).map(crash_handover);
    let mut told = Vec::new();
    let ttl = Span::from_secs(times.ttl.unsigned_abs());
    let from_times = (times.ttl - times.loop_wait).max(2 * times.retry_timeout);
    let lease = local.lease_ttl.or(lease);
    let whole = lease.map(|lease| Span::from_secs(lease.as_secs()));
    let mut lease_ttl = whole.unwrap_or(Span::from_secs(from_times.unsigned_abs()));
    if lease_ttl > ttl {
        if whole.is_some() {
            told.push(format!(
                "pgherd.lease_ttl={} is larger than ttl={}, using ttl",
                lease_ttl.as_secs(),
                times.ttl
            ));
        }
        lease_ttl = ttl;
    }
    if lease_ttl < SAFE_LEASE {
        told.push(format!(
            "pgherd.lease_ttl={} is less than 5: a change of etcd's leader may demote the primary",
            lease_ttl.as_secs()
        ));
    }
    dynamic.warnings.append(&mut told);
    Settings {
        lease_ttl,
        hang_timeout: local.hang_timeout.or(hang).unwrap_or(ttl),
        crash_handover: local
            .crash_handover
            .or(handover)
            .unwrap_or(CrashHandover::Off),
        guard: local.guard.or(guard).unwrap_or(GuardMode::Automatic),
        ..Settings::default()
    }
}

fn synchronous(value: &Value) -> Option<SynchronousMode> {
    Some(match units::word(value, &["off", "on", "quorum"])? {
        "quorum" => SynchronousMode::Quorum,
        "on" => SynchronousMode::On,
        _ => SynchronousMode::Off,
    })
}
