//! The agent's own log: files and their rotation, forms, levels, and that nobody waits for a line to
//! be written.

use crate::common::{secs, stand_in, start_time, status, stays, stored, three};
use pgherd_tests::process::{self, give};
use pgherd_tests::{ClusterOptions, Etcd, Kind, Node, Signal, TestCluster, Value, json};
use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

fn one() -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(1);
    options
}

/// Lease of the leader and start of PostgreSQL.
async fn undisturbed(etcd: &Etcd, cluster: &TestCluster) -> Value {
    let lease = etcd.lease_of(&cluster.key("leader")).await;
    let leader = stored(etcd, cluster, "leader").await;
    json!([lease, leader, start_time(cluster.node("n1")).await])
}

/// A directory of this member's user.
fn directory(node: &Node, name: &str) -> PathBuf {
    let dir = node.dir().join(name);
    std::fs::create_dir(&dir).unwrap();
    give(&dir);
    dir
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits until a line of a file, after so many bytes, is right.
async fn wait_line(
    cluster: &TestCluster,
    file: &Path,
    skip: usize,
    what: &str,
    right: impl Fn(&str) -> bool,
) {
    let what = format!("{} says {what}", file.display());
    cluster
        .wait_for(&what, secs(20), async || {
            let text = read(file);
            let text = text.get(skip..).unwrap_or_default();
            match text.lines().any(&right) {
                true => Ok(()),
                false => Err(text.lines().rev().take(3).collect::<Vec<_>>().join("\n")),
            }
        })
        .await;
}

/// Other settings, and how long the output was before them.
fn set(cluster: &mut TestCluster, log: &Value) -> usize {
    let node = cluster.node_mut("n1");
    node.change_config(&json!({"log": null}));
    node.change_config(&json!({"log": log}));
    let before = node.log().len();
    node.signal_agent(Signal::HUP);
    before
}

/// Rotated files in a form of their own, from the start.
async fn files_are_rotated(cluster: &TestCluster, dir: &Path) {
    let file = |number: u32| match number {
        0 => dir.join("patroni.log"),
        number => dir.join(format!("patroni.log.{number}")),
    };
    cluster
        .wait_for("two older files", secs(40), async || {
            match file(2).exists() {
                true => Ok(()),
                false => Err(read(&file(0))),
            }
        })
        .await;
    let output = cluster.node("n1").log();
    assert!(!output.contains("Lock owner"), "{output}");
    let mut debugs = false;
    for number in [0, 1, 2] {
        let Ok(seen) = std::fs::metadata(file(number)) else {
            continue; // Just being moved on.
        };
        assert_eq!(seen.permissions().mode() & 0o777, 0o640);
        let text = read(&file(number));
        let formed = |line: &&str| line.starts_with("20") && line.get(10..13) == Some(" | ");
        let mut lines = text.lines().filter(formed).peekable();
        assert!(lines.peek().is_some(), "{text}");
        debugs |= lines.any(|line| line.contains("DEBUG    | pgherd_"));
    }
    assert!(debugs, "{}", read(&file(0)));
    assert!(!file(3).exists());
}

/// Every setting from the start and by reload; a directory that is missing, a disk that is full.
#[tokio::test(flavor = "multi_thread")]
async fn all_settings_of_log() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &one());
    let dir = directory(cluster.node("n1"), "logs");
    let node = cluster.node_mut("n1");
    node.change_config(&json!({"log": {
        "dir": dir,
        "format": "%(asctime)s | %(levelname)-8s | %(name)s: %(message)s",
        "dateformat": "%Y/%m/%d",
        "file_size": 1000, "file_num": 2, "mode": 0o640,
        "level": "WARNING",
        "loggers": {"patroni": "DEBUG"},
        "max_queue_size": 500,
        "traceback_level": "DEBUG",
    }}));
    node.start();
    cluster.wait_streaming(0, secs(40)).await;
    files_are_rotated(&cluster, &dir).await;
    let before = undisturbed(&etcd, &cluster).await;
    let output = cluster.node("n1").log_file();

    let form = json!({
        "type": "json",
        "format": ["levelname", {"message": "msg"}, "process"],
        "static_fields": {"app": "demo"},
    });
    let skip = set(&mut cluster, &form);
    let said = |level: &'static str, words: &'static str| {
        move |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let message = line["msg"].as_str().unwrap_or_default();
            line["app"] == "demo" && line["levelname"] == level && message.contains(words)
        }
    };
    let reloaded = "the configuration was reloaded, changed: log";
    wait_line(&cluster, &output, skip, "JSON", said("INFO", reloaded)).await;

    let missing = json!({"type": "json", "dir": dir.join("missing")});
    let skip = set(&mut cluster, &missing);
    let refused = "missing/patroni.log cannot be written: No such file or directory";
    wait_line(&cluster, &output, skip, refused, said("ERROR", refused)).await;
    let owner = "Lock owner: n1; I am n1";
    let skip = cluster.node("n1").log().len();
    wait_line(&cluster, &output, skip, owner, said("INFO", owner)).await;

    // Then a disk that is full from the beginning, and one that has room again.
    let full = directory(cluster.node("n1"), "full");
    let name = full.join("patroni.log");
    std::os::unix::fs::symlink("/dev/full", &name).unwrap();
    let skip = set(&mut cluster, &json!({"dir": full}));
    let plain = |words: &'static str| move |line: &str| line.contains(words);
    let refused = "patroni.log cannot be written: No space left on device";
    wait_line(&cluster, &output, skip, refused, plain(refused)).await;
    wait_line(&cluster, &output, skip, owner, plain(owner)).await;
    std::fs::remove_file(&name).unwrap();
    cluster.node("n1").signal_agent(Signal::HUP);
    wait_line(&cluster, &name, 0, owner, plain(owner)).await;
    assert_eq!(undisturbed(&etcd, &cluster).await, before);

    // The end is written too.
    cluster.node("n1").stop().await;
    let text = read(&name);
    assert!(
        text.ends_with('\n') && !text.contains("| pgherd_"),
        "{text}"
    );
}

