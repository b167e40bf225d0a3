//! The failsafe mode: etcd is lost, and the leader goes on as long as every member lets it.

use crate::common::{body, secs, stand_in, three};
use crate::etcd_loss::{ended_within_the_lease, nobody_writes, undisturbed};
use pgherd_tests::{Etcd, Node, TestCluster, Value, Watcher, Writer, clock, json, watcher};

/// A cluster whose `/failsafe` names everybody.
async fn formed(etcd: &Etcd) -> TestCluster {
    let options = three().dcs(json!({"failsafe_mode": true}));
    let cluster = TestCluster::formed(etcd, &options).await;
    let key = cluster.key("failsafe");
    cluster
        .wait_for("/failsafe names everybody", secs(30), async || {
            let text = etcd.get(&key).await.unwrap_or_default();
            let names: Value = serde_json::from_str(&text).unwrap_or_default();
            match names.as_object().map(|names| names.len()) {
                Some(3) => Ok(()),
                _ => Err(text),
            }
        })
        .await;
    cluster
}

/// What `GET /patroni` says of the mode.
async fn is_active(node: &Node) -> Result<bool, String> {
    let status = node.get("/patroni").await?;
    let document: Value = serde_json::from_str(&status.body).map_err(|e| e.to_string())?;
    Ok(document["failsafe_mode_is_active"] == json!(true))
}

/// Stops all of etcd; every member says that the failsafe mode is active.
async fn lose(cluster: &TestCluster, etcd: &Etcd) {
    for i in 0..etcd.len() {
        etcd.stop(i);
    }
    for node in cluster.nodes() {
        let what = format!("{} tells of the failsafe mode", node.name());
        cluster
            .wait_for(&what, secs(20), async || match is_active(node).await? {
                true => Ok(()),
                false => Err("it does not".to_owned()),
            })
            .await;
    }
}

async fn find(cluster: &TestCluster, etcd: &Etcd) {
    for i in 0..etcd.len() {
        etcd.cont(i);
    }
    etcd.wait_healthy().await;
    cluster.wait_whole(secs(50)).await;
}

/// Three leases long nothing answers but the members: the primary stays, and all is as before afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn the_primary_outlives_etcd() {
    let etcd = Etcd::start(3).await;
    let cluster = formed(&etcd).await;
    let primary = cluster.wait_whole(secs(40)).await;
    let writer = Writer::start(cluster.targets()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    lose(&cluster, &etcd).await;
    undisturbed(&cluster, primary, secs(15)).await;
    crate::common::wait_health(&cluster, primary, "/primary", 200).await;
    let metrics = primary.get("/metrics").await.unwrap().body;
    let active = metrics
        .lines()
        .find(|line| line.starts_with("patroni_failsafe_mode_is_active{"));
    assert!(
        active.is_some_and(|line| line.ends_with(" 1")),
        "{active:?}"
    );
    find(&cluster, &etcd).await;
    assert_eq!(cluster.primary().await.unwrap().name(), primary.name());
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert!(
        report.acks.iter().all(|ack| ack.timeline == 1),
        "a failover"
    );
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    // Its lock may have gone with etcd, and is taken again first.
    let request = body(Some(primary.name()), None);
    cluster
        .wait_for("it hands over", secs(40), async || {
            let answer = primary.request("POST", "/switchover", &request).await?;
            match answer.status {
                200 => Ok(()),
                _ => Err(format!("{answer:?}")),
            }
        })
        .await;
    cluster.wait_whole(secs(40)).await;
}

/// One member does not answer: then it may have taken over, and the primary demotes like without the mode.
#[tokio::test(flavor = "multi_thread")]
async fn one_silent_member_ends_it() {
    let etcd = Etcd::start(3).await;
    let cluster = formed(&etcd).await;
    let primary = cluster.wait_whole(secs(40)).await;
    let watcher = Watcher::start(cluster.targets()).await;
    lose(&cluster, &etcd).await;
    let other = cluster.nodes().iter().find(|n| n.name() != primary.name());
    let other = other.unwrap();
    other.kill_agent();
    let lost = clock::now();
    nobody_writes(&cluster, if stand_in() { secs(40) } else { secs(10) }).await;
    ended_within_the_lease(&watcher, lost);
    other.start();
    find(&cluster, &etcd).await;
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// etcd comes back without the lock: the primary takes it again, and nobody who let it stay races it. Then it is lost:
/// promises end, and another one takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_gone_is_taken_again() {
    let etcd = Etcd::start(3).await;
    let cluster = formed(&etcd).await;
    let primary = cluster.wait_whole(secs(40)).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let key = cluster.key("leader");
    let before = etcd.created(&key).await;
    lose(&cluster, &etcd).await;
    for i in 0..etcd.len() {
        etcd.cont(i);
    }
    etcd.wait_healthy().await;
    etcd.delete(&key).await;
    cluster.wait_whole(secs(50)).await;
    assert_eq!(cluster.primary().await.unwrap().name(), primary.name());
    assert_ne!(etcd.created(&key).await, before);
    primary.kill_node();
    cluster.wait_new_primary(primary.name(), secs(70)).await;
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    primary.start();
    cluster.wait_whole(secs(60)).await;
}
