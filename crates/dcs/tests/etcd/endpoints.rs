//! Endpoints that hang or are closed, and endpoints found by discovery.

use crate::harness::{
    Etcd, PATIENCE, acquire, clock, eventually, free_ports, options, shows, started, store, within,
};
use pgherd_dcs::{Error, Store};
use pgherd_model::{Answer, Op, Span};
use std::net::{Ipv4Addr, TcpListener};

/// Accepts connections (in the kernel's queue) and never says a word.
fn hanging() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    (listener, endpoint)
}

fn closed() -> String {
    format!("127.0.0.1:{}", free_ports(1)[0])
}

#[tokio::test]
async fn one_hangs_one_is_closed_and_everything_stays_within_its_deadline() {
    let etcd = Etcd::start(1).await;
    let (_listener, hung) = hanging();
    let endpoints = vec![hung, closed(), etcd.members[0].endpoint.clone()];
    let begin = clock();
    let a = store(endpoints, "a").await;
    let first = clock().since(begin);
    assert!(first < Span::from_secs(3), "first read after {first:?}");

    let mut lease = a.leader_lease();
    let begin = clock();
    let renewed = lease.renew(Span::from_secs(5)).await.unwrap();
    let age = clock().since(renewed.sent);
    assert!(
        age < Span::from_millis(900),
        "counts from the try that was answered: {age:?}"
    );
    assert!(clock().since(begin) < Span::from_secs(3));
    // A renewal of what exists does not even wait until the hung one is out of time.
    let mut another = a.leader_lease();
    let begin = clock();
    let again = another.renew(Span::from_secs(5)).await.unwrap();
    assert_eq!(again.lease, renewed.lease);
    let took = clock().since(begin);
    assert!(took < Span::from_millis(950), "{took:?}");
    let begin = clock();
    acquire(&a).await;
    for _ in 0..10 {
        lease.renew(Span::from_secs(1)).await.unwrap();
        a.run(&Op::Refresh, within(1_000)).await.unwrap();
    }
    let all = clock().since(begin);
    assert!(
        all < Span::from_secs(4),
        "one that works is asked first: {all:?}"
    );
}

#[tokio::test]
async fn nobody_there_is_an_error_in_time_and_names_the_endpoint() {
    let (_listener, hung) = hanging();
    let gone = closed();
    let endpoints = vec![hung.clone(), gone.clone()];
    let a = Store::start(options(endpoints, "a")).unwrap();
    let begin = clock();
    let error = a.run(&Op::Refresh, within(1_500)).await.unwrap_err();
    let took = clock().since(begin);
    assert!(took < Span::from_millis(2_000), "{took:?}");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("/service/c/") && (text.contains(&hung) || text.contains(&gone)),
        "{text}"
    );

    let begin = clock();
    let mut lease = a.leader_lease();
    lease.renew(Span::from_millis(1_500)).await.unwrap_err();
    assert!(clock().since(begin) < Span::from_millis(2_000));
    let config = Op::PutConfig {
        text: "{}".into(),
        expected: None,
    };
    let error = a.run(&config, within(1_500)).await.unwrap_err();
    assert!(
        matches!(error, Error::Ambiguous { .. }),
        "the hung one may have it: {error}"
    );
    shows(&a, "the problem", |picture| {
        picture.problem.is_some() && picture.cluster.is_none()
    })
    .await;

    let alone = Store::start(options(vec![gone.clone()], "a")).unwrap();
    let error = alone.run(&config, within(500)).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. }),
        "refused connections leave no doubt: {error}"
    );
    assert!(Store::start(options(vec![], "a")).is_err());
}

