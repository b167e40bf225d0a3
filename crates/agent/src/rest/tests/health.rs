//! Health checks: which path says yes on which node (contract: patroni-rest, section 4).

use super::{NOW, Node, cluster, look, primary, replica};
use crate::rest::health::Health;
use crate::rest::query::Query;
use crate::snapshot::Snapshot;
use axum::http::Uri;
use pgherd_model::{Lsn, PostgresState, Role, Span, Stored, Sync, SynchronousMode, Tags};
use std::sync::Arc;

fn check(snapshot: &Snapshot, uri: &str) -> bool {
    let uri: Uri = uri.parse().unwrap();
    Health::at(snapshot, NOW).check(uri.path(), &Query::of(&uri))
}

#[track_caller]
fn table(snapshot: &Snapshot, yes: &str, no: &str) {
    for uri in yes.split_whitespace() {
        assert!(check(snapshot, uri), "{uri} must be 200");
    }
    for uri in no.split_whitespace() {
        assert!(!check(snapshot, uri), "{uri} must be 503");
    }
}

#[test]
fn a_leader_answers_to_all_words_for_it() {
    table(
        &primary(),
        "/ /leader /primary /master /read-write /read-only /health /foo/primary /leader-x /xhealth \
         /read-only-sync /read-only-synchronous /read-only-quorum /primary?tag_x=1 /replica-master",
        "/replica /standby_leader /standby-leader /sync /async /quorum /asynchronous /foo /switchover \
         /Primary /LEADER /read-only?tag_x=1 /health?tag_x=1",
    );
}

#[test]
fn a_replica_answers_to_its_own() {
    table(
        &replica(),
        "/replica /read-only /health /async /asynchronous /xreplica /replica?lag=2000 /replica?lag=10kB \
         /replica?lag=bad /replica?lag= /replica?lag=0x800 /replica?lag=04000",
        "/ /leader /primary /master /read-write /standby-leader /sync /synchronous /quorum /foo \
         /read-only-sync /read-only-quorum /replica?lag=1999 /replica?lag=0 /async?lag=1kB /readonly",
    );
}

#[test]
fn the_lock_counts_only_until_its_deadline() {
    let mut late = primary();
    late.leader_until = Some(NOW);
    table(&late, "/health", "/ /leader /primary /read-only /replica");
}

#[test]
fn a_leader_that_still_promotes_is_primary() {
    let mut promoting = primary();
    promoting.look = Some(look(true));
    promoting.role = Role::Promoted;
    table(&promoting, "/ /primary /leader", "/standby_leader");
}

#[test]
fn a_replica_must_run_and_be_wanted() {
    let mut unwanted = replica();
    unwanted.tags.noloadbalance = true;
    table(&unwanted, "/health", "/replica /read-only /async");

    let mut silent = replica();
    silent.look = None;
    table(&silent, "", "/replica /health /async");

    let mut stopped = replica();
    stopped.state = PostgresState::Stopped;
    table(&stopped, "", "/replica /health /read-only");
}

/// A loop that hangs tells nothing any more, whatever it has told.
#[test]
fn what_was_seen_long_ago_does_not_count() {
    let at = |snapshot: &Snapshot, age: Span, uri: &'static str| {
        let uri = Uri::from_static(uri);
        Health::at(snapshot, NOW + age).check(uri.path(), &Query::of(&uri))
    };
    let mut node = replica();
    let (loop_wait, more) = (node.settings.loop_wait, Span::from_millis(1));
    for uri in ["/replica", "/health", "/async", "/read-only"] {
        assert!(at(&node, loop_wait, uri), "{uri}");
        assert!(!at(&node, loop_wait + more, uri), "{uri}");
    }
    node.settings.loop_wait = Span::from_secs(1);
    assert!(at(&node, Span::from_secs(5), "/replica"));
    assert!(!at(&node, Span::from_secs(5) + more, "/replica"));
    // The leader's word is its lease.
    let mut leader = primary();
    leader.leader_until = Some(NOW + Span::from_secs(20));
    assert!(at(&leader, Span::from_secs(19), "/primary"));
    assert!(!at(&leader, Span::from_secs(19), "/health"));
}

/// It is asked anew for whoever asks for more than a health check.
#[tokio::test]
async fn a_fresh_answer_counts_also_while_the_loop_hangs() {
    let mut node = replica();
    node.tick = NOW - Span::from_secs(60);
    node.looked = node.tick;
    let node = Node::of(node, false).await;
    assert_eq!(node.get("/replica").await.json()["state"], "unknown");
    let document = node.get("/patroni").await.json();
    assert_eq!(document["state"], "running");
    assert_eq!(node.get("/readiness?lag=1GB").await.status, 200);
}

