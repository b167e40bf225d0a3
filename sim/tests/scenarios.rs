//! Every scenario of `tests/scenarios`, as the simulator plays it; and that it tells what is wrong
//! with one that cannot be read, played or met.

#![allow(clippy::unwrap_used)]

use pgherd_scenario::{parse, words::Scenario};
use pgherd_sim::scenario::{Stopped, lacks, play};
use std::path::Path;

/// All files, in the order of their names.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let mut files: Vec<(String, String)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "scn"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            (format!("tests/scenarios/{name}"), text)
        })
        .collect();
    files.sort();
    files
}

fn read(text: &str) -> Scenario {
    match parse("t.scn", text) {
        Ok(scenario) => scenario,
        Err(malformed) => panic!("{malformed}"),
    }
}

#[test]
fn every_scenario_that_the_simulator_can_play_goes_as_expected() {
    let files = files();
    assert!(files.len() >= 25, "{} scenarios", files.len());
    let wrong: Vec<String> = files
        .iter()
        .filter_map(|(file, text)| wrong_with(file, text))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

/// Why this file is not as it should be.
fn wrong_with(file: &str, text: &str) -> Option<String> {
    let scenario = match parse(file, text) {
        Ok(scenario) => scenario,
        Err(malformed) => return Some(malformed.to_string()),
    };
    if scenario.story.is_empty() {
        return Some(format!("{file}: tells no story above `cluster`"));
    }
    match (
        play(&scenario),
        &scenario.only_real,
        &scenario.known_to_fail,
    ) {
        (Ok(_), None, None)
        | (Err(Stopped::CannotYet { .. }), Some(_), _)
        | (Err(Stopped::Failed(_)), None, Some(_)) => None,
        (_, Some(_), _) => Some(format!(
            "{file}: says `only real`, and the simulator can play it"
        )),
        (Ok(_), None, Some(_)) => Some(format!(
            "{file}: says `known to fail`, and goes as expected: take that line away"
        )),
        (Err(stopped), None, _) => Some(format!(
            "{stopped}\n  repeat it: cargo run -p pgherd-sim -- --scenario {file}"
        )),
    }
}

#[test]
fn a_scenario_goes_the_same_way_twice() {
    let text = "cluster of 3, lease 5s, rewind, copy anew\nseed 7\nstart\nexpect a whole cluster within 60s\nwriters run\n\
                let old be primary\nkill node of old\nexpect a primary other than old within 7s\n\
                expect writes within 8s\n";
    let scenario = read(text);
    let (first, second) = (play(&scenario).unwrap(), play(&scenario).unwrap());
    assert_eq!(first.met.len(), 3);
    assert_eq!(first, second);
    let other = read(&text.replace("seed 7", "seed 8"));
    assert_ne!(play(&other).unwrap(), first, "the seed is not used");
}

#[test]
fn a_scenario_with_a_wrong_expectation_fails_and_shows_what_was_there_instead() {
    let text = "cluster of 3, lease 5s\nstart\nexpect a whole cluster within 60s\nlet old be primary\n\
                kill node of old\nexpect a primary other than old within 2s\n";
    let Err(Stopped::Failed(failed)) = play(&read(text)) else {
        panic!("nobody can take over within 2 s");
    };
    assert_eq!(failed.at, "t.scn:6");
    assert_eq!(
        failed.statement,
        "expect a primary other than old within 2s"
    );
    assert_eq!(failed.what, "not so 2.0 s after the last step");
    assert_eq!(failed.seen.len(), 3);
    let dark = failed
        .seen
        .iter()
        .find(|line| line.contains("without power"));
    let dark = dark.unwrap();
    assert!(dark.contains("timeline 1, LSN 0/1"), "{dark}");
    assert!(dark.ends_with(", holds the lock, agent dead"), "{dark}");
    assert_eq!(failed.trace.len(), 30);
    let shown = Stopped::Failed(failed).to_string();
    assert!(
        shown.starts_with("t.scn:6: expect a primary other than old within 2s\n  not so"),
        "{shown}"
    );
}

#[test]
fn every_kind_of_expectation_can_fail() {
    let start =
        "cluster of 3, lease 5s\nstart\nexpect a whole cluster within 60s\nwriters run\nwait 2s\n";
    for (last, what) in [
        (
            "expect no primary within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect no primary for 1s",
            "not so, or not any more, 0.0 s after this line was reached",
        ),
        (
            "expect primary to be a replica within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect a replica to be primary within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect primary not to be primary within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect a replica to be down within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect primary to be read-only within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect timeline 2 within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "expect pending restart on n1 within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "writers stop\nwait 3s\nexpect writes within 1s",
            "not so 1.0 s after the last step",
        ),
        (
            "kill node of primary\nexpect no gap in writes above 1s for 4s",
            "not so, or not any more, 1.0 s after this line was reached",
        ),
        (
            "kill node of primary\nexpect a whole cluster within 9s",
            "not so 9.0 s after the last step",
        ),
    ] {
        let Err(Stopped::Failed(failed)) = play(&read(&format!("{start}{last}\n"))) else {
            panic!("{last}: was met");
        };
        assert_eq!(failed.what, what, "{last}");
    }
    let Err(Stopped::Failed(failed)) = play(&read(&format!("{start}expect no writes for 1s\n")))
    else {
        panic!("writers write");
    };
    assert!(
        failed.what.starts_with("not so, or not any more"),
        "{failed:?}"
    );
}

#[test]
fn a_row_that_is_lost_is_noticed() {
    // Cut off from all that streams, the old primary acknowledges what nobody else ever sees.
    let text = "cluster of 3, lease 5s, lag limit 16MB\nstart\nexpect a whole cluster within 60s\nwriters run\n\
                wait 2s\nlet old be primary\ncut old from the others\nwait 2s\nkill node of old\n\
                expect a primary other than old within 7s\nexpect no acknowledged row lost\n";
    let Err(Stopped::Failed(failed)) = play(&read(text)) else {
        panic!("rows of two seconds are lost");
    };
    assert_eq!(failed.at, "t.scn:11");
    assert!(failed.what.ends_with(" are lost"), "{}", failed.what);
}

#[test]
fn a_broken_invariant_fails_a_scenario() {
    // Without a guard nobody ends the primary of an agent that is frozen.
    let text = "cluster of 3, lease 5s, guard off\nstart\nexpect a whole cluster within 60s\nwriters run\n\
                freeze agent of primary\nwait 20s\nexpect writes within 1s\n";
    let Err(Stopped::Failed(failed)) = play(&read(text)) else {
        panic!("a primary without lock, and nobody sees it");
    };
    assert_eq!(failed.at, "t.scn:6");
    assert!(
        failed.what.starts_with("an invariant is broken: at ")
            && failed.what.contains("lock outlived"),
        "{}",
        failed.what
    );
}

#[test]
fn what_the_simulator_cannot_do_it_says() {
    for (text, expected) in [
        (
            "cluster of 5\nstart\nexpect a primary within 60s\n",
            "t.scn: the simulator cannot run a cluster of 5 (only of 3) yet",
        ),
        (
            "cluster of 3\nstart\nexpect a primary within 60s\nupgrade agent of primary\n",
            "t.scn:4: the simulator cannot upgrade an agent yet",
        ),
        (
            "cluster of 3\nstart\nexpect a primary within 60s\nset parameter work_mem to 8MB\n",
            "t.scn:4: the simulator cannot change `work_mem` (only what needs a restart: max_connections, \
             max_locks_per_transaction, max_prepared_transactions, max_wal_senders, max_worker_processes, \
             shared_buffers) yet",
        ),
    ] {
        let stopped = play(&read(text)).unwrap_err();
        assert_eq!(stopped.to_string(), expected);
        assert_eq!(lacks(&read(text)), Some(stopped));
    }
}
