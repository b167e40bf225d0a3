//! Killed, occupied, missing: what is seen and what is said.

use crate::lab::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgherd_instance::{Error, Instance, StartAs};
use pgherd_model::{ControlState, DataDir, Postmaster, StopMode};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

#[test]
fn leftovers_of_a_killed_postmaster() {
    run("faults::leftovers_of_a_killed_postmaster", async |lab| {
        let a = lab.primary("a").await;
        client(&a)
            .await
            .batch_execute("CREATE TABLE t AS SELECT 1")
            .await
            .unwrap();
        let handle = a.postmaster_handle().await.unwrap();
        let session = client(&a).await;
        let row = session
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .unwrap();
        let backend = Pid::from_raw(row.get(0));
        // A stopped child cannot notice that its parent is gone.
        kill(backend, Signal::SIGSTOP).unwrap();
        kill(Pid::from_raw(handle.pid as i32), Signal::SIGKILL).unwrap();
        tokio::time::timeout(SOON, handle.wait_exit())
            .await
            .unwrap()
            .unwrap();
        eventually("only the stopped child is left", async || {
            (a.postmaster().await == Postmaster::Leftovers(1)).then_some(())
        })
        .await;
        let start_again = a.start(&StartAs::Primary, SOON).await;
        assert!(matches!(start_again, Err(Error::StillRunning(_))));
        assert!(a.remove_data_dir().await.is_err());
        let late = a.stop(StopMode::Fast, Duration::from_millis(50)).await;
        assert!(matches!(late, Err(Error::Timeout { .. })));
        kill(backend, Signal::SIGCONT).unwrap();
        a.stop(StopMode::Fast, SOON).await.unwrap();
        assert_eq!(a.postmaster().await, Postmaster::Down);
        assert_eq!(
            a.control_file().await.unwrap().state,
            ControlState::InProduction
        );

        // Restart in place: crash recovery, same timeline.
        start(&a, &StartAs::Primary).await;
        assert_eq!(a.look().await.unwrap().timeline.0, 1);
        assert_eq!(value(&a, "SELECT count(*) FROM t").await, "1");
    });
}

/// Whatever is removed first, and wherever it lies: what is left never passes for a cluster.
#[test]
fn a_removal_that_fails_half_way_leaves_no_cluster() {
    run(
        "faults::a_removal_that_fails_half_way_leaves_no_cluster",
        async |lab| {
            let mode = |path: &Path, mode| {
                std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap()
            };
            for (name, link) in [("wal", "pg_wal"), ("space", "pg_tblspc/16384")] {
                let node = lab.node(name);
                node.initdb(SOON).await.unwrap();
                let version = std::fs::read_to_string(node.path().join("PG_VERSION")).unwrap();
                let outside = lab.home.join(format!("{name}.outside"));
                let link = node.path().join(link);
                match link.ends_with("pg_wal") {
                    true => std::fs::rename(&link, &outside).unwrap(),
                    false => std::fs::create_dir(&outside).unwrap(),
                }
                std::os::unix::fs::symlink(&outside, &link).unwrap();
                // A file that cannot go: its directory may not be written.
                let own = outside.join(format!("PG_{}_1", version.trim()));
                std::fs::create_dir_all(&own).unwrap();
                std::fs::write(own.join("1"), "").unwrap();
                mode(&own, 0o500);
                node.remove_data_dir().await.unwrap_err();
                assert_eq!(node.data_dir().await, DataDir::Unfinished, "{name}");
                let start = node.start(&StartAs::Standby(None), SOON).await;
                assert!(matches!(start, Err(Error::DataDir { .. })), "{start:?}");
                // Nor once it failed again; and then it is made up for.
                node.remove_data_dir().await.unwrap_err();
                assert_eq!(node.data_dir().await, DataDir::Unfinished, "{name}");
                mode(&own, 0o700);
                node.remove_data_dir().await.unwrap();
                assert_eq!(node.data_dir().await, DataDir::Empty, "{name}");
                assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}");
            }
        },
    );
}

#[test]
fn fast_ends_sessions_and_immediate_does_not_wait() {
    run(
        "faults::fast_ends_sessions_and_immediate_does_not_wait",
        async |lab| {
            let a = lab.primary("a").await;
            let session = client(&a).await;
            let sleeper =
                tokio::spawn(async move { session.batch_execute("SELECT pg_sleep(600)").await });
            eventually("it sleeps", async || {
                let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                (value(&a, sleeps).await == "1").then_some(())
            })
            .await;
            stop(&a).await;
            assert!(sleeper.await.unwrap().is_err());
            assert_eq!(
                a.control_file().await.unwrap().state,
                ControlState::ShutDown
            );
            start(&a, &StartAs::Primary).await;
            a.stop(StopMode::Immediate, SOON).await.unwrap();
            assert_eq!(
                a.control_file().await.unwrap().state,
                ControlState::InProduction
            );
            assert!(a.stop(StopMode::Kill, SOON).await.is_err());
            a.stop(StopMode::Fast, SOON).await.unwrap();
        },
    );
}

