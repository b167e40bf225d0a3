//! Permanent logical slots: what a consumer has confirmed before a switchover does not come again, what it has not does come, and
//! the slot is where a primary may be next.

use crate::common::{body, failover, secs, stand_in, stored, three};
use pgherd_tests::{Etcd, Node, TestCluster, Value, json, sql};

const SLOT: &str = "feed";
/// What a slot is, and whether one is there.
const THERE: &str = "select coalesce(string_agg(slot_name || ' ' || database || ' ' || plugin, ','), 'none') \
                     from pg_replication_slots where slot_type = 'logical'";
const RIGHT: &str = "feed postgres test_decoding";

async fn run(node: &Node, statement: &str) {
    let client = sql::connect(&node.target(), secs(5)).await.unwrap();
    client.batch_execute(statement).await.unwrap();
}

/// Numbers of the rows that come by the slot next, and are confirmed by that.
async fn consume(node: &Node) -> Result<Vec<u32>, String> {
    let changes = format!(
        "select coalesce(string_agg(substring(data from 'INSERT: n\\[integer\\]:(\\d+)'), ','), '') \
         from pg_logical_slot_get_changes('{SLOT}', null, null)"
    );
    let text = node.sql(&changes).await?;
    let numbers = text.split(',').filter(|it| !it.is_empty());
    Ok(numbers.map(|it| it.parse().unwrap()).collect())
}

async fn configure(node: &Node, slots: Value) {
    let patch = json!({"slots": slots}).to_string();
    let answer = node.request("PATCH", "/config", &patch).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn logical() -> Value {
    json!({SLOT: {"type": "logical", "database": "postgres", "plugin": "test_decoding"}})
}

/// The slot is on this node as the configuration asks for it.
async fn has_slot(cluster: &TestCluster, node: &Node) {
    let what = format!("the slot is on {}", node.name());
    cluster
        .wait_for(&what, secs(90), async || match node.sql(THERE).await? {
            there if there == RIGHT => Ok(()),
            other => Err(other),
        })
        .await;
}

/// Everything that the consumer had confirmed is confirmed on this standby too.
async fn keeps_up(cluster: &TestCluster, primary: &Node, standby: &Node) {
    let at = format!(
        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{SLOT}'"
    );
    let confirmed = primary.sql(&at).await.unwrap();
    let reached = format!(
        "select (confirmed_flush_lsn >= '{confirmed}')::text from pg_replication_slots where slot_name = '{SLOT}'"
    );
    let what = format!("the slot on {} is at {confirmed}", standby.name());
    cluster
        .wait_for(&what, secs(60), async || {
            match standby.sql(&reached).await? {
                yes if yes == "true" => Ok(()),
                _ => Err(standby.sql(&at).await?),
            }
        })
        .await;
}

/// Made by the configuration, consumed in part, switched over, consumed to the end: each row comes once. A member
/// that cannot be promoted has none, and one that was the leader gets it back by a copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_after_a_switchover() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three()
        .dcs(json!({"postgresql": {"parameters": {"wal_level": "logical"}}, "loop_wait": 2}))
        .node("n3", json!({"tags": {"nofailover": true}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let names = ["n1", "n2"];
    let new = cluster.node(names.iter().find(|it| **it != old.name()).unwrap());
    configure(old, logical()).await;
    has_slot(&cluster, old).await;
    run(
        old,
        "create table fed (n int); insert into fed select generate_series(1, 10)",
    )
    .await;
    assert_eq!(consume(old).await.unwrap(), Vec::from_iter(1..=10));
    has_slot(&cluster, new).await;
    assert_eq!(new.sql("show hot_standby_feedback").await.unwrap(), "on");
    // Confirmed here, and only told to the other one.
    run(old, "insert into fed select generate_series(11, 15)").await;
    assert_eq!(consume(old).await.unwrap(), Vec::from_iter(11..=15));
    keeps_up(&cluster, old, new).await;
    let status = stored(&etcd, &cluster, "status").await.unwrap();
    assert!(status["slots"][SLOT].is_u64(), "{status}");
    cluster
        .wait_for("the copy is known to be safe", secs(60), async || match new
            .log()
            .contains("feed is safe to be used after a failover")
        {
            true => Ok(()),
            false => Err(new.log_tail(5)),
        })
        .await;
    run(old, "insert into fed select generate_series(16, 20)").await;

    let request = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let primary = cluster.wait_new_primary(old.name(), failover()).await;
    assert_eq!(primary.name(), new.name());
    run(new, "insert into fed select generate_series(21, 25)").await;
    assert_eq!(consume(new).await.unwrap(), Vec::from_iter(16..=25));
    has_slot(&cluster, old).await;
    run(new, "insert into fed values (26)").await;
    assert_eq!(consume(new).await.unwrap(), [26]);
    keeps_up(&cluster, new, old).await;
    let third = cluster.node("n3");
    assert_eq!(third.sql(THERE).await.unwrap(), "none");
    assert_eq!(third.sql("show hot_standby_feedback").await.unwrap(), "off");

    // Back again, without a switchover: the leader's machine is gone.
    new.kill_node();
    let primary = cluster.wait_new_primary(new.name(), failover()).await;
    assert_eq!(primary.name(), old.name());
    run(old, "insert into fed values (27)").await;
    assert_eq!(consume(old).await.unwrap(), [27]);
}

/// One of another plugin is told of and left alone; one that is not asked for any more goes, everywhere.
#[tokio::test(flavor = "multi_thread")]
async fn another_slot_of_the_name_is_left_alone() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three()
        .dcs(json!({"postgresql": {"parameters": {"wal_level": "logical"}}, "loop_wait": 2}));
    options.nodes.truncate(2);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.primary().await.unwrap();
    // Later than the copy of the data was made: of WAL from before that the standby has none.
    configure(primary, logical()).await;
    for node in cluster.nodes() {
        has_slot(&cluster, node).await;
    }
    let other = json!({SLOT: {"type": "logical", "database": "postgres", "plugin": "pgoutput"}});
    configure(primary, other).await;
    let words = ["feed", "pgoutput", "left alone"];
    crate::common::told(&cluster, primary, &words).await;
    assert_eq!(primary.sql(THERE).await.unwrap(), RIGHT);
    configure(primary, json!(null)).await;
    for node in cluster.nodes() {
        cluster
            .wait_for("the slot is gone", secs(30), async || {
                match node.sql(THERE).await? {
                    none if none == "none" => Ok(()),
                    other => Err(other),
                }
            })
            .await;
    }
}
