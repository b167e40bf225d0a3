//! Each operation: done when its guard holds, refused and without effect when it does not.

use crate::harness::{Etcd, acquire, cluster, done, run, shows, store, take, within};
use etcd_client::PutOptions;
use pgherd_dcs::{Error, Picture, Store};
use pgherd_model::{
    Answer, Failover, HistoryLine, Initialize, Lsn, Member, MemberName, Op, Status, Sync, SystemId,
    Timeline,
};
use pgherd_wire::patroni::dcs::member_from_json;
use std::collections::BTreeMap;

fn member(name: &str, text: &str) -> Member {
    member_from_json(MemberName::from(name), text, 0)
}

async fn refused(store: &Store, op: Op) {
    let before = cluster(store);
    let answer = run(store, op.clone()).await;
    assert_eq!(answer, Answer::Refused, "{op:?}");
    let after = cluster(store);
    let same = |cluster: pgherd_model::Cluster| pgherd_model::Cluster {
        revision: 0,
        ..cluster
    };
    assert_eq!(same(before), same(after), "{op:?} changed something");
}

#[tokio::test]
async fn the_lock_belongs_to_one_and_to_its_term() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let b = store(etcd.endpoints(), "b").await;
    let early = a.run(&take(&a), within(2_000)).await;
    assert!(matches!(early, Err(Error::NoLease { .. })), "{early:?}");

    let term = acquire(&a).await;
    let leader = cluster(&a).leader.unwrap();
    assert_eq!(leader.name.as_str(), "a");
    assert_eq!(leader.lease, a.leader_lease_id());
    refused(&a, take(&a)).await;

    b.leader_lease()
        .renew(crate::harness::PATIENCE)
        .await
        .unwrap();
    assert_eq!(run(&b, take(&b)).await, Answer::Refused);
    let seen = cluster(&b).leader.unwrap();
    assert_eq!(seen, leader, "a refusal comes with what stood in the way");
    for create_revision in [term, term + 1] {
        refused(&b, Op::ReattachLeader { create_revision }).await;
        let release = Op::ReleaseLeader {
            create_revision,
            mod_revision: create_revision,
            status: None,
            member: None,
        };
        refused(&b, release).await;
    }

    // Somebody put our name under another lease: it is ours still, and can be re-attached.
    let mut other = etcd.client(0).await;
    other.put("/service/c/leader", "a", None).await.unwrap();
    let wrong = Op::ReattachLeader {
        create_revision: term + 1,
    };
    refused(&a, wrong).await;
    let reattach = Op::ReattachLeader {
        create_revision: term,
    };
    done(&a, reattach).await;
    let leader = cluster(&a).leader.unwrap();
    assert_eq!(
        (leader.lease, leader.create_revision),
        (a.leader_lease_id(), term)
    );
}

