//! What PostgreSQL is run with: how crash recovery syncs, slots switched off, mapped user names; and
//! that the log has every decision.

use crate::common::{body, note, noted, secs, stand_in, three};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, process};
use std::collections::BTreeSet;

fn of(count: usize) -> ClusterOptions {
    let mut options = three();
    options.nodes.truncate(count);
    options
}

async fn shown(node: &Node) -> String {
    node.sql("show recovery_init_sync_method").await.unwrap()
}

/// Whole file systems are synced at crash recovery, unless the user chose: in the configuration or by
/// ALTER SYSTEM.
#[tokio::test(flavor = "multi_thread")]
async fn crash_recovery_syncs_by_file_system_unless_the_user_chose() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &of(1)).await;
    let node = cluster.node("n1");
    let version = node.sql("show server_version_num").await.unwrap();
    if version.parse::<u32>().unwrap() < 140_000 {
        return;
    }
    assert_eq!(shown(node).await, "syncfs");
    let again = async || {
        let before = node.postmaster_pid();
        node.kill_postgres();
        cluster
            .wait_for("it was started again", secs(30), async || {
                let now = node.postmaster_pid();
                match node.writable().await && now != before {
                    true => Ok(()),
                    false => Err(format!("{now:?}")),
                }
            })
            .await;
    };
    again().await;
    assert_eq!(shown(node).await, "syncfs");
    let target = node.target();
    let client = pgherd_tests::sql::connect(&target, secs(5)).await.unwrap();
    let alter = "alter system set recovery_init_sync_method = 'fsync'";
    client.batch_execute(alter).await.unwrap();
    again().await;
    assert_eq!(shown(node).await, "fsync");

    let chosen = json!({"postgresql": {"parameters": {"recovery_init_sync_method": "fsync"}}});
    let cluster = TestCluster::formed(&etcd, &of(1).dcs(chosen)).await;
    assert_eq!(shown(cluster.node("n1")).await, "fsync");
}

/// `use_slots: false` while the cluster runs: the primary drops the members' slots, the standbys go on
/// streaming without.
#[tokio::test(flavor = "multi_thread")]
async fn slots_are_switched_off_at_run_time() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let slots = "select count(*)::text from pg_replication_slots";
    cluster
        .wait_for(
            "a slot for each standby",
            secs(20),
            async || match primary.sql(slots).await? {
                count if count == "2" => Ok(()),
                count => Err(count),
            },
        )
        .await;
    let off = json!({"postgresql": {"use_slots": false}}).to_string();
    let answer = primary.request("PATCH", "/config", &off).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster
        .wait_for("no slot, all stream", secs(40), async || {
            let count = primary.sql(slots).await?;
            let streaming = cluster.streaming_from(primary).await?;
            if count == "0" && streaming.len() == 2 {
                Ok(())
            } else {
                Err(format!("{count} slots, {streaming:?} stream"))
            }
        })
        .await;
    note(primary, "without slots").await;
    for node in cluster.nodes() {
        cluster
            .wait_for("the row arrives", secs(20), async || {
                match noted(node, "without slots").await? {
                    1 => Ok(()),
                    count => Err(count.to_string()),
                }
            })
            .await;
        assert_eq!(node.sql("show primary_slot_name").await.unwrap(), "");
    }
    assert_eq!(cluster.primary().await.unwrap().name(), primary.name());
}

/// Lines of `pg_ident`, first of the dynamic configuration, then of the node file, which wins: they
/// are in the file, and let in whom they name.
#[tokio::test(flavor = "multi_thread")]
async fn mapped_names_are_let_in() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = of(1);
    let hba = json!({"postgresql": {"pg_hba": [
        "local postgres replicator peer map=herd",
        "local all all scram-sha-256",
        "host all all 0.0.0.0/0 scram-sha-256",
        "host replication replicator 0.0.0.0/0 scram-sha-256",
    ]}});
    options = options.config(hba);
    let cluster = TestCluster::formed(&etcd, &options).await;
    let node = cluster.node("n1");
    let run = |program: std::path::PathBuf, args: &[&str]| {
        let mut command = node.command(&program);
        command.args(args).stdin(std::process::Stdio::null());
        pgherd_tests::process::output(&mut command).unwrap()
    };
    let me = run("/usr/bin/id".into(), &["-un"]).stdout;
    let me = String::from_utf8(me).unwrap().trim().to_owned();
    let dir = node.dir().to_string_lossy().into_owned();
    let (_, port) = node.pg_address();
    let port = port.to_string();
    let enter = || {
        let args = [
            "-X",
            "-w",
            "-h",
            &dir,
            "-p",
            &port,
            "-U",
            "replicator",
            "-Atc",
            "select 42",
        ];
        let output = run(
            process::pg_bin().join("psql"),
            &[&args[..], &["postgres"]].concat(),
        );
        (output.status.success(), crate::common::text(&output))
    };
    let (entered, said) = enter();
    assert!(
        !entered && said.contains("eer authentication failed"),
        "{said}"
    );
    let line = format!("herd {me} replicator");
    let map = json!({"postgresql": {"pg_ident": [line]}}).to_string();
    let answer = node.request("PATCH", "/config", &map).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster
        .wait_for(
            "the mapped name is let in",
            secs(20),
            async || match enter() {
                (true, said) if said == "42\n" => Ok(()),
                (_, said) => Err(said),
            },
        )
        .await;
    let file = std::fs::read_to_string(node.data_dir().join("pg_ident.conf")).unwrap();
    assert!(file.ends_with(&format!("\n{line}\n")), "{file}");
}

/// `rule` and `reason` of the last decision, as the log writes them.
async fn decision(node: &Node) -> Option<String> {
    let answer = node.get("/pgherd/explain").await.ok()?;
    let last: Value = serde_json::from_str(&answer.body).ok()?;
    let (rule, reason) = (last["rule"].as_str()?, last["reason"].as_str()?);
    Some(format!("{reason} ({rule})"))
}

/// While a cluster forms, switches over and loses its leader: what `GET /pgherd/explain` says of any
/// decision is in the log, reason and rule.
#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_in_the_log() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::new(&etcd, &three());
    cluster.start_all();
    let mut seen: Vec<BTreeSet<String>> = vec![BTreeSet::new(); cluster.nodes().len()];
    let scenario = async {
        let leader = cluster.wait_whole(secs(60)).await;
        let request = body(Some(leader.name()), None);
        let answer = leader
            .request("POST", "/switchover", &request)
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let leader = cluster.wait_whole(secs(60)).await;
        leader.kill_postgres();
        cluster.wait_whole(secs(60)).await;
    };
    let mut watching = async || {
        loop {
            for (node, seen) in cluster.nodes().iter().zip(&mut seen) {
                seen.extend(decision(node).await);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = scenario => {}
        () = watching() => {}
    }
    let all: BTreeSet<&String> = seen.iter().flatten().collect();
    assert!(all.len() > 10, "{all:#?}");
    for (node, seen) in cluster.nodes().iter().zip(&seen) {
        let log = node.log();
        for line in seen {
            let told = log.lines().any(|logged| logged.ends_with(line.as_str()));
            assert!(
                told,
                "{line:?} is not in the log of {}:\n{log}",
                node.name()
            );
        }
    }
}
