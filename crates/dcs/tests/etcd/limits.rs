//! A compacted history and a full database.

use crate::harness::{Etcd, acquire, clock, cluster, done, eventually, shows, store, within};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use pgherd_dcs::Error;
use pgherd_model::{Op, Span};

#[tokio::test]
async fn a_compacted_history_is_read_anew() {
    let mut etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    // While the store is cut off, its place in the history is compacted away.
    let mut other = etcd.client(0).await;
    other.put("/service/c/leader", "x", None).await.unwrap();
    shows(&a, "the leader", |picture| {
        picture.cluster.as_ref().unwrap().leader.is_some()
    })
    .await;
    etcd.members[0].kill();
    shows(&a, "the problem", |picture| picture.problem.is_some()).await;
    let port = etcd.members[0].endpoint.clone();
    etcd.members[0].start();
    let mut other = etcd.client(0).await;
    let revision = eventually("etcd is back", async || {
        other.delete("/service/c/leader", None).await.ok()?;
        let put = other.put("/service/c/config", "{}", None).await.ok()?;
        put.header().map(|header| header.revision())
    })
    .await;
    other.compact(revision, None).await.unwrap();
    let picture = shows(&a, "the new state", |picture| {
        let cluster = picture.cluster.as_ref().unwrap();
        cluster.leader.is_none() && cluster.config.is_some()
    })
    .await;
    assert!(picture.problem.is_none(), "{port}");
    other.put("/service/c/leader", "y", None).await.unwrap();
    shows(&a, "events go on", |picture| {
        picture.cluster.as_ref().unwrap().leader.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_full_etcd_refuses_writes_with_the_remedy_and_keeps_leases() {
    let etcd = Etcd::start_with(1, "http", &["--quota-backend-bytes=1000000"]).await;
    let a = store(etcd.endpoints(), "a").await;
    acquire(&a).await;
    let mut lease = a.leader_lease();
    let mut other = etcd.client(0).await;
    let big = "x".repeat(200_000);
    eventually("a refused write", async || {
        other.put("/elsewhere", big.as_str(), None).await.err()
    })
    .await;
    // The write that does not fit is refused at once; the alarm that refuses small ones comes after it.
    eventually("the alarm", async || {
        let alarms = other.alarm(AlarmAction::Get, AlarmType::Nospace, None);
        let raised = !alarms.await.ok()?.alarms().is_empty();
        raised.then_some(())
    })
    .await;
    let config = Op::PutConfig {
        text: "{}".into(),
        expected: None,
    };
    let error = a.run(&config, within(5_000)).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    let text = error.to_string();
    for word in [
        "/service/c/config",
        &etcd.members[0].endpoint,
        "defrag",
        "alarm disarm",
    ] {
        assert!(text.contains(word), "{text}");
    }
    for _ in 0..3 {
        lease.renew(Span::from_secs(1)).await.unwrap();
    }
    let now = clock();
    eventually("still proven", async || {
        (a.picture().borrow().fresh_at > now).then_some(())
    })
    .await;
    assert!(cluster(&a).leader.is_some());

    let revision = other.get("/elsewhere", None).await.unwrap();
    let revision = revision.header().unwrap().revision();
    other.compact(revision, None).await.unwrap();
    other.defragment().await.unwrap();
    let alarms = other
        .alarm(AlarmAction::Get, AlarmType::Nospace, None)
        .await
        .unwrap();
    for alarm in alarms.alarms() {
        let mut member = AlarmOptions::new();
        member.with_member(alarm.member_id());
        other
            .alarm(AlarmAction::Deactivate, alarm.alarm(), Some(member))
            .await
            .unwrap();
    }
    eventually("writes work again", async || {
        a.run(&config, within(1_000)).await.ok()
    })
    .await;
    done(&a, Op::Refresh).await;
}
