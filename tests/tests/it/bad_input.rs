//! What people and machines get wrong (occupied ports, missing programs, wrong owners, full disks,
//! broken keys in etcd): an error with cause and remedy, nothing lost, and the cluster goes on.

use crate::common::{
    body, copy_number, has_entry, note, noted, secs, stand_in, stays, three, told,
};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, net, process, yaml};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn one() -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(1);
    options
}

/// Waits until the log of a member contains one of `words`.
async fn says(cluster: &TestCluster, node: &Node, words: &[&str]) {
    cluster
        .wait_for(
            &format!("{} says {words:?}", node.name()),
            secs(30),
            async || {
                let log = node.log();
                if words.iter().any(|w| log.contains(w)) {
                    Ok(())
                } else {
                    Err(node.log_tail(5))
                }
            },
        )
        .await;
}

/// Two members stream and write while the third is in trouble.
async fn goes_on_without_n3(cluster: &TestCluster) {
    let primary = cluster.wait_streaming(1, secs(30)).await;
    assert_ne!(primary.name(), "n3");
    note(primary, "went on").await;
}

/// A data directory of another cluster: exit 1, PostgreSQL not started, nothing changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_cluster_is_refused() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let node = cluster.node("n1");
    let (id, copy) = (crate::common::system_id(node).await, copy_number(node));
    node.stop().await;
    let other = "7000000000000000001";
    etcd.put(&cluster.key("initialize"), other).await;
    // What this cluster's configuration would write into it.
    let config = json!({"postgresql": {"parameters": {"work_mem": "7MB"}}, "loop_wait": 2});
    etcd.put(&cluster.key("config"), &config.to_string()).await;
    let (files, before) = (contents(&node.data_dir()), node.log().len());
    node.start();
    let status = node.agent_exit(secs(30)).await;
    assert_eq!(status.code(), Some(1));
    let log = node.log().split_off(before);
    let expected = "system ID mismatch, node n1 belongs to a different cluster";
    assert!(log.contains(expected), "{log}");
    assert!(log.contains(&id), "{log}");
    if !stand_in() {
        let place = node.data_dir().display().to_string();
        for words in [other, place.as_str(), "Set postgresql.data_dir"] {
            assert!(log.contains(words), "{words}: {log}");
        }
        assert_eq!(log.matches(expected).count(), 1, "told once: {log}");
        assert!(log.contains("ERROR: system ID mismatch"), "{log}");
        let after = contents(&node.data_dir());
        let changed = files
            .iter()
            .find(|(path, text)| after.get(*path) != Some(*text));
        assert_eq!(changed.map(|(path, _)| path), None, "a file was changed");
        assert_eq!(after.len(), files.len(), "a file was made");
    }
    assert!(node.postgres().is_empty());
    assert_eq!(copy_number(node), copy);
    let key = etcd.get(&cluster.key("initialize")).await;
    assert_eq!(
        key.as_deref(),
        Some("7000000000000000001"),
        "the key is not ours to change"
    );
}

/// An agent that is pointed at a running primary of another cluster, while its own has a leader, ends and leaves that
/// primary running.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_primary_of_another_cluster_is_left_running() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let mut foreign = TestCluster::formed(&etcd, &one()).await;
    let node = foreign.node("n1");
    let before = crate::common::start_time(node).await;
    let pause = json!({"pause": true}).to_string();
    node.request("PATCH", "/config", &pause).await.unwrap();
    says(&foreign, node, &["PAUSE: no action"]).await;
    node.stop().await;
    let wrong = json!({"scope": cluster.scope(), "name": "n9"});
    foreign.node_mut("n1").change_config(&wrong);
    let node = foreign.node("n1");
    let skip = node.log().len();
    node.start();
    let status = node.agent_exit(secs(30)).await;
    let log = node.log().split_off(skip);
    assert_eq!(status.code(), Some(1), "{log}");
    let expected = "system ID mismatch, node n9 belongs to a different cluster";
    assert!(log.contains(expected), "{log}");
    assert_eq!(crate::common::start_time(node).await, before);
    assert!(node.writable().await, "it is primary still");
    note(cluster.primary().await.unwrap(), "went on").await;
}

/// Every file below a directory.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

