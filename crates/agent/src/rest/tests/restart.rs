//! `/restart`, `/reinitialize` and `/metrics` (contract: patroni-rest, sections 5, 7 and 8).

use super::{Node, api, primary, replica};
use crate::asked::RestartEnd;
use crate::snapshot::Snapshot;
use axum::body::Body;
use axum::http::Request;
use pgherd_model::PostgresState;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Body, status and text of the answer.
type Case<'a> = (&'a str, u16, &'a str);

async fn check(snapshot: &Snapshot, cases: &[Case<'_>]) {
    for (body, status, text) in cases {
        let node = Node::of(snapshot.clone(), true).await;
        let got = node.call("POST", "/restart", body).await;
        assert_eq!((got.status, got.body.as_str()), (*status, *text), "{body}");
    }
}

#[tokio::test]
async fn a_restart_is_judged_and_waited_for() {
    let done = "restarted successfully";
    let unmet = "restart conditions are not satisfied";
    check(
        &primary(),
        &[
            ("", 200, done),
            ("{}", 200, done),
            (r#"{"role": "primary"}"#, 200, done),
            (r#"{"role": "replica"}"#, 503, unmet),
            (r#"{"postgres_version": "99.1"}"#, 200, done),
            (r#"{"postgres_version": "9.6.1"}"#, 503, unmet),
            (r#"{"restart_pending": false}"#, 503, unmet),
            (
                r#"{"foo": 1}"#,
                400,
                "Unknown filter for the scheduled restart: foo",
            ),
        ],
    )
    .await;
    let busy = Snapshot {
        under_way: Some("reinitialize".into()),
        ..replica()
    };
    let text = "reinitialize already in progress";
    check(
        &busy,
        &[("{}", 503, text), (r#"{"role": "primary"}"#, 503, unmet)],
    )
    .await;
    let starting = Snapshot {
        state: PostgresState::Starting,
        ..replica()
    };
    check(&starting, &[("{}", 503, "postgres is still starting")]).await;
}

#[tokio::test]
async fn how_a_restart_ended_is_told() {
    for (end, text) in [
        (Some(RestartEnd::Failed), "restart failed"),
        (Some(RestartEnd::Dropped), "restart failed"),
        (
            Some(RestartEnd::StillStarting),
            "postgres is still starting",
        ),
        (None, "restart already in progress"),
    ] {
        let node = Node::ending(primary(), &api(true), end).await;
        let got = node.call("POST", "/restart", "{}").await;
        assert_eq!((got.status, got.body.as_str()), (503, text));
    }
}

#[tokio::test]
async fn a_restart_can_be_scheduled_once_and_deleted() {
    let node = Node::of(primary(), true).await;
    let body = r#"{"schedule": "2130-01-01T00:00:00+00:00", "role": "primary"}"#;
    for (method, body, status, text) in [
        ("DELETE", "", 404, "no restarts are scheduled"),
        ("POST", body, 202, "Restart scheduled"),
        ("POST", body, 409, "Another restart is already scheduled"),
        ("DELETE", "", 200, "scheduled restart deleted"),
        ("POST", body, 202, "Restart scheduled"),
    ] {
        let got = node.call(method, "/restart", body).await;
        assert_eq!((got.status, got.body.as_str()), (status, text), "{method}");
    }
}

/// The configuration that counts is the one in the lock service, not the one that the loop knows. Nobody
/// asks for it where it does not matter.
#[tokio::test]
async fn a_paused_cluster_takes_no_restart_at_a_time() {
    let body = r#"{"schedule": "2130-01-01T00:00:00+00:00"}"#;
    let node = Node::of(primary(), true).await;
    node.change(|cluster| {
        cluster.config.as_mut().unwrap().value.text = r#"{"pause":true}"#.into();
    });
    for body in [body, r#"{"foo": 1, "schedule": "soon"}"#] {
        let got = node.call("POST", "/restart", body).await;
        let text = "Can't schedule restart in the paused state";
        assert_eq!((got.status, got.body.as_str()), (500, text));
    }
    let mut resumed = primary();
    resumed.settings.pause = true;
    let node = Node::of(resumed, true).await;
    assert_eq!(node.call("POST", "/restart", body).await.status, 202);
    node.away.store(true, Ordering::SeqCst);
    assert_eq!(node.call("POST", "/restart", body).await.status, 502);
    assert_eq!(node.call("POST", "/restart", "{}").await.status, 200);
}

/// What waits for a restart is read anew, as everything else that a restart is judged by.
#[tokio::test]
async fn what_waits_for_a_restart_is_asked_of_postgresql() {
    let waits: Vec<_> = vec![("max_connections".into(), "100".into(), "101".into())];
    let mut snapshot = primary();
    snapshot.look.as_mut().unwrap().pending_restart = waits.clone();
    let node = Node::of(snapshot, true).await;
    let shown = node.get("/patroni").await.json();
    assert_eq!(shown["pending_restart"], true);
    let body = r#"{"restart_pending": true}"#;
    assert_eq!(node.call("POST", "/restart", body).await.status, 200);
    // And what it said last while it does not answer.
    let silent = Snapshot {
        look: None,
        pending_restart: waits,
        ..primary()
    };
    let shown = Node::of(silent, true).await.get("/patroni").await.json();
    let old = &shown["pending_restart_reason"]["max_connections"]["old_value"];
    assert_eq!(old, "100");
}

#[tokio::test]
async fn a_scheduled_restart_is_shown_without_its_postmaster() {
    let document =
        r#"{"role":"replica","schedule":"2130-01-01T00:00:00+00:00","postmaster_start_time":"x"}"#;
    let snapshot = Snapshot {
        scheduled_restart: Some(document.into()),
        ..replica()
    };
    let shown = Node::of(snapshot, false).await.get("/patroni").await.json();
    let expected = json!({"role": "replica", "schedule": "2130-01-01T00:00:00+00:00"});
    assert_eq!(shown["scheduled_restart"], expected);
}

#[tokio::test]
async fn a_new_copy_is_for_replicas_of_a_leader() {
    let node = Node::of(replica(), true).await;
    for (body, force, from_leader) in [
        ("", false, false),
        (r#"{"force": true}"#, true, false),
        (r#"{"force": true, "from_leader": true}"#, true, true),
        // As Patroni reads them.
        (r#"{"force": "Yes", "from_leader": 1}"#, true, true),
        (r#"{"force": "on", "from_leader": "off"}"#, true, false),
        (r#"{"force": 2, "from_leader": [true]}"#, false, false),
    ] {
        let got = node.call("POST", "/reinitialize", body).await;
        let answer = (got.status, got.body.as_str());
        assert_eq!(answer, (200, "reinitialize started"), "{body}");
        let order = node.reinitialized.lock().unwrap().pop().unwrap();
        assert_eq!((order.force, order.from_leader), (force, from_leader));
    }
    assert_eq!(node.call("POST", "/reinitialize", "[]").await.status, 400);
    let leader = Node::of(primary(), true).await;
    let got = leader.call("POST", "/reinitialize", "{}").await;
    let text = "I am the leader, can not reinitialize";
    assert_eq!((got.status, got.body.as_str()), (503, text));
    node.change(|cluster| cluster.leader = None);
    let got = node.call("POST", "/reinitialize", "{}").await;
    let text = "Cluster has no leader, can not reinitialize";
    assert_eq!((got.status, got.body.as_str()), (503, text));
    let busy = Snapshot {
        under_way: Some("restart".into()),
        ..replica()
    };
    let busy = Node::of(busy, true).await;
    let got = busy.call("POST", "/reinitialize", "{}").await;
    let text = "restart already in progress";
    assert_eq!((got.status, got.body.as_str()), (503, text));
    let forced = busy
        .call("POST", "/reinitialize", r#"{"force": true}"#)
        .await;
    assert_eq!(forced.status, 200);
}

/// Nothing is promised that the loop has not agreed to.
#[tokio::test]
async fn a_new_copy_that_is_refused_is_told() {
    let node = Node::of(replica(), true).await;
    for reason in ["copying n2 already in progress", "nobody can be copied"] {
        *node.refusal.lock().unwrap() = reason.into();
        let got = node.call("POST", "/reinitialize", "{}").await;
        assert_eq!((got.status, got.body.as_str()), (503, reason));
    }
    assert!(node.reinitialized.lock().unwrap().is_empty());
}

#[tokio::test]
async fn strangers_restart_and_copy_nothing() {
    let node = Node::of(replica(), true).await;
    for (method, path) in [
        ("POST", "/restart"),
        ("DELETE", "/restart"),
        ("POST", "/reinitialize"),
        ("POST", "/sigterm"),
        ("POST", "/failsafe"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let got = node.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(got.status, 401, "{method} {path}");
    }
    assert!(node.reinitialized.lock().unwrap().is_empty());
}

/// No body, no length, as `curl -X POST` sends it.
#[tokio::test]
async fn neither_needs_a_body() {
    let node = Node::of(replica(), false).await;
    for path in ["/restart", "/reinitialize"] {
        let request = Request::post(path).body(Body::empty()).unwrap();
        assert_eq!(node.send(request).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn metrics_are_plain_text() {
    let got = Node::of(primary(), false).await.get("/metrics").await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, Some("text/plain"))
    );
    for line in [
        r#"patroni_primary{scope="demo",name="n0"} 1"#,
        r#"patroni_postgres_running{scope="demo",name="n0"} 1"#,
        r#"patroni_version{scope="demo",name="n0"} 040105"#,
    ] {
        assert!(got.body.contains(line), "{line}: {}", got.body);
    }
}