#[tokio::test]
async fn members_are_discovered_and_carry_on_alone() {
    let mut etcd = Etcd::start(3).await;
    let mut other = etcd.client(0).await;
    eventually("all have told their addresses", async || {
        let list = other.member_list().await.ok()?;
        let told = |member: &etcd_client::Member| !member.client_urls().is_empty();
        list.members().iter().all(told).then_some(())
    })
    .await;
    let mut wanted = options(vec![etcd.members[0].endpoint.clone()], "a");
    wanted.discovery = true;
    let a = started(wanted).await;
    // Known by its effect: the configured endpoint goes, and operations still work.
    let begin = clock();
    etcd.members[0].kill();
    let answer = a.run(&Op::Refresh, clock() + PATIENCE).await;
    assert!(matches!(answer, Ok(Answer::Done { .. })), "{answer:?}");
    eprintln!(
        "first operation without it after {:?}",
        clock().since(begin)
    );
    let fresh = clock();
    let proof = async || (a.picture().borrow().fresh_at > fresh).then_some(());
    eventually("the picture through another member", proof).await;
    eprintln!("first proof without it after {:?}", clock().since(begin));
    acquire(&a).await;
}

/// Settings read again: from an endpoint that is no use to one that works, and back to another.
/// The leases and what hangs on them stay.
#[tokio::test]
async fn other_endpoints_take_the_place_of_those_of_before() {
    let etcd = Etcd::start(1).await;
    let mut wrong = options(vec![closed()], "a");
    wrong.discovery = false;
    let a = Store::start(wrong.clone()).unwrap();
    let is_problem = |picture: &pgherd_dcs::Picture| picture.problem.is_some();
    shows(&a, "nothing answers", is_problem).await;
    let mut right = options(etcd.endpoints(), "b");
    right.discovery = false;
    let empty = pgherd_dcs::Options {
        endpoints: Vec::new(),
        ..right.clone()
    };
    assert!(matches!(a.change(empty), Err(Error::Settings(_))));
    a.change(right).unwrap();
    let there = |picture: &pgherd_dcs::Picture| picture.cluster.is_some();
    let seen = shows(&a, "the cluster is read", there).await;
    assert_ne!(seen.etcd, 0, "revisions are those of one etcd");

    let mut lease = a.leader_lease();
    let renewed = lease.renew(Span::from_secs(5)).await.unwrap();
    acquire(&a).await;
    let held = shows(&a, "the lock", |picture| {
        let cluster = picture.cluster.as_ref();
        cluster.is_some_and(|cluster| cluster.leader.is_some())
    });
    let leader = held.await.cluster.unwrap().leader.clone().unwrap();
    // The name of the first options stays.
    assert_eq!((leader.name.as_str(), leader.lease), ("a", renewed.lease));

    // Through a proxy that is new to it: renewals, writes and the watch go there at once.
    let proxy = Relay::start(&etcd.members[0].endpoint).await;
    let mut moved = options(vec![proxy.endpoint.clone()], "a");
    moved.discovery = false;
    a.change(moved).unwrap();
    let again = lease.renew(Span::from_secs(5)).await.unwrap();
    assert_eq!(again.lease, renewed.lease);
    a.run(&Op::Refresh, within(5_000)).await.unwrap();
    eventually(
        "renewals and the rest use it, each on a connection of its own",
        async || (proxy.connections() >= 2).then_some(()),
    )
    .await;
    assert_eq!(a.leader_lease_id(), renewed.lease);
}

/// Passes bytes on to one endpoint.
struct Relay {
    endpoint: String,
    count: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Relay {
    async fn start(to: &str) -> Relay {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = listener.await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let count = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let (to, seen) = (to.to_owned(), count.clone());
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let to = to.clone();
                tokio::spawn(async move {
                    let mut there = tokio::net::TcpStream::connect(&to).await.unwrap();
                    let copied = tokio::io::copy_bidirectional(&mut here, &mut there);
                    drop(copied.await);
                });
            }
        });
        Relay { endpoint, count }
    }

    fn connections(&self) -> usize {
        self.count.load(std::sync::atomic::Ordering::Relaxed)
    }
}
