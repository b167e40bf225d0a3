//! `pgherd install agent`: the unit, and what a service manager that follows it does to PostgreSQL.

use crate::common::{root, secs, stand_in, start_time, text, three};
use pgherd_tests::{Etcd, Kind, Node, Signal, TestCluster, json, process, skip, wait_for};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

async fn one() -> (Etcd, TestCluster) {
    let mut options = three();
    options.nodes.truncate(1);
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &options);
    (etcd, cluster)
}

/// `pgherd install agent NODE.yml ARGS` as whoever runs the tests: root asks for users.
fn install(cluster: &TestCluster, args: &[&str]) -> Output {
    let mut command = Command::new(cluster.dir().join("pgherd"));
    command
        .args(["install", "agent"])
        .arg(cluster.node("n1").yaml());
    command.args(args).stdin(Stdio::null());
    process::output(&mut command).unwrap()
}

/// The same by another name of the program and of the file, and with variables.
fn install_by(names: (&Path, &Path), args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(names.0);
    command.args(["install", "agent"]).arg(names.1).args(args);
    command.envs(env.iter().copied()).stdin(Stdio::null());
    process::output(&mut command).unwrap()
}

/// Where the unit of this cluster is put.
fn units(cluster: &TestCluster) -> (PathBuf, PathBuf) {
    let dir = cluster.dir().join("units");
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join(format!("pgherd-{}.service", cluster.scope()));
    (dir, file)
}

/// The value of a setting of the unit.
fn setting<'t>(unit: &'t str, key: &str) -> Option<&'t str> {
    let lines = unit.lines();
    let mut values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_written_once_and_nothing_is_started() {
    if stand_in() || !root("users are looked at") {
        return;
    }
    let (_etcd, cluster) = one().await;
    let (dir, file) = units(&cluster);
    let into = ["--unit-dir", dir.to_str().unwrap()];
    let printed = install(&cluster, &["--print"]);
    assert!(
        printed.status.success() && printed.stderr.is_empty(),
        "{}",
        text(&printed)
    );
    assert!(!file.exists(), "--print writes nothing");

    let output = install(&cluster, &into);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(": written; user postgres"), "{said}");
    assert!(said.contains("Nothing was started"), "{said}");
    let unit = std::fs::read_to_string(&file).unwrap();
    assert_eq!(unit, String::from_utf8_lossy(&printed.stdout));
    let node = cluster.node("n1");
    let start = format!(
        "{}/pgherd agent {}",
        cluster.dir().display(),
        node.yaml().display()
    );
    for (key, value) in [
        ("ExecStart", start.as_str()),
        ("User", "postgres"),
        ("Type", "notify"),
        ("KillMode", "process"),
        ("RestartKillSignal", "SIGKILL"),
        ("LimitMEMLOCK", "infinity"),
    ] {
        assert_eq!(setting(&unit, key), Some(value), "{unit}");
    }
    assert!(!node.agent_alive() && !node.data_dir().exists());

    let again = text(&install(&cluster, &into));
    assert!(again.contains("was there already, unchanged"), "{again}");
    std::fs::write(&file, "# mine\n").unwrap();
    let refused = install(&cluster, &into);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("--force"), "{}", text(&refused));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
    let forced = install(&cluster, &[&into[..], &["--force"]].concat());
    assert!(text(&forced).contains(": overwritten"), "{}", text(&forced));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), unit);
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        1,
        "nothing else is left"
    );
}

/// What would keep the unit from starting is told with its remedy, and no unit is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_would_not_start_is_refused() {
    if stand_in() || !root("owners are changed") {
        return;
    }
    let (_etcd, mut cluster) = one().await;
    let (dir, file) = units(&cluster);
    let into = ["--unit-dir", dir.to_str().unwrap()];
    cluster
        .node_mut("n1")
        .change_config(&json!({"restapi": {"certfile": "/nonexistent/rest.pem"}}));
    let yaml = cluster.node("n1").yaml();
    std::os::unix::fs::chown(&yaml, Some(0), Some(0)).unwrap();
    let output = install(&cluster, &into);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1));
    for words in [
        format!(
            "user postgres may not read {0}: chown postgres {0}",
            yaml.display()
        ),
        "may not read /nonexistent/rest.pem (restapi.certfile): it is not there".to_owned(),
    ] {
        assert!(said.contains(&words), "{words}: {said}");
    }
    assert!(!file.exists());
    let root = install(&cluster, &["--user", "root"]);
    assert!(
        text(&root).contains("refuses to be run by root"),
        "{}",
        text(&root)
    );
    let nobody = install(&cluster, &["--user", "no-such-user"]);
    assert!(
        text(&nobody).contains("there is no user no-such-user"),
        "{}",
        text(&nobody)
    );
}

/// The unit's agent gets no variable of the shell that installs it.
#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_judged_by_its_files_alone() {
    if stand_in() || !root("users are looked at") {
        return;
    }
    let (_etcd, mut cluster) = one().await;
    let program = cluster.dir().join("pgherd");
    let yaml = cluster.node("n1").yaml();
    let env = [("PATRONI_SCOPE", "another")];
    let by = |args: &[&str]| install_by((&program, &yaml), args, &env);
    let missing = "the unit will not have PATRONI_SCOPE: put it into the file";
    let (dir, file) = units(&cluster);
    let into = ["--unit-dir", dir.to_str().unwrap()];
    let refused = by(&into);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains(missing), "{}", text(&refused));
    assert!(!file.exists());
    let forced = by(&[&into[..], &["--force"]].concat());
    assert!(forced.status.success(), "{}", text(&forced));
    assert!(file.exists(), "named by the file's scope");
    cluster
        .node_mut("n1")
        .change_config(&json!({"scope": null}));
    let output = by(&into);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("scope") && said.contains(missing), "{said}");
}

