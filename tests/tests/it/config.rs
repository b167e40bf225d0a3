//! Configuration that is wrong or not acted on, as the process tells it. Each mistake by itself is
//! tested where configuration is read; here: exit status, one line, warnings, a cluster that goes on.

use crate::common::{secs, stand_in, start_time, stays, text, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, yaml};
use std::process::{Command, Output, Stdio};

fn one() -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(1);
    options
}

/// Runs an agent that is expected to end by itself.
async fn ends(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let work = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = tokio::time::timeout(secs(20), work).await;
    output.expect("the agent ends").unwrap()
}

/// What is put into a node's file, the key that is named, and a part of what is said about it.
fn mistakes() -> Vec<(Value, &'static str, &'static str)> {
    let nothing = "found nothing: add this key";
    vec![
        (json!({"scope": null}), "scope", nothing),
        (json!({"scope": "a/b"}), "scope", "without `/`"),
        (json!({"name": ""}), "name", "found empty text"),
        (
            json!({"postgresql": {"data_dir": null}}),
            "postgresql.data_dir",
            nothing,
        ),
        (
            json!({"postgresql": {"listen": {"a": 1}}}),
            "postgresql.listen",
            "found a mapping",
        ),
        (
            json!({"postgresql": {"authentication": {"superuser": null}}}),
            "postgresql.authentication.superuser.username",
            nothing,
        ),
        (
            json!({"postgresql": {"connect_address": "nonsense"}}),
            "postgresql.connect_address",
            "expected HOST:PORT, found \"nonsense\"",
        ),
        (
            json!({"restapi": {"connect_address": "nonsense"}}),
            "restapi.connect_address",
            "expected HOST:PORT, found \"nonsense\"",
        ),
        (
            json!({"restapi": {"listen": "127.0.0.1:port"}}),
            "restapi.listen",
            "expected HOST:PORT",
        ),
        (json!({"etcd3": null}), "etcd3", nothing),
        (
            json!({"tags": "text"}),
            "tags",
            "expected a mapping, found text",
        ),
        (
            json!({"tags": {"nofailover": "maybe"}}),
            "tags.nofailover",
            "expected a boolean",
        ),
        (
            json!({"bootstrap": {"dcs": {"ttl": "thirty"}}}),
            "bootstrap.dcs.ttl",
            "expected an integer, found \"thirty\"",
        ),
        (
            json!({"bootstrap": {"dcs": {"pgherd": {"lease_ttl": "five"}}}}),
            "bootstrap.dcs.pgherd.lease_ttl",
            "expected a time of 2 s or more, found \"five\"",
        ),
    ]
}

/// A node file that is wrong: exit 1 and one line that says file, line, key and what was expected.
#[tokio::test(flavor = "multi_thread")]
async fn errors_in_the_node_file() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &one());
    let node = cluster.node("n1");
    for (patch, key, expected) in mistakes() {
        let mut file = node.config().clone();
        yaml::merge(&mut file, &patch);
        std::fs::write(node.yaml(), yaml::to_yaml(&file)).unwrap();
        let output = ends(node.agent_command()).await;
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{patch}: {said}");
        assert_eq!(said.lines().count(), 1, "{patch}: {said}");
        let (place, problem) = said.split_once(": ").unwrap();
        let (file, line) = place.rsplit_once(':').unwrap();
        assert!(file.ends_with("node.yml"), "{said}");
        assert!(line.parse::<u32>().is_ok_and(|line| line > 0), "{said}");
        let (named, problem) = problem.split_once(": ").unwrap();
        assert_eq!(named, key, "{said}");
        assert!(problem.contains(expected), "{patch}: {said}");
    }
    for broken in ["", "scope: [", "just text"] {
        std::fs::write(node.yaml(), broken).unwrap();
        let output = ends(node.agent_command()).await;
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{broken:?}: {said}");
        assert!(said.contains("node.yml"), "{said:?}");
    }
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// Unknown keys, and settings that are not acted on, are told at start and do no harm.
#[tokio::test(flavor = "multi_thread")]
async fn keys_without_effect_are_named() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = one().config(json!({
        "surplus_key": 1,
        "postgresql": {"inner_surplus": [1], "callbacks": {"on_start": "/bin/true"}},
        "bootstrap": {"dcs": {"surplus": 1, "pgherd": {"gard": 1}, "postgresql": {"deep": 1}}},
        "watchdog": {"mode": "required"},
    }));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let log = cluster.node("n1").log();
    for words in [
        ": surplus_key: unknown key, ignored",
        ": postgresql.inner_surplus: unknown key, ignored",
        ": postgresql.callbacks: has no effect yet",
        ": bootstrap.dcs.surplus: unknown key, ignored",
        ": bootstrap.dcs.pgherd.gard: unknown key, ignored",
        ": bootstrap.dcs.postgresql.deep: unknown key, ignored",
        ": watchdog.mode: REQUIRED BUT NOT USED",
    ] {
        let line = log.lines().find(|line| line.contains(words));
        let line = line.unwrap_or_else(|| panic!("{words} is not told in\n{log}"));
        assert!(
            line.contains(" WARNING: ") && line.contains("node.yml:"),
            "{line}"
        );
    }
}

