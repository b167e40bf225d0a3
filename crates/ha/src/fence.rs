//! How PostgreSQL is killed so that nothing of it acknowledges a commit afterwards
//! (architecture, "Safety" 2). Pure: facts about processes in, the next step out; `guard` runs
//! the steps.
//!
//! Each backend is a session of its own, so a signal to the process group misses it, and a
//! backend whose postmaster has died still finishes its statement. Therefore: stop the
//! postmaster (then nothing new is forked), kill every other process, look again until none is
//! left, kill the postmaster, look until all is gone. The last look is the proof: it sees no
//! postmaster first and no other process after that.

use alloc::vec::Vec;
use pgherd_model::{Span, Time};

/// After how long a postmaster that does not show as stopped (it sleeps in the kernel) is
/// killed all the same, once no other process is left.
const STOP_PATIENCE: Span = Span::from_millis(20);

/// Longest pause between two looks; the end of a killed process ends it earlier.
const LOOK_EVERY: Span = Span::from_millis(5);

/// The same while a stop is awaited.
const STOP_LOOK_EVERY: Span = Span::from_millis(1);

/// However late it begins, the killing gets this long before it is called overdue.
const LEAST_BUDGET: Span = Span::from_millis(100);

/// What SIGQUIT needs to be worth it: this much of the budget stays for killing.
const KILL_RESERVE: Span = Span::from_millis(500);

/// A process, named so that a reused pid cannot be mistaken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Start time: clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

/// The postmaster in one look. A zombie is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Postmaster {
    /// Dead or never there.
    Dead,
    /// It may fork.
    Running(Process),
    /// It was stopped before the other processes were counted.
    Stopped(Process),
}

/// One look at the data directory's processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When the look began.
    pub looked: Time,
    /// The postmaster, looked at before the others.
    pub postmaster: Postmaster,
    /// Every other process of the data directory that is not dead.
    pub others: Vec<Process>,
}

/// How and until when to kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// When all must be gone; after that it is reported, and tried further only if asked again.
    pub deadline: Time,
    /// SIGQUIT first and wait this long, where the deadline leaves room for it.
    pub quit: Option<Span>,
}

impl Plan {
    /// A plan that begins now, without SIGQUIT.
    pub fn starting(now: Time, budget: Span) -> Plan {
        Plan {
            deadline: now + budget.max(LEAST_BUDGET),
            quit: None,
        }
    }
}

/// What was done so far; start with the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// SIGQUIT was sent to the postmaster.
    pub quit: Option<Time>,
    /// SIGSTOP was sent to the postmaster.
    pub stopped: Option<Time>,
    /// SIGKILL was last sent to something.
    pub killed: Option<Time>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the processes.
    Look,
    /// Wait until then, or until a process that was signalled is dead; then look.
    Wait(Time),
    /// SIGQUIT to the postmaster.
    Quit(Process),
    /// SIGSTOP to the postmaster.
    StopPostmaster(Process),
    /// SIGKILL to these.
    KillOthers(Vec<Process>),
    /// SIGKILL to the postmaster.
    KillPostmaster(Process),
    /// No process is left: PostgreSQL is down.
    Gone,
    /// The deadline has passed and these are left.
    Overdue(Vec<Process>),
}

/// The next step. `facts`: the last look, if there was one.
pub fn next(now: Time, plan: &Plan, progress: &Progress, facts: Option<&Facts>) -> Step {
    let Some(facts) = facts else {
        return Step::Look;
    };
    let postmaster = match facts.postmaster {
        Postmaster::Dead => None,
        Postmaster::Running(process) | Postmaster::Stopped(process) => Some(process),
    };
    if postmaster.is_none() && facts.others.is_empty() {
        return Step::Gone;
    }
    // A kill (or the end of a wait) makes this look old.
    let acted = progress.killed.max(progress.stopped).max(progress.quit);
    let fresh = acted.is_none_or(|acted| acted < facts.looked);
    if now >= plan.deadline && fresh {
        let left = postmaster.into_iter().chain(facts.others.iter().copied());
        return Step::Overdue(left.collect());
    }
    if let Some(step) = quit(now, plan, progress, facts) {
        return step;
    }
    if let (Postmaster::Running(process), None) = (facts.postmaster, progress.stopped) {
        return Step::StopPostmaster(process);
    }
    if let Some(killed) = progress.killed.filter(|killed| *killed >= facts.looked) {
        return wait_or_look(now, killed, LOOK_EVERY);
    }
    if !facts.others.is_empty() {
        return Step::KillOthers(facts.others.clone());
    }
    match (facts.postmaster, progress.stopped) {
        // Not yet seen to be stopped: a fork may be under way.
        (Postmaster::Running(_), Some(stopped)) if now < stopped + STOP_PATIENCE => {
            wait_or_look(now, facts.looked, STOP_LOOK_EVERY)
        }
        (Postmaster::Running(process) | Postmaster::Stopped(process), _) => {
            Step::KillPostmaster(process)
        }
        (Postmaster::Dead, _) => Step::Gone,
    }
}

/// The polite part: SIGQUIT to a postmaster that can hear it, and patience.
fn quit(now: Time, plan: &Plan, progress: &Progress, facts: &Facts) -> Option<Step> {
    let patience = plan.quit?;
    if progress.stopped.is_some() || progress.killed.is_some() {
        return None;
    }
    let Postmaster::Running(process) = facts.postmaster else {
        return None;
    };
    match progress.quit {
        None if now + patience + KILL_RESERVE <= plan.deadline => Some(Step::Quit(process)),
        Some(sent) if now < sent + patience => {
            let step = wait_or_look(now, facts.looked.max(sent), LOOK_EVERY);
            Some(step.until(sent + patience))
        }
        _ => None,
    }
}

/// A look is due this long after `last`.
fn wait_or_look(now: Time, last: Time, every: Span) -> Step {
    let due = last + every;
    if now < due {
        Step::Wait(due)
    } else {
        Step::Look
    }
}

impl Step {
    /// Cuts a wait.
    fn until(self, end: Time) -> Step {
        match self {
            Step::Wait(due) => Step::Wait(due.min(end)),
            other => other,
        }
    }
}
