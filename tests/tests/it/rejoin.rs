//! A former member comes back: by plain start, pg_rewind or a new copy, whichever its WAL allows; and who
//! may be promoted.

use crate::common::{
    body, copy_number, failover, freeze_walsenders, lock_is_free, note, noted, secs, stays, stored,
    three,
};
use pgherd_tests::{ClusterOptions, Etcd, Node, TestCluster, Value, json, process};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A replica that was away: plain start, no copy, no rewind.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_away_starts_plainly() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let primary = cluster.primary().await.unwrap();
    let replica = crate::common::other(&cluster, primary.name());
    let copy = copy_number(replica);
    replica.kill_node();
    note(primary, "while away").await;
    replica.start();
    cluster.wait_whole(secs(40)).await;
    assert_eq!(copy_number(replica), copy);
    cluster
        .wait_for("the row arrives", secs(30), async || {
            match noted(replica, "while away").await? {
                1 => Ok(()),
                n => Err(format!("{n}")),
            }
        })
        .await;
}

/// Three members that may be promoted in spite of the WAL switch which [`diverge`] makes.
pub(crate) fn lenient() -> ClusterOptions {
    three().dcs(json!({"maximum_lag_on_failover": 1 << 30}))
}

/// Makes the primary's timeline diverge: a row that no replica gets, then the node dies and another
/// is promoted. Gives back old and new primary, and the first WAL file that crash recovery of the old
/// one needs.
pub(crate) async fn diverge(cluster: &TestCluster) -> (&Node, &Node, String) {
    let old = cluster.primary().await.unwrap();
    note(old, "everybody has it").await;
    for node in cluster.nodes() {
        cluster
            .wait_for("the first row arrives", secs(30), async || {
                match noted(node, "everybody has it").await? {
                    1 => Ok(()),
                    n => Err(format!("{n}")),
                }
            })
            .await;
    }
    assert_eq!(freeze_walsenders(old), 2, "WAL senders of {}", old.name());
    note(old, "only the old primary has it").await;
    old.sql("select pg_switch_wal()::text").await.unwrap();
    note(old, "only the old primary has it").await;
    let client = pgherd_tests::sql::connect(&old.target(), secs(5))
        .await
        .unwrap();
    client.batch_execute("checkpoint").await.unwrap();
    let needed = old
        .sql("select redo_wal_file from pg_control_checkpoint()")
        .await
        .unwrap();
    old.kill_node();
    let new = cluster.wait_new_primary(old.name(), failover()).await;
    note(new, "on the new timeline").await;
    (old, new, needed)
}

/// Nothing of the diverged timeline is left anywhere, and the new rows are everywhere.
async fn converged(cluster: &TestCluster) {
    for node in cluster.nodes() {
        cluster
            .wait_for(
                &format!("{} has the new row", node.name()),
                secs(30),
                async || match noted(node, "on the new timeline").await? {
                    1 => Ok(()),
                    n => Err(format!("{n}")),
                },
            )
            .await;
        let lost = noted(node, "only the old primary has it").await.unwrap();
        assert_eq!(lost, 0, "{} shows rows of the other timeline", node.name());
    }
}

/// A diverged former primary is rewound, not copied, and never started as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_primary_is_rewound() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &lenient()).await;
    let (old, new, _) = diverge(&cluster).await;
    let copy = copy_number(old);
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    converged(&cluster).await;
    assert_eq!(copy_number(old), copy, "no new copy");
    assert!(
        old.log().to_lowercase().contains("rewind"),
        "{}",
        old.log_tail(40)
    );
}

