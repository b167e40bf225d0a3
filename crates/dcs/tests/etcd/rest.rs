//! While news come through the watch nobody is asked whether it delivers; and a renewal goes on over the stream of
//! the last one.

use crate::harness::{Etcd, clock, eventually, shows, store};
use pgherd_dcs::Store;
use pgherd_model::{Span, Time};

const BUDGET: Span = Span::from_secs(5);

fn seen(store: &Store) -> (Time, Time) {
    let picture = store.picture();
    let picture = picture.borrow();
    (picture.fresh_at, picture.heard)
}

async fn proved_after(store: &Store, moment: Time) {
    eventually("a proof", async || (seen(store).0 > moment).then_some(())).await;
}

#[tokio::test]
async fn nobody_is_asked_while_there_are_news() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let mut other = etcd.client(0).await;
    proved_after(&a, clock()).await;
    a.rest(Some(Span::from_secs(4)));
    let news = async |step: u64, other: &mut etcd_client::Client| {
        let put = other.put("/service/c/status", step.to_string(), None);
        put.await.unwrap();
        shows(&a, "the news", |picture| {
            let optime = picture.cluster.as_ref().unwrap().optime();
            optime.is_some_and(|lsn| lsn.0 == step)
        })
        .await;
    };
    news(1, &mut other).await;
    // One that was under way may be answered now.
    tokio::time::sleep(Span::from_millis(500)).await;
    let (proved, _) = seen(&a);
    for step in 2..8 {
        // Far more than the pause between two proofs, in all.
        tokio::time::sleep(Span::from_millis(700)).await;
        let before = clock();
        news(step, &mut other).await;
        let (fresh_at, heard) = seen(&a);
        assert_eq!(fresh_at, proved, "asked in spite of news");
        assert!(heard >= before);
    }
    // Silence is a reason to ask, and so is somebody who may not rest.
    proved_after(&a, clock()).await;
    news(8, &mut other).await;
    a.rest(None);
    proved_after(&a, clock()).await;
}

#[tokio::test]
async fn a_renewal_leaves_the_stream_of_a_member_that_hangs() {
    let etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    let follower = (leader + 1) % 3;
    let mut endpoints = etcd.endpoints();
    endpoints.rotate_left(follower);
    let a = store(endpoints, "a").await;
    let mut lease = a.leader_lease();
    let first = lease.renew(BUDGET).await.unwrap();
    let second = lease.renew(BUDGET).await.unwrap();
    etcd.members[follower].pause();
    let paused = clock();
    let third = lease.renew(BUDGET).await.unwrap();
    let took = clock().since(paused);
    etcd.members[follower].resume();
    assert_eq!((second.lease, third.lease), (first.lease, first.lease));
    assert!(third.sent >= paused, "an answer of before does not count");
    assert!(took < Span::from_secs(2), "{took:?}");
    for _ in 0..3 {
        let sent = clock();
        assert!(lease.renew(BUDGET).await.unwrap().sent >= sent);
    }
}
