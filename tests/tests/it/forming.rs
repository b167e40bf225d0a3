//! Clusters form from empty directories: one initdb, post-bootstrap, files as Patroni writes them, TLS.

use crate::common::{note, noted, oracle, secs, stand_in, stays, stored, system_id, three};
use pgherd_tests::tls::Pki;
use pgherd_tests::{Etcd, EtcdOptions, Kind, TestCluster, Value, json};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

/// Three empty directories: one primary that holds the lock, two that stream, one system id.
#[tokio::test(flavor = "multi_thread")]
async fn three_empty_directories_become_a_cluster() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    cluster
        .wait_for(
            "the leader key names the primary",
            secs(30),
            async || match etcd.get(&cluster.key("leader")).await {
                Some(name) if name == primary.name() => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    let id = system_id(primary).await;
    assert_eq!(etcd.get(&cluster.key("initialize")).await, Some(id.clone()));
    let config = stored(&etcd, &cluster, "config").await.unwrap();
    assert_eq!(config["ttl"], json!(20));
    assert_eq!(
        config["pgherd"]["lease_ttl"],
        json!(5),
        "unknown keys of bootstrap.dcs are kept"
    );
    note(primary, "travels").await;
    for node in cluster.nodes() {
        let name = node.name();
        assert_eq!(system_id(node).await, id, "{name}");
        let mode = std::fs::metadata(node.data_dir()).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700, "data directory of {name}");
        cluster
            .wait_for(
                &format!("the row arrives at {name}"),
                secs(30),
                async || match noted(node, "travels").await? {
                    1 => Ok(()),
                    n => Err(format!("{n} rows")),
                },
            )
            .await;
        cluster
            .wait_for(
                &format!("slots of the other members at {name}"),
                secs(30),
                async || {
                    let list = "select string_agg(slot_name, ',' order by slot_name) \
                            from pg_replication_slots";
                    let slots = node.sql(list).await?;
                    let others: Vec<&str> = cluster
                        .nodes()
                        .iter()
                        .map(|n| n.name())
                        .filter(|n| *n != name)
                        .collect();
                    if slots == others.join(",") {
                        Ok(())
                    } else {
                        Err(slots)
                    }
                },
            )
            .await;
    }
    if !stand_in() {
        assert!(primary.guard_pid().is_some(), "the primary has a guard");
    }
}

/// All agents start at once on empty directories and one etcd: exactly one initdb, and two clusters
/// made at the same time have different system ids.
#[tokio::test(flavor = "multi_thread")]
async fn the_initdb_race_has_one_winner_and_clusters_differ() {
    let etcd = Etcd::start(1).await;
    let (a, b) = (
        TestCluster::new(&etcd, &three()),
        TestCluster::new(&etcd, &three()),
    );
    a.start_all();
    b.start_all();
    let id_a = system_id(a.wait_whole(secs(60)).await).await;
    let id_b = system_id(b.wait_whole(secs(60)).await).await;
    assert_ne!(id_a, id_b, "a cluster is never a copy of a template");
    for cluster in [&a, &b] {
        let primary = cluster.primary().await.unwrap();
        let timeline = "select timeline_id::text from pg_control_checkpoint()";
        assert_eq!(
            primary.sql(timeline).await.unwrap(),
            "1",
            "no second bootstrap, no failover"
        );
    }
}

/// `bootstrap.post_bootstrap` runs once, with a connection string as its last argument.
#[tokio::test(flavor = "multi_thread")]
async fn post_bootstrap_runs_once_on_the_first_primary() {
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &three());
    let script = cluster.dir().join("post.sh");
    let text = "#!/bin/sh\nset -e\necho \"$1\" >> \"$(dirname \"$0\")/post.log\"\n\
                psql -Xq -d \"$1\" -c 'create database made_by_script'\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["n1", "n2", "n3"] {
        let patch = json!({"bootstrap": {"post_bootstrap": script}});
        cluster.node_mut(name).change_config(&patch);
    }
    cluster.start_all();
    let primary = cluster.wait_whole(secs(60)).await;
    let count = "select count(*)::text from pg_database where datname = 'made_by_script'";
    assert_eq!(primary.sql(count).await.unwrap(), "1");
    let log = std::fs::read_to_string(cluster.dir().join("post.log")).unwrap();
    assert_eq!(log.lines().count(), 1, "called once: {log}");
    assert!(
        !log.contains("pass"),
        "no password on the command line: {log}"
    );
}