/// No pg_rewind, but `remove_data_directory_on_diverged_timelines`: a new copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_primary_is_recloned_where_rewind_is_off() {
    let etcd = Etcd::start(1).await;
    let options = lenient().dcs(json!({"postgresql": {
        "use_pg_rewind": false,
        "remove_data_directory_on_diverged_timelines": true,
    }}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let (old, new, _) = diverge(&cluster).await;
    let copy = copy_number(old);
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    converged(&cluster).await;
    assert_ne!(copy_number(old), copy, "a new copy");
}

/// pg_rewind fails (crash recovery finds its WAL, but the older WAL from before the divergence is
/// gone) and `remove_data_directory_on_rewind_failure`: a new copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_rewind_leads_to_a_new_copy() {
    let etcd = Etcd::start(1).await;
    let options =
        lenient().dcs(json!({"postgresql": {"remove_data_directory_on_rewind_failure": true}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let (old, new, needed) = diverge(&cluster).await;
    let copy = copy_number(old);
    for entry in std::fs::read_dir(old.data_dir().join("pg_wal")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && name.len() == 24 && name < needed {
            std::fs::remove_file(path).unwrap();
        }
    }
    old.start();
    assert_eq!(cluster.wait_whole(secs(50)).await.name(), new.name());
    converged(&cluster).await;
    assert_ne!(copy_number(old), copy, "a new copy");
}

/// A clean switchover and back: the old leader never needs rewind or copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_switchover_needs_no_rewind() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = cluster.primary().await.unwrap();
    let copies: Vec<u64> = cluster.nodes().iter().map(copy_number).collect();
    let answer = old
        .request("POST", "/switchover", &body(Some(old.name()), None))
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.wait_whole(secs(40)).await;
    let after: Vec<u64> = cluster.nodes().iter().map(copy_number).collect();
    assert_eq!(copies, after);
}

/// The primary is killed when the replicas are further behind than `maximum_lag_on_failover`; gives it
/// back once its lock is free.
pub(crate) async fn lose_the_lead<'a>(etcd: &Etcd, cluster: &'a TestCluster) -> &'a Node {
    let old = cluster.primary().await.unwrap();
    assert_eq!(freeze_walsenders(old), 2);
    let client = pgherd_tests::sql::connect(&old.target(), secs(5))
        .await
        .unwrap();
    let big = "create table big as select repeat('x', 1000) from generate_series(1, 5000)";
    client.batch_execute(big).await.unwrap();
    let end = old
        .sql("select (pg_current_wal_flush_lsn() - '0/0')::text")
        .await
        .unwrap();
    let end: u64 = end.parse().unwrap();
    cluster
        .wait_for("/status knows the new position", secs(20), async || {
            let status = stored(etcd, cluster, "status").await.unwrap_or_default();
            match status["optime"].as_u64() {
                Some(optime) if optime + 500_000 >= end => Ok(()),
                other => Err(format!("{other:?} of {end}")),
            }
        })
        .await;
    old.kill_node();
    lock_is_free(etcd, cluster).await;
    old
}

