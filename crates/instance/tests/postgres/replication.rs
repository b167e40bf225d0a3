//! Copies, streaming, promotion, following a new leader, rewind.

use crate::lab::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgherd_instance::{Error, StartAs};
use pgherd_model::{Postmaster, StopMode, Timeline};
use std::time::Duration;

#[test]
fn a_switchover_by_hand() {
    run("replication::a_switchover_by_hand", async |lab| {
        let a = lab.primary("a").await;
        let b = lab.replica("b", &a).await;
        let c = lab.replica("c", &a).await;
        client(&a)
            .await
            .batch_execute("CREATE TABLE t (i int)")
            .await
            .unwrap();
        let facts = b.ask(&source(&a)).await.unwrap();
        assert!(!facts.in_recovery && facts.timeline == Timeline(1));
        assert_eq!(facts.system_id, b.control_file().await.unwrap().system_id);
        eventually("both are attached", async || {
            (a.look().await.ok()?.standbys.len() == 2).then_some(())
        })
        .await;
        assert_eq!(a.look().await.unwrap().standbys[0].user, "re plicator");

        stop(&a).await;
        let point = a.shutdown_point().await.unwrap().unwrap();
        eventually("b has the shutdown checkpoint", async || {
            (b.look().await.ok()?.wal.position() >= point.end).then_some(())
        })
        .await;
        let timeline = b.promote(SOON).await.unwrap();
        assert_eq!(timeline, Timeline(2));
        assert_eq!(b.promote(SOON).await.unwrap(), timeline);
        b.probe_commit(SOON).await.unwrap();
        assert_eq!(value(&b, "SELECT count(*) FROM t").await, "0");

        // Nothing was lost: the switch lies exactly at the end of the shutdown checkpoint.
        let history = a.remote_history(&source(&b), timeline).await.unwrap();
        assert_eq!(history.end_of(point.timeline), Some(point.end));
        let local = b.local_history(timeline).await.unwrap().unwrap();
        assert_eq!(local.history, history);

        // c follows without restart, a comes back without rewind.
        let before = c.postmaster().await;
        assert!(c.set_upstream(Some(upstream(&b))).await.unwrap());
        assert!(!c.set_upstream(Some(upstream(&b))).await.unwrap());
        streams_from(&c, &b).await;
        assert_eq!(c.postmaster().await, before);
        a.install_history(&history).await.unwrap();
        follow(&a, &b).await;
        let look = a.look().await.unwrap();
        assert_eq!(look.upstream, Some(upstream(&b)));
        assert_eq!(look.timeline, timeline);

        // A new agent keeps the upstream that it finds in the files.
        let adopted =
            pgherd_instance::Instance::new((*c.options()).clone(), Lab::server()).unwrap();
        let mut config = Lab::server();
        config.parameters.insert("work_mem".into(), "9MB".into());
        let archive = ("restore_command".into(), "false".into());
        config.recovery.extend([archive]);
        assert!(!c.look().await.unwrap().restore_command);
        assert!(configure(&adopted, config).await);
        eventually("the reload has happened", async || {
            (value(&c, "SHOW work_mem").await == "9MB").then_some(())
        })
        .await;
        let look = c.look().await.unwrap();
        assert_eq!(look.upstream, Some(upstream(&b)));
        assert!(look.restore_command);
        streams_from(&c, &b).await;
    });
}