#[test]
fn clear_errors() {
    run("faults::clear_errors", async |lab| {
        let a = lab.node("a");
        a.initdb(SOON).await.unwrap();
        // Port.
        let taken = TcpListener::bind(("127.0.0.1", a.options().port)).unwrap();
        let error = a
            .start(&StartAs::Primary, SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("already in use") && error.contains("postgresql.listen"),
            "{error}"
        );
        drop(taken);
        // Mode.
        std::fs::set_permissions(a.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let error = a
            .start(&StartAs::Primary, SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("chmod 0700"), "{error}");
        std::fs::set_permissions(a.path(), PermissionsExt::from_mode(0o700)).unwrap();
        // A parameter that PostgreSQL does not know is left out; a file that the user names and that
        // is not there ends the start.
        let mut config = Lab::server();
        let parameters = &mut config.parameters;
        parameters.insert("no_such_parameter".into(), "1".into());
        configure(&a, config.clone()).await;
        start(&a, &StartAs::Primary).await;
        stop(&a).await;
        config.custom_conf = Some("no_such_thing.conf".to_owned());
        configure(&a, config).await;
        let error = a
            .start(&StartAs::Primary, SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("no_such_thing"), "{error}");
        configure(&a, Lab::server()).await;
        start(&a, &StartAs::Primary).await;
        stop(&a).await;
        // Programs.
        let mut options = a.options().as_ref().clone();
        options.bin_dir = Some(lab.home.clone());
        let lost = Instance::new(options, Lab::server()).unwrap();
        let error = lost.check_programs(true).await.unwrap_err().to_string();
        assert!(
            error.contains("postgres not found in") && error.contains("bin_dir"),
            "{error}"
        );
        // Somebody else's file.
        let mut options = lab.options("x");
        options.data_dir = "/etc".into();
        let foreign = Instance::new(options, Lab::server()).unwrap();
        let state = foreign.data_dir().await;
        assert!(matches!(state, DataDir::Unusable(why) if why.contains("belongs to user id")));
        assert!(foreign.remove_data_dir().await.is_err());
    });
}

/// A postmaster of our own making, as an agent's child that nobody waits for.
fn spawn(command: &pgherd_instance::StartCommand) -> std::process::Child {
    std::process::Command::new(&command.program)
        .args(&command.args)
        .env_clear()
        .envs(command.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&command.directory)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// What PostgreSQL says when it refuses to start.
fn refusal(command: &pgherd_instance::StartCommand) -> String {
    let output = spawn(command).wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A node with a Unix socket in the lab's directory, and the path of the socket's lock file.
async fn node_with_socket(lab: &Lab) -> (Instance, std::path::PathBuf) {
    let a = lab.node("a");
    a.initdb(SOON).await.unwrap();
    let mut config = Lab::server();
    let home = lab.home.to_string_lossy().into_owned();
    let name = "unix_socket_directories".to_owned();
    config.parameters.insert(name, home);
    configure(&a, config).await;
    let lock = format!(".s.PGSQL.{}.lock", a.options().port);
    (a, lab.home.join(lock))
}

#[test]
fn a_zombie_does_not_hold_the_lock() {
    run("faults::a_zombie_does_not_hold_the_lock", async |lab| {
        let (a, lock) = node_with_socket(lab).await;
        let command = a.prepare_start(&StartAs::Primary).await.unwrap();
        let mut zombie = spawn(&command);
        a.wait_started(SOON).await.unwrap();
        a.wait_ready(SOON).await.unwrap();
        kill(Pid::from_raw(zombie.id() as i32), Signal::SIGKILL).unwrap();
        eventually("nothing lives", async || {
            (a.postmaster().await == Postmaster::Down).then_some(())
        })
        .await;
        assert!(lock.exists());
        let said = refusal(&command);
        assert!(
            said.contains("lock file \"postmaster.pid\" already exists"),
            "{said}"
        );
        start(&a, &StartAs::Primary).await;
        stop(&a).await;

        // The same in the way of crash recovery.
        let text = format!("{}\n{}\n", zombie.id(), a.path().display());
        std::fs::write(a.path().join("postmaster.pid"), text).unwrap();
        a.crash_recovery(SOON).await.unwrap();
        zombie.wait().unwrap();
    });
}

/// Kills the postmaster, and gives its number in these lock files to others.
async fn crash_and_renumber(a: &Instance, files: &[(&Path, u32)]) {
    let pid = a.postmaster_handle().await.unwrap().pid;
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    eventually("nothing lives", async || {
        let reaped = !Path::new(&format!("/proc/{pid}")).exists();
        (reaped && a.postmaster().await == Postmaster::Down).then_some(())
    })
    .await;
    for (file, other) in files {
        let text = std::fs::read_to_string(file).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, pid.to_string());
        std::fs::write(file, format!("{other}\n{rest}")).unwrap();
    }
}

/// The process id that a killed postmaster left behind is that of another process of the same user.
#[test]
fn a_number_that_another_process_has_now_is_no_lock() {
    run(
        "faults::a_number_that_another_process_has_now_is_no_lock",
        async |lab| {
            let (a, lock) = node_with_socket(lab).await;
            let pid_file = a.path().join("postmaster.pid");
            let plain = a.prepare_start(&StartAs::Primary).await.unwrap();
            let sleep = || {
                std::process::Command::new("sleep")
                    .arg("600")
                    .spawn()
                    .unwrap()
            };
            let (mut one, mut other) = (sleep(), sleep());
            start(&a, &StartAs::Primary).await;
            crash_and_renumber(&a, &[(&pid_file, one.id()), (&lock, one.id())]).await;
            let said = refusal(&plain);
            assert!(
                said.contains("lock file \"postmaster.pid\" already exists"),
                "{said}"
            );
            start(&a, &StartAs::Primary).await;

            // Two others, in the way of crash recovery and of a start.
            crash_and_renumber(&a, &[(&pid_file, one.id()), (&lock, other.id())]).await;
            a.crash_recovery(SOON).await.unwrap();
            start(&a, &StartAs::Primary).await;

            crash_and_renumber(&a, &[(&pid_file, one.id()), (&lock, other.id())]).await;
            start(&a, &StartAs::Primary).await;
            stop(&a).await;
            for child in [&mut one, &mut other] {
                assert!(child.try_wait().unwrap().is_none(), "nobody harmed it");
                child.kill().unwrap();
                child.wait().unwrap();
            }
        },
    );
}

#[test]
fn empty_lock_files_are_no_locks() {
    run("faults::empty_lock_files_are_no_locks", async |lab| {
        let (a, lock) = node_with_socket(lab).await;
        let pid_file = a.path().join("postmaster.pid");
        let command = a.prepare_start(&StartAs::Primary).await.unwrap();
        for path in [&lock, &pid_file] {
            std::fs::write(path, "").unwrap();
            let said = refusal(&command);
            assert!(
                said.contains("lock file") && said.contains("is empty"),
                "{said}"
            );
        }
        start(&a, &StartAs::Primary).await;
        let pid = a.postmaster_handle().await.unwrap().pid.to_string();
        let text = std::fs::read_to_string(&lock).unwrap();
        assert_eq!(text.lines().next(), Some(pid.as_str()));
    });
}

/// Its program was renamed, and whoever looks does not know the name: it runs all the same.
#[test]
fn a_server_by_an_unknown_name_is_not_down() {
    run(
        "faults::a_server_by_an_unknown_name_is_not_down",
        async |lab| {
            let a = lab.primary("a").await;
            stop(&a).await;
            let server = lab.home.join("server-of-our-own");
            std::fs::copy(bin_dir().join("postgres"), &server).unwrap();
            let mut options = (*a.options()).clone();
            options.bin_dir = Some(lab.home.clone());
            let name = "server-of-our-own".to_owned();
            options.bin_name.insert("postgres".to_owned(), name.clone());
            let renamed = Instance::new(options, Lab::server()).unwrap();
            let handle = start(&renamed, &StartAs::Primary).await;
            assert!(renamed.server_programs().contains(&name));
            let stranger = Instance::new((*a.options()).clone(), Lab::server()).unwrap();
            assert!(!stranger.server_programs().contains(&name));
            let alive = Postmaster::Alive { pid: handle.pid };
            assert_eq!(stranger.postmaster().await, alive);
            assert_eq!(renamed.postmaster().await, alive);
            // One that is stopped does not notice the postmaster's death.
            let client = client(&renamed).await;
            let row = client
                .query_one("SELECT pg_backend_pid()", &[])
                .await
                .unwrap();
            let stays: i32 = row.get(0);
            kill(Pid::from_raw(stays), Signal::SIGSTOP).unwrap();
            kill(Pid::from_raw(handle.pid as i32), Signal::SIGKILL).unwrap();
            handle.wait_exit().await.unwrap();
            for node in [&stranger, &renamed] {
                let left = node.postmaster().await;
                assert!(matches!(left, Postmaster::Leftovers(1..)), "{left:?}");
            }
            kill(Pid::from_raw(stays), Signal::SIGKILL).unwrap();
            for node in [&stranger, &renamed] {
                eventually("nothing is left", async || {
                    (node.postmaster().await == Postmaster::Down).then_some(())
                })
                .await;
            }
        },
    );
}