/// Links stay: an upgrade, or a change of configurations, is a link that leads elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_written_into_the_unit_as_they_are() {
    if stand_in() || !root("users are looked at") {
        return;
    }
    let (_etcd, mut cluster) = one().await;
    cluster
        .node_mut("n1")
        .change_config(&json!({"scope": "a b"}));
    let yaml = cluster.node("n1").yaml();
    let (program, config) = (cluster.dir().join("current"), cluster.dir().join("n1.link"));
    std::os::unix::fs::symlink(cluster.dir().join("pgherd"), &program).unwrap();
    std::os::unix::fs::symlink(&yaml, &config).unwrap();
    let dir = units(&cluster).0;
    let into = ["--unit-dir", dir.to_str().unwrap()];
    let output = install_by((&program, &config), &into, &[]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let next = "  systemctl enable --now 'pgherd-a\\x20b.service'   #";
    assert!(
        said.contains(next),
        "a shell takes backslashes away: {said}"
    );
    let unit = std::fs::read_to_string(dir.join("pgherd-a\\x20b.service")).unwrap();
    let start = format!("{} agent {}", program.display(), config.display());
    assert_eq!(setting(&unit, "ExecStart"), Some(start.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_understands_the_unit() {
    if stand_in() || !root("users are looked at") {
        return;
    }
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skip::lacking(skip::Need::Systemd, "no systemd-analyze here");
        return;
    }
    let (_etcd, cluster) = one().await;
    let (dir, file) = units(&cluster);
    let output = install(&cluster, &["--unit-dir", dir.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output));
    let mut verify = Command::new("timeout");
    verify.args(["60", "systemd-analyze", "verify", "--man=no"]);
    let output = verify.arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "", "unknown settings are only warned of");
}

/// As much of systemd as the unit needs: its socket, its signals, its command line.
struct Manager {
    socket: UnixDatagram,
    unit: String,
}

impl Manager {
    /// Listens in the member's directory, and has the member started as the unit says.
    fn new(cluster: &mut TestCluster, unit: String, watchdog: Duration) -> Manager {
        let path = cluster.node("n1").dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        process::give(&path);
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let start = setting(&unit, "ExecStart").unwrap();
        let mut words = vec![
            "/usr/bin/env".to_owned(),
            format!("NOTIFY_SOCKET={}", path.display()),
            format!("WATCHDOG_USEC={}", watchdog.as_micros()),
        ];
        words.extend(start.split(' ').map(str::to_owned));
        // The harness puts the file there itself.
        assert_eq!(
            words.pop(),
            Some(cluster.node("n1").yaml().display().to_string())
        );
        cluster.node_mut("n1").set_kind(Kind::Command(words));
        Manager { socket, unit }
    }

    /// Waits until the agent has sent a message with this line.
    async fn told(&self, line: &str) {
        let what = format!("the agent tells {line}");
        let wait = wait_for(&what, secs(20), async || {
            let mut bytes = [0; 4096];
            match self.socket.recv(&mut bytes) {
                Ok(length) => {
                    let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    match message.lines().any(|it| it.starts_with(line)) {
                        true => Ok(()),
                        false => Err(message),
                    }
                }
                Err(error) => Err(error.to_string()),
            }
        });
        wait.await;
    }

    /// `systemctl restart`.
    async fn restart(&self, node: &Node) {
        assert_eq!(setting(&self.unit, "KillMode"), Some("process"));
        assert_eq!(setting(&self.unit, "RestartKillSignal"), Some("SIGKILL"));
        node.kill_agent();
        assert!(node.guard_pid().is_some(), "the guard runs on alone");
        node.start();
        self.told("READY=1").await;
    }
}

/// `systemctl restart`, `reload` and `stop` by the unit's own words.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_unit_touches_neither_postgresql_nor_the_lock() {
    if stand_in() || !root("users are looked at") {
        return;
    }
    let (etcd, mut cluster) = one().await;
    let printed = install(&cluster, &["--print"]);
    let unit = String::from_utf8(printed.stdout).unwrap();
    let manager = Manager::new(&mut cluster, unit, Duration::from_secs(3));
    let node = cluster.node("n1");
    node.start();
    manager.told("READY=1").await;
    manager.told("STATUS=").await;
    cluster.wait_whole(secs(40)).await;
    manager.told("WATCHDOG=1").await;
    let (started, guard) = (start_time(node).await, node.guard_pid());
    let leader = cluster.key("leader");
    let lock = etcd.list(&leader).await;
    for _ in 0..2 {
        manager.restart(node).await;
        cluster.wait_whole(secs(20)).await;
        assert_eq!(start_time(node).await, started, "PostgreSQL ran on");
        assert_eq!(etcd.list(&leader).await, lock, "nobody else had the lock");
    }
    assert!(guard.is_some() && node.guard_pid().is_some());
    let postgres = environment(node.postmaster_pid().unwrap());
    assert!(
        !postgres.contains("NOTIFY_SOCKET"),
        "PostgreSQL has no say: {postgres}"
    );

    node.signal_agent(Signal::HUP);
    manager.told("RELOADING=1").await;
    manager.told("READY=1").await;

    node.signal_agent(Signal::TERM);
    manager.told("STOPPING=1").await;
    assert_eq!(node.agent_exit(secs(30)).await.code(), Some(0));
    assert!(
        node.postgres().is_empty(),
        "stop stops PostgreSQL, as Patroni does"
    );
}

fn environment(pid: i32) -> String {
    let path = PathBuf::from(format!("/proc/{pid}/environ"));
    String::from_utf8_lossy(&std::fs::read(Path::new(&path)).unwrap()).replace('\0', "\n")
}
