//! etcd is lost, hangs, is full, forgets logins, keys or leases: who may go on writing, and how it heals.

use crate::common::{body, secs, stand_in, start_time, stays, three, told};
use pgherd_tests::{
    Etcd, EtcdOptions, Network, Node, TestCluster, Watcher, Writer, clock, json, net, watcher,
};

pub(crate) async fn nobody_writes(cluster: &TestCluster, deadline: std::time::Duration) {
    cluster
        .wait_for("nobody writes", deadline, async || {
            let names = cluster.writable().await;
            if names.is_empty() {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await;
}

/// Nothing was acknowledged later than a lease after `lost`, however slow the machine is.
pub(crate) fn ended_within_the_lease(watcher: &Watcher, lost: std::time::Duration) {
    let last = watcher.acks().last().map(|a| a.acked.saturating_sub(lost));
    assert!(
        stand_in() || last.is_some_and(|after| after < secs(5)),
        "{last:?}"
    );
}

/// Switches over to another member and waits until the cluster is whole: proof that all is well.
async fn switch(cluster: &TestCluster) {
    let old = cluster.wait_whole(secs(40)).await;
    let request = body(Some(old.name()), None);
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
}

/// The same member stays the only primary, without a restart, for `span`.
pub(crate) async fn undisturbed(cluster: &TestCluster, primary: &Node, span: std::time::Duration) {
    let before = start_time(primary).await;
    stays("the primary", span, async || {
        if start_time(primary).await != before {
            return Err("restarted".to_owned());
        }
        match cluster.primary().await?.name() {
            name if name == primary.name() => Ok(()),
            other => Err(format!("{other} writes")),
        }
    })
    .await;
}

/// Every etcd frozen: the leader is not writable after L; when they are back, so is the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn without_etcd_the_leader_demotes_and_returns() {
    let etcd = Etcd::start(3).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    for i in 0..3 {
        etcd.stop(i);
    }
    let lost = clock::now();
    nobody_writes(&cluster, if stand_in() { secs(40) } else { secs(10) }).await;
    ended_within_the_lease(&watcher, lost);
    for node in cluster.nodes() {
        assert!(node.agent_alive(), "agent of {}", node.name());
        crate::common::wait_health(&cluster, node, "/primary", 503).await;
    }
    for i in 0..3 {
        etcd.cont(i);
    }
    cluster.wait_whole(secs(50)).await;
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
    switch(&cluster).await;
}

/// Two of three etcds killed: the third answers but has no leader. That is no etcd.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_cut_off_from_its_leader_is_no_etcd() {
    let etcd = Etcd::start(3).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let leader = etcd.leader().await;
    let other = (leader + 1) % 3;
    etcd.kill(leader);
    etcd.kill(other);
    let lost = clock::now();
    nobody_writes(&cluster, if stand_in() { secs(40) } else { secs(10) }).await;
    ended_within_the_lease(&watcher, lost);
    etcd.restart(leader);
    etcd.restart(other);
    etcd.wait_healthy().await;
    cluster.wait_whole(secs(50)).await;
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// One endpoint accepts connections and never answers: nobody is demoted, switchovers work.
#[tokio::test(flavor = "multi_thread")]
async fn one_hanging_endpoint_disturbs_nobody() {
    let etcd = Etcd::start(3).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let writer = Writer::start(cluster.targets()).await;
    // A follower first: the others keep their raft leader.
    let follower = (etcd.leader().await + 1) % 3;
    etcd.stop(follower);
    undisturbed(&cluster, primary, secs(8)).await;
    switch(&cluster).await;
    etcd.cont(follower);
    let primary = cluster.wait_whole(secs(40)).await;
    assert_eq!(writer.stop().missing(&primary.target()).await.unwrap(), []);
}

/// Takes etcd's leader away: nobody is demoted, however often the others' votes split.
async fn election(
    cluster: &TestCluster,
    etcd: &Etcd,
    away: fn(&Etcd, usize),
    back: fn(&Etcd, usize),
) {
    let primary = cluster.wait_whole(secs(40)).await;
    let leader = etcd.leader().await;
    away(etcd, leader);
    undisturbed(cluster, primary, secs(8)).await;
    back(etcd, leader);
    etcd.wait_healthy().await;
}

/// The raft leader of etcd killed, then frozen: an election is no reason to demote anybody.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_etcd_leader_demotes_nobody() {
    let etcd = Etcd::start(3).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let writer = Writer::start(cluster.targets()).await;
    election(&cluster, &etcd, Etcd::kill, Etcd::restart).await;
    election(&cluster, &etcd, Etcd::stop, Etcd::cont).await;
    cluster.wait_whole(secs(40)).await;
    writer.stop();
}

/// etcd's leader is killed, and the two others, which answer, are kept from hearing each other for longer
/// than a lease lives: each stands for election again and again, as after many a split vote. Nobody
/// is demoted. Then one of them is killed as well: now nothing moves any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_without_end_demotes_nobody() {
    let name = "etcd_loss::an_election_without_end_demotes_nobody";
    if stand_in() || net::enter(name) == net::Place::Done {
        return;
    }
    // Apart, their terms rise at different speeds, which they do not while they hear each other; with
    // etcd's default of a second they could be too far from each other after a while.
    let fast = ["--heartbeat-interval=50", "--election-timeout=500"];
    let etcd = Etcd::start_with(EtcdOptions {
        network: Some(Network::new()),
        args: fast.map(str::to_owned).to_vec(),
        ..EtcdOptions::new(3)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.wait_whole(secs(40)).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let created = etcd.created(&cluster.key("leader")).await;
    let leader = etcd.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = etcd.term(other).await.unwrap();

    let lost = clock::now();
    etcd.part(one);
    etcd.kill(leader);
    undisturbed(&cluster, primary, secs(8)).await;
    let again = etcd
        .term(one)
        .await
        .unwrap()
        .min(etcd.term(other).await.unwrap());
    assert!(
        again > before + 4,
        "nobody stood for election: {before}, {again}"
    );
    etcd.join(one);
    etcd.leader().await;
    undisturbed(&cluster, primary, secs(8)).await;
    assert_eq!(etcd.created(&cluster.key("leader")).await, created);
    let log = primary.log();
    assert!(log.contains("it elects a leader"), "{log}");
    assert!(log.contains("etcd has a leader again"), "{log}");
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert!(
        report.acks.iter().all(|ack| ack.timeline == 1),
        "a failover"
    );
    let gap = report.longest_gap_after(lost).expect("rows").length;
    assert!(gap < secs(2), "no row was acknowledged for {gap:?}");

    etcd.kill(one);
    let lost = clock::now();
    nobody_writes(&cluster, secs(10)).await;
    ended_within_the_lease(&watcher, lost);
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// Each etcd member in turn lives, answers its port and is cut off from the two others, which go on: the
/// agents' renewals and watches move on to those, and nobody is demoted.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_member_without_its_quorum_disturbs_nobody() {
    let name = "etcd_loss::an_etcd_member_without_its_quorum_disturbs_nobody";
    if stand_in() || net::enter(name) == net::Place::Done {
        return;
    }
    let network = Network::new();
    let etcd = Etcd::start_with(EtcdOptions {
        network: Some(network),
        ..EtcdOptions::new(3)
    })
    .await;
    // One of the three is the raft leader: an election comes on top, on however slow a machine.
    let options = three().dcs(json!({"pgherd": {"lease_ttl": 10}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let writer = Writer::start(cluster.targets()).await;
    for member in 0..etcd.len() {
        let primary = cluster.wait_whole(secs(40)).await;
        etcd.part(member);
        undisturbed(&cluster, primary, secs(12)).await;
        // What changes in etcd reaches everybody.
        let patch =
            json!({"postgresql": {"parameters": {"work_mem": format!("{}MB", 5 + member)}}});
        let answer = primary
            .request("PATCH", "/config", &patch.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        for node in cluster.nodes() {
            let what = format!("work_mem arrives at {} without e{member}", node.name());
            cluster
                .wait_for(&what, secs(20), async || {
                    let set = node.sql("show work_mem").await?;
                    match set == format!("{}MB", 5 + member) {
                        true => Ok(()),
                        false => Err(set),
                    }
                })
                .await;
        }
        switch(&cluster).await;
        etcd.join(member);
        etcd.wait_healthy().await;
    }
    let primary = cluster.wait_whole(secs(40)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert!(
        report.acks.iter().all(|a| a.timeline <= 4),
        "three switchovers and no failover"
    );
}

/// With authentication; every etcd is restarted and forgets all tokens: the agents log in again.
#[tokio::test(flavor = "multi_thread")]
async fn restarted_etcds_with_authentication() {
    let auth = Some(("agent".to_owned(), "etcd pass'word".to_owned()));
    let etcd = Etcd::start_with(EtcdOptions {
        auth,
        ..EtcdOptions::new(1)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    etcd.kill(0);
    etcd.restart(0);
    etcd.wait_healthy().await;
    switch(&cluster).await;
    for node in cluster.nodes() {
        assert!(
            !node.log().contains("etcd pass'word"),
            "no secret in the log of {}",
            node.name()
        );
    }
    let list = cluster.ctl_or_patronictl(&["list"]);
    assert!(list.status.success(), "{list:?}");
}

/// A member whose password for etcd is wrong: it says what to check, and disturbs nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_for_etcd() {
    if stand_in() {
        return;
    }
    let auth = Some(("agent".to_owned(), "right".to_owned()));
    let etcd = Etcd::start_with(EtcdOptions {
        auth,
        ..EtcdOptions::new(1)
    })
    .await;
    let mut cluster = TestCluster::new(&etcd, &three());
    let wrong = json!({"etcd3": {"password": "etcd pass'word"}});
    cluster.node_mut("n3").change_config(&wrong);
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    let words = ["waiting on etcd", "authentication failed", "password"];
    told(&cluster, cluster.node("n3"), &words).await;
    assert_eq!(cluster.wait_streaming(1, secs(40)).await.name(), "n1");
    let log = cluster.node("n3").log();
    assert!(!log.contains("etcd pass'word"), "{log}");
    assert!(!cluster.node("n3").data_dir().join("PG_VERSION").exists());
}

/// etcd's database is full (NOSPACE): leases still live, so nobody is demoted, and after the alarm
/// everything works again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_etcd_demotes_nobody() {
    let quota = vec!["--quota-backend-bytes=2097152".to_owned()];
    let etcd = Etcd::start_with(EtcdOptions {
        args: quota,
        ..EtcdOptions::new(1)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let mut client = etcd.client(0).await.unwrap();
    let filler = vec![b'x'; 200_000];
    let mut full = None;
    // The quota is looked at with every commit to disk, ten times a second.
    for i in 0..400 {
        if let Err(e) = client
            .put(format!("/filler/{i}"), filler.clone(), None)
            .await
        {
            full = Some(e.to_string());
            break;
        }
    }
    assert!(
        full.as_ref().is_some_and(|e| e.contains("space")),
        "{full:?}"
    );
    undisturbed(&cluster, primary, secs(8)).await;
    let all = etcd_client::DeleteOptions::new().with_prefix();
    client.delete("/filler/", Some(all)).await.unwrap();
    let revision = client
        .get("/filler", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(revision, None).await.unwrap();
    client.defragment().await.unwrap();
    let member = client.status().await.unwrap().header().unwrap().member_id();
    let mut only = etcd_client::AlarmOptions::new();
    only.with_member(member);
    let (off, space) = (
        etcd_client::AlarmAction::Deactivate,
        etcd_client::AlarmType::Nospace,
    );
    client.alarm(off, space, Some(only)).await.unwrap();
    switch(&cluster).await;
}

/// The key prefix deleted under a running cluster (a restored snapshot, a slip of the hand): it
/// comes back, and no row is lost. A replica that sees neither leader nor `initialize` may exit with 1,
/// as the HA rules say; whoever runs it starts it again.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_keys_come_back() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let id = crate::common::system_id(cluster.primary().await.unwrap()).await;
    let writer = Writer::start(cluster.targets()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let mut client = etcd.client(0).await.unwrap();
    let all = etcd_client::DeleteOptions::new().with_prefix();
    client.delete(cluster.key(""), Some(all)).await.unwrap();
    cluster
        .wait_for("the keys are back", secs(40), async || {
            for node in cluster.nodes().iter().filter(|n| !n.agent_alive()) {
                node.start();
            }
            let mut missing = Vec::new();
            for key in [
                "initialize",
                "leader",
                "config",
                "members/n1",
                "members/n2",
                "members/n3",
            ] {
                if etcd.get(&cluster.key(key)).await.is_none() {
                    missing.push(key);
                }
            }
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("missing: {missing:?}"))
            }
        })
        .await;
    let primary = cluster.wait_whole(secs(40)).await;
    assert_eq!(etcd.get(&cluster.key("initialize")).await, Some(id));
    writer.wait_acks(20, secs(30)).await;
    let report = writer.stop();
    assert_eq!(report.missing(&primary.target()).await.unwrap(), []);
    assert_eq!(watcher::violations(&watcher.stop()), Vec::<String>::new());
}

/// The leader's lease revoked under it (etcd's old early-revoke bug does that): nobody writes beside
/// the old leader, and a leader is there again soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_lease_makes_no_second_writer() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    let mut client = etcd.client(0).await.unwrap();
    for _ in 0..2 {
        let primary = cluster.wait_whole(secs(40)).await;
        let keys = [
            cluster.key("leader"),
            cluster.key(&format!("members/{}", primary.name())),
        ];
        let mut gone = Vec::new();
        for key in &keys {
            gone.push(etcd.lease_of(key).await.unwrap());
        }
        // Genuine Patroni has one lease for both keys.
        gone.dedup();
        for lease in &gone {
            client.lease_revoke(*lease).await.unwrap();
        }
        cluster
            .wait_for(
                "both keys are back under other leases",
                secs(30),
                async || {
                    for key in &keys {
                        match etcd.lease_of(key).await {
                            Some(lease) if !gone.contains(&lease) => {}
                            other => return Err(format!("{key}: {other:?}")),
                        }
                    }
                    Ok(())
                },
            )
            .await;
    }
    cluster.wait_whole(secs(40)).await;
    let mut acks = watcher.stop();
    acks.extend(writer.stop().acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// An agent's watch continues at a revision that etcd has compacted meanwhile: it reads anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_watch_revision() {
    let etcd = Etcd::start(1).await;
    // The only etcd is away for the 2 s that it needs to elect itself, more on a slow machine.
    let options = three().dcs(json!({"pgherd": {"lease_ttl": 10}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, primary.name());
    let before = start_time(primary).await;
    replica.signal_agent(pgherd_tests::Signal::STOP);
    for i in 0..20 {
        etcd.put(&cluster.key("history"), &format!("[[{i},0,\"no reason\"]]"))
            .await;
    }
    etcd.put(&cluster.key("history"), "[]").await;
    let mut client = etcd.client(0).await.unwrap();
    let revision = client
        .get("x", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    client.compact(revision, None).await.unwrap();
    // A restart ends every watch: each must be taken up again.
    etcd.kill(0);
    etcd.restart(0);
    etcd.wait_healthy().await;
    replica.signal_agent(pgherd_tests::Signal::CONT);
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), primary.name());
    assert_eq!(start_time(primary).await, before, "nobody was demoted");
    let request = body(Some(primary.name()), Some(replica.name()));
    let answer = primary
        .request("POST", "/switchover", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), replica.name());
}
