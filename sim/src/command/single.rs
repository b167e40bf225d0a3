//! One seed with its whole story, or one scenario.

use std::path::Path;
use std::process::ExitCode;

use pgherd_sim::{Bug, Seed, run_with};

use super::{commit, say};

/// Tells every line of it.
pub(crate) fn seed(seed: Seed, bug: Option<Bug>) -> ExitCode {
    let report = run_with(seed, bug, true);
    for line in &report.trace {
        say(line);
    }
    let told = match &report.failure {
        Some(failure) => failure.clone(),
        None => format!("{} s of simulated time, nothing broken", report.seconds),
    };
    println!("seed {seed}, commit {}: {told}", commit());
    match report.failure {
        Some(_) => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    }
}

/// Plays it, and tells when each expectation was met.
pub(crate) fn scenario(file: &Path) -> ExitCode {
    let name = file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(2);
        }
    };
    let scenario = match pgherd_scenario::parse(&name, &text) {
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
            println!("{name}: as expected, {simulated:.1} s of simulated time");
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