/// PostgreSQL's port is taken where a cluster is to be created: nothing is created, the holder of the
/// port is named, and another member may bootstrap.
#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_port_is_noticed_before_initdb() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &one());
    let node = cluster.node("n1");
    let (host, port) = node.pg_address();
    let _occupied = std::net::TcpListener::bind((host.as_str(), port)).unwrap();
    node.start();
    let status = node.agent_exit(secs(30)).await;
    assert_eq!(status.code(), Some(1));
    let log = node.log();
    let expected = format!("port {port} on {host} is already in use by ");
    assert_eq!(log.matches(&expected).count(), 1, "told once: {log}");
    assert!(log.contains("change postgresql.listen"), "{log}");
    assert!(!log.contains("new cluster made"), "{log}");
    assert!(!node.data_dir().join("PG_VERSION").exists());
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// PostgreSQL's port is taken: said in the log, the others go on, and it joins when the port is free.
#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_postgres_port() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &three());
    let (host, port) = cluster.node("n3").pg_address();
    let occupied = std::net::TcpListener::bind((host.as_str(), port)).unwrap();
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    says(
        &cluster,
        cluster.node("n3"),
        &["Address already in use", "already in use"],
    )
    .await;
    goes_on_without_n3(&cluster).await;
    assert!(cluster.node("n3").agent_alive(), "it keeps trying");
    let copied = cluster.node("n3").data_dir().join("PG_VERSION").exists();
    assert!(stand_in() || !copied, "nothing is copied in vain");
    drop(occupied);
    cluster.wait_whole(secs(60)).await;
}

/// The REST port is taken: exit 1 and a line that names it.
#[tokio::test(flavor = "multi_thread")]
async fn an_occupied_rest_port() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &one());
    let node = cluster.node("n1");
    let (host, port) = node.rest_address();
    let _occupied = std::net::TcpListener::bind((host.as_str(), port)).unwrap();
    node.start();
    let status = node.agent_exit(secs(20)).await;
    assert_eq!(status.code(), Some(1));
    let log = node.log();
    assert!(log.to_lowercase().contains("already in use"), "{log}");
    if !stand_in() {
        let cause = format!("can not listen on {host}:{port} (restapi.listen)");
        let remedy = "another program has this port: stop it, or choose another port in \
                      restapi.listen and restapi.connect_address";
        assert!(has_entry(&log, &[&cause, remedy]), "{log}");
    }
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// No PostgreSQL programs where `bin_dir` says: said with the directory, nothing claimed in etcd.
#[tokio::test(flavor = "multi_thread")]
async fn missing_binaries() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = one().config(json!({"postgresql": {"bin_dir": "/nonexistent/bin"}}));
    let cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    node.start();
    let status = node.agent_exit(secs(30)).await;
    assert_eq!(status.code(), Some(1));
    let cause = "not found in /nonexistent/bin";
    let remedy = "install PostgreSQL's server package or set postgresql.bin_dir";
    assert!(has_entry(&node.log(), &[cause, remedy]), "{}", node.log());
    let key = etcd.get(&cluster.key("initialize")).await;
    assert_eq!(key, None, "another member may bootstrap");
}

/// etcd can not be reached at start: the agent waits, says so, answers its API, and begins when etcd
/// is there.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable_etcd_at_start() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &one());
    etcd.kill(0);
    let node = cluster.node("n1");
    node.start();
    if stand_in() {
        says(&cluster, node, &["Etcd"]).await;
    } else {
        let endpoint = &etcd.hosts()[0];
        let remedy = "check etcd3.hosts";
        told(&cluster, node, &["waiting on etcd", endpoint, remedy]).await;
    }
    stays("a waiting agent", secs(3), async || {
        if !node.agent_alive() {
            return Err("it ended".to_owned());
        }
        if node.data_dir().join("PG_VERSION").exists() {
            return Err("it made a cluster without etcd".to_owned());
        }
        Ok(())
    })
    .await;
    etcd.restart(0);
    cluster.wait_whole(secs(60)).await;
}

