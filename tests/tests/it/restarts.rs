//! Restarts and new copies that people ask for: by REST, by genuine `patronictl`, now, with conditions, at a
//! time, in a pause.

use crate::common::{oracle, other, secs, stand_in, start_time, status, stored, text, three};
use jiff::{SignedDuration, Timestamp};
use pgherd_tests::{Etcd, Node, Signal, TestCluster, Writer, json, process, watcher};

const DONE: (u16, &str) = (200, "restarted successfully");
const UNMET: (u16, &str) = (503, "restart conditions are not satisfied");

async fn post(node: &Node, path: &str, body: &str) -> (u16, String) {
    let answer = node.request("POST", path, body).await.unwrap();
    (answer.status, answer.body)
}

fn is(answer: &(u16, String), expected: (u16, &str)) {
    assert_eq!((answer.0, answer.1.as_str()), expected);
}

async fn timeline(node: &Node) -> String {
    let sql = "select timeline_id::text from pg_control_checkpoint()";
    node.sql(sql).await.unwrap()
}

async fn streaming(cluster: &TestCluster, node: &Node) {
    cluster
        .wait_for(&format!("{} streams", node.name()), secs(60), async || {
            let now = status(node).await?;
            match now["replication_state"] == "streaming" && now["state"] == "running" {
                true => Ok(()),
                false => Err(now.to_string()),
            }
        })
        .await;
}

/// Another postmaster, and everything else as before: lock, timeline, primary, rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_restarts_in_place() {
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"primary_start_timeout": 0}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    let (started, before) = (start_time(leader).await, timeline(leader).await);
    let lease = etcd.lease_of(&cluster.key("leader")).await;
    is(&post(leader, "/restart", "{}").await, DONE);
    assert_ne!(start_time(leader).await, started);
    writer.wait_acks(200, secs(30)).await;
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), leader.name());
    assert_eq!(timeline(leader).await, before);
    if !stand_in() {
        assert_eq!(etcd.lease_of(&cluster.key("leader")).await, lease);
    }
    let report = writer.stop();
    assert_eq!(report.missing(&leader.target()).await.unwrap(), Vec::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
}

/// What waits for a restart is in force after it, and only who waits is restarted.
#[tokio::test(flavor = "multi_thread")]
async fn only_who_waits_is_restarted_where_that_is_asked_for() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let replica = other(&cluster, leader.name());
    is(
        &post(replica, "/restart", r#"{"restart_pending": true}"#).await,
        UNMET,
    );
    is(
        &post(replica, "/restart", r#"{"role": "primary"}"#).await,
        UNMET,
    );
    let patch = json!({"postgresql": {"parameters": {"max_connections": 70}}}).to_string();
    let answer = leader.request("PATCH", "/config", &patch).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    // Here it gets more: the leader last, a standby may not have less than its primary. Where it gets less the leader
    // is the first.
    let mut nodes: Vec<&Node> = cluster.nodes().iter().collect();
    nodes.sort_by_key(|node| node.name() == leader.name());
    for node in nodes {
        cluster
            .wait_for("a restart is pending", secs(30), async || {
                let now = status(node).await?;
                let reason = &now["pending_restart_reason"]["max_connections"]["new_value"];
                match *reason == "70" {
                    true => Ok(()),
                    false => Err(now.to_string()),
                }
            })
            .await;
        let body = r#"{"restart_pending": true, "postgres_version": "99.0"}"#;
        is(&post(node, "/restart", body).await, DONE);
        assert_eq!(node.sql("show max_connections").await.unwrap(), "70");
        cluster
            .wait_for("nothing is pending", secs(30), async || {
                match status(node).await?.get("pending_restart") {
                    None => Ok(()),
                    some => Err(format!("{some:?}")),
                }
            })
            .await;
    }
    streaming(&cluster, replica).await;
}

/// Of what a standby must not have less than its primary: where it gets more standbys come first and the leader
/// last, where it gets less the leader first.
#[tokio::test(flavor = "multi_thread")]
async fn ctl_restarts_members_in_the_order_that_a_change_needs() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    for (value, turn) in [("70", 2), ("65", 0)] {
        let change = format!("max_connections={value}");
        let changed = cluster.ctl(&["edit-config", "-p", &change, "--force"]);
        assert!(changed.status.success(), "{}", text(&changed));
        for node in cluster.nodes() {
            let key = format!("members/{}", node.name());
            cluster
                .wait_for("a restart is pending", secs(30), async || {
                    let member = stored(&etcd, &cluster, &key).await.ok_or("it is gone")?;
                    let reason = &member["pending_restart_reason"]["max_connections"];
                    match reason["new_value"] == value {
                        true => Ok(()),
                        false => Err(member.to_string()),
                    }
                })
                .await;
        }
        let output = cluster.ctl(&["restart", "{scope}", "--pending", "--force"]);
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let success = |line: &str| {
            let name = line.strip_prefix("Success: restart on member ")?;
            Some(name.to_owned())
        };
        let order: Vec<String> = said.lines().filter_map(success).collect();
        assert_eq!(order.len(), 3, "{said}");
        assert_eq!(order[turn], leader.name(), "{said}");
        assert_eq!(leader.sql("show max_connections").await.unwrap(), value);
        assert_eq!(cluster.wait_whole(secs(60)).await.name(), leader.name());
    }
}

