//! From the dynamic configuration to the settings of decisions: defaults, ranges and the rule
//! between the times (contract: patroni-config, section 2).

use super::read::{crash_handover, guard_mode};
use super::{NodeConfig, units};
use pgherd_model::{CrashHandover, GuardMode, Settings, Span, SynchronousMode};
use serde_json::{Map, Value};

/// Below this lease a change of etcd's leader can cost the lock.
const SAFE_LEASE: Span = Span::from_secs(5);
const SHORTEST_LEASE: Span = Span::from_secs(2);

/// The dynamic configuration, read leniently: what is wrong is told and replaced.
pub(super) struct Dynamic<'a, 'w> {
    document: &'a Map<String, Value>,
    pub(super) warnings: &'w mut Vec<String>,
}

impl<'a, 'w> Dynamic<'a, 'w> {
    pub(super) fn new(document: &'a Map<String, Value>, warnings: &'w mut Vec<String>) -> Self {
        Dynamic { document, warnings }
    }

    pub(super) fn section(&self, key: &str) -> Option<&'a Map<String, Value>> {
        self.document.get(key)?.as_object()
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.document.get(key).filter(|value| !value.is_null())
    }

    /// Reads with `parse`; what it refuses is told and `default` taken.
    fn read<T>(&mut self, key: &str, default: T, parse: impl Fn(&Value) -> Option<T>) -> T {
        let Some(value) = self.value(key) else {
            return default;
        };
        parse(value).unwrap_or_else(|| {
            let line = format!(
                "{key}={} failed validation, using the default",
                short(value)
            );
            self.warnings.push(line);
            default
        })
    }

    fn flag(&mut self, key: &str) -> bool {
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
    fn timeout(&mut self, rest: &str, default: u64) -> Span {
        let old = format!("master_{rest}");
        let new = format!("primary_{rest}");
        let key = if self.value(&new).is_some() { new } else { old };
        self.read(&key, Span::from_secs(default), units::seconds)
    }
}

/// All of [`Settings`] except the slots. `shared` is the joined `postgresql`.
pub(super) fn settings(
    dynamic: &mut Dynamic<'_, '_>,
    node: &NodeConfig,
    shared: &Map<String, Value>,
) -> Settings {
    let times = times(dynamic);
    let ours = ours(dynamic, node, &times);
    let flag =
        |key: &str, default: bool| shared.get(key).and_then(units::boolean).unwrap_or(default);
    let positive = |value: &Value| units::bytes(value).filter(|bytes| *bytes >= 0);
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
            .read("maximum_lag_on_failover", 1_048_576, positive)
            .unsigned_abs(),
        check_timeline: dynamic.flag("check_timeline"),
        primary_start_timeout: dynamic.timeout("start_timeout", 300),
        primary_stop_timeout: dynamic.timeout("stop_timeout", 0),
        max_timelines_history: dynamic.read("max_timelines_history", 0, count),
        synchronous_mode: dynamic.read("synchronous_mode", SynchronousMode::Off, synchronous),
        synchronous_mode_strict: dynamic.flag("synchronous_mode_strict"),
        synchronous_node_count: dynamic.read("synchronous_node_count", 1, count).max(1),
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
fn times(dynamic: &mut Dynamic<'_, '_>) -> Times {
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
fn ours(dynamic: &mut Dynamic<'_, '_>, node: &NodeConfig, times: &Times) -> Settings {
    let local = node.pgherd;
    let empty = Map::new();
    let section = dynamic.section("pgherd").unwrap_or(&empty);
    let mut wrong = Vec::new();
    let mut span = |key: &str| {
        let value = section.get(key).filter(|value| !value.is_null())?;
        let span = units::seconds(value).filter(|span| *span >= SHORTEST_LEASE);
        if span.is_none() {
            wrong.push(format!(
                "pgherd.{key}={} failed validation (a time of 2 s or more), using the default",
                short(value)
            ));
        }
        span
    };
    let (lease, hang) = (span("lease_ttl"), span("hang_timeout"));
    let word = |key: &str, words: &[&'static str]| {
        let value = section.get(key)?;
        let text = match value {
            Value::Bool(false) => "off",
            other => other.as_str().unwrap_or_default(),
        };
        words
            .iter()
            .copied()
            .find(|word| word.eq_ignore_ascii_case(text))
    };
    let guard = word("guard", &["automatic", "required", "off"]).map(guard_mode);
    let handover = word("crash_handover", &["off", "sync"]).map(crash_handover);
    let ttl = Span::from_secs(times.ttl.unsigned_abs());
    let from_times = (times.ttl - times.loop_wait).max(2 * times.retry_timeout);
    let lease = local.lease_ttl.or(lease);
    let whole = lease.map(|lease| Span::from_secs(lease.as_secs()));
    let mut lease_ttl = whole.unwrap_or(Span::from_secs(from_times.unsigned_abs()));
    if lease_ttl > ttl {
        if whole.is_some() {
            wrong.push(format!(
                "pgherd.lease_ttl={} is larger than ttl={}, using ttl",
                lease_ttl.as_secs(),
                times.ttl
            ));
        }
        lease_ttl = ttl;
    }
    if lease_ttl < SAFE_LEASE {
        wrong.push(format!(
            "pgherd.lease_ttl={} is less than 5: a change of etcd's leader may demote the primary",
            lease_ttl.as_secs()
        ));
    }
    dynamic.warnings.append(&mut wrong);
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
    match value.as_str().map(str::to_ascii_lowercase).as_deref() {
        Some("quorum") => Some(SynchronousMode::Quorum),
        _ => Some(match units::boolean(value)? {
            true => SynchronousMode::On,
            false => SynchronousMode::Off,
        }),
    }
}

/// A value for a message.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}
