//! Processes of one data directory: find, kill and wait for them. (The library's `process` module
//! has the general part.)

use anyhow::{Context as _, Result, bail};
use pgherd_tests::Signal;
use pgherd_tests::process::{self, Process};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The postmaster named by `postmaster.pid` of a data directory, if that process runs.
pub(crate) fn postmaster(data: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let found = process::of(pid)?;
    (found.state != 'Z' && found.cwd == data).then_some(pid)
}

/// Living processes of PostgreSQL that work in `data` (absolute, without links).
pub(crate) fn of_data(data: &Path) -> Vec<Process> {
    process::all()
        .into_iter()
        .filter(|p| p.state != 'Z' && p.cwd == data && p.comm == "postgres")
        .collect()
}

/// Kills a postmaster and its children as one blow: the postmaster is stopped first, so that it
/// starts no more of them and cannot react to the death of the first.
pub(crate) fn kill_postgres(data: &Path) -> Result<()> {
    let pid = postmaster(data).with_context(|| format!("no postmaster in {}", data.display()))?;
    process::signal(pid, Signal::STOP);
    for child in of_data(data).iter().filter(|p| p.pid != pid) {
        process::signal(child.pid, Signal::KILL);
    }
    process::signal(pid, Signal::KILL);
    Ok(())
}

/// Waits until no process of PostgreSQL works in `data`.
pub(crate) fn wait_down(data: &Path, limit: Duration) -> Result<()> {
    let end = Instant::now() + limit;
    while !of_data(data).is_empty() {
        if Instant::now() > end {
            bail!("PostgreSQL in {} did not end in {limit:?}", data.display());
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
