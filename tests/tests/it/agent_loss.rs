//! The agent is killed, frozen or ended while its PostgreSQL runs, or the guard is: who writes then, and
//! who takes over.

use crate::common::{failover, oracle, secs, stand_in, start_time, three};
use pgherd_tests::{
    ClusterOptions, Etcd, Kind, Signal, TestCluster, Watcher, Writer, json, process, watcher,
};
use std::os::unix::fs::PermissionsExt;

/// SIGKILL to the leader's agent, nobody restarts it: the guard ends its PostgreSQL before another
/// member writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_is_fenced_by_the_guard() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    old.kill_agent();
    writer.wait_moved(old.name(), failover()).await;
    assert!(
        old.postgres().is_empty(),
        "nothing of the old PostgreSQL is left"
    );
    let new = cluster.wait_streaming(1, secs(40)).await;
    old.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
    let mut acks = watcher.stop();
    acks.extend(writer.stop().acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// An agent that comes back in time adopts the running PostgreSQL: no restart, no failover, not even
/// after the lease of the dead agent would have ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_adopts_its_postgres() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let before = start_time(primary).await;
    let writer = Writer::start(cluster.targets()).await;
    primary.kill_agent();
    primary.start();
    crate::common::wait_health(&cluster, primary, "/primary", 200).await;
    crate::common::stays("the same PostgreSQL", secs(7), async || {
        let now = start_time(primary).await;
        if now == before {
            Ok(())
        } else {
            Err(format!("restarted at {now}"))
        }
    })
    .await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
    let report = writer.stop();
    assert!(
        report
            .acks
            .iter()
            .all(|a| a.timeline == 1 && a.node == primary.name())
    );
    if !stand_in() {
        assert!(
            primary.guard_pid().is_some(),
            "the adopted PostgreSQL is guarded"
        );
    }
    // The same for a replica.
    let replica = crate::common::other(&cluster, primary.name());
    let before = start_time(replica).await;
    replica.kill_agent();
    replica.start();
    crate::common::wait_health(&cluster, replica, "/replica", 200).await;
    assert_eq!(start_time(replica).await, before);
}

/// SIGSTOP to the leader's agent: the guard kills its PostgreSQL, one primary only, and the woken
/// agent rejoins.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_agent_is_fenced_and_rejoins() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    old.signal_agent(Signal::STOP);
    writer.wait_moved(old.name(), failover()).await;
    assert!(
        old.postgres().is_empty(),
        "nothing of the old PostgreSQL is left"
    );
    let new = cluster.wait_streaming(1, secs(40)).await.name().to_owned();
    old.signal_agent(Signal::CONT);
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new);
    let mut acks = watcher.stop();
    acks.extend(writer.stop().acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// The same with genuine Patroni shows two writers: so the watcher can see what it looks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_watcher_sees_two_writers_of_genuine_patroni() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &ClusterOptions::new(Kind::Patroni)).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    old.signal_agent(Signal::STOP);
    cluster
        .wait_for("the watcher sees two writers", secs(50), async || {
            let found = watcher::violations(&watcher.acks());
            if found.is_empty() {
                Err("none".to_owned())
            } else {
                Ok(())
            }
        })
        .await;
}

/// SIGKILL to the guard: the agent sees it; in the end one primary writes and is guarded.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_guard_does_not_stay_unnoticed() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    let guard = old.guard_pid().expect("a guard");
    process::signal(guard, Signal::KILL);
    cluster
        .wait_for("a primary with another guard", secs(30), async || {
            let primary = cluster.primary().await?;
            match primary.guard_pid() {
                Some(pid) if pid != guard => Ok(()),
                other => Err(format!("{}: {other:?}", primary.name())),
            }
        })
        .await;
    cluster.wait_whole(secs(40)).await;
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// SIGTERM to the leader's agent: PostgreSQL stops, the lock is released, another takes over with
/// every acknowledged row, long before the lease ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_hands_over() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(100, secs(30)).await;
    let status = old.stop().await;
    assert!(status.success(), "{status}");
    assert!(old.postgres().is_empty(), "PostgreSQL was stopped");
    let ack = writer.wait_moved(old.name(), secs(10)).await;
    let new = cluster.wait_streaming(1, secs(40)).await;
    assert_eq!(new.name(), ack.node);
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
    old.start();
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
}

