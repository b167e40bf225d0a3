//! Executes the steps of `pgherd_ha::fence` on real processes.

use crate::procs::{self, Scanner};
use pgherd_ha::fence::{self, Facts, Plan, Process, Progress, Step};
use pgherd_model::{Span, Time};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::{fmt, io};

/// So many processes are waited for by pidfd; the next look sees the rest.
const HELD: usize = 128;

/// What killing did. All is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed {
    /// How many processes got SIGKILL.
    pub processes: usize,
    /// How many looks it took.
    pub looks: u32,
    /// From the call until a look found nobody.
    pub took: Span,
}

/// Why it is not known that all is gone.
#[derive(Debug)]
pub enum KillError {
    /// These are still there when the budget is spent: they sleep in the kernel (a hung disk or
    /// network file system), or sit in a frozen cgroup. They may not be signalled if `denied`.
    NotGone {
        /// Their pids.
        pids: Vec<u32>,
        /// How many got SIGKILL.
        killed: usize,
        /// The first refusal to deliver a signal, if there was one.
        denied: Option<io::Error>,
    },
    /// The processes could not be looked at.
    Look(io::Error),
}

impl fmt::Display for KillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KillError::NotGone { pids, denied, .. } => {
                write!(f, "processes {pids:?} of PostgreSQL are still there")?;
                match denied {
                    Some(error) => write!(f, ": {error}; run the agent as PostgreSQL's user"),
                    None => write!(
                        f,
                        " although killed: they wait for a disk or are frozen; \
                         look at /proc/PID/wchan and the cgroup's freezer"
                    ),
                }
            }
            KillError::Look(error) => write!(f, "cannot find PostgreSQL's processes: {error}"),
        }
    }
}

impl std::error::Error for KillError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KillError::NotGone { denied, .. } => denied.as_ref().map(|error| error as _),
            KillError::Look(error) => Some(error),
        }
    }
}

/// Kills every process of the data directory so that nothing is acknowledged after it returns
/// `Ok`; nothing to kill is `Ok`, too. `programs`: names of the server program besides the usual
/// ones. Blocks: milliseconds, unless processes hang in the kernel,
/// then `budget` (at least 100 ms). `clock` reads CLOCK_BOOTTIME. Works on stopped processes.
///
/// # Errors
/// When something is left at the end of the budget, or `/proc` cannot be read. Calling again
/// goes on.
pub fn kill(
    data_dir: &Path,
    programs: &[String],
    budget: Span,
    clock: fn() -> Time,
) -> Result<Killed, KillError> {
    kill_as_planned(data_dir, programs, &Plan::starting(clock(), budget), clock)
}

/// [`kill`] with a plan of one's own: SIGQUIT first, where there is time for it.
///
/// # Errors
/// As [`kill`].
pub fn kill_as_planned(
    data_dir: &Path,
    programs: &[String],
    plan: &Plan,
    clock: fn() -> Time,
) -> Result<Killed, KillError> {
    run(&mut Scanner::new(data_dir, programs), plan, clock)
}

/// The same with a scanner that may know processes already.
pub(crate) fn run(
    scanner: &mut Scanner,
    plan: &Plan,
    clock: fn() -> Time,
) -> Result<Killed, KillError> {
    let begun = clock();
    let mut hunt = Hunt::default();
    let mut progress = Progress::default();
    let mut facts: Option<Facts> = None;
    let mut looks = 0;
    loop {
        match fence::next(clock(), plan, &progress, facts.as_ref()) {
            Step::Look => {
                looks += 1;
                facts = Some(scanner.look(clock()).map_err(KillError::Look)?);
            }
            Step::Wait(until) => {
                hunt.wait(until, clock);
                looks += 1;
                facts = Some(scanner.look(clock()).map_err(KillError::Look)?);
            }
            Step::Quit(process) => {
                hunt.send(&process, Signal::QUIT);
                progress.quit = Some(clock());
            }
            Step::StopPostmaster(process) => {
                hunt.send(&process, Signal::STOP);
                progress.stopped = Some(clock());
            }
            Step::KillOthers(processes) => {
                for process in &processes {
                    hunt.send(process, Signal::KILL);
                }
                progress.killed = Some(clock());
            }
            Step::KillPostmaster(process) => {
                hunt.send(&process, Signal::KILL);
                progress.killed = Some(clock());
            }
            Step::Gone => {
                return Ok(Killed {
                    processes: hunt.killed.len(),
                    looks,
                    took: clock().since(begun),
                });
            }
            Step::Overdue(left) => {
                return Err(KillError::NotGone {
                    pids: left.iter().map(|process| process.pid).collect(),
                    killed: hunt.killed.len(),
                    denied: hunt.denied,
                });
            }
        }
    }
}

/// Signals sent, and the processes whose end is awaited.
#[derive(Default)]
struct Hunt {
    held: Vec<OwnedFd>,
    killed: BTreeSet<Process>,
    denied: Option<io::Error>,
}

impl Hunt {
    fn send(&mut self, process: &Process, signal: Signal) {
        let ends = signal != Signal::STOP;
        match procs::signal(process, signal) {
            Ok(pidfd) => {
                if signal == Signal::KILL {
                    self.killed.insert(*process);
                }
                if ends && self.held.len() < HELD {
                    self.held.extend(pidfd);
                }
            }
            Err(error) => self.denied = self.denied.take().or(Some(error)),
        }
    }

    /// Until then, or until everything awaited has ended.
    fn wait(&mut self, until: Time, clock: fn() -> Time) {
        if self.held.is_empty() {
            std::thread::sleep(until.since(clock()));
            return;
        }
        self.held.retain(|pidfd| {
            let left = until.since(clock());
            let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
            !matches!(poll(&mut fds, Some(&procs::timespec(left))), Ok(1))
        });
    }
}
