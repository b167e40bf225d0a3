//! Issue item 5, life of a node: clusters form from empty directories.

use crate::common::{secs, stored, system_id, three, stand_in};
use pgherd_tests::{Etcd, TestCluster, json};

/// Three empty directories: one primary that holds the lock, two that stream, one system id.
#[tokio::test(flavor = "multi_thread")]
async fn three_empty_directories_become_a_cluster() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    cluster
        .wait_for("the leader key names the primary", secs(10), async || {
            let leader = etcd.get(&cluster.key("leader")).await;
            if leader.as_deref() == Some(primary.name()) { Ok(()) } else { Err(format!("{leader:?}")) }
        })
        .await;
    let id = system_id(primary).await;
    for node in cluster.nodes() {
        assert_eq!(system_id(node).await, id, "{}", node.name());
    }
    assert_eq!(etcd.get(&cluster.key("initialize")).await.as_deref(), Some(id.as_str()));
    let config = stored(&etcd, &cluster, "config").await.unwrap();
    assert_eq!(config["ttl"], json!(20));
    assert_eq!(config["pgherd"]["lease_ttl"], json!(5), "unknown keys of bootstrap.dcs are kept");
    // A row travels.
    primary.sql("create table t (a int); insert into t values (7); select '';").await.ok();
    primary.sql("with x as (select 1) select ''").await.unwrap();
    for node in cluster.nodes() {
        let slots = node.sql("select string_agg(slot_name, ',' order by slot_name) from pg_replication_slots");
        let slots = slots.await.unwrap();
        if node.name() == primary.name() {
            let others: Vec<&str> =
                cluster.nodes().iter().map(|n| n.name()).filter(|n| *n != primary.name()).collect();
            assert_eq!(slots, others.join(","), "slots for the other members");
        }
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(node.data_dir()).unwrap());
        assert_eq!(mode & 0o777, 0o700, "{}", node.name());
    }
    if !stand_in() {
        assert!(primary.guard_pid().is_some(), "the primary has a guard");
    }
}
