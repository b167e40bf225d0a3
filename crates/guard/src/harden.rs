//! What makes the guard reliable: nothing inherited, nothing swapped out, not the first to be
//! killed when memory is short. All of it as far as the user is permitted.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit, setpriority_process, setrlimit};
use std::fs;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

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
    let _ = rustix::process::setsid();
    let _ = setpriority_process(None, -10);
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // One descriptor per process killed.
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    let _ = setrlimit(Resource::Nofile, files);
}

/// Locks the pages in use, and those that come, in memory.
///
/// # Errors
/// What is missing and how to get it.
pub(crate) fn lock_memory() -> Result<(), String> {
    let mut limit = getrlimit(Resource::Memlock);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Memlock, limit);
    let mut flags = MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT;
    if limit.maximum.is_none() || rustix::process::geteuid().is_root() {
        // Under a limit this would make a later allocation fail, which is worse than swapping.
        flags |= MlockAllFlags::FUTURE;
    }
    mlockall(flags).map_err(|error| {
        format!(
            "memory is not locked ({error}): under memory pressure the guard may be late; \
             raise the limit (LimitMEMLOCK=infinity)"
        )
    })
}
