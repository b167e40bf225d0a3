//! Scheduled switchovers: at their time and not before, deleted, paused, over the heads of genuine
//! `patronictl` and a genuine Patroni leader.

use crate::common::{kind, oracle, secs, stand_in, stays, stored, text, three};
use jiff::{SignedDuration, Timestamp};
use pgherd_tests::{ClusterOptions, Etcd, Kind, Node, TestCluster, Writer, json};

/// The contract's form: whole seconds, offset in digits.
fn shown(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

/// So many seconds from now, on a whole second.
fn ahead(seconds: i64) -> Timestamp {
    let at = Timestamp::now() + SignedDuration::from_secs(seconds);
    Timestamp::from_second(at.as_second()).unwrap()
}

/// When the lock was first seen with somebody else.
async fn handed_over(etcd: &Etcd, cluster: &TestCluster, old: &Node) -> Timestamp {
    let key = cluster.key("leader");
    cluster
        .wait_for("the lock goes to somebody else", secs(60), async || {
            let leader = etcd.get(&key).await;
            match leader.as_deref() {
                Some(name) if name != old.name() => Ok(Timestamp::now()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
}

/// Not before its time; the brain's own alarm is set for it, not the next round of loop_wait.
fn assert_in_time(at: Timestamp, seen: Timestamp) {
    let late = seen.duration_since(at);
    assert!(!late.is_negative(), "{late:?} before its time");
    let limit = SignedDuration::from_secs(if stand_in() { 20 } else { 4 });
    assert!(late < limit, "{late:?} after its time");
}

async fn nothing_asked(etcd: &Etcd, cluster: &TestCluster) {
    cluster
        .wait_for("failover is {}", secs(30), async || {
            match stored(etcd, cluster, "failover").await {
                Some(value) if value == json!({}) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
}

/// `patronictl flush` deletes the schedule; then there is none for anybody.
async fn flushed(etcd: &Etcd, cluster: &TestCluster, member: &Node) {
    let flush = || text(&cluster.patronictl(&["flush", "{scope}", "switchover", "--force"]));
    let said = flush();
    assert!(
        said.contains("Success: scheduled switchover deleted"),
        "{said}"
    );
    nothing_asked(etcd, cluster).await;
    let said = flush();
    assert!(said.contains("No pending scheduled switchover"), "{said}");
    let answer = member.request("DELETE", "/switchover", "").await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (404, "no switchover is scheduled")
    );
}

/// Genuine `patronictl` schedules, shows and flushes one, and one more is carried out with
/// loop_wait 10, once.
#[tokio::test(flavor = "multi_thread")]
async fn genuine_patronictl_schedules_and_flushes() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = ClusterOptions::new(kind()).dcs(json!({"loop_wait": 10, "ttl": 30}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.wait_whole(secs(60)).await;
    let new = crate::common::other(&cluster, old.name());
    let schedule = |at: &str| {
        let words = [
            "switchover",
            "{scope}",
            "--leader",
            old.name(),
            "--candidate",
            new.name(),
            "--scheduled",
            at,
            "--force",
        ];
        text(&cluster.patronictl(&words))
    };
    let far = "2130-01-01T00:00:00+00:00";
    let said = schedule(far);
    for part in [
        " Switchover scheduled\n",
        &format!(" Switchover scheduled at: {far}"),
        &format!("from: {}", old.name()),
        &format!("to: {}", new.name()),
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    let value = json!({"leader": old.name(), "member": new.name(), "scheduled_at": far});
    assert_eq!(stored(&etcd, &cluster, "failover").await, Some(value));
    let document = new.get("/cluster").await.unwrap().json();
    let value = json!({"at": far, "from": old.name(), "to": new.name()});
    assert_eq!(document["scheduled_switchover"], value);

    flushed(&etcd, &cluster, new).await;

    let writer = Writer::start(cluster.targets()).await;
    let at = ahead(12);
    let said = schedule(&shown(at));
    assert!(said.contains(" Switchover scheduled\n"), "{said}");
    assert_in_time(at, handed_over(&etcd, &cluster, old).await);
    let primary = cluster.wait_whole(secs(60)).await;
    assert_eq!(primary.name(), new.name());
    assert_eq!(writer.stop().missing(&primary.target()).await.unwrap(), []);
    nothing_asked(&etcd, &cluster).await;
    stays("the new leader", secs(3), async || {
        match cluster.primary().await?.name() {
            name if name == new.name() => Ok(()),
            name => Err(name.to_owned()),
        }
    })
    .await;
}

/// `pgherd ctl switchover --scheduled`, to the best candidate, and what it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn own_command_schedules() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.wait_whole(secs(60)).await;
    let schedule = |at: &str| {
        let output = cluster.ctl(&["switchover", "--scheduled", at, "--force"]);
        (output.status.success(), text(&output))
    };
    let (good, said) = schedule("2001-01-01T00:00:00+00:00");
    assert!(!good, "{said}");
    let refusal = "Switchover failed, details: 422, Cannot schedule switchover in the past";
    assert!(said.contains(refusal), "{said}");
    let (good, said) = schedule("soon");
    assert!(
        !good && said.contains("Unable to parse scheduled timestamp (soon)"),
        "{said}"
    );
    assert_eq!(stored(&etcd, &cluster, "failover").await, None);
    let at = ahead(5);
    let (good, said) = schedule(&shown(at));
    let line = format!(" Switchover scheduled at: {}", shown(at));
    assert!(good && said.contains(&line), "{said}");
    assert_in_time(at, handed_over(&etcd, &cluster, old).await);
    assert_ne!(cluster.wait_whole(secs(60)).await.name(), old.name());
    nothing_asked(&etcd, &cluster).await;
}

/// A pause over its time: nothing happens, nothing new is taken, and afterwards it is too late.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlasts_it() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.wait_whole(secs(60)).await;
    let at = ahead(4);
    let body = json!({"leader": leader.name(), "scheduled_at": shown(at)}).to_string();
    let post = async || {
        let answer = leader.request("POST", "/switchover", &body).await.unwrap();
        (answer.status, answer.body)
    };
    assert_eq!(post().await, (202, "Switchover scheduled".into()));
    let pause = async |on: bool| {
        let patch = json!({"pause": on.then_some(true)}).to_string();
        let answer = leader.request("PATCH", "/config", &patch).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    pause(true).await;
    let text = "Can't schedule switchover in the paused state";
    assert_eq!(post().await, (400, text.into()));
    // Until it is later than 1.5 times loop_wait, which is 2 s here.
    let limit = at + SignedDuration::from_secs(5);
    cluster
        .wait_for("its time has long passed", secs(30), async || {
            let value = stored(&etcd, &cluster, "failover")
                .await
                .unwrap_or_default();
            assert_eq!(value["scheduled_at"], json!(shown(at)), "nobody touches it");
            if Timestamp::now() > limit {
                Ok(())
            } else {
                Err("not yet".into())
            }
        })
        .await;
    pause(false).await;
    nothing_asked(&etcd, &cluster).await;
    assert_eq!(cluster.wait_whole(secs(30)).await.name(), leader.name());
    assert_eq!(
        stored(&etcd, &cluster, "history")
            .await
            .unwrap_or(json!([])),
        json!([])
    );
}

/// A genuine Patroni leader carries it out: the named member of ours takes over, although the time
/// still stands in the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_genuine_leader_hands_over_to_the_named_member() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let kinds = [Kind::Patroni, Kind::Pgherd, Kind::Pgherd];
    let cluster = TestCluster::new(&etcd, &ClusterOptions::with_kinds(&kinds));
    let old = cluster.node("n1");
    old.start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n1");
    let at = ahead(6);
    let body = json!({"leader": "n1", "candidate": "n3", "scheduled_at": shown(at)}).to_string();
    // Any member takes it.
    let asked = cluster.node("n2");
    let answer = asked.request("POST", "/switchover", &body).await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (202, "Switchover scheduled")
    );
    let seen = handed_over(&etcd, &cluster, old).await;
    assert!(seen > at, "{seen}");
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n3");
    nothing_asked(&etcd, &cluster).await;
}
