//! What a node may believe of its own lock: given up, detached, paused.

use super::*;
use crate::Action;

fn why(view: &View, memory: &Memory) -> (Vec<&'static str>, &'static str) {
    let decision = decide(view, memory);
    let names = decision.actions.iter().map(Action::name).collect();
    (names, decision.why.rule)
}

/// The answer to a release was lost: whatever the picture says, this node does not start again.
#[test]
fn given_up() {
    let (view, mut memory) = parse("lock a | a* down | b replica");
    assert_ne!(why(&view, &memory).1, "given_up");
    memory.released = Some(5);
    assert_eq!(why(&view, &memory), (vec!["ReleaseLeader"], "given_up"));
    let decision = decide(&view, &memory);
    assert!(!decision.keep_lease, "its lease is not kept alive");
    assert_eq!(decision.memory.released, Some(5));
    // It must not write meanwhile either.
    let (view, mut memory) = parse("lock a | a* primary | b replica");
    memory.released = Some(5);
    assert_eq!(why(&view, &memory), (vec!["StopKill"], "given_up"));
    // Seen gone: an end to it.
    let (view, mut memory) = parse("lock b | a* replica | b primary");
    memory.released = Some(5);
    assert_eq!(decide(&view, &memory).memory.released, None);
    // A later term is another lock.
    let (view, mut memory) = parse("lock a | a* primary | b replica");
    memory.released = Some(4);
    assert_eq!(why(&view, &memory).1, "lock_held");
}

/// Ordering a release is what makes it binding.
#[test]
fn a_release_is_remembered() {
    let (view, memory) = parse("lock a handover | a* crashed | b replica");
    let decision = decide(&view, &memory);
    let names: Vec<_> = decision.actions.iter().map(Action::name).collect();
    assert_eq!(names, ["ReleaseLeader"], "{}", decision.why);
    assert_eq!(decision.memory.released, Some(5));
}

/// The lock's lease is not the one that is renewed: before everything that takes time.
#[test]
fn detached() {
    let (view, memory) = parse("lock a | a* primary newlease | b replica");
    assert_eq!(why(&view, &memory), (vec!["ReattachLeader"], "detached"));
    let decision = decide(&view, &memory);
    assert_eq!(decision.memory.detached_since, Some(view.now));
    // Under a shorter one the guard has to fire sooner before anybody counts on that, under a longer
    // one not later before the lock lives that long.
    let (mut view, memory) = parse("lock a | a* primary newlease armed | b replica");
    let mut lease = view.lease.unwrap();
    lease.length = Span::from_secs(5);
    view.lease = Some(lease);
    let shortened = vec!["ArmGuard", "ReattachLeader"];
    assert_eq!(why(&view, &memory), (shortened, "detached"));
    lease.length = Span::from_secs(25);
    view.lease = Some(lease);
    assert_eq!(why(&view, &memory), (vec!["ReattachLeader"], "detached"));
    let (mut view, memory) = parse("lock a | a* primary armed | b replica");
    assert!(!why(&view, &memory).0.contains(&"ArmGuard"));
    view.local.guard.armed_by = Some(lease).map(|it| LeaseFact { lease: 6, ..it });
    assert!(why(&view, &memory).0.contains(&"ArmGuard"));
    // It cannot be put under it: nobody may rely on a lock that runs out.
    let (mut view, mut memory) = parse("lock a | a* primary newlease | b replica");
    memory.detached_since = Some(view.now);
    view.now = view.now + Span::from_secs(12);
    assert_eq!(why(&view, &memory), (vec!["StopKill"], "fence"));
}

/// Hands off: nothing is started or stopped, whatever happens.
#[test]
fn paused() {
    for text in [
        "lock a pause | a* primary | b replica",
        "lock b pause | a* down | b primary",
        "lock - pause | a* replica | b replica",
    ] {
        let (view, memory) = parse(text);
        let (names, rule) = why(&view, &memory);
        assert_eq!(rule, "paused", "{text}");
        for name in &names {
            assert!(
                !name.starts_with("St") && *name != "Promote",
                "{text}: {names:?}"
            );
        }
    }
    let (view, memory) = parse("lock - pause | a* primary | b replica");
    assert_eq!(why(&view, &memory), (vec!["AcquireLeader"], "paused"));
    let (view, memory) = parse("lock a pause | a* crashed | b replica");
    assert_eq!(why(&view, &memory).1, "paused");
    assert!(why(&view, &memory).0.contains(&"ReleaseLeader"));
    // A switchover to a named member goes on to its end.
    let (view, memory) = parse("lock a pause failover b>a | a* replica armed | b down");
    let (names, rule) = why(&view, &memory);
    assert_eq!((names[0], rule), ("Promote", "lock_held"));
    let (view, memory) = parse("lock a pause failover b>c | a* replica armed | b down");
    assert_eq!(why(&view, &memory).0[0], "ReleaseLeader");
    let (view, memory) = parse("lock a pause | a* primary shutdown | b replica");
    assert_eq!(why(&view, &memory), (vec!["Exit"], "paused"));
}

/// `history` knows timelines that this node has not seen: their numbers must not be made twice.
#[test]
fn numbers_of_unknown_timelines_are_reserved_before_the_promotion() {
    let (view, memory) = parse("lock a history 4 | a* replica armed tl3 | b replica");
    let decision = decide(&view, &memory);
    let reserve = Action::ReserveTimelines { last: Timeline(5) };
    assert_eq!(decision.actions.as_slice(), core::slice::from_ref(&reserve));
    // A PostgreSQL that was down meanwhile has given them back.
    let (down, _) = parse("lock a history 4 | a* down standby armed tl3 | b replica");
    let later = decide(&down, &decision.memory);
    assert_eq!(decide(&view, &later.memory).actions, [reserve]);
    // Once: then it promotes.
    let (names, rule) = why(&view, &decision.memory);
    assert_eq!(
        (names.first().copied(), rule),
        (Some("Promote"), "lock_held")
    );
    let (view, memory) = parse("lock a history 2 | a* replica armed tl3 | b replica");
    assert_eq!(why(&view, &memory).0.first().copied(), Some("Promote"));
}

/// A leader without `initialize` gets the time of a lease, then the replica says why it ends.
#[test]
fn a_replica_of_nobody_ends() {
    let (mut view, memory) = parse("lock - initialize none | a* replica | b replica");
    assert_eq!(why(&view, &memory).1, "identity");
    view.now = view.now + Span::from_secs(31);
    assert_eq!(why(&view, &memory), (vec!["Exit"], "identity"));
}
