//! The REST API of running members, code by code and text by text as Patroni's clients expect it: health
//! checks, `/patroni`, `/cluster`, `/config`, `/liveness`, basic authentication, refusals.

use crate::common::{body, secs, status, stored, three};
use pgherd_tests::{Answer, Etcd, Node, TestCluster, json, rest};

/// Health checks of leader and replica, with tags and lag.
#[tokio::test(flavor = "multi_thread")]
async fn health_checks() {
    let etcd = Etcd::start(1).await;
    let tags = json!({"tags": {"zone": "a", "weight": 7, "fast": true}});
    let cluster = TestCluster::formed(&etcd, &three().config(tags)).await;
    let leader = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, leader.name());
    let table = [
        // path, leader, replica
        ("/", 200, 503),
        ("/leader", 200, 503),
        ("/primary", 200, 503),
        ("/master", 200, 503),
        ("/read-write", 200, 503),
        ("/standby-leader", 503, 503),
        ("/standby_leader", 503, 503),
        ("/replica", 503, 200),
        ("/read-only", 200, 200),
        ("/health", 200, 200),
        ("/liveness", 200, 200),
        ("/readiness", 200, 200),
        ("/sync", 503, 503),
        ("/synchronous", 503, 503),
        ("/async", 503, 200),
        ("/asynchronous", 503, 200),
        ("/quorum", 503, 503),
        ("/foo/primary", 200, 503),
        ("/Primary", 503, 503),
        ("/foo", 503, 503),
        ("/switchover", 503, 503),
        ("/replica?lag=100MB", 503, 200),
        ("/replica?lag=nonsense", 503, 200),
        ("/replica?tag_zone=a", 503, 200),
        ("/replica?tag_zone=b", 503, 503),
        ("/replica?tag_weight=7&tag_fast=true", 503, 200),
        ("/read-only?tag_none=1", 503, 503),
    ];
    crate::common::wait_health(&cluster, replica, "/replica", 200).await;
    let mut wrong = Vec::new();
    for (path, on_leader, on_replica) in table {
        for (node, expected) in [(leader, on_leader), (replica, on_replica)] {
            let got = node.get(path).await.unwrap().status;
            if got != expected {
                wrong.push(format!("{path} on {}: {got}, not {expected}", node.name()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    let (host, port) = leader.rest_address();
    for verb in ["HEAD", "OPTIONS"] {
        let line = format!("{verb} /primary HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = rest::raw((&host, port), &line).unwrap();
        assert!(
            answer.starts_with("HTTP/1.") && answer[8..].starts_with(" 200"),
            "{answer:?}"
        );
    }
}

/// `GET /patroni` of leader and replica, and `GET /cluster`.
#[tokio::test(flavor = "multi_thread")]
async fn status_documents() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, leader.name());
    leader_status(&cluster, leader).await;
    replica_status(replica).await;
    cluster_document(&cluster, leader, replica).await;
}

async fn leader_status(cluster: &TestCluster, leader: &Node) {
    let ours = status(leader).await.unwrap();
    assert_eq!(ours["state"], "running");
    assert_eq!(ours["role"], "primary");
    assert_eq!(ours["timeline"], 1);
    assert!(
        ours["xlog"]["location"].as_u64().is_some_and(|l| l > 0),
        "{ours}"
    );
    assert!(
        ours["server_version"].as_u64().is_some_and(|v| v >= 90_600),
        "{ours}"
    );
    let id = crate::common::system_id(leader).await;
    assert_eq!(ours["database_system_identifier"], json!(id));
    assert_eq!(ours["patroni"]["scope"], cluster.scope());
    assert_eq!(ours["patroni"]["name"], leader.name());
    let version = ours["patroni"]["version"].as_str().unwrap_or_default();
    assert!(
        version.chars().all(|c| c.is_ascii_digit() || c == '.'),
        "{version}"
    );
    assert!(ours["dcs_last_seen"].as_u64().is_some(), "{ours}");
    let started = ours["postmaster_start_time"].as_str().unwrap_or_default();
    assert!(
        started.contains(' ') && started.contains("+00:00"),
        "{started}"
    );
    let senders = ours["replication"].as_array().cloned().unwrap_or_default();
    assert_eq!(senders.len(), 2, "{ours}");
    assert!(
        senders
            .iter()
            .all(|s| s["usename"] == "replicator" && s["state"] == "streaming")
    );
}

async fn replica_status(replica: &Node) {
    let theirs = status(replica).await.unwrap();
    assert_eq!(theirs["role"], "replica");
    assert_eq!(theirs["replication_state"], "streaming");
    assert!(
        theirs["xlog"]["received_location"]
            .as_u64()
            .is_some_and(|l| l > 0),
        "{theirs}"
    );
    assert!(
        theirs["xlog"]["replayed_location"]
            .as_u64()
            .is_some_and(|l| l > 0),
        "{theirs}"
    );
    assert_eq!(theirs["xlog"]["paused"], false);
}

async fn cluster_document(cluster: &TestCluster, leader: &Node, replica: &Node) {
    let seen = cluster
        .wait_for(
            "/cluster shows two that stream without lag",
            secs(20),
            async || {
                let seen = replica.get("/cluster").await?.json();
                let members = seen["members"].as_array().cloned().unwrap_or_default();
                let good = members
                    .iter()
                    .filter(|m| {
                        m["role"] == "replica" && m["state"] == "streaming" && m["lag"] == 0
                    })
                    .count();
                if good == 2 {
                    Ok(seen)
                } else {
                    Err(seen.to_string())
                }
            },
        )
        .await;
    assert_eq!(seen["scope"], cluster.scope());
    let members = seen["members"].as_array().unwrap();
    let names: Vec<&str> = members.iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, ["n1", "n2", "n3"], "sorted by name");
    let first = members.iter().find(|m| m["name"] == leader.name()).unwrap();
    assert_eq!(first["role"], "leader");
    assert_eq!(first["state"], "running");
    assert_eq!(first["port"], leader.pg_address().1);
    assert_eq!(first["api_url"], json!(leader.url("/patroni")));
    assert!(first.get("lag").is_none(), "{first}");
}

/// `GET` and `PATCH /config`: merged, unknown keys kept, null deletes, PostgreSQL follows.
#[tokio::test(flavor = "multi_thread")]
async fn dynamic_configuration() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three().dcs(json!({"own_key": [1, 2]}))).await;
    let leader = cluster.primary().await.unwrap();
    let before = leader.get("/config").await.unwrap();
    assert_eq!(before.status, 200);
    assert_eq!(before.json()["own_key"], json!([1, 2]));
    let patch = json!({
        "own_key": null,
        "loop_wait": 1,
        "postgresql": {"parameters": {"work_mem": "5MB", "max_connections": 70}},
    });
    let replica = crate::common::other(&cluster, leader.name());
    let answer = replica
        .request("PATCH", "/config", &patch.to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let merged = answer.json();
    assert_eq!(merged["loop_wait"], 1);
    assert_eq!(merged.get("own_key"), None);
    assert_eq!(merged["ttl"], 20, "the rest is kept");
    assert_eq!(
        merged["postgresql"]["use_pg_rewind"], true,
        "objects are merged"
    );
    assert_eq!(stored(&etcd, &cluster, "config").await.unwrap(), merged);
    for node in cluster.nodes() {
        let what = format!("work_mem arrives at {}, max_connections waits", node.name());
        cluster
            .wait_for(&what, secs(20), async || {
                let sql = "select setting || ' ' || (select setting from pg_settings \
                           where name = 'max_connections') from pg_settings where name = 'work_mem'";
                match node.sql(sql).await?.as_str() {
                    "5120 60" => Ok(()),
                    other => Err(other.to_owned()),
                }
            })
            .await;
    }
    cluster
        .wait_for("a restart is pending", secs(20), async || {
            let now = status(leader).await?;
            if now["pending_restart"] == true {
                Ok(())
            } else {
                Err(now.to_string())
            }
        })
        .await;
    for (bad, code) in [
        ("", 411),
        ("{}", 400),
        ("[1]", 400),
        ("not JSON", 400),
        ("7", 400),
    ] {
        let answer = leader.request("PATCH", "/config", bad).await.unwrap();
        assert_eq!(answer.status, code, "{bad:?}: {answer:?}");
        if code == 400 {
            assert_bad_request(&answer, bad);
        }
    }
    assert_eq!(
        stored(&etcd, &cluster, "config").await.unwrap(),
        merged,
        "nothing was lost"
    );
}

/// Unsafe requests need the user, safe ones do not; the texts are Patroni's.
#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication() {
    let etcd = Etcd::start(1).await;
    let mut options = three().rest_auth("admin", "rest pass:word");
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    crate::common::wait_health(&cluster, node, "/config", 200).await;
    for path in ["/patroni", "/cluster", "/config", "/primary", "/liveness"] {
        assert_eq!(node.get(path).await.unwrap().status, 200, "{path}");
    }
    let wrong = ("admin".to_owned(), "guess".to_owned());
    for (verb, path) in [
        ("PATCH", "/config"),
        ("POST", "/switchover"),
        ("POST", "/failover"),
    ] {
        let patch = Some(r#"{"loop_wait": 3}"#);
        let answer = rest::request(verb, &node.url(path), None, patch)
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "{verb} {path}");
        assert_eq!(answer.body, "no auth header received");
        assert_eq!(
            answer.authenticate.as_deref(),
            Some("Basic realm=\"Patroni\"")
        );
        let answer = rest::request(verb, &node.url(path), Some(&wrong), patch)
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "{verb} {path}");
        assert_eq!(answer.body, "not authenticated");
    }
    assert_eq!(
        stored(&etcd, &cluster, "config").await.unwrap()["loop_wait"],
        2,
        "unchanged"
    );
    let answer = node
        .request("PATCH", "/config", r#"{"loop_wait": 3}"#)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        !node.log().contains("rest pass:word"),
        "no secret in the log"
    );
}

