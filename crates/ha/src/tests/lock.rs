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
    let (mut view, memory) = parse("lock a | a* primary newlease renewed 9s armed | b replica");
    let mut lease = view.lease.unwrap();
    let held = lease.deadlines();
    (lease.length, lease.sent) = (Span::from_secs(5), view.now);
    view.lease = Some(lease);
    let shortened = vec!["ArmGuard", "ReattachLeader"];
    assert_eq!(why(&view, &memory), (shortened, "detached"));
    // Not later than the lease before allows, which the lock still lives under.
    let arm = Action::ArmGuard {
        pid: PID,
        no_later: Some(held.guard),
    };
    assert_eq!(decide(&view, &memory).actions.first(), Some(&arm));
    let mut watched = view.clone();
    watched.settings.guard = GuardMode::Off;
    watched.local.guard = GuardFact::default();
    watched.local.watchdog.mode = GuardMode::Automatic;
    assert_eq!(why(&watched, &memory), (vec!["ReattachLeader"], "detached"));
    watched.local.watchdog.armed = Some(Span::from_secs(20));
    let shortened = vec!["ArmGuard", "ReattachLeader"];
    assert_eq!(why(&watched, &memory), (shortened, "detached"));
    lease.length = Span::from_secs(25);
    view.lease = Some(lease);
    assert_eq!(why(&view, &memory), (vec!["ReattachLeader"], "detached"));
    let (mut view, memory) = parse("lock a | a* primary armed | b replica");
    assert!(!why(&view, &memory).0.contains(&"ArmGuard"));
    view.local.guard.armed_by = Some(lease).map(|it| LeaseFact { lease: 6, ..it });
    assert!(why(&view, &memory).0.contains(&"ArmGuard"));
    // It cannot be put under it: nobody may rely on a lock that runs out. How long the lease lives
    // that an agent before has left, this one does not know.
    let (mut view, mut memory) = parse("lock a | a* primary reborn | b replica");
    memory.detached_since = Some(view.now);
    view.now = view.now + Span::from_secs(12);
    assert_eq!(why(&view, &memory), (vec!["StopKill"], "fence"));
}

/// `lease_ttl` was changed: until the lock is seen under the new lease, the one before counts.
#[test]
fn the_lease_that_the_lock_lives_under_is_remembered() {
    let (view, memory) = parse("lock a | a* primary armed renewed 3s | b replica");
    let held = decide(&view, &memory).memory;
    assert_eq!(held.held, view.lease);
    // A longer one was granted, and etcd does not answer: the shorter one runs out.
    let (mut cut, _) =
        parse("lock a unreachable | a* primary armed newlease renewed 1s | b replica");
    let mut granted = cut.lease.unwrap();
    granted.length = Span::from_secs(60);
    cut.lease = Some(granted);
    cut.now = view.now + Span::from_secs(8);
    let before = decide(&cut, &held);
    assert_eq!(before.memory.held, view.lease);
    assert_ne!(before.why.rule, "fence");
    let deadline = before.wake_at.unwrap();
    assert_eq!(deadline.1, "lease");
    assert!(deadline.0 < before.due, "it moves with each renewal");
    cut.now = view.now + Span::from_secs(9);
    assert_eq!(why(&cut, &held), (vec!["StopFast"], "fence"));
    // Nor does it help that the lock is found gone, or the lease lost.
    let (mut free, _) = parse("lock - | a* primary armed | b replica");
    free.now = cut.now;
    assert_eq!(why(&free, &held), (vec!["StopFast"], "fence"));
    let (mut lost, _) = parse("lock a | a* primary armed reborn | b replica");
    lost.now = cut.now;
    assert_eq!(why(&lost, &held), (vec!["StopFast"], "fence"));
    // The order to put it under a shorter one may have been carried out without an answer.
    let (mut shorter, _) = parse("lock a | a* primary newlease | b replica");
    let granted = shorter.lease.as_mut().unwrap();
    (granted.length, granted.sent) = (Span::from_secs(5), view.now);
    shorter.now = view.now + Span::from_millis(2900);
    assert_eq!(why(&shorter, &held), (vec!["ReattachLeader"], "detached"));
    shorter.now = view.now + Span::from_secs(3);
    assert_eq!(why(&shorter, &held), (vec!["StopFast"], "fence"));
    // Also where the agent before held it, of whose lease nothing is known.
    assert_eq!(
        why(&shorter, &Memory::default()),
        (vec!["StopFast"], "fence")
    );
    // Seen under the new one, that counts.
    let (attached, _) = parse("lock a | a* primary armed | b replica");
    assert_eq!(decide(&attached, &held).memory.held, attached.lease);
    // Another's lock.
    let (other, _) = parse("lock b | a* replica from b | b primary");
    assert_eq!(decide(&other, &held).memory.held, None);
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
    let promote = Action::StartJob(JobKind::Promote);
    let both = [reserve, promote];
    assert_eq!(decision.actions, both);
    // As often as it does not work: the list ends with the first failure. Then others have a try.
    let mut memory = decision.memory;
    for _ in 1..5 {
        let again = decide(&view, &memory);
        assert_eq!(again.actions, both);
        memory = again.memory;
    }
    assert_eq!(why(&view, &memory), (vec!["ReleaseLeader"], "lock_held"));
    assert!(decide(&view, &memory).memory.stand_back_until.is_some());
    // One that has begun is none that did not work.
    let (begun, _) = parse("lock a history 4 | a* replica armed tl3 job promote | b replica");
    memory = decide(&begun, &memory).memory;
    assert_eq!(decide(&view, &memory).actions, both);
    let (view, memory) = parse("lock a history 2 | a* replica armed tl3 | b replica");
    assert_eq!(why(&view, &memory).0.first().copied(), Some("Promote"));
}

/// Beside a leader data of another cluster must not be started, rewound or removed before anybody
/// knows which cluster it is.
#[test]
fn without_an_identifier_nothing_is_done_to_data_that_lie_still() {
    for initialize in ["none", "underway"] {
        let text =
            format!("lock b initialize {initialize} rewind remove | a* down tl3 | b primary");
        let (view, memory) = parse(&text);
        let (names, rule) = why(&view, &memory);
        assert_eq!((names.contains(&"StartStandby"), rule), (false, "identity"));
    }
    let (view, memory) = parse("lock b initialize none | a* replica from b | b primary");
    assert_eq!(why(&view, &memory).1, "follow");
    let (view, memory) = parse("lock b initialize none | a* empty | b primary");
    assert_eq!(why(&view, &memory).0[0], "Clone");
}

/// A leader without `initialize` gets the time of a lease, then the replica says why it ends.
#[test]
fn a_replica_of_nobody_ends() {
    let (mut view, memory) = parse("lock - initialize none | a* replica | b replica");
    assert_eq!(why(&view, &memory).1, "identity");
    view.now = view.now + Span::from_secs(31);
    assert_eq!(why(&view, &memory), (vec!["Exit"], "identity"));
}
