//! What is known about the own lease while etcd elects a leader (docs/decisions/0008). Pure: answers
//! of etcd's members in, a later moment from which the lease counts out.
//!
//! A new leader of etcd gives every lease its full life when it takes over. So whoever can prove that
//! every leader who could still end the lease took over after some moment may count from there, as
//! from a renewal sent then. What is proved are raft terms, which each member tells of itself and
//! which only grow; no member is believed anything about another one.
//!
//! It does not say whether the lock is still there: who takes over minds that (`race`).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use pgherd_model::{RaftAnswer, Span, Time};

use crate::lease::Lease;

/// A longer lease is not given its full life by a new leader, which then knows how much was left of
/// it: etcd notes that down every five minutes.
const LONGEST: Span = Span::from_secs(60);
/// So many terms are remembered per member; forgetting older ones only proves less.
const TERMS: usize = 16;

/// What the members of etcd have told since the last confirmed renewal.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    members: BTreeMap<u64, Told>,
}

/// What one member has told.
#[derive(Clone, Debug)]
struct Told {
    /// Its terms, rising, and when it was last asked while it was in each.
    terms: Vec<(u64, Time)>,
    /// When its highest term was first heard of.
    heard: Time,
}

impl Told {
    fn term(&self) -> u64 {
        self.terms.last().map_or(0, |(term, _)| *term)
    }

    /// The last question that found it in this term or an earlier one.
    fn asked_until(&self, term: u64) -> Option<Time> {
        let known = self.terms.iter().rev().find(|(known, _)| *known <= term);
        known.map(|(_, asked)| *asked)
    }
}

/// Why a lease lives longer than its last confirmed renewal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// It lives as if a renewal that was sent then had been confirmed.
    pub sent: Time,
    /// A majority of the voters was asked at `sent` or later and had not passed this term.
    pub passed: u64,
    /// A majority of the voters has reached this term since.
    pub reached: u64,
}

impl Elections {
    /// Nothing is known any more: a renewal was confirmed, or the members are others.
    pub fn forget(&mut self) {
        self.members.clear();
    }

    /// Takes an answer in. A member whose term went back (a restored snapshot, or a crash before the
    /// term was on its disk) shows that terms prove nothing: everything is forgotten.
    pub fn note(&mut self, answer: RaftAnswer) {
        let backwards = self
            .members
            .get(&answer.member)
            .is_some_and(|told| answer.term < told.term() && answer.asked >= told.heard);
        if backwards {
            self.forget();
        }
        let told = self.members.entry(answer.member).or_insert_with(|| Told {
            terms: Vec::new(),
            heard: answer.answered,
        });
        if answer.term > told.term() {
            told.heard = answer.answered;
        }
        match told.terms.binary_search_by_key(&answer.term, |it| it.0) {
            Ok(at) => told.terms[at].1 = told.terms[at].1.max(answer.asked),
            Err(at) => told.terms.insert(at, (answer.term, answer.asked)),
        }
        if told.terms.len() > TERMS {
            told.terms.remove(0);
        }
    }

    /// A later moment from which `lease` counts, if these answers prove one. `voters`: the members of
    /// etcd that vote. Nothing is proved once its holder has to demote: then it does.
    ///
    /// Let a majority be beyond a term M by now, and another (or the same) have been asked at T or
    /// later and not been beyond M. A leader of a term up to M commits nothing any more, since every
    /// majority has a member that has moved on. One of a later term needs the vote of a member
    /// that was not beyond M after T, so it took over after T. Of all such M the greatest gives the
    /// latest T.
    pub fn proof(&self, voters: &[u64], lease: &Lease, now: Time) -> Option<Proof> {
        if lease.life > LONGEST || now >= lease.deadlines().demote_fast {
            return None;
        }
        let mut ids = voters.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let majority = ids.len() / 2 + 1;
        let told: Vec<&Told> = ids.iter().filter_map(|id| self.members.get(id)).collect();
        let reached = nth_greatest(told.iter().map(|told| told.term()), majority)?;
        let passed = reached.checked_sub(1)?;
        let asked = told.iter().filter_map(|told| told.asked_until(passed));
        let sent = nth_greatest(asked, majority)?;
        (sent > lease.sent && sent <= now).then_some(Proof {
            sent,
            passed,
            reached,
        })
    }
}

