//! A cluster that is a copy of another one: it streams, switches over and fails over without a promotion, becomes one of its
//! own, and the other one becomes its copy.

use crate::common::{body, failover, kind, note, noted, secs, stand_in, stored, text, wait_health};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, yaml};
use std::time::Duration;

/// Slot that the standby cluster uses on its primary.
const SLOT: &str = "site_b";
/// For a machine under load.
const SOON: Duration = secs(60);

/// Two members, whose leader keeps a slot for another site.
async fn main_site(etcd: &Etcd) -> TestCluster {
    let slots = json!({"slots": {(SLOT): {"type": "physical"}}});
    let options = ClusterOptions::with_kinds(&[kind(), kind()]).dcs(slots);
    TestCluster::formed(etcd, &options).await
}

/// Where all members of a cluster are, as `standby_cluster` has it.
fn places(of: &TestCluster) -> Value {
    let addresses: Vec<_> = of.nodes().iter().map(Node::pg_address).collect();
    let hosts: Vec<&str> = addresses.iter().map(|(host, _)| host.as_str()).collect();
    let ports: Vec<String> = addresses.iter().map(|(_, port)| port.to_string()).collect();
    json!({"host": hosts.join(","), "port": ports.join(","), "primary_slot_name": SLOT})
}

/// A copy of that cluster, with two members, which is whole.
async fn copy_of(etcd: &Etcd, main: &TestCluster) -> TestCluster {
    let mut options = ClusterOptions::with_kinds(&[kind(), kind()]);
    options.secrets = Some(main.scope().to_owned());
    let section = json!({"standby_cluster": places(main), "slots": {(SLOT): {"type": "physical"}}});
    let mut dcs = options.dcs.clone();
    yaml::merge(&mut dcs, &section);
    options.dcs = dcs;
    let copy = TestCluster::new(etcd, &options);
    copy.start_all();
    standby_leader(&copy, "", SOON).await;
    copy
}

/// Waits for the one standby leader other than `old`, from whom all others stream, and who streams from elsewhere.
async fn standby_leader<'a>(cluster: &'a TestCluster, old: &str, deadline: Duration) -> &'a Node {
    cluster
        .wait_for("a standby leader", deadline, async || {
            let mut leaders = Vec::new();
            for node in cluster.nodes().iter().filter(|node| node.agent_alive()) {
                if node.get("/standby-leader").await?.status == 200 {
                    leaders.push(node);
                }
            }
            let [leader] = leaders.as_slice() else {
                return Err(format!("{} standby leaders", leaders.len()));
            };
            if leader.name() == old {
                return Err(format!("{old} leads"));
            }
            let receiver = "select coalesce(max(status), 'none') from pg_stat_wal_receiver";
            let receiver = leader.sql(receiver).await?;
            let names = cluster.streaming_from(leader).await?;
            let living = cluster.nodes().iter().filter(|node| node.agent_alive());
            if receiver == "streaming" && names.len() + 1 == living.count() {
                Ok(*leader)
            } else {
                Err(format!(
                    "{}: {receiver}, streaming from it: {names:?}",
                    leader.name()
                ))
            }
        })
        .await
}

/// A row that is written there arrives at all members of the other cluster.
async fn arrives(from: &Node, row: &str, at: &TestCluster) {
    note(from, row).await;
    for node in at.nodes().iter().filter(|node| node.agent_alive()) {
        let what = format!("{row} at {}", node.name());
        at.wait_for(&what, SOON, async || match noted(node, row).await? {
            1 => Ok(()),
            count => Err(format!("{count} of them")),
        })
        .await;
    }
}

