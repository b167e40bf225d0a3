//! After a failover: what the members' journals tell, together and in files of dead nodes, and that
//! keeping them harms nobody.

use crate::common::{body, failover, kind, other, secs, stand_in, text, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, Signal, TestCluster, Value, clock, json, process};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

fn journal(node: &Node) -> PathBuf {
    node.dir().join("data.pgherd-journal")
}

fn journal_text(node: &Node) -> String {
    std::fs::read_to_string(journal(node)).unwrap()
}

/// `ctl timeline -f json`.
fn timeline(cluster: &TestCluster, more: &[&str]) -> Value {
    let mut words = vec!["timeline", "-f", "json"];
    words.extend(more);
    let output = cluster.ctl(&words);
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `UNTIL MEMBER` of each part of the last handover; they add up.
fn parts(told: &Value) -> Vec<String> {
    let handover = told["handovers"].as_array().unwrap().last().unwrap();
    let phases = handover["phases"].as_array().unwrap();
    let took = |phase: &Value| phase["took_ms"].as_i64().unwrap();
    assert!(phases.iter().all(|phase| took(phase) >= 0), "{handover}");
    let sum: i64 = phases.iter().map(took).sum();
    assert_eq!(handover["total_ms"], sum, "{handover}");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let part = |phase: &Value| format!("{} {}", word(&phase["until"]), word(&phase["member"]));
    phases.iter().map(part).collect()
}

/// These events are there, in this order.
fn in_order(told: &Value, wanted: &[(&str, &str)]) {
    let events = told["events"].as_array().unwrap();
    let mut rest = events.iter();
    for (member, words) in wanted {
        let found = rest.any(|event| {
            event["member"] == *member && event["text"].as_str().unwrap().contains(words)
        });
        assert!(
            found,
            "{member}: {words:?} is not there, or too early: {told:#}"
        );
    }
}

fn notes(told: &Value) -> String {
    told["notes"].to_string()
}

/// A node loses its power: the others tell of it, its own file tells what it was, and once it is back
/// so does it; the parts add up to what was seen from outside.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_primary_is_told_of() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let killed = clock::now();
    old.kill_node();
    let new = cluster.wait_new_primary(old.name(), failover()).await;
    let seen = clock::now().saturating_sub(killed);
    cluster.wait_streaming(1, secs(30)).await;
    let third = cluster.nodes().iter().find(|node| {
        let name = node.name();
        name != old.name() && name != new.name()
    });
    let third = third.unwrap();
    // The primary sees it stream before it looks itself.
    cluster
        .wait_for("the third has told all", secs(20), async || {
            let told = journal_text(third);
            match told.contains("\"timeline\":2") {
                true => Ok(()),
                false => Err(told),
            }
        })
        .await;
    told_by_the_others(&cluster, old, new, third, seen);
    told_by_its_file(&cluster, old);

    let (old_name, new_name) = (old.name(), new.name());
    old.start();
    cluster.wait_whole(secs(60)).await;
    cluster
        .wait_for("the story ends with its return", secs(20), async || {
            let parts = parts(&timeline(&cluster, &[]));
            match parts.contains(&format!("rejoined {old_name}")) {
                true => Ok(()),
                false => Err(format!("{parts:?}")),
            }
        })
        .await;
    let output = cluster.ctl(&["timeline"]);
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    assert!(
        shown.starts_with(&format!("Failover from {old_name} to {new_name}, ")),
        "{shown}"
    );
    assert!(shown.contains("| without a primary |"), "{shown}");
    assert!(!shown.contains("Note: "), "everybody answered:\n{shown}");
}

/// What those tell who live; the primary was away for `seen`, from outside.
fn told_by_the_others(cluster: &TestCluster, old: &Node, new: &Node, third: &Node, seen: Duration) {
    let (old_name, new_name) = (old.name(), new.name());
    let told = timeline(cluster, &[]);
    let handover = &told["handovers"][0];
    assert_eq!(told["handovers"].as_array().unwrap().len(), 1, "{told:#}");
    assert_eq!(handover["kind"], "failover");
    assert_eq!(
        (&handover["from"], &handover["to"]),
        (&json!(old.name()), &json!(new.name()))
    );
    assert_eq!(handover["timeline"], 2);
    let ms = handover["without_primary_ms"].as_u64().unwrap();
    // The test looks from outside, ten times a second.
    let seen = u64::try_from(seen.as_millis()).unwrap();
    assert!(
        ms <= seen + 200 && ms + 2500 >= seen,
        "{ms} ms, seen were {seen} ms"
    );
    let parts_now = parts(&told);
    for part in ["lock taken", "guard armed", "promotion ordered", "writable"] {
        let part = format!("{part} {}", new.name());
        assert!(parts_now.contains(&part), "{part}: {parts_now:?}");
    }
    in_order(
        &told,
        &[
            (new_name, &format!("the stream from {old_name} broke")),
            (new_name, &format!("{old_name} does not answer")),
            (new_name, "sees that the lock is free"),
            (new_name, "has taken the lock"),
            (new_name, "has armed the guard"),
            (new_name, "begins: promoting PostgreSQL"),
            (new_name, "is primary, on timeline 2"),
        ],
    );
    // It may follow before the new primary knows that it is one.
    let taken = (new_name, "has taken the lock");
    in_order(&told, &[taken, (third.name(), "timeline 2")]);
    assert!(
        notes(&told).contains(&format!("{old_name}: can not connect")),
        "{}",
        notes(&told)
    );
}

/// Nobody else need be there.
fn told_by_its_file(cluster: &TestCluster, old: &Node) {
    let file = journal(old).display().to_string();
    let told = timeline(cluster, &["--file", &file, "--since", "1h"]);
    in_order(&told, &[(old.name(), "is primary, on timeline 1")]);
    let output = cluster.ctl(&["-d", "etcd3://127.0.0.1:1", "timeline", "--file", &file]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("First leader of"),
        "{}",
        text(&output)
    );
}

