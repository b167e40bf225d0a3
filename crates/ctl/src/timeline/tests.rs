//! Fixtures: journals of real runs. `killed`: n2 leads, loses its power, n3 takes over, n2 comes
//! back with pg_rewind. `crashed`: a switchover from n2 to n1, then PostgreSQL of n1 is killed with
//! `primary_start_timeout: 0` and n3 takes over.

use super::*;
use serde_json::Value;

/// All entries of a fixture, member by member.
pub(super) fn journals(what: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    for member in ["n1", "n2", "n3"] {
        let path = file(what, member);
        let (entries, unreadable) = read(&std::fs::read_to_string(path).unwrap());
        assert_eq!(unreadable, 0);
        all.extend(entries);
    }
    all
}

fn file(what: &str, member: &str) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/timeline/fixtures");
    Path::new(fixtures)
        .join(what)
        .join(format!("{member}.ndjson"))
}

/// As if the clock of one member were wrong.
pub(super) fn shifted(mut entries: Vec<Entry>, member: &str, ms: i64) -> Vec<Entry> {
    for entry in entries.iter_mut().filter(|entry| entry.member == member) {
        entry.at.0 += ms;
    }
    entries
}

const DAY_MS: i64 = 86_400_000;

/// As if all of it had happened that many days later, by agents that had been started then.
pub(super) fn days_later(mut entries: Vec<Entry>, days: i64) -> Vec<Entry> {
    for entry in &mut entries {
        entry.at.0 += days * DAY_MS;
        entry.agent.push_str(&format!(" {days}"));
    }
    entries
}

/// Whether [`days_later`] made it.
pub(super) fn of(entry: &Entry, days: i64) -> bool {
    entry.agent.ends_with(&format!(" {days}"))
}

/// As written by agents that tell etcd's cluster id.
pub(super) fn with_etcd(mut entries: Vec<Entry>, etcd: &str) -> Vec<Entry> {
    for entry in &mut entries {
        entry.state.etcd = entry.state.revision.map(|_| etcd.to_owned());
    }
    entries
}

fn told_of(entries: Vec<Entry>) -> Told {
    let collected = Collected {
        entries,
        ..Collected::default()
    };
    tell(collected, None, None)
}

fn collected(what: &str, members: &[&str]) -> Collected {
    let mut collected = Collected::default();
    for member in members {
        collected.file(&file(what, member));
    }
    collected
}

#[test]
fn the_last_handover_is_shown_with_its_table() {
    let told = tell(collected("killed", &["n1", "n2", "n3"]), None, None);
    let out = show::pretty(&told);
    let first = "Failover from n2 to n3, 2026-11-27 21:55:32.938 UTC, term 29, timeline 2\n\n\
                 21:55:32.938     +0.000  n1  the stream from n2 broke\n";
    assert!(out.starts_with(first), "{out}");
    assert!(
        out.contains("21:55:37.736     +4.798  n3  has taken the lock (term 29)\n"),
        "{out}"
    );
    let table = out.split_once("+ Phases ").unwrap().1;
    for row in [
        "| lock free         | n1     |  4.702 s |  +4.702 |",
        "| writable          | n3     |",
        "| rejoined          | n2     |",
        "| without a primary |        |  4.957 s |         |",
    ] {
        assert!(table.contains(row), "{row}\n{table}");
    }
}

/// The last handover is the last one by time, whatever the revisions of an older etcd were.
#[test]
fn the_last_handover_is_shown_after_etcd_began_anew() {
    let mut entries = journals("crashed");
    entries.extend(days_later(journals("killed"), 10));
    let told = told_of(entries);
    let out = show::pretty(&told);
    let first = "Failover from n2 to n3, 2026-12-07 21:55:32.938 UTC, term 29, timeline 2\n";
    assert!(out.starts_with(first), "{out}");
    assert_eq!(told.notes, Vec::<String>::new());
}

/// A copy of etcd that was restored has the leader of before, by the same term: nothing changed hands.
#[test]
fn a_leader_that_a_restored_etcd_still_shows_is_no_new_one() {
    let mut entries = journals("crashed");
    let before = told_of(entries.clone());
    let last = entries
        .iter()
        .rfind(|entry| entry.state.leader.as_deref() == Some("n3"));
    let mut restored = last.unwrap().clone();
    assert_eq!(restored.state.term, Some(46));
    restored.state.revision = Some(47);
    restored.state.wrote = None;
    for step in 0..2 {
        restored.at.0 += 60_000;
        restored.boot_ms += 60_000;
        restored.seq += 1;
        restored.state.revision = Some(47 + step);
        entries.push(restored.clone());
    }
    let after = told_of(entries);
    assert_eq!(after.handovers, before.handovers);
}

