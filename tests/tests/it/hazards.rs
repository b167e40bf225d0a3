//! Moments that went wrong once: answers lost at the wrong moment, members that hang while others
//! switch over, settings changed under a running cluster, no connection left.

use crate::common::{body, failover, secs, stand_in, start_time, stays, stored, three};
use pgherd_tests::{
    Etcd, Node, Proxy, Signal, TestCluster, Traffic, Value, Watcher, Writer, json, process, proxy,
    sql, watcher,
};
use std::time::Duration;

/// A cluster whose leader is `n1`, which reaches etcd through the proxy only.
async fn led_through(etcd: &Etcd, proxy: &Proxy) -> TestCluster {
    let hosts = json!({"etcd3": {"hosts": [proxy.address()], "use_proxies": true}});
    let cluster = TestCluster::new(etcd, &three().node("n1", hosts));
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    cluster.wait_whole(secs(60)).await;
    cluster
}

/// The leader hands over and never learns that its release of the lock was carried out; `after`:
/// what becomes of its connections to etcd once it was.
async fn a_release_is_never_answered(after: Traffic) {
    let etcd = Etcd::start(1).await;
    let proxy = Proxy::start(&etcd.hosts()[0]).await;
    let cluster = led_through(&etcd, &proxy).await;
    let old = cluster.node("n1");
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let asked = cluster.node("n2");
    proxy.deaf_from(&proxy::deletion(&cluster.key("leader")));
    let request = body(Some("n1"), None);
    let moved = async {
        cluster
            .wait_for("the lock was released", secs(20), async || {
                match etcd.get(&cluster.key("leader")).await {
                    Some(name) if name == "n1" => Err(name),
                    _ => Ok(()),
                }
            })
            .await;
        assert_ne!(proxy.traffic(), Traffic::Passes, "the answer was lost");
        proxy.set(after);
    };
    let (answer, ()) = tokio::join!(asked.request("POST", "/switchover", &request), moved);
    writer.wait_moved("n1", failover()).await;
    // Longer than the lease, and than a rest before the next start.
    stays("n1 is no primary", secs(8), async || {
        if old.writable().await {
            Err("it is writable".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    proxy.set(Traffic::Cut);
    proxy.set(Traffic::Passes);
    let new = cluster.wait_whole(secs(40)).await;
    assert_ne!(new.name(), "n1", "{answer:?}");
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
    let mut acks = watcher.stop();
    acks.extend(report.acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// The connections live and stay silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_without_answer() {
    if !stand_in() {
        a_release_is_never_answered(Traffic::Deaf).await;
    }
}

/// The connections break: the old leader knows at once that it knows nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_with_a_broken_connection() {
    if !stand_in() {
        a_release_is_never_answered(Traffic::Cut).await;
    }
}

/// What a new configuration does to `synchronous_standby_names` PostgreSQL would log.
fn mentions(node: &Node, skip: usize) -> Vec<String> {
    node.log()
        .lines()
        .skip(skip)
        .filter(|l| l.contains("\"synchronous_standby_names\""))
        .map(str::to_owned)
        .collect()
}

/// An unrelated parameter is changed, then the agent restarted: PostgreSQL never stops waiting for
/// its standby, not for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn synchronous_standby_names_outlive_other_changes() {
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"synchronous_mode": true}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let leader = cluster.primary().await.unwrap();
    let show = "select current_setting('synchronous_standby_names')";
    cluster
        .wait_for("a synchronous standby", secs(20), async || {
            let sync = stored(&etcd, &cluster, "sync").await.unwrap_or_default();
            let names = leader.sql(show).await?;
            match sync["sync_standby"].as_str() {
                Some(name) if !name.is_empty() && names.contains(name) => Ok(()),
                _ => Err(format!("{sync} {names:?}")),
            }
        })
        .await;
    let names = leader.sql(show).await.unwrap();
    let skip = leader.log().lines().count();
    for (value, in_kb) in [("5MB", "5120"), ("6MB", "6144")] {
        let patch = json!({"postgresql": {"parameters": {"work_mem": value}}}).to_string();
        let answer = leader.request("PATCH", "/config", &patch).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        cluster
            .wait_for("work_mem arrives", secs(20), async || {
                let sql = "select setting from pg_settings where name = 'work_mem'";
                match leader.sql(sql).await?.as_str() {
                    now if now == in_kb => Ok(()),
                    now => Err(now.to_owned()),
                }
            })
            .await;
        assert_eq!(leader.sql(show).await.unwrap(), names);
        if !stand_in() {
            leader.kill_agent();
            leader.start();
            crate::common::wait_health(&cluster, leader, "/primary", 200).await;
        }
    }
    cluster.wait_whole(secs(40)).await;
    assert_eq!(leader.sql(show).await.unwrap(), names);
    assert_eq!(mentions(leader, skip), Vec::<String>::new());
}

/// A third member hangs, all of it or PostgreSQL alone: a switchover between the others is done soon,
/// whether or not it names the new leader.
async fn past_a_frozen_member(agent_too: bool, named: bool) {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = crate::common::other(&cluster, old.name());
    let third = third(&cluster, old.name(), new.name());
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    if agent_too {
        third.signal_agent(Signal::STOP);
    }
    let frozen = freeze(third);
    let request = body(Some(old.name()), named.then_some(new.name()));
    let moved = writer.wait_moved(old.name(), secs(12));
    let (answer, ack) = tokio::join!(old.request("POST", "/switchover", &request), moved);
    assert_eq!(ack.node, new.name(), "{answer:?}");
    thaw(&frozen);
    third.signal_agent(Signal::CONT);
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
    let mut acks = watcher.stop();
    acks.extend(report.acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// PostgreSQL of the third member hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_past_a_frozen_replica() {
    if !stand_in() {
        past_a_frozen_member(false, true).await;
    }
}

/// The third member hangs with its agent, and no new leader is named.
#[tokio::test(flavor = "multi_thread")]
async fn a_switchover_past_a_frozen_member() {
    if !stand_in() {
        past_a_frozen_member(true, false).await;
    }
}

/// The member that is neither of these two.
pub(crate) fn third<'a>(cluster: &'a TestCluster, one: &str, other: &str) -> &'a Node {
    let mut nodes = cluster.nodes().iter();
    let third = nodes.find(|node| ![one, other].contains(&node.name()));
    third.unwrap()
}

/// It hangs, as far as PostgreSQL goes.
pub(crate) fn freeze(node: &Node) -> Vec<process::Process> {
    let frozen = node.postgres();
    for process in &frozen {
        process::signal(process.pid, Signal::STOP);
    }
    frozen
}

pub(crate) fn thaw(frozen: &[process::Process]) {
    for process in frozen {
        process::signal(process.pid, Signal::CONT);
    }
}

/// SIGTERM to the leader's agent while the third member hangs: its WAL sender waits for that one and must not hold
/// up the lock, since the other one has everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_does_not_wait_for_a_frozen_replica() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let new = crate::common::other(&cluster, old.name());
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let frozen = freeze(third(&cluster, old.name(), new.name()));
    let moved = writer.wait_moved(old.name(), secs(12));
    let (status, ack) = tokio::join!(old.stop(), moved);
    assert!(status.success(), "{status}");
    assert_eq!(ack.node, new.name());
    thaw(&frozen);
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), []);
}

