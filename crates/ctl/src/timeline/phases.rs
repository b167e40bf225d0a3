//! Recognises failovers and switchovers in the merged journals, and how long each part took.
//!
//! A handover is a new term of the lock, known by the revision at which it was taken. Its parts are
//! moments that some journal shows; what no journal shows is left out, and the part before it is
//! longer by that.

use super::merge::Moment;
use pgherd_wire::journal::{Seen, What};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What was noticed longer before the lock was free has nothing to do with it: no lease lives that
/// long without being renewed.
const LATE_MS: i64 = 300_000;

/// One change of the leader.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Handover {
    /// `failover`, `switchover`, `manual failover`, `handover`, `return` or `first leader`.
    pub(super) kind: &'static str,
    /// Who led before.
    pub(super) from: Option<String>,
    /// Who leads since.
    pub(super) to: String,
    /// Term of the lock: the revision at which it was taken.
    pub(super) term: u64,
    /// Timeline that the new leader writes.
    pub(super) timeline: Option<u32>,
    /// When it began, milliseconds since 1970.
    #[serde(skip)]
    pub(super) begun: i64,
    /// When the last part ended.
    #[serde(skip)]
    pub(super) ended: i64,
    /// From the beginning until the new leader could write.
    pub(super) without_primary_ms: Option<i64>,
    /// All parts together.
    pub(super) total_ms: i64,
    /// Parts, one after the other.
    pub(super) phases: Vec<Phase>,
}

/// A part of a handover. Each begins where the one before ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Phase {
    /// What ends it: `noticed`, `lock free`, `lock taken`, `guard armed`, `promotion ordered`,
    /// `writable`, `follows` or `rejoined`.
    pub(super) until: &'static str,
    /// Whose journal shows that.
    pub(super) member: String,
    /// Its end, from the beginning of the handover.
    pub(super) offset_ms: i64,
    /// How long it took.
    pub(super) took_ms: i64,
}

/// A moment that a journal shows.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    until: &'static str,
    member: String,
    pub(super) at: i64,
}

/// One term of the lock and the part of the journals that belongs to it.
struct Term<'a> {
    number: u64,
    leader: &'a str,
    /// Who led before.
    former: Option<&'a str>,
    /// When the lock was taken.
    taken: i64,
    /// From the term before to this one.
    before: &'a [Moment],
    /// From this term to the next.
    after: &'a [Moment],
}

/// All handovers, oldest first.
pub(super) fn handovers(moments: &[Moment]) -> Vec<Handover> {
    let terms = terms(moments);
    let mut found = Vec::new();
    for (at, began) in terms.iter().enumerate() {
        let earlier = at.checked_sub(1).and_then(|at| terms.get(at));
        let next = terms.get(at + 1).map_or(moments.len(), |next| next.index);
        // The first one that the journals know: nothing is known of how it came to be.
        if earlier.is_none() && !began.told {
            continue;
        }
        let begin = earlier.map_or(0, |earlier| earlier.index);
        let Some(moment) = moments.get(began.index) else {
            continue;
        };
        found.push(handover(&Term {
            number: began.number,
            leader: began.leader,
            former: earlier.map(|earlier| earlier.leader),
            taken: moment.at,
            before: moments.get(begin..began.index).unwrap_or_default(),
            after: moments.get(began.index..next).unwrap_or_default(),
        }));
    }
    found
}

/// Where a term begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Began<'a> {
    number: u64,
    leader: &'a str,
    /// Among the moments.
    pub(super) index: usize,
    /// The leader's own journal shows it; else it is the first sight of the term.
    told: bool,
}

/// Terms in their order: within one life of etcd that of their numbers.
pub(super) fn terms(moments: &[Moment]) -> Vec<Began<'_>> {
    let mut terms: BTreeMap<(usize, u64), Began<'_>> = BTreeMap::new();
    for (index, moment) in moments.iter().enumerate() {
        let state = &moment.entry.state;
        let began = |number, leader, told| Began {
            number,
            leader,
            index,
            told,
        };
        if is_action(moment, "AcquireLeader", "done") {
            if let Some(wrote) = state.wrote {
                let own = began(wrote.revision, moment.entry.member.as_str(), true);
                let known = terms.entry((moment.life, own.number)).or_insert(own);
                // Others may have seen it a moment sooner than it was written down.
                let index = known.index.min(index);
                *known = Began { index, ..own };
            }
        } else if let (Some(term), Some(leader)) = (state.term, &state.leader) {
            let seen = began(term, leader, false);
            terms.entry((moment.life, term)).or_insert(seen);
        }
    }
    let mut terms: Vec<Began<'_>> = terms.into_values().collect();
    // A restored copy of etcd shows the leader of before.
    terms.dedup_by(|later, earlier| {
        !later.told && (later.number, later.leader) == (earlier.number, earlier.leader)
    });
    terms
}

