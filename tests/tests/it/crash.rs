//! PostgreSQL dies or freezes while its agent lives: restart in place, hand-over, and nothing
//! acknowledged by what is left of it.

use crate::common::{failover, secs, stand_in, three};
use pgherd_tests::{
    Ack, Etcd, Node, Signal, TestCluster, Watcher, Writer, clock, json, process, sql, watcher,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Postmaster and children killed, `primary_start_timeout` as it comes (300): restart in place, the
/// lock stays where it is.
#[tokio::test(flavor = "multi_thread")]
async fn killed_postgres_restarts_in_place() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let started = crate::common::start_time(primary).await;
    primary.kill_postgres();
    let again = cluster
        .wait_for("PostgreSQL was started again", secs(30), async || {
            let node = cluster.primary().await?;
            let time = node.sql("select pg_postmaster_start_time()::text").await?;
            if time == started {
                Err("the old one answers".to_owned())
            } else {
                Ok(node)
            }
        })
        .await;
    assert_eq!(again.name(), primary.name(), "in place");
    writer.wait_acks(50, secs(30)).await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
    let report = writer.stop();
    assert!(
        report.acks.iter().all(|a| a.timeline == 1),
        "no new timeline"
    );
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    let leader = etcd.get(&cluster.key("leader")).await;
    assert_eq!(leader.as_deref(), Some(primary.name()));
}

/// `primary_start_timeout: 0`: another member takes over, the old one comes back as its replica.
#[tokio::test(flavor = "multi_thread")]
async fn killed_postgres_hands_over_at_once_when_told_so() {
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"primary_start_timeout": 0}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    old.kill_postgres();
    let new = cluster.wait_new_primary(old.name(), failover()).await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// Crash recovery that does not end within `primary_start_timeout`: another member takes over then, and
