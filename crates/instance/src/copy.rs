//! Copies and repairs with PostgreSQL's own programs: pg_basebackup, pg_rewind, single-user recovery.

use crate::bootstrap::{
    Passing, arguments, fillable, has, long_file_work, sync_ourselves, sync_tree,
};
use crate::conf::{self, Paths};
use crate::files::{self, blocking};
use crate::look::within;
use crate::program::{self, Run};
use crate::quote::conninfo;
use crate::{
    Credentials, Error, Instance, Result, Source, StartAs, control, datadir, history, locks,
    parameters, process, start,
};
use pgherd_model::{ControlState, DataDir, Postmaster, Timeline};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TRIES: usize = 2;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// A source that vanishes without a word (its machine, the network between) is noticed after half a
/// minute, not after the kernel's two hours. libpq's names; seconds, and milliseconds for the last.
const WATCHFUL: [(&str, &str); 5] = [
    ("keepalives", "1"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "30000"),
];

/// Connection string for a program's arguments: everything but secrets.
fn connection(instance: &Instance, source: &Source, role: &Credentials) -> String {
    let options = instance.options();
    let database = source.database.as_ref().unwrap_or(&options.database);
    let mut pairs = vec![
        ("dbname", database.clone()),
        ("host", source.host.clone()),
        ("port", source.port.to_string()),
        ("application_name", options.name.0.clone()),
    ];
    pairs.extend(WATCHFUL.map(|(key, value)| (key, value.to_owned())));
    pairs.extend(role.username.clone().map(|user| ("user", user)));
    // Last, since of two with one name libpq takes the latter.
    pairs.extend(
        role.settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.clone())),
    );
    pairs.extend(options.krbsrvname.clone().map(|name| ("krbsrvname", name)));
    conninfo(&pairs)
}

