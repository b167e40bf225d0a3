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
const LOOK_EVERY: Span = Span::from_millis(10);

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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;

    const NOW: Time = Time::from_millis(1000);

    fn process(pid: u32) -> Process {
        Process {
            pid,
            parent: 1,
            started: u64::from(pid),
        }
    }

    fn show(step: &Step) -> String {
        let pids = |processes: &[Process]| {
            let pids: Vec<String> = processes.iter().map(|it| format!(" {}", it.pid)).collect();
            pids.concat()
        };
        match step {
            Step::Look => String::from("look"),
            Step::Wait(until) => format!("wait {}", until.as_millis()),
            Step::Quit(process) => format!("quit {}", process.pid),
            Step::StopPostmaster(process) => format!("stop {}", process.pid),
            Step::KillOthers(processes) => format!("kill{}", pids(processes)),
            Step::KillPostmaster(process) => format!("kill postmaster {}", process.pid),
            Step::Gone => String::from("gone"),
            Step::Overdue(processes) => format!("overdue{}", pids(processes)),
        }
    }

    /// `looked MS [run PID|stopped PID] [others PID,PID] [quit MS] [stop MS] [kill MS]
    /// [patience MS] [deadline MS]` at 1000 ms.
    fn step(line: &str) -> String {
        let mut plan = Plan::starting(NOW, Span::from_secs(1));
        let mut progress = Progress::default();
        let mut facts: Option<Facts> = None;
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            let pids: Vec<u32> = value.split(',').map(|pid| pid.parse().unwrap()).collect();
            let time = Time::from_millis(u64::from(pids[0]));
            match (word, facts.as_mut()) {
                ("looked", _) => {
                    facts = Some(Facts {
                        looked: time,
                        postmaster: Postmaster::Dead,
                        others: vec![],
                    });
                }
                ("run", Some(facts)) => facts.postmaster = Postmaster::Running(process(pids[0])),
                ("stopped", Some(facts)) => {
                    facts.postmaster = Postmaster::Stopped(process(pids[0]));
                }
                ("others", Some(facts)) => facts.others = pids.into_iter().map(process).collect(),
                ("quit", _) => progress.quit = Some(time),
                ("stop", _) => progress.stopped = Some(time),
                ("kill", _) => progress.killed = Some(time),
                ("patience", _) => plan.quit = Some(Span::from_millis(u64::from(pids[0]))),
                ("deadline", _) => plan.deadline = time,
                other => panic!("{other:?}"),
            }
        }
        show(&next(NOW, &plan, &progress, facts.as_ref()))
    }

    #[test]
    fn steps() {
        for (facts, expected) in [
            ("", "look"),
            ("looked 999", "gone"),
            // The order: stop, kill the others, look again, kill the postmaster, look until gone.
            ("looked 999 run 5 others 6,7", "stop 5"),
            ("looked 998 run 5 others 6,7 stop 999", "kill 6 7"),
            ("looked 998 run 5 others 6,7 stop 999 kill 999", "wait 1009"),
            ("looked 980 run 5 others 6,7 stop 981 kill 990", "look"),
            ("looked 999 stopped 5 others 8 stop 991 kill 992", "kill 8"),
            (
                "looked 999 stopped 5 stop 991 kill 992",
                "kill postmaster 5",
            ),
            ("looked 998 stopped 5 stop 991 kill 999", "wait 1009"),
            ("looked 999 stop 991 kill 992", "gone"),
            // Somebody else has stopped it already.
            ("looked 999 stopped 5 others 6", "kill 6"),
            ("looked 999 stopped 5", "kill postmaster 5"),
            // The postmaster is dead: leftovers at once.
            ("looked 999 others 6,7", "kill 6 7"),
            ("looked 999 others 7 kill 992", "kill 7"),
            // A postmaster that does not show as stopped is awaited a little, when alone.
            ("looked 998 run 5 stop 999", "look"),
            ("looked 1000 run 5 stop 999", "wait 1001"),
            ("looked 999 run 5 stop 980", "kill postmaster 5"),
            // SIGQUIT, where the deadline leaves room and the postmaster can hear it.
            ("looked 999 run 5 others 6 patience 200", "quit 5"),
            ("looked 999 run 5 others 6 patience 600", "stop 5"),
            ("looked 999 stopped 5 others 6 patience 200", "kill 6"),
            (
                "looked 998 run 5 others 6 patience 200 quit 999",
                "wait 1009",
            ),
            ("looked 999 run 5 others 6 patience 200 quit 800", "stop 5"),
            ("looked 999 others 6 patience 200 quit 900", "kill 6"),
            // Late: what is left is reported, but only from a look after the last kill.
            (
                "looked 998 stopped 5 others 6 stop 900 kill 990 deadline 1000",
                "overdue 5 6",
            ),
            (
                "looked 980 stopped 5 others 6 stop 900 kill 990 deadline 1000",
                "look",
            ),
            ("looked 999 stop 900 kill 990 deadline 1000", "gone"),
        ] {
            assert_eq!(step(facts), expected, "{facts}");
        }
    }

    #[test]
    fn a_late_start_still_gets_some_time() {
        let plan = Plan::starting(NOW, Span::ZERO);
        assert_eq!(plan.deadline, Time::from_millis(1100));
    }

    /// A small world: a postmaster that forks while it runs, children that die slowly.
    #[test]
    fn nothing_survives_in_any_small_world() {
        for seed in 0..2000u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut roll = move |sides: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % sides
            };
            let mut world: BTreeMap<u32, Option<Time>> = BTreeMap::new();
            let mut postmaster = (roll(5) > 0).then_some((process(1), None::<Time>));
            let mut stop_at: Option<Time> = None;
            let mut fresh_pid = 2;
            for _ in 0..roll(6) {
                world.insert(fresh_pid, None);
                fresh_pid += 1;
            }
            let mut now = NOW;
            let plan = Plan::starting(now, Span::from_secs(2));
            let (mut progress, mut facts) = (Progress::default(), None);
            loop {
                now = now + Span::from_micros(50 + roll(400));
                let is_stopped = stop_at.is_some_and(|at| at <= now);
                if postmaster.is_some() && !is_stopped && roll(3) == 0 {
                    world.insert(fresh_pid, None);
                    fresh_pid += 1;
                }
                world.retain(|_, dies| dies.is_none_or(|at| at > now));
                postmaster = postmaster.filter(|(_, dies)| dies.is_none_or(|at| at > now));
                match next(now, &plan, &progress, facts.as_ref()) {
                    Step::Gone => break,
                    Step::Overdue(left) => panic!("seed {seed}: {left:?} left"),
                    Step::Quit(_) => panic!("not planned"),
                    Step::Wait(until) => now = now.max(until),
                    Step::Look => {
                        facts = Some(Facts {
                            looked: now,
                            postmaster: match postmaster {
                                None => Postmaster::Dead,
                                Some((it, _)) if is_stopped => Postmaster::Stopped(it),
                                Some((it, _)) => Postmaster::Running(it),
                            },
                            others: world.keys().map(|pid| process(*pid)).collect(),
                        });
                    }
                    Step::StopPostmaster(_) => {
                        stop_at = Some(now + Span::from_micros(roll(30_000)));
                        progress.stopped = Some(now);
                    }
                    Step::KillOthers(them) => {
                        for it in them {
                            let dies = now + Span::from_micros(roll(20_000));
                            if let Some(entry) = world.get_mut(&it.pid) {
                                entry.get_or_insert(dies);
                            }
                        }
                        progress.killed = Some(now);
                    }
                    Step::KillPostmaster(_) => {
                        if let Some((_, entry)) = &mut postmaster {
                            entry.get_or_insert(now + Span::from_micros(roll(20_000)));
                        }
                        progress.killed = Some(now);
                    }
                }
            }
            assert!(postmaster.is_none() && world.is_empty(), "seed {seed}");
        }
    }
}
