//! Ends guards that an earlier agent left behind for the same data directory.
//!
//! They are found by their command line, user and the directory that its path means to them (a
//! container's `/data` is not ours); there are no pid files, because data directories are copied
//! with all their files.

use crate::options::guarded;
use crate::procs;
use pgherd_ha::fence::Process;
use pgherd_model::{Span, Time};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How long one may take to follow SIGTERM. A stopped one cannot.
const PATIENCE: Span = Span::from_millis(250);

/// Ends all others than `own`; how many there were.
pub(crate) fn end_others(data_dir: &Path, own: u32, clock: fn() -> Time) -> io::Result<usize> {
    let mut ended = 0;
    for pid in procs::pids()? {
        if pid == own || pid == std::process::id() || !is_guard_of(pid, data_dir) {
            continue;
        }
        let Ok(process) = procs::identify(pid) else {
            continue;
        };
        // Looked at again now that its start time is fixed: the pid may have changed hands.
        if !is_guard_of(pid, data_dir) {
            continue;
        }
        end(&process, clock)?;
        ended += 1;
    }
    Ok(ended)
}

/// SIGTERM, then SIGKILL: our own guard is armed, so nothing is lost with this one.
fn end(process: &Process, clock: fn() -> Time) -> io::Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let Some(pidfd) = procs::signal(process, signal)? else {
            return Ok(());
        };
        let until = clock() + PATIENCE;
        loop {
            let now = clock();
            let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
            match poll(&mut fds, Some(&procs::timespec(until.since(now)))) {
                Ok(1) => return Ok(()),
                _ if now >= until => break,
                _ => {}
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the former guard {} does not end", process.pid),
    ))
}

/// Whether that process is a guard of this directory, run by our user.
fn is_guard_of(pid: u32, data_dir: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|found| found.uid() == user)
        && fs::read(format!("/proc/{pid}/cmdline"))
            .ok()
            .and_then(|line| guarded(&line))
            .is_some_and(|theirs| same_directory(pid, &theirs, data_dir))
}

/// Whether `theirs` means for that process what `ours` means for us.
fn same_directory(pid: u32, theirs: &Path, ours: &Path) -> bool {
    let root = format!("/proc/{pid}/root");
    let mut seen = std::ffi::OsString::from(&root);
    seen.push(theirs.as_os_str());
    match (identity(Path::new(&seen)), identity(ours)) {
        (Some(theirs), Some(ours)) => theirs == ours,
        (None, None) => {
            // Neither is there: then the name counts, in the same tree of files.
            theirs.as_os_str().as_bytes() == ours.as_os_str().as_bytes()
                && identity(Path::new(&root)) == identity(Path::new("/"))
        }
        _ => false,
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