/// `PATCH /config` takes what Patroni takes. What can not be used is told once, and nobody falls.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_values_in_the_dynamic_configuration() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let node = cluster.node("n1");
    let before = start_time(node).await;
    for (patch, warning) in [
        (
            json!({"postgresql": "x"}),
            "postgresql=x failed validation (expected a mapping)",
        ),
        (
            json!({"ttl": "thirty"}),
            "ttl=thirty failed validation (expected an integer)",
        ),
        (
            json!({"ttl": 1e300, "slots": 7}),
            "slots=7 failed validation (expected a mapping",
        ),
        (
            json!({"pgherd": {"lease_ttl": "five"}}),
            "pgherd.lease_ttl=five failed validation (expected a time of 2 s or more)",
        ),
    ] {
        let answer = node
            .request("PATCH", "/config", &patch.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{patch}: {answer:?}");
        told(&cluster, node, warning).await;
    }
    etcd.put(&cluster.key("config"), "[1, 2").await;
    told(
        &cluster,
        node,
        "the key config in etcd is no JSON object, the settings of before hold",
    )
    .await;
    stays("the primary", secs(3), async || {
        match start_time(node).await == before && node.writable().await {
            true => Ok(()),
            false => Err("it was disturbed".to_owned()),
        }
    })
    .await;
    let log = node.log();
    for words in ["postgresql=x failed", "ttl=thirty failed", "slots=7 failed"] {
        assert_eq!(log.matches(words).count(), 1, "{words} once in\n{log}");
    }
    // A whole document repairs it.
    let whole: Value = json!({"loop_wait": 2, "ttl": 20, "retry_timeout": 5});
    let answer = node
        .request("PUT", "/config", &whole.to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(30)).await;
}

/// Waits until a member's log has this line as a warning.
async fn told(cluster: &TestCluster, node: &Node, words: &str) {
    cluster
        .wait_for(&format!("a warning: {words}"), secs(20), async || {
            let log = node.log();
            let found = log
                .lines()
                .any(|line| line.contains(" WARNING: ") && line.contains(words));
            if found { Ok(()) } else { Err(node.log_tail(5)) }
        })
        .await;
}

/// Root can not run PostgreSQL: said before anything is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_started_as_root() {
    if !crate::common::root("being root needs root") {
        return;
    }
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &one());
    let node = cluster.node("n1");
    let mut command = Command::new(node.agent_command().get_program());
    command.arg("agent").arg(node.yaml());
    let output = ends(command).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("started as root"), "{said}");
    assert!(!node.data_dir().exists());
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// What the arguments say is judged before the topology is shown.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_of_ctl() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap().name().to_owned();
    let scope = cluster.scope();
    for (args, error) in [
        (
            vec!["switchover", "--candidate", "n9"],
            format!("Member n9 does not exist in cluster {scope} or is tagged as nofailover"),
        ),
        (
            vec!["switchover", "--candidate", &leader],
            format!("Member {leader} is already the leader of cluster {scope}"),
        ),
        (
            vec!["switchover", "--leader", "n9", "--force"],
            format!("Member n9 is not the leader of cluster {scope}"),
        ),
        (
            vec!["switchover", "--scheduled", "soon", "--force"],
            "Unable to parse scheduled timestamp (soon). It should be in an unambiguous format (e.g. ISO 8601)".into(),
        ),
        (
            vec!["switchover", "nosuch", "--force"],
            "This cluster has no leader".into(),
        ),
        (
            vec!["failover", "--force"],
            "Failover could be performed only to a specific candidate".into(),
        ),
        (
            vec!["explain", "n9"],
            format!("n9 is not a member of cluster {scope} (members: n1, n2, n3)"),
        ),
        (
            vec!["explain", "--cluster", "nosuch"],
            "cluster nosuch has no members".into(),
        ),
        (
            vec!["list", "a/b"],
            "\"a/b\" is no name of a cluster: it is one part of the keys in etcd, without `/`".into(),
        ),
        (
            vec!["list", "--watch=0"],
            "-w: expected a number of seconds above 0, found 0".into(),
        ),
    ] {
        let output = cluster.ctl(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert_eq!(text(&output), format!("Error: {error}\n"), "{args:?}");
    }
    assert_eq!(cluster.primary().await.unwrap().name(), leader);
}