/// not before.
#[tokio::test(flavor = "multi_thread")]
async fn an_overlong_crash_recovery_is_handed_over() {
    let timeout = secs(6);
    let etcd = Etcd::start(1).await;
    // No checkpoint meanwhile: there is much to recover.
    let options = three().dcs(json!({
        "primary_start_timeout": timeout.as_secs(),
        "postgresql": {"parameters": {"max_wal_size": "2GB", "checkpoint_timeout": "1h"}},
    }));
    let options = options.config(json!({"postgresql": {"parameters": {"max_wal_size": null}}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let client = sql::connect(&old.target(), secs(5)).await.unwrap();
    let big = "create table big as select repeat('x', 1000) t from generate_series(1, 150000)";
    client.batch_execute(big).await.unwrap();
    crate::common::note(old, "before the crash").await;
    for node in cluster.nodes() {
        let what = format!("{} has everything", node.name());
        cluster
            .wait_for(&what, secs(60), async || {
                match crate::common::noted(node, "before the crash").await? {
                    1 => Ok(()),
                    n => Err(format!("{n}")),
                }
            })
            .await;
    }
    let watcher = Watcher::start(cluster.targets()).await;
    let killed = clock::now();
    old.kill_postgres();
    // Recovery goes on in one process, which is frozen.
    cluster
        .wait_for("recovery runs", secs(30), async || {
            let processes = old.postgres();
            let recovery = processes.iter().find(|p| p.cmdline.contains("startup"));
            let recovery = recovery.ok_or("no startup process")?;
            process::signal(recovery.pid, Signal::STOP);
            Ok(())
        })
        .await;
    let new = cluster.wait_new_primary(old.name(), secs(40)).await;
    let after = clock::now().saturating_sub(killed);
    assert!(after >= timeout, "handed over after {after:?}");
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), new.name());
    assert_eq!(crate::common::noted(new, "before the crash").await, Ok(1));
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// `pgherd.crash_handover: sync`: the synchronous standby takes over at once, with every
/// acknowledged row.
#[tokio::test(flavor = "multi_thread")]
async fn crash_handover_to_the_synchronous_standby() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options =
        three().dcs(json!({"synchronous_mode": true, "pgherd": {"crash_handover": "sync"}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let standby = cluster
        .wait_for("/sync names a standby", secs(20), async || {
            let sync = crate::common::stored(&etcd, &cluster, "sync").await;
            let sync = sync.unwrap_or_default();
            match sync["sync_standby"].as_str() {
                Some(name) if !name.is_empty() => Ok(name.to_owned()),
                _ => Err(format!("{sync}")),
            }
        })
        .await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(100, secs(30)).await;
    old.kill_postgres();
    let new = cluster.wait_new_primary(old.name(), secs(10)).await;
    assert_eq!(new.name(), standby);
    cluster.wait_whole(secs(40)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
}

/// A client that pipelines inserts and one that runs inserts of 2 s, both on one member only.
///
/// The long statement computes: `pg_sleep` would notice the postmaster's death, a working backend
/// does not.
struct Stubborn {
    acks: Arc<Mutex<Vec<Ack>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

const STUBBORN: &str = "
    create table stubborn (id bigserial, long bool);
    create function burn(span interval) returns bool language plpgsql as $$
    declare last timestamptz := clock_timestamp() + span;
    begin
        while clock_timestamp() < last loop null; end loop;
        return true;
    end $$;";
const SEEN: &str =
    "returning pg_backend_pid(), left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), long";

impl Stubborn {
    async fn start(node: &Node) -> Stubborn {
        let pipeline = sql::connect(&node.target(), secs(5)).await.unwrap();
        let long = sql::connect(&node.target(), secs(5)).await.unwrap();
        pipeline.batch_execute(STUBBORN).await.unwrap();
        let acks = Arc::new(Mutex::new(Vec::new()));
        let quick = format!("insert into stubborn (long) values (false) {SEEN}");
        let slow = format!("insert into stubborn (long) select burn('2 s') {SEEN}");
        let mut tasks = Vec::new();
        // Many at once on one connection are a pipeline; its backend never waits for its client.
        let pipeline = Arc::new(pipeline);
        for _ in 0..32 {
            let client = Arc::clone(&pipeline);
            tasks.push(tokio::spawn(repeat(
                client,
                quick.clone(),
                node.name().to_owned(),
                Arc::clone(&acks),
            )));
        }
        let name = node.name().to_owned();
        tasks.push(tokio::spawn(repeat(
            Arc::new(long),
            slow,
            name,
            Arc::clone(&acks),
        )));
        Stubborn { acks, tasks }
    }

    fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap().clone()
    }

    /// Acknowledgements of long statements (`id` 1).
    fn long(&self) -> usize {
        self.acks
            .lock()
            .unwrap()
            .iter()
            .filter(|a| a.id == 1)
            .count()
    }
}

async fn repeat(
    client: Arc<tokio_postgres::Client>,
    sql: String,
    name: String,
    acks: Arc<Mutex<Vec<Ack>>>,
) {
    while let Ok(row) = client.query_one(&sql, &[]).await {
        acks.lock().unwrap().push(ack(&name, &row));
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn ack(name: &str, row: &tokio_postgres::Row) -> Ack {
    let timeline: String = row.get(1);
    Ack {
        id: i64::from(row.get::<_, bool>(2)),
        node: name.to_owned(),
        backend: row.get(0),
        timeline: u32::from_str_radix(&timeline, 16).unwrap(),
        sent: Duration::ZERO,
        acked: clock::now(),
    }
}

/// Hurts the postmaster alone and checks that its orphaned children acknowledge nothing once
/// another member has.
async fn postmaster_alone(signal: Signal) {
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"primary_start_timeout": 0, "pgherd": {"hang_timeout": 5}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let watcher = Watcher::start(cluster.targets()).await;
    let stubborn = Stubborn::start(old).await;
    // Right after the end of a long statement the next one has almost 2 s to go.
    cluster
        .wait_for(
            "the slow client has acknowledgements",
            secs(20),
            async || {
                let n = stubborn.long();
                if n >= 2 { Ok(()) } else { Err(format!("{n}")) }
            },
        )
        .await;
    assert!(old.signal_postmaster(signal));
    let new = cluster.wait_for(
        "a row acknowledged by another member",
        secs(40),
        async || {
            let acks = watcher.acks();
            let found = acks.iter().find(|a| a.node != old.name()).cloned();
            found.ok_or_else(|| format!("{} by {}", acks.len(), old.name()))
        },
    );
    let new = new.await;
    cluster.wait_whole(secs(40)).await;
    let mut all = watcher.stop();
    all.extend(stubborn.acks());
    assert_eq!(
        watcher::violations(&all),
        Vec::<String>::new(),
        "new: {new:?}"
    );
}

/// The postmaster alone killed, orphaned backends still at work. (Genuine Patroni fails here: its old
/// primary acknowledges 1.3 s after the new one.)
#[tokio::test(flavor = "multi_thread")]
async fn postmaster_alone_killed() {
    if stand_in() {
        return;
    }
    postmaster_alone(Signal::KILL).await;
}

/// A frozen postmaster: existing sessions go on, new ones hang; the licence runs out after
/// `hang_timeout`, everything is killed, another member takes over.
#[tokio::test(flavor = "multi_thread")]
async fn frozen_postmaster_loses_its_licence() {
    if stand_in() {
        return;
    }
    postmaster_alone(Signal::STOP).await;
}

/// A killed backend makes PostgreSQL restart itself; that is its own affair, no failover.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_backend_is_no_failover() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(20, secs(30)).await;
    let postmaster = primary.postmaster_pid();
    process::signal(writer.last().unwrap().backend, Signal::KILL);
    writer.wait_acks(50, secs(30)).await;
    let primary_now = cluster.wait_whole(secs(40)).await;
    assert_eq!(primary_now.name(), primary.name());
    assert_eq!(primary.postmaster_pid(), postmaster, "the same postmaster");
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert!(report.acks.iter().all(|a| a.timeline == 1));
}

/// A replica's PostgreSQL killed: started again, the primary does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn killed_replica_comes_back() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, primary.name());
    let copy = crate::common::copy_number(replica);
    let before = crate::common::start_time(primary).await;
    let killed = replica.postmaster_pid().unwrap();
    replica.kill_postgres();
    cluster
        .wait_for(
            "its postmaster is gone",
            secs(20),
            async || match process::alive(killed) {
                true => Err(format!("{killed} lives")),
                false => Ok(()),
            },
        )
        .await;
    crate::common::note(primary, "while away").await;
    cluster
        .wait_for(
            "the replica has the new row",
            secs(30),
            async || match crate::common::noted(replica, "while away").await? {
                1 => Ok(()),
                n => Err(format!("{n}")),
            },
        )
        .await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
    assert_ne!(replica.postmaster_pid(), Some(killed));
    assert_eq!(crate::common::copy_number(replica), copy, "no new copy");
    assert_eq!(crate::common::start_time(primary).await, before);
}