/// A start may take as long as is said and no longer: then that is told, and it goes on. The archive is
/// asked for a history and a segment before PostgreSQL takes connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_longer_than_it_may_is_told() {
    let etcd = Etcd::start(1).await;
    let slow = json!({"postgresql": {"recovery_conf": {"restore_command": "sleep 2; false"}}});
    let cluster = TestCluster::formed(&etcd, &three().dcs(slow)).await;
    let leader = cluster.primary().await.unwrap();
    let replica = other(&cluster, leader.name());
    streaming(&cluster, replica).await;
    let started = start_time(replica).await;
    is(
        &post(replica, "/restart", r#"{"timeout": 1}"#).await,
        (503, "postgres is still starting"),
    );
    streaming(&cluster, replica).await;
    assert_ne!(start_time(replica).await, started);
    is(&post(replica, "/restart", r#"{"timeout": 60}"#).await, DONE);
}

/// A restart does not come in between while somebody takes over; but here nobody may, and it is done all
/// the same, within its request.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_wait_for_a_winner_that_never_comes() {
    let etcd = Etcd::start(1).await;
    let lame = json!({"tags": {"nofailover": true}});
    let options = three().node("n2", lame.clone()).node("n3", lame);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let (leader, replica) = (cluster.node("n1"), cluster.node("n2"));
    leader.kill_node();
    cluster
        .wait_for("the lock is free", secs(60), async || {
            match stored(&etcd, &cluster, "leader").await {
                None => Ok(()),
                Some(leader) => Err(leader.to_string()),
            }
        })
        .await;
    let started = start_time(replica).await;
    is(&post(replica, "/restart", "{}").await, DONE);
    assert_ne!(start_time(replica).await, started);
    assert_eq!(status(replica).await.unwrap()["role"], "replica");
}

/// Genuine `patronictl restart` and `reinit`.
#[tokio::test(flavor = "multi_thread")]
async fn patronictl_restarts_and_copies_anew() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let replica = other(&cluster, leader.name());
    let started = start_time(replica).await;
    let said = text(&cluster.patronictl(&["restart", "{scope}", replica.name(), "--force"]));
    let success = format!("Success: restart on member {}", replica.name());
    assert!(said.contains(&success), "{said}");
    assert_ne!(start_time(replica).await, started);
    let marker = replica.data_dir().join("not-of-the-leader");
    std::fs::write(&marker, "").unwrap();
    let said =
        text(&cluster.patronictl(&["reinit", "{scope}", replica.name(), "--force", "--wait"]));
    let success = format!("Success: reinitialize for member {}", replica.name());
    assert!(said.contains(&success), "{said}");
    streaming(&cluster, replica).await;
    assert!(!marker.exists(), "the old data are gone");
    let said = text(&cluster.patronictl(&["reinit", "{scope}", leader.name(), "--force"]));
    assert!(said.contains("No replica among provided members"), "{said}");
    is(
        &post(leader, "/reinitialize", "{}").await,
        (503, "I am the leader, can not reinitialize"),
    );
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), leader.name());
}

/// `pgherd ctl restart`, `flush` and `reinit` of our own members, to the end of each.
#[tokio::test(flavor = "multi_thread")]
async fn ctl_restarts_flushes_and_copies_anew() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let replica = other(&cluster, leader.name());
    let name = replica.name();
    let ctl = |words: &[&str]| {
        let output = cluster.ctl(words);
        (output.status.code(), text(&output))
    };
    let started = start_time(replica).await;
    let (code, said) = ctl(&["restart", "{scope}", name, "--force"]);
    assert_eq!(code, Some(0), "{said}");
    let success = format!("Success: restart on member {name}\n");
    assert!(said.ends_with(&success), "{said}");
    let restarted = start_time(replica).await;
    assert_ne!(restarted, started);

    let later = "2130-01-01T00:00Z";
    let (code, said) = ctl(&["restart", "{scope}", name, "--force", "--scheduled", later]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Success: restart scheduled"), "{said}");
    let key = format!("members/{name}");
    cluster
        .wait_for("its key tells of it", secs(20), async || {
            let member = stored(&etcd, &cluster, &key).await.ok_or("it is gone")?;
            match member["scheduled_restart"].is_object() {
                true => Ok(()),
                false => Err(member.to_string()),
            }
        })
        .await;
    let (code, said) = ctl(&["flush", "{scope}", "restart", "--force"]);
    assert_eq!(code, Some(0), "{said}");
    let flushed = format!("Success: flush scheduled restart for member {name}");
    assert!(said.contains(&flushed), "{said}");
    assert_eq!(
        status(replica).await.unwrap().get("scheduled_restart"),
        None
    );
    assert_eq!(start_time(replica).await, restarted);

    let marker = replica.data_dir().join("not-of-the-leader");
    std::fs::write(&marker, "").unwrap();
    let (code, said) = ctl(&["reinit", "{scope}", name, "--force", "--wait"]);
    assert_eq!(code, Some(0), "{said}");
    let end = format!("Reinitialize is completed on: {name}\n");
    assert!(said.ends_with(&end), "{said}");
    assert!(!marker.exists(), "the old data are gone");
    let (code, said) = ctl(&[
        "restart",
        "{scope}",
        name,
        "--force",
        "--pg-version",
        "9.5.2",
    ]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("status code=503"), "{said}");
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), leader.name());
}