#[test]
fn no_timeline_number_is_used_twice() {
    run(
        "replication::no_timeline_number_is_used_twice",
        async |lab| {
            let a = lab.primary("a").await;
            let b = lab.replica("b", &a).await;
            let c = lab.replica("c", &a).await;
            let d = lab.replica("d", &a).await;

            // PostgreSQL takes the first free number; nothing may be free up to 4.
            b.reserve_timelines(Timeline(4)).await.unwrap();
            assert_eq!(b.promote(SOON).await.unwrap(), Timeline(5));
            b.checkpoint(SOON).await.unwrap();

            // A running standby fetches every file from 2 to 5 and finds 5 by counting.
            assert!(c.set_upstream(Some(upstream(&b))).await.unwrap());
            streams_from(&c, &b).await;
            eventually("c is on timeline 5", async || {
                (c.look().await.ok()?.timeline == Timeline(5)).then_some(())
            })
            .await;

            // One that is down gets the newest alone, and no gap may stop it from being found.
            stop(&d).await;
            let history = d.remote_history(&source(&b), Timeline(5)).await.unwrap();
            d.install_history(&history).await.unwrap();
            follow(&d, &b).await;
            streams_from(&d, &b).await;

            // A fresh copy has no gap either: what streamed from the old primary can follow it.
            let e = lab.replica("e", &b).await;
            assert_eq!(e.promote(SOON).await.unwrap(), Timeline(6));
            stop(&a).await;
            let history = a.remote_history(&source(&e), Timeline(6)).await.unwrap();
            assert_eq!(history.switches.len(), 2);
            assert!(e.path().join("pg_wal/00000002.history").exists());

            // What was reserved and not used is given back, by a standby that runs on ...
            c.reserve_timelines(Timeline(9)).await.unwrap();
            c.set_upstream(Some(upstream(&b))).await.unwrap();
            assert!(!c.path().join("pg_wal/00000009.history").exists());
            assert!(c.path().join("pg_wal/00000005.history").exists());

            // ... and by one that is started: recovery must not begin there.
            c.reserve_timelines(Timeline(9)).await.unwrap();
            stop(&c).await;
            follow(&c, &b).await;
            streams_from(&c, &b).await;
            assert!(!c.path().join("pg_wal/00000009.history").exists());
            assert_eq!(c.promote(SOON).await.unwrap(), Timeline(6));
        },
    );
}

#[test]
fn a_diverged_primary_is_rewound() {
    run("replication::a_diverged_primary_is_rewound", async |lab| {
        let a = lab.primary("a").await;
        client(&a)
            .await
            .batch_execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
            .await
            .unwrap();
        let b = lab.replica("b", &a).await;
        let received = b.stop_receiving(SOON).await.unwrap();
        let now = b.look().await.unwrap();
        assert!(now.receiver.is_none() && now.wal.position() == received);
        assert_eq!(b.look().await.unwrap().upstream, None);
        client(&a)
            .await
            .batch_execute("INSERT INTO t VALUES (2)")
            .await
            .unwrap();
        assert!(a.look().await.unwrap().wal.flushed > received);
        assert_eq!(b.look().await.unwrap().wal.position(), received);
        a.stop(StopMode::Immediate, SOON).await.unwrap();

        let timeline = b.promote(SOON).await.unwrap();
        client(&b)
            .await
            .batch_execute("INSERT INTO t VALUES (3)")
            .await
            .unwrap();
        b.checkpoint(SOON).await.unwrap();
        let facts = a.ask(&source(&b)).await.unwrap();
        assert_eq!(facts.checkpoint_timeline, timeline);

        a.crash_recovery(SOON).await.unwrap();
        let point = a.shutdown_point().await.unwrap().unwrap();
        let history = a.remote_history(&source(&b), timeline).await.unwrap();
        assert!(
            point.end > history.end_of(point.timeline).unwrap(),
            "it has diverged"
        );
        a.rewind(&source(&b), SOON).await.unwrap();
        follow(&a, &b).await;
        let rows = "SELECT string_agg(i::text, ',' ORDER BY i) FROM t";
        assert_eq!(value(&a, rows).await, "1,3");
        assert_eq!(a.control_file().await.unwrap().system_id, facts.system_id);
        // Its own names are back in its files.
        let conf = std::fs::read_to_string(a.path().join("postgresql.conf")).unwrap();
        assert!(conf.contains(&format!("\nport = '{}'\n", a.options().port)));
    });
}

