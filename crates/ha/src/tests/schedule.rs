//! Scheduled switchovers: `switchover`, `request`, `lock_free`, `paused`. `at +30` is a time 30 s
//! ahead by the wall clock; loop_wait is 10 s.

use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Failover, Op, Span, WallTime};

use super::{check_all, parse};
use crate::{Action, Decision, Demotion, Memory, View, decide};

/// `switchover`: not before its time, and not long after it.
#[test]
fn a_scheduled_switchover_waits_for_its_time() {
    check_all(
        r"
        lock a failover a>b at +1 | a* primary armed | b replica lsn 50
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a failover a>b at 0 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: switchover scheduled at 0: it is time

        lock a failover a> at -15 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: switchover scheduled at -15: it is time

        lock a failover a>b at -16 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: Found a stale switchover value, cleaning up: -16

        lock a failover a>b at soon | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: incorrect value of scheduled_at: soon

        lock a failover >b at -1 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: manual failover scheduled at -1: it is time

        # PostgreSQL is started first; then it may be too late.
        lock a failover a>b at -1 | a* crashed | b replica lsn 50
        => StartPrimary, because restart: starting the crashed primary in place

        lock a unreachable failover a>b at -1 | a* primary armed | b replica lsn 50
        => nothing, because lock_held: no action. I am (a), the leader with the lock
        ",
    );
}

/// `switchover`: whoever is not the leader that was named drops it.
#[test]
fn a_scheduled_switchover_is_of_one_leader_and_one_reign() {
    check_all(
        r"
        # Asked of a leader that was none: judged when it is due.
        lock a failover c>b at +1 | a* primary armed | b replica lsn 50
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a failover c>b at -1 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: switchover at -1: dropped, leader name does not match: c != a

        lock a failover >a at -1 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: manual failover at -1: dropped, I am already the leader

        # Written before this node took the lock.
        lock a inherited failover c>b at +30 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: switchover at +30: dropped, it was asked before this node took the lock

        lock a inherited failover a>b at +30 | a* primary armed | b replica lsn 50
        => PutFailover, because switchover: switchover at +30: dropped, it was asked before this node took the lock

        # While it is promoted: what was asked before the lock was taken is answered, not this.
        lock a inherited failover a>b at +30 | a* replica armed | b replica
        => Promote + PutFailover, because lock_held: the lock is held: promoting PostgreSQL

        lock a failover a>b at +30 | a* replica armed | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL

        # Nobody but the leader touches it.
        lock b failover b>a at -1 | a* replica from b | b primary
        => nothing, because follow: no action. I am (a), a secondary, and following a leader (b)
        ",
    );
}

/// `paused`: it waits, and may become stale.
#[test]
fn a_paused_cluster_does_not_switch_by_the_clock() {
    check_all(
        r"
        lock a pause failover a>b at -1 | a* primary | b replica lsn 50
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock

        lock a pause failover a>b at -60 | a* primary | b replica lsn 50
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock

        lock a pause failover a>b | a* primary | b replica lsn 50
        => StopFast, because switchover: switchover: demoting myself
        ",
    );
}

/// `lock_free`: after a genuine Patroni leader has released the lock for it, its time still stands
/// in the key. After a crash it means nothing.
#[test]
fn a_scheduled_request_names_the_successor_only_of_who_gave_up_the_lock() {
    check_all(
        r"
        lock - former a deleted 90 failover a>b at -1 | a down words | b* replica lsn 50 | c replica lsn 60
        => AcquireLeader, because lock_free: a released the lock; healthiest of 3

        lock - former a deleted 90 failover a>b at -1 | a down words | b replica lsn 50 | c* replica lsn 60
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b was named to take over

        lock - former a deleted 90 failover a>b at +3600 | a down words | b* replica lsn 50 | c replica lsn 60
        => nothing, because lock_free: following a different leader because i am not the healthiest node: Wal position of c is ahead of my wal position

        # Or a leader at another time: nobody counts on it any more.
        lock - former a deleted 90 failover a>b at -16 | a down words | b* replica lsn 50 | c replica lsn 60
        => nothing, because lock_free: following a different leader because i am not the healthiest node: Wal position of c is ahead of my wal position

        # It writes that it is demoted only after it has deleted the lock.
        lock - former a failover a>b at -1 | a replica | b replica lsn 50 | c* replica lsn 60
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b was named to take over

        lock - former a free 30s failover a>b at -1 | a down mute | b* replica lsn 50 | c replica lsn 60
        => nothing, because lock_free: following a different leader because i am not the healthiest node: Wal position of c is ahead of my wal position
        ",
    );
}

