//! `GET /metrics` in Prometheus' text format (contract: patroni-rest, section 7): the names of Patroni 4.1,
//! and `patroni_master` of 3.0.

use super::status::{StatusInput, shown_role};
use jiff::Timestamp;
use pgherd_model::{PostgresState, Role};
use std::fmt::Write as _;

/// The states by number, as a comment for whoever reads a graph.
const STATES: &str = "Values: 0=initdb, 1=initdb_failed, 2=custom_bootstrap, 3=custom_bootstrap_failed, \
                      4=creating_replica, 5=running, 6=starting, 7=bootstrap_starting, 8=start_failed, \
                      9=restarting, 10=restart_failed, 11=stopping, 12=stopped, 13=stop_failed, 14=crashed";

/// All samples, each with what it means and its type.
pub fn metrics(input: &StatusInput<'_>) -> String {
    let mut page = Page {
        labels: format!(
            "{{scope=\"{}\",name=\"{}\"}}",
            escaped(input.scope),
            escaped(input.name)
        ),
        text: String::new(),
    };
    node(&mut page, input);
    positions(&mut page, input);
    cluster(&mut page, input);
    page.text
}

/// The agent, its PostgreSQL and their role.
fn node(page: &mut Page, input: &StatusInput<'_>) {
    let look = input.look;
    let role = shown_role(input);
    let running = look.is_some() && input.state == PostgresState::Running;
    page.gauge(
        "version",
        "Version, two digits a part",
        &version(input.version),
    );
    page.flag("postgres_running", "PostgreSQL runs", running);
    let started = look.map_or("0".into(), |look| epoch(&look.start_time));
    page.gauge(
        "postmaster_start_time",
        "Start of the postmaster, seconds since 1970",
        &started,
    );
    let primary = role == Role::Primary;
    page.flag(
        "master",
        "The node is primary (as Patroni 3.0 calls it)",
        primary,
    );
    page.flag("primary", "The node is primary", primary);
    let location = look.filter(|look| !look.in_recovery);
    page.counter(
        "xlog_location",
        "Position of the WAL on a primary, bytes",
        location.map_or(0, |look| look.wal.flushed.0),
    );
    let leads = role == Role::StandbyLeader;
    page.flag("standby_leader", "The node leads a standby cluster", leads);
    page.flag("replica", "The node is a replica", role == Role::Replica);
    page.flag("sync_standby", "A synchronous standby", input.sync_standby);
    page.flag(
        "quorum_standby",
        "A standby of the quorum",
        input.quorum_standby,
    );
}

/// What a standby has, and how it gets it.
fn positions(page: &mut Page, input: &StatusInput<'_>) {
    let standby = input.look.filter(|look| look.in_recovery);
    let replayed = standby.map_or(0, |look| look.wal.replayed.0);
    let received = standby.map_or(0, |look| look.wal.received.0);
    let received = if received == 0 { replayed } else { received };
    page.counter(
        "xlog_received_location",
        "WAL received by a standby, bytes",
        received,
    );
    page.counter(
        "xlog_replayed_location",
        "WAL replayed by a standby, bytes",
        replayed,
    );
    let last = standby.and_then(|look| look.replayed_at.as_deref());
    page.gauge(
        "xlog_replayed_timestamp",
        "Commit time of the last replayed transaction, seconds since 1970",
        &last.map_or("0".into(), epoch),
    );
    let paused = standby.is_some_and(|look| look.replay_paused);
    page.flag("xlog_paused", "Replay is paused", paused);
    if input.look.is_some() {
        let streaming =
            standby.is_some_and(|look| look.receiver.as_ref().is_some_and(|it| it.streaming));
        page.flag("postgres_streaming", "A standby streams", streaming);
        page.flag(
            "postgres_in_archive_recovery",
            "A standby restores from the archive",
            !streaming && standby.is_some_and(|look| look.restore_command),
        );
    }
    let version = input.look.map_or(0, |look| look.server_version);
    page.gauge(
        "postgres_server_version",
        "Version of PostgreSQL as a number",
        &version.to_string(),
    );
}

/// What the node knows of the cluster, and what it waits for.
fn cluster(page: &mut Page, input: &StatusInput<'_>) {
    let unlocked = input.cluster_unlocked;
    page.flag(
        "cluster_unlocked",
        "Nobody is known to hold the lock",
        unlocked,
    );
    page.flag(
        "failsafe_mode_is_active",
        "The failsafe mode keeps the leader in office",
        input.failsafe_active,
    );
    let timeline = input.look.map_or(0, |look| look.timeline.0);
    page.gauge("postgres_timeline", "Timeline", &timeline.to_string());
    page.gauge(
        "dcs_last_seen",
        "The lock service answered last, seconds since 1970",
        &input.dcs_last_seen.to_string(),
    );
    let pending = input.pending_restart;
    page.flag("pending_restart", "Settings wait for a restart", pending);
    page.flag("is_paused", "The cluster is paused", input.paused);
    let state = match (input.state, input.look) {
        (PostgresState::Running, None) => "-1".to_owned(),
        (state, _) => (state as u8).to_string(),
    };
    page.sample(
        "postgres_state",
        "State of PostgreSQL",
        "gauge",
        Some(STATES),
        &state,
    );
}

struct Page {
    labels: String,
    text: String,
}

impl Page {
    fn sample(&mut self, name: &str, help: &str, kind: &str, note: Option<&str>, value: &str) {
        let labels = &self.labels;
        let note = note.map_or(String::new(), |note| format!("# {note}\n"));
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "# HELP patroni_{name} {help}.\n# TYPE patroni_{name} {kind}\n{note}patroni_{name}{labels} {value}\n"
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: &str) {
        self.sample(name, help, "gauge", None, value);
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, if value { "1" } else { "0" });
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.sample(name, help, "counter", None, &value.to_string());
    }
}

/// `4.1.5` as `040105`.
fn version(text: &str) -> String {
    let parts = text.split('.').map(|part| part.parse().unwrap_or(0u32));
    parts.map(|part| format!("{part:02}")).collect()
}

/// Seconds since 1970 with a fraction; 0 for what is no time.
fn epoch(text: &str) -> String {
    let at: Option<Timestamp> = text.replacen(' ', "T", 1).parse().ok();
    at.map_or("0".into(), |at| {
        let micros = at.as_microsecond();
        format!(
            "{}.{:06}",
            micros.div_euclid(1_000_000),
            micros.rem_euclid(1_000_000)
        )
    })
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_times_are_numbers() {
        assert_eq!(version("4.1.5"), "040105");
        assert_eq!(
            epoch("2026-11-21 00:21:11.967788+00:00"),
            "1795220471.967788"
        );
        assert_eq!(epoch(""), "0");
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