fn handover(term: &Term<'_>) -> Handover {
    let cause = term.former.and_then(|former| cause(term.before, former));
    let free = free(term, cause.map_or(i64::MIN, |moment| moment.at));
    let over = free.as_ref().map_or(term.taken, |free| free.at);
    let noticed = term
        .former
        .and_then(|former| noticed(term.before, former, over));
    let mut marks: Vec<Mark> = Vec::new();
    let begun = [
        cause.map(|moment| moment.at),
        noticed.as_ref().map(|mark| mark.at),
        free.as_ref().map(|mark| mark.at),
    ];
    let begun = begun.into_iter().flatten().min().unwrap_or(term.taken);
    // Who hands over in order is not noticed by anybody.
    let late = |mark: &Mark| mark.at > begun && free.as_ref().is_none_or(|free| mark.at <= free.at);
    marks.extend(noticed.filter(late));
    marks.extend(free);
    marks.push(Mark {
        until: "lock taken",
        member: term.leader.to_owned(),
        at: term.taken,
    });
    marks.extend(promotion(term));
    let writable = marks.iter().position(|mark| mark.until == "writable");
    marks.extend(followers(term));
    let phases = phases(begun, &marks);
    let end = |at: usize| phases.get(at).map(|phase| phase.offset_ms);
    let total_ms = phases.last().map_or(0, |phase| phase.offset_ms);
    let timeline = |moment: &Moment| {
        let is_primary = moment.entry.state.role.as_deref() == Some("primary");
        (is_primary && moment.entry.member == term.leader).then_some(moment.entry.state.timeline)?
    };
    Handover {
        kind: kind(term, cause),
        from: term.former.map(str::to_owned),
        to: term.leader.to_owned(),
        term: term.number,
        timeline: term.after.iter().find_map(timeline),
        begun,
        ended: begun + total_ms,
        without_primary_ms: writable.and_then(end),
        total_ms,
        phases,
    }
}

/// Each part ends at its mark, and none before the one before it.
fn phases(begun: i64, marks: &[Mark]) -> Vec<Phase> {
    let mut before = begun;
    marks
        .iter()
        .map(|mark| {
            let at = mark.at.max(before);
            let took_ms = at - before;
            before = at;
            Phase {
                until: mark.until,
                member: mark.member.clone(),
                offset_ms: at - begun,
                took_ms,
            }
        })
        .collect()
}

/// The first thing that the former leader's own journal shows after its last look at which all was
/// as it should be.
pub(super) fn cause<'a>(before: &'a [Moment], former: &str) -> Option<&'a Moment> {
    let own = || before.iter().filter(|moment| moment.entry.member == former);
    let well = own()
        .rfind(|moment| match &moment.entry.what {
            What::Decision { rule, view, .. } => rule == "lock_held" && view.blind_ms.is_none(),
            _ => false,
        })
        .map_or(i64::MIN, |moment| moment.at);
    own().find(|moment| {
        let tells = match &moment.entry.what {
            What::Decision { rule, view, .. } => rule != "lock_held" || view.blind_ms.is_some(),
            What::Noticed { event, .. } => {
                matches!(event.as_str(), "postmaster_gone" | "shutdown")
            }
            _ => false,
        };
        tells && moment.at > well
    })
}