/// A failing script: the key `initialize` is removed, the data directory is put aside, exit code not 0.
#[tokio::test(flavor = "multi_thread")]
async fn failed_post_bootstrap_leaves_no_half_cluster() {
    let etcd = Etcd::start(1).await;
    let options = three().config(json!({"bootstrap": {"post_bootstrap": "/bin/false"}}));
    let cluster = TestCluster::new(&etcd, &options);
    let node = cluster.node("n1");
    node.start();
    let status = node.agent_exit(secs(40)).await;
    assert!(!status.success(), "{status}");
    assert_eq!(etcd.get(&cluster.key("initialize")).await, None);
    assert_eq!(etcd.get(&cluster.key("leader")).await, None);
    assert!(node.postgres().is_empty(), "PostgreSQL was stopped");
    let left: Vec<String> = std::fs::read_dir(node.dir())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with("data"))
        .collect();
    assert!(
        left.iter().any(|n| n.contains("failed")),
        "put aside, not deleted: {left:?}"
    );
}

/// The bootstrapping node is killed in the middle and comes back: a cluster is made all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_bootstrap_does_not_block_the_cluster() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &three());
    let script = cluster.dir().join("post.sh");
    // Hangs the first time.
    let text = "#!/bin/sh\nmark=\"$(dirname \"$0\")/post.log\"\n\
                [ -e \"$mark\" ] && exit 0\necho here >\"$mark\"\nexec sleep 100\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let patch = json!({"bootstrap": {"post_bootstrap": script}});
    cluster.node_mut("n1").change_config(&patch);
    cluster.node("n1").start();
    let mark = cluster.dir().join("post.log");
    cluster
        .wait_for("the script runs", secs(40), async || {
            if mark.exists() {
                Ok(())
            } else {
                Err("not yet".to_owned())
            }
        })
        .await;
    cluster.node("n1").kill_node();
    cluster.start_all();
    cluster.wait_whole(secs(60)).await;
}

/// `initialize` left empty for ever by a genuine Patroni that died while it made the cluster: the data
/// claims it (HA rules, section 1, row 9).
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_initialize_key_is_claimed() {
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    let id = system_id(node).await;
    node.kill_node();
    etcd.delete(&cluster.key("leader")).await;
    etcd.put(&cluster.key("initialize"), "").await;
    node.start();
    cluster.wait_whole(secs(60)).await;
    assert_eq!(system_id(node).await, id);
    assert_eq!(etcd.get(&cluster.key("initialize")).await, Some(id));
}

/// The same YAML, `patroni.dynamic.json` and configuration files as genuine Patroni writes.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_those_of_patroni() {
    if !oracle() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let ours = TestCluster::formed(&etcd, &options).await;
    let mut theirs = options.clone();
    theirs.nodes[0].kind = Kind::Patroni;
    let theirs = TestCluster::formed(&etcd, &theirs).await;
    let files = [
        "postgresql.conf",
        "postgresql.base.conf",
        "pg_hba.conf",
        "patroni.dynamic.json",
    ];
    for file in files {
        ours.wait_for(&format!("{file} is there"), secs(20), async || {
            let path = ours.node("n1").data_dir().join(file);
            if path.exists() {
                Ok(())
            } else {
                Err(format!("{} is missing", path.display()))
            }
        })
        .await;
    }
    assert_eq!(settings_of_n1(&ours), settings_of_n1(&theirs));
    assert_eq!(arguments_of_n1(&ours), arguments_of_n1(&theirs));
    // Here the order counts, and initdb's own lines are among them.
    for file in ["postgresql.base.conf", "pg_hba.conf", "pg_ident.conf"] {
        let (ours, theirs) = (lines_of_n1(&ours, file), lines_of_n1(&theirs, file));
        assert_eq!(ours, theirs, "{file}");
    }
    assert_eq!(dynamic_of_n1(&ours), dynamic_of_n1(&theirs));
}

