//! A standby takes nothing any more and the socket to it is full: its WAL sender notices no order to stop. Until
//! `wal_sender_timeout` PostgreSQL would wait for it before its shutdown checkpoint.

use crate::common::{body, other, secs, stand_in, start_time, three};
use crate::hazards::{freeze, thaw, third};
use pgherd_tests::process::Process;
use pgherd_tests::{Etcd, Node, TestCluster, Watcher, Writer, watcher};

/// The third member's PostgreSQL hangs, and more than all buffers on the way to it can hold is written.
async fn clog(leader: &Node, third: &Node) -> Vec<Process> {
    let frozen = freeze(third);
    leader
        .sql("select max(pg_logical_emit_message(false, 'full', repeat('x', 1048576)))::text from generate_series(1, 48)")
        .await
        .unwrap();
    frozen
}

async fn a_switchover(named: bool) {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = other(&cluster, old.name());
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let frozen = clog(old, third(&cluster, old.name(), new.name())).await;
    let request = body(Some(old.name()), named.then_some(new.name()));
    let moved = writer.wait_moved(old.name(), secs(15));
    let (answer, ack) = tokio::join!(old.request("POST", "/switchover", &request), moved);
    assert_eq!(ack.node, new.name(), "{answer:?}");
    thaw(&frozen);
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
    let mut acks = watcher.stop();
    acks.extend(report.acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_hold_up_a_switchover_to_a_named_member() {
    a_switchover(true).await;
}

/// Whoever does not answer is not who takes over; PostgreSQL alone hangs there, so its agent answers that.
#[tokio::test(flavor = "multi_thread")]
async fn does_not_hold_up_a_switchover_to_anybody() {
    a_switchover(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_hold_up_an_agent_that_is_told_to_end() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = other(&cluster, old.name());
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let frozen = clog(old, third(&cluster, old.name(), new.name())).await;
    let moved = writer.wait_moved(old.name(), secs(15));
    let (status, ack) = tokio::join!(old.stop(), moved);
    assert!(status.success(), "{status}");
    assert_eq!(ack.node, new.name());
    thaw(&frozen);
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_hold_up_a_restart() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let before = start_time(leader).await;
    let second = other(&cluster, leader.name());
    let frozen = clog(leader, third(&cluster, leader.name(), second.name())).await;
    let answer = tokio::time::timeout(secs(25), leader.request("POST", "/restart", "{}"));
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(start_time(leader).await, before);
    thaw(&frozen);
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), leader.name());
}
