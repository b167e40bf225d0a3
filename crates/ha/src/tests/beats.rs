//! Signs of life, and what is not asked or written thanks to them.

use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{LeaseSight, Lsn, Op, Settings, Span, Time};

use super::parse;
use crate::beat::MemberCare;
use crate::{Action, Dcs, Decision, Memory, View, decide};

/// Names of what is stored.
fn stored(decision: &Decision) -> Vec<&'static str> {
    let stores = |action: &&Action| matches!(action, Action::Store(_));
    decision
        .actions
        .iter()
        .filter(stores)
        .map(Action::name)
        .collect()
}

fn cluster(view: &mut View) -> &mut pgherd_model::Cluster {
    match &mut view.dcs {
        Dcs::Fresh(cluster) => cluster,
        Dcs::Unreachable { .. } => panic!("unreachable"),
    }
}

/// What was ordered is done: this node's key says what it is.
fn publish(view: &mut View, memory: &Memory) {
    let member = crate::describe(view, memory);
    let own = cluster(view).members.get_mut(&member.name).unwrap();
    own.value = member;
}

/// A standby that follows b, whose lease was looked at just now; L 20, loop_wait 10.
fn following() -> (View, Memory) {
    let (mut view, memory) = parse("lock b optime 40 | a* replica from b lsn 50 | b primary");
    let memory = decide(&view, &memory).memory;
    view.sight = Some(LeaseSight {
        lease: 7,
        granted: Span::from_secs(20),
        remaining: Span::from_secs(18),
        asked: view.now,
        answered: view.now,
    });
    publish(&mut view, &memory);
    (view, memory)
}

/// Says when a lease is looked at, while `status` moves at these seconds.
fn looks(beats: &[u64], until: u64) -> String {
    let (mut view, mut memory) = following();
    let begin = view.now;
    let mut looks = String::new();
    for second in 1..=until {
        view.now = begin + Span::from_secs(second);
        view.heard = view.now;
        if beats.contains(&second) {
            cluster(&mut view).status.as_mut().unwrap().revision += 1;
        }
        let decision = decide(&view, &memory);
        if stored(&decision).contains(&"LookAtLease") {
            looks += &alloc::format!("{second} ");
            if let Some(sight) = &mut view.sight {
                (sight.asked, sight.answered) = (view.now, view.now);
            }
        }
        memory = decision.memory;
    }
    looks.trim_end().into()
}

#[test]
fn nobody_looks_at_the_lease_of_a_leader_that_gives_signs_of_life() {
    assert_eq!(looks(&[], 22), "7 14 21", "a leader that writes nothing");
    assert_eq!(looks(&[1, 11, 21, 31], 35), "");
    assert_eq!(looks(&[1, 11], 34), "22 29", "it falls silent");
}

#[test]
fn who_may_rest_and_who_may_not() {
    let rest = |text: &str| {
        let (view, memory) = parse(text);
        decide(&view, &memory).rest.map(|rest| rest.as_secs())
    };
    for (text, expected) in [
        ("lock b | a* replica from b | b primary", Some(11)),
        ("lock a | a* primary armed | b replica", Some(11)),
        ("lock b | a* replica from b broken | b primary", None),
        ("lock - former b | a* replica | b down mute", None),
        ("unreachable lock b | a* replica from b | b primary", None),
        ("lock a failover a>b | a* primary armed | b replica", None),
    ] {
        assert_eq!(rest(text), expected, "{text}");
    }
    let (mut view, memory) = parse("lock b | a* replica from b | b primary");
    view.settings.lease_ttl = Span::from_secs(5);
    assert_eq!(decide(&view, &memory).rest, None);
}