fn look(text: &str) -> (View, Memory, Decision) {
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    (view, memory, decision)
}

fn writes(decision: &Decision) -> Vec<(Failover, Option<u64>)> {
    let written = decision.actions.iter().filter_map(|action| match action {
        Action::Store(Op::PutFailover { failover, expected }) => {
            Some((failover.clone(), *expected))
        }
        _ => None,
    });
    written.collect()
}

/// Which moment is the next to look at, and what is written then: the same request without its
/// time, only if nobody has touched it meanwhile.
#[test]
fn its_moment_is_waited_for_and_used_up() {
    let ahead = "lock a failover a>b at +3 | a* primary armed | b replica lsn 50";
    let (mut view, memory, decision) = look(ahead);
    assert_eq!(
        decision.wake_at,
        Some((view.now + Span::from_secs(3), "request"))
    );
    let awaited = decision
        .ladder
        .iter()
        .find(|rung| rung.rule == "switchover");
    assert_eq!(awaited.unwrap().reason, "awaiting switchover at +3");
    assert_eq!(writes(&decision), vec![]);

    // A microsecond before, and then.
    let at = WallTime(view.wall.0 + 3_000_000);
    view.wall = WallTime(at.0 - 1);
    assert_eq!(writes(&decide(&view, &memory)), vec![]);
    view.wall = at;
    let request = Failover {
        leader: Some("a".into()),
        member: Some("b".into()),
        scheduled_at: None,
    };
    let decision = decide(&view, &memory);
    assert_eq!(writes(&decision), vec![(request, Some(6))]);
    assert!(decision.memory.demotion.is_none());
}

/// The clock is set back an hour once the time was struck out: what is under way goes on, and once
/// it is over there is nothing left to begin again.
#[test]
fn a_clock_that_jumps_back_begins_nothing_twice() {
    let (mut view, memory, decision) =
        look("lock a failover a>b at -1 | a* primary armed | b replica lsn 50");
    let (struck_out, _) = writes(&decision).remove(0);
    let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("unreachable");
    };
    let stored = cluster.failover.as_mut().unwrap();
    (stored.value, stored.revision) = (struck_out, 7);
    view.wall = WallTime(view.wall.0 - 3_600_000_000);
    let begun = decide(&view, &memory);
    assert_eq!(begun.why.reason, "switchover: demoting myself");

    let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("unreachable");
    };
    cluster.failover.as_mut().unwrap().value = Failover::default();
    let over = decide(&view, &memory);
    assert_eq!(over.why.rule, "lock_held");
    assert_eq!(writes(&over), vec![]);
}

/// A switchover that could not be served takes nothing with it that was asked for meanwhile.
#[test]
fn a_schedule_made_during_a_switchover_outlives_it() {
    let text = "lock a failover a>b at +30 | a* down lsn 50 | b replica lsn 40";
    let (view, mut memory) = parse(text);
    let demotion = |request| Demotion {
        since: view.now,
        request: Some(request),
        candidate: Some("b".into()),
        manual: false,
        word: "switchover".into(),
        down_since: Some(view.now - Span::from_secs(6)),
        taking_back: Some(view.now - Span::from_secs(1)),
    };
    for (request, written) in [(6, 1), (4, 0)] {
        memory.demotion = Some(demotion(request));
        let decision = decide(&view, &memory);
        let reason = "switchover: no candidate received all WAL, going on as primary";
        assert_eq!(decision.why.reason, reason);
        assert_eq!(decision.memory.refused_request, Some(request));
        assert_eq!(writes(&decision).len(), written);
    }
}