/// Switchover and failover requests that can not be: code and text of the contract, and nothing
/// happens.
#[tokio::test(flavor = "multi_thread")]
async fn refused_switchovers() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap();
    let (name, other) = (
        leader.name(),
        crate::common::other(&cluster, leader.name()).name(),
    );
    for (path, request, code, text) in refusals(name, other) {
        let answer = leader.request("POST", path, &request).await.unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (code, text),
            "{path} {request}"
        );
    }
    malformed_requests(leader).await;
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), name);
    let timeline = "select timeline_id::text from pg_control_checkpoint()";
    assert_eq!(leader.sql(timeline).await.unwrap(), "1");
}

/// Path, body, and the code and text of the answer.
fn refusals(name: &str, other: &str) -> Vec<(&'static str, String, u16, &'static str)> {
    let to = |leader: &str, candidate: &str| body(Some(leader), Some(candidate));
    vec![
        (
            "/failover",
            body(Some(name), None),
            400,
            "Failover could be performed only to a specific candidate",
        ),
        (
            "/switchover",
            body(None, Some(other)),
            400,
            "Switchover could be performed only from a specific leader",
        ),
        (
            "/switchover",
            to(name, name),
            400,
            "Switchover target and source are the same",
        ),
        (
            "/switchover",
            to(other, name),
            412,
            "leader name does not match",
        ),
        (
            "/switchover",
            to(name, "nobody"),
            412,
            "candidate does not exists",
        ),
        (
            "/failover",
            body(None, Some("nobody")),
            412,
            "candidate does not exists",
        ),
        (
            "/failover",
            json!({"candidate": other, "scheduled_at": "2030-01-01T00:00:00+00:00"}).to_string(),
            400,
            "Failover can't be scheduled",
        ),
    ]
}

/// The page of the contract for a body that can not be read.
fn assert_bad_request(answer: &Answer, bad: &str) {
    assert_eq!(answer.status, 400, "{bad:?}: {answer:?}");
    for line in [
        "<p>Error code: 400</p>",
        "<p>Message: Bad Request.</p>",
        "<p>Error code explanation: 400 - Bad request syntax or unsupported method.</p>",
    ] {
        assert!(answer.body.contains(line), "{bad:?}: {answer:?}");
    }
}

async fn malformed_requests(leader: &Node) {
    for bad in ["{}", "[]", "not JSON", "\"text\"", "{\"leader\":"] {
        let answer = leader.request("POST", "/switchover", bad).await.unwrap();
        assert_bad_request(&answer, bad);
    }
    for (verb, path) in [
        ("POST", "/nothing"),
        ("PUT", "/patroni"),
        ("DELETE", "/config"),
    ] {
        let answer = leader.request(verb, path, "{\"a\": 1}").await.unwrap();
        assert_eq!(answer.status, 501, "{verb} {path}");
        assert!(
            answer
                .body
                .contains("Server does not support this operation"),
            "{answer:?}"
        );
    }
}
