//! `pgherd ctl` beside the genuine `patronictl`, on the same cluster: output and exit code are compared.

use crate::common::{oracle, secs, stand_in, stored, text, three};
use pgherd_tests::{ClusterOptions, Etcd, Kind, TestCluster, Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

mod loaded;
mod played;

/// A link to pgherd by another name.
fn called(cluster: &TestCluster, name: &str) -> PathBuf {
    let link = cluster.dir().join(name);
    if !link.exists() {
        std::os::unix::fs::symlink(cluster.dir().join("pgherd"), &link).unwrap();
    }
    link
}

/// Runs a program as an operator of the cluster, with the superuser's password in the environment.
fn run(cluster: &TestCluster, program: &Path, typed: &str, args: &[&str]) -> Output {
    let node = &cluster.nodes()[0];
    let target = node.target();
    let mut command = node.command(program);
    command
        .env("COLUMNS", "200")
        // Empty is not set.
        .env("DCS_URL", "")
        .env("PATRONICTL_CONFIG_FILE", "")
        .env("PGUSER", &target.user)
        .env("PGPASSWORD", &target.password)
        .arg("-c")
        .arg(node.yaml())
        .args(args.iter().map(|a| a.replace("{scope}", cluster.scope())));
    finish(command, typed)
}

fn finish(mut command: Command, typed: &str) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pgherd_tests::process::spawn(&mut command).unwrap();
    // A program that asks nothing may have ended.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    child.wait_with_output().unwrap()
}

fn genuine(cluster: &TestCluster, typed: &str, args: &[&str]) -> Output {
    let program = pgherd_tests::oracle::patronictl().unwrap();
    run(cluster, &program, typed, args)
}

fn ours(cluster: &TestCluster, typed: &str, args: &[&str]) -> Output {
    run(cluster, &called(cluster, "patronictl"), typed, args)
}

