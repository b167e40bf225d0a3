//! What makes the guard reliable: nothing inherited, nothing swapped out, not the first to be
//! killed when memory is short. All of it as far as the user is permitted.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::{fs, io};

/// Closes everything but the standard descriptors: what the agent's parent left open must not
/// be held by a guard that outlives them.
///
/// Call it first of all, before this process has opened anything itself.
pub(crate) fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The directory just read was among them and is closed already.
        if fs::read_link(format!("/proc/self/fd/{fd}")).is_ok() {
            close(fd);
        }
    }
}

#[allow(unsafe_code)]
fn close(fd: RawFd) {
    // SAFETY: the process has one thread, which has opened nothing yet that it still uses: the
    // descriptor was inherited over exec, so no object of this program owns it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// A session of its own (no signal of a terminal reaches it), a high priority, and the kernel's
/// promise to spare it when memory is short. Failures are harmless.
pub(crate) fn stand_apart() {
    // Started by another path, which the kernel would call it by.
    let _ = rustix::thread::set_name(crate::NAME);
    let _ = rustix::process::setsid();
    let _ = setpriority_process(None, -10);
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // One descriptor per process killed.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
}

/// Locks the pages in use (and with enough privilege those that come) in memory.
///
/// `mlockall` counts the whole address space against the limit, program file included, so an
/// ordinary user's 8 MB are not enough for it; then only the pages that are there now are locked,
/// a few hundred kB. Have everything run once before, so that they are there.
///
/// # Errors
/// What is missing and how to get it.
pub(crate) fn lock_memory() -> Result<(), String> {
    let mut limit = getrlimit(Resource::Memlock);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Memlock, limit);
    if limit.maximum.is_none() || rustix::process::geteuid().is_root() {
        // Under a limit, FUTURE would make a later allocation fail: worse than swapping.
        let flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT | MlockAllFlags::FUTURE;
        if mlockall(flags).is_ok() {
            return Ok(());
        }
    }
    lock_present().map_err(|error| {
        format!(
            "memory is not locked ({error}): under memory pressure the guard may be late; \
             raise the limit (LimitMEMLOCK=infinity)"
        )
    })
}

/// Locks the pages that are in memory now, by `/proc/self/maps` and `pagemap` (proc(5)).
fn lock_present() -> io::Result<()> {
    let page = rustix::param::page_size();
    let pagemap = fs::File::open("/proc/self/pagemap")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let Some((start, end)) = bounds(line) else {
            continue;
        };
        let mut entries = vec![0; (end - start) / page * 8];
        pagemap.read_exact_at(&mut entries, (start / page * 8) as u64)?;
        // Bit 63 of an entry, the top one of its last byte: the page is present.
        let present: Vec<bool> = entries.chunks(8).map(|it| it[7] & 0x80 != 0).collect();
        let mut at = 0;
        for run in present.chunk_by(|one, other| one == other) {
            if run[0] {
                lock_range(start + at * page, run.len() * page)?;
            }
            at += run.len();
        }
    }
    Ok(())
}

/// Addresses of a mapping that can be read: `start-end r...`.
fn bounds(line: &str) -> Option<(usize, usize)> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    rest.starts_with('r').then_some(())?;
    let parse = |text| usize::from_str_radix(text, 16).ok();
    Some((parse(start)?, parse(end)?))
}

#[allow(unsafe_code)]
fn lock_range(start: usize, length: usize) -> io::Result<()> {
    let address = std::ptr::without_provenance_mut(start);
    // SAFETY: mlock changes neither contents nor rights of the pages, and gives an error for a
    // range that is not mapped (any more).
    unsafe { rustix::mm::mlock(address, length) }.map_err(Into::into)
}
