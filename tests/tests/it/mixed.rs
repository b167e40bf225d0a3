//! pgherd and genuine Patroni in one cluster: it forms, switches and fails over both ways; nodes change
//! their program without a new copy.

use crate::common::{body, note, noted, oracle, secs, stand_in, start_time, system_id, text};
use pgherd_tests::{
    Ack, ClusterOptions, Etcd, Kind, Node, TestCluster, Watcher, Writer, WriterReport, json,
    watcher,
};

/// n1 and n3 are pgherd, n2 is Patroni; n1 made the cluster.
async fn mixed(etcd: &Etcd, options: &ClusterOptions) -> TestCluster {
    let cluster = TestCluster::new(etcd, options);
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n1");
    cluster
}

fn kinds() -> ClusterOptions {
    ClusterOptions::with_kinds(&[Kind::Pgherd, Kind::Patroni, Kind::Pgherd])
}

/// It forms, shows itself the same through both programs, and switches over both ways.
#[tokio::test(flavor = "multi_thread")]
async fn forms_and_switches_over_both_ways() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = mixed(&etcd, &kinds()).await;
    let leases = [
        cluster.key("leader"),
        cluster.key("members/n1"),
        cluster.key("members/n2"),
    ];
    let mut seen = Vec::new();
    for key in &leases {
        seen.push(
            etcd.lease_of(key)
                .await
                .unwrap_or_else(|| panic!("no key {key}")),
        );
    }
    assert!(seen.iter().all(|l| *l != 0), "{seen:?}");
    assert_ne!(seen[0], seen[1], "leader and member key under two leases");
    let (ours, theirs) = (cluster.node("n1"), cluster.node("n2"));
    let writer = Writer::start(cluster.targets()).await;
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        let answer = cluster
            .wait_for("a good candidate", secs(20), async || {
                let request = body(Some(from.name()), Some(to.name()));
                let answer = from.request("POST", "/switchover", &request).await?;
                // Right after a switchover the candidate may still be starting.
                if answer.status == 412 {
                    Err(answer.body)
                } else {
                    Ok(answer)
                }
            })
            .await;
        let expected = format!("Successfully switched over to \"{}\"", to.name());
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, expected.as_str())
        );
        assert_eq!(cluster.wait_whole(secs(40)).await.name(), to.name());
    }
    let report = writer.stop();
    assert_eq!(report.missing(&ours.target()).await.unwrap(), []);
    let list = text(&cluster.patronictl(&["list", "{scope}"]));
    assert!(list.contains("| n1") && list.contains("Leader"), "{list}");
    for word in ["Traceback", "Exception", "ERROR: Failed"] {
        assert!(
            !theirs.log().contains(word),
            "{word} in Patroni's log:\n{}",
            theirs.log_tail(60)
        );
    }
}

/// The pgherd leader dies: Patroni takes over (the other pgherd may not). Then Patroni dies: pgherd
/// takes over.
#[tokio::test(flavor = "multi_thread")]
async fn fails_over_both_ways() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = kinds().node("n3", json!({"tags": {"nofailover": true}}));
    let cluster = mixed(&etcd, &options).await;
    let (ours, theirs) = (cluster.node("n1"), cluster.node("n2"));
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    let mut received = Vec::new();
    received.push(arrived(&cluster, &writer, theirs).await);
    ours.kill_node();
    assert_eq!(cluster.wait_new_primary("n1", secs(20)).await.name(), "n2");
    ours.start();
    cluster.wait_whole(secs(40)).await;
    received.push(arrived(&cluster, &writer, ours).await);
    theirs.kill_node();
    // Patroni's lease is its ttl, 20 s.
    assert_eq!(cluster.wait_new_primary("n2", secs(40)).await.name(), "n1");
    theirs.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), "n1");
    writer.wait_acks(20, secs(30)).await;
    let report = writer.stop();
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    only_the_last_rows_are_missing(&cluster, &report, &received).await;
}

