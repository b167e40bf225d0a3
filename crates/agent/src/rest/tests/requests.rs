//! Verbs, access, bodies and error pages (contract: patroni-rest, sections 1, 2 and 5).

use super::{Node, primary, replica};
use axum::body::Body;
use axum::http::Request;
use pgherd_model::{PostgresState, Stored, Sync};
use serde_json::json;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn head_and_options_know_health_checks_only() {
    let node = Node::of(primary(), true).await;
    for method in ["HEAD", "OPTIONS"] {
        for (path, status) in [
            ("/primary", 200),
            ("/", 200),
            ("/replica", 503),
            ("/liveness", 503),
            ("/readiness", 503),
            ("/patroni", 503),
            ("/cluster", 503),
            ("/config", 503),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty());
            let got = node.send(request.unwrap()).await;
            assert_eq!(got.status, status, "{method} {path}");
            // Its length is all that a kept-alive connection needs.
            let headers = got.headers.keys().filter(|name| *name != "content-length");
            assert_eq!(
                (headers.count(), got.body.as_str()),
                (0, ""),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn liveness_and_readiness_are_bare() {
    let node = Node::of(primary(), true).await;
    for path in ["/liveness", "/readiness", "/liveness/x"] {
        let got = node.get(path).await;
        assert_eq!((got.status, got.body.as_str()), (200, ""));
        assert!(got.headers.keys().all(|name| name == "content-length"));
    }
}

#[tokio::test]
async fn patroni_is_always_200_and_read_anew() {
    let mut old = replica();
    old.guard_missing = true;
    let node = Node::of(old, true).await;
    for path in ["/patroni", "/patroni/x", "/patroni?lag=0"] {
        let got = node.get(path).await;
        assert_eq!(got.status, 200);
        let document = got.json();
        assert_eq!(document["role"], "replica");
        assert_eq!(document["xlog"]["received_location"], 4000);
        assert_eq!(document["guard"], "missing");
    }
}

/// A connection can break; one that does not run is not waited for.
#[tokio::test]
async fn a_running_postgresql_is_asked_again() {
    let node = Node::of(replica(), true).await;
    node.silent.store(2, Ordering::SeqCst);
    let got = node.get("/patroni").await.json();
    assert_eq!(
        (&got["state"], &got["timeline"]),
        (&json!("running"), &json!(1))
    );
    node.silent.store(2, Ordering::SeqCst);
    assert_eq!(node.get("/readiness?lag=1GB").await.status, 200);

    let mut down = replica();
    down.state = PostgresState::Stopped;
    let node = Node::of(down, true).await;
    node.silent.store(2, Ordering::SeqCst);
    let got = node.get("/patroni").await.json();
    assert_eq!((&got["state"], got.get("xlog")), (&json!("stopped"), None));
    assert_eq!(node.silent.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn patroni_shows_silence_as_unknown() {
    let mut silent = primary();
    silent.look = None;
    let got = Node::of(silent, true).await.get("/patroni").await;
    assert_eq!(got.status, 200);
    assert_eq!(
        (&got.json()["state"], &got.json()["role"]),
        (&json!("unknown"), &json!("primary"))
    );
    assert!(got.json().get("xlog").is_none());
}

#[tokio::test]
async fn cluster_and_explain_are_documents() {
    let node = Node::of(primary(), true).await;
    let cluster = node.get("/cluster").await;
    assert_eq!(cluster.status, 200);
    let document = cluster.json();
    assert_eq!(document["scope"], "demo");
    assert_eq!(document["members"][0]["role"], "leader");
    assert_eq!(document["members"][1]["role"], "replica");
    let explain = node.get("/pgherd/explain").await;
    assert_eq!(explain.status, 200);
    assert_eq!(explain.json()["member"], "n0");
    assert_eq!(explain.json()["decision"], "lock_held: nothing to do");
    assert_eq!(explain.json()["age_ms"], 0);
    assert_eq!(node.get("/history").await.body, "[]");
    assert_eq!(node.get("/failsafe").await.status, 502);
}

#[tokio::test]
async fn the_configuration_is_told_to_whoever_may_change_something() {
    let node = Node::of(primary(), true).await;
    let got = node.get("/pgherd/configuration").await;
    assert_eq!(
        (got.status, got.body.as_str()),
        (401, "no auth header received")
    );
    let got = node.call("GET", "/pgherd/configuration", "").await;
    assert_eq!(got.status, 200, "{}", got.body);
    assert_eq!(got.json()["given"], json!([]));
    let open = Node::of(primary(), false).await;
    assert_eq!(open.get("/pgherd/configuration/").await.status, 200);
}

/// Only the endpoints that are documented as pgherd's own are: Patroni knows none of these paths.
#[tokio::test]
async fn what_is_near_an_endpoint_of_our_own_is_a_health_check() {
    let node = Node::of(primary(), true).await;
    for (path, status) in [
        ("/pgherd", 503),
        ("/pgherd/", 503),
        ("/pgherd/x", 503),
        ("/pgherd/explain/x", 503),
        ("/pgherd/configuration/x", 503),
        ("/pgherd/primary", 200),
        ("/pgherd/replica", 503),
        ("/journal/x", 503),
        ("/journal/leader", 200),
    ] {
        let got = node.get(path).await;
        assert_eq!(got.status, status, "{path}: {}", got.body);
        assert_eq!(got.json()["role"], "primary", "{path}");
    }
}

/// The configuration tells what the cluster is; what a node still is, it says itself.
#[tokio::test]
async fn a_standby_cluster_has_a_standby_leader_and_replicas() {
    let node = Node::of(primary(), false).await;
    node.change(|cluster| {
        let text = r#"{"standby_cluster": {"host": "far"}, "synchronous_mode": true}"#;
        cluster.config.as_mut().unwrap().value.text = text.into();
        cluster.sync = Some(Stored {
            value: Sync {
                leader: Some("n0".into()),
                standbys: vec!["n1".into()],
                quorum: 0,
            },
            revision: 9,
        });
    });
    let document = node.get("/cluster").await.json();
    let role = |index: usize| document["members"][index]["role"].clone();
    assert_eq!(
        [role(0), role(1), role(2)],
        ["standby_leader", "replica", "replica"]
    );
    assert_eq!(node.get("/patroni").await.json()["role"], "primary");
}

#[tokio::test]
async fn unsafe_verbs_want_credentials() {
    let node = Node::of(primary(), true).await;
    for (method, path) in [
        ("PATCH", "/config"),
        ("PUT", "/config"),
        ("POST", "/switchover"),
        ("POST", "/failover"),
        ("DELETE", "/switchover"),
    ] {
        for (header, text) in [
            (None, "no auth header received"),
            (Some("Basic YWRtaW46d3Jvbmc="), "not authenticated"),
            (Some("Bearer YWRtaW46czNjcmV0"), "not authenticated"),
            (Some("Basic !"), "not authenticated"),
            (Some("Basic YWRtaW46czNjcmV0eA=="), "not authenticated"),
        ] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let got = node.send(request.body(Body::from("{}")).unwrap()).await;
            assert_eq!(
                (got.status, got.body.as_str()),
                (401, text),
                "{method} {path} {header:?}"
            );
            assert_eq!(
                got.header("www-authenticate"),
                Some("Basic realm=\"Patroni\"")
            );
        }
    }
    // Reading is free.
    assert_eq!(node.get("/config").await.status, 200);
}

#[tokio::test]
async fn without_credentials_configured_the_door_is_open() {
    let node = Node::of(primary(), false).await;
    let request = Request::patch("/config")
        .header("content-length", 11)
        .body(Body::from("{\"ttl\": 40}"));
    assert_eq!(node.send(request.unwrap()).await.status, 200);
}

#[tokio::test]
async fn an_event_of_citus_is_taken_and_only_one_path_asks_who_sends_it() {
    let node = Node::of(primary(), true).await;
    let event = r#"{"type": "after_promote", "group": 1}"#;
    for path in ["/citus", "/mpp"] {
        let got = node.call("POST", path, event).await;
        assert_eq!((got.status, got.body.as_str()), (200, "OK"), "{path}");
        for body in ["", "{}", "[1]", "nonsense"] {
            assert_eq!(node.call("POST", path, body).await.status, 400, "{body}");
        }
    }
    for (path, with_length, without) in [("/citus", 401, 401), ("/mpp", 200, 411)] {
        let request = || Request::post(path);
        let sized = request().header("content-length", event.len());
        let got = node.send(sized.body(Body::from(event)).unwrap()).await;
        assert_eq!(got.status, with_length, "{path}");
        let got = node.send(request().body(Body::from(event)).unwrap()).await;
        assert_eq!(got.status, without, "{path}");
    }
}

#[tokio::test]
async fn unknown_verbs_and_paths_are_501() {
    let node = Node::of(primary(), true).await;
    for (method, path) in [
        ("POST", "/"),
        ("POST", "/nothing"),
        ("PUT", "/switchover"),
        ("DELETE", "/config"),
        ("TRACE", "/primary"),
        ("POST", "/Switchover"),
    ] {
        let got = node.call(method, path, "{}").await;
        assert_eq!(got.status, 501, "{method} {path}");
        assert!(
            got.body
                .contains(&format!("<p>Message: Unsupported method ('{method}').</p>"))
        );
        assert!(
            got.body
                .contains("501 - Server does not support this operation.")
        );
        assert_eq!(got.header("content-type"), Some("text/html;charset=utf-8"));
        assert_eq!(got.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn bodies_are_objects_with_a_length() {
    let node = Node::of(primary(), true).await;
    for path in ["/switchover", "/failover"] {
        for body in [
            "",
            "{}",
            "[]",
            "null",
            "not json",
            "\"text\"",
            "{\"leader\":",
        ] {
            let got = node.call("POST", path, body).await;
            assert_eq!(got.status, 400, "{path} {body}");
            assert!(got.body.contains("<p>Error code: 400</p>"), "{path} {body}");
        }
    }
    for body in ["", "{}", "[]", "broken"] {
        assert_eq!(node.call("PATCH", "/config", body).await.status, 400);
        assert_eq!(node.call("PUT", "/config", body).await.status, 400);
    }
    let request = Request::post("/switchover")
        .header("authorization", "Basic YWRtaW46czNjcmV0")
        .body(Body::from("{\"leader\":\"n0\"}"));
    let got = node.send(request.unwrap()).await;
    assert_eq!(got.status, 411);
    assert!(
        got.body
            .contains("411 - Client must specify Content-Length.")
    );
    let huge = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(node.call("PATCH", "/config", &huge).await.status, 413);
}

#[tokio::test]
async fn patch_merges_and_keeps_what_it_does_not_know() {
    let node = Node::of(primary(), true).await;
    let patch =
        r#"{"ttl":40,"loop_wait":null,"mine":{"x":null},"postgresql":{"parameters":{"a":"ö"}}}"#;
    let got = node.call("PATCH", "/config", patch).await;
    assert_eq!(got.status, 200);
    let merged = r#"{"ttl": 40, "postgresql": {"use_slots": true, "parameters": {"a": "\u00f6"}}, "mine": {}}"#;
    assert_eq!(
        got.json(),
        serde_json::from_str::<serde_json::Value>(merged).unwrap()
    );
    assert!(got.body.contains("\\u00f6"), "{}", got.body);
    assert_eq!(node.get("/config").await.json(), got.json());
    let stored = node.cluster.lock().unwrap().config.clone().unwrap();
    assert_eq!(stored.revision, 11);
    assert!(
        !stored.value.text.contains(": "),
        "stored compact: {}",
        stored.value.text
    );
    // The same again changes nothing, and writes nothing.
    assert_eq!(node.call("PATCH", "/config", patch).await.status, 200);
    assert_eq!(
        node.cluster
            .lock()
            .unwrap()
            .config
            .as_ref()
            .unwrap()
            .revision,
        11
    );
}

#[tokio::test]
async fn put_replaces() {
    let node = Node::of(primary(), true).await;
    let got = node.call("PUT", "/config", r#"{"ttl":20}"#).await;
    assert_eq!((got.status, got.body.as_str()), (200, r#"{"ttl": 20}"#));
    assert_eq!(node.get("/config").await.body, r#"{"ttl": 20}"#);
}

/// What it said last holds here, and is asked for most while something is wrong.
#[tokio::test]
async fn the_configuration_is_told_also_while_the_lock_service_is_away() {
    let node = Node::of(primary(), true).await;
    let known = node.get("/config").await.body;
    node.away.store(true, Ordering::SeqCst);
    let got = node.get("/config").await;
    assert_eq!((got.status, got.body), (200, known.clone()));
    let mut blind = primary();
    blind.dcs_unreachable = true;
    // Not even asked: whoever asks has only so much time.
    let node = Node::of(blind.clone(), true).await;
    node.change(|cluster| cluster.config = None);
    assert_eq!(node.get("/config").await.body, known);
    blind.cluster = None;
    let node = Node::of(blind, true).await;
    node.away.store(true, Ordering::SeqCst);
    assert_eq!(node.get("/config").await.status, 502);
}

#[tokio::test]
async fn a_missing_or_broken_config_key_is_told() {
    for text in [None, Some("[]"), Some("broken")] {
        let node = Node::of(primary(), true).await;
        node.change(|cluster| match text {
            None => cluster.config = None,
            Some(text) => cluster.config.as_mut().unwrap().value.text = text.into(),
        });
        assert_eq!(node.get("/config").await.status, 502);
        assert_eq!(
            node.call("PATCH", "/config", r#"{"ttl":20}"#).await.status,
            503
        );
        assert_eq!(
            node.call("PUT", "/config", r#"{"ttl":20}"#).await.status,
            200
        );
    }
}

#[tokio::test]
async fn an_allowlist_is_asked_before_credentials() {
    use axum::extract::ConnectInfo;
    use std::net::SocketAddr;
    let mut settings = super::api(true);
    settings.allowlist = vec!["10.0.0.0/8".into(), "localhost".into()];
    let node = Node::with(primary(), &settings).await;
    settings.allowlist.clear();
    settings.allowlist_include_members = true;
    // The members' api_url is at 127.0.0.1.
    let members = Node::with(primary(), &settings).await;
    for (node, from, status) in [
        (&node, "10.9.8.7:1", 401),
        (&node, "[::ffff:10.9.8.7]:1", 401),
        (&node, "127.0.0.1:1", 401),
        (&node, "192.168.0.1:1", 403),
        (&members, "127.0.0.1:1", 401),
        (&members, "10.9.8.7:1", 403),
    ] {
        let from: SocketAddr = from.parse().unwrap();
        let request = Request::patch("/config").extension(ConnectInfo(from));
        let got = node.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(got.status, status, "{from}");
        if status == 403 {
            assert_eq!(got.body, "Access is denied");
        }
    }
    // A leader that asks its members for leave may come from another address than its `api_url`.
    for (node, from, status) in [
        (&node, "192.168.0.1:1", 403),
        (&members, "192.168.0.1:1", 401),
    ] {
        let from: SocketAddr = from.parse().unwrap();
        let request = Request::post("/failsafe").extension(ConnectInfo(from));
        let got = node.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!(got.status, status, "{from}");
    }
    assert_eq!(node.get("/patroni").await.status, 200, "reading is free");
}

#[tokio::test]
async fn a_wanted_certificate_is_asked_for() {
    use crate::rest::access::ShownCertificate;
    use pgherd_wire::patroni::config::VerifyClient;
    let mut settings = super::api(true);
    settings.certfile = Some("/nonexistent".into());
    settings.verify_client = VerifyClient::Optional;
    let node = Node::with(primary(), &settings).await;
    for (shown, status, text) in [
        (false, 403, "client certificate required"),
        (true, 401, "no auth header received"),
    ] {
        let request = Request::patch("/config").extension(ShownCertificate(shown));
        let got = node.send(request.body(Body::from("{}")).unwrap()).await;
        assert_eq!((got.status, got.body.as_str()), (status, text));
    }
}

#[tokio::test]
async fn a_reload_is_asked_for_by_those_who_may() {
    let node = Node::of(primary(), true).await;
    let ask = async |login: Option<&str>| {
        let mut request = Request::post("/reload");
        if let Some(login) = login {
            request = request.header("authorization", format!("Basic {login}"));
        }
        // patronictl sends neither body nor length.
        let got = node.send(request.body(Body::empty()).unwrap()).await;
        (got.status, got.body)
    };
    assert_eq!(ask(None).await, (401, "no auth header received".into()));
    assert_eq!(
        ask(Some("bm86bm8=")).await,
        (401, "not authenticated".into())
    );
    assert_eq!(node.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(
        ask(Some("YWRtaW46czNjcmV0")).await,
        (202, "reload scheduled".into())
    );
    let got = node.get("/reload").await;
    assert_eq!(got.status, 503, "a health check that is never good");
    while node.reloads.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.reloads.load(Ordering::SeqCst), 1);
}

/// As Patroni answers it, but for who is known to lead.
#[tokio::test]
async fn a_leader_that_cannot_reach_the_lock_service_is_let_stay() {
    let mut snapshot = replica();
    let body = r#"{"name": "n0", "conn_url": "", "api_url": "", "slots": null}"#;
    let off = Node::of(snapshot.clone(), false).await;
    assert_eq!(off.call("POST", "/failsafe", body).await.status, 502);
    snapshot.settings.failsafe_mode = true;
    let node = Node::of(snapshot, false).await;
    let leads = node.call("POST", "/failsafe", body).await;
    assert_eq!(
        (leads.status, leads.body.as_str()),
        (500, "Running as a leader")
    );
    node.failsafe.follows();
    assert_eq!(node.call("POST", "/failsafe", "[]").await.status, 400);
    assert_eq!(node.call("POST", "/failsafe", "{}").await.status, 400);
    let accepted = node.call("POST", "/failsafe", body).await;
    assert_eq!((accepted.status, accepted.body.as_str()), (200, "Accepted"));
    assert_eq!(accepted.header("lsn"), Some("4000"));
    let status = node.get("/patroni").await.json();
    assert_eq!(status["failsafe_mode_is_active"], json!(true));
    assert!(node.dir.path().join("failsafe").exists());
}
