//! Between two decisions. A body that finds every fact as it was need not ask for another decision before
//! [`Decision::wake_at`](crate::Decision::wake_at): time alone asks for none sooner. What each decision
//! keeps in mind of things that move by themselves is kept up to date here instead, or the next one would
//! take the time between the two for a gap.

use crate::decision::{Decision, Severity};
use crate::memory::Memory;
use crate::race;
use crate::view::{LeaseFact, View};
use pgherd_model::{Settings, Span, Time};

/// How often PostgreSQL is looked at, since it tells nobody when something in it changes: while somebody asks, health
/// checks answer from a look, or a glance, of at most this age.
pub const LOOK_PAUSE: Span = Span::from_secs(1);

/// As [`LOOK_PAUSE`] where all is calm and nobody asks this node anything. Whoever holds the lock is seen to be well
/// long before its lease or its licence ends; what tells nobody by itself is found a second later.
pub fn quiet_pause(settings: &Settings) -> Span {
    let lease = settings.lease_ttl * 2 / 5;
    let shortest = lease.min(settings.hang_timeout / 3).min(settings.loop_wait);
    shortest.clamp(LOOK_PAUSE, LOOK_PAUSE * 2)
}

/// What moves by itself while nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Now, on the boot-time clock.
    pub now: Time,
    /// As `View::lease`.
    pub lease: Option<LeaseFact>,
    /// As `View::heard`.
    pub heard: Time,
}

/// Whether the look that this was decided on is good for another decision, where a glance shows the same. Two
/// things in it may become others all the same: the timeline of the last checkpoint, where that is not the
/// present one yet, and whether the checkpointer has heard of a change of whom PostgreSQL waits for.
pub fn may_be_kept(view: &View, decision: &Decision) -> bool {
    let local = &view.local;
    let checkpointed = match (&local.look, &local.control) {
        (Some(look), Some(control)) => control.timeline >= look.timeline,
        _ => false,
    };
    let memory = &decision.memory;
    let heard = memory.sync_told.is_none() || memory.sync_from.is_some();
    let routine = decision.why.severity == Severity::Routine;
    routine && checkpointed && heard && view.running_job().is_none()
}

/// Whether this decision leaves nothing to do but to wait.
pub fn is_calm(view: &View, decision: &Decision) -> bool {
    rests(decision, view.fresh().is_some())
}

/// `current`: the lock service can be read.
fn rests(decision: &Decision, current: bool) -> bool {
    let routine = decision.why.severity == Severity::Routine && decision.actions.is_empty();
    // A lock without a lease is told of after a while, which nobody wakes for.
    routine && current && decision.memory.leaseless_since.is_none()
}

/// Whether the last decision goes on to hold for a node that sees nothing new but this. If not, nothing is
/// kept in mind, and a decision is due at once: it judges what came too late.
pub fn goes_on(memory: &mut Memory, pulse: Pulse, settings: &Settings) -> bool {
    let seen = memory
        .heard
        .is_some_and(|before| pulse.heard.since(before) < race::longest_gap(memory, settings));
    if !seen {
        return false;
    }
    match (memory.term, memory.held, pulse.lease) {
        (None, _, _) => {}
        (Some(_), Some(held), Some(lease)) if renewed_in_time(held, lease, pulse.now) => {
            memory.held = Some(lease);
        }
        (Some(_), _, _) => return false,
    }
    memory.heard = Some(pulse.heard);
    true
}

