//! `synchronous_mode: quorum`: commits wait for any of several standbys, and whoever takes over needs votes. Genuine
//! Patroni does the same (`PGHERD_TESTS_AGENT=patroni`).

use crate::common::{body, other, secs, stored, three};
use pgherd_tests::{Etcd, Node, Signal, TestCluster, Value, Writer, json};

/// Waits until `/sync` says this, and PostgreSQL waits for that.
async fn settled(
    etcd: &Etcd,
    cluster: &TestCluster,
    voters: &mut [&str],
    quorum: u64,
    waits: &str,
) {
    voters.sort_unstable();
    let voters = voters.join(",");
    cluster
        .wait_for("votes and copies", secs(60), async || {
            let sync = stored(etcd, cluster, "sync").await.unwrap_or_default();
            let primary = cluster.primary().await?;
            let query = "select current_setting('synchronous_standby_names')";
            let text = primary.sql(query).await?;
            let names = sync["sync_standby"].as_str().unwrap_or_default();
            match names == voters && sync["quorum"] == json!(quorum) && text == waits {
                true => Ok(()),
                false => Err(format!("{sync}, {text}, not {voters}, {quorum}, {waits}")),
            }
        })
        .await;
}

async fn formed(etcd: &Etcd, dcs: Value) -> TestCluster {
    let cluster = TestCluster::formed(etcd, &three().dcs(dcs)).await;
    let (voters, waits) = of_all(&cluster).await;
    let mut voters: Vec<&str> = voters.iter().map(String::as_str).collect();
    settled(etcd, &cluster, &mut voters, 1, &waits).await;
    cluster
}

/// The standbys, and one copy on any of them.
async fn of_all(cluster: &TestCluster) -> (Vec<String>, String) {
    let primary = cluster.primary().await.unwrap();
    let names = cluster.nodes().iter().map(Node::name);
    let mut names: Vec<String> = names
        .filter(|name| *name != primary.name())
        .map(str::to_owned)
        .collect();
    names.sort();
    let waits = format!("ANY 1 ({})", names.join(","));
    (names, waits)
}

/// A standby that goes holds up no commit; with both gone commits wait for nobody, unless they are to.
#[tokio::test(flavor = "multi_thread")]
async fn commits_wait_for_any_of_the_standbys() {
    let etcd = Etcd::start(1).await;
    let cluster = formed(&etcd, json!({"synchronous_mode": "quorum"})).await;
    let primary = cluster.primary().await.unwrap();
    let first = other(&cluster, primary.name());
    let mut names = cluster.nodes().iter().map(Node::name);
    let second = names.find(|name| ![primary.name(), first.name()].contains(name));
    let second = second.unwrap();
    let health = cluster.node(second).get("/quorum").await.unwrap();
    assert_eq!(health.status, 200, "{health:?}");
    let writer = Writer::start(vec![primary.target()]).await;
    writer.wait_acks(50, secs(30)).await;
    first.kill_node();
    writer.wait_acks(50, secs(10)).await;
    settled(
        &etcd,
        &cluster,
        &mut [second],
        0,
        &format!("ANY 1 ({second})"),
    )
    .await;
    cluster.node(second).kill_node();
    settled(&etcd, &cluster, &mut [], 0, "").await;
    writer.wait_acks(50, secs(30)).await;
    writer.stop();
    first.start();
    cluster.node(second).start();
    let (voters, waits) = of_all(&cluster).await;
    let mut voters: Vec<&str> = voters.iter().map(String::as_str).collect();
    settled(&etcd, &cluster, &mut voters, 1, &waits).await;
}

/// One standby has stopped receiving, the other has every row: that one takes over, and no row is lost.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_over_has_every_acknowledged_row() {
    let etcd = Etcd::start(1).await;
    let dcs = json!({"synchronous_mode": "quorum", "maximum_lag_on_failover": 1_073_741_824});
    let cluster = formed(&etcd, dcs).await;
    let primary = cluster.primary().await.unwrap();
    let behind = other(&cluster, primary.name());
    let receives = |it: &pgherd_tests::process::Process| it.cmdline.contains("walreceiver");
    let receiver = behind.postgres().into_iter().find(receives);
    let receiver = receiver.expect("a WAL receiver").pid;
    pgherd_tests::process::signal(receiver, Signal::STOP);
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    primary.kill_node();
    // What has been sent waits in its socket: it does not receive that before somebody else leads.
    let now = cluster.wait_new_primary(primary.name(), secs(90)).await;
    pgherd_tests::process::signal(receiver, Signal::CONT);
    assert_ne!(now.name(), behind.name(), "it lacks rows");
    writer.wait_acks(20, secs(60)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&now.target()).await.unwrap(), []);
    primary.start();
    cluster.wait_whole(secs(90)).await;
}

/// A planned switchover needs no vote: the new primary has the last checkpoint of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_goes_on_with_the_mode() {
    let etcd = Etcd::start(1).await;
    let cluster = formed(&etcd, json!({"synchronous_mode": "quorum"})).await;
    let old = cluster.primary().await.unwrap();
    let new = other(&cluster, old.name());
    let request = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), new.name());
    let (voters, waits) = of_all(&cluster).await;
    let mut voters: Vec<&str> = voters.iter().map(String::as_str).collect();
    settled(&etcd, &cluster, &mut voters, 1, &waits).await;
}