/// When a leader writes `status`, which says the same all the time.
fn writes(lease: u64) -> String {
    let (mut view, mut memory) =
        parse("lock a optime 1000 | a* primary lsn 1000 armed | b replica");
    view.settings.lease_ttl = Span::from_secs(lease);
    let begin = view.now;
    let mut writes = String::new();
    for second in 0..=32 {
        view.now = begin + Span::from_secs(second);
        if let Some(lease) = &mut view.lease {
            lease.sent = view.now;
        }
        let decision = decide(&view, &memory);
        for action in &decision.actions {
            if let Action::Store(Op::PutStatus { status, .. }) = action {
                writes += &alloc::format!("{second} ");
                let stored = cluster(&mut view).status.as_mut().unwrap();
                stored.value = status.clone();
                stored.revision += 1;
            }
        }
        memory = decision.memory;
    }
    writes.trim_end().into()
}

#[test]
fn a_leader_gives_signs_of_life_where_others_count_on_them() {
    assert_eq!(writes(20), "0 10 20 30");
    assert_eq!(writes(5), "0", "slots and all that, once");
}

/// When a leader writes `status`, and what, while its position moves by so much at each fifth second.
fn tells(lease: u64, step: u64, until: u64) -> String {
    let (mut view, mut memory) = parse("lock a optime 50 | a* primary lsn 9000 armed | b replica");
    view.settings.lease_ttl = Span::from_secs(lease);
    let begin = view.now;
    let mut told = String::new();
    for second in 0..=until {
        view.now = begin + Span::from_secs(second);
        view.local.probed = Some(view.now);
        if let Some(lease) = &mut view.lease {
            lease.sent = view.now;
        }
        if second % 5 == 0 {
            view.local.look.as_mut().unwrap().wal.flushed.0 += step;
        }
        let decision = decide(&view, &memory);
        for action in &decision.actions {
            if let Action::Store(Op::PutStatus { status, .. }) = action {
                told += &alloc::format!("{second}: {}, ", status.optime.0);
                let stored = cluster(&mut view).status.as_mut().unwrap();
                stored.value = status.clone();
                stored.revision += 10;
            }
        }
        memory = decision.memory;
    }
    told.trim_end_matches(", ").into()
}

/// `status`: signs of life repeat what was told, until a small step has waited for six of them.
#[test]
fn small_steps_of_the_leader_wait() {
    let told = tells(20, 100, 70);
    let expected =
        "0: 9100, 10: 9100, 20: 9100, 30: 9100, 40: 9100, 50: 9100, 60: 10300, 70: 10300";
    assert_eq!(told, expected);
    assert_eq!(tells(5, 100, 119), "0: 9100, 60: 10300");
    // Together they may be far, and then they are not small any more.
    assert_eq!(tells(5, 2000, 40), "0: 11000, 30: 23000");
    assert_eq!(tells(5, 9000, 20), "0: 18000, 10: 36000, 20: 54000");
}

/// `status`: nothing waits that a race could make something of, nor what somebody else has told.
#[test]
fn what_is_no_small_step_is_told_at_once() {
    let (mut view, memory) = parse("lock a optime 50 | a* primary lsn 1000 armed | b replica");
    let first = decide(&view, &memory);
    let told = first.actions.iter().find_map(|action| match action {
        Action::Store(Op::PutStatus { status, .. }) => Some(status.clone()),
        _ => None,
    });
    let told = told.unwrap();
    let stored = cluster(&mut view).status.as_mut().unwrap();
    (stored.value, stored.revision) = (told.clone(), 100);
    view.now = view.now + Span::from_secs(10);
    view.local.probed = Some(view.now);
    if let Some(lease) = &mut view.lease {
        lease.sent = view.now;
    }
    view.local.look.as_mut().unwrap().wal.flushed = Lsn(1100);
    let tells = |change: &dyn Fn(&mut View)| {
        let mut view = view.clone();
        change(&mut view);
        let decision = decide(&view, &first.memory);
        decision.actions.iter().find_map(|action| match action {
            Action::Store(Op::PutStatus { status, .. }) => Some(status.optime.0),
            _ => None,
        })
    };
    assert_eq!(tells(&|_| {}), Some(1000), "it waits");
    let no_lag = |view: &mut View| view.settings.maximum_lag_on_failover = 0;
    assert_eq!(tells(&no_lag), Some(1100), "no byte may be lost");
    let little = |view: &mut View| view.settings.maximum_lag_on_failover = 128 * 99;
    assert_eq!(tells(&little), Some(1100));
    let slots = |view: &mut View| {
        let stored = cluster(view).status.as_mut().unwrap();
        stored.value.slots.insert("gone".into(), Lsn(7));
    };
    assert_eq!(tells(&slots), Some(1100), "another slot");
    let retain = |view: &mut View| {
        let stored = cluster(view).status.as_mut().unwrap();
        stored.value.retain_slots.push("gone".into());
    };
    assert_eq!(tells(&retain), Some(1100), "somebody has come or gone");
    let before = |view: &mut View| {
        let term = cluster(view).leader.as_ref().unwrap().create_revision;
        cluster(view).status.as_mut().unwrap().revision = term - 1;
    };
    assert_eq!(tells(&before), Some(1100), "a leader before has told it");
}

