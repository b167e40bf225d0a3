//! What etcd's members say of their raft states, with and without a quorum.

use crate::harness::{Etcd, eventually, options, started, store};
use pgherd_dcs::{RaftStates, Store};
use pgherd_model::{RaftAnswer, Span};
use std::collections::BTreeMap;
use tokio::time::{Instant, timeout};

const PAUSE: Span = Span::from_millis(50);
const LIMIT: Span = Span::from_millis(500);

/// Who votes, learnt within a deadline.
pub(crate) async fn voters(states: &RaftStates, count: usize) -> Vec<u64> {
    eventually("the voters are known", async || {
        states.learn();
        Some(states.voters()).filter(|voters| voters.len() == count)
    })
    .await
}

/// The last answer of everybody who answers until `enough`.
async fn told(
    states: &mut RaftStates,
    enough: impl Fn(&BTreeMap<u64, RaftAnswer>) -> bool,
) -> BTreeMap<u64, RaftAnswer> {
    let deadline = Instant::now() + Span::from_secs(10);
    let mut told = BTreeMap::new();
    while !enough(&told) {
        assert!(Instant::now() < deadline, "only {told:?}");
        if let Ok(answer) = timeout(LIMIT, states.next(PAUSE, LIMIT)).await {
            assert!(answer.asked <= answer.answered, "{answer:?}");
            told.insert(answer.member, answer);
        }
    }
    told
}

/// So many members tell their terms.
pub(crate) async fn tell(store: &Store, count: usize) -> BTreeMap<u64, RaftAnswer> {
    told(&mut store.raft_states(), |told| told.len() == count).await
}

#[tokio::test]
async fn members_without_a_leader_tell_how_far_they_are() {
    let mut etcd = Etcd::start(3).await;
    let leader = etcd.leader(0).await;
    // Each twice: an address more is no member more.
    let addresses = [etcd.endpoints(), etcd.endpoints()].concat();
    let a = store(addresses, "a").await;
    let mut states = a.raft_states();
    assert_eq!(states.voters(), Vec::<u64>::new(), "nobody has been asked");
    let voters = voters(&states, 3).await;
    let before = told(&mut states, |told| told.len() == 3).await;
    let mut ids: Vec<u64> = before.keys().copied().collect();
    ids.sort_unstable();
    let mut known = voters.clone();
    known.sort_unstable();
    assert_eq!(ids, known, "ids are those of the list of members");
    let term = before.values().map(|told| told.term).max().unwrap();

    let mut other = etcd.client((leader + 1) % 3).await;
    let dead = other.status().await.unwrap().leader();
    etcd.members[leader].kill();
    etcd.members[(leader + 1) % 3].kill();
    // The last one stands for election again and again, and says so.
    let alone = told(&mut a.raft_states(), |told| {
        told.values().any(|told| told.term > term + 1)
    })
    .await;
    assert_eq!(alone.len(), 1, "{alone:?}");
    assert!(!alone.contains_key(&dead));
    assert_eq!(states.voters(), voters, "known from before");
}

#[tokio::test]
async fn a_learner_does_not_vote() {
    let etcd = Etcd::start(1).await;
    let a = started(options(etcd.endpoints(), "a")).await;
    let mut client = etcd.client(0).await;
    let adding = etcd_client::MemberAddOptions::new().with_is_learner();
    client
        .member_add(["http://127.0.0.1:1"], Some(adding))
        .await
        .unwrap();
    let states = a.raft_states();
    let own = tell(&a, 1).await.into_keys().collect::<Vec<_>>();
    assert_eq!(voters(&states, 1).await, own);
}