/// Who saw first that the former leader's stream broke, or that it did not renew its lease. One that
/// had not streamed for long when the lock was free had another trouble.
pub(super) fn noticed(before: &[Moment], former: &str, free: i64) -> Option<Mark> {
    let mut since: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for moment in before.iter().filter(|moment| moment.entry.member != former) {
        let member = moment.entry.member.as_str();
        let Some(view) = view(moment) else { continue };
        if moment.entry.state.leader.as_deref() != Some(former) {
            continue;
        }
        let suspects = !view.streaming || view.stale;
        match since.get_mut(member) {
            // One that never streamed has noticed nothing.
            None if suspects => {}
            None => drop(since.insert(member, None)),
            Some(at) if suspects => drop(at.get_or_insert(moment.at)),
            Some(at) => *at = None,
        }
    }
    let first = since
        .into_iter()
        .filter_map(|(member, at)| Some((at?, member)))
        .filter(|(at, _)| (free - LATE_MS..=free).contains(at));
    first.min().map(|(at, member)| Mark {
        until: "noticed",
        member: member.to_owned(),
        at,
    })
}

/// When the lock was first seen free, or was released, after the cause.
fn free(term: &Term<'_>, after: i64) -> Option<Mark> {
    let former = term.former?;
    // Only whoever has seen it held can see that it is not any more.
    let mut held: BTreeSet<&str> = BTreeSet::new();
    let mut first: Option<&Moment> = None;
    for moment in term.before {
        let (member, state) = (moment.entry.member.as_str(), &moment.entry.state);
        let released = member == former && is_action(moment, "ReleaseLeader", "done");
        let gone = state.leader.is_none() && state.revision.is_some() && held.contains(member);
        if released || (gone && moment.at >= after) {
            first.get_or_insert(moment);
        } else if state.leader.as_deref() == Some(former) {
            held.insert(member);
            // Seen again by the same member: it was another gap.
            if member != former && first.is_some_and(|first| first.entry.member == member) {
                first = None;
            }
        }
    }
    first.map(|moment| Mark {
        until: "lock free",
        member: moment.entry.member.clone(),
        at: moment.at,
    })
}

