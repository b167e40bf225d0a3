//! `pgherd-sim --seconds N [--base SEED]`: as many seeds as fit; `pgherd-sim --seed N`: one, with
//! its story; `pgherd-sim --scenario FILE`: what comes of a scenario.

use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pgherd_sim::{Bug, Counts, Report, run_with};

fn main() -> ExitCode {
    let mut seconds = 10;
    let mut seed = None;
    let mut base = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |it| it.as_secs());
    let mut keep_going = false;
    let (mut seeds, mut bug) = (u64::MAX, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--keep-going" {
            keep_going = true;
            continue;
        }
        let text = args.next();
        if let ("--scenario", Some(file)) = (arg.as_str(), &text) {
            return scenario(file);
        }
        if let ("--bug", Some(name)) = (arg.as_str(), &text) {
            bug = Bug::named(name);
            if bug.is_none() {
                eprintln!("there is no bug {name:?}: known are {:?}", Bug::ALL);
                return ExitCode::from(2);
            }
            continue;
        }
        let value = text.and_then(|text| text.parse::<u64>().ok());
        match (arg.as_str(), value) {
            ("--seconds", Some(value)) => seconds = value,
            ("--seed", Some(value)) => seed = Some(value),
            ("--base", Some(value)) => base = value,
            ("--seeds", Some(value)) => seeds = value,
            _ => {
                eprintln!(
                    "usage: pgherd-sim [--seconds N] [--seeds N] [--base SEED] [--keep-going] [--bug NAME] | --seed N \
                     [--bug NAME] | --scenario FILE"
                );
                return ExitCode::from(2);
            }
        }
    }
    match seed {
        Some(seed) => one(seed, bug),
        None => many(seconds, seeds, base, keep_going, bug),
    }
}

/// Plays it, and tells when each expectation was met.
fn scenario(file: &str) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::from(2);
        }
    };
    let scenario = match pgherd_scenario::parse(file, &text) {
        Ok(scenario) => scenario,
        Err(malformed) => {
            eprintln!("{malformed}");
            return ExitCode::from(2);
        }
    };
    println!("{}", scenario.story);
    match pgherd_sim::scenario::play(&scenario) {
        Ok(outcome) => {
            for met in &outcome.met {
                let after = met.after.as_secs_f64();
                println!("{:>5} {after:>9.3} s  {}", met.line, met.text);
            }
            let simulated = outcome.simulated.as_secs_f64();
            println!("{file}: as expected, {simulated:.1} s of simulated time");
            ExitCode::SUCCESS
        }
        Err(stopped) => {
            println!("{stopped}");
            if let Some(reason) = &scenario.known_to_fail {
                println!("known to fail because {reason}");
            }
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, bug: Option<Bug>) -> ExitCode {
    let report = run_with(seed, bug, true);
    for line in &report.trace {
        println!("{line}");
    }
    match report.failure {
        Some(failure) => {
            println!("seed {seed}: {failure}");
            ExitCode::FAILURE
        }
        None => {
            println!(
                "seed {seed}: {} s of simulated time, nothing broken",
                report.seconds
            );
            ExitCode::SUCCESS
        }
    }
}

fn many(seconds: u64, most: u64, base: u64, keep_going: bool, bug: Option<Bug>) -> ExitCode {
    let begun = Instant::now();
    let mut all = Report::default();
    let (mut seeds, mut failures) = (0_u64, 0_u64);
    println!("base seed {base}");
    while seeds < most && begun.elapsed().as_secs() < seconds {
        let report = run_with(base.wrapping_add(seeds), bug, false);
        seeds += 1;
        all.add(&report);
        if let Some(failure) = report.failure {
            failures += 1;
            let seed = report.seed;
            println!("seed {seed}: {failure}");
            println!("  repeat it: cargo run -p pgherd-sim --release -- --seed {seed}");
            if !keep_going {
                break;
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{seeds} seeds, {failures} failed, {} simulated seconds in {took:.1} s",
        all.seconds
    );
    println!("{:.0} events per second", all.events as f64 / took);
    show("rules", &all.rules);
    show("actions", &all.actions);
    show("faults", &all.faults);
    println!("never occurred: {:?}", all.never());
    if failures == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn show(what: &str, counts: &Counts) {
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    println!("{what}: {}", counts.join(", "));
}