/// The loop has only glanced since, and found nothing new.
#[tokio::test]
async fn what_was_confirmed_goes_on_to_hold() {
    let mut old = primary();
    old.tick = NOW - Span::from_secs(60);
    old.looked = old.tick;
    old.leader_until = Some(NOW - Span::from_secs(40));
    let health = |snapshot: &Snapshot| {
        let health = Health::at(snapshot, NOW);
        let answers = health.look().is_some();
        (answers, health.liveness(), health.holds_lock())
    };
    assert_eq!(health(&old), (false, false, false));
    let (at, renewed) = (NOW - Span::from_millis(900), NOW + Span::from_secs(9));
    old.confirmed.set(at, 1_795_220_480, Some(renewed));
    assert_eq!(health(&old), (true, true, true));
    // Whoever did not hold the lock does not by that.
    let mut follows = replica();
    follows.confirmed = old.confirmed.clone();
    assert_eq!(health(&follows), (true, true, false));
    // What is shown moves on with it, although it is the same snapshot.
    let confirmed = old.confirmed.clone();
    let node = Node::of(old, false).await;
    let seen = async || node.get("/primary").await.json()["dcs_last_seen"].clone();
    assert_eq!(seen().await, 1_795_220_480);
    confirmed.set(NOW, 1_795_220_481, Some(renewed));
    assert_eq!(seen().await, 1_795_220_481);
}

#[test]
fn lag_counts_from_the_later_of_status_and_receiver() {
    let mut told = replica();
    told.look
        .as_mut()
        .unwrap()
        .receiver
        .as_mut()
        .unwrap()
        .latest_end = Lsn(9000);
    table(&told, "/replica?lag=6000", "/replica?lag=5999");

    let mut unknown = replica();
    unknown.look.as_mut().unwrap().receiver = None;
    unknown.dcs_unreachable = true;
    table(&unknown, "/replica?lag=0", "/async");
}

#[test]
fn synchronous_standbys_are_those_that_sync_names() {
    let with = |mode| {
        let mut cluster = cluster();
        cluster.sync = Some(Stored {
            value: Sync {
                leader: Some("n0".into()),
                standbys: vec!["N1".into()],
                quorum: 0,
            },
            revision: 5,
        });
        let mut snapshot = replica();
        snapshot.cluster = Some(Arc::new(cluster));
        snapshot.settings.synchronous_mode = mode;
        snapshot
    };
    table(
        &with(SynchronousMode::On),
        "/sync /synchronous /read-only-sync /read-only-synchronous /replica /read-only",
        "/async /asynchronous /quorum /read-only-quorum /sync/x",
    );
    table(
        &with(SynchronousMode::Quorum),
        "/quorum /read-only-quorum /replica",
        "/sync /synchronous /read-only-sync /async",
    );
    table(
        &with(SynchronousMode::Off),
        "/async",
        "/sync /quorum /read-only-sync",
    );

    // Who leads does not depend on it, while the lease lasts.
    let mut leader = primary();
    leader.dcs_unreachable = true;
    table(
        &leader,
        "/read-only-sync /read-only-synchronous /read-only-quorum /read-only",
        "/sync /async /quorum",
    );

    let mut blind = with(SynchronousMode::On);
    blind.dcs_unreachable = true;
    table(&blind, "/replica", "/sync /async /quorum /read-only-sync");

    let mut elsewhere = with(SynchronousMode::On);
    elsewhere.standby_cluster = true;
    table(&elsewhere, "", "/sync");
}

#[test]
fn a_standby_leader_is_neither_primary_nor_replica() {
    let mut standby = primary();
    standby.standby_cluster = true;
    standby.role = Role::StandbyLeader;
    standby.look = Some(look(true));
    table(
        &standby,
        "/leader /standby_leader /standby-leader /read-only /health /read-only-sync",
        "/ /primary /read-write /replica /async",
    );
}

#[test]
fn without_the_lock_service_pause_goes_by_role() {
    let mut paused = primary();
    paused.settings.pause = true;
    paused.leader_until = None;
    table(&paused, "/health", "/ /leader");
    paused.dcs_unreachable = true;
    table(
        &paused,
        "/ /leader /primary /read-only",
        "/replica /standby-leader /sync",
    );
    paused.cluster = None;
    table(&paused, "/ /leader", "/replica");
}

