//! The lives of etcd. Revisions count upwards within one life; an etcd that is built anew, or restored
//! from a copy, begins another one at a lower number, while journals remember the one before. Nothing
//! of one life is compared with another.
//!
//! A member's own journal shows a new life by another cluster id, or by a revision that falls: one that
//! is restored may keep its id, and old journals have none. A member that was away then, or came later,
//! shows nothing: its entries belong where another one's id or time puts them. What only time has put
//! somewhere says nothing about clocks.

use super::merge::Moment;
use std::collections::BTreeMap;

/// Milliseconds within which members notice that another life has begun: whoever defines its beginning
/// need not be the first of them.
const TOGETHER: i64 = 60_000;

/// As one member saw it.
#[derive(Clone)]
struct Life {
    /// Its first entry.
    since: i64,
    etcd: Option<String>,
}

/// Puts the number of its life into each moment, the oldest life first.
pub(super) fn number(members: &mut BTreeMap<String, Vec<Moment>>) {
    let own: Vec<Vec<Life>> = members.values_mut().map(|moments| seen(moments)).collect();
    // Whoever has seen most lives knows best where each of them began.
    let Some(most) = own.iter().rev().max_by_key(|lives| lives.len()).cloned() else {
        return;
    };
    let count = most.len();
    let mut all = most;
    for (moments, own) in members.values_mut().zip(&own) {
        let known: Vec<Option<usize>> = own.iter().map(|life| find(&mut all, life)).collect();
        let (mut before, mut last) = (0, 0);
        for moment in moments {
            let life = moment.life;
            let by_time = || {
                let at = all[..count]
                    .iter()
                    .rposition(|one| one.since - TOGETHER <= moment.at);
                // As many lives came before and after it as it has seen itself.
                at.unwrap_or(0).clamp(life, count - own.len() + life)
            };
            let mut number = known[life].unwrap_or_else(by_time);
            if known[life].is_none() && life > before {
                number = number.max(last + 1).min(count - 1);
            }
            (before, last) = (life, number);
            moment.life = number;
            moment.sure = known[life].is_some() || own.len() == count;
        }
    }
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|number| all[*number].since);
    for moment in members.values_mut().flatten() {
        let place = order.iter().position(|number| *number == moment.life);
        moment.life = place.unwrap_or(0);
    }
}

/// Numbers what one member has seen by itself.
fn seen(moments: &mut [Moment]) -> Vec<Life> {
    let mut lives: Vec<Life> = Vec::new();
    let (mut revision, mut term) = (None, None);
    for moment in moments {
        let state = &moment.entry.state;
        let other = lives.last().is_some_and(|life| {
            let ids = life.etcd.as_ref().zip(state.etcd.as_ref());
            ids.is_some_and(|(before, now)| before != now)
        });
        let fell = |before: Option<u64>, now: Option<u64>| {
            before.zip(now).is_some_and(|(before, now)| now < before)
        };
        if lives.is_empty() || other || fell(revision, state.revision) || fell(term, state.term) {
            (revision, term) = (None, None);
            lives.push(Life {
                since: moment.at,
                etcd: None,
            });
        }
        revision = state.revision.or(revision);
        term = state.term.or(term);
        moment.life = lives.len() - 1;
        if let Some(life) = lives.last_mut().filter(|life| life.etcd.is_none()) {
            life.etcd.clone_from(&state.etcd);
        }
    }
    lives
}

/// The life with that cluster id, if there is exactly one; one that nobody else has seen is added.
fn find(all: &mut Vec<Life>, life: &Life) -> Option<usize> {
    life.etcd.as_ref()?;
    let mut same = (0..all.len()).filter(|at| all[*at].etcd == life.etcd);
    match (same.next(), same.next()) {
        (Some(one), None) => Some(one),
        (None, _) if all.iter().all(|one| one.etcd.is_some()) => {
            all.push(life.clone());
            Some(all.len() - 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::merge;
    use super::super::tests::{days_later, journals, of, with_etcd};
    use pgherd_wire::journal::Entry;

    /// The lives in which the entries of a member are.
    fn lives(entries: Vec<Entry>, member: &str) -> Vec<usize> {
        let moments = merge(entries).moments.into_iter();
        let own = moments.filter(|moment| moment.entry.member == member);
        let mut lives: Vec<usize> = own.map(|moment| moment.life).collect();
        lives.dedup();
        lives
    }

    #[test]
    fn one_etcd_has_one_life() {
        for member in ["n1", "n2", "n3"] {
            assert_eq!(lives(journals("killed"), member), [0]);
        }
    }

    #[test]
    fn revisions_that_fall_begin_another_life() {
        let mut all = journals("crashed");
        all.extend(days_later(journals("killed"), 10));
        assert_eq!(lives(all.clone(), "n1"), [0, 1]);
        // Whoever was there only before or after it shows no fall.
        all.retain(|entry| entry.member != "n2" || of(entry, 10));
        all.retain(|entry| entry.member != "n3" || !of(entry, 10));
        assert_eq!(lives(all.clone(), "n1"), [0, 1]);
        assert_eq!(lives(all.clone(), "n2"), [1]);
        assert_eq!(lives(all.clone(), "n3"), [0]);
        // Whose clock may be wrong then.
        for moment in merge(all).moments {
            assert_eq!(moment.sure, moment.entry.member == "n1");
        }
    }

    /// A cluster id is believed more than a clock.
    #[test]
    fn lives_with_an_id_are_known_by_it() {
        let before = with_etcd(journals("crashed"), "a");
        let after = with_etcd(days_later(journals("killed"), 10), "b");
        let mut all = before.clone();
        all.extend(after.clone());
        all.retain(|entry| entry.member != "n3");
        let wrong = after.into_iter().filter(|entry| entry.member == "n3");
        all.extend(days_later(wrong.collect(), -10));
        assert_eq!(lives(all.clone(), "n1"), [0, 1]);
        assert_eq!(lives(all, "n3"), [1]);
        // Nobody has seen both.
        let mut all = before;
        all.retain(|entry| entry.member == "n1");
        let later = with_etcd(days_later(journals("killed"), 10), "b");
        all.extend(later.into_iter().filter(|entry| entry.member == "n2"));
        assert_eq!(lives(all.clone(), "n1"), [0]);
        assert_eq!(lives(all, "n2"), [1]);
    }
}
