//! A new cluster: initdb, roles, the first look, adoption, stop.

use crate::lab::*;
use pgherd_instance::{Error, Instance, ProgramOption, Readiness, StartAs, parse_control_file};
use pgherd_model::{ControlState, DataDir, Postmaster, StopMode};
use std::process::Command;

#[test]
fn a_cluster_from_nothing() {
    run("bootstrap::a_cluster_from_nothing", async |lab| {
        let node = Instance::new(lab.options("a"), Lab::server()).unwrap();
        assert_eq!(node.data_dir().await, DataDir::Empty);
        assert_eq!(node.postmaster().await, Postmaster::Down);
        assert!(node.major_version().await.unwrap() >= 13);

        let id = node.initdb(SOON).await.unwrap();
        assert_eq!(node.data_dir().await, DataDir::Initialized);
        assert_eq!(node.control_file().await.unwrap().system_id, id);
        assert!(matches!(
            node.initdb(SOON).await,
            Err(Error::DataDir { .. })
        ));

        start(&node, &StartAs::Primary).await;
        assert_eq!(node.readiness().await, Readiness::Ready);
        node.post_bootstrap(SOON).await.unwrap();
        first_look(&node).await;
    });
}

/// A crash right after initdb must not leave what looks like a whole cluster.
#[test]
fn a_new_cluster_is_marked_from_its_first_moment() {
    let name = "bootstrap::a_new_cluster_is_marked_from_its_first_moment";
    run(name, async |lab| {
        let node = Instance::new(lab.options("a"), Lab::server()).unwrap();
        let looks = {
            let node = node.clone();
            std::thread::spawn(move || {
                // Not through the instance: as quickly as this machine can.
                let unfinished = node.path().join("pgherd.unfinished");
                let control = node.path().join("global/pg_control");
                let begin = std::time::Instant::now();
                let mut looks = 0_u32;
                while begin.elapsed() < SOON && (!control.exists() || unfinished.exists()) {
                    looks += 1;
                    std::thread::yield_now();
                }
                (looks, control.exists(), node.is_half_made())
            })
        };
        node.initdb(SOON).await.unwrap();
        let (looks, there, marked) = looks.join().unwrap();
        assert!(looks > 0 && there && marked);
        assert_eq!(node.data_dir().await, DataDir::Initialized);
        start(&node, &StartAs::Primary).await;
        assert!(node.is_half_made());
        node.end_bootstrap().await.unwrap();
        assert!(!node.is_half_made());
        node.end_bootstrap().await.unwrap();
    });
}

/// What a primary that has just been made and started says of itself.
async fn first_look(node: &Instance) {
    let look = node.look().await.unwrap();
    assert!(!look.in_recovery && look.timeline.0 == 1 && look.wal.flushed.0 > 0);
    assert!(look.receiver.is_none() && look.slots.is_empty() && look.standbys.is_empty());
    assert_eq!(look.pending_restart, []);
    assert_eq!(
        look.server_version / 10000,
        node.major_version().await.unwrap()
    );
    assert!(look.start_time.len() == "2026-11-21 00:21:11.967788+00:00".len());
    let before = node.look().await.unwrap().wal.flushed;
    node.probe_commit(SOON).await.unwrap();
    assert!(node.look().await.unwrap().wal.flushed > before);
    node.checkpoint(SOON).await.unwrap();
}

#[test]
fn roles_and_the_script_after_bootstrap() {
    run(
        "bootstrap::roles_and_the_script_after_bootstrap",
        async |lab| {
            let mut options = lab.options("a");
            let script = lab.home.join("post.sh");
            // It may make our roles itself, and sees none of them before.
            let text = format!(
                "set -e\ncp \"$PGPASSFILE\" \"$1.pass\"; echo \"$2\" > \"$1\"\n\
                 sql() {{ {}/psql -XAtq -d \"$1\" -c \"$2\"; }}\n\
                 [ -e \"$1.roles\" ] && exit\n\
                 sql \"$2\" \"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'\" > \"$1.roles\"\n\
                 sql \"$2\" 'CREATE ROLE \"re plicator\" NOLOGIN CONNECTION LIMIT 7'\n",
                bin_dir().display()
            );
            std::fs::write(&script, text).unwrap();
            let told = lab.home.join("told");
            options.post_bootstrap = Some(format!("sh '{}' {}", script.display(), told.display()));
            let node = Instance::new(options, Lab::server()).unwrap();
            node.initdb(SOON).await.unwrap();
            start(&node, &StartAs::Primary).await;
            node.post_bootstrap(SOON).await.unwrap();
            node.post_bootstrap(SOON).await.unwrap();

            let conninfo = std::fs::read_to_string(&told).unwrap();
            assert!(
                conninfo.contains("dbname=postgres host=127.0.0.1"),
                "{conninfo}"
            );
            let pass = std::fs::read_to_string(lab.home.join("told.pass")).unwrap();
            assert!(pass.ends_with(":*:postgres:s'uper\\\\ secret\n"), "{pass}");
            let grants = value(
                &node,
                "SELECT count(*) FROM pg_proc, aclexplode(proacl) a JOIN pg_roles r ON r.oid = a.grantee \
                 WHERE rolname = 'rewinder' AND privilege_type = 'EXECUTE'",
            );
            assert_eq!(grants.await, "4");
            let roles = std::fs::read_to_string(lab.home.join("told.roles")).unwrap();
            assert_eq!(roles, "postgres\n");
            let altered = value(
                &node,
                "SELECT rolcanlogin AND rolreplication AND rolconnlimit = 7 FROM pg_roles \
                 WHERE rolname = 're plicator'",
            );
            assert_eq!(altered.await, "t");
            let log = std::fs::read_to_string(lab.home.join("a.log")).unwrap();
            assert!(log.contains("statement: "), "the log shows statements");
            assert!(!log.contains("secret"), "a password is in the server's log");
        },
    );
}

