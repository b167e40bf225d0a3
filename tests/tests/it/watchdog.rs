//! The watchdog device, played by a pipe (`watchdog.driver: testing`): what it is told, and when it is told nothing.

use crate::common::{secs, stand_in, start_time, status, stays, text, three, told};
use crate::upgrade::{began, wait_taken_over};
use pgherd_tests::{ClusterOptions, Etcd, Node, Signal, TestCluster, Writer, json, process};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The other end of the pipe.
struct Dog {
    place: PathBuf,
    pipe: File,
}

impl Dog {
    fn at(place: &Path) -> Dog {
        mknodat(CWD, place, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o666)).unwrap();
        // For writing too: so it never ends, whoever opens and closes it.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = File::options();
        let pipe = options.read(true).write(true).custom_flags(flags);
        Dog {
            place: place.to_owned(),
            pipe: pipe.open(place).unwrap(),
        }
    }

    /// What was written since the last call.
    fn said(&mut self) -> String {
        let mut bytes = Vec::new();
        match self.pipe.read_to_end(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?}"),
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until it has been told that: everything since the last call.
    async fn wait(&mut self, cluster: &TestCluster, words: &str) -> String {
        let mut all = String::new();
        cluster
            .wait_for(
                &format!("the watchdog is told {words:?}"),
                secs(40),
                async || {
                    all += &self.said();
                    all.contains(words).then_some(()).ok_or(all.clone())
                },
            )
            .await;
        all
    }

    /// How many descriptors of it a process has.
    fn held_by(&self, pid: i32) -> usize {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| *link == self.place).count()
    }
}

fn some(names: usize) -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(names);
    options
}

/// A cluster whose member `n1` has a device, if it is to lead only with one.
fn watched(etcd: &Etcd, options: &ClusterOptions, name: &str) -> (TestCluster, PathBuf) {
    let mut cluster = TestCluster::new(etcd, options);
    let place = cluster.dir().join("watchdog");
    let section = json!({"mode": "required", "device": place, "driver": "testing"});
    cluster
        .node_mut(name)
        .change_config(&json!({"watchdog": section}));
    (cluster, place)
}

async fn wait_stopped(cluster: &TestCluster, node: &Node) {
    let pid = node.agent_pid();
    cluster
        .wait_for("the agent is stopped", secs(10), async || {
            let all = process::all();
            let agent = all.into_iter().find(|it| Some(it.pid) == pid);
            match agent.map(|it| it.state) {
                Some('T') => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
}

/// L is 5 s, the margin 5 s: 4 s are what there can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_feeds_its_watchdog_as_long_as_it_renews() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let (cluster, place) = watched(&etcd, &some(1), "n1");
    let mut dog = Dog::at(&place);
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let first = dog.wait(&cluster, "1111").await;
    assert!(first.starts_with("Ctimeout=4\n1"), "{first}");
    assert!(!first.contains('V'), "{first}");
    assert_eq!(status(node).await.unwrap().get("watchdog_failed"), None);

    // Nobody feeds it for an agent that is stopped.
    node.signal_agent(Signal::STOP);
    wait_stopped(&cluster, node).await;
    dog.said();
    stays("silence", secs(4), async || match dog.said().as_str() {
        "" => Ok(()),
        some => Err(some.to_owned()),
    })
    .await;
    node.signal_agent(Signal::CONT);
    dog.wait(&cluster, "1111").await;
    cluster.wait_streaming(0, secs(60)).await;

    // Nor for one that cannot renew: it stops PostgreSQL, and then the device.
    etcd.stop(0);
    let last = dog.wait(&cluster, "V").await;
    assert!(last.ends_with('V'), "{last}");
    assert!(node.postgres().is_empty(), "not before PostgreSQL is down");
    etcd.cont(0);
    dog.wait(&cluster, "1111").await;
    cluster.wait_streaming(0, secs(60)).await;
    node.stop().await;
    let end = dog.said();
    assert!(end.ends_with('V'), "{end}");
}

/// `required`: who has none takes no lock, and says so, until it is there.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_required_watchdog_no_lock_is_taken() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let (cluster, place) = watched(&etcd, &some(2), "n2");
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    assert_eq!(cluster.wait_streaming(1, secs(60)).await.name(), "n1");
    let bare = cluster.node("n2");
    let shown = async |wanted: bool| {
        cluster
            .wait_for(&format!("failed: {wanted}"), secs(30), async || {
                let shown = status(bare).await?["watchdog_failed"] == true;
                (shown == wanted).then_some(()).ok_or(shown.to_string())
            })
            .await;
    };
    shown(true).await;
    let words = [
        "no protection by the watchdog, which is required",
        "cannot be used",
    ];
    told(&cluster, bare, &words).await;
    let refused = text(&cluster.ctl(&["switchover", "--candidate", "n2", "--force"]));
    assert!(refused.contains("no good candidates"), "{refused}");
    cluster.node("n1").kill_node();
    let why = "the watchdog is required and cannot be armed: this node does not take the lock";
    told(&cluster, bare, &[why]).await;
    stays("no primary", secs(5), async || {
        match cluster.writable().await.as_slice() {
            [] => Ok(()),
            some => Err(format!("{some:?}")),
        }
    })
    .await;
    let mut dog = Dog::at(&place);
    assert_eq!(cluster.wait_new_primary("n1", secs(60)).await.name(), "n2");
    dog.wait(&cluster, "1111").await;
    shown(false).await;
}

/// The program that takes over goes on to feed it, and nobody else has it open. A reload stops it, and starts it.
#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_outlives_an_upgrade_and_follows_a_reload() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let (mut cluster, place) = watched(&etcd, &some(1), "n1");
    let mut dog = Dog::at(&place);
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let started = start_time(node).await;
    let writer = Writer::start(cluster.targets()).await;
    dog.wait(&cluster, "1111").await;
    let before = began(node).await.unwrap();
    node.signal_agent(Signal::USR2);
    wait_taken_over(&cluster, node, &before).await;
    let through = dog.wait(&cluster, "Ctimeout=4\n1").await;
    let after = dog.wait(&cluster, "1111").await;
    assert!(
        !(through.clone() + &after).contains('V'),
        "{through}{after}"
    );
    assert_eq!(dog.held_by(node.agent_pid().unwrap()), 1);
    for other in node.guards() {
        assert_eq!(dog.held_by(other), 0);
    }

    let section = |mode: &str, margin: u64| {
        let section =
            json!({"mode": mode, "device": place, "driver": "testing", "safety_margin": margin});
        json!({ "watchdog": section })
    };
    cluster.node_mut("n1").change_config(&section("off", 5));
    cluster.node("n1").signal_agent(Signal::HUP);
    let off = dog.wait(&cluster, "V").await;
    assert!(off.ends_with('V'), "{off}");
    cluster
        .node_mut("n1")
        .change_config(&section("automatic", 0));
    cluster.node("n1").signal_agent(Signal::HUP);
    dog.wait(&cluster, "Ctimeout=4\n1").await;
    assert_eq!(start_time(cluster.node("n1")).await, started);
    let report = writer.stop();
    let target = cluster.node("n1").target();
    assert_eq!(report.missing(&target).await.unwrap(), Vec::new());
}