/// And a restart of the leader's PostgreSQL does not wait for it either.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_leader_does_not_wait_for_a_frozen_replica() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let other = crate::common::other(&cluster, leader.name());
    let before = start_time(leader).await;
    let frozen = freeze(third(&cluster, leader.name(), other.name()));
    // A WAL sender waits only where there is something that was not received.
    crate::common::note(leader, "nobody hangs for ever").await;
    let answer = leader.request("POST", "/restart", "{}");
    let answer = tokio::time::timeout(secs(25), answer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_ne!(start_time(leader).await, before);
    thaw(&frozen);
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), leader.name());
}

/// The life of the leader lease is changed at run time, up and down: the same lock (it was never free),
/// the same primary, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_changed_at_run_time() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let before = start_time(primary).await;
    let key = cluster.key("leader");
    let mut client = etcd.client(0).await.unwrap();
    let term = client.get(key.as_str(), None).await.unwrap().kvs()[0].create_revision();
    for length in [9, 5] {
        let patch = json!({"pgherd": {"lease_ttl": length}}).to_string();
        let answer = primary.request("PATCH", "/config", &patch).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        cluster
            .wait_for("the lock has a lease of that life", secs(20), async || {
                let lease = etcd.lease_of(&key).await.ok_or("no lock")?;
                let mut client = etcd.client(0).await?;
                let answer = client.lease_time_to_live(lease, None).await;
                match answer.map_err(|e| e.to_string())?.granted_ttl() {
                    granted if granted == length => Ok(()),
                    granted => Err(format!("{granted} s")),
                }
            })
            .await;
        // Longer than the lease before: an old deadline that nobody moves any more would pass.
        stays("lock and primary", secs(10), async || {
            let answer = client.get(key.as_str(), None).await;
            let answer = answer.map_err(|e| e.to_string())?;
            let lock = answer.kvs().first().ok_or("the lock is free")?;
            if lock.create_revision() != term {
                return Err("it is another lock".to_owned());
            }
            if primary.writable().await {
                Ok(())
            } else {
                Err("not writable".to_owned())
            }
        })
        .await;
    }
    assert_eq!(start_time(primary).await, before);
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
}