/// Without what moves between two runs: times, and rows of tables (they hold positions).
fn still(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kept = text
        .lines()
        .filter(|line| !line.starts_with("| ") && !line.starts_with("+-"));
    let mut out = format!("{:?}\n", output.status.code());
    for line in kept {
        // A title is as wide as the table; the example of a time is an hour from now.
        let line = line.trim_end_matches(['-', '+']);
        let example = line.split_once("(e.g. 20").and_then(|(begin, rest)| {
            let (_, rest) = rest.split_once(')')?;
            Some(format!("{begin}{rest}"))
        });
        let line = example.as_deref().unwrap_or(line);
        let digit = |at: usize| line.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        let stamped = line.starts_with("20") && digit(3) && line.get(4..5) == Some("-");
        let line = if stamped {
            line.get(19..).unwrap_or("")
        } else {
            line
        };
        let line = line.trim_start_matches(|c: char| stamped && (c == '.' || c.is_ascii_digit()));
        out.push_str(line);
        out.push('\n');
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for line in said.lines().filter(|line| line.starts_with("Error: ")) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// The same command twice, where nothing moves on while the second runs.
fn same(cluster: &TestCluster, typed: &str, args: &[&str]) {
    let (theirs, own) = (genuine(cluster, typed, args), ours(cluster, typed, args));
    assert_eq!(still(&own), still(&theirs), "{args:?}\n{}", text(&own));
}

/// The whole output, as soon as nothing moves.
async fn same_whole(cluster: &TestCluster, args: &[&str]) {
    let what = format!("both print the same for {args:?}");
    cluster
        .wait_for(&what, secs(30), async || {
            let (theirs, own) = (genuine(cluster, "", args), ours(cluster, "", args));
            match theirs.stdout == own.stdout && theirs.status.code() == own.status.code() {
                true => Ok(()),
                false => Err(format!(
                    "genuine {:?}\n{}ours {:?}\n{}",
                    theirs.status.code(),
                    text(&theirs),
                    own.status.code(),
                    text(&own)
                )),
            }
        })
        .await;
}

fn patroni() -> ClusterOptions {
    let mut options = ClusterOptions::new(Kind::Patroni);
    options.pgherd = Some(pgherd_tests::binary::pgherd());
    options
}

/// Looks at a cluster.
#[rustfmt::skip]
fn looks() -> Vec<Vec<&'static str>> {
    let query = "select 1 as a, null as b, true as c, 'x' as d, 2.5::float8 as e";
    vec![
        vec!["list"],
        vec!["list", "{scope}", "-e", "-f", "tsv"],
        vec!["list", "-w", "0", "-f", "json"],
        vec!["topology"],
        vec!["topology", "{scope}"],
        vec!["topology", "nosuch"],
        vec!["history"],
        vec!["history", "-f", "json"],
        vec!["history", "-f", "yaml"],
        vec!["history", "-f", "tsv"],
        vec!["history", "-f", "pretty", "-f", "json"],
        vec!["history", "nosuch"],
        vec!["show-config"],
        vec!["show-config", "nosuch"],
        vec!["version"],
        vec!["version", "{scope}"],
        vec!["version", "{scope}", "n1", "n9"],
        vec!["dsn"],
        vec!["dsn", "-r", "replica"],
        vec!["dsn", "-r", "standby-leader"],
        vec!["dsn", "-m", "n2"],
        vec!["dsn", "-m", "n9"],
        vec!["dsn", "-m", "n2", "-r", "any"],
        vec!["query", "-d", "postgres", "-c", query],
        vec!["query", "-d", "postgres", "-c", query, "--format", "pretty"],
        vec!["query", "-d", "postgres", "-c", query, "--format", "json"],
        vec!["query", "-d", "postgres", "-c", query, "--format", "yml"],
        vec!["query", "-d", "postgres", "-c", query, "--delimiter", "|"],
        vec!["query", "-d", "postgres", "-c", "-- x\nselect 1 as one"],
        vec!["query", "-d", "postgres", "-m", "n2", "-c", "show port"],
        vec!["query", "-d", "postgres", "-r", "primary", "-c", "show port"],
        vec!["query", "-d", "postgres", "-r", "replica", "-c", "show port"],
        vec!["query", "-d", "postgres", "-r", "standby", "-c", "show port"],
        vec!["query", "-d", "postgres", "-r", "any", "-c", "show port"],
        vec!["query", "-c", "select 1", "-f", "-"],
        vec!["query"],
    ]
}

/// What only looks.
#[tokio::test(flavor = "multi_thread")]
async fn looks_are_patronictls() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = patroni().node("n3", json!({"tags": {"zone": "a", "nosync": true}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap().name().to_owned();
    let done = ours(&cluster, "", &["switchover", "--leader", &old, "--force"]);
    assert!(done.status.success(), "{}", text(&done));
    cluster.wait_whole(secs(60)).await;
    for args in looks() {
        same_whole(&cluster, &args).await;
    }
    for args in [
        vec!["query", "-d", "postgres", "-c", "selec"],
        vec!["query", "-d", "postgres", "-c", "select 1/0"],
        vec!["query", "-d", "nosuch", "-c", "select 1"],
        vec!["query", "-U", "nosuch", "-c", "select 1"],
        vec!["query", "-m", "n9", "-c", "select 1"],
        vec!["query", "nosuch", "-c", "select 1"],
    ] {
        same(&cluster, "", &args);
    }
    same(
        &cluster,
        "select 7 as seven",
        &["query", "-d", "postgres", "-f", "-"],
    );
    nobody_is_named(&etcd, &cluster);
    roles_are_what_servers_say(&etcd, &cluster).await;
}

/// Neither a name nor a configuration that has one: a warning, and no failure.
fn nobody_is_named(etcd: &Etcd, cluster: &TestCluster) {
    let genuine = pgherd_tests::oracle::patronictl().unwrap();
    for program in [genuine, called(cluster, "patronictl")] {
        for look in ["list", "topology"] {
            let mut command = cluster.nodes()[0].command(&program);
            command
                .env("PATRONI_ETCD3_HOSTS", etcd.hosts().join(","))
                .arg(look);
            let output = finish(command, "");
            let said = text(&output);
            assert_eq!(output.status.code(), Some(0), "{program:?} {look}: {said}");
            let warning = " - WARNING - Listing members: No cluster names were provided\n";
            assert!(said.ends_with(warning), "{program:?} {look}: {said}");
            assert_eq!(said.lines().count(), 1, "{program:?} {look}: {said}");
        }
    }
}

/// etcd calls a primary a replica, and the other way round: the servers are believed.
async fn roles_are_what_servers_say(etcd: &Etcd, cluster: &TestCluster) {
    let primary = cluster.primary().await.unwrap();
    let replica = crate::common::other(cluster, primary.name());
    let put = async |scope: &str, name: &str, value: String| {
        let key = cluster.key(name).replace(cluster.scope(), scope);
        etcd.put(&key, &value).await;
    };
    let member = |node: &pgherd_tests::Node, role: &str| {
        let (host, port) = node.pg_address();
        let conn_url = format!("postgres://{host}:{port}/postgres");
        json!({"conn_url": conn_url, "api_url": "http://127.0.0.1:1/patroni",
            "state": "running", "role": role, "version": "4.1.5"})
        .to_string()
    };
    put("headless", "members/x", member(primary, "replica")).await;
    put("mistaken", "members/x", member(replica, "primary")).await;
    put("mistaken", "leader", "x".to_owned()).await;
    put("follower", "members/x", member(primary, "standby_leader")).await;
    put("follower", "leader", "x".to_owned()).await;
    for (scope, role) in [
        ("headless", "replica"),
        ("headless", "standby"),
        ("headless", "any"),
        ("mistaken", "primary"),
        ("mistaken", "leader"),
        ("follower", "standby-leader"),
    ] {
        let args = [
            "query", scope, "-d", "postgres", "-r", role, "-c", "select 7",
        ];
        same(cluster, "", &args);
        let said = text(&ours(cluster, "", &args));
        let nobody = format!("No connection to role '{role}' is available");
        let believed = matches!(role, "any" | "leader");
        assert_eq!(said.contains(&nobody), !believed, "{args:?}: {said}");
    }
}

/// The dynamic configuration: both change it from the same beginning; diff, questions and what is
/// stored are the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_edited_as_by_patronictl() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &patroni());
    let key = cluster.key("config");
    let begin =
        json!({"ttl": 20, "loop_wait": 2, "postgresql": {"parameters": {"max_connections": 60}}});
    let long = format!("d='{}'", "it: ".repeat(120));
    for (typed, args) in [
        ("", vec!["-s", "ttl=25"]),
        ("y\n", vec!["-s", "ttl=25"]),
        ("n\n", vec!["-s", "ttl=25"]),
        ("", vec!["-s", "ttl=20", "--force"]),
        ("", vec!["-s", "ttl=20", "-q", "--force"]),
        ("", vec!["-s", "ttl=25", "-q", "--force"]),
        (
            "",
            vec![
                "-p",
                "max_connections=null",
                "-s",
                "a.b.c=[1, x]",
                "-s",
                "a.d=on",
                "--force",
            ],
        ),
        (
            "",
            vec![
                "-p",
                "auto_explain.log_min_duration=1s",
                "-s",
                "ttl.x=1",
                "--force",
            ],
        ),
        ("", vec!["-s", &long, "--force"]),
        ("", vec!["-s", "nonsense", "--force"]),
        ("ttl: 33\nx: {y: 1}\n", vec!["--apply", "-", "--force"]),
        ("ttl: 33\n", vec!["--apply", "-"]),
        ("ttl: 33\n", vec!["--replace", "-", "--force"]),
        ("", vec!["nosuch", "-s", "a=1", "--force"]),
    ] {
        let args: Vec<&str> = ["edit-config"].into_iter().chain(args).collect();
        let mut ends = Vec::new();
        for program in [genuine, ours] {
            etcd.put(&key, &begin.to_string()).await;
            let output = program(&cluster, typed, &args);
            let stored: Value = serde_json::from_str(&etcd.get(&key).await.unwrap()).unwrap();
            ends.push((
                String::from_utf8_lossy(&output.stdout).into_owned(),
                output.status.code(),
                stored,
            ));
        }
        assert_eq!(ends[1], ends[0], "{args:?}");
    }
}

/// Somebody else was faster while the editor was open: nothing is overwritten.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_does_not_undo_another_one() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &three());
    let key = cluster.key("config");
    let begin = json!({"ttl": 20, "loop_wait": 2});
    etcd.put(&key, &begin.to_string()).await;
    let editor = cluster.dir().join("editor");
    let script = format!(
        "#!/bin/sh\nsed -i 's/ttl: 20/ttl: 44/' \"$1\"\nETCDCTL_API=3 etcdctl --endpoints {} put {key} '{{\"ttl\": 31}}'\n",
        etcd.hosts().join(",")
    );
    std::fs::write(&editor, script).unwrap();
    let edit = format!("sh {}", editor.display());
    let program = called(&cluster, "patronictl");
    let mut command = cluster.nodes()[0].command(&program);
    command
        .env("EDITOR", edit)
        .env("TMPDIR", cluster.nodes()[0].dir())
        .arg("-c")
        .arg(cluster.nodes()[0].yaml());
    command.args(["edit-config", "--force"]);
    let output = finish(command, "");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("-ttl: 20\n+ttl: 44\n"), "{said}");
    assert!(
        said.contains("Config modification aborted due to concurrent changes"),
        "{said}"
    );
    assert!(said.contains("What was edited is kept in "), "{said}");
    assert_eq!(etcd.get(&key).await.as_deref(), Some("{\"ttl\": 31}"));
}

