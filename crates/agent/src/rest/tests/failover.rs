//! `/switchover` and `/failover`: judgement, asking the candidates, and the wait for the outcome.

use super::super::failover::{Sight, Watch};
use super::{Got, Node, cluster, leader, member, primary};
use axum::Router;
use axum::routing::get;
use pgherd_model::{Failover, Role, Span};
use pgherd_wire::patroni::rest::Outcome;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A member's REST API that answers with this document; its `api_url`.
async fn peer(document: Value) -> String {
    let answer = document.to_string();
    let app = Router::new().route("/patroni", get(move || async move { answer }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

fn good() -> Value {
    json!({"state": "running", "role": "replica", "xlog": {"received_location": 1, "replayed_location": 1}})
}

/// A node in whose cluster n1 answers like this.
async fn node(n1: Value) -> Arc<Node> {
    let url = peer(n1).await;
    let node = Node::of(primary(), true).await;
    node.change(|cluster| {
        cluster.members.get_mut(&"n1".into()).unwrap().value = member("n1", &url);
    });
    Arc::new(node)
}

async fn asked(
    node: &Arc<Node>,
    path: &'static str,
    body: &'static str,
) -> tokio::task::JoinHandle<Got> {
    let before = node
        .cluster
        .lock()
        .unwrap()
        .failover
        .as_ref()
        .map(|key| key.revision);
    let (caller, mut picture) = (node.clone(), node.picture.subscribe());
    let call = tokio::spawn(async move { caller.call("POST", path, body).await });
    let written = picture.wait_for(|picture| {
        let key = picture
            .cluster
            .as_ref()
            .and_then(|cluster| cluster.failover.as_ref());
        key.is_some_and(|key| Some(key.revision) != before)
    });
    tokio::time::timeout(Span::from_secs(10), written)
        .await
        .expect("the key is written")
        .unwrap();
    call
}

fn take_over(node: &Node, name: &str) {
    node.change(|cluster| {
        cluster.leader = leader(name);
        cluster.failover.as_mut().unwrap().value = Failover::default();
        cluster.members.get_mut(&name.into()).unwrap().value.role = Some(Role::Primary);
    });
}

#[tokio::test]
async fn a_switchover_answers_when_the_new_leader_runs() {
    let node = node(good()).await;
    let call = asked(&node, "/switchover", r#"{"leader":"n0","candidate":"n1"}"#).await;
    let request = node.cluster.lock().unwrap().failover.clone().unwrap().value;
    assert_eq!(request.leader, Some("n0".into()));
    assert_eq!(request.member, Some("n1".into()));
    // The lock is free, then taken, then its holder runs: only the last is the end.
    node.change(|cluster| cluster.leader = None);
    node.change(|cluster| cluster.leader = leader("n1"));
    tokio::task::yield_now().await;
    assert!(!call.is_finished());
    take_over(&node, "n1");
    let got = call.await.unwrap();
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, r#"Successfully switched over to "n1""#)
    );
    assert_eq!(got.header("content-type"), Some("text/html"));
}

/// As Patroni, which writes whatever is in the key; but not for ever.
#[tokio::test]
async fn a_request_that_comes_between_others_is_written_all_the_same() {
    let node = node(good()).await;
    let body = r#"{"leader":"n0","candidate":"n1","scheduled_at":"2130-01-01T00:00Z"}"#;
    for (others, status, text) in [
        (2, 202, "Switchover scheduled"),
        (3, 503, "failed to write failover key into DCS"),
    ] {
        node.crossed.store(others, Ordering::SeqCst);
        let got = node.call("POST", "/switchover", body).await;
        assert_eq!((got.status, got.body.as_str()), (status, text), "{others}");
    }
}

#[tokio::test]
async fn another_than_the_candidate_is_told() {
    let node = node(good()).await;
    let call = asked(&node, "/switchover", r#"{"leader":"n0","candidate":"n1"}"#).await;
    take_over(&node, "n2");
    let got = call.await.unwrap();
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, r#"Switched over to "n2" instead of "n1""#)
    );
}

#[tokio::test]
async fn a_failover_has_words_of_its_own() {
    let node = node(good()).await;
    let call = asked(&node, "/failover", r#"{"candidate":"n1"}"#).await;
    assert_eq!(
        node.cluster
            .lock()
            .unwrap()
            .failover
            .clone()
            .unwrap()
            .value
            .leader,
        None
    );
    take_over(&node, "n1");
    assert_eq!(
        call.await.unwrap().body,
        r#"Successfully failed over to "n1""#
    );
}

#[tokio::test]
async fn a_request_that_vanishes_has_failed() {
    let node = node(good()).await;
    let call = asked(&node, "/switchover", r#"{"leader":"n0"}"#).await;
    node.change(|cluster| cluster.failover.as_mut().unwrap().value = Failover::default());
    let got = call.await.unwrap();
    assert_eq!((got.status, got.body.as_str()), (503, "Switchover failed"));
}

#[tokio::test]
async fn unfit_candidates_are_refused_before_anything_is_written() {
    for unfit in [
        json!({"state": "stopped", "role": "replica"}),
        json!({"state": "running", "role": "replica", "xlog": {}, "tags": {"nofailover": true}}),
        json!({"state": "running", "role": "replica", "xlog": {}, "watchdog_failed": true}),
        json!("no document"),
    ] {
        let node = node(unfit).await;
        for (path, body, action) in [
            (
                "/switchover",
                r#"{"leader":"n0","candidate":"n1"}"#,
                "switchover",
            ),
            ("/switchover", r#"{"leader":"n0"}"#, "switchover"),
            ("/failover", r#"{"candidate":"n1"}"#, "failover"),
        ] {
            let got = node.call("POST", path, body).await;
            let text = format!("{action} is not possible: no good candidates have been found");
            assert_eq!((got.status, got.body), (412, text));
        }
        assert_eq!(
            node.cluster
                .lock()
                .unwrap()
                .failover
                .as_ref()
                .unwrap()
                .revision,
            8
        );
    }
}

#[tokio::test]
async fn the_first_row_that_fails_answers() {
    let node = node(good()).await;
    for (path, body, status, text) in [
        (
            "/failover",
            r#"{"leader":"n0"}"#,
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            "/switchover",
            r#"{"candidate":"n1"}"#,
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","candidate":"n0"}"#,
            400,
            "Switchover target and source are the same",
        ),
        (
            "/switchover",
            r#"{"leader":"n1","candidate":"n2"}"#,
            412,
            "leader name does not match",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","candidate":"n9"}"#,
            412,
            "candidate does not exists",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","scheduled_at":"2030-01-01T00:00"}"#,
            400,
            "Timezone information is mandatory for the scheduled switchover",
        ),
    ] {
        let got = node.call("POST", path, body).await;
        assert_eq!(
            (got.status, got.body.as_str()),
            (status, text),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn times_are_judged_before_names() {
    let node = node(good()).await;
    for (path, body, status, text) in [
        (
            "/failover",
            r#"{"leader":"n0","candidate":"n1","scheduled_at":"2130-01-01T00:00Z"}"#,
            400,
            "Failover can't be scheduled",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","scheduled_at":"soon"}"#,
            422,
            "Unable to parse scheduled timestamp. It should be in an unambiguous format, e.g. ISO 8601",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","candidate":"n0","scheduled_at":"2001-01-01T00:00Z"}"#,
            422,
            "Cannot schedule switchover in the past",
        ),
        (
            "/switchover",
            r#"{"leader":"n0","candidate":"n0","scheduled_at":"2130-01-01T00:00Z"}"#,
            400,
            "Switchover target and source are the same",
        ),
    ] {
        let got = node.call("POST", path, body).await;
        assert_eq!(
            (got.status, got.body.as_str()),
            (status, text),
            "{path} {body}"
        );
    }
}

#[tokio::test]
async fn a_scheduled_switchover_is_kept_and_can_be_deleted() {
    let node = node(good()).await;
    let got = node.call("DELETE", "/switchover", "").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (404, "no switchover is scheduled")
    );
    let body = r#"{"leader":"n0","candidate":"n1","scheduled_at":"2130-01-01T00:00+00:00"}"#;
    let got = node.call("POST", "/switchover", body).await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (202, "Switchover scheduled")
    );
    let shown = node.get("/cluster").await.json();
    assert_eq!(
        shown["scheduled_switchover"],
        json!({"at": "2130-01-01T00:00:00+00:00", "from": "n0", "to": "n1"})
    );
    let got = node.call("DELETE", "/switchover", "").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (200, "scheduled switchover deleted")
    );
    assert!(node.cluster.lock().unwrap().failover_request().is_none());
}

/// Who leads, and who could take over, is judged when it is due.
#[tokio::test]
async fn a_scheduled_switchover_asks_nobody_and_replaces_the_one_before() {
    let node = node(json!({})).await;
    for (leader, candidate) in [("n1", "n9"), ("n0", "n2")] {
        let body = json!({
            "leader": leader,
            "candidate": candidate,
            "scheduled_at": "2130-01-01T02:00:00+02:00"
        });
        let got = node.call("POST", "/switchover", &body.to_string()).await;
        assert_eq!(
            (got.status, got.body.as_str()),
            (202, "Switchover scheduled")
        );
        let shown = node.get("/cluster").await.json();
        let at = "2130-01-01T02:00:00+02:00";
        let expected = json!({"at": at, "from": leader, "to": candidate});
        assert_eq!(shown["scheduled_switchover"], expected);
    }
    // One that is to happen at once is not a scheduled one.
    node.change(|cluster| {
        let request = &mut cluster.failover.as_mut().unwrap().value;
        request.scheduled_at = None;
    });
    assert!(
        node.get("/cluster")
            .await
            .json()
            .get("scheduled_switchover")
            .is_none()
    );
    let got = node.call("DELETE", "/switchover", "").await;
    assert_eq!(got.status, 404);
}

/// The configuration that counts is the one in the lock service, not the one that the loop knows.
#[tokio::test]
async fn a_paused_cluster_takes_no_schedule() {
    let node = node(good()).await;
    node.change(|cluster| {
        cluster.config.as_mut().unwrap().value.text = r#"{"pause":true}"#.into();
    });
    for time in ["2130-01-01T00:00Z", "soon", "2001-01-01T00:00Z"] {
        let body = json!({"leader": "n0", "scheduled_at": time}).to_string();
        let got = node.call("POST", "/switchover", &body).await;
        let text = "Can't schedule switchover in the paused state";
        assert_eq!((got.status, got.body.as_str()), (400, text));
    }
}

#[test]
fn pictures_older_than_the_write_say_nothing() {
    let watch = Watch {
        old: Some("n0".into()),
        revision: 11,
        grace: Span::ZERO,
    };
    let mut seen = cluster();
    assert_eq!(watch.judge(&seen), Sight::Nothing);
    seen.revision = 11;
    assert_eq!(watch.judge(&seen), Sight::Over(Outcome::Failed));
    seen.failover.as_mut().unwrap().value.member = Some("n1".into());
    assert_eq!(watch.judge(&seen), Sight::Nothing);
    // The winner cleans up before its role is published; a free lock is no failure.
    seen.failover.as_mut().unwrap().value.member = None;
    seen.leader = None;
    assert_eq!(watch.judge(&seen), Sight::Nothing);
    seen.leader = leader("n1");
    assert_eq!(watch.judge(&seen), Sight::Taken("n1".into()));
    seen.members.get_mut(&"n1".into()).unwrap().value.role = Some(Role::Primary);
    assert_eq!(
        watch.judge(&seen),
        Sight::Over(Outcome::Done {
            new_leader: "n1".into()
        })
    );
}