pub(crate) async fn basebackup(
    instance: &Instance,
    source: &Source,
    timeout: Duration,
) -> Result<()> {
    let tool = program::path(instance, "pg_basebackup")?;
    let tries = async {
        let mut tried = 0;
        loop {
            fillable(instance, "a base backup").await?;
            let answer = copy(instance, source, &tool, timeout).await;
            tried += 1;
            match answer {
                Err(e) if tried < TRIES => {
                    tracing::warn!(error = %e, "base backup failed, one more try");
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                answer => return answer,
            }
        }
    };
    let answer = within("the base backup", timeout, tries).await;
    if answer.is_err() && instance.data_dir().await == DataDir::Unfinished {
        datadir::remove(instance).await?;
    }
    answer
}

async fn copy(instance: &Instance, source: &Source, tool: &Path, timeout: Duration) -> Result<()> {
    let options = instance.options();
    let role = &options.replication;
    let path = instance.path().to_owned();
    let new = blocking("making the data directory", {
        let path = path.clone();
        move || datadir::begin(&path)
    })
    .await?;
    let passfile = Passing::passfile(instance, role, &source.host, source.port)?;
    let mut run = Run::new(instance, tool.to_owned())
        .arg(format!("--pgdata={}", new.display()))
        .args(["-X", "stream"])
        .arg(format!("--dbname={}", connection(instance, source, role)))
        .args(arguments(&options.basebackup));
    if !has(&options.basebackup, &["checkpoint", "c"]) {
        run = run.arg("--checkpoint=fast");
    }
    let sync = sync_ourselves(&options.basebackup);
    if sync {
        run = run.arg("--no-sync");
    }
    if let Some(file) = &passfile {
        run = run.env("PGPASSFILE", &file.0);
    }
    run.output(timeout).await?;
    long_file_work("finishing the base backup", move || {
        // pg_basebackup copies the newest history alone; who streams from here may ask for all.
        let timeline = control::read(&new)?.file.timeline;
        history::fill(&new, Timeline(timeline.0.saturating_sub(1)))?;
        if sync {
            sync_tree(&new)?;
        }
        datadir::finish(&path)
    })
    .await
}

/// Refuses unless there is a cluster and nothing runs in it.
async fn stopped_cluster(instance: &Instance, what: &'static str) -> Result<()> {
    if process::postmaster(instance).await != Postmaster::Down {
        return Err(Error::StillRunning(instance.path().to_owned()));
    }
    match instance.data_dir().await {
        DataDir::Initialized => Ok(()),
        state => Err(Error::DataDir {
            what,
            path: instance.path().to_owned(),
            state,
        }),
    }
}

pub(crate) async fn rewind(instance: &Instance, source: &Source, timeout: Duration) -> Result<()> {
    let tool = program::path(instance, "pg_rewind")?;
    stopped_cluster(instance, "pg_rewind").await?;
    let options = instance.options();
    let role = options.rewind.as_ref().unwrap_or(&options.superuser);
    let passfile = Passing::passfile(instance, role, &source.host, source.port)?;
    let mut run = Run::new(instance, tool)
        .arg("--target-pgdata")
        .arg(instance.path())
        .arg(format!(
            "--source-server={}",
            connection(instance, source, role)
        ))
        // A server that did not stop cleanly is crash_recovery's work, with our parameters.
        .arg("--no-ensure-shutdown")
        .env("PGOPTIONS", "-c statement_timeout=0");
    let sync = start::kernel_reports_syncfs();
    if sync {
        run = run.arg("--no-sync");
    }
    if conf::has_restore_command(instance) {
        let role = StartAs::Standby(None);
        conf::write_for(instance, &role, false).await?;
        run = run.arg("--restore-target-wal");
        if program::major_version(instance).await? >= 15 {
            let conf = Paths::of(options).conf;
            run = run.arg(format!("--config-file={}", conf.display()));
        }
    }
    if let Some(file) = &passfile {
        run = run.env("PGPASSFILE", &file.0);
    }
    let path: PathBuf = instance.path().to_owned();
    let marker = datadir::rewinding(&path);
    let work = async {
        mark(&marker, true).await;
        let answer = run.output(timeout).await;
        if answer.is_err() {
            // Told to the caller, who decides. Only an end that nobody hears of leaves the mark.
            mark(&marker, false).await;
        }
        answer?;
        long_file_work("finishing pg_rewind", move || {
            if sync {
                sync_tree(&path)?;
            }
            Ok(())
        })
        .await?;
        mark(&marker, false).await;
        Ok(())
    };
    within("pg_rewind", timeout, work).await
}

/// Makes or removes the mark of an unfinished pg_rewind. Where the directory above the data directory
/// is not ours to write, there is none.
async fn mark(marker: &Path, there: bool) {
    let path = marker.to_owned();
    let work = blocking("marking the data directory", move || {
        if there {
            files::write_durably(&path, b"", 0o600)
        } else {
            files::remove(&path).map(|_| ())
        }
    });
    if let Err(e) = work.await {
        tracing::warn!(error = %e, "pg_rewind goes unmarked");
    }
}

pub(crate) async fn crash_recovery(instance: &Instance, timeout: Duration) -> Result<()> {
    stopped_cluster(instance, "crash recovery").await?;
    let options = instance.options();
    if instance.path().join("backup_label").exists() {
        return Err(Error::Unexpected {
            what: "crash recovery",
            reason: "there is a backup_label: this copy has to be started as a standby".to_owned(),
        });
    }
    locks::clear(instance).await?;
    conf::write_for(instance, &StartAs::Primary, true).await?;
    let control = control::control_data(instance).await?;
    let effective = conf::effective(instance);
    let paths = Paths::of(options);
    let mut run = Run::new(instance, program::path(instance, "postgres")?)
        .named("postgres --single")
        .arg("--single")
        .arg("-D")
        .arg(instance.path())
        .arg(format!("--config-file={}", paths.conf.display()))
        .args(parameters::command_line(&effective.values, Some(&control)))
        // What was not archived stays marked as such.
        .args(["--archive_mode=on", "--archive_command=false"])
        .arg("--logging_collector=off");
    if start::sync_by_file_system(instance, &paths).await? {
        run = run.arg("--recovery_init_sync_method=syncfs");
    }
    let run = run.arg("template1").stdin(Vec::new());
    run.output(timeout).await?;
    let state = instance.control_file().await?.state;
    if state == ControlState::ShutDown {
        return Ok(());
    }
    Err(Error::Unexpected {
        what: "crash recovery",
        reason: format!("it ended well, but the cluster is {state:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, ServerConfig};

    #[test]
    fn copies_notice_a_source_that_vanishes() {
        let mut role = Credentials {
            username: Some("re plicator".to_owned()),
            password: Some(pgherd_model::Secret::new("hidden")),
            ..Credentials::default()
        };
        let address = ("127.0.0.1", 5432);
        let options = Options::new("s", "n", "/data", address, role.clone(), role.clone());
        let instance = Instance::new(options, ServerConfig::default()).unwrap();
        let source = Source {
            host: "10.0.0.2".to_owned(),
            port: 5433,
            database: None,
        };
        assert_eq!(
            connection(&instance, &source, &role),
            "dbname=postgres host=10.0.0.2 port=5433 application_name=n keepalives=1 \
             keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000 \
             user='re plicator'"
        );
        // The user's own word stands.
        let own = ("keepalives_idle".to_owned(), "60".to_owned());
        role.settings.extend([own]);
        let text = connection(&instance, &source, &role);
        assert!(text.ends_with(" keepalives_idle=60"), "{text}");
    }
}