/// Waits until the member's key tells of a scheduled restart, or of none.
async fn wait_scheduled(etcd: &Etcd, cluster: &TestCluster, name: &str, there: bool) {
    let key = format!("members/{name}");
    cluster
        .wait_for("the member has noticed", secs(20), async || {
            let member = stored(etcd, cluster, &key).await.ok_or("it is gone")?;
            match member["scheduled_restart"].is_object() == there {
                true => Ok(()),
                false => Err(member.to_string()),
            }
        })
        .await;
}

const LATER: &str = "2130-01-01T00:00Z";

/// Orders that leave the cluster as it was, each with what is typed.
#[rustfmt::skip]
fn orders<'a>(leader: &'a str, replica: &'a str) -> Vec<(&'static str, Vec<&'a str>)> {
    vec![("", vec!["reload", "{scope}", "--force"]),
        ("n\n", vec!["reload", "{scope}", replica]),
        ("", vec!["reload", "{scope}", "n9", "--force"]),
        ("", vec!["reload", "nosuch", "--force"]),
        ("", vec!["restart", "{scope}", replica, "--force"]),
        ("now\ny\n99.1\n", vec!["restart", "{scope}", replica]),
        ("now\ny\n15\n", vec!["restart", "{scope}", replica]),
        ("soon\n", vec!["restart", "{scope}", replica]),
        ("", vec!["restart", "{scope}", replica, "--force", "--pg-version", "9.5.2"]),
        ("", vec!["restart", "{scope}", "--force", "--pending"]),
        ("", vec!["restart", "{scope}", replica, "--force", "--timeout", "-1"]),
        ("", vec!["restart", "{scope}", leader, "-r", "replica", "--force"]),
        ("", vec!["restart", "{scope}", replica, "-r", "leader", "--force"]),
        ("n\n", vec!["restart", "{scope}", "--pending", "--scheduled", LATER]),
        ("n\n", vec!["restart", "{scope}", replica, "--any", "--scheduled", LATER]),
        ("", vec!["reload", "nosuch", "n9", "--force"]),
        ("", vec!["flush", "{scope}", "n9", "restart", "--force"]),
        ("", vec!["reinit", "{scope}", leader, "--force"]),
        ("", vec!["reinit", "{scope}", "--force"]),
        ("n9\n", vec!["reinit", "{scope}", "n9"]),
        ("", vec!["flush", "{scope}", "restart", "--force"]),
        ("", vec!["flush", "{scope}", "switchover"]),
        ("", vec!["switchover", "nosuch", "--force"]),
        ("", vec!["switchover", "{scope}", "--candidate", leader, "--force"]),
        ("", vec!["switchover", "{scope}", "--leader", replica, "--force"]),
        ("", vec!["switchover", "{scope}", "--leader", leader, "--candidate", "n9"]),
        ("", vec!["switchover", "{scope}", "--scheduled", "soon", "--force"]),
        ("", vec!["failover", "{scope}", "--force"]),
        ("", vec!["failover", "nosuch", "--candidate", "n9", "--force"]),
        ("", vec!["failover", "{scope}", "--candidate", "n9"]),
        ("", vec!["resume"]),
        ("{scope}x\n", vec!["remove", "{scope}"])]
}

