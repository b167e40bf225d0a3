//! Another program takes the agent's place in the same process: PostgreSQL, the lock and its lease do not
//! notice, and there is a guard all the time.

use crate::common::{secs, stand_in, start_time, text, three, wait_health, with_own_program};
use pgherd_tests::{Etcd, Kind, Node, Signal, TestCluster, Writer, json, process, rest, watcher};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// As a package manager does it: another file under the same name.
fn replace(program: &Path, content: &[u8]) {
    let new = program.with_extension("new");
    let mut file = std::fs::File::create(&new).unwrap();
    file.write_all(content).unwrap();
    drop(file);
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&new, program).unwrap();
}

/// When the program that answers began.
pub(crate) async fn began(node: &Node) -> Result<String, String> {
    let answer = node.get("/pgherd/explain").await?;
    let explain: pgherd_tests::Value =
        serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
    Ok(explain["agent"]["started_ms"].to_string())
}

pub(crate) async fn wait_taken_over(cluster: &TestCluster, node: &Node, before: &str) {
    cluster
        .wait_for("another program answers", secs(30), async || {
            match began(node).await? {
                now if now != before => Ok(()),
                now => Err(now),
            }
        })
        .await;
}

/// A load balancer that asks without pause, on a connection each, and remembers every answer but 200.
struct Balancer {
    end: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    asking: tokio::task::JoinHandle<Vec<String>>,
}

impl Balancer {
    fn start(url: String) -> Balancer {
        let (end, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, counts) = (end.clone(), asked.clone());
        let asking = tokio::spawn(async move {
            let mut others = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                match rest::request("GET", &url, None, None).await {
                    Ok(answer) if answer.status == 200 => {}
                    Ok(answer) => others.push(format!("{answer:?}")),
                    Err(error) => others.push(error),
                }
                counts.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            others
        });
        Balancer { end, asked, asking }
    }

    /// After an answer to a question that is asked from now on.
    async fn stop(self, cluster: &TestCluster) -> Vec<String> {
        let before = self.asked.load(Ordering::Relaxed);
        cluster
            .wait_for("answers", secs(20), async || {
                match self.asked.load(Ordering::Relaxed) {
                    more if more > before + 1 => Ok(()),
                    same => Err(same.to_string()),
                }
            })
            .await;
        self.end.store(true, Ordering::Relaxed);
        self.asking.await.unwrap()
    }
}

/// Of the leader, by the file that replaced its program; then once more by a signal.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_the_leaders_agent_is_another_program() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let (cluster, program) = with_own_program(&etcd, three(), "n1");
    cluster.node("n1").start();
    let node = cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    cluster.wait_whole(secs(60)).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    let (pid, started) = (node.agent_pid(), start_time(node).await);
    let lock = etcd.revisions(&cluster.key("leader")).await;
    let lease = etcd.lease_of(&cluster.key("leader")).await;
    let balancer = Balancer::start(node.url("/primary"));
    for round in 0..2 {
        let (before, guard) = (began(node).await.unwrap(), node.guards());
        if round == 0 {
            let mut content = std::fs::read(&program).unwrap();
            content.extend_from_slice(b"another build");
            replace(&program, &content);
            let answer = node.request("POST", "/pgherd/upgrade", "").await.unwrap();
            assert_eq!(answer.status, 202, "{answer:?}");
            assert!(answer.body.starts_with("pgherd "), "{answer:?}");
        } else {
            node.signal_agent(Signal::USR2);
        }
        wait_taken_over(&cluster, node, &before).await;
        wait_health(&cluster, node, "/primary", 200).await;
        cluster
            .wait_for(
                "one guard, of the new program",
                secs(20),
                async || match node.guards().as_slice() {
                    [one] if !guard.contains(one) => Ok(()),
                    other => Err(format!("{other:?}")),
                },
            )
            .await;
    }
    let others = balancer.stop(&cluster).await;
    assert_eq!(others, Vec::<String>::new(), "no client is turned away");
    writer.wait_acks(500, secs(30)).await;
    assert_eq!(node.agent_pid(), pid, "the same process");
    assert_eq!(start_time(node).await, started, "the same PostgreSQL");
    assert_eq!(
        etcd.revisions(&cluster.key("leader")).await,
        lock,
        "the lock was not touched"
    );
    assert_eq!(etcd.lease_of(&cluster.key("leader")).await, lease);
    let zombies = process::all()
        .into_iter()
        .filter(|p| p.state == 'Z' && Some(p.ppid) == pid);
    assert_eq!(zombies.count(), 0);
    let report = writer.stop();
    assert_eq!(report.missing(&node.target()).await.unwrap(), Vec::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    // It keeps its lock as any other does, and gives it away.
    cluster.ctl(&["switchover", "--leader", "n1", "--force"]);
    cluster.wait_new_primary("n1", secs(30)).await;
    cluster.wait_whole(secs(60)).await;
}

