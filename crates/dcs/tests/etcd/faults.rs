//! etcd members that die, stop or lose each other while the picture is kept.

use crate::harness::{Etcd, PATIENCE, clock, cluster, done, eventually, shows, store, within};
use pgherd_dcs::Store;
use pgherd_model::{Op, Span, Time};

fn config(text: &str, expected: Option<u64>) -> Op {
    Op::PutConfig {
        text: text.into(),
        expected,
    }
}

fn fresh_at(store: &Store) -> Time {
    store.picture().borrow().fresh_at
}

/// Waits until the picture is proven for a moment after now; says how long that took.
async fn proven_anew(store: &Store) -> Span {
    let begin = clock();
    eventually("a new proof", async || {
        (fresh_at(store) > begin).then_some(())
    })
    .await;
    clock().since(begin)
}

#[tokio::test]
async fn etcds_leader_dies_and_the_picture_goes_on() {
    let mut etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    // The store's first endpoint is the one that dies.
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(leader);
    let a = store(endpoints, "a").await;
    let first = done(&a, config("{}", None)).await;
    let mut lease = a.leader_lease();
    let before = lease.renew(Span::from_secs(5)).await.unwrap();
    etcd.members[leader].kill();
    let begin = clock();
    let answer = a
        .run(&config(r#"{"ttl":21}"#, Some(first)), within(10_000))
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(cluster(&a).config.unwrap().value.text, r#"{"ttl":21}"#);
    let after = eventually("renewed", async || {
        lease.renew(Span::from_secs(5)).await.ok()
    })
    .await;
    assert_eq!(
        after.lease, before.lease,
        "the lease outlives etcd's election"
    );
    proven_anew(&a).await;
    assert!(clock().since(begin) < Span::from_secs(10));
    let other = etcd.client((leader + 1) % 3).await;
    other
        .kv_client()
        .put("/service/c/leader", "x", None)
        .await
        .unwrap();
    shows(&a, "an event", |picture| {
        picture.cluster.as_ref().unwrap().leader.is_some()
    })
    .await;
}

#[tokio::test]
async fn the_member_that_serves_the_watch_stops_and_another_takes_over() {
    let etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    let follower = (leader + 1) % 3;
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(follower);
    let a = store(endpoints, "a").await;
    etcd.members[follower].pause();
    let other = etcd.client(leader).await;
    other
        .kv_client()
        .put("/service/c/leader", "x", None)
        .await
        .unwrap();
    let begin = clock();
    shows(&a, "the event", |picture| {
        picture.cluster.as_ref().unwrap().leader.is_some()
    })
    .await;
    let took = clock().since(begin);
    assert!(took < Span::from_secs(4), "seen after {took:?}");
    assert!(a.picture().borrow().problem.is_none());
    etcd.members[follower].resume();
}

#[tokio::test]
async fn without_a_quorum_nothing_is_proven_and_it_heals_by_itself() {
    let etcd = Etcd::start(3).await;
    let a = store(etcd.endpoints(), "a").await;
    let first = done(&a, config("{}", None)).await;
    etcd.members[1].pause();
    etcd.members[2].pause();
    let paused = clock();
    let picture = shows(&a, "the problem", |picture| picture.problem.is_some()).await;
    assert!(
        picture.fresh_at <= paused + Span::from_millis(100),
        "proven without a quorum"
    );
    assert!(picture.cluster.is_some(), "the last picture stays");
    let begin = clock();
    let error = a
        .run(&config("[]", Some(first)), within(1_000))
        .await
        .unwrap_err();
    assert!(clock().since(begin) < Span::from_millis(1_500), "{error}");
    assert!(fresh_at(&a) <= paused + Span::from_millis(100));
    etcd.members[1].resume();
    etcd.members[2].resume();
    let healed = shows(&a, "no problem", |picture| picture.problem.is_none()).await;
    assert!(healed.fresh_at > paused);
    let expected = cluster(&a).config.unwrap().revision;
    eventually("writes work", async || {
        a.run(&config("{}", Some(expected)), within(3_000))
            .await
            .ok()
    })
    .await;
}

#[tokio::test]
async fn a_member_that_lost_its_peers_is_left_for_one_that_has_them() {
    let etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(leader);
    let a = store(endpoints, "a").await;
    // The old leader sleeps through an election and wakes up with an old term.
    etcd.members[leader].pause();
    let next = (leader + 1) % 3;
    let b = store(vec![etcd.members[next].endpoint.clone()], "b").await;
    eventually("a new etcd leader", async || {
        b.run(&config("{}", None), within(2_000)).await.ok()
    })
    .await;
    etcd.members[leader].resume();
    shows(&a, "what was written meanwhile", |picture| {
        picture.cluster.as_ref().unwrap().config.is_some()
    })
    .await;
    assert!(proven_anew(&a).await < PATIENCE);
}

#[tokio::test]
async fn an_idle_picture_is_proven_again_and_again_without_waking_anybody() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let mut pictures = a.picture();
    pictures.mark_unchanged();
    for _ in 0..2 {
        let took = proven_anew(&a).await;
        assert!(took < Span::from_millis(2_500), "{took:?}");
    }
    assert!(!pictures.has_changed().unwrap());
}

#[tokio::test]
async fn etcds_leader_stops_and_renewals_go_on_before_anybody_has_to_demote() {
    let etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(leader);
    let a = store(endpoints, "a").await;
    let mut lease = a.leader_lease();
    let begin = lease.renew(Span::from_secs(5)).await.unwrap();
    let mut sent = vec![begin.sent];
    etcd.members[leader].pause();
    eventually("renewals for six seconds", async || {
        if let Ok(renewed) = lease.renew(Span::from_secs(3)).await {
            assert_eq!(renewed.lease, begin.lease);
            sent.push(renewed.sent);
        }
        (clock().since(begin.sent) > Span::from_secs(6)).then_some(())
    })
    .await;
    let gap = sent.windows(2).map(|pair| pair[1].since(pair[0])).max();
    eprintln!("longest time between confirmed renewals: {gap:?}");
    assert!(gap < Some(Span::from_secs(4)), "{gap:?}");
}
