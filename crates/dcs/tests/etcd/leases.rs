//! The leader lease: granted, renewed, lost, changed, looked at; from a thread of its own.

use crate::harness::{Etcd, acquire, clock, cluster, run, shows, store};
use pgherd_dcs::RenewError;
use pgherd_model::{Answer, LeaseSight, Op, Span};

const BUDGET: Span = Span::from_secs(5);

#[tokio::test]
async fn a_lost_lease_is_told_once_and_granted_anew() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let mut lease = a.leader_lease();
    let before = clock();
    let first = lease.renew(BUDGET).await.unwrap();
    assert!(before <= first.sent && first.sent <= clock());
    assert_eq!(
        (first.ttl, first.granted),
        (Span::from_secs(5), Span::from_secs(5))
    );
    assert_eq!(a.leader_lease_id(), first.lease);
    let second = lease.renew(BUDGET).await.unwrap();
    assert_eq!(second.lease, first.lease);
    assert!(second.sent > first.sent);

    acquire(&a).await;
    let mut other = etcd.client(0).await;
    other.lease_revoke(first.lease).await.unwrap();
    shows(&a, "the lock free", |picture| {
        picture.cluster.as_ref().unwrap().leader.is_none()
    })
    .await;
    let lost = lease.renew(BUDGET).await;
    assert!(
        matches!(lost, Err(RenewError::Lost { lease, .. }) if lease == first.lease),
        "{lost:?}"
    );
    assert_eq!(a.leader_lease_id(), 0);
    let third = lease.renew(BUDGET).await.unwrap();
    assert_ne!(third.lease, first.lease);
    acquire(&a).await;
}

#[tokio::test]
async fn another_life_is_another_lease_and_the_key_is_reattached() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let term = acquire(&a).await;
    let before = a.leader_lease_id();
    a.set_lives(Span::from_secs(30), Span::from_secs(6));
    let renewed = a.leader_lease().renew(BUDGET).await.unwrap();
    assert_ne!(renewed.lease, before);
    assert_eq!(renewed.ttl, Span::from_secs(6));
    let reattach = Op::ReattachLeader {
        create_revision: term,
    };
    assert!(matches!(run(&a, reattach).await, Answer::Done { .. }));
    let leader = cluster(&a).leader.unwrap();
    assert_eq!(
        (leader.create_revision, leader.lease),
        (term, renewed.lease)
    );
}

#[tokio::test]
async fn etcd_that_grants_more_does_not_make_us_believe_more() {
    let etcd = Etcd::start_with(
        1,
        "http",
        &["--election-timeout=5000", "--heartbeat-interval=500"],
    )
    .await;
    let a = store(etcd.endpoints(), "a").await;
    let renewed = a.leader_lease().renew(BUDGET).await.unwrap();
    assert_eq!(renewed.ttl, Span::from_secs(5));
    assert!(renewed.granted > renewed.ttl, "{renewed:?}");
}

#[tokio::test]
async fn renewal_lives_on_a_thread_of_its_own() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    acquire(&a).await;
    let mut lease = a.leader_lease();
    let renewals = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut sent = Vec::new();
        for _ in 0..20 {
            sent.push(runtime.block_on(lease.renew(BUDGET)).unwrap().sent);
        }
        sent
    });
    // This test's own runtime stands still meanwhile, as a busy loop would make it.
    let sent = renewals.join().unwrap();
    assert!(sent.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test]
async fn a_look_at_the_lease_bounds_when_it_was_renewed() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let b = store(etcd.endpoints(), "b").await;
    let mut lease = a.leader_lease();
    lease.renew(BUDGET).await.unwrap();
    let look = async |id| match run(&b, Op::LookAtLease { lease: id }).await {
        Answer::Lease(sight) => sight,
        other => panic!("{other:?}"),
    };
    for _ in 0..5 {
        let renewed = lease.renew(BUDGET).await.unwrap();
        let sight: LeaseSight = look(renewed.lease).await;
        assert_eq!(
            (sight.lease, sight.granted),
            (renewed.lease, Span::from_secs(5))
        );
        assert!(sight.remaining >= Span::from_secs(4), "{sight:?}");
        assert!(sight.asked <= sight.answered);
        let latest = sight.renewed_before();
        assert!(renewed.sent <= latest, "{renewed:?} {sight:?}");
        assert!(latest <= sight.answered + Span::from_secs(1), "{sight:?}");
    }
    let unknown = look(4711).await;
    assert_eq!(
        (unknown.granted, unknown.remaining),
        (Span::ZERO, Span::ZERO)
    );
}
