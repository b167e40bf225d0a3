//! Stories are told again as they were, stop where they are told to, and say what changed; so do the
//! journals of real agents.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pgherd_sim::replay::{
    ACTIONS, End, INVARIANTS, Journal, Mark, Player, Shown, Source, Stop, Story,
};
use pgherd_sim::{Bug, run};

fn reached(player: &mut Player<'_>, name: &str) -> Shown {
    match player.until(&[Stop::named(name).unwrap()], 3) {
        End::Reached(steps) => steps.into_iter().next_back().unwrap(),
        End::Over(_) => panic!("{name} does not occur"),
    }
}

#[test]
fn a_story_is_told_again_line_by_line() {
    let mut story = Story::new(23, None);
    let mut said = Vec::new();
    while let Some(step) = story.next() {
        said.extend(step.said);
    }
    assert_eq!(said, run(23, true).trace);
}

#[test]
fn one_stops_at_a_rule_and_at_an_action_and_sees_what_changed() {
    let mut player = Player::new(Story::new(23, None));
    let shown = reached(&mut player, "promote");
    let who = shown.step.who.clone().unwrap();
    let told = |wanted: &str, lines: &[String]| lines.iter().any(|line| line.contains(wanted));
    assert!(shown.step.marks.contains(&Mark::Action("Promote".into())));
    assert!(told(&format!("{who} job:"), &shown.changed), "{shown:?}");
    assert!(told("Promote runs", &shown.changed), "{shown:?}");
    assert_eq!(
        player.situation()["etcd leader"].split(',').next(),
        Some(&*who)
    );

    let fenced = reached(&mut player, "fence");
    assert!(fenced.number > shown.number);
    assert!(told("fence: ", &fenced.step.said));
    assert!(
        told("memory.give_up: nothing -> renewals", &fenced.step.seen),
        "{fenced:?}"
    );
    // Every rule up to the one that answered.
    assert!(fenced.step.ladder.last().unwrap().starts_with("fence: "));
    assert!(fenced.step.ladder[0].starts_with("paused: "));
}

#[test]
fn one_stops_where_only_one_member_counts_and_not_too_early() {
    let mut player = Player::new(Story::new(23, None));
    (player.who, player.from) = (Some("b".into()), 10.0);
    let shown = reached(&mut player, "PutMember");
    assert_eq!(shown.step.who.as_deref(), Some("b"));
    assert!(shown.step.seconds >= 10.0);
}

#[test]
fn one_stops_at_a_broken_invariant() {
    let story = || Story::new(1, Some(Bug::PromoteWithoutLock));
    let mut player = Player::new(story());
    let shown = reached(&mut player, "broken");
    assert!(shown.step.marks.contains(&Mark::Broken("promotion".into())));
    assert!(player.step().is_none(), "that is the end of the story");
    assert_eq!(
        reached(&mut Player::new(story()), "promotion").number,
        shown.number
    );
    let lag = [Stop::named("lag").unwrap()];
    assert!(matches!(Player::new(story()).until(&lag, 3), End::Over(_)));
}

/// Those that the tests of `ctl timeline` were recorded from: a primary was killed.
fn journals() -> Vec<String> {
    let files = ["n1", "n2", "n3"].map(|name| {
        let ctl = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ctl/src/timeline");
        ctl.join("fixtures/killed")
            .join(name)
            .with_extension("ndjson")
    });
    files
        .map(|file| std::fs::read_to_string(file).unwrap())
        .to_vec()
}

#[test]
fn journals_of_real_agents_are_replayed_alike() {
    let texts = journals();
    let lines = texts.iter().map(|text| text.lines().count()).sum::<usize>();
    let journal = Journal::read(&texts);
    assert_eq!(journal.unreadable, 0);
    let mut player = Player::new(journal);
    let promoted = reached(&mut player, "promote");
    let who = promoted.step.who.clone().unwrap();
    let is = |shown: &Shown, wanted: &str| shown.changed.iter().any(|it| it == wanted);
    let mut steps = promoted.number;
    let mut primary = false;
    while let Some(shown) = player.step() {
        steps += 1;
        primary |= is(&shown, &format!("{who} role: replica -> primary"))
            || is(&shown, &format!("{who} role: promoted -> primary"));
    }
    assert!(primary, "{who} never became primary");
    assert_eq!(
        usize::try_from(steps).unwrap(),
        lines,
        "every line is a step"
    );
}

#[test]
fn a_torn_journal_is_replayed_without_what_is_torn() {
    let text = &journals()[0];
    let torn = text[..text.len() - 30].to_owned();
    let journal = Journal::read(&[torn]);
    assert_eq!(journal.unreadable, 1);
}

#[test]
fn every_action_that_occurs_has_a_name_to_stop_at() {
    for seed in 1..40 {
        for name in run(seed, false).actions.keys() {
            assert!(ACTIONS.contains(name), "{name} is missing in ACTIONS");
        }
    }
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, files),
            false => files.push(path),
        }
    }
}

/// What each `fail(format!("...: ` in the simulator begins with.
#[test]
fn every_invariant_has_a_name_to_stop_at() {
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let mut used = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for (_, rest) in text
            .match_indices(".fail(")
            .map(|(at, word)| text[at..].split_at(word.len()))
        {
            let Some((_, rest)) = rest.split_once('"') else {
                continue;
            };
            let words = rest.split(['"', ':']).next().unwrap_or_default();
            used.insert(words.to_owned());
        }
    }
    used.remove("...");
    let known: BTreeSet<String> = INVARIANTS.map(String::from).into();
    assert_eq!(used, known);
}
