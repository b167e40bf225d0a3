//! The fake etcd answers every list as real etcd does, also short ones from a seed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use pgherd_conformance::etcd::{Fake, Order, Real, Step, draw, parse, play};
use pgherd_conformance::{Transcript, lists};
use pgherd_tests::Etcd;

/// How often the fake plays a list, with other choices of its own each time.
const FAKES: u64 = 3;
/// Short lists in every run. `PGHERD_CONFORMANCE_SEEDS=3000,500` plays 500, from 3000 on.
const SEEDS: (u64, u64) = (0, 150);

/// Plays a list on both sides; the real transcript, or where they part.
async fn compare(etcd: &Etcd, name: &str, steps: &[Step]) -> Result<Transcript, String> {
    let mut side = Real::new(etcd, name).await;
    let real = play(&mut side, steps).await;
    side.clear().await;
    for seed in 0..FAKES {
        let fake = play(&mut Fake::new(seed), steps).await;
        if let Some(difference) = fake.difference(&real) {
            return Err(format!("{name}, fake of seed {seed}:\n{difference}"));
        }
    }
    Ok(real)
}

fn read(name: &str, text: &str) -> Vec<Step> {
    parse(text).unwrap_or_else(|error| panic!("lists/etcd/{name}.txt: {error}"))
}

fn none(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// Such a list waits for ends of leases or for members who are cut off.
fn is_slow(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Await(..)))
}

#[tokio::test]
async fn lists_are_answered_alike() {
    let etcd = Etcd::start(1).await;
    let mut differences = Vec::new();
    for (name, text) in lists("etcd") {
        let steps = read(&name, &text);
        if !is_slow(&steps) {
            differences.extend(compare(&etcd, &name, &steps).await.err());
        }
    }
    none(&differences);
}

#[tokio::test]
async fn lists_that_wait_are_answered_alike() {
    // Each on an etcd of its own: they wait beside each other.
    let lists = lists("etcd");
    let lists = lists.iter().map(|(name, text)| (name, read(name, text)));
    let beside = tokio::task::LocalSet::new();
    let mut all = tokio::task::JoinSet::new();
    for (name, steps) in lists.filter(|(_, steps)| is_slow(steps)) {
        let name = name.clone();
        let list = async move {
            let etcd = Etcd::start(1).await;
            compare(&etcd, &name, &steps).await.err()
        };
        all.spawn_local_on(list, &beside);
    }
    let differences = beside.run_until(all.join_all()).await;
    none(&differences.into_iter().flatten().collect::<Vec<_>>());
}

/// First and number of the seeds.
fn seeds() -> (u64, u64) {
    let Ok(asked) = std::env::var("PGHERD_CONFORMANCE_SEEDS") else {
        return SEEDS;
    };
    let read = asked
        .split_once(',')
        .and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
    read.unwrap_or_else(|| panic!("PGHERD_CONFORMANCE_SEEDS={asked}: expected FIRST,COUNT"))
}

#[tokio::test]
async fn lists_from_seeds_are_answered_alike() {
    let etcd = Etcd::start(1).await;
    let (first, count) = seeds();
    let mut differences = Vec::new();
    let mut seen = BTreeSet::new();
    for seed in first..first + count {
        let steps = draw(seed);
        match compare(&etcd, &format!("seed{seed}"), &steps).await {
            Ok(real) => seen.extend(real.lines().filter_map(outcome)),
            Err(difference) => differences.push(difference),
        }
        if differences.len() >= 5 {
            break;
        }
    }
    none(&differences);
    if (first, count) == SEEDS {
        let missing: Vec<_> = wanted()
            .into_iter()
            .filter(|it| !seen.contains(it))
            .collect();
        assert!(missing.is_empty(), "the seeds never showed {missing:?}");
    }
}

/// The order of a step, and what was said to it.
fn outcome((step, seen): (&str, &str)) -> Option<(String, String)> {
    let mut words = step.split_whitespace();
    let order = words.nth(1)?;
    let said = seen.split_whitespace().next()?;
    let known = ["done", "refused", "no", "granted", "there"].contains(&said);
    known.then(|| (order.to_owned(), said.to_owned()))
}

/// Every order is done and refused; whatever needs a lease is told that there is none.
fn wanted() -> Vec<(String, String)> {
    let both = [
        "acquire",
        "reattach",
        "release",
        "claim",
        "initialize",
        "unclaim",
        "config",
        "failover",
        "scheduled",
        "status",
        "sync",
        "unsync",
        "failsafe",
        "history",
    ];
    let both = both
        .iter()
        .flat_map(|order| [(*order, "done"), (*order, "refused")]);
    let others = [
        ("acquire", "no"),
        ("renew", "no"),
        ("keep-alive", "no"),
        ("look", "granted"),
        ("look", "there"),
        ("member", "done"),
        ("refresh", "done"),
    ];
    let all = both.chain(others);
    all.map(|(order, said)| (order.to_owned(), said.to_owned()))
        .collect()
}

#[test]
fn every_order_is_in_some_list() {
    let steps = lists("etcd")
        .into_iter()
        .flat_map(|(name, text)| read(&name, &text));
    let orders = steps.filter_map(|step| match step {
        Step::Order(_, order) => Some(std::mem::discriminant(&order)),
        _ => None,
    });
    let listed: Vec<std::mem::Discriminant<Order>> = orders.collect();
    for seed in 0..200 {
        for step in draw(seed) {
            if let Step::Order(_, order) = step {
                assert!(
                    listed.contains(&std::mem::discriminant(&order)),
                    "{order}: in no list"
                );
            }
        }
    }
}
