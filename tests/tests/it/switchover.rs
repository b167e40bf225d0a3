//! A person moves the primary: switchover and failover by REST, by `pgherd ctl` and by genuine
//! `patronictl`.

use crate::common::{body, kind, oracle, secs, stand_in, stored, text, three};
use pgherd_tests::{ClusterOptions, Etcd, TestCluster, Watcher, Writer, json, watcher};

/// To a named candidate over REST: the contract's answer, nothing acknowledged is lost, nobody else
/// writes, the old leader streams again, `failover` becomes `{}`, `history` has the line.
#[tokio::test(flavor = "multi_thread")]
async fn to_a_named_candidate_over_rest() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = crate::common::other(&cluster, old.name());
    let third = cluster
        .nodes()
        .iter()
        .find(|n| ![old.name(), new.name()].contains(&n.name()));
    let third = third.unwrap();
    let started = crate::common::start_time(third).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    let request = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    let expected = format!("Successfully switched over to \"{}\"", new.name());
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, expected.as_str())
    );
    writer.wait_moved(old.name(), secs(15)).await;
    writer.wait_acks(200, secs(30)).await;
    let primary = cluster.wait_whole(secs(40)).await;
    assert_eq!(primary.name(), new.name());
    let now = crate::common::start_time(third).await;
    assert_eq!(now, started, "the third member follows without a restart");
    let report = writer.stop();
    for node in cluster.nodes() {
        cluster
            .wait_for(
                &format!("{} has every row", node.name()),
                secs(30),
                async || match report.missing(&node.target()).await?.len() {
                    0 => Ok(()),
                    n => Err(format!("{n} acknowledged rows are missing")),
                },
            )
            .await;
    }
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    cluster
        .wait_for(
            "failover is {} and history has a line",
            secs(30),
            async || {
                let failover = stored(&etcd, &cluster, "failover").await;
                let history = stored(&etcd, &cluster, "history").await.unwrap_or_default();
                let line = &history[0];
                let good = failover == Some(json!({}))
                    && line[0] == json!(1)
                    && line[2] == json!("no recovery target specified")
                    && line[4] == json!(new.name());
                if good {
                    Ok(())
                } else {
                    Err(format!("{failover:?} {history}"))
                }
            },
        )
        .await;
}

/// Without a candidate the best one is taken; any member takes the request.
#[tokio::test(flavor = "multi_thread")]
async fn to_the_best_candidate_asked_of_a_replica() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let asked = crate::common::other(&cluster, old.name());
    let writer = Writer::start(cluster.targets()).await;
    let request = body(Some(old.name()), None);
    let answer = asked
        .request("POST", "/switchover", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let primary = cluster.wait_whole(secs(40)).await;
    assert_ne!(primary.name(), old.name());
    let expected = format!("Successfully switched over to \"{}\"", primary.name());
    assert_eq!(answer.body, expected);
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
}

/// A manual failover while a leader is there works like a switchover to that member.
#[tokio::test(flavor = "multi_thread")]
async fn manual_failover_over_rest() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = crate::common::other(&cluster, old.name());
    let writer = Writer::start(cluster.targets()).await;
    let answer = old
        .request("POST", "/failover", &body(None, Some(new.name())))
        .await
        .unwrap();
    let expected = format!("Successfully failed over to \"{}\"", new.name());
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, expected.as_str())
    );
    let primary = cluster.wait_whole(secs(40)).await;
    assert_eq!(primary.name(), new.name());
    assert_eq!(writer.stop().missing(&primary.target()).await.unwrap(), []);
}

