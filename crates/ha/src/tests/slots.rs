//! Who has a slot where, how far it is, and for how long it is kept for somebody who is away
//! (contract: patroni-ha-rules, section 12; patroni-dcs, section 3).

use super::duties::check;
use super::*;
use crate::Action;

/// `slots`: by tags, `retain_slots`, permanent ones and the role of the node.
#[test]
fn who_has_a_slot_where() {
    check(
        "slots",
        &[
            ("lock a | a* primary | b replica nostream", "nothing"),
            (
                "lock a retain b,gone | a* primary | b replica nostream",
                r#"CreateSlot("gone")"#,
            ),
            (
                "lock b retain gone permanent | a* replica from b nofailover | b primary | c replica",
                "nothing",
            ),
            (
                "lock b retain gone | a* replica from b nofailover | b primary | c replica cascades a",
                r#"CreateSlot("c")"#,
            ),
            ("lock a | a* primary slot barman", r#"DropSlot("barman")"#),
            ("lock a ignores | a* primary slot barman", "nothing"),
            (
                "lock a ignores | a* primary slot other",
                r#"DropSlot("other")"#,
            ),
            (
                "lock b permanent | a* replica from b slot b | b primary",
                r#"CreateSlot("kept")"#,
            ),
            // Without a time to keep them each node has those that are used there.
            (
                "lock b no_ttl retain gone | a* replica from b | b primary | c replica",
                "nothing",
            ),
            (
                "lock b no_ttl | a* replica from b | b primary | c replica cascades a",
                r#"CreateSlot("c")"#,
            ),
            (
                "lock b no_ttl | a* replica from b slot b | b primary cascades a",
                r#"DropSlot("b")"#,
            ),
            (
                "lock a no_ttl permanent | a* primary | b replica | c replica cascades b | d replica cascades gone",
                r#"CreateSlot("b") + CreateSlot("d") + CreateSlot("kept")"#,
            ),
        ],
    );
}

/// `slots`: a member that streams from a standby leaves its slot on the leader behind.
#[test]
fn a_slot_that_nobody_uses_follows_its_member() {
    for (view, expected) in [
        (
            "lock a | a* primary slot b | b replica cascades c lsn 40 | c replica",
            r#"AdvanceSlot("b", Lsn(40)) + CreateSlot("c")"#,
        ),
        // It will stream from here.
        (
            "lock a | a* primary slot b | b replica cascades gone lsn 40",
            "nothing",
        ),
        ("lock a | a* primary slot b | b replica lsn 40", "nothing"),
        (
            "lock a | a* primary slot b | b replica cascades a lsn 40",
            "nothing",
        ),
        // Its position means nothing on another timeline, or ahead of this node.
        (
            "lock a | a* primary tl2 slot b | b replica cascades c lsn 40 | c replica",
            r#"CreateSlot("c")"#,
        ),
        (
            "lock a | a* primary slot b | b replica cascades c lsn 60 | c replica",
            r#"CreateSlot("c")"#,
        ),
        // On standbys it goes by the leader, or by the member if that streams from a standby.
        (
            "lock c slotat b:30 | a* replica from c slot b | b replica lsn 40 | c primary",
            r#"AdvanceSlot("b", Lsn(30)) + CreateSlot("c")"#,
        ),
        (
            "lock c slotat b:30 | a* replica from c slot b | b replica cascades d lsn 40 | c primary | d replica",
            r#"AdvanceSlot("b", Lsn(40)) + CreateSlot("c") + CreateSlot("d")"#,
        ),
        (
            "lock c slotat b:30 | a* replica from c slot b | b replica cascades c lsn 40 | c primary",
            r#"AdvanceSlot("b", Lsn(30)) + CreateSlot("c")"#,
        ),
    ] {
        check("slots", &[(view, expected)]);
    }
    // Remains of another use hold back vacuum or all WAL.
    let anew = r#"DropSlot("b") + CreateSlot("b")"#;
    for (view, expected) in [
        ("lock a | a* primary slot b unreserved | b replica", anew),
        ("lock a | a* primary slot b xmin | b replica", "nothing"),
        (
            "lock c no_ttl | a* replica from c slot b xmin | b replica cascades a | c primary",
            "nothing",
        ),
    ] {
        check("slots", &[(view, expected)]);
    }
    let xmin = "lock a | a* primary slot b xmin | b replica cascades c | c replica";
    check("slots", &[(xmin, &format!(r#"{anew} + CreateSlot("c")"#))]);
}

/// `slots`: hands off.
#[test]
fn no_slot_is_dropped_in_a_pause() {
    check(
        "slots",
        &[
            (
                "lock a pause | a* primary slot old | b replica",
                r#"CreateSlot("b")"#,
            ),
            (
                "lock a pause | a* primary slot b unreserved | b replica",
                "nothing",
            ),
        ],
    );
}

/// `status` as the leader writes it next.
fn published(view: &View, memory: &mut Memory) -> Option<Status> {
    let decision = decide(view, memory);
    *memory = decision.memory;
    decision
        .actions
        .into_iter()
        .find_map(|action| match action {
            Action::Store(Op::PutStatus { status, .. }) => Some(status),
            _ => None,
        })
}

fn later(view: &mut View, seconds: u64) {
    view.now = view.now + Span::from_secs(seconds);
    view.local.probed = Some(view.now);
    if let Some(lease) = &mut view.lease {
        lease.sent = view.now;
    }
}

/// Its own word comes back to the leader from the store.
fn store(view: &mut View, value: Status) {
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.status = Some(Stored { value, revision: 9 });
}

/// `status`: whoever is away keeps a slot for `member_slots_ttl`, not for ever.
#[test]
fn the_clock_of_a_slot_is_wound_up_once() {
    let text = "lock a retain gone,b,idle permanent | a* primary armed | b replica | idle replica nostream";
    let (mut view, mut memory) = parse(text);
    // Nobody counts on a sign of life.
    view.settings.lease_ttl = Span::from_secs(5);
    let ttl = view.settings.member_slots_ttl.as_secs();
    let first = published(&view, &mut memory).unwrap();
    assert_eq!(first.retain_slots, ["a", "b", "gone"]);
    assert_eq!(first.other, "", "all of it is written");
    store(&mut view, first);
    later(&mut view, ttl);
    let kept = published(&view, &mut memory).map(|it| it.retain_slots);
    assert_eq!(kept, None, "nothing new");
    later(&mut view, 11);
    let second = published(&view, &mut memory).unwrap();
    assert_eq!(second.retain_slots, ["a", "b"]);
    // Not before the write is seen either, nor by somebody's old word.
    later(&mut view, 11);
    let again = published(&view, &mut memory).unwrap();
    assert_eq!(again.retain_slots, ["a", "b"]);
    // A new term begins the count anew for all that is published.
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.leader.as_mut().unwrap().create_revision = 6;
    later(&mut view, 11);
    assert_eq!(published(&view, &mut memory), None, "as it is published");
    let (other, _) = parse("lock b | a* replica from b | b primary");
    let memory = decide(&other, &memory).memory;
    assert_eq!((memory.slots_seen.len(), memory.slots_term), (0, None));
}

/// `status`: without a time to keep them only permanent slots are published.
#[test]
fn without_a_time_only_permanent_slots_are_published() {
    let text = "lock a permanent | a* primary armed slot b | b replica";
    let (mut view, memory) = parse(text);
    let names = |view: &View| {
        let status = published(view, &mut memory.clone()).unwrap();
        (status.slots.into_keys().collect(), status.retain_slots)
    };
    let all: (Vec<String>, Vec<String>) = names(&view);
    assert_eq!(all.0, ["a", "b"]);
    assert_eq!(all.1, ["a", "b"]);
    view.settings.member_slots_ttl = Span::ZERO;
    assert_eq!(names(&view), (vec![], vec![]));
    let look = view.local.look.as_mut().unwrap();
    look.slots.push(slot("kept"));
    assert_eq!(names(&view), (vec!["kept".to_string()], vec![]));
}

/// Where only `optime` is written, fields that nobody here knows are kept.
#[test]
fn a_release_keeps_what_others_wrote_into_status() {
    let (view, memory) = parse("lock a handover optime 40 | a* down | b replica lsn 51");
    let mut memory = memory;
    memory.give_up = Some("a test".into());
    let decision = decide(&view, &memory);
    let status = decision.actions.iter().find_map(|action| match action {
        Action::Store(Op::ReleaseLeader { status, .. }) => status.clone(),
        _ => None,
    });
    let status = status.unwrap_or_else(|| panic!("{}", decision.why));
    assert_eq!(status.other, r#"{"new":1}"#);
    assert_eq!(status.optime, Lsn(50));
}
