//! Programs that are slow, called otherwise, or replaced while they run.

use crate::common::{secs, stand_in, start_time, status, stays, stored, three, wait_health};
use pgherd_tests::{ClusterOptions, Etcd, Signal, TestCluster, json, process};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

fn one() -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(1);
    options
}

/// A `bin_dir` with links to PostgreSQL's programs, but none to the server. Not called `bin`: a server
/// in one looks for its other files beside it.
fn links(cluster: &TestCluster) -> PathBuf {
    let dir = cluster.dir().join("programs");
    std::fs::create_dir(&dir).unwrap();
    for program in std::fs::read_dir(process::pg_bin()).unwrap() {
        let program = program.unwrap();
        if program.file_name() != "postgres" && program.file_name() != "postmaster" {
            symlink(program.path(), dir.join(program.file_name())).unwrap();
        }
    }
    dir
}

/// The agent is killed and started anew: it adopts the server whatever its program is called, the
/// guard of before ends, and the new one kills when the agent hangs.
async fn is_adopted_and_fenced(cluster: &TestCluster) {
    let node = cluster.node("n1");
    wait_health(cluster, node, "/primary", 200).await;
    let (before, guard) = (start_time(node).await, node.guards());
    assert_eq!(guard.len(), 1);
    node.kill_agent();
    node.start();
    wait_health(cluster, node, "/primary", 200).await;
    cluster
        .wait_for("one guard, the new agent's", secs(20), async || {
            let now = node.guards();
            match now.as_slice() {
                [one] if *one != guard[0] => Ok(()),
                _ => Err(format!("{now:?}")),
            }
        })
        .await;
    // Longer than the lease that the guard of before knew.
    stays("the same PostgreSQL", secs(6), async || {
        let now = start_time(node).await;
        (now == before).then_some(()).ok_or(now)
    })
    .await;
    assert!(node.writable().await);
    node.signal_agent(Signal::STOP);
    let postmaster = std::fs::read_to_string(node.data_dir().join("postmaster.pid")).unwrap();
    let postmaster: i32 = postmaster.lines().next().unwrap().parse().unwrap();
    cluster
        .wait_for("the guard kills", secs(20), async || {
            let left = process::all()
                .into_iter()
                .filter(|p| p.cwd == node.data_dir());
            let left: Vec<i32> = left.filter(|p| p.state != 'Z').map(|p| p.pid).collect();
            match left.as_slice() {
                [] => Ok(()),
                _ => Err(format!("{left:?}, postmaster {postmaster}")),
            }
        })
        .await;
    node.signal_agent(Signal::CONT);
    wait_health(cluster, node, "/primary", 200).await;
}

/// `bin_name: {postgres: postmaster}`, as a link: the kernel tells the name behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_a_link_is_adopted_and_fenced() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &one());
    let bin = links(&cluster);
    symlink(process::pg_bin().join("postgres"), bin.join("postmaster")).unwrap();
    let patch = json!({"postgresql": {"bin_dir": bin, "bin_name": {"postgres": "postmaster"}}});
    cluster.node_mut("n1").change_config(&patch);
    cluster.start_all();
    is_adopted_and_fenced(&cluster).await;
}

/// The program itself has another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_server_is_adopted_and_fenced() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &one());
    let bin = links(&cluster);
    let server = bin.join("server-of-our-own");
    std::fs::copy(process::pg_bin().join("postgres"), &server).unwrap();
    let patch =
        json!({"postgresql": {"bin_dir": bin, "bin_name": {"postgres": "server-of-our-own"}}});
    cluster.node_mut("n1").change_config(&patch);
    cluster.start_all();
    is_adopted_and_fenced(&cluster).await;
}

/// An upgrade replaces the file of the running agent, and its guard dies: it gets another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_agent_still_starts_its_guard() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let node = cluster.primary().await.unwrap();
    let old = node.guards();
    let program = cluster.dir().join("pgherd");
    std::fs::remove_file(&program).unwrap();
    std::fs::copy("/bin/false", &program).unwrap();
    assert!(node.signal_guard(Signal::KILL));
    cluster
        .wait_for("another guard", secs(30), async || {
            let now = node.guards();
            let protected = status(node).await?["guard"].as_str() != Some("missing");
            match now.as_slice() {
                [one] if !old.contains(one) && protected => Ok(()),
                _ => Err(format!("{now:?}, protected: {protected}")),
            }
        })
        .await;
    wait_health(&cluster, node, "/primary", 200).await;
}

/// `postgres -C`, which is asked about parameters, hangs: what else the same document says holds at
/// once, the primary stays, and the parameters come in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_check_of_parameters_holds_up_nothing() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &one());
    let (bin, slow) = (links(&cluster), cluster.dir().join("slow"));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != -C ] || while [ -e '{}' ]; do sleep 0.1; done\nexec '{}' \"$@\"\n",
        slow.display(),
        process::pg_bin().join("postgres").display()
    );
    std::fs::write(bin.join("postgres"), script).unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("postgres"), mode).unwrap();
    let patch = json!({"postgresql": {"bin_dir": bin}});
    cluster.node_mut("n1").change_config(&patch);
    cluster.start_all();
    let node = cluster.wait_whole(secs(60)).await;
    let before = start_time(node).await;
    std::fs::write(&slow, "").unwrap();
    let change = json!({"pause": true, "postgresql": {"parameters": {"work_mem": "5MB"}}});
    let answer = node.request("PATCH", "/config", &change.to_string()).await;
    assert_eq!(answer.unwrap().status, 200);
    cluster
        // Sooner than the first question is given up.
        .wait_for("the pause holds", secs(4), async || {
            let status = status(node).await?;
            let paused = status["pause"] == true;
            paused.then_some(()).ok_or(status.to_string())
        })
        .await;
    let change = json!({"pause": null, "postgresql": {"parameters": {"work_mem": "6MB"}}});
    let answer = node.request("PATCH", "/config", &change.to_string()).await;
    assert_eq!(answer.unwrap().status, 200);
    // Both questions time out meanwhile, each after the life of the lease.
    stays("the primary", secs(11), async || {
        let now = start_time(node).await;
        (now == before && node.writable().await)
            .then_some(())
            .ok_or(now)
    })
    .await;
    cluster
        .wait_for("the last parameters", secs(30), async || {
            match node.sql("show work_mem").await? {
                now if now == "6MB" => Ok(()),
                now => Err(now),
            }
        })
        .await;
    assert_eq!(start_time(node).await, before);
    assert_eq!(stored(&etcd, &cluster, "leader").await, Some(json!("n1")));
    std::fs::remove_file(&slow).unwrap();
}