/// Takes every connection that is there, those reserved for superusers too.
async fn take_all(node: &Node, held: &mut Vec<tokio_postgres::Client>) {
    for _ in 0..200 {
        match sql::connect(&node.target(), secs(5)).await {
            Ok(client) => held.push(client),
            Err(e) if e.contains("too many clients") => return,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("connections have no end");
}

/// The leader's agent is restarted while every connection is taken: it can not ask its PostgreSQL
/// anything, and keeps lock and primary all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_restarted_without_a_free_connection() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    // A lease that bears the time in which no agent runs, on a slow machine as well.
    let settings = json!({
        "pgherd": {"lease_ttl": 12, "hang_timeout": 60},
        "postgresql": {"parameters": {"max_connections": 25}},
    });
    let cluster = TestCluster::formed(&etcd, &three().dcs(settings)).await;
    let primary = cluster.primary().await.unwrap();
    let before = start_time(primary).await;
    let mut held = Vec::new();
    take_all(primary, &mut held).await;
    primary.kill_agent();
    // What the dead agent held is free as soon as its backends notice.
    cluster
        .wait_for("its connections are gone", secs(20), async || {
            let own = "select count(*) from pg_stat_activity \
                       where backend_type = 'client backend' and application_name <> 'pgherd-tests'";
            let row = held[0].query_one(own, &[]).await;
            match row.map_err(|e| sql::text(&e))?.get::<_, i64>(0) {
                0 => Ok(()),
                n => Err(format!("{n}")),
            }
        })
        .await;
    take_all(primary, &mut held).await;
    primary.start();
    let postmaster = primary.postmaster_pid();
    // Longer than the lease, shorter than the silence after which PostgreSQL counts as hung.
    stays("lock and PostgreSQL", secs(14), async || {
        let lock = etcd.get(&cluster.key("leader")).await;
        if lock.as_deref() != Some(primary.name()) {
            return Err(format!("lock: {lock:?}"));
        }
        if primary.postmaster_pid() == postmaster {
            Ok(())
        } else {
            Err("another postmaster".to_owned())
        }
    })
    .await;
    drop(held);
    crate::common::wait_health(&cluster, primary, "/primary", 200).await;
    assert_eq!(start_time(primary).await, before);
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
}

/// Lock and postmaster of a primary stay as they are for so long.
async fn keeps_its_place(etcd: &Etcd, cluster: &TestCluster, primary: &Node, span: Duration) {
    let postmaster = primary.postmaster_pid();
    stays("lock and PostgreSQL", span, async || {
        let lock = etcd.get(&cluster.key("leader")).await;
        if lock.as_deref() != Some(primary.name()) {
            return Err(format!("lock: {lock:?}"));
        }
        match primary.postmaster_pid() {
            now if now == postmaster => Ok(()),
            now => Err(format!("postmaster {postmaster:?} became {now:?}")),
        }
    })
    .await;
}

/// Somebody changes the superuser's password and not the node files: nothing happens but an ERROR, and
/// everything is well once the files are right again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_superuser_ends_nobody() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let settings = json!({"pgherd": {"lease_ttl": 3, "hang_timeout": 3}});
    let cluster = TestCluster::formed(&etcd, &three().dcs(settings)).await;
    let primary = cluster.primary().await.unwrap();
    let client = sql::connect(&primary.target(), secs(5)).await.unwrap();
    let rename = "ALTER ROLE postgres PASSWORD 'another one'";
    client.batch_execute(rename).await.unwrap();
    keeps_its_place(&etcd, &cluster, primary, secs(12)).await;
    // Whoever was in before can still commit for the agent; now nobody is.
    let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    client.batch_execute(all).await.unwrap();
    keeps_its_place(&etcd, &cluster, primary, secs(12)).await;
    crate::common::told(
        &cluster,
        primary,
        &["refuses the agent", "28P01", "superuser"],
    )
    .await;
    let password = primary.target().password.replace('\'', "''");
    let back = format!("ALTER ROLE postgres PASSWORD '{password}'");
    client.batch_execute(&back).await.unwrap();
    assert_eq!(cluster.wait_whole(secs(30)).await.name(), primary.name());
}