/// The lock lives on under the same lease, and at no moment since had its holder to give it up.
fn renewed_in_time(held: LeaseFact, lease: LeaseFact, now: Time) -> bool {
    let same = (held.lease, held.length) == (lease.lease, lease.length);
    let in_time = |fact: LeaseFact, at: Time| at < fact.deadlines().demote_fast;
    same && in_time(held, lease.sent) && in_time(lease, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Action, Why};
    use alloc::string::String;
    use alloc::vec::Vec;
    use alloc::{format, vec};

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn lease(id: i64, sent: u64) -> LeaseFact {
        LeaseFact {
            lease: id,
            sent: at(sent),
            length: Span::from_secs(20),
        }
    }

    /// The last decision was at 100 s, on a lease (number 7, 20 s) that was renewed at 98 s and a picture
    /// of which was heard at 99 s.
    fn leads() -> Memory {
        Memory {
            term: Some(5),
            held: Some(lease(7, 98)),
            heard: Some(at(99)),
            ..Memory::default()
        }
    }

    fn pulse(now: u64, lease: Option<LeaseFact>, heard: u64) -> Pulse {
        Pulse {
            now: at(now),
            lease,
            heard: at(heard),
        }
    }

    #[test]
    fn a_quiet_node_is_looked_at_less() {
        for (lease, hang, loop_wait, expected) in [
            (20, 30, 10, 2000),
            (5, 30, 10, 2000),
            (4, 30, 10, 1600),
            (2, 30, 10, 1000),
            (5, 5, 10, 1666),
            (5, 2, 10, 1000),
            (20, 30, 1, 1000),
        ] {
            let settings = Settings {
                lease_ttl: Span::from_secs(lease),
                hang_timeout: Span::from_secs(hang),
                loop_wait: Span::from_secs(loop_wait),
                ..Settings::default()
            };
            let pause = quiet_pause(&settings).as_millis();
            assert_eq!(pause, expected, "L {lease}, {hang}, {loop_wait}");
        }
    }

    /// A decision in words.
    fn decision(words: &str) -> Decision {
        let has = |word: &str| words.split_whitespace().any(|it| it == word);
        let severity = match words.split_whitespace().next() {
            Some("routine") => Severity::Routine,
            Some("info") => Severity::Info,
            Some("warning") => Severity::Warning,
            _ => Severity::Error,
        };
        Decision {
            actions: has("order")
                .then_some(Action::Checkpoint)
                .into_iter()
                .collect(),
            memory: Memory {
                leaseless_since: has("leaseless").then_some(Time::ZERO),
                ..Memory::default()
            },
            why: Why {
                rule: "rule",
                severity,
                reason: "".into(),
            },
            keep_lease: false,
            failsafe: None,
            rest: None,
            wake_at: None,
            due: Time::ZERO,
            ladder: Vec::new(),
        }
    }

    #[test]
    fn a_glance_is_enough_where_all_is_routine_and_nothing_was_ordered() {
        for (words, current, calm) in [
            ("routine", true, true),
            ("routine", false, false),
            ("routine order", true, false),
            ("routine leaseless", true, false),
            ("info", true, false),
            ("warning", true, false),
            ("error", true, false),
        ] {
            let found = rests(&decision(words), current);
            assert_eq!(found, calm, "{words} {current}");
        }
    }

    #[test]
    fn a_leader_goes_on_while_its_lease_is_renewed_in_time() {
        let mut told: Vec<String> = vec![];
        for (now, id, sent, heard) in [
            (101, 7, 98, 99),
            (109, 7, 98, 108),
            // 0.6 of its life.
            (110, 7, 98, 108),
            (112, 7, 109, 110),
            // This renewal came when the one before was overdue: a decision gives the lock up.
            (112, 7, 110, 110),
            // Another lease than that of the lock.
            (101, 8, 100, 99),
            // Longer than nine tenths of a lease nobody has seen who leads.
            (118, 7, 109, 117),
        ] {
            let mut memory = leads();
            let goes = goes_on(
                &mut memory,
                pulse(now, Some(lease(id, sent)), heard),
                &Settings::default(),
            );
            let kept = (memory.held, memory.heard);
            match goes {
                true => assert_eq!(kept, (Some(lease(id, sent)), Some(at(heard)))),
                false => assert_eq!(memory, leads()),
            }
            told.push(format!("{now} {goes}"));
        }
        let expected = "101 true, 109 true, 110 false, 112 true, 112 false, 101 false, 118 false";
        assert_eq!(told.join(", "), expected);
        let mut lost = leads();
        assert!(!goes_on(
            &mut lost,
            pulse(101, None, 99),
            &Settings::default()
        ));
    }

    /// Pulse by pulse it goes on for hours: no two of them make a gap.
    #[test]
    fn what_is_kept_up_to_date_makes_no_gap() {
        let mut memory = leads();
        for second in 101..8000 {
            let renewed = Some(lease(7, second - second % 4));
            let pulse = pulse(second, renewed, second - 1);
            assert!(
                goes_on(&mut memory, pulse, &Settings::default()),
                "{second}"
            );
        }
    }

    #[test]
    fn others_have_no_lease_to_lose() {
        let mut memory = Memory {
            heard: Some(at(99)),
            ..Memory::default()
        };
        let settings = Settings::default();
        assert!(goes_on(&mut memory, pulse(110, None, 108), &settings));
        assert!(!goes_on(&mut memory, pulse(130, None, 126), &settings));
        assert_eq!(memory.heard, Some(at(108)));
        // Nothing was ever read.
        assert!(!goes_on(
            &mut Memory::default(),
            pulse(110, None, 108),
            &settings
        ));
    }
}