/// In synchronous mode `primary_stop_timeout` bounds a stop that PostgreSQL cannot end in order: one of its backends
/// takes no signal.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_synchronous_mode_has_a_limit() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let dcs = json!({"synchronous_mode": true, "primary_stop_timeout": 2});
    let cluster = TestCluster::formed(&etcd, &three().dcs(dcs)).await;
    let leader = cluster.primary().await.unwrap();
    let target = leader.target();
    let session = pgherd_tests::sql::connect(&target, secs(5)).await.unwrap();
    let row = session
        .query_one("select pg_backend_pid()", &[])
        .await
        .unwrap();
    assert!(process::signal(row.get(0), Signal::STOP));
    let (started, skip) = (start_time(leader).await, leader.log().len());
    is(&post(leader, "/restart", "{}").await, DONE);
    assert_ne!(start_time(leader).await, started);
    let log = leader.log().split_off(skip);
    let forced = "it is stopped by force (primary_stop_timeout)";
    assert!(log.contains(forced), "{log}");
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), leader.name());
}

/// At its time and not before; shown meanwhile by the node and its key; deleted, it does not happen.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_scheduled_shown_and_carried_out() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let node = other(&cluster, leader.name());
    let started = start_time(node).await;
    let body = |at: &str| json!({"schedule": at, "role": "replica"}).to_string();
    let far = "2130-01-01T00:00:00+00:00";
    is(
        &post(node, "/restart", &body(far)).await,
        (202, "Restart scheduled"),
    );
    is(
        &post(node, "/restart", &body(far)).await,
        (409, "Another restart is already scheduled"),
    );
    let key = format!("members/{}", node.name());
    cluster
        .wait_for("it is shown", secs(30), async || {
            let shown = status(node).await?["scheduled_restart"].clone();
            let member = stored(&etcd, &cluster, &key).await.unwrap_or_default();
            let in_key = &member["scheduled_restart"];
            let good = shown == json!({"schedule": far, "role": "replica"})
                && in_key["schedule"] == far
                && in_key["postmaster_start_time"].is_string();
            match good {
                true => Ok(()),
                false => Err(format!("{shown} {member}")),
            }
        })
        .await;
    let delete = node.request("DELETE", "/restart", "").await.unwrap();
    assert_eq!(
        (delete.status, delete.body.as_str()),
        (200, "scheduled restart deleted")
    );
    let at = Timestamp::now() + SignedDuration::from_secs(4);
    let at = Timestamp::from_second(at.as_second()).unwrap();
    let written = at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    is(
        &post(node, "/restart", &body(&written)).await,
        (202, "Restart scheduled"),
    );
    cluster
        .wait_for("it was restarted", secs(60), async || {
            match status(node).await?["postmaster_start_time"].as_str() {
                Some(now) if now != started => Ok(()),
                now => Err(format!("{now:?}")),
            }
        })
        .await;
    assert!(Timestamp::now() >= at, "not before its time");
    streaming(&cluster, node).await;
    assert_eq!(status(node).await.unwrap().get("scheduled_restart"), None);
}

/// In a pause PostgreSQL restarts where it is asked for, and nobody else takes over meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_does_not_keep_anybody_from_a_restart() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let pause = json!({"pause": true}).to_string();
    leader.request("PATCH", "/config", &pause).await.unwrap();
    for node in cluster.nodes() {
        cluster
            .wait_for("the pause is noticed", secs(30), async || {
                match status(node).await?["pause"] == true {
                    true => Ok(()),
                    false => Err("not yet".into()),
                }
            })
            .await;
        let started = start_time(node).await;
        is(&post(node, "/restart", "{}").await, DONE);
        assert_ne!(start_time(node).await, started);
    }
    assert_eq!(cluster.primary().await.unwrap().name(), leader.name());
    for node in cluster
        .nodes()
        .iter()
        .filter(|node| node.name() != leader.name())
    {
        streaming(&cluster, node).await;
    }
    is(
        &post(
            leader,
            "/restart",
            r#"{"schedule": "2130-01-01T00:00:00Z"}"#,
        )
        .await,
        (500, "Can't schedule restart in the paused state"),
    );
}
