//! One order for the journals of several members, whose clocks may disagree.
//!
//! Within one run of an agent the boot-time clock counts. Between members the revisions of etcd do,
//! within one of its lives: whoever shows a revision shows it after the member that made it had sent
//! the write. Where wall clocks say otherwise they are wrong by at least that much, and are corrected
//! by it.

use super::lives;
use pgherd_wire::journal::{Entry, Stamp};
use std::collections::{BTreeMap, BTreeSet};

/// A wall clock that jumps by less was slewed, or read between two milliseconds.
const JUMP_MS: i64 = 500;
/// Clocks that disagree by less are worth no word.
const WORTH_MS: i64 = 50;

/// An entry and when it was, by clocks that agree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moment {
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// The life of etcd that its revisions are of, counted from 0.
    pub(super) life: usize,
    /// That is certain.
    pub(super) sure: bool,
    /// What was written.
    pub(super) entry: Entry,
}

/// All entries in order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Merged {
    /// Oldest first.
    pub(super) moments: Vec<Moment>,
    /// What was found about clocks, in sentences.
    pub(super) clocks: Vec<String>,
}

/// Joins journals; an entry that comes twice counts once.
pub(super) fn merge(entries: Vec<Entry>) -> Merged {
    let mut clocks = Vec::new();
    let mut members: BTreeMap<String, Vec<Moment>> = BTreeMap::new();
    for ((member, _), run) in runs(entries) {
        members
            .entry(member)
            .or_default()
            .extend(steady(run, &mut clocks));
    }
    lives::number(&mut members);
    let corrections = corrections(&members);
    let mut moments = Vec::new();
    for (member, own) in members {
        let by = corrections.get(&member).copied().unwrap_or(0);
        if by.abs() >= WORTH_MS {
            let word = if by < 0 { "ahead of" } else { "behind" };
            clocks.push(format!(
                "the clock of {member} is {} s {word} the others, as the revisions of etcd show: its \
                 times are corrected here",
                seconds(by.abs())
            ));
        }
        moments.extend(own.into_iter().map(|moment| Moment {
            at: moment.at + by,
            ..moment
        }));
    }
    // Stable: entries of one member stay in their order.
    moments.sort_by_key(|moment| moment.at);
    Merged { moments, clocks }
}

/// `1.5`, `0.020`.
pub(super) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Runs of agents, each in its order; those of one member oldest first.
fn runs(entries: Vec<Entry>) -> Vec<((String, String), Vec<Entry>)> {
    let mut runs: BTreeMap<(String, String), Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        let run = (entry.member.clone(), entry.agent.clone());
        runs.entry(run).or_default().push(entry);
    }
    let mut runs: Vec<_> = runs.into_iter().collect();
    for (_, run) in &mut runs {
        run.sort_by_key(|entry| entry.seq);
        run.dedup_by_key(|entry| entry.seq);
    }
    runs.sort_by_key(|(_, run)| run.first().map(|entry| entry.at));
    runs
}

/// The moments of one run by its boot-time clock, set by the wall clock as it was at the end.
fn steady(run: Vec<Entry>, clocks: &mut Vec<String>) -> Vec<Moment> {
    let base = |entry: &Entry| entry.at.0 - boot_ms(entry.boot_ms);
    let last = run.last().map(base).unwrap_or_default();
    let mut before: Option<i64> = None;
    let mut moments = Vec::new();
    let new = |at, entry| Moment {
        at,
        life: 0,
        sure: true,
        entry,
    };
    for entry in run {
        if entry.boot_ms == 0 {
            moments.push(new(entry.at.0, entry));
            continue;
        }
        let present = base(&entry);
        if let Some(jump) = before.map(|before| present - before)
            && jump.abs() >= JUMP_MS
        {
            let word = if jump < 0 { "back" } else { "forward" };
            clocks.push(format!(
                "the clock of {} was set {word} by {} s before {}: its earlier times are corrected here",
                entry.member,
                seconds(jump.abs()),
                entry.at
            ));
        }
        before = Some(present);
        moments.push(new(boot_ms(entry.boot_ms) + last, entry));
    }
    moments
}

fn boot_ms(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX / 2)
}

/// What is to be added to the times of each member. The median is zero: the odd one is wrong.
fn corrections(members: &BTreeMap<String, Vec<Moment>>) -> BTreeMap<String, i64> {
    let mut by: BTreeMap<String, i64> = members.keys().map(|name| (name.clone(), 0)).collect();
    let mut bounds = Vec::new();
    for (writer, own) in members {
        for (reader, others) in members.iter().filter(|(reader, _)| *reader != writer) {
            if let Some(bound) = least_gap(own, others) {
                bounds.push((writer, reader, bound));
            }
        }
    }
    // Each round carries a correction one member further.
    for _ in 0..members.len() {
        for (writer, reader, gap) in &bounds {
            let (written, read) = (by[*writer], by[*reader]);
            let early = written - (read + gap);
            if early > 0 {
                by.insert((*reader).clone(), read + early);
            }
        }
    }
    let mut sorted: Vec<i64> = by.values().copied().collect();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    for value in by.values_mut() {
        *value -= median;
    }
    by
}

