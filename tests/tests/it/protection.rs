//! The guard where it cannot start, or hangs: who is promoted, who steps down, what takes its place, and
//! where a missing protection is shown.

use crate::common::{
    failover, oracle, secs, stand_in, start_time, status, stays, text, three, told,
    with_own_program,
};
use pgherd_tests::{Etcd, Node, Signal, TestCluster, Watcher, Writer, json, process, watcher};
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
    if !stand_in() {
        steps_down(async |cluster, bare, program| lose_guard(cluster, bare, program).await).await;
    }
}

/// The same where it hangs. What could fire at the standby some time is gone then.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_whose_required_guard_hangs_steps_down() {
    if !stand_in() {
        steps_down(async |_, bare, program| {
            executable(program, false);
            assert!(bare.signal_guard(Signal::STOP));
        })
        .await;
    }
}

async fn steps_down(lose: impl AsyncFn(&TestCluster, &Node, &PathBuf)) {
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
    let guard = bare.guard_pid().expect("a guard");
    lose(&cluster, bare, &program).await;
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
    assert!(!process::alive(guard));
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

/// Stops the guard of a primary until another one is armed and the stopped one is gone.
async fn freeze_guard(cluster: &TestCluster, node: &Node) {
    let before = node.guard_pid().expect("a guard");
    assert!(process::signal(before, Signal::STOP));
    cluster
        .wait_for("another guard", secs(20), async || {
            let now = node.guards();
            let shown = status(node).await?["guard"].clone();
            match now.as_slice() {
                [one] if *one != before && shown.is_null() => Ok(()),
                _ => Err(format!("{now:?} after {before}, shown: {shown}")),
            }
        })
        .await;
    assert!(!process::alive(before));
}

/// The same PostgreSQL runs as primary all the time, for longer than any lease lives that a guard may
/// know of.
async fn stays_primary(node: &Node, started: &str) {
    stays("the primary", secs(6), async || {
        let now = start_time(node).await;
        let writable = node.writable().await;
        (now == started && writable)
            .then_some(())
            .ok_or(format!("started {now}, writable: {writable}"))
    })
    .await;
}

/// The guard is stopped (by a debugger, a freezer): another one takes its place, which nobody else
/// notices. The same where it was stopped before there was anything to guard.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_guard_is_replaced() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let options = three().dcs(json!({"pgherd": {"guard": "required"}}));
    let cluster = TestCluster::formed(&etcd, &options).await;
    let old = cluster.primary().await.unwrap();
    let started = start_time(old).await;
    let watcher = Watcher::start(cluster.targets()).await;
    let writer = Writer::start(cluster.targets()).await;
    writer.wait_acks(50, secs(30)).await;
    freeze_guard(&cluster, old).await;
    freeze_guard(&cluster, old).await;
    stays_primary(old, &started).await;
    told(&cluster, old, &["the guard (process", "does not answer"]).await;
    let moved = |acks: &[pgherd_tests::Ack]| acks.iter().any(|ack| ack.node != old.name());
    assert!(!moved(&watcher.acks()), "nobody took over");

    let standbys = cluster.nodes().iter().filter(|n| n.name() != old.name());
    let frozen: Vec<i32> = standbys.filter_map(|node| node.guard_pid()).collect();
    assert_eq!(frozen.len(), 2);
    for guard in &frozen {
        assert!(process::signal(*guard, Signal::STOP));
    }
    old.signal_agent(Signal::STOP);
    writer.wait_moved(old.name(), failover()).await;
    assert!(
        old.postgres().is_empty(),
        "the guard that came later has killed"
    );
    let new = cluster.wait_streaming(1, secs(40)).await;
    let guards = new.guards();
    assert_eq!(guards.len(), 1);
    assert!(!frozen.contains(&guards[0]), "{guards:?} of {frozen:?}");
    old.signal_agent(Signal::CONT);
    assert_eq!(cluster.wait_whole(secs(40)).await.name(), new.name());
    let mut acks = watcher.stop();
    acks.extend(writer.stop().acks);
    assert_eq!(watcher::violations(&acks), Vec::<String>::new());
}

/// No other one can be started: that is shown. The stopped one has been told of every renewal meanwhile, so
/// it kills nobody when it goes on, and it guards.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_guard_that_thaws_kills_nobody() {
    if stand_in() {
        return;
    }
    let etcd = Etcd::start(1).await;
    let mut options = three();
    options.nodes.truncate(1);
    let (cluster, program) = with_own_program(&etcd, options, "n1");
    cluster.start_all();
    let node = cluster.wait_streaming(0, secs(60)).await;
    let started = start_time(node).await;
    let guard = node.guard_pid().expect("a guard");
    executable(&program, false);
    assert!(process::signal(guard, Signal::STOP));
    let shown = async |wanted: bool| {
        let what = format!("missing: {wanted}, everywhere");
        cluster
            .wait_for(&what, secs(30), async || {
                let of_rest = status(node).await?["guard"] == "missing";
                let list = text(&cluster.ctl(&["list"]));
                let of_list = list.contains("| Guard ") && list.contains("| missing ");
                ((of_rest, of_list) == (wanted, wanted))
                    .then_some(())
                    .ok_or(format!("{of_rest} {list}"))
            })
            .await;
    };
    shown(true).await;
    stays_primary(node, &started).await;
    assert_eq!(node.guards(), [guard]);
    assert!(process::signal(guard, Signal::CONT));
    shown(false).await;
    stays_primary(node, &started).await;
    assert_eq!(node.guards(), [guard]);
    node.signal_agent(Signal::STOP);
    cluster
        .wait_for("it kills in time", secs(20), async || {
            let left = node.postgres();
            left.is_empty().then_some(()).ok_or(format!("{left:?}"))
        })
        .await;
    node.signal_agent(Signal::CONT);
    cluster.wait_streaming(0, secs(60)).await;
}