#[tokio::test]
async fn release_shows_the_free_lock_and_the_reason_in_one_revision() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let b = store(etcd.endpoints(), "b").await;
    let term = acquire(&a).await;
    let status = Status {
        optime: Lsn(77),
        ..Status::default()
    };
    let release = |create_revision, mod_revision| Op::ReleaseLeader {
        create_revision,
        mod_revision,
        status: Some(status.clone()),
        member: Some(member("a", r#"{"role":"demoted","state":"stopping"}"#)),
    };
    refused(&a, release(term + 1, term + 1)).await;
    // It was put under another lease since the order was given: whoever did that goes on.
    a.run(
        &Op::ReattachLeader {
            create_revision: term,
        },
        within(5000),
    )
    .await
    .unwrap();
    refused(&a, release(term, term)).await;
    let changed = cluster(&a).leader.unwrap().mod_revision;
    assert!(changed > term);
    let mut pictures = b.picture();
    pictures.mark_unchanged();
    let revision = done(&a, release(term, changed)).await;
    let seen = pictures
        .wait_for(|picture| {
            let cluster = picture.cluster.as_ref().unwrap();
            assert_eq!(
                cluster.leader.is_none(),
                cluster.status.is_some(),
                "all at once"
            );
            cluster.leader.is_none()
        })
        .await
        .unwrap()
        .clone();
    let cluster = seen.cluster.unwrap();
    assert_eq!(cluster.revision, revision);
    assert_eq!(cluster.optime(), Some(Lsn(77)));
    let own = cluster.member(&"a".into()).unwrap();
    assert_eq!(own.lease, a.member_lease_id());
    refused(&a, release(term, changed)).await;
    let next = acquire(&b).await;
    assert!(next > term);
}

#[tokio::test]
async fn what_the_leader_writes_needs_its_term() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let term = acquire(&a).await;
    let sync = |expected, term| Op::PutSync {
        sync: Sync {
            leader: Some("a".into()),
            standbys: vec!["b".into()],
            quorum: 0,
        },
        expected,
        term,
    };
    let by_term: [&dyn Fn(u64) -> Op; 3] = [
        &|term| Op::PutStatus {
            status: Status {
                optime: Lsn(term),
                ..Status::default()
            },
            term,
        },
        &|term| Op::PutFailsafe {
            members: BTreeMap::from([("a".to_owned(), "http://a".to_owned())]),
            expected: None,
            term,
        },
        &|term| Op::PutHistory {
            history: vec![HistoryLine {
                timeline: Timeline(1),
                end: Lsn(5),
                reason: "no recovery target specified".into(),
                timestamp: None,
                leader: None,
            }],
            term,
        },
    ];
    for op in by_term {
        refused(&a, op(term - 1)).await;
        done(&a, op(term)).await;
    }
    let shown = cluster(&a);
    assert_eq!(shown.optime(), Some(Lsn(term)));
    assert_eq!(shown.failsafe.unwrap().value.len(), 1);
    assert_eq!(shown.history.unwrap().value.len(), 1);

    refused(&a, sync(None, term + 1)).await;
    refused(&a, sync(Some(1), term)).await;
    let first = done(&a, sync(None, term)).await;
    refused(&a, sync(None, term)).await;
    let second = done(&a, sync(Some(first), term)).await;
    let delete = |expected, term| Op::DeleteSync { expected, term };
    refused(&a, delete(first, term)).await;
    refused(&a, delete(second, term + 1)).await;
    done(&a, delete(second, term)).await;
    assert!(cluster(&a).sync.is_none());

    // The lock goes: nothing of the leader's is accepted any more.
    let mut other = etcd.client(0).await;
    other.put("/service/c/leader", "b", None).await.unwrap();
    for op in by_term {
        assert_eq!(run(&a, op(term)).await, Answer::Refused);
    }
    assert_eq!(cluster(&a).leader_name(), Some(&"b".into()));
}

