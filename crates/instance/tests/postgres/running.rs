//! A running server: configuration, slots, commits.

use crate::lab::*;
use pgherd_instance::{Instance, StartAs};
use pgherd_model::{Lsn, SlotKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn configuration_reaches_the_server() {
    run("running::configuration_reaches_the_server", async |lab| {
        let a = lab.primary("a").await;
        let mut config = Lab::server();
        for (name, value) in [
            ("max_connections", "130"),
            ("work_mem", "9MB"),
            ("shared_buffers", "17MB"),
        ] {
            config.parameters.insert(name.to_owned(), value.to_owned());
        }
        assert!(configure(&a, config.clone()).await);
        assert!(!configure(&a, config).await);
        let look = eventually("the reload has happened", async || {
            let look = a.look().await.ok()?;
            (look.pending_restart.len() == 2).then_some(look)
        })
        .await;
        let names: Vec<&str> = look.pending_restart.iter().map(|p| p.0.as_str()).collect();
        assert!(names.contains(&"max_connections") && names.contains(&"shared_buffers"));
        assert_eq!(value(&a, "SHOW work_mem").await, "9MB");

        // A standby that nobody is: user commits wait, the licence's probe does not.
        assert!(
            a.set_synchronous_standby_names(Some("nobody".to_owned()))
                .await
                .unwrap()
        );
        eventually("the name is in force", async || {
            (a.look().await.ok()?.synchronous_standby_names == "nobody").then_some(())
        })
        .await;
        a.probe_commit(Duration::from_secs(20)).await.unwrap();
        let session = client(&a).await;
        let waiting = tokio::spawn(async move { session.batch_execute("CREATE TABLE w ()").await });
        eventually("a commit waits", async || {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            (value(&a, waits).await == "1").then_some(())
        })
        .await;
        assert!(a.terminate_backends().await.unwrap() >= 1);
        let _ = waiting.await.unwrap();
        assert!(a.set_synchronous_standby_names(None).await.unwrap());

        stop(&a).await;
        start(&a, &StartAs::Primary).await;
        assert_eq!(value(&a, "SHOW max_connections").await, "130");
        assert_eq!(a.look().await.unwrap().pending_restart, []);
        // Given less, a standby still starts with what its primary had.
        stop(&a).await;
        configure(&a, Lab::server()).await;
        start(&a, &StartAs::Standby(None)).await;
        assert_eq!(value(&a, "SHOW max_connections").await, "130");
        let pending = a.look().await.unwrap().pending_restart;
        let wanted = (
            "max_connections".to_owned(),
            "130".to_owned(),
            "100".to_owned(),
        );
        assert!(pending.contains(&wanted), "{pending:?}");
    });
}

#[test]
fn slots_come_and_go() {
    run("running::slots_come_and_go", async |lab| {
        let a = lab.primary("a").await;
        a.create_slot("b", &SlotKind::Physical).await.unwrap();
        a.create_slot("b", &SlotKind::Physical).await.unwrap();
        let look = a.look().await.unwrap();
        assert_eq!(look.slots.len(), 1);
        let reserved = look.slots[0].restart.expect("WAL is reserved at once");
        a.probe_commit(SOON).await.unwrap();
        let now = a.look().await.unwrap().wal.flushed;
        assert!(a.advance_slot("b", now).await.unwrap());
        assert!(!a.advance_slot("b", reserved).await.unwrap());
        assert!(!a.advance_slot("missing", now).await.unwrap());
        assert!(a.look().await.unwrap().slots[0].restart > Some(reserved));

        let b = lab.node("b");
        b.basebackup(&source(&a), SOON).await.unwrap();
        let mut to = upstream(&a);
        to.slot = Some("b".to_owned());
        start(&b, &StartAs::Standby(Some(to.clone()))).await;
        streams_from(&b, &a).await;
        assert_eq!(b.look().await.unwrap().upstream, Some(to));
        assert!(a.look().await.unwrap().slots[0].active);
        assert!(!a.drop_slot("b").await.unwrap(), "in use: left alone");
        assert!(!a.advance_slot("b", Lsn(u64::MAX >> 1)).await.unwrap());
        stop(&b).await;
        eventually("the slot is free", async || {
            a.drop_slot("b").await.ok()?.then_some(())
        })
        .await;
        assert!(a.drop_slot("b").await.unwrap());
        assert_eq!(a.look().await.unwrap().slots, []);
    });
}

/// What changes by itself, or by somebody's hand, and a look would show.
#[test]
fn a_glance_shows_what_a_look_would() {
    let name = "running::a_glance_shows_what_a_look_would";
    run(name, async |lab| {
        let a = lab.primary("a").await;
        let b = lab.replica("b", &a).await;
        let rests = async |node: &Instance| {
            eventually("two glances are the same", async || {
                let (_, first) = node.look_and_glance().await.ok()?;
                (node.glance().await.ok()? == first).then_some(first)
            })
            .await
        };
        let changes = async |node: &Instance, sql: &str, what: &str| {
            let before = rests(node).await;
            client(node).await.batch_execute(sql).await.unwrap();
            eventually(what, async || {
                (node.glance().await.ok()? != before).then_some(())
            })
            .await;
        };
        let create = "SELECT pg_create_physical_replication_slot('by_hand')";
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_wal_receiver";
        let senders = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
        let remove = "SELECT pg_drop_replication_slot('by_hand')";
        changes(&a, create, "a slot was made").await;
        changes(&a, remove, "a slot was dropped").await;
        changes(&a, "SELECT pg_reload_conf()", "the configuration was read").await;
        changes(&a, "CREATE TABLE t ()", "something was committed").await;
        changes(&a, senders, "another process sends").await;
        streams_from(&b, &a).await;
        changes(&b, "SELECT pg_wal_replay_pause()", "replay is paused").await;
        changes(&b, "SELECT pg_wal_replay_resume()", "replay goes on").await;
        changes(&b, kill, "another process receives").await;
        let before = rests(&a).await;
        stop(&a).await;
        assert!(a.glance().await.is_err());
        start(&a, &StartAs::Primary).await;
        assert_ne!(a.glance().await.unwrap(), before);
    });
}

#[test]
fn a_kept_connection_survives_a_restart() {
    run(
        "running::a_kept_connection_survives_a_restart",
        async |lab| {
            let a: Instance = lab.primary("a").await;
            a.look().await.unwrap();
            a.look_beside().await.unwrap();
            client(&a)
            .await
            .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'Patroni %'")
            .await
            .unwrap();
            a.look().await.unwrap();
            a.look_beside().await.unwrap();
            stop(&a).await;
            start(&a, &StartAs::Primary).await;
            a.look().await.unwrap();
            a.look_beside().await.unwrap();
        },
    );
}

#[test]
fn synchronous_names_outlive_every_other_change() {
    let name = "running::synchronous_names_outlive_every_other_change";
    run(name, async |lab| {
        const LINE: &str = "\nsynchronous_standby_names = 'ANY 1 (b,c)'\n";
        let a = lab.primary("a").await;
        let names = Some("ANY 1 (b,c)".to_owned());
        a.set_synchronous_standby_names(names.clone())
            .await
            .unwrap();
        let conf = a.path().join("postgresql.conf");
        let backup = a.path().join("postgresql.conf.backup");
        assert!(!std::fs::read_to_string(&backup).unwrap().contains(LINE));
        // Whoever reads the file at any moment, as a reload may, finds the names in it.
        let over = Arc::new(AtomicBool::new(false));
        let reader = std::thread::spawn({
            let (over, conf) = (over.clone(), conf.clone());
            move || {
                let (mut reads, mut without) = (0, 0);
                while !over.load(Ordering::SeqCst) {
                    let text = std::fs::read_to_string(&conf).unwrap();
                    reads += 1;
                    without += usize::from(!text.contains(LINE));
                }
                (reads, without)
            }
        });
        let mut config = Lab::server();
        // What the user's own parameters say does not count while the agent owns it.
        let user = ("synchronous_standby_names".to_owned(), "*".to_owned());
        config.parameters.extend([user]);
        for mb in 5..25 {
            let work_mem = ("work_mem".to_owned(), format!("{mb}MB"));
            config.parameters.extend([work_mem]);
            assert!(configure(&a, config.clone()).await);
        }
        eventually("the last reload has happened", async || {
            (value(&a, "SHOW work_mem").await == "24MB").then_some(())
        })
        .await;
        let shown = a.look().await.unwrap().synchronous_standby_names;
        assert_eq!(shown, "ANY 1 (b,c)");
        // A stop and a start as primary write the same.
        stop(&a).await;
        start(&a, &StartAs::Primary).await;
        over.store(true, Ordering::SeqCst);
        let (reads, without) = reader.join().unwrap();
        assert!(reads > 20 && without == 0, "{without} of {reads}");
        let shown = a.look().await.unwrap().synchronous_standby_names;
        assert_eq!(shown, "ANY 1 (b,c)");

        // An old copy is no way back: the file is lost, and what comes next has the names.
        std::fs::write(&backup, "# Do not edit this file manually!\n").unwrap();
        std::fs::remove_file(&conf).unwrap();
        configure(&a, config).await;
        assert!(std::fs::read_to_string(&conf).unwrap().contains(LINE));
    });
}
