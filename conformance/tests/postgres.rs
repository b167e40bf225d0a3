//! The fake PostgreSQL becomes after every order what real PostgreSQL becomes.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use pgherd_conformance::lists;
use pgherd_conformance::postgres::{Fake, Order, Step, Template, parse, play};
use pgherd_tests::process;

/// How often the fake plays a list, with other choices of its own each time.
const FAKES: u64 = 20;
/// Lists at a time, and how many tests share them.
const BESIDE: usize = 2;
const SHARES: usize = 4;

fn read(name: &str, text: &str) -> Vec<Step> {
    parse(text).unwrap_or_else(|error| panic!("lists/postgres/{name}.txt: {error}"))
}

/// Where both sides part.
async fn compare(template: &Template, name: &str, steps: &[Step]) -> Option<String> {
    let fake = play(&mut Fake::new(0), steps, None).await;
    for seed in 1..FAKES {
        let other = play(&mut Fake::new(seed), steps, None).await;
        if let Some(difference) = other.difference(&fake) {
            return Some(format!(
                "{name}, fakes of seeds {seed} and 0:\n{difference}"
            ));
        }
    }
    let mut nodes = template.nodes();
    let real = play(&mut nodes, steps, Some(&fake)).await;
    let difference = fake.difference(&real)?;
    Some(format!("{name}:\n{difference}"))
}

/// The lists of one share: every test has its own PostgreSQL, and none takes long.
fn play_share(share: usize) {
    let only = std::env::var("PGHERD_CONFORMANCE_LIST").ok();
    let lists = lists("postgres").into_iter().enumerate();
    let wanted = lists.filter(|(at, (name, _))| match &only {
        Some(only) => share == 0 && only == name,
        None => at % SHARES == share,
    });
    let wanted: Vec<(String, String)> = wanted.map(|(_, list)| list).collect();
    assert!(share > 0 || !wanted.is_empty(), "there is no list {only:?}");
    if wanted.is_empty() {
        return;
    }
    process::become_account();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let differences = runtime.block_on(play_all(wanted));
    let count = differences.len();
    assert!(
        count == 0,
        "{count} lists differ\n{}",
        differences.join("\n")
    );
}

async fn play_all(lists: Vec<(String, String)>) -> Vec<String> {
    let template = Arc::new(Template::make().await);
    let places = Arc::new(tokio::sync::Semaphore::new(BESIDE));
    let beside = tokio::task::LocalSet::new();
    let mut all = tokio::task::JoinSet::new();
    for (name, text) in lists {
        let (template, places) = (template.clone(), places.clone());
        let list = async move {
            let _place = places.acquire().await.unwrap();
            compare(&template, &name, &read(&name, &text)).await
        };
        all.spawn_local_on(list, &beside);
    }
    let differences = beside.run_until(all.join_all()).await;
    differences.into_iter().flatten().collect()
}

#[test]
fn lists_end_alike_0() {
    play_share(0);
}

#[test]
fn lists_end_alike_1() {
    play_share(1);
}

#[test]
fn lists_end_alike_2() {
    play_share(2);
}

#[test]
fn lists_end_alike_3() {
    play_share(3);
}

#[test]
fn every_order_is_in_some_list() {
    let lists = lists("postgres").into_iter();
    let steps = lists.flat_map(|(name, text)| read(&name, &text));
    let verbs: std::collections::BTreeSet<&str> = steps.map(|step| step.order.verb()).collect();
    let missing: Vec<&str> = Order::VERBS
        .into_iter()
        .filter(|verb| !verbs.contains(verb))
        .collect();
    assert!(missing.is_empty(), "in no list: {missing:?}");
}
