//! A whole node is lost: killed at once, or cut off from everybody while it still runs.

use crate::common::{failover, secs, stand_in, three};
use pgherd_tests::{Etcd, EtcdOptions, Network, TestCluster, Watcher, Writer, net, watcher};

/// Agent, guard and PostgreSQL killed at once: another member takes over within the lease and a
/// little; the old one rejoins when it is started again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_is_replaced_and_rejoins() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    old.kill_node();
    let ack = writer.wait_moved(old.name(), failover()).await;
    assert_eq!(ack.timeline, 2);
    let new = cluster.wait_streaming(1, secs(40)).await;
    old.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
    writer.wait_acks(50, secs(30)).await;
    let report = writer.stop();
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// Primary and one replica killed: the sole survivor promotes; unreachable members never block.
#[tokio::test(flavor = "multi_thread")]
async fn a_sole_survivor_promotes() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let also = crate::common::other(&cluster, old.name());
    old.kill_node();
    also.kill_node();
    let new = cluster.wait_primary(failover()).await;
    assert_ne!(new.name(), also.name());
    also.start();
    old.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
}

/// The leader's network drops everything both ways: it stops writing by itself before the other
/// takes over, and rejoins when the network is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_network_stops_writing_and_is_replaced() {
    let name = "node_loss::a_leader_without_network_stops_writing_and_is_replaced";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let network = Network::new();
    let etcd = Etcd::start_with(EtcdOptions {
        host: network.host(),
        ..EtcdOptions::new(1)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three().network(&network)).await;
    let old = cluster.primary().await.unwrap();
    // Through sockets in the file system: these clients are "beside" each PostgreSQL.
    let watcher = Watcher::start(cluster.socket_targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    old.cut_network();
    let ack = writer.wait_moved(old.name(), failover()).await;
    let new = cluster.wait_streaming(1, secs(40)).await;
    assert_eq!(new.name(), ack.node);
    if !stand_in() {
        assert_eq!(watcher::violations(&watcher.acks()), Vec::<String>::new());
    }
    old.mend_network();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
    writer.wait_acks(50, secs(30)).await;
    drop(writer.stop());
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// A replica's network drops everything: the primary goes on, the replica catches up afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_network_disturbs_nobody() {
    let name = "node_loss::a_replica_without_network_disturbs_nobody";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let network = Network::new();
    let etcd = Etcd::start_with(EtcdOptions {
        host: network.host(),
        ..EtcdOptions::new(1)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three().network(&network)).await;
    let primary = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, primary.name());
    let copy = crate::common::copy_number(replica);
    let writer = Writer::start(cluster.targets()).await;
    replica.cut_network();
    // Longer than the lease, so that the replica's own view of etcd is lost as well.
    crate::common::stays("the same primary", secs(8), async || {
        match cluster.node(primary.name()).writable().await {
            true => Ok(()),
            false => Err("not writable".to_owned()),
        }
    })
    .await;
    replica.mend_network();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
    let report = writer.stop();
    assert!(
        report
            .acks
            .iter()
            .all(|a| a.timeline == 1 && a.node == primary.name())
    );
    assert_eq!(crate::common::copy_number(replica), copy, "no new copy");
}