/// A data directory that everybody may read: PostgreSQL refuses it; the log says so; the others go
/// on; it joins when the mode is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_wrong_mode() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    if cluster.primary().await.unwrap().name() == "n3" {
        let away = body(Some("n3"), None);
        let answer = cluster
            .node("n3")
            .request("POST", "/switchover", &away)
            .await;
        assert_eq!(answer.unwrap().status, 200);
        cluster.wait_whole(secs(40)).await;
    }
    let node = cluster.node("n3");
    node.stop().await;
    let copy = copy_number(node);
    let mode = |m| std::fs::set_permissions(node.data_dir(), std::fs::Permissions::from_mode(m));
    mode(0o777).unwrap();
    node.start();
    if stand_in() {
        says(&cluster, node, &["invalid permissions"]).await;
    } else {
        let place = node.data_dir().display().to_string();
        let (cause, remedy) = (
            format!("{place} has mode 0777"),
            format!("chmod 0700 {place}"),
        );
        told(&cluster, node, &[&cause, &remedy]).await;
    }
    goes_on_without_n3(&cluster).await;
    mode(0o700).unwrap();
    if !node.agent_alive() {
        node.start();
    }
    cluster.wait_whole(secs(40)).await;
    assert_eq!(copy_number(node), copy, "nothing was thrown away");
}

/// A data directory of another owner: not touched, said in the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_owner() {
    if !crate::common::root("changing an owner needs root") {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let node = cluster.node("n1");
    note(node, "precious").await;
    node.stop().await;
    std::os::unix::fs::chown(node.data_dir(), Some(0), Some(0)).unwrap();
    node.start();
    if stand_in() {
        says(&cluster, node, &["ermission denied", "wrong ownership"]).await;
    } else {
        assert_eq!(node.agent_exit(secs(30)).await.code(), Some(1));
        let cause = format!("{} belongs to user id 0", node.data_dir().display());
        let remedy = "give the directory to this one (chown -R)";
        assert!(has_entry(&node.log(), &[&cause, remedy]), "{}", node.log());
    }
    assert!(node.postgres().is_empty());
    process::give(&node.data_dir());
    if !node.agent_alive() {
        node.start();
    }
    cluster.wait_whole(secs(60)).await;
    assert_eq!(noted(node, "precious").await, Ok(1));
}

/// The disk fills up during pg_basebackup: said, the others go on, and it joins when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_during_basebackup() {
    let name = "bad_input::a_full_disk_during_basebackup";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &three());
    let data = cluster.node("n3").data_dir();
    std::fs::create_dir(&data).unwrap();
    let account = process::account().unwrap();
    let mount = |options: &str| {
        let options = format!(
            "{options},mode=0700,uid={},gid={}",
            account.uid, account.gid
        );
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&data)
            .status();
        assert!(status.unwrap().success(), "mount {options}");
    };
    mount("size=12m");
    cluster.at_end(&format!("umount {} 2>/dev/null", data.display()));
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(40)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    let full = "No space left on device";
    if stand_in() {
        says(&cluster, cluster.node("n3"), &[full]).await;
    } else {
        let words = [
            "pg_basebackup failed",
            full,
            "free space on that file system",
        ];
        told(&cluster, cluster.node("n3"), &words).await;
    }
    goes_on_without_n3(&cluster).await;
    mount("remount,size=400m");
    cluster.wait_whole(secs(60)).await;
    assert_eq!(noted(cluster.node("n3"), "went on").await, Ok(1));
}

/// initdb fails: exit code not 0, the reason in the log, `initialize` free for others.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_initdb() {
    let etcd = Etcd::start(1).await;
    let options = one().config(json!({"bootstrap": {"initdb": [{"encoding": "NONSENSE"}]}}));
    let cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    node.start();
    let status = node.agent_exit(secs(30)).await;
    assert_eq!(status.code(), Some(1));
    assert!(node.log().contains("NONSENSE"), "{}", node.log_tail(20));
    if !stand_in() {
        let words = ["initdb failed", "NONSENSE", "bootstrap.initdb"];
        assert!(has_entry(&node.log(), &words), "{}", node.log());
        let told = node
            .log()
            .matches("failed to bootstrap the cluster")
            .count();
        assert_eq!(told, 1, "{}", node.log());
        assert!(!node.log().contains("Bootstrap failed"), "{}", node.log());
    }
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
    assert!(
        !node.data_dir().join("PG_VERSION").exists(),
        "no half cluster is left"
    );
}

/// post_bootstrap fails: its exit status is said, and where its words are.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_post_bootstrap() {
    let etcd = Etcd::start(1).await;
    let options = one().config(json!({"bootstrap": {"post_bootstrap": "/bin/sh -c 'exit 3'"}}));
    let cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    node.start();
    let status = node.agent_exit(secs(60)).await;
    assert_eq!(status.code(), Some(1));
    if !stand_in() {
        let expected = "post_bootstrap failed (exit status: 3): what it wrote is";
        assert!(node.log().contains(expected), "{}", node.log_tail(20));
    }
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
}

