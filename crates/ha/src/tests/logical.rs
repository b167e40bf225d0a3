//! Permanent logical slots: who makes, copies, advances and drops them, and whose feedback they need.

use super::duties::check;
use super::*;
use crate::{Action, feedback, slot_on_leader};

/// What `logical` configures.
pub(super) fn feed() -> LogicalSlot {
    LogicalSlot {
        name: "feed".into(),
        database: "app".into(),
        plugin: "test_decoding".into(),
    }
}

/// `feed 30`: it is there, and confirmed up to 30.
pub(super) fn slot(me: &Said) -> Option<Slot> {
    let plugin = if me.has("otherplugin") {
        "pgoutput"
    } else {
        "test_decoding"
    };
    let kind = SlotKind::Logical {
        database: "app".into(),
        plugin: plugin.into(),
    };
    let at = me.value("feed")?;
    Some(Slot {
        kind,
        confirmed_flush: Some(Lsn(number(Some(at)))),
        lost: me.has("lost"),
        active: me.has("consumed"),
        failover: me.has("synced"),
        holds_xmin: true,
        ..super::slot("feed")
    })
}

const CREATE: &str =
    r#"CreateLogicalSlot(LogicalSlot { name: "feed", database: "app", plugin: "test_decoding" })"#;
const DROP: &str = r#"DropSlot("feed")"#;

fn advance(to: u64) -> String {
    let slot = CREATE
        .strip_prefix("CreateLogicalSlot(")
        .and_then(|it| it.strip_suffix(')'));
    format!("AdvanceLogicalSlot({}, Lsn({to}))", slot.unwrap())
}

/// `slots`: made by the leader, and only there; what is not wanted goes.
#[test]
fn who_makes_and_drops_a_logical_slot() {
    check(
        "slots",
        &[
            ("lock a logical | a* primary", CREATE),
            ("lock a logical pause | a* primary", CREATE),
            ("lock a logical no_slots | a* primary", "nothing"),
            ("lock a logical | a* primary feed 30", "nothing"),
            // Somebody else's position is not lost; whoever is to make it says what is wrong.
            ("lock a logical | a* primary feed 30 otherplugin", CREATE),
            ("lock a logical | a* primary feed 30 synced", "nothing"),
            ("lock a | a* primary feed 30", DROP),
            ("lock a | a* primary feed 30 consumed", "nothing"),
            ("lock a | a* primary feed 30 synced", "nothing"),
            ("lock a pause | a* primary feed 30", "nothing"),
            ("lock a logical | a* primary feed 30 nofailover", "nothing"),
            // A standby has it by a copy.
            (
                "lock b logical slotat feed:40 | a* replica from b slot b | b primary",
                "nothing",
            ),
            (
                "lock b slotat feed:40 | a* replica from b slot b feed 30 | b primary",
                DROP,
            ),
            (
                "lock feed logical | a* replica | feed primary",
                r#"CreateSlot("feed")"#,
            ),
        ],
    );
}