#[test]
fn tags_are_compared_as_text() {
    let mut tagged = replica();
    tagged.tags = Tags {
        json: r#"{"zone":"a b","nofailover":true,"failover_priority":2,"gone":null}"#.into(),
        ..Tags::default()
    };
    table(
        &tagged,
        "/replica?tag_zone=a+b /replica?tag_nofailover=true /replica?tag_failover_priority=2 \
         /health?tag_zone=a%20b&tag_nofailover=true /async?tag_= /replica?tag_zone=a+b&tag_zone=c",
        "/replica?tag_zone=c /replica?tag_nofailover=True /replica?tag_other=1 /replica?tag_gone=None \
         /health?tag_zone=a%20b&tag_nofailover=false",
    );
}

#[test]
fn liveness_allows_a_standby_twice_the_time() {
    let lives = |snapshot: &Snapshot, age: u64| {
        let mut snapshot = snapshot.clone();
        snapshot.tick = NOW - Span::from_secs(age);
        Health::at(&snapshot, NOW).liveness()
    };
    assert!(lives(&primary(), 29) && !lives(&primary(), 30));
    assert!(lives(&replica(), 59) && !lives(&replica(), 60));
    // One that hangs is no standby; one that is down gets the time of others.
    let mut silent = primary();
    silent.look = None;
    assert!(!lives(&silent, 30));
    silent.state = PostgresState::Stopped;
    assert!(lives(&silent, 59) && !lives(&silent, 60));
    let mut paused = primary();
    paused.settings.pause = true;
    assert!(lives(&paused, 99));
}

#[test]
fn readiness_wants_a_standby_that_streams_and_is_near() {
    let ready = |snapshot: &Snapshot, uri: &'static str| {
        Health::at(snapshot, NOW).readiness(&Query::of(&Uri::from_static(uri)))
    };
    assert!(ready(&primary(), "/readiness?lag=0"));
    // *leader* as everywhere: in a pause, and nobody knows who holds the lock.
    let mut paused = primary();
    paused.leader_until = None;
    assert!(!ready(&paused, "/readiness"));
    paused.settings.pause = true;
    paused.dcs_unreachable = true;
    assert!(ready(&paused, "/readiness"));
    assert!(ready(&replica(), "/readiness"));
    assert!(ready(&replica(), "/readiness?lag=2000"));
    assert!(!ready(&replica(), "/readiness?lag=1999"));
    assert!(ready(&replica(), "/readiness?lag=1000&mode=write"));
    assert!(!ready(&replica(), "/readiness?lag=999&mode=write"));
    let mut broken = replica();
    broken
        .look
        .as_mut()
        .unwrap()
        .receiver
        .as_mut()
        .unwrap()
        .streaming = false;
    assert!(!ready(&broken, "/readiness"));
    let mut starting = replica();
    starting.state = PostgresState::Starting;
    assert!(!ready(&starting, "/readiness"));
    let mut far = replica();
    far.settings.maximum_lag_on_failover = 10;
    assert!(!ready(&far, "/readiness"));
    // The leader's position: from etcd, else from the stream, else nobody knows.
    let cut_off = |look: Lsn, etcd: bool| {
        let mut snapshot = replica();
        let receiver = snapshot.look.as_mut().unwrap().receiver.as_mut();
        receiver.unwrap().latest_end = look;
        match etcd {
            true => Arc::make_mut(snapshot.cluster.as_mut().unwrap()).status = None,
            false => snapshot.dcs_unreachable = true,
        }
        snapshot
    };
    for etcd in [true, false] {
        assert!(ready(&cut_off(Lsn(5000), etcd), "/readiness?lag=2000"));
        let mut nobody = cut_off(Lsn(0), etcd);
        assert!(!ready(&nobody, "/readiness"), "{etcd}");
        nobody.failsafe_active = true;
        assert!(ready(&nobody, "/readiness"));
    }
}

#[tokio::test]
async fn a_check_answers_with_the_status_document() {
    let node = Node::of(primary(), false).await;
    let healthy = node.get("/primary").await;
    assert_eq!(healthy.status, 200);
    assert_eq!(healthy.header("content-type"), Some("application/json"));
    assert_eq!(healthy.header("server"), Some("Patroni/4.1.5"));
    assert_eq!(healthy.header("x-extra"), Some("yes"));
    assert_eq!(
        healthy.body,
        "{\"state\": \"running\", \"postmaster_start_time\": \"2026-11-21 00:21:11.967788+00:00\", \
         \"role\": \"primary\", \"server_version\": 150018, \"xlog\": {\"location\": 5000}, \
         \"timeline\": 1, \"dcs_last_seen\": 1795220471, \
         \"patroni\": {\"version\": \"4.1.5\", \"scope\": \"demo\", \"name\": \"n0\"}}"
    );
    let unhealthy = node.get("/replica").await;
    assert_eq!((unhealthy.status, unhealthy.body), (503, healthy.body));
}
