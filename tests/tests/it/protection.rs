//! The guard where it cannot start: who is promoted, who steps down, and where a missing protection is
//! shown.

use crate::common::{
    oracle, secs, stand_in, start_time, status, stays, text, three, with_own_program,
};
use pgherd_tests::{Etcd, Node, Signal, TestCluster, Writer, json, watcher};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

fn executable(program: &PathBuf, yes: bool) {
    let mode = if yes { 0o755 } else { 0o644 };
    std::fs::set_permissions(program, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The guard of a member is gone, and no other one can be started.
async fn lose_guard(cluster: &TestCluster, node: &Node, program: &PathBuf) {
    executable(program, false);
    cluster
        .wait_for("its guard is gone", secs(20), async || {
            node.signal_guard(Signal::KILL);
            match (
                node.guard_pid(),
                node.log().contains("no protection by the guard"),
            ) {
                (None, true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
}

/// `pgherd.guard: automatic`: it goes on, and `GET /patroni` and `ctl list` tell until it is mended;
/// the columns of genuine patronictl stay as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_guard_is_shown() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let (cluster, program) = with_own_program(&etcd, options, "n1");
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let shown = async |wanted: bool| {
        let what = format!("missing: {wanted}, everywhere");
        cluster
            .wait_for(&what, secs(30), async || {
                let of_rest = status(node).await?["guard"] == "missing";
                let list = text(&cluster.ctl(&["list"]));
                let of_list = list.contains("| Guard ") && list.contains("| missing ");
                if (of_rest, of_list) == (wanted, wanted) && list.contains("| Guard ") == wanted {
                    Ok(())
                } else {
                    Err(format!("{of_rest} {list}"))
                }
            })
            .await;
    };
    shown(false).await;
    let started = start_time(node).await;
    lose_guard(&cluster, node, &program).await;
    shown(true).await;
    if oracle() {
        let list = text(&cluster.patronictl(&["list", "{scope}"]));
        assert!(list.contains("| n1 ") && !list.contains("uard"), "{list}");
    }
    assert_eq!(node.get("/primary").await.unwrap().status, 200);
    executable(&program, true);
    shown(false).await;
    assert_eq!(start_time(node).await, started);
}

/// `pgherd.guard: required`: who has no guard is not promoted, another one is; where nobody else is
/// left, nobody writes until there is a guard.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_required_guard_nobody_is_promoted() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"guard": "required"}}));
    let (cluster, program) = with_own_program(&etcd, options, "n2");
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    assert_eq!(cluster.wait_whole(secs(60)).await.name(), "n1");
    let bare = cluster.node("n2");
    lose_guard(&cluster, bare, &program).await;
    cluster.node("n1").kill_node();
    assert_eq!(cluster.wait_new_primary("n1", secs(40)).await.name(), "n3");
    cluster.wait_streaming(1, secs(40)).await;
    cluster.node("n3").kill_node();
    let said = "the guard is required and cannot be armed";
    cluster
        .wait_for("n2 says why it is no primary", secs(40), async || {
            if bare.log().contains(said) {
                Ok(())
            } else {
                Err(bare.log_tail(3))
            }
        })
        .await;
    stays("no primary", secs(5), async || {
        match cluster.writable().await.as_slice() {
            [] => Ok(()),
            some => Err(format!("{some:?}")),
        }
    })
    .await;
    executable(&program, true);
    assert_eq!(cluster.wait_new_primary("n3", secs(60)).await.name(), "n2");
    assert!(bare.guard_pid().is_some());
}

/// `pgherd.guard: required`: a primary that loses its guard, and gets no other, hands over in order: no
/// acknowledged row is missing, it follows as a standby, and it may be primary again with a guard.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_loses_its_required_guard_steps_down() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"guard": "required"}}));
    let (cluster, program) = with_own_program(&etcd, options, "n1");
    cluster.node("n1").start();
    cluster.wait_streaming(0, secs(60)).await;
    cluster.node("n2").start();
    cluster.node("n3").start();
    let bare = cluster.wait_whole(secs(60)).await;
    assert_eq!(bare.name(), "n1");
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(200, secs(30)).await;
    lose_guard(&cluster, bare, &program).await;
    writer.wait_moved("n1", secs(30)).await;
    writer.wait_acks(200, secs(30)).await;
    let new = cluster.wait_whole(secs(60)).await;
    assert_ne!(new.name(), "n1");
    let said = "the guard is required and cannot be armed any more: demoting myself";
    assert!(bare.log().contains(said), "{}", bare.log_tail(20));
    let report = writer.stop();
    assert_eq!(report.missing(&new.target()).await.unwrap(), Vec::new());
    assert_eq!(watcher::violations(&report.acks), Vec::<String>::new());
    assert_eq!(status(bare).await.unwrap()["watchdog_failed"], true);
    executable(&program, true);
    cluster
        .wait_for(
            "n1 can be guarded again",
            secs(30),
            async || match status(bare).await?.get("watchdog_failed") {
                None => Ok(()),
                some => Err(format!("{some:?}")),
            },
        )
        .await;
    cluster.ctl(&["switchover", "--candidate", "n1", "--force"]);
    assert_eq!(
        cluster.wait_new_primary(new.name(), secs(30)).await.name(),
        "n1"
    );
}