/// Replicas further behind than `maximum_lag_on_failover` are not promoted. When the old primary comes
/// back, it or one that has caught up with it is, with every row.
#[tokio::test(flavor = "multi_thread")]
async fn too_much_lag_forbids_promotion() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &three()).await;
    let old = lose_the_lead(&etcd, &cluster).await;
    stays("no primary", secs(6), async || {
        let names = cluster.writable().await;
        if names.is_empty() {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    old.start();
    let primary = cluster.wait_whole(secs(50)).await;
    let rows = primary.sql("select count(*)::text from big").await;
    assert_eq!(rows.as_deref(), Ok("5000"));
}

/// `nofailover`: never promoted by itself, even as the only one left, and no candidate.
#[tokio::test(flavor = "multi_thread")]
async fn nofailover_is_never_promoted() {
    let etcd = Etcd::start(1).await;
    let options = three().node("n3", json!({"tags": {"nofailover": true}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    assert_ne!(old.name(), "n3", "it may not bootstrap either");
    let status = crate::common::status(cluster.node("n3")).await.unwrap();
    assert_eq!(status["tags"], json!({"nofailover": true}));
    let request = body(Some(old.name()), Some("n3"));
    let answer = old.request("POST", "/switchover", &request).await.unwrap();
    assert_eq!(answer.status, 412, "{answer:?}");
    assert_eq!(
        answer.body,
        "switchover is not possible: no good candidates have been found"
    );
    old.kill_node();
    let second = cluster.wait_new_primary(old.name(), failover()).await;
    assert_ne!(second.name(), "n3");
    cluster.wait_streaming(1, secs(30)).await;
    second.kill_node();
    lock_is_free(&etcd, &cluster).await;
    stays("no primary", secs(5), async || {
        let names = cluster.writable().await;
        if names.is_empty() {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await;
    second.start();
    assert_eq!(
        cluster.wait_streaming(1, secs(40)).await.name(),
        second.name()
    );
    old.start();
    cluster.wait_whole(secs(40)).await;
}

/// pg_rewind dies half-way: what it leaves behind is no cluster, and is not started or rewound, but copied anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rewind_left_that_died_half_way_is_copied_anew() {
    let etcd = Etcd::start(1).await;
    let mut cluster = TestCluster::new(&etcd, &lenient());
    let (broken, tries) = (cluster.dir().join("broken"), cluster.dir().join("tries"));
    let bin = rewind_that_dies(&cluster, &broken, &tries);
    for name in ["n1", "n2", "n3"] {
        let patch = json!({"postgresql": {"bin_dir": bin}});
        cluster.node_mut(name).change_config(&patch);
    }
    cluster.start_all();
    cluster.wait_whole(secs(60)).await;
    let (old, new, _) = diverge(&cluster).await;
    let copy = copy_number(old);
    std::fs::write(&broken, "").unwrap();
    old.start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), new.name());
    converged(&cluster).await;
    assert_ne!(copy_number(old), copy, "a new copy");
    let tries = std::fs::read_to_string(&tries).unwrap();
    assert_eq!(tries.lines().count(), 1, "{tries}");
}

/// PostgreSQL's programs, of which pg_rewind dies while it writes WAL as long as the file `broken` is there: no
/// file may grow beyond 4 MB. Each try is a line in `tries`.
fn rewind_that_dies(cluster: &TestCluster, broken: &Path, tries: &Path) -> PathBuf {
    let dir = cluster.dir().join("programs");
    std::fs::create_dir(&dir).unwrap();
    for program in std::fs::read_dir(process::pg_bin()).unwrap() {
        let program = program.unwrap();
        if program.file_name() != "pg_rewind" {
            symlink(program.path(), dir.join(program.file_name())).unwrap();
        }
    }
    let script = format!(
        "#!/bin/sh\n[ -e '{broken}' ] && {{ echo try >> '{tries}'; ulimit -f 8192; }}\nexec '{real}' \"$@\"\n",
        broken = broken.display(),
        tries = tries.display(),
        real = process::pg_bin().join("pg_rewind").display(),
    );
    let program = dir.join("pg_rewind");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Written by whom PostgreSQL runs as.
    std::fs::write(tries, "").unwrap();
    std::fs::set_permissions(tries, std::fs::Permissions::from_mode(0o666)).unwrap();
    dir
}

/// All power goes after a failover, and the former primary, whose last rows nobody got, is the first that comes
/// back: it must not lead, alone as it is, since the cluster went on without those rows.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_left_behind_does_not_lead_after_a_power_cut() {
    let etcd = Etcd::start(1).await;
    let cluster = TestCluster::formed(&etcd, &lenient()).await;
    let (old, new, _) = diverge(&cluster).await;
    cluster.wait_streaming(1, secs(30)).await;
    // Whoever comes back first of these two may lead.
    let others = cluster.nodes().iter();
    for node in others.filter(|node| node.name() != old.name()) {
        cluster
            .wait_for("the new row is everywhere", secs(30), async || match noted(
                node,
                "on the new timeline",
            )
            .await?
            {
                1 => Ok(()),
                n => Err(format!("{n}")),
            })
            .await;
    }
    cluster
        .wait_for(
            "history tells of the new timeline",
            secs(20),
            async || match stored(&etcd, &cluster, "history").await {
                Some(Value::Array(lines)) if !lines.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            },
        )
        .await;
    for node in cluster.nodes() {
        if node.name() != old.name() {
            node.kill_node();
        }
    }
    lock_is_free(&etcd, &cluster).await;
    old.start();
    told_why(&cluster, old).await;
    stays("no primary", secs(6), async || {
        let names = cluster.writable().await;
        names.is_empty().then_some(()).ok_or(format!("{names:?}"))
    })
    .await;
    for node in cluster.nodes() {
        if node.name() != old.name() {
            node.start();
        }
    }
    let primary = cluster.wait_whole(secs(60)).await;
    assert_ne!(primary.name(), old.name());
    assert_eq!(noted(new, "on the new timeline").await, Ok(1));
    converged(&cluster).await;
}

/// It says that it waits, and why.
async fn told_why(cluster: &TestCluster, node: &Node) {
    if crate::common::stand_in() {
        return;
    }
    let what = format!("{} says why it does not lead", node.name());
    cluster
        .wait_for(&what, secs(60), async || {
            match node.log().contains("which the cluster left at") {
                true => Ok(()),
                false => Err(node.log_tail(5)),
            }
        })
        .await;
}
