//! Starting the postmaster: checks first, then the files, then a process in a session of its own
//! that lives on when the agent dies.

use crate::conf::{self, Paths, StartAs};
use crate::files::{self, blocking};
use crate::process::{self, PostmasterHandle, Readiness};
use crate::{
    Error, Instance, Result, apply, control, history, locks, look, parameters, port, program,
    user_conf,
};
use pgherd_model::{DataDir, Postmaster};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A postmaster's command line and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartCommand {
    /// Path of `postgres`.
    pub program: PathBuf,
    /// Its arguments, without `argv[0]`.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory: the data directory, by which it can be found from its first moment.
    pub directory: PathBuf,
    /// Where stdout and stderr go (appended); None: inherited.
    pub log: Option<PathBuf>,
}

/// How often a starting server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Bytes and lines of the server's log that an error shows.
const LOG_TAIL: usize = 2000;
const LOG_LINES: usize = 5;

pub(crate) async fn prepare(instance: &Instance, role: &StartAs) -> Result<StartCommand> {
    let options = &instance.options();
    let path = || options.data_dir.clone();
    match process::postmaster(instance).await {
        Postmaster::Down => {}
        _ => return Err(Error::StillRunning(path())),
    }
    let state = instance.data_dir().await;
    if state != DataDir::Initialized {
        return Err(Error::DataDir {
            what: "start",
            path: path(),
            state,
        });
    }
    let program = program::path(instance, "postgres")?;
    let control = control::control_data(instance).await?;
    port::check(instance).await?;
    let no_rival = locks::clear(instance).await?;
    if matches!(role, StartAs::Standby(_)) {
        history::unreserve(instance).await?;
    }
    conf::write_for(instance, role, true).await?;
    let effective = conf::effective(instance);
    // Recovery wants what the server had from which the data come.
    let recovers = matches!(role, StartAs::Standby(_) | StartAs::Restored(_));
    let standby = recovers.then_some(&control);
    let paths = Paths::of(options);
    let mut args = vec![
        "-D".to_owned(),
        options.data_dir.to_string_lossy().into_owned(),
        format!("--config-file={}", paths.conf.to_string_lossy()),
    ];
    args.extend(parameters::command_line(&effective.values, standby));
    if sync_by_file_system(instance, &paths).await? {
        args.push("--recovery_init_sync_method=syncfs".to_owned());
    }
    let inherited = std::env::vars_os().filter(|(name, _)| !program::is_private(name));
    let told = no_rival.map(|pid| (locks::NO_RIVAL.into(), pid.to_string().into()));
    Ok(StartCommand {
        program,
        args,
        env: inherited.chain(told).collect(),
        directory: path(),
        log: options.server_log.clone(),
    })
}

/// Whether crash recovery may sync whole file systems at once instead of every file: 14+, kernel
/// 5.8+ (which reports errors from syncfs), and the user did not choose.
pub(crate) async fn sync_by_file_system(instance: &Instance, paths: &Paths) -> Result<bool> {
    const NAME: &str = "recovery_init_sync_method";
    if program::major_version(instance).await? < 14 || !kernel_reports_syncfs() {
        return Ok(false);
    }
    if conf::effective(instance).values.contains_key(NAME) {
        return Ok(false);
    }
    // Where the user has a file of his own it stands for the one that was there first (`conf::render`).
    let own = apply::server(instance).custom_conf;
    let directory = paths.conf.parent().unwrap_or(Path::new(""));
    let files = [
        own.map_or_else(|| paths.base.clone(), |own| directory.join(own)),
        paths.data_dir.join("postgresql.auto.conf"),
    ];
    blocking("reading the configuration", move || {
        Ok(!files.iter().any(|file| user_conf::sets(file, NAME)))
    })
    .await
}

/// From 5.8 on, syncfs tells about failed writes.
pub(crate) fn kernel_reports_syncfs() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 8)
}

impl StartCommand {
    /// Spawns it detached: a session of its own, no stdin.
    fn spawn(&self) -> Result<tokio::process::Child> {
        let failed = |e: std::io::Error| Error::ProgramFailed {
            program: "postgres".to_owned(),
            status: "not started".to_owned(),
            tail: e.to_string(),
        };
        let mut command = std::process::Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        if let Some(path) = &self.log {
            let log = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)
                .map_err(Error::file("open", path))?;
            let copy = log.try_clone().map_err(Error::file("open", path))?;
            command.stdout(log).stderr(copy);
        }
        own_session(&mut command);
        tokio::process::Command::from(command)
            .spawn()
            .map_err(failed)
    }
}

/// The child becomes leader of a session: no signal of a terminal or of the agent's group reaches it.
#[allow(unsafe_code)]
fn own_session(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: setsid is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(|_| ()).map_err(Into::into));
    }
}

