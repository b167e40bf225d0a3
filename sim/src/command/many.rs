//! As many seeds as fit into a time or a number, on one core or on all.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgherd_sim::{Bug, Counts, Kind, Report, Seed, Wanted, digest, run_with};

use super::{commit, repeat};
use crate::Many;

/// What all threads share.
struct Run<'a> {
    base: u64,
    kind: Kind,
    most: u64,
    ends: Instant,
    keep_going: bool,
    digest: bool,
    bug: Option<Bug>,
    commit: &'a str,
    begun: AtomicU64,
    stop: AtomicBool,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    seeds: u64,
    failures: u64,
    all: Report,
}

/// Runs them; fails if one does, or if what was to be shown was not.
pub(crate) fn run(many: &Many, bug: Option<Bug>) -> ExitCode {
    let wanted = match many.covered.then(Wanted::stated).transpose() {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let commit = commit();
    let run = Run {
        base: many.base.unwrap_or_else(fresh),
        kind: kind(many),
        most: many.seeds.unwrap_or(u64::MAX),
        ends: begun + length(many),
        keep_going: many.keep_going,
        digest: many.digest,
        bug,
        commit: &commit,
        begun: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        done: Mutex::default(),
    };
    if !many.digest {
        println!("commit {commit}, base seed {}", run.base);
    }
    std::thread::scope(|scope| {
        for _ in 0..jobs(many) {
            scope.spawn(|| run.work());
        }
    });
    if many.digest {
        return ExitCode::SUCCESS;
    }
    let done = run
        .done
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    tell(&done, begun.elapsed());
    let missing = wanted.map_or_else(Vec::new, |wanted| wanted.missing(&done.all));
    for what in &missing {
        println!("not covered: {what}");
    }
    let hours = |seconds: u64| seconds as f64 / 3600.0;
    println!(
        "{} seeds, {:.1} simulated hours ({:.1} of them idle), {} faults, {} failures",
        done.seeds,
        hours(done.all.seconds),
        hours(done.all.idle),
        done.all.hits,
        done.failures
    );
    match done.failures == 0 && missing.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl Run<'_> {
    /// One thread.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) && Instant::now() < self.ends {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.most {
                return;
            }
            let seed = Seed {
                number: self.base.wrapping_add(number),
                kind: self.kind,
            };
            if self.digest {
                println!("{seed} {:016x}", digest(seed));
            } else {
                self.note(seed, &run_with(seed, self.bug, false));
            }
        }
    }

    fn note(&self, seed: Seed, report: &Report) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.seeds += 1;
        done.all.add(report);
        let Some(failure) = &report.failure else {
            return;
        };
        done.failures += 1;
        println!("seed {seed}, commit {}: {failure}", self.commit);
        println!("  repeat it: {}", repeat(seed, self.bug));
        if self.bug.is_none() {
            println!(
                "  keep it, once it is mended: a line `{seed}` with what it showed in sim/regressions.txt"
            );
        }
        if !self.keep_going {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Seeds that nobody has run before.
fn fresh() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |it| it.as_secs() * 1000)
}

fn kind(many: &Many) -> Kind {
    match many {
        Many { rough: true, .. } => Kind::Rough,
        Many { failsafe: true, .. } => Kind::Failsafe,
        Many { long: true, .. } => Kind::Long,
        Many { standby: true, .. } => Kind::Standby,
        _ => Kind::Plain,
    }
}

/// For how long new seeds are begun.
fn length(many: &Many) -> Duration {
    let unbounded = if many.seeds.is_some() { 86_400 } else { 10 };
    let minutes = many.minutes.map(|minutes| minutes * 60);
    Duration::from_secs(minutes.or(many.seconds).unwrap_or(unbounded))
}

/// Every core where minutes are given, else one.
fn jobs(many: &Many) -> u64 {
    let all = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let told = many.jobs;
    told.unwrap_or_else(|| if many.minutes.is_some() { all() } else { 1 })
}

fn tell(done: &Done, took: Duration) {
    let (all, took) = (&done.all, took.as_secs_f64());
    show("rules", &all.rules);
    show("actions", &all.actions);
    show("faults", &all.faults);
    println!("never occurred: {:?}", all.never());
    println!(
        "{took:.1} s, {:.0} events, {:.0} decisions, {:.0} faults and {:.0} simulated seconds per second",
        all.events as f64 / took,
        all.decisions as f64 / took,
        all.hits as f64 / took,
        all.seconds as f64 / took
    );
}

fn show(what: &str, counts: &Counts) {
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("{what}: {}", counts.join(", "));
}
