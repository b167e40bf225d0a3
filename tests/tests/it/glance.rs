//! A node at rest, whose loop only glances at PostgreSQL: what changes there by itself or by somebody's
//! hand is noticed all the same within about a second, long before the next look of each `loop_wait`.

use crate::common::{other, secs, stand_in, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, Signal, TestCluster, Value, json, process};
use std::time::Duration;

/// Much less than the time between two looks.
const NOTICED: Duration = Duration::from_secs(7);

/// Patroni's default times: nothing but a glance looks more often than every five seconds.
fn at_leisure() -> ClusterOptions {
    three().dcs(json!({"ttl": 30, "loop_wait": 10, "pgherd": {"lease_ttl": 20}}))
}

/// What the loop has seen last, which is what health checks show.
async fn shown(node: &Node) -> Result<Value, String> {
    let answer = node.get("/health").await?;
    serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {:?}", answer.body))
}

async fn paused(cluster: &TestCluster, node: &Node, wanted: bool) {
    let what = format!("{} shows that replay is paused: {wanted}", node.name());
    cluster
        .wait_for(&what, NOTICED, async || {
            let now = shown(node).await?;
            match now["xlog"]["paused"] == wanted {
                true => Ok(()),
                false => Err(now.to_string()),
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_at_rest_notices_what_changes() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &at_leisure()).await;
    let leader = cluster.wait_streaming(2, secs(60)).await;
    let replica = other(&cluster, leader.name());
    for _ in 0..3 {
        replica
            .sql("select pg_wal_replay_pause()::text")
            .await
            .unwrap();
        paused(&cluster, replica, true).await;
        replica
            .sql("select pg_wal_replay_resume()::text")
            .await
            .unwrap();
        paused(&cluster, replica, false).await;
    }
    // Nobody needs it: the leader drops it as soon as it sees it.
    let make = "select pg_create_physical_replication_slot('by_hand')::text";
    leader.sql(make).await.unwrap();
    let count = "select count(*)::text from pg_replication_slots where slot_name = 'by_hand'";
    cluster
        .wait_for("the slot is gone", NOTICED, async || {
            match leader.sql(count).await?.as_str() {
                "0" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    // PostgreSQL itself sleeps for five seconds before it tries again, unless it is reminded.
    let receiver = "select pid::text from pg_stat_wal_receiver where status = 'streaming'";
    let killed = replica.sql(receiver).await.unwrap();
    process::signal(killed.parse().unwrap(), Signal::TERM);
    cluster
        .wait_for("another process receives", NOTICED, async || {
            let now = replica.sql(receiver).await?;
            (now != killed).then_some(()).ok_or(now)
        })
        .await;
    // While nothing happens, what is shown is never old.
    let before = shown(leader).await.unwrap()["dcs_last_seen"].as_i64();
    cluster
        .wait_for("the leader has heard of etcd again", NOTICED, async || {
            let now = shown(leader).await?["dcs_last_seen"].as_i64();
            (now > before).then_some(()).ok_or(format!("{now:?}"))
        })
        .await;
}
