//! Configuration that is wrong or not acted on, as the process tells it. Each mistake by itself is
//! tested where configuration is read; here: exit status, one line, warnings, a cluster that goes on.

use crate::common::{secs, stand_in, start_time, stays, text, three, told};
use pgherd_tests::{ClusterOptions, Etcd, Kind, Node, TestCluster, Value, json, process, yaml};
use std::process::{Command, Output, Stdio};

fn one() -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(1);
    options
}

/// Runs an agent that is expected to end by itself.
async fn ends(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let work = tokio::task::spawn_blocking(move || process::output(&mut command).unwrap());
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
        (
            json!({"log": {"dir": "/nonexistent"}}),
            "log.dir",
            "/nonexistent/patroni.log cannot be written: No such file or directory",
        ),
        (
            json!({"log": {"format": "%(massage)s"}}),
            "log.format",
            "\"massage\" is no attribute of a log line",
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
    for (broken, line, problem) in [
        ("just text", 1, "expected a mapping of sections, found text"),
        (
            "scope: [",
            1,
            "not valid YAML: unclosed bracket '[' (column 8)",
        ),
        (
            "a: 1\n b: 2",
            2,
            "not valid YAML: mapping values are not allowed",
        ),
        ("a: 'x\nb: {", 2, "not valid YAML: "),
    ] {
        std::fs::write(node.yaml(), broken).unwrap();
        let output = ends(node.agent_command()).await;
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{broken:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{broken:?}: {said}");
        assert!(
            said.contains(&format!("node.yml:{line}: {problem}")),
            "{said}"
        );
    }
    // In Patroni's words.
    std::fs::write(node.yaml(), "# nothing\n").unwrap();
    let output = ends(node.agent_command()).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output), "Config is empty.\n");
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// A node configured by `PATRONI_*` variables alone, without any file, joins and takes over.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_variables_alone_joins() {
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(2);
    let mut cluster = TestCluster::new(&etcd, &options);
    // No variable sets server parameters: these two come from the dynamic configuration.
    let shared = json!({
        "unix_socket_directories": cluster.dir(),
        "dynamic_shared_memory_type": "mmap",
    });
    let dcs = json!({"bootstrap": {"dcs": {"postgresql": {"parameters": shared}}}});
    cluster.node_mut("n1").change_config(&dcs);
    let script = cluster.node("n2").dir().join("agent.sh");
    std::fs::write(&script, script_of(cluster.node("n2"))).unwrap();
    std::fs::remove_file(cluster.node("n2").yaml()).unwrap();
    let command = vec!["/bin/sh".to_owned(), script.display().to_string()];
    cluster.node_mut("n2").set_kind(Kind::Command(command));
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    let old = cluster.wait_whole(secs(60)).await;
    assert_eq!(old.name(), "n1");
    let request = crate::common::body(Some("n1"), Some("n2"));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), "n2");
}

/// What the node's file says, as variables; then its agent without a file. (The harness gives the file as
/// an argument to every command; this one does not look at it.)
fn script_of(node: &Node) -> String {
    let mut script = String::from("set -eu\n");
    let mut export = |name: &str, value: &Value| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let quoted = text.replace('\'', "'\\''");
        script += &format!("export PATRONI_{name}='{quoted}'\n");
    };
    let file = node.config();
    export("SCOPE", &file["scope"]);
    export("NAME", &file["name"]);
    let hosts = file["etcd3"]["hosts"].as_array().unwrap();
    let hosts: Vec<&str> = hosts.iter().filter_map(Value::as_str).collect();
    export("ETCD3_HOSTS", &json!(hosts.join(",")));
    for key in ["listen", "connect_address"] {
        export(
            &format!("RESTAPI_{}", key.to_uppercase()),
            &file["restapi"][key],
        );
    }
    for key in ["listen", "connect_address", "data_dir", "bin_dir", "pgpass"] {
        let name = format!("POSTGRESQL_{}", key.to_uppercase());
        export(&name, &file["postgresql"][key]);
    }
    for role in ["superuser", "replication", "rewind"] {
        let of = &file["postgresql"]["authentication"][role];
        for key in ["username", "password"] {
            let name = format!("{role}_{key}").to_uppercase();
            export(&name, &of[key]);
        }
    }
    let agent = node.agent_command();
    let words: Vec<String> = std::iter::once(agent.get_program())
        .chain(agent.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // Its last word is the file.
    script + &format!("exec {}\n", words[..words.len() - 1].join(" "))
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
        "postgresql": {"inner_surplus": [1]},
        "bootstrap": {"dcs": {"surplus": 1, "pgherd": {"gard": 1}, "postgresql": {"deep": 1}}},
    }));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let log = cluster.node("n1").log();
    for words in [
        ": surplus_key: unknown key, ignored",
        ": postgresql.inner_surplus: unknown key, ignored",
        ": bootstrap.dcs.surplus: unknown key, ignored",
        ": bootstrap.dcs.pgherd.gard: unknown key, ignored",
        ": bootstrap.dcs.postgresql.deep: unknown key, ignored",
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
        told(&cluster, node, &[warning]).await;
    }
    etcd.put(&cluster.key("config"), "[1, 2").await;
    told(
        &cluster,
        node,
        &["the key config in etcd is no JSON object, the settings of before hold"],
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

/// Whoever asks for another leader sees the topology first, as in patronictl.
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
            vec!["switchover", "--candidate", "n9", "--force"],
            format!("Member n9 does not exist in cluster {scope} or is tagged as nofailover"),
        ),
        (
            vec!["switchover", "--candidate", &leader, "--force"],
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
        let (said, error) = (text(&output), format!("Error: {error}\n"));
        match args[0] {
            "switchover" | "failover" => {
                let topology = "Current cluster topology\n+ Cluster: ";
                assert!(said.starts_with(topology), "{args:?}: {said}");
                assert!(said.ends_with(&format!("+\n{error}")), "{args:?}: {said}");
            }
            _ => assert_eq!(said, error, "{args:?}"),
        }
    }
    assert_eq!(cluster.primary().await.unwrap().name(), leader);
}