/// What a genuine cluster does because of it.
#[tokio::test(flavor = "multi_thread")]
async fn orders_are_patronictls() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &patroni()).await;
    let leader = cluster.wait_whole(secs(60)).await.name().to_owned();
    let replica = crate::common::other(&cluster, &leader).name().to_owned();
    let (leader, replica) = (leader.as_str(), replica.as_str());
    for (typed, args) in orders(leader, replica) {
        same(&cluster, typed, &args);
    }
    // These have to be undone before the other program does them.
    let scheduled = [
        "restart",
        "{scope}",
        replica,
        "--force",
        "--scheduled",
        LATER,
    ];
    let flush = ["flush", "{scope}", "restart", "--force"];
    let mut ends = Vec::new();
    for program in [genuine, ours] {
        let paused = program(&cluster, "", &["pause", "--wait"]);
        let twice = program(&cluster, "", &["pause"]);
        let resumed = program(&cluster, "", &["resume", "--wait"]);
        let begun = program(&cluster, "", &scheduled);
        wait_scheduled(&etcd, &cluster, replica, true).await;
        let again = program(&cluster, "y\n", &scheduled[..3]);
        let flushed = program(&cluster, "", &flush);
        wait_scheduled(&etcd, &cluster, replica, false).await;
        let outputs = [paused, twice, resumed, begun, again, flushed];
        ends.push(outputs.map(|output| still(&output)));
    }
    assert_eq!(ends[1], ends[0]);
    assert!(
        ends[1][3].contains("Success: restart scheduled"),
        "{ends:?}"
    );
    made_anew(&cluster, replica).await;
}

