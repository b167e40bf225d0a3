//! `postgresql.callbacks`: programs of the user that are told what becomes of PostgreSQL. Genuine Patroni tells the
//! same (`PGHERD_TESTS_AGENT=patroni`).

use crate::common::{body, other, secs, stand_in, three};
use pgherd_tests::{Etcd, Node, TestCluster, json, process};
use std::path::PathBuf;

/// A program that writes down what it is told, and by whom.
struct Diary(PathBuf);

impl Diary {
    fn new(etcd: &Etcd) -> Diary {
        let dir = etcd.dir().join("callbacks");
        std::fs::create_dir_all(&dir).unwrap();
        process::give(&dir);
        let told = dir.join("told");
        let program = format!("#!/bin/sh\necho \"$@\" >> '{}'\n", told.display());
        std::fs::write(dir.join("tell.sh"), program).unwrap();
        Diary(told)
    }

    /// Callbacks of one member.
    fn of(&self, name: &str) -> pgherd_tests::Value {
        let program = self.0.with_file_name("tell.sh");
        let command = format!("sh '{}' {name}", program.display());
        json!({"postgresql": {"callbacks": {
            "on_start": command,
            "on_stop": command,
            "on_restart": command,
            "on_reload": command,
            "on_role_change": command,
        }}})
    }

    /// What this member has told: occasion and role; reloads or all else.
    fn read(&self, cluster: &TestCluster, node: &Node, reloads: bool) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let (begin, end) = (format!("{} ", node.name()), format!(" {}", cluster.scope()));
        text.lines()
            .filter_map(|line| {
                line.strip_prefix(begin.as_str())?
                    .strip_suffix(end.as_str())
            })
            .filter(|told| told.starts_with("on_reload ") == reloads)
            .map(str::to_owned)
            .collect()
    }

    async fn wait(&self, cluster: &TestCluster, node: &Node, expected: &[&str]) {
        let what = format!("{} has told {expected:?}", node.name());
        cluster
            .wait_for(&what, secs(30), async || {
                let told = self.read(cluster, node, false);
                match told == expected {
                    true => Ok(()),
                    false => Err(format!("{told:?}")),
                }
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_told_of_starts_stops_roles_restarts_and_reloads() {
    let etcd = Etcd::start(1).await;
    let diary = Diary::new(&etcd);
    let options = ["n1", "n2", "n3"]
        .iter()
        .fold(three(), |options, name| options.node(name, diary.of(name)));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let new = other(&cluster, old.name());
    let mut nodes = cluster.nodes().iter();
    let third = nodes.find(|node| ![old.name(), new.name()].contains(&node.name()));
    let third = third.unwrap();
    diary.wait(&cluster, old, &["on_start primary"]).await;
    for node in [new, third] {
        diary.wait(&cluster, node, &["on_start replica"]).await;
    }

    let request = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
    let demoted = [
        "on_start primary",
        "on_stop primary",
        "on_role_change replica",
    ];
    diary.wait(&cluster, old, &demoted).await;
    diary
        .wait(
            &cluster,
            new,
            &["on_start replica", "on_role_change primary"],
        )
        .await;

    let answer = third.request("POST", "/restart", "{}").await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    diary
        .wait(&cluster, third, &["on_start replica", "on_restart replica"])
        .await;

    let before = diary.read(&cluster, new, true).len();
    let patch = json!({"postgresql": {"parameters": {"work_mem": "5MB"}}}).to_string();
    let answer = new.request("PATCH", "/config", &patch).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster
        .wait_for("the reload is told", secs(30), async || {
            let told = diary.read(&cluster, new, true);
            // Nobody waits for a callback: one from before may still come.
            let new = told.iter().skip(before);
            match new.into_iter().any(|told| told == "on_reload primary") {
                true => Ok(()),
                false => Err(format!("{told:?}, {before} of them before")),
            }
        })
        .await;
}

/// Whoever promotes a standby by hand has no lock for it: no address may move there.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_by_hand_is_never_told_of_as_primary() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let diary = Diary::new(&etcd);
    let dcs = json!({"postgresql": {"use_pg_rewind": true}});
    let options = ["n1", "n2", "n3"]
        .iter()
        .fold(three().dcs(dcs), |options, name| {
            options.node(name, diary.of(name))
        });
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.primary().await.unwrap();
    let replica = other(&cluster, primary.name());
    diary.wait(&cluster, replica, &["on_start replica"]).await;
    let postmaster = replica.postmaster_pid();
    replica.sql("select pg_promote(false)::text").await.unwrap();
    cluster
        .wait_for("it is stopped", secs(30), async || {
            match replica.postmaster_pid() == postmaster {
                true => Err("the same postmaster".into()),
                false => Ok(()),
            }
        })
        .await;
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), primary.name());
    // Nobody waits for a callback.
    cluster
        .wait_for("its last start is told", secs(30), async || {
            let told = diary.read(&cluster, replica, false);
            match told.len() > 1 && told.last().is_some_and(|it| it == "on_start replica") {
                true => Ok(()),
                false => Err(format!("{told:?}")),
            }
        })
        .await;
    let told = diary.read(&cluster, replica, false);
    assert!(!told.iter().any(|it| it.ends_with(" primary")), "{told:?}");
}