/// The guard speaks as its agent does.
#[tokio::test(flavor = "multi_thread")]
async fn the_guard_has_the_form_of_the_agent() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let form = json!({"type": "json", "format": [{"message": "msg"}, "levelname"]});
    let cluster = TestCluster::formed(&etcd, &one().config(json!({"log": form}))).await;
    let node = cluster.node("n1");
    node.signal_agent(Signal::STOP);
    let fired = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let message = line["msg"].as_str().unwrap_or_default();
        line["levelname"] == "WARNING" && message.contains("the lock ran out: killed")
    };
    wait_line(&cluster, &node.log_file(), 0, "what was killed", fired).await;
    node.signal_agent(Signal::CONT);
}

/// The reading end of a pipe as small as the system has it, which is the agent's output.
fn narrow_pipe(node: &mut Node) -> File {
    let name = node.dir().join("output");
    rustix::fs::mkfifoat(rustix::fs::CWD, &name, 0o600.into()).unwrap();
    give(&name);
    let flags = rustix::fs::OFlags::NONBLOCK.bits();
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(&name)
        .unwrap();
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let program = node.agent_command();
    let program = program.get_program().display().to_string();
    let script = format!("exec {program} agent \"$0\" >{} 2>&1", name.display());
    let words = ["/bin/sh", "-c", script.as_str()];
    node.set_kind(Kind::Command(words.map(str::to_owned).to_vec()));
    reader
}

/// Everything that is in the pipe now.
fn drained(mut pipe: &File) -> String {
    let mut bytes = Vec::new();
    // Ends when it is empty.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nobody reads the agent's output: it leads on, counts what it could not say and tells that later,
/// and ends when it is told to.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_nobody_reads() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = one().config(json!({
        // Lines so long that few of them fill the pipe.
        "log": {
            "level": "DEBUG", "max_queue_size": 5,
            "format": "%(asctime)s %(levelname)s: %(message)-900s",
        },
        // PostgreSQL has the same output, and would wait.
        "postgresql": {"parameters": {"logging_collector": "on"}},
    }));
    let mut cluster = TestCluster::new(&etcd, &options);
    let pipe = narrow_pipe(cluster.node_mut("n1"));
    let node = cluster.node("n1");
    node.start();
    cluster.wait_streaming(0, secs(40)).await;
    let lost = async || {
        cluster
            .wait_for("lines are lost", secs(40), async || {
                let now = status(node).await?;
                match now["logger_records_lost"].as_u64() {
                    Some(lost) if lost > 0 => Ok(lost),
                    _ => Err(now.to_string()),
                }
            })
            .await
    };
    lost().await;
    let before = undisturbed(&etcd, &cluster).await;
    stays("the leader", secs(8), async || {
        match undisturbed(&etcd, &cluster).await == before && node.writable().await {
            true => Ok(()),
            false => Err("it was disturbed".to_owned()),
        }
    })
    .await;
    let mut text = String::new();
    cluster
        .wait_for("what is missing is told", secs(20), async || {
            text += &drained(&pipe);
            let said = " WARNING: the log has lost ";
            text.contains(said).then_some(()).ok_or(text.clone())
        })
        .await;
    cluster
        .wait_for("lines wait again", secs(40), async || {
            let now = status(node).await?;
            let waiting = now["logger_queue_size"].is_u64();
            waiting.then_some(()).ok_or(now.to_string())
        })
        .await;
    assert_eq!(undisturbed(&etcd, &cluster).await, before);
    let pid = node.agent_pid().unwrap();
    assert_eq!(node.stop().await.code(), Some(0), "agent {pid}");
    assert!(process::all().iter().all(|p| p.pid != pid));
    drop(pipe);
}
