//! Fixed seeds: those that once broke an invariant must not again, all together must exercise the
//! whole brain, and a seed must tell the same story twice.

#![allow(clippy::unwrap_used)]

use pgherd_sim::{Report, Seed, run};

/// One seed per line, with what it showed.
fn regressions() -> Vec<Seed> {
    let text = include_str!("../regressions.txt");
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.parse().unwrap())
        .collect()
}

#[test]
fn regressions_stay_mended_and_every_rule_and_action_occurs() {
    let mut all = Report::default();
    for seed in regressions() {
        let report = run(seed, false);
        assert_eq!(
            report.failure, None,
            "repeat it: cargo xtask sim replay {seed} --until broken"
        );
        all.add(&report);
    }
    assert_eq!(
        all.never(),
        Vec::<&str>::new(),
        "never occurred in the fixed seeds"
    );
}

#[test]
fn one_seed_tells_one_story() {
    let (first, second) = (run(23, true), run(23, true));
    assert!(first.trace.len() > 1000);
    assert_eq!(first.trace, second.trace);
}
