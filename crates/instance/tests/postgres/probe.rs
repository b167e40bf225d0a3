//! The licence's probe: what it finds out, how soon, and what it leaves behind.

use crate::encrypted::certificate;
use crate::lab::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgherd_instance::{Error, Instance, Probe, StartAs};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Process of the session on which the probes commit.
async fn session(node: &Instance) -> Pid {
    const SQL: &str = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%''alive''%' \
                       AND pid <> pg_backend_pid()";
    Pid::from_raw(value(node, SQL).await.parse().unwrap())
}

/// Processes of the server but for the postmaster.
fn children(postmaster: u32) -> usize {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let parent = |stat: String| {
        let after = stat.rsplit_once(')')?.1.split_whitespace().nth(1);
        after?.parse::<u32>().ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let parents = entries.filter_map(|entry| parent(stat(entry)?));
    parents.filter(|parent| *parent == postmaster).count()
}

fn log(node: &Instance) -> String {
    std::fs::read_to_string(node.options().server_log.as_ref().unwrap()).unwrap()
}

async fn commits(node: &Instance) {
    assert_eq!(node.probe_commit(SOON).await.unwrap(), Probe::Committed);
}

/// What the server writes into its log while this is done, and until the processes that it started for that are gone.
async fn logged(node: &Instance, work: impl AsyncFnOnce()) -> String {
    let postmaster = node.postmaster_handle().await.unwrap().pid;
    let before = (children(postmaster), log(node).len());
    work().await;
    eventually("nobody else is left", async || {
        (children(postmaster) <= before.0).then_some(())
    })
    .await;
    log(node).split_off(before.1)
}

/// By TCP, with and without TLS, and by a Unix socket.
#[test]
fn a_probe_leaves_no_line_in_the_log() {
    run("probe::a_probe_leaves_no_line_in_the_log", async |lab| {
        let (cert, key) = certificate(&lab.home, "server");
        let home = lab.home.display().to_string();
        let socket = [("unix_socket_directories", home.as_str())];
        let tls = [
            ("ssl", "on"),
            ("ssl_cert_file", &cert),
            ("ssl_key_file", &key),
        ];
        let none: &[(&str, &str)] = &[];
        for (name, parameters) in [("tcp", none), ("socket", &socket), ("tls", &tls)] {
            let mut config = Lab::server();
            let quiet = [("log_statement", "none"), ("log_checkpoints", "off")];
            for (name, value) in quiet.iter().chain(parameters) {
                let entry = ((*name).to_owned(), (*value).to_owned());
                config.parameters.extend([entry]);
            }
            let mut options = lab.options(name);
            options.use_unix_socket = name == "socket";
            options
                .bootstrap_pg_hba
                .push("local all all scram-sha-256".to_owned());
            let node = Instance::new(options, config).unwrap();
            node.initdb(SOON).await.unwrap();
            start(&node, &StartAs::Primary).await;
            commits(&node).await;
            let said = logged(&node, async || {
                for _ in 0..5 {
                    commits(&node).await;
                }
            });
            assert_eq!(said.await, "", "{name}");
            // Whoever asks for TLS and goes is told of: what is looked at here would show it.
            if name == "tls" {
                let port = node.options().port;
                let said = logged(&node, async || {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).unwrap();
                    stream.read_exact(&mut [0]).unwrap();
                });
                let said = said.await;
                assert!(said.contains("could not accept SSL connection"), "{said}");
            }
            stop(&node).await;
        }
    });
}

/// A postmaster that hangs is found out in a part of the time, though whoever is in may commit.
#[test]
fn a_stopped_postmaster_answers_nobody_new() {
    let name = "probe::a_stopped_postmaster_answers_nobody_new";
    run(name, async |lab| {
        let a = lab.primary("a").await;
        commits(&a).await;
        let kept = session(&a).await;
        let in_it = client(&a).await;
        let postmaster = Pid::from_raw(a.postmaster_handle().await.unwrap().pid as i32);
        kill(postmaster, Signal::SIGSTOP).unwrap();
        let limit = Duration::from_secs(10);
        for _ in 0..2 {
            let begun = Instant::now();
            let error = a.probe_commit(limit).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { .. }), "{error}");
            assert!(begun.elapsed() < limit / 2, "{:?}", begun.elapsed());
            in_it
                .batch_execute("CREATE TABLE IF NOT EXISTS t ()")
                .await
                .unwrap();
        }
        kill(postmaster, Signal::SIGCONT).unwrap();
        eventually("it answers again", async || {
            a.probe_commit(limit).await.ok()
        })
        .await;
        assert_eq!(session(&a).await, kept);
    });
}

/// All probes take one session; one that hangs, or is ended, is replaced.
#[test]
fn probes_log_in_once() {
    run("probe::probes_log_in_once", async |lab| {
        let a = lab.primary("a").await;
        commits(&a).await;
        let first = session(&a).await;
        for _ in 0..3 {
            commits(&a).await;
        }
        assert_eq!(session(&a).await, first);

        kill(first, Signal::SIGSTOP).unwrap();
        let found = a.probe_commit(Duration::from_secs(9)).await.unwrap();
        assert_eq!(found, Probe::Committed, "the others are well");
        kill(first, Signal::SIGCONT).unwrap();
        eventually("it has ended", async || {
            kill(first, None).is_err().then_some(())
        })
        .await;
        let second = session(&a).await;
        let end = format!("SELECT pg_terminate_backend({second})");
        value(&a, &end).await;
        commits(&a).await;
        assert!(session(&a).await != second);

        // And after a restart.
        stop(&a).await;
        assert!(a.probe_commit(SOON).await.is_err());
        start(&a, &StartAs::Primary).await;
        commits(&a).await;
    });
}

/// Nobody new gets in: whoever is in commits, and where nobody is, that is a refusal.
#[test]
fn a_refused_login_is_no_hang() {
    run("probe::a_refused_login_is_no_hang", async |lab| {
        let a = lab.primary("a").await;
        commits(&a).await;
        let in_it = client(&a).await;
        let rename = "ALTER ROLE postgres PASSWORD 'another one'";
        in_it.batch_execute(rename).await.unwrap();
        commits(&a).await;
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        in_it.batch_execute(all).await.unwrap();
        let found = eventually("it is refused", async || match a.probe_commit(SOON).await {
            Ok(Probe::Refused(words)) => Some(words),
            Ok(Probe::Committed) | Err(_) => None,
        });
        let found = found.await;
        assert!(found.contains("28P01"), "{found}");
        let back = r"ALTER ROLE postgres PASSWORD 's''uper\ secret'";
        in_it.batch_execute(back).await.unwrap();
        commits(&a).await;
    });
}