/// Agent and guard killed together (more than is guaranteed for writes): another is promoted all the
/// same, and the returning agent takes its old primary down and rejoins.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_primary_is_taken_down_by_its_returning_agent() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    old.signal_guard(Signal::STOP);
    old.kill_agent();
    old.signal_guard(Signal::KILL);
    let survivors = cluster.nodes().iter().filter(|n| n.name() != old.name());
    let survivors: Vec<_> = survivors.collect();
    let new = cluster
        .wait_for("a new primary", failover(), async || {
            for node in &survivors {
                if node.writable().await {
                    return Ok(node.name());
                }
            }
            Err("none".to_owned())
        })
        .await;
    crate::common::note(cluster.node(new), "on the new timeline").await;
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new);
    cluster
        .wait_for(
            "the old one has the new row",
            secs(30),
            async || match crate::common::noted(old, "on the new timeline").await? {
                1 => Ok(()),
                n => Err(format!("{n}")),
            },
        )
        .await;
}

/// An agent that comes back and cannot read etcd yet says what its PostgreSQL does, and not that it is stopped: others
/// would take the lock on that word.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_has_not_looked_yet_does_not_call_its_primary_stopped() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three().dcs(json!({"ttl": 60, "pgherd": {"lease_ttl": 50}}));
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.primary().await.unwrap();
    etcd.stop(0);
    node.kill_agent();
    node.start();
    cluster
        .wait_for("it says where its primary is", secs(20), async || {
            let document = crate::common::status(node).await?;
            assert_ne!(document["state"], "stopped", "{document}");
            match document["xlog"]["location"].is_u64() {
                true => Ok(()),
                false => Err(document.to_string()),
            }
        })
        .await;
    assert!(node.writable().await, "it was so all the time");
    etcd.cont(0);
    crate::common::wait_health(&cluster, node, "/primary", 200).await;
}

/// The archive gets the last WAL of a leader that is told to end, by a slow command too: a standby that has
/// everything is no reason to end the archiver, and nobody else archives that.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_wal_of_a_leader_that_ends_is_archived() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &three());
    let archive = cluster.dir().join("archive");
    std::fs::create_dir(&archive).unwrap();
    std::fs::set_permissions(&archive, std::fs::Permissions::from_mode(0o777)).unwrap();
    let command = format!("sleep 1; cp %p {}/%f", archive.display());
    let parameters = json!({"archive_mode": "on", "archive_command": command});
    for name in ["n1", "n2", "n3"] {
        let patch = json!({"postgresql": {"parameters": parameters}});
        cluster.node_mut(name).change_config(&patch);
    }
    cluster.start_all();
    let old = cluster.wait_whole(secs(60)).await;
    crate::common::note(old, "in the last file").await;
    let last = old.sql("select pg_walfile_name(pg_current_wal_lsn())");
    let last = last.await.unwrap();
    let status = old.stop().await;
    assert!(status.success(), "{status}");
    assert!(archive.join(&last).exists(), "{last}: {}", old.log_tail(20));
    cluster.wait_new_primary(old.name(), failover()).await;
}

/// A new agent finds PostgreSQL hanging under the lock of the one before: it gives it no more than `hang_timeout`, as
/// if it had seen it at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_does_not_keep_the_lock_for_a_postgres_that_hangs() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"hang_timeout": 5}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    crate::hazards::freeze(old);
    old.kill_agent();
    old.start();
    writer.wait_moved(old.name(), secs(25)).await;
    cluster.wait_whole(secs(60)).await;
    let report = writer.stop();
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
}