/// Waits until a replica has the last row of `writer` so far, and gives back that row.
async fn arrived(cluster: &TestCluster, writer: &Writer, replica: &Node) -> Ack {
    writer.wait_acks(50, secs(30)).await;
    let last = writer.last().unwrap();
    let sql = format!(
        "select count(*)::text from pgherd_writes where id = {}",
        last.id
    );
    let what = format!("row {} arrives at {}", last.id, replica.name());
    cluster
        .wait_for(&what, secs(30), async || {
            match replica.sql(&sql).await?.as_str() {
                "1" => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    last
}

/// What asynchronous replication allows: of each lost primary the last rows, and none that its successor
/// is known to have received.
async fn only_the_last_rows_are_missing(
    cluster: &TestCluster,
    report: &WriterReport,
    received: &[Ack],
) {
    let missing = report.missing(&cluster.node("n1").target()).await.unwrap();
    for lost in &missing {
        let floor = received.iter().find(|row| row.timeline == lost.timeline);
        assert!(
            floor.is_some_and(|row| lost.id > row.id),
            "{lost:?} is missing, {floor:?} had been received"
        );
        let mut later = report
            .acks
            .iter()
            .filter(|ack| ack.timeline == lost.timeline && ack.id > lost.id);
        let kept = later.find(|ack| !missing.contains(ack));
        assert_eq!(kept, None, "{lost:?} is missing before it");
    }
}

/// Rolling replacement: every node changes its program, replicas first, the leader by switchover.
async fn roll(cluster: &mut TestCluster, to: &Kind) {
    let leader = cluster.wait_whole(secs(60)).await.name().to_owned();
    let mut order: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|n| n.name().to_owned())
        .filter(|n| *n != leader)
        .collect();
    order.push(leader.clone());
    for name in order {
        if name == leader {
            let request = body(Some(&leader), None);
            let answer = cluster
                .wait_for(
                    "the switchover away from the last one",
                    secs(20),
                    async || {
                        let node = cluster.node(&leader);
                        let answer = node.request("POST", "/switchover", &request).await?;
                        if answer.status == 412 {
                            Err(answer.body)
                        } else {
                            Ok(answer)
                        }
                    },
                )
                .await;
            assert_eq!(answer.status, 200, "{answer:?}");
            cluster.wait_whole(secs(40)).await;
        }
        cluster.node(&name).stop().await;
        let node = cluster.node_mut(&name);
        node.set_kind(to.clone());
        node.start();
        cluster.wait_whole(secs(40)).await;
    }
}

async fn rolled(from: Kind, to: Kind) {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = ClusterOptions::new(from);
    options.pgherd = Some(pgherd_tests::binary::pgherd());
    let mut cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.primary().await.unwrap();
    let id = system_id(primary).await;
    note(primary, "from before").await;
    let copies: Vec<u64> = cluster
        .nodes()
        .iter()
        .map(crate::common::copy_number)
        .collect();
    roll(&mut cluster, &to).await;
    for node in cluster.nodes() {
        assert_eq!(node.kind(), &to);
        assert_eq!(system_id(node).await, id);
        assert_eq!(noted(node, "from before").await, Ok(1));
    }
    let after: Vec<u64> = cluster
        .nodes()
        .iter()
        .map(crate::common::copy_number)
        .collect();
    assert_eq!(copies, after, "nothing was copied anew");
    let stored = crate::common::stored(&etcd, &cluster, "config")
        .await
        .unwrap();
    assert_eq!(stored["ttl"], json!(20));
}

/// Node by node from Patroni to pgherd, no data copied.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_replacement_of_patroni() {
    rolled(Kind::Patroni, Kind::Pgherd).await;
}

/// And back.
#[tokio::test(flavor = "multi_thread")]
async fn rolling_return_to_patroni() {
    rolled(Kind::Pgherd, Kind::Patroni).await;
}

/// A PostgreSQL that runs under a killed Patroni is adopted by pgherd without a restart. (Not the
/// other way round: the guard of a killed pgherd ends its PostgreSQL, as it must.)
#[tokio::test(flavor = "multi_thread")]
async fn a_running_postgres_of_patroni_is_adopted() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = ClusterOptions::with_kinds(&[Kind::Patroni]);
    options.pgherd = Some(pgherd_tests::binary::pgherd());
    let mut cluster = TestCluster::formed(&etcd, &options).await;
    let before = start_time(cluster.node("n1")).await;
    cluster.node("n1").kill_agent();
    cluster.node_mut("n1").set_kind(Kind::Pgherd);
    cluster.node("n1").start();
    let node = cluster.node("n1");
    crate::common::wait_health(&cluster, node, "/primary", 200).await;
    crate::common::wait_health(&cluster, node, "/liveness", 200).await;
    // Longer than the lease: it is not only left alone but kept.
    crate::common::stays("the same PostgreSQL", secs(7), async || {
        let now = start_time(node).await;
        if now == before { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(cluster.primary().await.unwrap().name(), "n1");
}