/// `ctl upgrade-agent`: one member after the other, the leader last; a program that does not run is tried on
/// one member only.
#[tokio::test(flavor = "multi_thread")]
async fn ctl_upgrades_one_member_after_the_other() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let leader = cluster.primary().await.unwrap().name().to_owned();
    let program = cluster.dir().join("pgherd");
    let ctl = cluster.dir().join("pgherd-ctl");
    std::fs::copy(&program, &ctl).unwrap();
    let upgrade = |members: &[&str]| {
        let node = &cluster.nodes()[0];
        let mut command = node.command(&ctl);
        command.args(["ctl", "-c"]).arg(node.yaml());
        command.args(["upgrade-agent", cluster.scope(), "--force"]);
        process::output(command.args(members)).unwrap()
    };
    let all_began = async || {
        let mut all = Vec::new();
        for node in cluster.nodes() {
            all.push(began(node).await.unwrap());
        }
        all
    };

    let mut content = std::fs::read(&program).unwrap();
    content.extend_from_slice(b"another build");
    replace(&program, &content);
    let before = all_began().await;
    let output = upgrade(&[]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let done: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("Success: upgrade for member "))
        .collect();
    assert_eq!(done.len(), 3, "{said}");
    assert!(done[2].starts_with(&format!("{leader}: pgherd ")), "{said}");
    let after = all_began().await;
    assert!(before.iter().zip(&after).all(|(a, b)| a != b), "{after:?}");

    replace(&program, b"#!/bin/false\n");
    let output = upgrade(&[]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("Failed: upgrade for member").count(), 1);
    assert!(said.contains("status code=503"), "{said}");
    assert!(said.contains("Left as they are: n"), "{said}");
    assert_eq!(all_began().await, after, "{said}");
    let output = upgrade(&["nobody"]);
    assert!(
        text(&output).contains("Error: No 'any' among provided members"),
        "{}",
        text(&output)
    );
    replace(&program, &content);
    cluster.wait_whole(secs(30)).await;
}

/// A program that does not run takes over from nobody, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_program_does_not_take_over() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let (cluster, program) = with_own_program(&etcd, options, "n1");
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let (before, started) = (began(node).await.unwrap(), start_time(node).await);
    for content in [&b"#!/bin/false\n"[..], b"\x7fELF of another world"] {
        replace(&program, content);
        let answer = node.request("POST", "/pgherd/upgrade", "").await.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("own-program"), "{answer:?}");
        assert_eq!(began(node).await.unwrap(), before);
    }
    assert!(
        node.log().contains("this agent goes on"),
        "{}",
        node.log_tail(5)
    );
    assert_eq!(start_time(node).await, started);
    wait_health(&cluster, node, "/primary", 200).await;
}

/// As an operator switches versions: a link leads to another directory; the old file stays, or goes.
#[tokio::test(flavor = "multi_thread")]
async fn the_link_that_the_agent_was_called_by_says_what_takes_over() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let (mut cluster, first) = with_own_program(&etcd, options, "n1");
    let build = std::fs::read(&first).unwrap();
    let link = cluster.dir().join("current");
    // Never without one.
    let switch = |to: &Path| {
        let new = link.with_extension("new");
        std::os::unix::fs::symlink(to, &new).unwrap();
        std::fs::rename(&new, &link).unwrap();
    };
    switch(&first);
    let words = vec![link.to_string_lossy().into_owned(), "agent".to_owned()];
    cluster.node_mut("n1").set_kind(Kind::Command(words));
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let (pid, started) = (node.agent_pid(), start_time(node).await);
    let runs = || std::fs::read_link(format!("/proc/{}/exe", pid.unwrap())).unwrap();
    assert_eq!(runs(), first);
    let mut last = first.clone();
    for version in 2..=4 {
        let next = cluster.dir().join(format!("version-{version}"));
        replace(&next, &[&build[..], &[version]].concat());
        switch(&next);
        if version == 3 {
            std::fs::remove_file(&last).unwrap();
        }
        let before = began(node).await.unwrap();
        if version == 2 {
            node.signal_agent(Signal::USR2);
            wait_taken_over(&cluster, node, &before).await;
        } else {
            let mut ctl = node.command(&first);
            ctl.args(["ctl", "-c"]).arg(node.yaml());
            ctl.args(["upgrade-agent", cluster.scope(), "--force"]);
            let output = process::output(&mut ctl).unwrap();
            assert!(output.status.success(), "{}", text(&output));
        }
        assert_eq!(runs(), next);
        last = next;
    }
    wait_health(&cluster, node, "/primary", 200).await;
    assert_eq!(node.agent_pid(), pid, "the same process");
    assert_eq!(start_time(node).await, started, "the same PostgreSQL");
    // Where it leads to nothing, nobody takes over: the running one would not be another one.
    std::fs::remove_file(&link).unwrap();
    let answer = node.request("POST", "/pgherd/upgrade", "").await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("current cannot be run"), "{answer:?}");
    assert_eq!(runs(), last);
}

