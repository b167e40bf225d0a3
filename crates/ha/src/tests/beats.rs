//! Signs of life, and what is not asked or written thanks to them.

use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{LeaseSight, Lsn, Op, Span};

use super::parse;
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
        Dcs::Unreachable { .. } => panic!("{:?}", view.dcs),
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
        ("lock a request b | a* primary armed | b replica", None),
    ] {
        assert_eq!(rest(text), expected, "{text}");
    }
    let (mut view, memory) = parse("lock b | a* replica from b | b primary");
    view.settings.lease_ttl = Span::from_secs(5);
    assert_eq!(decide(&view, &memory).rest, None);
}

/// `status` of a leader at these seconds: what it says, where it is written.
fn told(moves: &[(u64, u64)], lease: u64, until: u64) -> String {
    let (mut view, mut memory) =
        parse("lock a optime 1000 | a* primary lsn 1000 armed | b replica");
    view.settings.lease_ttl = Span::from_secs(lease);
    view.settings.member_slots_ttl = Span::ZERO;
    let begin = view.now;
    let mut told = String::new();
    for second in 0..=until {
        view.now = begin + Span::from_secs(second);
        if let Some(lease) = &mut view.lease {
            lease.sent = view.now;
        }
        if let Some((_, lsn)) = moves.iter().find(|(at, _)| *at == second) {
            view.local.look.as_mut().unwrap().wal.flushed = Lsn(*lsn);
        }
        let decision = decide(&view, &memory);
        for action in &decision.actions {
            if let Action::Store(Op::PutStatus { status, .. }) = action {
                told += &alloc::format!("{second}:{} ", status.optime.0);
                let stored = cluster(&mut view).status.as_mut().unwrap();
                stored.value = status.clone();
                stored.revision += 1;
            }
        }
        memory = decision.memory;
    }
    told.trim_end().into()
}

#[test]
fn a_small_step_is_told_late_and_a_large_one_at_once() {
    // The first write of a leader tells all.
    let small = &[(15, 1100)];
    assert_eq!(
        told(small, 20, 42),
        "0:1000 10:1000 20:1000 30:1000 40:1000"
    );
    assert_eq!(
        told(small, 5, 42),
        "",
        "nobody counts on a sign of life there"
    );
    let large = &[(15, 10_000), (35, 10_100)];
    assert_eq!(
        told(large, 20, 42),
        "0:1000 10:1000 20:10000 30:10000 40:10000"
    );
    assert_eq!(told(large, 5, 42), "20:10000");
    assert_eq!(told(small, 5, 300), "120:1100");
}

/// When a standby's positions are published, which are at 50 and published so.
fn published(optime: u64, replayed: u64) -> Option<u64> {
    let (mut view, mut memory) = following();
    let begin = view.now;
    memory.member_written = Some(begin);
    view.local.look.as_mut().unwrap().wal.received = Lsn(replayed);
    view.local.look.as_mut().unwrap().wal.replayed = Lsn(replayed);
    cluster(&mut view).status.as_mut().unwrap().value.optime = Lsn(optime);
    (0..200).find(|second| {
        view.now = begin + Span::from_secs(*second);
        view.heard = view.now;
        let decision = decide(&view, &memory);
        let written = stored(&decision).contains(&"PutMember");
        memory = decision.memory;
        written
    })
}

#[test]
fn a_standby_tells_its_position_where_it_would_seem_to_lag() {
    assert_eq!(published(50, 50), None);
    assert_eq!(published(50, 150), Some(120));
    assert_eq!(published(150, 150), Some(10));
    assert_eq!(published(50, 9000), Some(10));
    assert_eq!(published(150, 50), None, "it does lag");
}

#[test]
fn a_member_lease_is_kept_alive_in_time() {
    let mut settings = pgherd_model::Settings::default();
    assert_eq!(crate::beat::member_pause(&settings), Span::from_secs(20));
    settings.lease_ttl = Span::from_secs(5);
    assert_eq!(crate::beat::member_pause(&settings), Span::from_secs(10));
}