/// The agent of a replica is told to end: its member key says so at once, and an etcd that does not
/// answer does not keep it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_ends_says_stopped() {
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(2);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let primary = cluster.wait_streaming(1, secs(40)).await;
    let replica = cluster
        .nodes()
        .iter()
        .find(|node| node.name() != primary.name());
    let replica = replica.unwrap();
    assert!(replica.stop().await.success());
    let key = cluster.key(&format!("members/{}", replica.name()));
    let member: Value = serde_json::from_str(&etcd.get(&key).await.unwrap()).unwrap();
    assert_eq!(member["state"], "stopped", "{member}");
    assert_eq!(member.get("replication_state"), None, "{member}");
    replica.start();
    cluster.wait_streaming(1, secs(40)).await;
    if stand_in() {
        return;
    }
    etcd.stop(0);
    let begun = std::time::Instant::now();
    assert!(replica.stop().await.success());
    assert!(begun.elapsed() < secs(8), "{:?}", begun.elapsed());
    etcd.cont(0);
}

/// A second agent with the same name: exit 1 and Patroni's sentence; the first is not disturbed.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_the_same_name() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &one()).await;
    let node = cluster.node("n1");
    let before = crate::common::start_time(node).await;
    let twin = cluster.dir().join("twin");
    std::fs::create_dir(&twin).unwrap();
    process::give(&twin);
    let mut file = node.config().clone();
    let address = || format!("127.0.0.1:{}", pgherd_tests::ports::free_port("127.0.0.1"));
    let (rest, pg) = (address(), address());
    yaml::merge(
        &mut file,
        &json!({
            "restapi": {"listen": rest, "connect_address": rest},
            "postgresql": {"listen": pg, "connect_address": pg, "data_dir": twin.join("data")},
        }),
    );
    let path = twin.join("node.yml");
    std::fs::write(&path, yaml::to_yaml(&file)).unwrap();
    process::give(&path);
    // The member's own command, with another file.
    let mut command = node.agent_command();
    let words: Vec<std::ffi::OsString> = command.get_args().map(Into::into).collect();
    let mut second = node.command(std::path::Path::new(command.get_program()));
    second
        .args(&words[..words.len() - 1])
        .arg(&path)
        .stdin(std::process::Stdio::null());
    command.stdin(std::process::Stdio::null());
    let work = tokio::task::spawn_blocking(move || process::output(&mut second).unwrap());
    let output = tokio::time::timeout(secs(30), work)
        .await
        .expect("it ends")
        .unwrap();
    let text = crate::common::text(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("CRITICAL: Can't start; there is already a node named 'n1' running"),
        "{text}"
    );
    if !stand_in() {
        let (there, remedy) = (node.url(""), "give this node another name");
        assert!(
            has_entry(&text, &["'n1' running", &there, remedy]),
            "{text}"
        );
    }
    assert!(!twin.join("data").exists());
    assert_eq!(crate::common::start_time(node).await, before);
    assert!(node.writable().await);
}

/// The REST address of a member leads to it through something that passes on (a published port of a container): the
/// agent that is started again finds itself there, and no second one of its name.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_passed_on_is_no_second_agent() {
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::formed(&etcd, &one()).await;
    let rest = cluster.node("n1").config()["restapi"]["connect_address"].clone();
    let proxy = pgherd_tests::Proxy::start(rest.as_str().unwrap()).await;
    let place = json!({"restapi": {"connect_address": proxy.address()}});
    cluster.node_mut("n1").change_config(&place);
    let node = cluster.node("n1");
    let before = crate::common::start_time(node).await;
    for _ in 0..2 {
        node.kill_agent();
        node.start();
        cluster
            .wait_for("its key names the address", secs(30), async || {
                let member = crate::common::stored(&etcd, &cluster, "members/n1").await;
                let member = member.unwrap_or_default();
                let url = member["api_url"].as_str().unwrap_or_default().to_owned();
                match url.contains(proxy.address()) {
                    true => Ok(()),
                    false => Err(url),
                }
            })
            .await;
        crate::common::wait_health(&cluster, node, "/primary", 200).await;
    }
    assert_eq!(crate::common::start_time(node).await, before);
}