/// `slots`: a standby's copy follows the leader's, as far as this node has replayed.
#[test]
fn a_logical_slot_of_a_standby_is_advanced() {
    let of = |view: &str, to: &str| check("slots", &[(view, to)]);
    of(
        "lock b logical slotat feed:40 | a* replica from b feed 30 | b primary",
        &format!(r#"CreateSlot("b") + {}"#, advance(40)),
    );
    of(
        "lock b logical slotat feed:80 | a* replica from b feed 30 | b primary",
        &format!(r#"CreateSlot("b") + {}"#, advance(50)),
    );
    for other in [
        "slotat feed:30 | a* replica from b feed 30",
        "| a* replica from b feed 30",
        "slotat feed:40 | a* replica from b feed 30 consumed",
        "slotat feed:40 | a* replica from b feed 30 lost",
        "slotat feed:40 | a* replica from b feed 30 synced",
    ] {
        of(
            &format!("lock b logical {other} | b primary"),
            r#"CreateSlot("b")"#,
        );
    }
    // Of no use with another plugin.
    of(
        "lock b logical slotat feed:40 | a* replica from b feed 30 otherplugin | b primary",
        &format!(r#"CreateSlot("b") + {DROP}"#),
    );
    for tag in ["nofailover", "nostream"] {
        of(
            &format!("lock b logical slotat feed:40 | a* replica from b feed 30 {tag} | b primary"),
            &if tag == "nofailover" {
                DROP.to_string()
            } else {
                format!(r#"CreateSlot("b") + {DROP}"#)
            },
        );
    }
}

fn follows(text: &str) -> crate::Decision {
    let (view, memory) = parse(text);
    decide(&view, &memory)
}

fn copies(decision: &crate::Decision) -> bool {
    let is_copy = |action: &Action| match action {
        Action::StartJob(JobKind::CopySlots { from, slots }) => {
            assert_eq!((from.name.as_str(), slots.as_slice()), ("b", &[feed()][..]));
            true
        }
        _ => false,
    };
    decision.actions.iter().any(is_copy)
}

/// A copy that ended.
fn tried(outcome: Outcome) -> Job {
    Job {
        kind: JobKind::CopySlots {
            from: Origin {
                name: "b".into(),
                address: ("b".into(), 5432),
            },
            slots: vec![feed()],
        },
        since: Time::from_millis(1),
        outcome: Some(outcome),
        ended: Some(Time::from_millis(2)),
    }
}

/// `follow` asks for `CopySlots`.
#[test]
fn a_standby_copies_what_it_lacks() {
    for (view, expected) in [
        ("slotat feed:40 | a* replica from b | b primary", true),
        (
            "slotat feed:40 | a* replica from b feed 30 lost | b primary",
            true,
        ),
        // The leader has said nothing of it.
        ("| a* replica from b | b primary", false),
        (
            "slotat feed:40 | a* replica from b feed 30 | b primary",
            false,
        ),
        (
            "slotat feed:40 | a* replica from b feed 30 synced lost | b primary",
            false,
        ),
        (
            "slotat feed:40 | a* replica from b feed 30 lost consumed | b primary",
            false,
        ),
        // Not where it has no place, and not while PostgreSQL is left alone.
        (
            "slotat feed:40 | a* replica from b nofailover | b primary",
            false,
        ),
        (
            "slotat feed:40 no_slots | a* replica from b | b primary",
            false,
        ),
        (
            "slotat feed:40 pause | a* replica from b | b primary",
            false,
        ),
        (
            "slotat feed:40 unreachable | a* replica from b | b primary",
            false,
        ),
        (
            "slotat feed:40 | a* replica from b broken | b primary",
            false,
        ),
        // A leader makes it; and two do not restart at once.
        (
            "slotat feed:40 | a* replica from b | b primary | c starting",
            false,
        ),
        (
            "slotat feed:40 | a* replica from b | b primary | c starting nofailover",
            true,
        ),
    ] {
        let decision = follows(&format!("lock b logical {view}"));
        assert_eq!(copies(&decision), expected, "{view}: {}", decision.why);
    }
}

/// One after the other, in the order of names; and what was lost again is not copied all the time.
#[test]
fn copies_wait_for_their_turn_and_for_a_pause() {
    let text = "lock b logical slotat feed:40 | c* replica from b | b primary | a replica from b";
    let (mut view, memory) = parse(text);
    let first = decide(&view, &memory);
    assert!(!copies(&first));
    view.now = view.now + Span::from_secs(5);
    let second = decide(&view, &first.memory);
    assert!(copies(&second), "{}", second.why);
    for (outcome, pauses) in [(Outcome::Failed("x".into()), 1), (Outcome::Done, 2)] {
        let (mut view, mut memory) = parse(&text.replace("c*", "A*"));
        memory.slot_copy.tries.failures = pauses - 1;
        let ended = view.now;
        view.local.job = Some(Job {
            ended: Some(ended),
            ..tried(outcome)
        });
        let pause = Span::from_secs(60 * u64::from(pauses));
        for (after, expected) in [(pause - Span::from_secs(1), false), (pause, true)] {
            view.now = ended + after;
            let decision = decide(&view, &memory);
            assert_eq!(copies(&decision), expected, "{after:?}: {}", decision.why);
            memory = decision.memory;
        }
    }
}

/// A pause that comes when PostgreSQL has been stopped for it does not leave it down.
#[test]
fn a_copy_is_brought_to_its_end_in_a_pause() {
    let text = "lock b logical slotat feed:40 pause | a* crashed standby | b primary";
    let starts = |copied: bool| {
        let (mut view, memory) = parse(text);
        view.local.job = copied.then(|| Job {
            ended: Some(view.now),
            ..tried(Outcome::Done)
        });
        let decision = decide(&view, &memory);
        let names: Vec<&str> = decision.actions.iter().map(Action::name).collect();
        (names.join(" "), decision.why.to_string())
    };
    let (started, why) = starts(true);
    assert!(started.contains("StartStandby"), "{started}: {why}");
    let (left, why) = starts(false);
    assert!(!left.contains("Start"), "{left}: {why}");
}

/// A standby that commits wait for asks to be let go first.
#[test]
fn a_synchronous_standby_steps_out_before_a_copy() {
    let text = "lock b logical slotat feed:40 sync_mode sync b:a | a* replica from b | b primary";
    let (mut view, memory) = parse(text);
    // It failed before, which counts once.
    view.local.job = Some(Job {
        ended: Some(view.now),
        ..tried(Outcome::Failed("x".into()))
    });
    view.now = view.now + Span::from_secs(60);
    let memory = decide(&view, &memory).memory;
    let first = decide(&view, &memory);
    assert!(!copies(&first), "{}", first.why);
    assert!(crate::describe(&view, &first.memory).leaves_sync);
    view.now = view.now + view.settings.loop_wait * 2;
    assert!(copies(&decide(&view, &first.memory)));
    let (mut free, _) = parse(&text.replace("b:a", "b:"));
    free.now = view.now;
    let second = decide(&free, &first.memory);
    assert!(copies(&second), "{}", second.why);
}

/// By whose slot on the leader, and who has to pass it on.
#[test]
fn hot_standby_feedback_reaches_the_leader() {
    for (view, on, slot) in [
        ("lock b | a* replica from b | b primary", false, Some("a")),
        (
            "lock b logical | a* replica from b | b primary",
            true,
            Some("a"),
        ),
        (
            "lock b logical no_slots | a* replica from b | b primary",
            false,
            Some("a"),
        ),
        ("lock a logical | a* primary | b replica", true, Some("a")),
        (
            "lock b logical | a* replica from b nofailover | b primary",
            false,
            Some("a"),
        ),
        (
            "lock b logical | a* replica from b nostream | b primary",
            false,
            None,
        ),
        (
            "lock b logical | a* replica cascades c | b primary | c replica",
            true,
            Some("c"),
        ),
        (
            "lock b logical | a* replica cascades c | b primary | c replica nostream",
            false,
            None,
        ),
        (
            "lock b logical | a* replica cascades c | b primary | c replica cascades a",
            false,
            None,
        ),
        (
            "lock b logical | a* replica nofailover | b primary | c replica cascades a",
            true,
            Some("a"),
        ),
        (
            "lock b logical | a* replica nofailover | b primary | c replica cascades a nofailover",
            false,
            Some("a"),
        ),
        (
            "lock b logical | a* replica nofailover | b primary cascades a",
            false,
            Some("a"),
        ),
    ] {
        let (view_of, _) = parse(view);
        assert_eq!(feedback(&view_of), Some(on), "{view}");
        assert_eq!(slot_on_leader(&view_of).as_deref(), slot, "{view}");
    }
}
