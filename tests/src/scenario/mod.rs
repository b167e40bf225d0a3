//! Plays scenarios (`tests/scenarios/*.scn`, docs/scenarios.md) with real processes: the agent that ships,
//! PostgreSQL and three etcds, each in a network namespace of its own, with signals, dropped packets and disks
//! that are full or frozen. The simulator (`sim`) plays the same files, read by the same parser.
//!
//! In every story, clients write rows with numbers of their own through each node directly, all the time. At
//! its end no two nodes may have acknowledged rows on different timelines at the same time, nor may an
//! acknowledged row be lost in a synchronous mode.

mod clients;
mod deeds;
mod disk;
mod looks;
mod player;
mod settings;
mod trace;
mod view;
mod world;

use crate::net;
use crate::skip::{self, Need};
use pgherd_scenario::words::Scenario;

/// Plays the scenario `text` as test `name` (as libtest shows it).
///
/// # Panics
/// When it is malformed, when something in it is not as expected, and when this machine cannot do what it asks
/// for and must ([`skip`]).
pub fn test(name: &str, file: &str, text: &str) {
    let scenario = read(file, text);
    if net::enter(name) == net::Place::Done {
        return;
    }
    match (play(&scenario), &scenario.known_to_fail) {
        (None, _) | (Some(Ok(())), None) => {}
        (Some(Err(failed)), None) => panic!("{failed}"),
        (Some(Err(failed)), Some(reason)) => println!("{failed}\nknown to fail because {reason}"),
        (Some(Ok(())), Some(_)) => {
            panic!("{file}: says `known to fail`, and goes as expected: take that line away")
        }
    }
}

/// What went wrong, of a scenario that must go wrong; only within [`net::enter`]. `None`: this machine cannot
/// do what it asks for.
///
/// # Panics
/// When it is malformed, and when it goes as it says.
pub fn failure(file: &str, text: &str) -> Option<String> {
    let failed = play(&read(file, text))?;
    Some(failed.expect_err("it goes as it says").to_string())
}

fn read(file: &str, text: &str) -> Scenario {
    match pgherd_scenario::parse(file, text) {
        Ok(scenario) => scenario,
        Err(malformed) => panic!("{malformed}"),
    }
}

fn play(scenario: &Scenario) -> Option<Result<(), player::Failed>> {
    if let Err(missing) = possible(scenario) {
        skip::lacking(Need::Faults, &format!("{}: {missing}", scenario.file));
        return None;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    Some(runtime.block_on(player::play(scenario)))
}

/// What of it this machine cannot do.
fn possible(scenario: &Scenario) -> Result<(), String> {
    if deeds::drops_packets(scenario) {
        net::can_drop_packets()?;
    }
    if world::wants_disks(scenario) {
        disk::possible()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(
        expected = "t.scn:3: expected `agent`, `node` or `etcd`, found the end of the line"
    )]
    fn a_malformed_story_is_told_before_anything_runs() {
        super::test("no name", "t.scn", "cluster of 3\nstart\nstart\n");
    }
}