/// It forms from nothing but a place to copy, follows, changes its leader by request and by loss of one, and nobody of it
/// ever accepts a write.
#[tokio::test(flavor = "multi_thread")]
async fn it_follows_whoever_leads_it() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let main = main_site(&etcd).await;
    let primary = main.primary().await.unwrap();
    note(primary, "before").await;
    let copy = copy_of(&etcd, &main).await;
    arrives(primary, "after", &copy).await;
    let leader = standby_leader(&copy, "", SOON).await;
    let replica = crate::common::other(&copy, leader.name());
    shows_itself(&etcd, &copy, leader, replica).await;

    let started = crate::common::start_time(leader).await;
    let request = body(Some(leader.name()), Some(replica.name()));
    let answer = leader
        .request("POST", "/switchover", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let new = standby_leader(&copy, leader.name(), SOON).await;
    assert_eq!(new.name(), replica.name());
    arrives(primary, "switched over", &copy).await;
    assert_eq!(
        crate::common::start_time(leader).await,
        started,
        "nothing is restarted"
    );

    // The main site changes its primary: the standby leader finds the new one by itself.
    let other = crate::common::other(&main, primary.name());
    let request = body(Some(primary.name()), Some(other.name()));
    let answer = primary
        .request("POST", "/switchover", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    main.wait_whole(SOON).await;
    arrives(other, "another primary", &copy).await;

    new.kill_node();
    standby_leader(&copy, new.name(), failover().max(SOON)).await;
    arrives(other, "failed over", &copy).await;
    assert_eq!(copy.writable().await, Vec::<String>::new());
}

/// What people and programs see of it.
async fn shows_itself(etcd: &Etcd, copy: &TestCluster, leader: &Node, replica: &Node) {
    for (node, path, code) in [
        (leader, "/leader", 200),
        (leader, "/primary", 503),
        (leader, "/replica", 503),
        (leader, "/read-only", 200),
        (replica, "/replica", 200),
        (replica, "/standby-leader", 503),
    ] {
        wait_health(copy, node, path, code).await;
    }
    let status = crate::common::status(leader).await.unwrap();
    assert_eq!(status["role"], json!("standby_leader"), "{status}");
    let metrics = leader.get("/metrics").await.unwrap().body;
    let flag = metrics
        .lines()
        .find(|line| line.starts_with("patroni_standby_leader{"));
    assert!(flag.is_some_and(|line| line.ends_with(" 1")), "{flag:?}");
    let key = format!("members/{}", leader.name());
    let member = stored(etcd, copy, &key).await.unwrap();
    assert_eq!(member["role"], json!("standby_leader"), "{member}");
    let list = text(&copy.ctl(&["list"]));
    assert!(list.contains("Standby Leader"), "{list}");
}

/// It becomes a cluster of its own; the one that it was a copy of becomes its copy. What the latter's replica had goes with it.
#[tokio::test(flavor = "multi_thread")]
async fn the_two_change_places() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let main = main_site(&etcd).await;
    let copy = copy_of(&etcd, &main).await;
    let primary = main.primary().await.unwrap();
    arrives(primary, "first", &copy).await;

    let section = places(&copy);
    let host = section["host"].as_str().unwrap();
    let port = section["port"].as_str().unwrap();
    let (host, port) = (
        host.split(',').next().unwrap(),
        port.split(',').next().unwrap(),
    );
    let words = ["demote-cluster", "--force", "--host", host, "--port", port];
    let output = main.ctl(&words);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("cluster is successfully demoted"),
        "{}",
        text(&output)
    );
    assert_eq!(main.writable().await, Vec::<String>::new());

    let output = copy.ctl(&["promote-cluster", "--force"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("cluster is successfully promoted"),
        "{}",
        text(&output)
    );
    let new = copy.wait_whole(SOON).await;
    assert_eq!(noted(new, "first").await, Ok(1));
    arrives(new, "second", &main).await;
    let leader = standby_leader(&main, "", SOON).await;
    arrives(new, "third", &main).await;
    let again = text(&copy.ctl(&["promote-cluster", "--force"]));
    assert!(again.contains("already in the required state"), "{again}");
    wait_health(&main, leader, "/primary", 503).await;
}