/// A backend dies and what it leaves behind takes longer to recover from than a primary may hang: alone
/// and with others that could take over, nothing is killed.
#[tokio::test(flavor = "multi_thread")]
async fn recovery_from_a_dead_backend_is_no_hang() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    for members in [3, 1] {
        let mut options = three().dcs(json!({
            "pgherd": {"lease_ttl": 3, "hang_timeout": 3},
            "postgresql": {"parameters": {"max_wal_size": "2GB", "checkpoint_timeout": "1h"}},
        }));
        options = options.config(json!({"postgresql": {"parameters": {"max_wal_size": null}}}));
        options.nodes.truncate(members);
        let cluster = TestCluster::formed(&etcd, &options).await;
        let primary = cluster.primary().await.unwrap();
        let client = sql::connect(&primary.target(), secs(5)).await.unwrap();
        let big = "create table big as select repeat('x', 1000) t from generate_series(1, 150000)";
        client.batch_execute(big).await.unwrap();
        let row = client
            .query_one("select pg_backend_pid()", &[])
            .await
            .unwrap();
        process::signal(row.get(0), Signal::KILL);
        let recovery = cluster
            .wait_for("recovery runs", secs(30), async || {
                let processes = primary.postgres();
                let recovery = processes.iter().find(|p| p.cmdline.contains("startup"));
                let recovery = recovery.ok_or("no startup process")?.pid;
                process::signal(recovery, Signal::STOP);
                Ok(recovery)
            })
            .await;
        keeps_its_place(&etcd, &cluster, primary, secs(14)).await;
        process::signal(recovery, Signal::CONT);
        assert_eq!(cluster.wait_whole(secs(60)).await.name(), primary.name());
        assert_eq!(
            primary.sql("select count(*)::text from big").await.unwrap(),
            "150000"
        );
    }
}

/// No slot is left for one that is wanted: positions, synchronous standbys and history are published
/// all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_cannot_be_made_holds_up_nothing() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    // More than PostgreSQL has by default.
    let wanted = (0..12).map(|n| (format!("wanted_{n}"), json!({"type": "physical"})));
    let slots = Value::Object(wanted.collect());
    let settings = json!({"synchronous_mode": true, "slots": slots});
    let cluster = TestCluster::new(&etcd, &three().dcs(settings));
    cluster.node("n1").start();
    let primary = cluster.wait_streaming(0, secs(60)).await;
    let client = sql::connect(&primary.target(), secs(5)).await.unwrap();
    crate::common::told(
        &cluster,
        primary,
        &["CreateSlot", "all replication slots are in use"],
    )
    .await;
    cluster
        .wait_for("/status follows", secs(30), async || {
            let row = client
                .query_one("select pg_current_wal_flush_lsn()::text", &[])
                .await;
            let row = row.map_err(|e| sql::text(&e))?;
            let sql = "select ($1::text::pg_lsn - '0/0'::pg_lsn)::int8";
            let now: i64 = client
                .query_one(sql, &[&row.get::<_, String>(0)])
                .await
                .map_err(|e| sql::text(&e))?
                .get(0);
            let status = stored(&etcd, &cluster, "status").await;
            let optime = status.as_ref().and_then(|it| it["optime"].as_i64());
            match optime {
                Some(optime) if now - optime < 1000 => Ok(()),
                other => Err(format!("{other:?}, now {now}")),
            }
        })
        .await;
    let sync = stored(&etcd, &cluster, "sync").await.unwrap();
    assert_eq!(sync["leader"], "n1");
}
