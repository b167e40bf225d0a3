//! Rules that show only after a while, or where nobody looks: what the leader puts back, slots that
//! nobody uses, keys under another lease, pause.

use crate::common::{body, other, secs, status, stored, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json};

fn of(count: usize) -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(count);
    options
}

async fn patch(node: &Node, patch: &Value) {
    let answer = node.request("PATCH", "/config", &patch.to_string()).await;
    assert_eq!(answer.unwrap().status, 200, "{patch}");
}

async fn wait_stored(etcd: &Etcd, cluster: &TestCluster, key: &str, wanted: &Value) {
    let what = format!("{key} is {wanted}");
    cluster
        .wait_for(&what, secs(30), async || {
            let found = stored(etcd, cluster, key).await;
            if found.as_ref() == Some(wanted) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
}

/// `config` deleted, broken, or gone with everything else in etcd: what was in force comes back, not
/// what the cluster began with.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_in_force_comes_back() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &of(2)).await;
    let leader = cluster.wait_whole(secs(60)).await;
    let begun = stored(&etcd, &cluster, "config").await.unwrap();
    patch(leader, &json!({"loop_wait": 3, "surplus": {"kept": 1}})).await;
    let config = stored(&etcd, &cluster, "config").await.unwrap();
    assert_ne!(config, begun);
    for node in cluster.nodes() {
        let kept = node.data_dir().join("patroni.dynamic.json");
        cluster
            .wait_for("the node keeps a copy", secs(20), async || {
                let text = std::fs::read_to_string(&kept).map_err(|e| e.to_string())?;
                let value: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                if value == config { Ok(()) } else { Err(text) }
            })
            .await;
    }
    let key = cluster.key("config");
    etcd.delete(&key).await;
    wait_stored(&etcd, &cluster, "config", &config).await;
    etcd.put(&key, "[1, 2").await;
    wait_stored(&etcd, &cluster, "config", &config).await;
    cluster.wait_whole(secs(30)).await;
    for node in cluster.nodes() {
        assert!(node.stop().await.success());
    }
    for (key, _) in etcd.list(&cluster.key("")).await {
        etcd.delete(&key).await;
    }
    cluster.start_all();
    cluster.wait_whole(secs(60)).await;
    wait_stored(&etcd, &cluster, "config", &config).await;
}

/// The leader has a slot for a member that streams from a standby. It must not keep WAL for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_cascading_member_moves_on_the_leader() {
    let etcd = Etcd::start(1).await;
    let options = three()
        .node("n3", json!({"tags": {"replicatefrom": "n2"}}))
        .node("n1", json!({"tags": {"failover_priority": 5}}));
    let cluster = TestCluster::new(&etcd, &options);
    let leader = cluster.node("n1");
    leader.start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.wait_streaming(1, secs(60)).await;
    cluster.node("n3").start();
    cluster
        .wait_for("n3 streams from n2", secs(60), async || {
            match cluster.streaming_from(cluster.node("n2")).await? {
                names if names == ["n3"] => Ok(()),
                names => Err(format!("{names:?}")),
            }
        })
        .await;
    let sql = "create table filler as select generate_series(1, 20000)::text";
    let client = pgherd_tests::sql::connect(&leader.target(), secs(5))
        .await
        .unwrap();
    client.batch_execute(sql).await.unwrap();
    let written = leader
        .sql("select pg_current_wal_flush_lsn()::text")
        .await
        .unwrap();
    let slots = "select string_agg(slot_name || ' ' || active || ' ' || (restart_lsn >= 'LSN'), ',' \
                 order by slot_name) from pg_replication_slots";
    let slots = slots.replace("LSN", &written);
    // Positions are published once per loop_wait, when something else changes them too.
    for node in [leader, cluster.node("n2")] {
        let what = format!("all slots of {} are beyond {written}", node.name());
        cluster
            .wait_for(&what, secs(40), async || {
                crate::common::note(leader, "more").await;
                let seen = node.sql(&slots).await?;
                let idle = seen.contains("false true");
                if idle && !seen.contains("true false") && !seen.contains("false false") {
                    Ok(())
                } else {
                    Err(seen)
                }
            })
            .await;
    }
}

/// A changed `ttl` puts every member key under a new lease at once, without anything else to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ttl_takes_the_member_keys_along() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &of(2)).await;
    let leader = cluster.wait_whole(secs(60)).await;
    let granted = async |name: &str| {
        let key = cluster.key(&format!("members/{name}"));
        let lease = etcd.lease_of(&key).await.ok_or("the key is gone")?;
        let mut client = etcd.client(0).await?;
        let answer = client.lease_time_to_live(lease, None).await;
        Ok::<i64, String>(answer.map_err(|e| e.to_string())?.granted_ttl())
    };
    assert_eq!(granted("n1").await, Ok(20));
    patch(leader, &json!({"ttl": 40})).await;
    cluster
        .wait_for(
            "both live under a lease of 40 s",
            secs(15),
            async || match (granted("n1").await?, granted("n2").await?) {
                (40, 40) => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
}

/// In a pause a request without a candidate is cleaned, and a switchover to a named one is carried
/// out to its end: the old leader streams from the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_in_a_pause() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.wait_whole(secs(60)).await;
    let new = other(&cluster, old.name());
    patch(old, &json!({"pause": true})).await;
    for node in cluster.nodes() {
        let what = format!("{} has noticed the pause", node.name());
        cluster
            .wait_for(&what, secs(20), async || {
                let status = status(node).await?;
                if status["pause"] == true {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            })
            .await;
    }
    let request = json!({"leader": old.name()});
    etcd.put(&cluster.key("failover"), &request.to_string())
        .await;
    wait_stored(&etcd, &cluster, "failover", &json!({})).await;
    assert_eq!(cluster.primary().await.unwrap().name(), old.name());
    let body = body(Some(old.name()), Some(new.name()));
    let answer = old.request("POST", "/switchover", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let primary = cluster.wait_whole(secs(60)).await;
    assert_eq!(primary.name(), new.name());
    let config = stored(&etcd, &cluster, "config").await.unwrap();
    assert_eq!(config["pause"], true);
}