/// So many of the values are at least this.
fn nth_greatest<T: Ord>(values: impl Iterator<Item = T>, count: usize) -> Option<T> {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.into_iter().nth(count.checked_sub(1)?)
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    /// `m1 t2 at 1.0` per answer (100 ms on its way unless `took`), then the proof at `now`; the lease was
    /// confirmed at 0 and lives 5 s, three members vote.
    fn proved(answers: &str, now: u64) -> Option<(u64, u64, u64)> {
        proved_of(&[1, 2, 3], answers, now)
    }

    fn proved_of(voters: &[u64], answers: &str, now: u64) -> Option<(u64, u64, u64)> {
        let mut elections = Elections::default();
        for line in answers.split(',').map(str::trim) {
            let mut words = line.split_whitespace();
            let mut number = |start: &str| {
                let word = words.next().unwrap();
                word.strip_prefix(start).unwrap().parse::<u64>().unwrap()
            };
            let (member, term, asked) = (number("m"), number("t"), number("@"));
            elections.note(RaftAnswer {
                member,
                term,
                asked: Time::from_millis(asked),
                answered: Time::from_millis(asked + 50),
            });
        }
        let lease = Lease {
            sent: Time::ZERO,
            life: Span::from_secs(5),
        };
        let millis = |time: Time| u64::try_from(time.since(Time::ZERO).as_millis()).unwrap();
        let proof = elections.proof(voters, &lease, Time::from_millis(now))?;
        Some((millis(proof.sent), proof.passed, proof.reached))
    }

    #[test]
    fn a_majority_that_moved_on_proves_what_was_asked_before() {
        // The leader (m3) is dead; m1 stands for election, m2 votes for it.
        let before = "m1 t2 @600, m2 t2 @610, m1 t2 @700, m2 t2 @710, m1 t3 @800";
        assert_eq!(proved(before, 900), None, "one is no majority");
        let voted = "m1 t2 @600, m2 t2 @610, m1 t2 @700, m2 t2 @710, m1 t3 @800, m2 t3 @810";
        assert_eq!(proved(voted, 900), Some((700, 2, 3)));
    }

    #[test]
    fn split_votes_are_outlived_one_after_the_other() {
        let split = "m1 t2 @600, m2 t2 @600, m1 t3 @1000, m2 t2 @1000, m1 t3 @1100, m2 t3 @1100, \
                     m1 t3 @1900, m2 t3 @1950, m1 t4 @2000, m2 t5 @2000";
        assert_eq!(proved(split, 2100), Some((1900, 3, 4)));
        assert_eq!(proved(split, 2999), Some((1900, 3, 4)));
        assert_eq!(proved(split, 3000), None, "it is demoted");
    }

    #[test]
    fn the_majorities_may_be_different_ones() {
        // m3 hangs when the others have moved on; m1 was not asked before it moved on.
        let answers = "m3 t2 @600, m2 t2 @700, m1 t3 @800, m2 t3 @900";
        assert_eq!(proved(answers, 1000), Some((600, 2, 3)));
    }

    #[test]
    fn what_does_not_move_proves_nothing() {
        assert_eq!(proved("m1 t2 @600, m2 t2 @600, m3 t2 @600", 1000), None);
        let alone = "m1 t2 @600, m2 t2 @600, m3 t2 @600, m3 t3 @1500, m3 t9 @2500";
        assert_eq!(proved(alone, 2600), None, "one that is cut off");
        let unasked = "m1 t3 @600, m2 t3 @600, m3 t2 @500";
        assert_eq!(proved(unasked, 1000), None, "nobody knows since when");
    }

    #[test]
    fn only_voters_count_and_each_once() {
        let answers = "m1 t2 @600, m4 t2 @600, m1 t3 @800, m4 t3 @800, m1 t3 @900";
        assert_eq!(proved(answers, 1000), None);
        let own = "m1 t2 @600, m1 t3 @800";
        assert_eq!(proved_of(&[1, 1, 1], own, 1000), Some((600, 2, 3)));
        assert_eq!(proved_of(&[], own, 1000), None);
        assert_eq!(
            proved_of(
                &[1, 2, 3, 4],
                "m1 t2 @600, m2 t2 @600, m1 t3 @700, m2 t3 @700",
                900
            ),
            None
        );
    }

    #[test]
    fn a_term_that_goes_back_ends_everything() {
        let crashed = "m1 t2 @600, m2 t2 @600, m1 t3 @800, m1 t2 @900, m2 t3 @1000, m1 t3 @1100";
        assert_eq!(proved(crashed, 1200), None);
        // Overtaken on the way: it was asked before the other answer came.
        let overtaken = "m1 t2 @600, m2 t2 @600, m1 t3 @800, m1 t2 @820, m2 t3 @1000";
        assert_eq!(proved(overtaken, 1200), Some((600, 2, 3)));
    }

    #[test]
    fn nothing_is_moved_back_and_a_long_lease_not_at_all() {
        let mut elections = Elections::default();
        for (member, term, asked) in [(1, 2, 600), (2, 2, 600), (1, 3, 800), (2, 3, 800)] {
            elections.note(RaftAnswer {
                member,
                term,
                asked: Time::from_millis(asked),
                answered: Time::from_millis(asked + 1),
            });
        }
        let now = Time::from_millis(900);
        let proof = |sent, life| {
            let lease = Lease {
                sent: Time::from_millis(sent),
                life: Span::from_secs(life),
            };
            elections.proof(&[1, 2, 3], &lease, now)
        };
        assert!(proof(599, 5).is_some() && proof(0, 60).is_some());
        assert_eq!((proof(600, 5), proof(0, 61)), (None, None));
        elections.forget();
        assert_eq!(
            elections.proof(
                &[1, 2, 3],
                &Lease {
                    sent: Time::ZERO,
                    life: Span::from_secs(5)
                },
                now
            ),
            None
        );
    }
}