pub(crate) async fn start(
    instance: &Instance,
    role: &StartAs,
    timeout: Duration,
) -> Result<PostmasterHandle> {
    let command = prepare(instance, role).await?;
    let mut child = command.spawn()?;
    let pid = child.id().unwrap_or_default();
    let handle = PostmasterHandle::open(pid);
    if let Some(handle) = &handle {
        process::remember(instance, handle.clone());
    }
    tracing::info!(pid, "postmaster started");
    // Reaps it whenever it dies: a zombie would keep its number.
    let (died, death) = watch::channel(None);
    tokio::spawn(async move {
        let status = match child.wait().await {
            Ok(status) => status.to_string(),
            Err(e) => e.to_string(),
        };
        tracing::info!(pid, status, "postmaster ended");
        let _ = died.send(Some(status));
    });
    let deadline = Instant::now() + timeout;
    loop {
        let status = death.borrow().clone();
        if let Some(status) = status {
            return Err(died_at_start(instance, status).await);
        }
        if let (Some(file), Some(handle)) = (read_pid(instance).await, &handle)
            && file == Some(pid)
        {
            return Ok(handle.clone());
        }
        wait_a_little(deadline, timeout, "the postmaster's first sign of life").await?;
    }
}

/// Process id in postmaster.pid.
async fn read_pid(instance: &Instance) -> Option<Option<u32>> {
    let data_dir = instance.path().to_owned();
    blocking("reading postmaster.pid", move || {
        Ok(process::read_pid_file(&data_dir).map(|file| file.pid))
    })
    .await
    .ok()?
}

async fn wait_a_little(deadline: Instant, timeout: Duration, what: &str) -> Result<()> {
    if Instant::now() >= deadline {
        return Err(Error::Timeout {
            what: what.to_owned(),
            after: timeout,
            last: String::new(),
        });
    }
    tokio::time::sleep(LOOK_EVERY).await;
    Ok(())
}

async fn died_at_start(instance: &Instance, status: String) -> Error {
    let tail = match &instance.options().server_log {
        Some(log) => {
            let log = log.clone();
            blocking("reading the server's log", move || Ok(tail_of(&log)))
                .await
                .unwrap_or_default()
        }
        None => String::new(),
    };
    Error::DiedAtStart { status, tail }
}

/// The last lines of a log: those of this start.
fn tail_of(log: &Path) -> String {
    let text = files::read_text(log).ok().flatten().unwrap_or_default();
    let mut from = text.len().saturating_sub(LOG_TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let lines: Vec<&str> = text[from..].lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

pub(crate) async fn wait_started(
    instance: &Instance,
    timeout: Duration,
) -> Result<PostmasterHandle> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(handle) = process::handle(instance).await {
            return Ok(handle);
        }
        wait_a_little(deadline, timeout, "the postmaster's first sign of life").await?;
    }
}

/// How often a long recovery is looked at, and how often it is asked whether it waits for somebody.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const ASK_AGAIN: Duration = Duration::from_secs(5);

pub(crate) async fn wait_recovered(instance: &Instance, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let mut ask = Instant::now();
    let mut told = false;
    loop {
        match process::readiness(instance).await {
            Readiness::Down => {
                return Err(died_at_start(instance, "it ended".to_owned()).await);
            }
            // Said of one as well that accepts connections to read.
            Readiness::Ready => match look::positions(instance).await {
                Ok(now) if !now.in_recovery => return Ok(()),
                Ok(_) if !told && Instant::now() >= ask => {
                    ask = Instant::now() + ASK_AGAIN;
                    told = waits_at_target(instance).await;
                }
                Ok(_) | Err(_) => {}
            },
            Readiness::Standby | Readiness::Starting | Readiness::Stopping => {}
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                what: "the recovery of the restored data".to_owned(),
                after: timeout,
                last: String::new(),
            });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether recovery has reached its target and goes no further by itself, which is told.
async fn waits_at_target(instance: &Instance) -> bool {
    let looked = look::look(instance).await;
    let paused = looked.is_ok_and(|(look, _)| look.replay_paused);
    if paused {
        tracing::warn!(
            "the recovery of the restored data is paused at its target: it goes on when somebody calls \
             pg_wal_replay_resume(); recovery_target_action: promote in recovery_conf does without"
        );
    }
    paused
}

pub(crate) async fn wait_ready(instance: &Instance, timeout: Duration) -> Result<Readiness> {
    let deadline = Instant::now() + timeout;
    let mut seen = false;
    loop {
        match process::readiness(instance).await {
            ready @ (Readiness::Ready | Readiness::Standby) => {
                let restored = matches!(conf::role(instance).await, Ok(StartAs::Restored(_)));
                if !restored && let Err(e) = conf::back_up(instance).await {
                    tracing::warn!(error = %e, "no copies of the configuration files were made");
                }
                return Ok(ready);
            }
            Readiness::Down if seen => {
                return Err(died_at_start(instance, "it ended".to_owned()).await);
            }
            Readiness::Down => return Err(Error::NotRunning(instance.path().to_owned())),
            Readiness::Starting | Readiness::Stopping => seen = true,
        }
        wait_a_little(deadline, timeout, "PostgreSQL's start").await?;
    }
}