async fn made_anew(cluster: &TestCluster, replica: &str) {
    for args in [
        vec!["reinit", "{scope}", replica, "--force", "--wait"],
        vec![
            "reinit",
            "{scope}",
            replica,
            "--force",
            "--wait",
            "--from-leader",
        ],
    ] {
        let output = ours(cluster, "", &args);
        let said = text(&output);
        assert!(output.status.success(), "{said}");
        let end = format!(
            "Success: reinitialize for member {replica}\nWaiting for reinitialize to complete on: {replica}\n\
             Reinitialize is completed on: {replica}\n"
        );
        assert!(said.ends_with(&end), "{said}");
        cluster.wait_whole(secs(60)).await;
    }
    // Under its own name a refusal is a failure.
    let refused = cluster.ctl(&[
        "restart",
        "{scope}",
        replica,
        "--force",
        "--pg-version",
        "9.5.2",
    ]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(
        text(&refused).contains("status code=503"),
        "{}",
        text(&refused)
    );
}

/// A cluster of ours: its own commands, both names, and a cluster that is given up.
#[tokio::test(flavor = "multi_thread")]
async fn ours_has_commands_of_its_own() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().config(json!({"postgresql": {"parameters": {"max_connections": 70}}}));
    let mut cluster = TestCluster::new(&etcd, &options);
    // By the name of the program that is replaced.
    let patroni = called(&cluster, "patroni").to_string_lossy().into_owned();
    cluster
        .node_mut("n1")
        .set_kind(Kind::Command(vec![patroni]));
    cluster.start_all();
    let leader = cluster.wait_whole(secs(60)).await.name().to_owned();
    explained(&cluster).await;
    let all = text(&cluster.ctl(&["explain-config"]));
    assert!(
        all.contains("| loop_wait ") && all.contains("60 -> 61"),
        "{all}"
    );
    assert!(
        !all.contains(cluster.node("n1").target().password.as_str()),
        "{all}"
    );
    let port = cluster.node(&leader).pg_address().1;
    let queried = run(
        &cluster,
        &called(&cluster, "patronictl"),
        "",
        &["query", "-d", "postgres", "-c", "show port"],
    );
    assert_eq!(text(&queried), format!("port\n{port}\n"));
    given_up(&etcd, &cluster).await;
}

