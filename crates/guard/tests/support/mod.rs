//! What the tests of the guard share: a clock, the guard's program, processes that end with the
//! test.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test program uses a part")]

use pgherd_model::{Span, Time};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;

/// Long enough for anything that works, on a machine as busy as it may be.
pub(crate) const PATIENCE: Span = Span::from_secs(30);

/// CLOCK_BOOTTIME.
pub(crate) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = i128::from(now.tv_sec) * 1_000_000_000 + i128::from(now.tv_nsec);
    Time(u64::try_from(nanos).unwrap())
}

/// The example program `guard_process`, built with the tests.
pub(crate) fn guard_program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let program = here
        .parent()
        .unwrap()
        .with_file_name("examples/guard_process");
    assert!(program.exists(), "{} is not built", program.display());
    program
}

/// A child that is killed and reaped when the test ends.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        pidfd_of(self.pid())
    }

    /// Whether it still runs after this long.
    pub(crate) fn runs_for(&self, span: Span) -> bool {
        !ends_within(&self.pidfd(), span)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn pidfd_of(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Whether the process behind a pidfd ends within that time.
pub(crate) fn ends_within(pidfd: &OwnedFd, span: Span) -> bool {
    ready(pidfd, PollFlags::IN, span)
}

/// Whether a descriptor shows one of the flags within that time.
pub(crate) fn ready(fd: impl AsFd, flags: PollFlags, span: Span) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap(),
        tv_nsec: i64::from(span.subsec_nanos()),
    };
    let mut fds = [PollFd::new(&fd, flags)];
    let count = poll(&mut fds, Some(&timeout)).unwrap();
    count > 0 && fds[0].revents().intersects(flags)
}

/// Waits until something is true.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !is_true() {
        assert!(now() < end, "waited in vain: {what}");
        std::thread::sleep(Span::from_millis(2));
    }
}