/// The leader is lost and nobody takes over by himself, since all lag too much: a manual failover is
/// obeyed, and the lost leader joins the new one.
#[tokio::test(flavor = "multi_thread")]
async fn manual_failover_without_a_leader() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let old = crate::rejoin::lose_the_lead(&etcd, &cluster).await;
    assert_eq!(cluster.writable().await, Vec::<String>::new());
    let new = crate::common::other(&cluster, old.name());
    let answer = new
        .request("POST", "/failover", &body(None, Some("nobody")))
        .await
        .unwrap();
    assert_eq!(answer.body, "candidate does not exists");
    let answer = new
        .request("POST", "/failover", &body(None, Some(new.name())))
        .await
        .unwrap();
    let expected = format!("Successfully failed over to \"{}\"", new.name());
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, expected.as_str())
    );
    let primary = cluster.wait_streaming(1, secs(40)).await;
    assert_eq!(primary.name(), new.name());
    old.start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), new.name());
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// Switchovers one after the other never lose a row or show two writers (a short soak of the hand-over).
#[tokio::test(flavor = "multi_thread")]
async fn switchovers_in_a_row_lose_nothing() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    let rounds = if stand_in() { 2 } else { 8 };
    for round in 0..rounds {
        let old = cluster.wait_whole(secs(40)).await;
        let request = body(Some(old.name()), None);
        let answer = old.request("POST", "/switchover", &request).await.unwrap();
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        writer.wait_moved(old.name(), secs(20)).await;
    }
    let primary = cluster.wait_whole(secs(40)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// `pgherd ctl list | switchover | failover | explain`.
#[tokio::test(flavor = "multi_thread")]
async fn own_commands() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap().name().to_owned();
    let list = cluster.ctl(&["list"]);
    let table = text(&list);
    assert!(list.status.success(), "{table}");
    let id = crate::common::system_id(cluster.node(&old)).await;
    for part in [
        "Cluster: ",
        cluster.scope(),
        &id,
        "n1",
        "n2",
        "n3",
        "Leader",
        "streaming",
    ] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    let new = crate::common::other(&cluster, &old).name().to_owned();
    let done = cluster.ctl(&[
        "switchover",
        "--leader",
        &old,
        "--candidate",
        &new,
        "--force",
    ]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains(&format!("Successfully switched over to \"{new}\"")));
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new);
    let done = cluster.ctl(&["failover", "--candidate", &old, "--force"]);
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("over to"), "{}", text(&done));
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), old);
    // The ladder down to the rule that fired, with a reason each.
    for (member, fired, passed) in [
        (&old, "lock_held", ["bootstrap", "switchover"]),
        (&new, "follow", ["lock_held", "lock_free"]),
    ] {
        let explain = cluster.ctl(&["explain", member]);
        let ladder = text(&explain);
        assert!(explain.status.success(), "{ladder}");
        let line = |rule: &str| ladder.lines().find(|l| l.contains(&format!(" {rule} ")));
        assert!(
            line(fired).is_some_and(|l| l.contains("=>")),
            "{fired} did not fire in\n{ladder}"
        );
        for rule in passed {
            assert!(line(rule).is_some(), "rule {rule} is missing in\n{ladder}");
        }
    }
    let wrong = cluster.ctl(&[
        "switchover",
        "--leader",
        &old,
        "--candidate",
        "nobody",
        "--force",
    ]);
    assert!(!text(&wrong).contains("Successfully"), "{}", text(&wrong));
    assert_eq!(cluster.primary().await.unwrap().name(), old);
}

/// The genuine `patronictl` lists, draws, switches and fails over a cluster of ours.
#[tokio::test(flavor = "multi_thread")]
async fn genuine_patronictl() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &ClusterOptions::new(kind())).await;
    let old = cluster.primary().await.unwrap().name().to_owned();
    let rows = cluster
        .wait_for(
            "patronictl shows one leader and two that stream",
            secs(20),
            async || {
                let output = cluster.patronictl(&["list", "{scope}", "-f", "json"]);
                let rows: Vec<pgherd_tests::Value> = serde_json::from_slice(&output.stdout)
                    .map_err(|e| format!("{e}: {output:?}"))?;
                let streaming = rows.iter().filter(|r| r["State"] == "streaming").count();
                if rows.len() == 3 && streaming == 2 {
                    Ok(rows)
                } else {
                    Err(format!("{rows:?}"))
                }
            },
        )
        .await;
    let leader = rows.iter().find(|r| r["Role"] == "Leader").unwrap();
    assert_eq!(leader["Member"], json!(old));
    assert_eq!(leader["State"], json!("running"));
    assert!(rows.iter().all(|r| r["TL"] == json!(1)), "{rows:?}");
    let replica = rows.iter().find(|r| r["Role"] == "Replica").unwrap();
    assert!(
        replica["Receive LSN"]
            .as_str()
            .is_some_and(|l| l.contains('/')),
        "{replica}"
    );
    let topology = text(&cluster.patronictl(&["topology", "{scope}"]));
    assert!(
        topology.contains(&format!("| {old} ")) && topology.contains("| + n"),
        "{topology}"
    );
    let new = crate::common::other(&cluster, &old).name().to_owned();
    let arguments = [
        "switchover",
        "{scope}",
        "--leader",
        &old,
        "--candidate",
        &new,
        "--force",
    ];
    let done = text(&cluster.patronictl(&arguments));
    assert!(
        done.contains(&format!("Successfully switched over to \"{new}\"")),
        "{done}"
    );
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new);
    let done = text(&cluster.patronictl(&["failover", "{scope}", "--candidate", &old, "--force"]));
    assert!(done.contains(&format!("over to \"{old}\"")), "{done}");
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), old);
    let history = text(&cluster.patronictl(&["history", "{scope}"]));
    assert!(
        history.contains("no recovery target specified"),
        "{history}"
    );
    let version = text(&cluster.patronictl(&["version", "{scope}"]));
    assert!(version.contains("PostgreSQL"), "{version}");
}

/// Between the members pg_hba lets in nobody but who replicates, which is all that Patroni needs: after a switchover the
/// third member finds out all the same whether it may follow.
#[tokio::test(flavor = "multi_thread")]
async fn followers_need_no_more_than_replication() {
    let etcd = Etcd::start(1).await;
    let options = three().config(json!({"postgresql": {
        "authentication": {"rewind": {"username": "rewinder", "password": "of-no-use"}},
        "pg_hba": [
            "local all all scram-sha-256",
            "host all rewinder 0.0.0.0/0 reject",
            "host all all 0.0.0.0/0 scram-sha-256",
            "host replication replicator 0.0.0.0/0 scram-sha-256",
        ],
    }}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let request = body(Some(old.name()), None);
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(cluster.wait_whole(secs(40)).await.name(), old.name());
}