/// What the new leader did until it could write.
fn promotion(term: &Term<'_>) -> Vec<Mark> {
    let own = || {
        term.after
            .iter()
            .filter(|moment| moment.entry.member == term.leader)
    };
    let mark = |until, moment: &Moment| Mark {
        until,
        member: term.leader.to_owned(),
        at: moment.at,
    };
    let ordered = own().find(
        |moment| matches!(&moment.entry.what, What::JobBegun { name, .. } if name == "Promote"),
    );
    let limit = ordered.map_or(i64::MAX, |moment| moment.at);
    let armed = own()
        .filter(|moment| moment.at <= limit)
        .find(|moment| is_action(moment, "ArmGuard", "done"));
    let writable = own().find(|moment| match &moment.entry.what {
        What::JobEnded { name, outcome, .. } => name == "Promote" && outcome == "done",
        _ => moment.entry.state.role.as_deref() == Some("primary"),
    });
    // A primary that only lost its lock has nothing to be promoted.
    let armed = armed.filter(|armed| writable.is_none_or(|writable| armed.at <= writable.at));
    [
        armed.map(|moment| mark("guard armed", moment)),
        ordered.map(|moment| mark("promotion ordered", moment)),
        writable.map(|moment| mark("writable", moment)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// When each of the others streamed from the new leader; in order of time.
fn followers(term: &Term<'_>) -> Vec<Mark> {
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    for moment in term.after {
        let member = moment.entry.member.as_str();
        let follows = view(moment).is_some_and(|view| view.streaming)
            && moment.entry.state.term == Some(term.number)
            && member != term.leader;
        if follows && !marks.contains_key(member) {
            let until = match term.former == Some(member) {
                true => "rejoined",
                false => "follows",
            };
            let at = moment.at;
            let member_name = member.to_owned();
            marks.insert(
                member,
                Mark {
                    until,
                    member: member_name,
                    at,
                },
            );
        }
    }
    let mut marks: Vec<Mark> = marks.into_values().collect();
    marks.sort_by_key(|mark| mark.at);
    marks
}

fn kind(term: &Term<'_>, cause: Option<&Moment>) -> &'static str {
    let Some(former) = term.former else {
        return "first leader";
    };
    if former == term.leader {
        return "return";
    }
    match cause.map(|moment| &moment.entry.what) {
        Some(What::Decision { rule, view, .. }) => match rule.as_str() {
            "switchover" if view.request.as_deref().is_some_and(is_manual) => "manual failover",
            "switchover" => "switchover",
            "unguarded" | "shutdown" => "handover",
            _ => "failover",
        },
        Some(What::Noticed { event, .. }) if event == "shutdown" => "handover",
        _ => "failover",
    }
}

fn is_manual(request: &str) -> bool {
    request.starts_with("failover")
}

/// It has done, or not done, what it was ordered.
pub(super) fn is_action(moment: &Moment, wanted: &str, how: &str) -> bool {
    matches!(&moment.entry.what, What::Action { name, outcome, .. } if name == wanted && outcome == how)
}

/// The facts of a decision.
pub(super) fn view(moment: &Moment) -> Option<&Seen> {
    match &moment.entry.what {
        What::Decision { view, .. } => Some(view),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::merge;
    use super::super::tests::{journals, shifted};
    use super::*;

    /// `UNTIL MEMBER` of each part.
    fn shape(handover: &Handover) -> String {
        let phases = handover.phases.iter();
        let parts: Vec<String> = phases
            .map(|phase| format!("{} {}", phase.until, phase.member))
            .collect();
        parts.join(", ")
    }

    fn adds_up(handover: &Handover) {
        let sum: i64 = handover.phases.iter().map(|phase| phase.took_ms).sum();
        assert_eq!(sum, handover.total_ms);
        assert!(handover.phases.iter().all(|phase| phase.took_ms >= 0));
        assert!(handover.without_primary_ms.unwrap() <= handover.total_ms);
    }

    #[test]
    fn a_node_that_died() {
        let handovers = handovers(&merge(journals("killed")).moments);
        let [first, failover] = handovers.as_slice() else {
            panic!("{handovers:#?}")
        };
        assert_eq!((first.kind, first.to.as_str()), ("first leader", "n2"));
        assert_eq!(failover.kind, "failover");
        assert_eq!(failover.from.as_deref(), Some("n2"));
        assert_eq!((failover.to.as_str(), failover.timeline), ("n3", Some(2)));
        assert_eq!(
            shape(failover),
            "lock free n1, lock taken n3, guard armed n3, promotion ordered n3, writable n3, \
             follows n1, rejoined n2"
        );
        adds_up(failover);
        // By the fixture: 32.938 the stream broke, 37.640 the lock was free, 37.895 writable.
        assert_eq!(failover.phases[0].took_ms, 4702);
        assert_eq!(failover.without_primary_ms, Some(4957));
    }

    #[test]
    fn a_switchover_and_a_crash() {
        let handovers = handovers(&merge(journals("crashed")).moments);
        let [_, switchover, crash] = handovers.as_slice() else {
            panic!("{handovers:#?}")
        };
        assert_eq!(switchover.kind, "switchover");
        assert_eq!(
            shape(switchover),
            "lock free n2, lock taken n1, guard armed n1, promotion ordered n1, writable n1, \
             follows n3, rejoined n2"
        );
        assert_eq!(crash.kind, "failover");
        assert_eq!(
            (crash.from.as_deref(), crash.timeline),
            (Some("n1"), Some(3))
        );
        assert!(shape(crash).starts_with("noticed n"), "{}", shape(crash));
        for handover in [switchover, crash] {
            adds_up(handover);
        }
    }

    #[test]
    fn a_new_leader_whose_journal_is_lost() {
        let mut entries = journals("killed");
        entries.retain(|entry| entry.member != "n3");
        let handovers = handovers(&merge(entries).moments);
        let failover = handovers.last().unwrap();
        assert_eq!((failover.kind, failover.to.as_str()), ("failover", "n3"));
        assert_eq!(
            shape(failover),
            "lock free n1, lock taken n3, follows n1, rejoined n2"
        );
    }

    #[test]
    fn a_clock_that_is_wrong_changes_little() {
        let right = handovers(&merge(journals("killed")).moments).pop().unwrap();
        for ms in [60_000, -60_000] {
            let merged = merge(shifted(journals("killed"), "n3", ms));
            let found = handovers(&merged.moments).pop().unwrap();
            assert_eq!(shape(&found), shape(&right));
            adds_up(&found);
            let off = found.total_ms.abs_diff(right.total_ms);
            assert!(off < 500, "{ms}: {off}");
        }
    }
}
