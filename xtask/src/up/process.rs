//! One program that `up` keeps running, as a service manager would.

use super::account::Account;
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time between the death of a program and its next start.
pub(super) const RESTART_AFTER: Duration = Duration::from_secs(5);

/// A program, its output in a file, started again when it dies.
pub(super) struct Process {
    /// For a person.
    pub(super) name: String,
    program: PathBuf,
    args: Vec<OsString>,
    home: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    restart_at: Option<Instant>,
}

impl Process {
    /// Not started yet.
    pub(super) fn new(name: &str, program: &Path, home: &Path, log: PathBuf) -> Process {
        Process {
            name: name.to_owned(),
            program: program.to_path_buf(),
            args: Vec::new(),
            home: home.to_path_buf(),
            log,
            child: None,
            restart_at: None,
        }
    }

    pub(super) fn arg(mut self, arg: impl Into<OsString>) -> Process {
        self.args.push(arg.into());
        self
    }

    /// Starts it in a process group of its own: Ctrl-C in the terminal is for us, not for it.
    pub(super) fn start(&mut self, account: &Account) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot write {}", self.log.display()))?;
        let child = account
            .command(&self.program, &self.home)
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        self.restart_at = None;
        Ok(())
    }

    /// Its process number while it lives.
    pub(super) fn pid(&self) -> Option<i32> {
        let child = self.child.as_ref()?;
        i32::try_from(child.id()).ok()
    }

    /// Lays it to rest if it has died since the last look, and says how it died.
    pub(super) fn just_died(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        self.restart_at = Some(Instant::now() + RESTART_AFTER);
        Some(status)
    }

    /// Dead long enough to be started again.
    pub(super) fn restart_is_due(&self) -> bool {
        self.restart_at.is_some_and(|at| Instant::now() >= at)
    }

    /// The last lines of its output, for a report of failure.
    pub(super) fn last_words(&self, lines: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