/// When positions that are published as 50 are published anew.
fn published(leads: bool, position: u64) -> Option<u64> {
    let (mut view, mut memory) = following();
    if leads {
        (view, memory) = parse("lock a optime 40 | a* primary lsn 50 armed | b replica");
        publish(&mut view, &memory);
    }
    let begin = view.now;
    memory.member_written = Some(begin);
    let wal = &mut view.local.look.as_mut().unwrap().wal;
    match leads {
        true => wal.flushed = Lsn(position),
        false => (wal.received, wal.replayed) = (Lsn(position), Lsn(position)),
    }
    (0..200).find(|second| {
        view.now = begin + Span::from_secs(*second);
        view.heard = view.now;
        if let Some(lease) = &mut view.lease {
            lease.sent = view.now;
        }
        let decision = decide(&view, &memory);
        let written = stored(&decision).contains(&"PutMember");
        memory = decision.memory;
        written
    })
}

#[test]
fn a_small_step_is_told_later_than_a_large_one() {
    assert_eq!(published(false, 50), None);
    assert_eq!(published(false, 150), Some(60));
    assert_eq!(published(false, 9000), Some(10));
    assert_eq!(published(true, 150), Some(120));
    assert_eq!(published(true, 9000), Some(10));
}

#[test]
fn a_member_lease_is_kept_alive_in_time() {
    let mut settings = pgherd_model::Settings::default();
    assert_eq!(crate::beat::member_pause(&settings), Span::from_secs(18));
    settings.lease_ttl = Span::from_secs(5);
    assert_eq!(crate::beat::member_pause(&settings), Span::from_secs(10));
}

/// `MemberCare`: after another `ttl` the pause of the one before does not hold any more, nor the new one for a lease that is
/// still of the other life.
#[test]
fn the_member_lease_is_kept_as_the_settings_of_now_say() {
    let settings = |ttl: u64| Settings {
        ttl: Span::from_secs(ttl),
        loop_wait: Span::from_secs(10),
        ..Settings::default()
    };
    let at = Time::from_millis;
    let care = |sent: u64, kept: Option<u64>| MemberCare {
        sent: Some(at(sent)),
        kept: kept.map(at),
        ttl: Span::from_secs(30),
    };
    for (care, ttl, not_yet, due) in [
        (care(1000, Some(1000)), 30, 18_999, 19_000),
        (care(1000, Some(1000)), 6, 2_999, 3_000),
        (care(1000, Some(1000)), 60, 2_999, 3_000),
        // The last try was not answered yet.
        (care(11_000, Some(1000)), 30, 12_999, 13_000),
        (care(11_000, None), 3, 12_799, 12_800),
    ] {
        assert!(!care.is_due(at(not_yet), &settings(ttl)), "{care:?} {ttl}");
        assert!(care.is_due(at(due), &settings(ttl)), "{care:?} {ttl}");
    }
    assert!(MemberCare::default().is_due(at(1), &settings(30)));
}