/// Signals that come one after the other end nobody, whatever the program is doing just then.
#[tokio::test(flavor = "multi_thread")]
async fn signals_in_quick_succession_end_nobody() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    let (pid, started) = (node.agent_pid(), start_time(node).await);
    let before = began(node).await.unwrap();
    for round in 0..200 {
        let signal = if round % 3 == 0 {
            Signal::HUP
        } else {
            Signal::USR2
        };
        node.signal_agent(signal);
        // Through all moments of a start, which takes some tenths of a second.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    wait_taken_over(&cluster, node, &before).await;
    wait_health(&cluster, node, "/primary", 200).await;
    assert_eq!(node.agent_pid(), pid);
    assert_eq!(start_time(node).await, started);
}

/// Told to end while it hands over, an agent ends as always: whichever of the two programs hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_not_lost_between_two_programs() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    for round in 0..10 {
        let before = began(node).await.unwrap();
        node.signal_agent(Signal::USR2);
        // Through all moments of the change, which takes some hundredths of a second.
        tokio::time::sleep(std::time::Duration::from_millis(round * 12)).await;
        node.stop().await;
        assert_eq!(node.postmaster_pid(), None, "round {round}");
        node.start();
        wait_taken_over(&cluster, node, &before).await;
        wait_health(&cluster, node, "/primary", 200).await;
    }
    // In order each time: no crash recovery.
    let log = node.log();
    assert!(!log.contains("was not properly shut down"), "{log}");
}

/// What was found good when it was asked for may be another file when its turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_had_to_wait_is_tried_again() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let (cluster, program) = with_own_program(&etcd, options, "n1");
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let (before, pid) = (began(node).await.unwrap(), node.agent_pid());
    etcd.kill(0);
    let says = async |words: &str| {
        let told = async || match node.log().contains(words) {
            true => Ok(()),
            false => Err(node.log_tail(2)),
        };
        cluster.wait_for(words, secs(90), told).await;
    };
    says("no etcd endpoint works").await;
    let answer = node.request("POST", "/pgherd/upgrade", "").await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let asked = std::time::Instant::now();
    replace(&program, b"#!/bin/false\n");
    cluster
        .wait_for("what was found is old", secs(20), async || {
            match asked.elapsed() > secs(6) {
                true => Ok(()),
                false => Err("not yet".into()),
            }
        })
        .await;
    etcd.restart(0);
    says("this agent goes on").await;
    wait_health(&cluster, node, "/primary", 200).await;
    assert_eq!(began(node).await.unwrap(), before);
    assert_eq!(node.agent_pid(), pid);
}

/// A program that would not start with the configuration as it is now takes over from nobody; while etcd is
/// away nobody takes over either, and the primary is stopped in order as it would be otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_go_on_does_not_take_over() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three().dcs(json!({"pgherd": {"lease_ttl": 5, "guard": "off"}}));
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    let before = began(node).await.unwrap();
    let good = std::fs::read_to_string(node.yaml()).unwrap();
    std::fs::write(node.yaml(), good.clone() + "\nttl: [\n").unwrap();
    let answer = node.request("POST", "/pgherd/upgrade", "").await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("would not start"), "{answer:?}");
    assert_eq!(began(node).await.unwrap(), before);
    std::fs::write(node.yaml(), good).unwrap();
    etcd.kill(0);
    cluster
        .wait_for(
            "the agent knows that etcd is away",
            secs(20),
            async || match node.log().contains("no etcd endpoint works") {
                true => Ok(()),
                false => Err(node.log_tail(2)),
            },
        )
        .await;
    node.signal_agent(Signal::USR2);
    cluster
        .wait_for("nobody writes", secs(20), async || {
            match cluster.writable().await.as_slice() {
                [] => Ok(()),
                some => Err(format!("{some:?}")),
            }
        })
        .await;
    assert_eq!(began(node).await.unwrap(), before, "it waits for etcd");
    etcd.restart(0);
    wait_taken_over(&cluster, node, &before).await;
    wait_health(&cluster, node, "/primary", 200).await;
}
