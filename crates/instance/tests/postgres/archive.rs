//! WAL that waits for the archiver of a primary that is lost.

use crate::lab::*;
use pgherd_instance::{Instance, StartAs};
use pgherd_model::StopMode;
use std::path::Path;

/// A node whose archive takes files only while `home/open` is there.
fn archiving(lab: &Lab, name: &str) -> Instance {
    let home = lab.home.display();
    let command = format!(
        "test -e {home}/open && test ! -e {home}/archive/%f && cp %p {home}/archive/%f # 100%%"
    );
    let mut config = Lab::server();
    for (name, value) in [("archive_mode", "on"), ("archive_command", &command)] {
        config.parameters.insert(name.to_owned(), value.to_owned());
    }
    Instance::new(lab.options(name), config).unwrap()
}

/// Some WAL files, each of which is complete.
async fn write_segments(client: &tokio_postgres::Client) {
    let sql = "CREATE TABLE t (i int)";
    client.batch_execute(sql).await.unwrap();
    for _ in 0..3 {
        let sql = "INSERT INTO t VALUES (1); SELECT pg_switch_wal()";
        client.batch_execute(sql).await.unwrap();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn no_hole_is_left_by_a_failover_and_a_rewind() {
    let name = "archive::no_hole_is_left_by_a_failover_and_a_rewind";
    run(name, async |lab| {
        let archive = lab.home.join("archive");
        std::fs::create_dir(&archive).unwrap();
        let a = archiving(lab, "a");
        a.initdb(SOON).await.unwrap();
        start(&a, &StartAs::Primary).await;
        a.post_bootstrap(SOON).await.unwrap();
        let b = archiving(lab, "b");
        b.basebackup(&source(&a), SOON).await.unwrap();
        follow(&b, &a).await;
        let a_client = client(&a).await;
        write_segments(&a_client).await;
        streams_from(&b, &a).await;
        let status = a.path().join("pg_wal/archive_status");
        let ready = |name: &String| name.ends_with(".ready");
        let waiting: Vec<String> = names(&status).into_iter().filter(ready).collect();
        assert!(waiting.len() >= 3, "{waiting:?}");
        a.stop(StopMode::Immediate, SOON).await.unwrap();
        b.promote(SOON).await.unwrap();
        b.checkpoint(SOON).await.unwrap();

        // The archive is away: told, and the repair goes on without it.
        a.crash_recovery(SOON).await.unwrap();
        assert!(names(&archive).is_empty());
        // What it has, it has not to get again; what follows is not held up by that.
        let first = waiting[0].trim_end_matches(".ready");
        std::fs::write(archive.join(first), "as of before").unwrap();
        std::fs::write(lab.home.join("open"), "").unwrap();
        a.rewind(&source(&b), SOON).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(archive.join(first)).unwrap(),
            "as of before"
        );

        // Every file of the old timeline, without a gap, up to where the new one begins.
        follow(&a, &b).await;
        let old: Vec<u64> = names(&archive)
            .iter()
            .filter(|name| name.len() == 24 && name.starts_with("00000001"))
            .map(|name| u64::from_str_radix(&name[16..], 16).unwrap())
            .collect();
        assert!(old.len() >= waiting.len());
        assert_eq!(old, (old[0]..old[0] + old.len() as u64).collect::<Vec<_>>());
        let timeline = b.look().await.unwrap().timeline;
        let history = a.remote_history(&source(&b), timeline).await.unwrap();
        let fork = history.switches[0].end.0 / (16 << 20);
        assert!(*old.last().unwrap() + 1 >= fork, "{old:?}, fork in {fork}");
    });
}

/// WAL since the fork is not here any more: `restore_command`, of a file of the user's own.
#[test]
fn what_a_rewind_misses_comes_from_the_archive() {
    let name = "archive::what_a_rewind_misses_comes_from_the_archive";
    run(name, async |lab| {
        let archive = lab.home.join("archive");
        std::fs::create_dir(&archive).unwrap();
        std::fs::write(lab.home.join("open"), "").unwrap();
        let a = archiving(lab, "a");
        a.initdb(SOON).await.unwrap();
        start(&a, &StartAs::Primary).await;
        a.post_bootstrap(SOON).await.unwrap();
        let b = lab.replica("b", &a).await;
        stop(&b).await;
        let a_client = client(&a).await;
        write_segments(&a_client).await;
        drop(a_client);
        let last = value(&a, "SELECT pg_walfile_name(pg_current_wal_lsn())").await;
        stop(&a).await;
        start(&b, &StartAs::Standby(None)).await;
        b.promote(SOON).await.unwrap();
        b.checkpoint(SOON).await.unwrap();
        let wal = a.path().join("pg_wal");
        let before_it = |name: &String| name.len() == 24 && *name < last;
        for name in names(&wal).into_iter().filter(before_it) {
            assert!(archive.join(&name).exists(), "{name} is archived");
            std::fs::remove_file(wal.join(name)).unwrap();
        }
        let error = a.rewind(&source(&b), SOON).await.unwrap_err().to_string();
        assert!(error.contains("could not"), "{error}");

        let own = lab.home.join("own.conf");
        let text = format!(
            "include '{}'\nrestore_command = 'cp {}/%f %p'\n",
            a.path().join("postgresql.base.conf").display(),
            archive.display()
        );
        std::fs::write(&own, text).unwrap();
        let mut server = Lab::server();
        server.custom_conf = Some(own.display().to_string());
        assert!(configure(&a, server).await);
        a.rewind(&source(&b), SOON).await.unwrap();
        follow(&a, &b).await;
    });
}