/// A switchover is told of as one, also where the journals want a password.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_is_told_of() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().rest_auth("admin", "open sesame");
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    assert_eq!(old.get("/journal").await.unwrap().status, 401);
    let new = other(&cluster, old.name());
    let request = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
    let wanted = [
        format!("writable {}", new.name()),
        format!("rejoined {}", old.name()),
    ];
    let told = cluster
        .wait_for("the story is whole", secs(20), async || {
            let told = timeline(&cluster, &[]);
            let parts = parts(&told);
            match wanted.iter().all(|part| parts.contains(part)) {
                true => Ok(told),
                false => Err(format!("{parts:?}")),
            }
        })
        .await;
    assert_eq!(told["handovers"][0]["kind"], "switchover");
    let request = format!(
        "is asked for a switchover from {} to {}",
        old.name(),
        new.name()
    );
    in_order(
        &told,
        &[
            (old.name(), &request),
            (old.name(), "begins: stopping PostgreSQL"),
            (old.name(), "has released the lock"),
            (new.name(), "has taken the lock"),
            (new.name(), "is primary, on timeline 2"),
        ],
    );
}

/// An agent that froze tells after its return that its guard has fired.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_tells_of_its_guard_afterwards() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    old.signal_agent(Signal::STOP);
    let new = cluster.wait_new_primary(old.name(), failover()).await;
    old.signal_agent(Signal::CONT);
    cluster.wait_whole(secs(60)).await;
    cluster
        .wait_for("the story is whole", secs(20), async || {
            let parts = parts(&timeline(&cluster, &[]));
            match parts.contains(&format!("rejoined {}", old.name())) {
                true => Ok(()),
                false => Err(format!("{parts:?}")),
            }
        })
        .await;
    let told = timeline(&cluster, &[]);
    let stale = format!("{} does not renew its lease", old.name());
    in_order(
        &told,
        &[
            (new.name(), &stale),
            (new.name(), "is primary, on timeline 2"),
        ],
    );
    let fired = (old.name(), "the guard has fired: it killed ");
    in_order(&told, &[fired, (old.name(), "timeline 2")]);
}

/// A killed agent's last line may be torn; the next one goes on in the same file, and nobody else may
/// read it. An idle node writes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_goes_on_after_a_restart_and_rests_when_nothing_happens() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &ClusterOptions::with_kinds(&[kind()])).await;
    let node = &cluster.nodes()[0];
    node.kill_agent();
    let before = journal_text(node);
    let file = std::fs::OpenOptions::new().append(true).open(journal(node));
    std::io::Write::write_all(&mut file.unwrap(), &before.as_bytes()[..50]).unwrap();
    node.start();
    let starts = |text: &str| text.matches("\"kind\":\"start\"").count();
    cluster
        .wait_for("the second run leads", secs(30), async || {
            let text = journal_text(node);
            let second = text.rsplit("\"kind\":\"start\"").next().unwrap_or_default();
            let leads = second
                .lines()
                .filter(|line| line.contains("lock_held") && line.contains("armed"));
            match (starts(&text), leads.count()) {
                (2, 1..) => Ok(()),
                _ => Err(text),
            }
        })
        .await;
    assert!(journal_text(node).starts_with(&before));
    let last = before.lines().last().unwrap();
    assert!(
        last.contains("\"etcd\":\""),
        "revisions are of one etcd: {last}"
    );
    let about = std::fs::metadata(journal(node)).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let told = timeline(&cluster, &["--since", "1h"]);
    assert_eq!(told["journals"][0]["name"], "n1");
    in_order(
        &told,
        &[("n1", "the agent starts"), ("n1", "the agent starts")],
    );
    let torn = "n1: 1 line cannot be read (torn by a crash";
    assert!(notes(&told).contains(torn), "{}", notes(&told));

    let rests = || std::fs::metadata(journal(node)).unwrap().len();
    let mut size = rests();
    cluster
        .wait_for("nothing more is told", secs(30), async || {
            tokio::time::sleep(secs(3)).await;
            match std::mem::replace(&mut size, rests()) {
                before if before == size => Ok(()),
                before => Err(format!("{before} became {size}")),
            }
        })
        .await;
    crate::common::stays("the journal", secs(10), async || match rests() {
        now if now == size => Ok(()),
        now => Err(format!("{size} became {now}: {}", journal_text(node))),
    })
    .await;
}

/// Where the journal cannot be written there is one warning, and everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_cannot_be_written_is_a_warning_and_no_more() {
    if stand_in() || process::account().is_none() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = ClusterOptions::with_kinds(&[kind(), kind()])
        .node("n1", json!({"pgherd": {"journal": "/proc/1/journal"}}))
        .node("n2", json!({"pgherd": {"journal": "off"}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let [n1, n2] = cluster.nodes() else { panic!() };
    let old = cluster.primary().await.unwrap();
    let request = body(Some(old.name()), None);
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
    let log = n1.log();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("journal"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0].contains(" WARNING: the journal /proc/1/journal cannot be written: ")
            && warnings[0].contains("pgherd.journal"),
        "{}",
        warnings[0]
    );
    assert!(!n2.log().contains("journal"), "{}", n2.log());
    assert!(!n1.dir().join("data.pgherd-journal").exists());
    let answer = n2.get("/journal").await.unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
    let output = cluster.ctl(&["timeline"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    assert!(
        said.contains("Error: no journal could be read (n1: "),
        "{said}"
    );
    assert!(
        said.contains("n2: answered 404: this node keeps no journal"),
        "{said}"
    );
}
