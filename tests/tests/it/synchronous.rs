//! `synchronous_mode: on`: who waits for whom, and who is let go. Genuine Patroni does the same
//! (`PGHERD_TESTS_AGENT=patroni`), but for its log.

use crate::common::{secs, stand_in, stored, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, Signal, TestCluster, Value, Writer, json, process};

/// A cluster with this dynamic configuration and a synchronous standby, and who that is.
async fn formed(etcd: &Etcd, mut dcs: Value) -> (TestCluster, String) {
    dcs["synchronous_mode"] = json!(true);
    let options: ClusterOptions = three().dcs(dcs);
    let cluster = TestCluster::formed(etcd, &options).await;
    let first = synchronous(etcd, &cluster, |_| true).await;
    (cluster, first)
}

/// Waits until `/sync` names somebody who will do.
async fn synchronous(etcd: &Etcd, cluster: &TestCluster, will_do: impl Fn(&str) -> bool) -> String {
    cluster
        .wait_for("somebody is synchronous", secs(60), async || {
            let sync = stored(etcd, cluster, "sync").await.unwrap_or_default();
            let name = sync["sync_standby"].as_str().unwrap_or_default().to_owned();
            match !name.is_empty() && will_do(&name) {
                true => Ok(name),
                false => Err(sync.to_string()),
            }
        })
        .await
}

/// In its log it asks to be let go before it does what would hold up commits.
fn asked_before(node: &Node, deed: &str) {
    if stand_in() {
        return;
    }
    let log = node.log();
    let asked = log.find("asking to be let out of synchronous duty first");
    let done = log.rfind(deed);
    assert!(asked.is_some() && asked < done, "{}", node.log_tail(30));
}

/// Commits do not wait for a synchronous standby that somebody restarts: it is let go first.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_steps_out_before_it_restarts() {
    let etcd = Etcd::start(1).await;
    let (cluster, first) = formed(&etcd, json!({})).await;
    let node = cluster.node(&first);
    let answer = node.request("POST", "/restart", "{}").await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, "restarted successfully")
    );
    asked_before(node, "restart: stopping PostgreSQL");
    cluster.wait_whole(secs(60)).await;
    synchronous(&etcd, &cluster, |_| true).await;
    cluster
        .wait_for("its tags are its own again", secs(30), async || {
            let member = stored(&etcd, &cluster, &format!("members/{first}")).await;
            let member = member.unwrap_or_default();
            match member["tags"]["nosync"].is_null() {
                true => Ok(()),
                false => Err(member.to_string()),
            }
        })
        .await;
}

/// Nor for one whose agent is told to end: the other standby is synchronous by then.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_steps_out_before_its_agent_ends() {
    let etcd = Etcd::start(1).await;
    let (cluster, first) = formed(&etcd, json!({})).await;
    let primary = cluster.primary().await.unwrap();
    let node = cluster.node(&first);
    assert!(node.stop().await.success());
    asked_before(node, "the agent ends: stopping PostgreSQL");
    let sync = stored(&etcd, &cluster, "sync").await.unwrap_or_default();
    assert_ne!(
        sync["sync_standby"],
        json!(first),
        "it was let go before it went"
    );
    // Nobody waits for it.
    let writer = Writer::start(vec![primary.target()]).await;
    writer.wait_acks(10, secs(10)).await;
    writer.stop();
    node.start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), primary.name());
}

/// A standby that is further behind than `maximum_lag_on_syncnode` is replaced by one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_lags_is_replaced() {
    let etcd = Etcd::start(1).await;
    let lag = json!({"maximum_lag_on_syncnode": 1_048_576});
    let (cluster, first) = formed(&etcd, lag).await;
    let primary = cluster.primary().await.unwrap();
    let second = cluster
        .nodes()
        .iter()
        .map(Node::name)
        .find(|name| ![primary.name(), first.as_str()].contains(name));
    // It receives nothing any more, over a connection that lives.
    let receives = |it: &process::Process| it.cmdline.contains("walreceiver");
    let receiver = cluster.node(&first).postgres().into_iter().find(receives);
    let receiver = receiver.expect("a WAL receiver").pid;
    process::signal(receiver, Signal::STOP);
    // Nobody's commit: it does not wait for the standby.
    primary
        .sql("select max(pg_logical_emit_message(false, 'lag', repeat('x', 1048576)))::text from generate_series(1, 4)")
        .await
        .unwrap();
    let now = synchronous(&etcd, &cluster, |name| name != first).await;
    assert_eq!(Some(now.as_str()), second);
    let writer = Writer::start(vec![primary.target()]).await;
    writer.wait_acks(10, secs(10)).await;
    writer.stop();
    process::signal(receiver, Signal::CONT);
    cluster.wait_whole(secs(60)).await;
}
