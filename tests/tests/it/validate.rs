//! `pgherd agent --validate-config`: silence or every problem at once, as genuine Patroni has it.

use crate::common::{oracle, stand_in, text, three};
use pgherd_tests::{Etcd, Node, TestCluster, Value, json, process};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A member whose file is good: nothing is started.
fn member(etcd: &Etcd, patch: Value) -> TestCluster {
    let mut options = three().config(patch);
    options.nodes.truncate(1);
    let mut cluster = TestCluster::new(etcd, &options);
    // Others reach 127.0.0.2 no better, but it is not one of the names that are refused.
    let elsewhere = |(_, port): (String, u16)| format!("127.0.0.2:{port}");
    let node = cluster.node_mut("n1");
    let (rest, pg) = (node.rest_address(), node.pg_address());
    let (rest, pg) = (elsewhere(rest), elsewhere(pg));
    node.change_config(&json!({
        "restapi": {"connect_address": rest},
        "postgresql": {"connect_address": pg},
    }));
    cluster
}

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    process::output(&mut command).unwrap()
}

fn pgherd(node: &Node, args: &[&str]) -> Output {
    let mut command = node.agent_command();
    command.args(args);
    run(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_silent_and_can_be_printed() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = member(&etcd, json!({}));
    let node = cluster.node("n1");
    let output = pgherd(node, &["--validate-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(text(&output), "");
    let output = pgherd(node, &["--validate-config", "--print"]);
    let printed = text(&output);
    assert!(printed.starts_with("scope: "), "{printed}");
    assert!(printed.contains("password: \"********\""), "{printed}");
    assert!(!printed.contains("pass'"), "a password: {printed}");
    let output = pgherd(node, &["--print"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_and_can_be_ignored() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = member(&etcd, json!({}));
    let node = cluster.node("n1");
    let (host, port) = node.rest_address();
    let _occupied = std::net::TcpListener::bind((host.as_str(), port)).unwrap();
    let output = pgherd(node, &["--validate-config"]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "restapi.listen {host}:{port} didn't pass validation: Port {port} is already in use.\n"
    );
    assert_eq!(text(&output), expected);
    let output = pgherd(node, &["--validate-config", "-i"]);
    assert_eq!(
        (output.status.code(), text(&output)),
        (Some(0), String::new())
    );
}

/// Called by that name: the version is the one whose place it takes, and options of `--validate-config` count for
/// nothing without it.
#[tokio::test(flavor = "multi_thread")]
async fn called_as_patroni() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = member(&etcd, json!({}));
    let node = cluster.node("n1");
    let link = cluster.dir().join("patroni");
    std::os::unix::fs::symlink(cluster.dir().join("pgherd"), &link).unwrap();
    let said = |program: &Path, args: &[&str]| {
        let mut command = node.command(program);
        command.args(args);
        let output = run(command);
        (output.status.code(), text(&output))
    };
    let version = said(&link, &["--version"]);
    assert_eq!(version, (Some(0), "patroni 4.1.5\n".to_owned()));
    if oracle() {
        let program = pgherd_tests::oracle::patroni().unwrap();
        assert_eq!(version, said(&program, &["--version"]));
    }
    let (code, text) = said(&link, &["-i", "-p", "/nonexistent/n1.yml"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/nonexistent/n1.yml"), "{text}");
}

/// Contract: patroni-config, section 1.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_configured_is_one_line() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = member(&etcd, json!({}));
    let node = cluster.node("n1");
    let comments = node.dir().join("comments.yml");
    std::fs::write(&comments, "# scope: demo\n").unwrap();
    for file in [Some(&comments), None] {
        let mut command = node.command(&cluster.dir().join("pgherd"));
        command.args(["agent", "--validate-config"]).args(file);
        let output = run(command);
        let said = (output.status.code(), text(&output));
        assert_eq!(said, (Some(1), "Config is empty.\n".to_owned()));
    }
}

/// Files of certificates that cannot be used are found before a start.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_looked_at() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = member(
        &etcd,
        json!({"restapi": {"certfile": "/nonexistent/a.pem"}, "etcd3": {"protocol": "https", "cacert": "/nonexistent/b.pem"}}),
    );
    let output = pgherd(cluster.node("n1"), &["--validate-config"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output);
    for words in [
        "/nonexistent/a.pem",
        "restapi.certfile",
        "/nonexistent/b.pem",
        "etcd3.cacert",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(said.lines().count(), 2, "{said}");
}

/// Broken files: both programs tell the same, letter by letter.
#[tokio::test(flavor = "multi_thread")]
async fn problems_read_as_patronis() {
    if stand_in() || !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    for patch in [
        json!({"restapi": {"listen": "127.0.0.1:port", "connect_address": "127.0.0.1:8008"}}),
        json!({"restapi": {"connect_address": null, "request_queue_size": 5000}}),
        json!({"restapi": null, "scope": 5, "log": {"level": "LOUD", "mode": "x", "format": []}}),
        json!({"bootstrap": {"dcs": {"ttl": 5, "retry_timeout": "x", "synchronous_mode": "perhaps",
            "postgresql": {"parameters": {"max_connections": 0}, "use_slots": 5}}, "initdb": [5]}}),
        json!({"postgresql": {"data_dir": "/etc", "bin_dir": "/nonexistent", "pg_hba": "x"}}),
        json!({"postgresql": {"data_dir": "", "bin_name": {"initdb": "nonesuch"}}}),
        json!({"postgresql": {"authentication": {"superuser": null, "replication": {"password": "x"}}}}),
        json!({"etcd3": {"hosts": "127.0.0.1:1"}, "watchdog": {"mode": "perhaps"}}),
        json!({"tags": {"nofailover": true, "failover_priority": 5, "nosync": "x"}}),
        json!({"postgresql": null, "bootstrap": {"dcs": null}, "citus": {"group": -1}}),
    ] {
        let mut cluster = member(&etcd, json!({}));
        cluster.node_mut("n1").change_config(&patch);
        let node = cluster.node("n1");
        let ours = pgherd(node, &["--validate-config"]);
        let mut command = node.command(&pgherd_tests::oracle::patroni().unwrap());
        command.arg("--validate-config").arg(node.yaml());
        let theirs = run(command);
        assert_eq!(ours.status.code(), theirs.status.code(), "{patch}");
        let (ours, theirs) = (text(&ours), text(&theirs));
        assert!(!theirs.is_empty(), "{patch}");
        assert_eq!(ours, theirs, "{patch}");
    }
}
