//! Answers that are not seen every day, word by word: headers by configuration, journals of the cluster, writes that
//! somebody else is ahead of (contract: patroni-rest, sections 1 and 5).

use super::{Node, api, primary};
use axum::body::Body;
use axum::http::Request;
use pgherd_model::{Failover, HistoryLine, Lsn, Stored, Timeline};
use pgherd_wire::patroni::config::{RestApi, ServerTokens};
use pgherd_wire::patroni::rest::stored_schedule;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn the_server_says_as_much_of_itself_as_it_is_told_to() {
    for (tokens, shown) in [
        (
            ServerTokens::Original,
            concat!("pgherd/", env!("CARGO_PKG_VERSION")),
        ),
        (ServerTokens::Minimal, "Patroni/4.1.5"),
        (ServerTokens::ProductOnly, "Patroni"),
    ] {
        let mut settings = api(false);
        settings.server_tokens = tokens;
        let node = Node::with(primary(), &settings).await;
        for path in ["/primary", "/replica", "/metrics", "/cluster"] {
            assert_eq!(node.get(path).await.header("server"), Some(shown), "{path}");
        }
    }
}

/// Those for TLS are sent over TLS alone, and win over the others.
#[tokio::test]
async fn headers_for_tls_come_on_top_of_those_for_all() {
    let mut settings = api(false);
    let headers = [("X-Extra", "secure"), ("X-Secure", "yes")];
    settings.https_extra_headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let shown = async |settings: &RestApi| {
        let got = Node::with(primary(), settings).await.get("/primary").await;
        let header = |name| got.header(name).map(str::to_owned);
        (header("x-extra"), header("x-secure"))
    };
    let plain = (Some("yes".to_owned()), None);
    assert_eq!(shown(&settings).await, plain);
    settings.certfile = Some("/nonexistent".into());
    let secure = (Some("secure".to_owned()), Some("yes".to_owned()));
    assert_eq!(shown(&settings).await, secure);
}

/// Also on the pages of errors and on texts.
#[tokio::test]
async fn extra_headers_are_sent_with_every_answer_that_has_headers() {
    let node = Node::of(primary(), true).await;
    let refused = Request::patch("/config").body(Body::empty()).unwrap();
    for (got, status) in [
        (node.get("/foo").await, 503),
        (node.call("POST", "/nothing", "{}").await, 501),
        (node.call("DELETE", "/restart", "").await, 404),
        (node.send(refused).await, 401),
    ] {
        assert_eq!((got.status, got.header("x-extra")), (status, Some("yes")));
    }
}

#[tokio::test]
async fn sigterm_is_promised_and_nothing_happens() {
    let node = Node::of(primary(), true).await;
    let got = node.call("POST", "/sigterm", "").await;
    assert_eq!((got.status, got.body.as_str()), (202, "shutdown scheduled"));
    assert_eq!(node.get("/primary").await.status, 200);
}

/// Old lines know neither when it was nor who was promoted.
#[tokio::test]
async fn history_and_failsafe_are_what_the_keys_hold() {
    let line = |timeline, timestamp: Option<&str>, leader: Option<&str>| HistoryLine {
        timeline: Timeline(timeline),
        end: Lsn(67_418_264),
        reason: "no recovery target specified".into(),
        timestamp: timestamp.map(str::to_owned),
        leader: leader.map(Into::into),
    };
    let mut snapshot = primary();
    let cluster = Arc::make_mut(snapshot.cluster.as_mut().unwrap());
    cluster.history = Some(Stored {
        value: vec![
            line(1, None, None),
            line(2, Some("2026-11-21T00:23:34.338580+00:00"), Some("n0")),
        ],
        revision: 9,
    });
    let members = [("n0", "http://127.0.0.1:1/patroni")];
    cluster.failsafe = Some(Stored {
        value: members
            .map(|(name, url)| (name.to_owned(), url.to_owned()))
            .into(),
        revision: 9,
    });
    let node = Node::of(snapshot, false).await;
    let got = node.get("/history").await;
    assert_eq!(got.header("content-type"), Some("application/json"));
    let expected = r#"[[1, 67418264, "no recovery target specified"], [2, 67418264, "no recovery target specified", "2026-11-21T00:23:34.338580+00:00", "n0"]]"#;
    assert_eq!((got.status, got.body.as_str()), (200, expected));
    let got = node.get("/failsafe").await;
    let expected = r#"{"n0": "http://127.0.0.1:1/patroni"}"#;
    assert_eq!((got.status, got.body.as_str()), (200, expected));
}

/// Tried again a few times; then whoever asked is told with which page.
#[tokio::test]
async fn a_key_that_others_keep_changing_is_a_conflict() {
    let node = Node::of(primary(), true).await;
    let patch = json!({"ttl": 40}).to_string();
    for (others, verb, status, page) in [
        (2, "PATCH", 200, ""),
        (3, "PATCH", 409, "409 - Request conflict."),
        (2, "PUT", 200, ""),
        (
            3,
            "PUT",
            502,
            "502 - Invalid responses from another server/proxy.",
        ),
    ] {
        node.change(|cluster| {
            cluster.config.as_mut().unwrap().value.text = r#"{"ttl":30}"#.into();
        });
        node.crossed.store(others, Ordering::SeqCst);
        let got = node.call(verb, "/config", &patch).await;
        assert_eq!(got.status, status, "{verb} {others}: {}", got.body);
        assert!(got.body.contains(page), "{verb} {others}: {}", got.body);
    }
    node.change(|cluster| {
        cluster.failover.as_mut().unwrap().value = Failover {
            leader: Some("n0".into()),
            member: None,
            scheduled_at: Some(stored_schedule("2130-01-01T00:00:00+00:00")),
        };
    });
    node.crossed.store(1, Ordering::SeqCst);
    let got = node.call("DELETE", "/switchover", "").await;
    assert_eq!(got.status, 409);
    assert!(
        got.body.contains("<p>Message: Conflict.</p>"),
        "{}",
        got.body
    );
}