/// Up to the moment at which somebody has taken the lock.
fn under_way() -> Vec<Entry> {
    let mut entries = journals("killed");
    let taken: Stamp = "2026-11-27T21:55:37.736Z".parse().unwrap();
    entries.retain(|entry| entry.at < taken);
    entries
}

#[test]
fn a_failover_under_way_is_shown() {
    let told = told_of(under_way());
    let out = show::pretty(&told);
    let first = "No leader since 2026-11-27 21:55:37.640 UTC, before that n2\n\n\
                 21:55:32.938     +0.000  n1  the stream from n2 broke\n";
    assert!(out.starts_with(first), "{out}");
    assert!(out.contains("n1  sees that the lock is free"), "{out}");
    assert!(!out.contains("no failover or switchover"), "{out}");
    assert!(told.handovers.is_empty(), "{:?}", told.handovers);
    let earlier = "the first leader n2 (2026-11-27T21:55:27";
    assert!(
        told.notes.iter().any(|note| note.contains(earlier)),
        "{:?}",
        told.notes
    );
    let value = show::json(&told);
    assert_eq!(value["no_leader"]["since"], "2026-11-27T21:55:37.640Z");
    assert_eq!(value["no_leader"]["before"], "n2");
    assert_eq!(value["events"][0]["offset_ms"], 0);
    // Whatever is asked for.
    let collected = Collected {
        entries: under_way(),
        ..Collected::default()
    };
    let out = show::pretty(&tell(collected, Some(Stamp(0)), None));
    assert!(
        out.contains("\nNo leader since 2026-11-27 21:55:37.640 UTC"),
        "{out}"
    );
    assert!(out.contains("\nFirst leader of n2, "), "{out}");
}

#[test]
fn a_lock_that_was_released_and_taken_is_no_failover_under_way() {
    for what in ["killed", "crashed"] {
        let told = told_of(journals(what));
        assert!(told.vacancy.is_none(), "{what}: {:?}", told.vacancy);
        assert_eq!(show::json(&told)["no_leader"], Value::Null);
    }
    // The only journal is that of a leader that gave the lock away.
    let mut entries = journals("crashed");
    entries.retain(|entry| entry.member == "n2");
    let released = entries.iter().position(|entry| {
        matches!(&entry.what, pgherd_wire::journal::What::Action { name, .. } if name == "ReleaseLeader")
    });
    entries.truncate(released.unwrap() + 1);
    let vacancy = told_of(entries).vacancy.unwrap();
    assert_eq!(merge::text(vacancy.since), "2026-11-27T21:55:33.347Z");
}

#[test]
fn since_and_last_cut_the_story() {
    let members = ["n1", "n2", "n3"];
    let since: Stamp = "2026-11-27T21:55:35Z".parse().unwrap();
    let told = tell(collected("crashed", &members), Some(since), None);
    assert!(told.lines.first().unwrap().at >= since.0);
    assert_eq!(told.handovers.len(), 1, "the switchover was over by then");
    let all = tell(collected("crashed", &members), Some(Stamp(0)), None);
    assert_eq!(all.handovers.len(), 3);
    let few = tell(collected("crashed", &members), Some(Stamp(0)), Some(5));
    assert_eq!(few.lines, all.lines[all.lines.len() - 5..]);
}

#[test]
fn json_has_everything() {
    let told = tell(collected("killed", &["n1", "n3", "n9"]), None, None);
    let value = show::json(&told);
    let handover = &value["handovers"][0];
    assert_eq!(handover["begun"], "2026-11-27T21:55:32.938Z");
    assert_eq!(handover["without_primary_ms"], 4957);
    let took = handover["phases"].as_array().unwrap().iter();
    let sum: i64 = took.map(|phase| phase["took_ms"].as_i64().unwrap()).sum();
    assert_eq!(handover["total_ms"], sum);
    assert_eq!(value["events"][0]["offset_ms"], 0);
    assert_eq!(value["events"][0]["text"], "the stream from n2 broke");
    let missing = &value["journals"][2];
    assert!(missing["error"].as_str().unwrap().contains("No such file"));
    assert!(value["notes"][0].as_str().unwrap().contains("n9.ndjson"));
}

#[test]
fn moments_are_written_in_many_ways() {
    let at = |text: &str| moment(text).unwrap().0;
    assert_eq!(at("2026-11-21T00:21:27.566Z"), 1_795_220_487_566);
    assert_eq!(at("2026-11-21 01:21:27+01:00"), 1_795_220_487_000);
    let now = jiff::Timestamp::now().as_millisecond();
    assert!((now - 600_000).abs_diff(at("10m")) < 5000);
    assert!((now - 5_400_000).abs_diff(at("1h 30m")) < 5000);
    assert!(moment("2026-11-21 00:21").is_ok());
    let Err(CtlError::Told(text)) = moment("soon") else {
        panic!()
    };
    assert!(text.starts_with("--since soon: expected"), "{text}");
}
