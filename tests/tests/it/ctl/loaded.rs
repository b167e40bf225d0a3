//! `explain-config` of a file that was edited since, of another file, and of another environment: in force is what the
//! agent has loaded.

use crate::common::{secs, stand_in, text, three};
use pgherd_tests::{Etcd, Kind, TestCluster, Value, json};
use std::path::Path;
use std::process::Output;

/// The value that an operator adds to the file.
const SECRET: &str = "quite another one";

/// `ctl -c FILE explain-config ARGS` with a variable of its shell.
fn explained(cluster: &TestCluster, file: &Path, args: &[&str]) -> Output {
    let mut command = cluster.node("n1").command(&cluster.dir().join("pgherd"));
    command
        .env("COLUMNS", "200")
        .env("PATRONI_LOG_MAX_QUEUE_SIZE", "9")
        .args(["ctl", "-c"])
        .arg(file)
        .arg("explain-config")
        .args(args);
    super::finish(command, "")
}

fn told(cluster: &TestCluster, name: &str) -> String {
    let output = explained(cluster, &cluster.node("n1").yaml(), &[name]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    said
}

fn has(said: &str, parts: &[String]) {
    for part in parts {
        assert!(said.contains(part.as_str()), "{part} is missing in\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_has_not_loaded_is_not_in_force() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let mut cluster = TestCluster::new(&etcd, &options);
    let program = cluster.dir().join("pgherd").display().to_string();
    let words = ["/usr/bin/env", "PATRONI_LOG_FILE_NUM=7", &program, "agent"];
    let words = words.map(str::to_owned).to_vec();
    cluster.node_mut("n1").set_kind(Kind::Command(words));
    cluster.start_all();
    cluster.wait_whole(secs(60)).await;
    environments(&cluster);
    edited(&mut cluster);
    reloaded(&cluster).await;
    of_another_file(&cluster);
    refused(&mut cluster).await;
    assert!(cluster.node("n1").stop().await.success());
    let said = told(&cluster, "work_mem");
    let unknown = "whether the agent has loaded it is not known\n";
    has(&said, &["\n  loaded: not known\n".into(), unknown.into()]);
    let output = explained(
        &cluster,
        &cluster.node("n1").yaml(),
        &["work_mem", "-f", "json"],
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = json!([null, null, "9MB"]);
    let told = &told[0];
    assert_eq!(
        json!([told["loaded"], told["in_force"], told["value"]]),
        expected
    );
}

/// That of the agent counts, that of a shell does not.
fn environments(cluster: &TestCluster) {
    let said = told(cluster, "log.file_num");
    let variable = "environment variable PATRONI_LOG_FILE_NUM";
    assert!(
        said.starts_with(&format!("log.file_num = 7\n  from: {variable}\n")),
        "{said}"
    );
    let said = told(cluster, "log.max_queue_size");
    let variable = "environment variable PATRONI_LOG_MAX_QUEUE_SIZE";
    assert!(
        said.starts_with("log.max_queue_size = 1000\n  from: default\n"),
        "{said}"
    );
    has(
        &said,
        &[format!("\n  ignored: {variable} (9): of this shell: ")],
    );
}

fn edited(cluster: &mut TestCluster) {
    let parameters = json!({"work_mem": "9MB"});
    let rewind = json!({"password": SECRET});
    let patch =
        json!({"postgresql": {"parameters": parameters, "authentication": {"rewind": rewind}}});
    cluster.node_mut("n1").change_config(&patch);
    let yaml = cluster.node("n1").yaml().display().to_string();
    let reload = format!("; reload: pgherd ctl reload {} n1\n", cluster.scope());
    let said = told(cluster, "work_mem");
    assert!(!said.starts_with("work_mem = 9MB\n"), "{said}");
    let line = format!("\n  not loaded yet: {yaml}:");
    let parts = [
        line.clone(),
        " (9MB): the agent has nothing there (since 20".into(),
    ];
    has(&said, &parts);
    has(&said, std::slice::from_ref(&reload));
    let said = told(cluster, "postgresql.authentication.rewind.password");
    has(
        &said,
        &[
            line,
            " (********): the agent has another one (since ".into(),
            reload,
        ],
    );
    let all = explained(cluster, &cluster.node("n1").yaml(), &[]);
    let all = text(&all);
    has(
        &all,
        &["| Not loaded ".into(), format!("\nnot loaded yet: {yaml}:")],
    );
    assert!(!all.contains(SECRET), "{all}");
}

async fn reloaded(cluster: &TestCluster) {
    let output = cluster.ctl(&["reload", "{scope}", "n1", "--force"]);
    assert!(output.status.success(), "{}", text(&output));
    cluster
        .wait_for("the edited file is loaded", secs(20), async || {
            let said = told(cluster, "work_mem");
            match said.starts_with("work_mem = 9MB\n") && !said.contains("not loaded") {
                true => Ok(()),
                false => Err(said),
            }
        })
        .await;
    let all = text(&explained(cluster, &cluster.node("n1").yaml(), &[]));
    assert!(all.contains("| In force "), "{all}");
    assert!(!all.to_lowercase().contains("not loaded"), "{all}");
}

/// A copy that no agent reads.
fn of_another_file(cluster: &TestCluster) {
    let yaml = cluster.node("n1").yaml();
    let copy = cluster.dir().join("c.yml");
    let whole = std::fs::read_to_string(&yaml).unwrap();
    std::fs::write(&copy, whole.replace("9MB", "64MB")).unwrap();
    pgherd_tests::process::give(&copy);
    let said = text(&explained(cluster, &copy, &["work_mem"]));
    let lines = [
        "work_mem = 9MB\n".to_owned(),
        format!("\n  not loaded: {}:", copy.display()),
        " (64MB): the agent has 9MB (since ".to_owned(),
        format!("; its file is {}\n", yaml.display()),
    ];
    has(&said, &lines);
}

/// An edit that no reload takes.
async fn refused(cluster: &mut TestCluster) {
    let patch = json!({"log": {"dir": "/nonexistent"}});
    cluster.node_mut("n1").change_config(&patch);
    let output = cluster.ctl(&["reload", "{scope}", "n1", "--force"]);
    assert!(output.status.success(), "{}", text(&output));
    let cluster = &*cluster;
    cluster
        .wait_for("the failed reload is told", secs(20), async || {
            let said = told(cluster, "log.dir");
            let parts = [
                " (/nonexistent): ",
                "; its last reload, at 20",
                "cannot be written",
            ];
            match parts.iter().all(|part| said.contains(part)) {
                true => Ok(()),
                false => Err(said),
            }
        })
        .await;
}
