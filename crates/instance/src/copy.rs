//! Copies and repairs with PostgreSQL's own programs: pg_basebackup, pg_rewind, single-user recovery.

use crate::bootstrap::{arguments, fillable, has, long_file_work, sync_ourselves, sync_tree};
use crate::conf::{self, Paths};
use crate::files::{self, blocking};
use crate::libpq::{self, Secrets};
use crate::look::within;
use crate::program::{self, Run};
use crate::{
    Error, Instance, Result, Source, StartAs, archive, control, datadir, history, locks,
    parameters, process, start,
};
use pgherd_model::{ControlState, DataDir, Postmaster, Timeline};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TRIES: usize = 2;
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// A repair may take as long as its data are large, but one that does nothing for so long does not end.
const STILL: Duration = Duration::from_secs(600);

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
    let options = &instance.options();
    let role = &libpq::role(instance, &options.replication).await?;
    let path = instance.path().to_owned();
    let new = blocking("making the data directory", {
        let path = path.clone();
        move || datadir::begin(&path)
    })
    .await?;
    let secrets = Secrets::of(options, role, &source.host, source.port)?;
    let mut run = Run::new(instance, tool.to_owned())
        .arg(format!("--pgdata={}", new.display()))
        .args(["-X", "stream"])
        .arg(format!(
            "--dbname={}",
            libpq::source_of(options, source, role)
        ))
        .args(arguments(&options.basebackup));
    if !has(&options.basebackup, &["checkpoint", "c"]) {
        run = run.arg("--checkpoint=fast");
    }
    let sync = sync_ourselves(&options.basebackup);
    if sync {
        run = run.arg("--no-sync");
    }
    secrets.name_to(run).output(timeout).await?;
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
    let options = &instance.options();
    let role = options.rewind.as_ref().unwrap_or(&options.superuser);
    let role = &libpq::role(instance, role).await?;
    archive::waiting_files(instance).await;
    let secrets = Secrets::of(options, role, &source.host, source.port)?;
    let from = libpq::source_of(options, source, role);
    let sync = start::kernel_reports_syncfs();
    let archive = Archive::of(instance).await?;
    let run = || {
        let mut run = Run::new(instance, tool.clone())
            .arg("--target-pgdata")
            .arg(instance.path())
            .arg(format!("--source-server={from}"))
            // A server that did not stop cleanly is crash_recovery's work, with our parameters.
            .arg("--no-ensure-shutdown")
            .args(archive.arguments())
            .env("PGOPTIONS", "-c statement_timeout=0");
        if sync {
            run = run.arg("--no-sync");
        }
        secrets.name_to(run).unless_still_for(STILL)
    };
    let path: PathBuf = instance.path().to_owned();
    let marker = datadir::rewinding(&path);
    let work = async {
        mark(&marker, true).await;
        let answer = with_archive(instance, &archive, run, timeout).await;
        if let Err(error) = &answer
            && changed_nothing(error)
        {
            // These data are what they were; the caller decides. All others are a mixture of two timelines,
            // which must never be started: pg_control still says that they are sound.
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

/// Where pg_rewind finds WAL that this node has not any more.
enum Archive {
    /// Nowhere.
    None,
    /// It runs `restore_command` itself, which it finds in this file; `None`: in the usual one.
    Itself(Option<PathBuf>),
    /// Before 15 it finds no configuration outside of the data directory: what it misses is fetched for it (as Patroni).
    Fetched(String),
}

impl Archive {
    /// As `recovery_conf` says, else a file of the user's own (`custom_conf`).
    async fn of(instance: &Instance) -> Result<Archive> {
        let recovery = conf::effective(instance).recovery;
        let command = match recovery.get("restore_command").cloned() {
            Some(command) => {
                // Only a standby's files have it.
                let role = StartAs::Standby(None);
                conf::write_for(instance, &role, false).await?;
                command
            }
            None => {
                let setting = archive::setting(instance, "restore_command").await;
                setting.unwrap_or_else(|e| {
                    tracing::warn!(error = %e, "pg_rewind goes without an archive");
                    String::new()
                })
            }
        };
        if command.is_empty() {
            return Ok(Archive::None);
        }
        let paths = Paths::of(&instance.options());
        let usual = paths.conf == paths.data_dir.join("postgresql.conf");
        Ok(match program::major_version(instance).await? {
            15.. => Archive::Itself(Some(paths.conf)),
            _ if usual => Archive::Itself(None),
            _ => Archive::Fetched(command),
        })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Archive::Itself(conf) = self {
            arguments.push("--restore-target-wal".to_owned());
            let conf = conf.iter();
            arguments.extend(conf.map(|conf| format!("--config-file={}", conf.display())));
        }
        arguments
    }
}

/// Runs pg_rewind, once more for each file that it misses and the archive has.
async fn with_archive(
    instance: &Instance,
    archive: &Archive,
    run: impl Fn() -> Run,
    timeout: Duration,
) -> Result<()> {
    let mut fetched = BTreeSet::new();
    loop {
        let error = match run().output(timeout).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let Archive::Fetched(command) = archive else {
            return Err(error);
        };
        let Some(name) = missing_wal(&error).filter(|name| fetched.insert(name.clone())) else {
            return Err(error);
        };
        tracing::info!("pg_rewind misses {name}: fetched with restore_command");
        if let Err(e) = archive::fetch(instance, command, &name).await {
            tracing::warn!(error = %e, "{name} cannot be fetched");
            return Err(error);
        }
    }
}

/// The WAL file that pg_rewind could not open.
fn missing_wal(error: &Error) -> Option<String> {
    let Error::ProgramFailed { tail, .. } = error else {
        return None;
    };
    tail.lines().find_map(|line| {
        let (_, rest) = line.split_once("could not open file \"")?;
        let (path, _) = rest.split_once("\": ")?;
        let (place, name) = path.rsplit_once('/')?;
        let is_wal = name.len() == 24 && name.chars().all(|c| c.is_ascii_hexdigit());
        (is_wal && (place == "pg_wal" || place.ends_with("/pg_wal"))).then(|| name.to_owned())
    })
}

/// pg_rewind ended before it began to write: it says so when it begins, as its last word but for errors.
/// One that was killed or given up is not believed.
fn changed_nothing(error: &Error) -> bool {
    const BEGINS: &str = "rewinding from last common checkpoint";
    match error {
        Error::ProgramFailed { status, tail, .. } => {
            let ended_itself = status.starts_with("exit status");
            ended_itself && !tail.is_empty() && !tail.contains(BEGINS)
        }
        Error::ProgramMissing { .. } => true,
        _ => false,
    }
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
    let options = &instance.options();
    if instance.path().join("backup_label").exists() {
        return Err(Error::Unexpected {
            what: "crash recovery",
            reason: "there is a backup_label: this copy has to be started as a standby".to_owned(),
        });
    }
    let no_rival = locks::clear(instance).await?;
    conf::write_for(instance, &StartAs::Primary, true).await?;
    archive::waiting_files(instance).await;
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
        // What is not archived stays marked as such.
        .args(["--archive_mode=on", "--archive_command=false"])
        .arg("--logging_collector=off");
    if start::sync_by_file_system(instance, &paths).await? {
        run = run.arg("--recovery_init_sync_method=syncfs");
    }
    if let Some(pid) = no_rival {
        run = run.env(locks::NO_RIVAL, pid.to_string());
    }
    let run = run.arg("template1").stdin(Vec::new());
    run.unless_still_for(STILL).output(timeout).await?;
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

    #[test]
    fn the_wal_that_pg_rewind_misses_is_named() {
        let missing = |tail: &str| {
            missing_wal(&Error::ProgramFailed {
                program: "pg_rewind".to_owned(),
                status: "exit status: 1".to_owned(),
                tail: tail.to_owned(),
            })
        };
        let wal = "0000000A00006AA100000068";
        let line = |path: &str| {
            format!(
                "x\npg_rewind: error: could not open file \"{path}\": No such file or directory\nfatal"
            )
        };
        for path in [format!("/data/pg_wal/{wal}"), format!("pg_wal/{wal}")] {
            assert_eq!(missing(&line(&path)).as_deref(), Some(wal));
        }
        for path in [
            "/data/pg_wal/0000000A.history",
            &format!("/data/base/{wal}"),
            wal,
        ] {
            assert_eq!(missing(&line(path)), None, "{path}");
        }
        assert_eq!(missing("could not connect"), None);
    }
}
