//! What people or other programs leave in etcd: locks of nobody, members that nobody can parse or
//! reach, settings that are no JSON. Told with the key, the value and the remedy; nobody falls.

use crate::common::{body, failover, secs, stand_in, stays, three, told};
use pgherd_tests::{Etcd, Signal, TestCluster, Value, json};

/// A lock held by nobody whom the cluster knows: said with its key and the remedy, also by `explain`;
/// once it is removed the cluster goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_nobody() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(2);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.wait_streaming(1, secs(40)).await;
    let replica = cluster
        .nodes()
        .iter()
        .find(|node| node.name() != primary.name());
    let replica = replica.unwrap();
    primary.kill_node();
    replica.kill_agent();
    let key = cluster.key("leader");
    etcd.delete(&key).await;
    etcd.put(&key, "ghost").await;
    replica.start();
    let remedy = format!("etcdctl del {key}");
    told(&cluster, replica, &["held by ghost", &remedy]).await;
    let log = replica.log();
    let words = "ERROR: the lock WITHOUT A LEASE is held by ghost";
    assert_eq!(log.matches(words).count(), 1, "{log}");
    let explained = crate::common::text(&cluster.ctl(&["explain", replica.name()]));
    assert!(
        explained.contains("ghost") && explained.contains(&remedy),
        "{explained}"
    );
    etcd.delete(&key).await;
    cluster.wait_new_primary(primary.name(), secs(60)).await;
}

/// Members in etcd that nobody can parse or reach: listed or left out, and no obstacle to anything.
#[tokio::test(flavor = "multi_thread")]
async fn broken_members_in_etcd() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let dead = json!({
        "conn_url": "postgres://127.0.0.1:1/postgres", "api_url": "http://127.0.0.1:1/patroni",
        "state": "running", "role": "replica", "version": "4.1.5", "timeline": 1,
    });
    let mut broken = dead.clone();
    broken["conn_url"] = json!("postgres://[nonsense:port/");
    broken["api_url"] = json!("::not a url::");
    etcd.put(&cluster.key("members/n7"), &dead.to_string())
        .await;
    // Genuine Patroni itself stumbles over the next two.
    if !stand_in() {
        etcd.put(&cluster.key("members/n8"), &broken.to_string())
            .await;
        etcd.put(&cluster.key("members/n9"), "{\"state\": ").await;
    }
    let answer = old.get("/cluster").await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(
        answer.json()["members"]
            .as_array()
            .is_some_and(|m| m.len() >= 3),
        "{answer:?}"
    );
    let answer = old
        .request("POST", "/switchover", &body(Some(old.name()), None))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let second = cluster.wait_whole(secs(40)).await;
    second.kill_node();
    let third = cluster.wait_new_primary(second.name(), failover()).await;
    cluster.wait_streaming(1, secs(30)).await;
    second.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), third.name());
}

/// A `config` key that is no JSON: the last good settings stay, nobody falls.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_key() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let before = crate::common::start_time(primary).await;
    etcd.put(&cluster.key("config"), "{\"ttl\": ").await;
    stays("the cluster", secs(8), async || {
        match crate::common::start_time(primary).await == before && primary.writable().await {
            true => Ok(()),
            false => Err("the primary was disturbed".to_owned()),
        }
    })
    .await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
}

/// A leader whose `conn_url` is no URL (its agent is frozen, so nothing mends it): a member without data
/// can not copy it and says so with key, value and remedy; the one that streams goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_a_broken_conn_url() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    // Neither lock nor member key may end while the leader's agent is frozen.
    let dcs = json!({"ttl": 90, "loop_wait": 2, "pgherd": {"lease_ttl": 60, "guard": "off"}});
    let cluster = TestCluster::new(&etcd, &three().dcs(dcs));
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    let leader = cluster.wait_streaming(1, secs(60)).await;
    assert_eq!(leader.name(), "n1");
    leader.signal_agent(Signal::STOP);
    let key = cluster.key("members/n1");
    let mut member: Value = serde_json::from_str(&etcd.get(&key).await.unwrap()).unwrap();
    member["conn_url"] = json!("postgres:/someone:secret@[nonsense");
    let lease = etcd.lease_of(&key).await.unwrap();
    etcd.put_under(&key, &member.to_string(), lease).await;
    cluster.node("n3").start();
    let words = [
        key.as_str(),
        "conn_url \"[nonsense\"",
        "expected postgres://HOST:PORT/DATABASE",
        "correct postgresql.connect_address of n1",
    ];
    for name in ["n2", "n3"] {
        told(&cluster, cluster.node(name), &words).await;
        let log = cluster.node(name).log();
        assert!(!log.contains("secret"), "{log}");
    }
    assert_eq!(cluster.streaming_from(leader).await.unwrap(), ["n2"]);
    leader.signal_agent(Signal::CONT);
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n1");
}