/// Lines of a file in the data directory, without comments.
fn lines_of_n1(cluster: &TestCluster, file: &str) -> Vec<String> {
    let path = cluster.node("n1").data_dir().join(file);
    let text = without_own_names(cluster, &std::fs::read_to_string(path).unwrap());
    text.lines()
        .map(|l| l.split(" #").next().unwrap_or_default().trim().to_owned())
        .map(|l| l.split("\t#").next().unwrap_or_default().trim().to_owned())
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

/// `patroni.dynamic.json`.
fn dynamic_of_n1(cluster: &TestCluster) -> Value {
    let path = cluster.node("n1").data_dir().join("patroni.dynamic.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What differs between any two clusters: names of directory and cluster, the port.
fn without_own_names(cluster: &TestCluster, text: &str) -> String {
    let port = cluster.node("n1").pg_address().1.to_string();
    text.replace(&*cluster.dir().to_string_lossy(), "DIR")
        .replace(&port, "PORT")
        .replace(cluster.scope(), "SCOPE")
}

/// Lines of `postgresql.conf`, sorted: comments and the order of equal settings are free.
fn settings_of_n1(cluster: &TestCluster) -> Vec<String> {
    let file = cluster.node("n1").data_dir().join("postgresql.conf");
    let text = without_own_names(cluster, &std::fs::read_to_string(file).unwrap());
    let mut lines: Vec<String> = text
        .lines()
        .map(|l| l.trim().to_owned())
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        // pgherd's own default, for a fast crash recovery; a user's setting is kept.
        .filter(|l| !l.starts_with("recovery_init_sync_method"))
        .collect();
    lines.sort();
    lines
}

/// Words of the postmaster's command line, sorted.
fn arguments_of_n1(cluster: &TestCluster) -> Vec<String> {
    let node = cluster.node("n1");
    let pid = node.postmaster_pid();
    let processes = node.postgres();
    let postmaster = processes.iter().find(|p| Some(p.pid) == pid).unwrap();
    let mut words: Vec<String> = without_own_names(cluster, &postmaster.cmdline)
        .split_whitespace()
        .filter(|w| !w.starts_with("--recovery_init_sync_method"))
        .map(str::to_owned)
        .collect();
    words.sort();
    words
}

/// Nothing happens to a quiet cluster: no timeline, no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_cluster_stays_as_it_is() {
    let etcd = Etcd::start(3).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let before = crate::common::start_time(primary).await;
    stays("one primary", secs(12), async || {
        let now = cluster.primary().await?;
        if now.name() != primary.name() {
            return Err(format!("{} is primary", now.name()));
        }
        Ok(())
    })
    .await;
    assert_eq!(crate::common::start_time(primary).await, before);
}

/// TLS towards etcd with client certificates: forms, switches over.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_to_etcd() {
    let etcd = Etcd::start_with(EtcdOptions {
        tls: true,
        ..EtcdOptions::new(1)
    })
    .await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let request = crate::common::body(Some(old.name()), None);
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
}

/// The REST API over TLS, with an encrypted key: the members' own calls (switchover, race) use it too.
#[tokio::test(flavor = "multi_thread")]
async fn over_tls_between_members() {
    let etcd = Etcd::start(1).await;
    let pki = Pki::new(&etcd.dir().join("rest"));
    let tls = json!({
        "certfile": pki.cert,
        "keyfile": pki.encrypted_key("opens-it"),
        "keyfile_password": "opens-it",
        "cafile": pki.ca,
        "ciphers": "ECDHE+AESGCM:!aNULL",
    });
    let cluster = TestCluster::formed(&etcd, &three().config(json!({"restapi": tls}))).await;
    let old = cluster.primary().await.unwrap();
    let status = crate::common::status(old).await.unwrap();
    assert_eq!(status["role"], "primary");
    let request = crate::common::body(Some(old.name()), None);
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let second = cluster.wait_whole(secs(40)).await;
    second.kill_node();
    cluster
        .wait_new_primary(second.name(), crate::common::failover())
        .await;
}