#[test]
fn another_agent_adopts_a_server_that_it_did_not_start() {
    run(
        "bootstrap::another_agent_adopts_a_server_that_it_did_not_start",
        async |lab| {
            let node = lab.node("a");
            node.initdb(SOON).await.unwrap();
            let handle = start(&node, &StartAs::Primary).await;
            node.post_bootstrap(SOON).await.unwrap();
            let other = Instance::new((*node.options()).clone(), Lab::server()).unwrap();
            assert_eq!(
                other.postmaster().await,
                Postmaster::Alive { pid: handle.pid }
            );
            other.look().await.unwrap();
            let adopted = other.postmaster_handle().await.unwrap();
            let ended = tokio::spawn(async move { adopted.wait_exit().await });
            stop(&other).await;
            ended.await.unwrap().unwrap();
            assert_eq!(node.postmaster().await, Postmaster::Down);
            assert_eq!(node.readiness().await, Readiness::Down);
            assert!(matches!(node.look().await, Err(Error::NotRunning(_))));
        },
    );
}

#[test]
fn pg_control_as_pg_controldata_reads_it() {
    run(
        "bootstrap::pg_control_as_pg_controldata_reads_it",
        async |lab| {
            let node = lab.primary("a").await;
            let compare = async |state: ControlState| {
                let output = Command::new(bin_dir().join("pg_controldata"))
                    .arg(node.path())
                    .env("LC_ALL", "C")
                    .output()
                    .unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                let line = |key: &str| {
                    let found = text.lines().find_map(|l| l.strip_prefix(key));
                    found.unwrap().trim_start_matches(':').trim().to_owned()
                };
                let ours = node.control_file().await.unwrap();
                assert_eq!(ours.state, state);
                assert_eq!(
                    line("Database system identifier"),
                    ours.system_id.to_string()
                );
                assert_eq!(
                    line("Latest checkpoint location"),
                    ours.checkpoint.to_string()
                );
                assert_eq!(
                    line("Latest checkpoint's TimeLineID"),
                    ours.timeline.to_string()
                );
                let end = line("Minimum recovery ending location");
                assert_eq!(end, ours.min_recovery_end.to_string());
                assert!(ours.rewindable);
                let file = std::fs::read(node.path().join("global/pg_control")).unwrap();
                assert_eq!(parse_control_file(&file), Ok(ours));
            };
            compare(ControlState::InProduction).await;
            assert_eq!(node.shutdown_point().await.unwrap(), None);
            node.stop(StopMode::Immediate, SOON).await.unwrap();
            compare(ControlState::InProduction).await;
            node.crash_recovery(SOON).await.unwrap();
            compare(ControlState::ShutDown).await;
            let point = node.shutdown_point().await.unwrap().unwrap();
            assert!(point.end > point.start);
            start(&node, &StartAs::Standby(None)).await;
            stop(&node).await;
            compare(ControlState::ShutDownInRecovery).await;
        },
    );
}

#[test]
fn a_failed_initdb_leaves_nothing() {
    run("bootstrap::a_failed_initdb_leaves_nothing", async |lab| {
        let mut options = lab.options("a");
        options.initdb = vec![ProgramOption::Value("locale".into(), "nonsense".into())];
        let node = Instance::new(options, Lab::server()).unwrap();
        let error = node.initdb(SOON).await.unwrap_err().to_string();
        assert!(
            error.contains("initdb failed") && error.contains("nonsense"),
            "{error}"
        );
        assert_eq!(node.data_dir().await, DataDir::Empty);
        // An agent that died half-way: the next one begins again.
        let good = lab.node("b");
        std::fs::create_dir(good.path()).unwrap();
        std::fs::write(good.path().join("pgherd.unfinished"), "").unwrap();
        std::fs::create_dir(good.path().join(".pgherd-new")).unwrap();
        std::fs::write(good.path().join(".pgherd-new/PG_VERSION"), "15").unwrap();
        assert_eq!(good.data_dir().await, DataDir::Unfinished);
        good.initdb(SOON).await.unwrap();
        let aside = good.set_aside().await.unwrap();
        assert!(aside.ends_with("b.failed") && aside.join("PG_VERSION").exists());
        assert_eq!(good.data_dir().await, DataDir::Empty);
        good.remove_data_dir().await.unwrap();
    });
}