async fn explained(cluster: &TestCluster) {
    let explained = text(&cluster.ctl(&["explain-config", "max_connections"]));
    let place = format!("{}:", cluster.node("n1").yaml().display());
    for part in [
        "max_connections = 60\n".to_owned(),
        format!("  from: etcd key {}\n", cluster.key("config")),
        "  overrides: default (100)\n".to_owned(),
        format!("  ignored: {place}"),
    ] {
        assert!(
            explained.contains(&part),
            "{part} is missing in\n{explained}"
        );
    }
    refused(cluster).await;
    // By a configuration in a variable, which is that of the agent.
    let node = cluster.node("n1");
    let yaml = std::fs::read_to_string(node.yaml()).unwrap();
    let mut command = node.command(&cluster.dir().join("pgherd"));
    command
        .env("PATRONI_CONFIGURATION", yaml)
        .args(["ctl", "explain-config", "max_connections"]);
    let alone = text(&finish(command, ""));
    for part in ["max_connections = 60\n", &format!("  ignored: {place}")] {
        assert!(alone.contains(part), "{part} is missing in\n{alone}");
    }
    let changed = cluster.ctl(&["edit-config", "-p", "max_connections=61", "--force"]);
    assert!(
        text(&changed).contains("+    max_connections: 61\n"),
        "{}",
        text(&changed)
    );
    cluster
        .wait_for("a restart is pending, and why", secs(20), async || {
            let output = cluster.ctl(&["explain-config", "max_connections", "-f", "json"]);
            let told: Value = serde_json::from_slice(&output.stdout).map_err(|e| e.to_string())?;
            let wanted = json!({"old_value": "60", "new_value": "61"});
            match told[0]["pending_restart"] == wanted && told[0]["in_force"] == "60" {
                true => Ok(()),
                false => Err(told.to_string()),
            }
        })
        .await;
}

/// The agent leaves out what PostgreSQL would not start with.
async fn refused(cluster: &TestCluster) {
    let edit = |value: &str| {
        let parameter = format!("work_mem={value}");
        let changed = cluster.ctl(&["edit-config", "-p", &parameter, "--force"]);
        assert!(changed.status.success(), "{}", text(&changed));
    };
    edit("1kB");
    cluster
        .wait_for("work_mem is refused", secs(20), async || {
            let told = text(&cluster.ctl(&["explain-config", "work_mem"]));
            let begins = told.starts_with("work_mem = 4MB\n");
            let why = told.contains("\n  refused: 1 kB is outside the valid range");
            match begins && why && told.contains("; in force: 4MB\n") {
                true => Ok(()),
                false => Err(told),
            }
        })
        .await;
    let all = text(&cluster.ctl(&["explain-config"]));
    let place = cluster.key("config");
    let row = format!("refused: etcd key {place} (1kB)");
    assert!(all.contains(&row), "{all}");
    edit("null");
}

async fn given_up(etcd: &Etcd, cluster: &TestCluster) {
    for (args, code) in [
        (vec!["pause", "--wait"], 0),
        (vec!["pause"], 1),
        (vec!["resume", "--wait"], 0),
        (vec!["reload", "{scope}", "--force"], 0),
        (vec!["version", "{scope}"], 0),
    ] {
        let output = cluster.ctl(&args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {}",
            text(&output)
        );
    }
    for node in cluster.nodes() {
        assert!(node.stop().await.success());
    }
    let typed = format!("{}\nYes I am aware\n", cluster.scope());
    let removed = run(
        cluster,
        &called(cluster, "patronictl"),
        &typed,
        &["remove", "{scope}"],
    );
    assert!(removed.status.success(), "{}", text(&removed));
    assert!(etcd.list(&cluster.key("")).await.is_empty());
}