#[tokio::test]
async fn what_anybody_writes_needs_the_revision_it_was_seen_at() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let b = store(etcd.endpoints(), "b").await;

    let initialize = |system_id, expected| Op::PutInitialize {
        system_id,
        expected,
    };
    let race = done(&a, initialize(None, None)).await;
    assert_eq!(run(&b, initialize(None, None)).await, Answer::Refused);
    let seen = cluster(&b).initialize.unwrap();
    assert_eq!((seen.value, seen.revision), (Initialize::UnderWay, race));
    let id = Some(SystemId(7710413211832022599));
    refused(&b, initialize(id, Some(race - 1))).await;
    let whole = done(&a, initialize(id, Some(race))).await;
    assert_eq!(cluster(&a).system_id(), id);
    refused(&a, Op::DeleteInitialize { expected: race }).await;
    done(&a, Op::DeleteInitialize { expected: whole }).await;

    let config = |text: &str, expected| Op::PutConfig {
        text: text.into(),
        expected,
    };
    let first = done(&a, config(r#"{"ttl":30}"#, None)).await;
    refused(&a, config("{}", None)).await;
    refused(&a, config("{}", Some(first + 9))).await;
    done(&a, config(r#"{"ttl":20}"#, Some(first))).await;
    assert_eq!(cluster(&a).config.unwrap().value.text, r#"{"ttl":20}"#);

    let failover = |to: &str, expected| Op::PutFailover {
        failover: Failover {
            member: Some(to.into()),
            ..Failover::default()
        },
        expected,
    };
    let asked = done(&a, failover("b", None)).await;
    refused(&a, failover("c", None)).await;
    let clean = Op::PutFailover {
        failover: Failover::default(),
        expected: Some(asked),
    };
    done(&a, clean).await;
    let shown = cluster(&a);
    assert!(shown.failover.is_some() && shown.failover_request().is_none());
}

#[tokio::test]
async fn a_members_key_lives_under_its_lease_which_is_granted_anew_when_it_is_gone() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    assert!(
        !a.keep_alive_member(within(2_000)).await.unwrap(),
        "there is none yet"
    );
    let put = |xlog: u64| Op::PutMember(member("a", &format!(r#"{{"xlog_location":{xlog}}}"#)));
    done(&a, put(1)).await;
    assert!(a.keep_alive_member(within(2_000)).await.unwrap());
    let lease = a.member_lease_id();
    assert_eq!(cluster(&a).member(&"a".into()).unwrap().lease, lease);

    let mut other = etcd.client(0).await;
    // A write is guarded by what was seen: it is refused until the store knows that the key has gone.
    let gone = |picture: &Picture| {
        let cluster = picture.cluster.as_ref().unwrap();
        cluster.member(&"a".into()).is_none()
    };
    other.lease_revoke(lease).await.unwrap();
    shows(&a, "the key has gone", gone).await;
    done(&a, put(2)).await;
    let renewed = a.member_lease_id();
    assert_ne!(renewed, lease);
    let shown = cluster(&a);
    let own = shown.member(&"a".into()).unwrap();
    assert_eq!((own.lease, own.xlog_location), (renewed, Some(Lsn(2))));

    other.lease_revoke(renewed).await.unwrap();
    shows(&a, "the key has gone again", gone).await;
    assert!(!a.keep_alive_member(within(2_000)).await.unwrap());

    // Another ttl takes another lease.
    done(&a, put(3)).await;
    let before = a.member_lease_id();
    a.set_lives(
        std::time::Duration::from_secs(20),
        std::time::Duration::from_secs(5),
    );
    assert!(!a.keep_alive_member(within(2_000)).await.unwrap());
    done(&a, put(4)).await;
    assert_ne!(a.member_lease_id(), before);
    let life = other
        .lease_time_to_live(a.member_lease_id(), None)
        .await
        .unwrap();
    assert_eq!(life.granted_ttl(), 20);
}

#[tokio::test]
async fn a_strangers_write_is_seen_at_once_and_unknown_keys_do_no_harm() {
    let etcd = Etcd::start(1).await;
    let a = store(etcd.endpoints(), "a").await;
    let mut other = etcd.client(0).await;
    let lease = other.lease_grant(60, None).await.unwrap().id();
    other
        .put("/service/c/strange/thing", "x", None)
        .await
        .unwrap();
    other
        .put("/service/c/members/z", "not json", None)
        .await
        .unwrap();
    let mut gaps = Vec::new();
    for round in 0..20 {
        let mut pictures = a.picture();
        let holder = MemberName(format!("p{round}"));
        let options = PutOptions::new().with_lease(lease);
        other
            .put("/service/c/leader", holder.as_str(), Some(options))
            .await
            .unwrap();
        let written = std::time::Instant::now();
        pictures
            .wait_for(|picture| picture.cluster.as_ref().unwrap().leader_name() == Some(&holder))
            .await
            .unwrap();
        gaps.push(written.elapsed());
    }
    gaps.sort();
    eprintln!(
        "event after its write was answered: median {:?}, worst {:?}",
        gaps[10], gaps[19]
    );
    assert!(gaps[10] < std::time::Duration::from_millis(50), "{gaps:?}");
    assert!(cluster(&a).member(&"z".into()).is_some());
}