/// The shortest time, by their own clocks, from a write of one member to its sight by the other;
/// less than zero: their clocks disagree by that much at least.
fn least_gap(writer: &[Moment], reader: &[Moment]) -> Option<i64> {
    let mut writes = BTreeSet::new();
    for moment in writer.iter().filter(|moment| moment.sure) {
        if let Some(wrote) = moment.entry.state.wrote {
            let ago = boot_ms(moment.entry.boot_ms) - boot_ms(wrote.boot_ms);
            writes.insert((moment.life, wrote.revision, moment.at - ago));
        }
    }
    let seen: Vec<(usize, u64, i64)> = reader
        .iter()
        .filter(|moment| moment.sure)
        .filter_map(|moment| Some((moment.life, moment.entry.state.revision?, moment.at)))
        .collect();
    let gap = |(life, revision, sent): &(usize, u64, i64)| {
        let shows = |(of, shown, _): &&(usize, u64, i64)| of == life && shown >= revision;
        Some(seen.iter().find(shows)?.2 - sent)
    };
    writes.iter().filter_map(gap).min()
}

/// A moment as text, UTC.
pub(super) fn text(at: i64) -> String {
    Stamp(at).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{days_later, journals, of, shifted};
    use super::*;

    #[test]
    fn clocks_that_agree_are_left_alone() {
        let merged = merge(journals("killed"));
        assert_eq!(merged.clocks, Vec::<String>::new());
        assert!(
            merged
                .moments
                .iter()
                .all(|moment| moment.at.abs_diff(moment.entry.at.0) <= 1)
        );
        assert!(merged.moments.is_sorted_by_key(|moment| moment.at));
    }

    #[test]
    fn a_clock_that_is_wrong_is_found_by_revisions_and_corrected() {
        let times = |merged: &Merged| -> BTreeMap<(String, u64), i64> {
            let key = |moment: &Moment| (moment.entry.member.clone(), moment.entry.seq);
            let moments = merged.moments.iter();
            moments.map(|moment| (key(moment), moment.at)).collect()
        };
        let right = times(&merge(journals("killed")));
        for (ms, word) in [(7000, "s ahead of"), (-7000, "s behind the others")] {
            let merged = merge(shifted(journals("killed"), "n3", ms));
            let [clock] = merged.clocks.as_slice() else {
                panic!("{:?}", merged.clocks)
            };
            assert!(
                clock.starts_with("the clock of n3 is ") && clock.contains(word),
                "{clock}"
            );
            // What lies between a write and its sight cannot be known.
            let off = times(&merged)
                .into_iter()
                .map(|(key, at)| at.abs_diff(right[&key]));
            let off = off.max().unwrap();
            assert!(off < 100, "{ms}: {off} ms");
        }
    }

    #[test]
    fn a_clock_that_is_set_in_a_run_is_told_of() {
        let mut entries = journals("killed");
        let half = entries
            .iter_mut()
            .filter(|entry| entry.member == "n1" && entry.seq > 20);
        half.for_each(|entry| entry.at.0 += 3_000);
        let merged = merge(entries);
        assert!(
            merged.clocks[0].contains("n1 was set forward by 3."),
            "{:?}",
            merged.clocks
        );
    }

    /// etcd was built anew: its revisions begin low while the journals know of higher ones.
    #[test]
    fn clocks_that_agree_are_left_alone_when_etcd_begins_anew() {
        let mut all = journals("crashed");
        all.extend(days_later(journals("killed"), 10));
        // One that is new then has only seen the second life.
        let mut partly = all.clone();
        partly.retain(|entry| entry.member != "n2" || of(entry, 10));
        for entries in [all.clone(), partly] {
            let merged = merge(entries);
            assert_eq!(merged.clocks, Vec::<String>::new());
        }
        let merged = merge(shifted(all, "n3", 7000));
        let [clock] = merged.clocks.as_slice() else {
            panic!("{:?}", merged.clocks)
        };
        assert!(clock.starts_with("the clock of n3 is "), "{clock}");
    }

    #[test]
    fn what_comes_twice_counts_once() {
        let mut twice = journals("killed");
        let once = twice.len();
        twice.extend(journals("killed"));
        assert_eq!(merge(twice).moments.len(), once);
    }
}