#[test]
fn promotion_of_a_replica_whose_upstream_has_died() {
    let name = "replication::promotion_of_a_replica_whose_upstream_has_died";
    run(name, async |lab| {
        let a = lab.primary("a").await;
        let b = lab.replica("b", &a).await;
        a.stop(StopMode::Immediate, SOON).await.unwrap();
        assert_eq!(b.promote(SOON).await.unwrap(), Timeline(2));
        assert!(!b.path().join("promote").exists());
        assert!(matches!(b.postmaster().await, Postmaster::Alive { .. }));
        // Started again it is a primary at once: no standby.signal is left.
        stop(&b).await;
        start(&b, &StartAs::Primary).await;
        assert!(!b.look().await.unwrap().in_recovery);
    });
}

#[test]
fn a_failed_copy_leaves_nothing() {
    run("replication::a_failed_copy_leaves_nothing", async |lab| {
        let a = lab.primary("a").await;
        let b = lab.node("b");
        let mut nowhere = source(&a);
        nowhere.port = lab.port();
        let error = b.basebackup(&nowhere, SOON).await.unwrap_err().to_string();
        assert!(error.contains("pg_basebackup failed"), "{error}");
        assert!(error.contains("refused"), "{error}");
        assert_eq!(std::fs::read_dir(b.path()).unwrap().count(), 0);
        let mut options = lab.options("c");
        options.replication.password = Some(pgherd_instance::Secret::new("wrong password"));
        let c = pgherd_instance::Instance::new(options, Lab::server()).unwrap();
        let error = c
            .basebackup(&source(&a), SOON)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("authentication failed") && !error.contains("wrong"),
            "{error}"
        );
        let foreign = lab.node("d");
        std::fs::create_dir(foreign.path()).unwrap();
        std::fs::write(foreign.path().join("letter"), "dear").unwrap();
        assert!(foreign.basebackup(&source(&a), SOON).await.is_err());
        assert!(foreign.remove_data_dir().await.is_err());
        assert!(foreign.path().join("letter").exists());
    });
}

#[test]
fn a_promotion_given_up_leaves_no_request() {
    run(
        "replication::a_promotion_given_up_leaves_no_request",
        async |lab| {
            let a = lab.primary("a").await;
            let b = lab.replica("b", &a).await;
            let request = b.path().join("promote");
            // A stopped postmaster hears no request: each of these waits in vain.
            let handle = b.postmaster_handle().await.unwrap();
            let postmaster = Pid::from_raw(handle.pid as i32);
            kill(postmaster, Signal::SIGSTOP).unwrap();
            let late = b.promote(Duration::from_millis(100)).await;
            assert!(matches!(late, Err(Error::Timeout { .. })));
            assert!(!request.exists());
            let job = tokio::spawn({
                let b = b.clone();
                async move { b.promote(SOON).await }
            });
            eventually("it is asked for", async || request.exists().then_some(())).await;
            job.abort();
            assert!(job.await.unwrap_err().is_cancelled());
            assert!(!request.exists());
            kill(postmaster, Signal::SIGCONT).unwrap();
            // It hears the signal now, and finds no file.
            client(&a)
                .await
                .batch_execute("CREATE TABLE later ()")
                .await
                .unwrap();
            streams_from(&b, &a).await;
            assert!(b.look().await.unwrap().in_recovery);
            stop(&b).await;

            // PostgreSQL 15 removes `promote` at its start, and knows no `fallback_promote`.
            let as_standby = StartAs::Standby(Some(upstream(&a)));
            let command = b.prepare_start(&as_standby).await.unwrap();
            let fallback = b.path().join("fallback_promote");
            for path in [&request, &fallback] {
                std::fs::write(path, "").unwrap();
            }
            let mut child = std::process::Command::new(&command.program)
                .args(&command.args)
                .current_dir(&command.directory)
                .spawn()
                .unwrap();
            b.wait_started(SOON).await.unwrap();
            streams_from(&b, &a).await;
            assert!(!request.exists() && fallback.exists());
            assert!(b.look().await.unwrap().in_recovery);
            stop(&b).await;
            child.wait().unwrap();
            // We remove both before it.
            std::fs::write(&request, "").unwrap();
            b.prepare_start(&as_standby).await.unwrap();
            assert!(!request.exists() && !fallback.exists());
        },
    );
}
