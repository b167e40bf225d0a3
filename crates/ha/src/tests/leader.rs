//! The leader, and whoever still thinks so: `paused`, `fence`, `shutdown`, `starting`, `hang`,
//! `unguarded`, `switchover`, `restart`, `lock_held`.

use alloc::vec::Vec;

use super::{check_all, decide, parse};
use crate::Action;
use pgherd_model::{Postmaster, Span, Time};

/// `unguarded`.
#[test]
fn without_its_required_guard_a_primary_gives_up_its_place() {
    check_all(
        r"
        lock a guard_required | a* primary guardfailed 1s twice | b replica
        => StopFast, because unguarded: the guard is required and cannot be armed any more: demoting myself

        # Once may be chance: it is tried again soon.
        lock a guard_required | a* primary guardfailed 0s | b replica
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a guard_required | a* primary guardfailed 1s | b replica
        => ArmGuard, because lock_held: no action. I am (a), the leader with the lock

        # Before arming has been tried once there is nothing to judge.
        lock a guard_required | a* primary | b replica
        => ArmGuard, because lock_held: no action. I am (a), the leader with the lock

        lock a | a* primary guardfailed 1s | b replica
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a guard_required pause | a* primary guardfailed 1s | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock

        # One that hangs is replaced; where that does not work, it is none.
        lock a guard_required | a* primary armed guardhangs | b replica
        => ArmGuard, because lock_held: no action. I am (a), the leader with the lock

        lock a guard_required | a* primary armed guardhangs guardfailed 1s twice | b replica
        => StopFast, because unguarded: the guard is required and cannot be armed any more: demoting myself

        # Nor is it started again without.
        lock a guard_required | a* crashed guardfailed 1s | b replica
        => ReleaseLeader, because restart: released the lock: the guard is required and cannot be armed
        ",
    );
}

/// Duty `guard`: a primary that has to be guarded is looked at again when the second try is due.
#[test]
fn the_second_try_to_arm_comes_soon() {
    let (view, memory) = parse("lock a guard_required | a* primary guardfailed 0s | b replica");
    let wake = decide(&view, &memory).wake_at;
    assert_eq!(wake, Some((view.now + Span::from_secs(1), "guard")));
}

/// What time alone makes due is waited for: who sees nothing new decides nothing before (`goes_on`).
#[test]
fn what_time_makes_due_is_waited_for() {
    for (text, seconds, who) in [
        (
            "lock a | a* primary armed probed 25s | b replica",
            5,
            "hang",
        ),
        ("lock a | a* primary guardfailed 1s | b replica", 4, "guard"),
        (
            "lock a | a* primary tl2 control 1 armed | b replica",
            1,
            "checkpoint",
        ),
    ] {
        let (view, memory) = parse(text);
        let wake = decide(&view, &memory).wake_at;
        let expected = view.now + Span::from_secs(seconds);
        assert_eq!(wake, Some((expected, who)), "{text}");
    }
    let (view, mut memory) = parse("lock a | a* primary armed | b replica");
    memory.status_written = Some(view.now - Span::from_secs(3));
    let wake = decide(&view, &memory).wake_at;
    assert_eq!(wake, Some((view.now + Span::from_secs(7), "status")));
}

/// `unguarded`, over several looks: whoever has all WAL gets the lock at once; where nobody does, it is
/// released after a while, but no primary is started without guard.
#[test]
fn whoever_goes_for_want_of_a_guard_hands_over_in_order() {
    let (view, memory) =
        parse("lock a guard_required | a* primary guardfailed 1s twice | b replica");
    let begun = decide(&view, &memory);
    let (mut down, _) =
        parse("lock a guard_required | a* down lsn 50 guardfailed 1s | b replica lsn 51");
    let given = decide(&down, &begun.memory);
    let reason = "no guard: b has all WAL, Leader key released";
    assert_eq!(given.why.reason, reason);
    assert_eq!(given.memory.demotion, None);
    for fact in down.peers.values_mut() {
        fact.answer.as_mut().unwrap().received.0 = 40;
    }
    let waiting = decide(&down, &begun.memory);
    assert_eq!(
        waiting.why.reason,
        "no guard: asking whether all WAL has arrived"
    );
    let after = |time: Time| time + Span::from_secs(5);
    down.now = after(down.now);
    if let Some(lease) = &mut down.lease {
        lease.sent = after(lease.sent);
    }
    down.peers
        .values_mut()
        .for_each(|fact| (fact.asked, fact.answered) = (after(fact.asked), after(fact.answered)));
    down.local.guard.failed = Some(down.now);
    let released = decide(&down, &waiting.memory);
    let orders: alloc::vec::Vec<_> = released.actions.iter().map(crate::Action::name).collect();
    assert_eq!(orders, ["ReleaseLeader"], "{}", released.why);
}

/// `lock_held`: in strict mode it is to acknowledge nothing on its own from the first moment.
#[test]
fn a_strict_primary_waits_for_somebody_before_it_is_one() {
    check_all(
        r"
        lock a sync_mode strict sync b:c | a* replica armed | b replica
        => SetSynchronousStandbys + PutSync, because lock_held: naming itself alone in /sync before the promotion

        lock a sync_mode strict sync a: | a* replica armed | b replica
        => SetSynchronousStandbys + Promote, because lock_held: the lock is held: promoting PostgreSQL

        lock a sync_mode strict sync a: | a* replica armed waits * | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL
        ",
    );
}

/// `lock_held`: the watchdog device is armed with the guard.
#[test]
fn a_watchdog_is_armed_before_a_promotion() {
    check_all(
        r"
        lock a | a* replica armed dog | b replica
        => ArmGuard, because lock_held: arming the guard before the promotion

        lock a | a* replica armed dog dogfailed 1s | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL

        lock a | a* replica armed dog_required dogfailed 1s | b replica
        => ReleaseLeader, because lock_held: the watchdog is required and cannot be armed

        lock a | a* replica armed dog_required dogarmed | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL
        ",
    );
}

/// `lock_held`.
#[test]
fn whoever_holds_the_lock_becomes_primary() {
    check_all(
        r"
        lock a | a* primary armed | b replica
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a | a* replica armed | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL

        lock a | a* replica | b replica
        => ArmGuard, because lock_held: arming the guard before the promotion

        lock a guard_required | a* replica guardfailed 1s | b replica
        => ReleaseLeader, because lock_held: the guard is required and cannot be armed

        lock a guard_required | a* replica armed guardhangs guardfailed 1s | b replica
        => ReleaseLeader, because lock_held: the guard is required and cannot be armed

        lock a guard_required | a* replica guardfailed 5s | b replica
        => ArmGuard, because lock_held: arming the guard before the promotion

        lock a | a* replica guardfailed 1s | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL

        lock a | a* replica armed failed promote | b replica
        => StopKill, because lock_held: promotion failed: broken; PostgreSQL is killed

        # Not before it is known that it can be primary: nobody else could be, after that.
        lock a sync_mode sync b:c guard_required | a* replica guardfailed 1s | b replica
        => ReleaseLeader, because lock_held: the guard is required and cannot be armed

        lock a sync_mode sync b:c history 4 | a* replica armed tl3 | b replica
        => ReserveTimelines + PutSync, because lock_held: naming itself alone in /sync before the promotion

        lock a sync_mode sync b:c | a* replica armed | b replica
        => PutSync, because lock_held: naming itself alone in /sync before the promotion

        lock a sync_mode sync a: | a* replica armed | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL

        lock a | a* primary reborn | b replica
        => ReattachLeader, because detached: taking the lock over from the agent before

        lock a | a* primary armed renewed 11s | b replica
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a unreachable | a* primary armed renewed 11s | b replica
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a | a* primary armed failover a>b | b replica lsn 50
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a | a* primary armed | b replica lsn 50
        => nothing, because lock_held: no action. I am (a), the leader with the lock

        lock a failover c>b | a* primary armed | b replica
        => PutFailover, because lock_held: no action. I am (a), the leader with the lock

        lock a failover a>a | a* primary armed | b replica
        => PutFailover, because lock_held: no action. I am (a), the leader with the lock
        ",
    );
}

/// `fence`.
#[test]
fn who_has_no_right_to_write_is_stopped() {
    check_all(
        r"
        lock a unreachable | a* primary armed renewed 12s | b replica
        => StopFast, because fence: no renewal of the lock was confirmed for 0.6 of its life: demoting

        lock a unreachable | a* primary armed renewed 14s | b replica
        => StopKill, because fence: no renewal of the lock was confirmed for 0.7 of its life: PostgreSQL is killed

        # The lock is to be put under another lease: the one before, which nothing renews, counts.
        lock a | a* primary armed newlease renewed 11s | b replica
        => ReattachLeader, because detached: putting the lock under a new lease: lease_ttl was changed, or the lease before was lost

        lock a | a* primary armed newlease renewed 12s | b replica
        => StopFast, because fence: no renewal of the lock was confirmed for 0.6 of its life: demoting

        lock a unreachable | a* primary armed newlease renewed 12s | b replica
        => StopFast, because fence: no renewal of the lock was confirmed for 0.6 of its life: demoting

        lock a unreachable | a* primary armed newlease renewed 14s | b replica
        => StopKill, because fence: no renewal of the lock was confirmed for 0.7 of its life: PostgreSQL is killed

        lock b | a* primary | b primary
        => StopKill, because fence: b holds the lock: PostgreSQL is killed

        lock b | a* silent | b primary
        => StopKill, because fence: b holds the lock: PostgreSQL is killed

        lock - | a* down job start_primary | b replica
        => StopKill, because fence: the lock went before PostgreSQL was primary: PostgreSQL is killed
        ",
    );
}

/// `follow`.
#[test]
fn a_lease_granted_anew_is_not_the_locks() {
    check_all(
        r"
        lock a unreachable | a* replica armed newlease | b replica
        => DisarmGuard, because follow: no leader to follow
        ",
    );
}

/// `starting`.
#[test]
fn what_is_under_way_is_left_alone() {
    check_all(
        r"
        lock b | a* silent standby | b primary
        => nothing, because starting: PostgreSQL lives and does not answer (yet)

        lock a | a* leftovers was_primary | b replica
        => StopKill, because starting: the postmaster is dead, 3 of its processes are not yet

        lock b | a* silent standby job clone | b primary
        => nothing, because starting: copying x is in progress

        lock a | a* crashed job start_primary | b replica
        => nothing, because starting: PostgreSQL does not answer and holds the lock
        ",
    );
}

/// `shutdown`.
#[test]
fn an_agent_ends_in_order() {
    check_all(
        r"
        lock a | a* primary armed shutdown | b replica
        => StopFast, because shutdown: the agent ends: stopping PostgreSQL

        lock a | a* primary armed shutdown job stop | b replica
        => nothing, because shutdown: PostgreSQL is being stopped

        lock a | a* primary armed shutdown failed stop | b replica
        => StopKill, because shutdown: the agent ends: stopping PostgreSQL

        lock a | a* down shutdown | b replica
        => ReleaseLeader, because shutdown: the agent ends: releasing the lock

        lock b | a* down shutdown | b primary
        => Exit, because shutdown: the agent ends

        lock b sync_mode sync b:c | a* replica shutdown | b primary
        => StopFast, because shutdown: the agent ends: stopping PostgreSQL

        lock b sync b:a | a* replica shutdown | b primary
        => StopFast, because shutdown: the agent ends: stopping PostgreSQL
        ",
    );
}

/// Nobody is to wait for a standby that is stopped: it asks to be let out of `/sync` first, for two loops at most.
#[test]
fn a_synchronous_standby_steps_out_before_it_ends() {
    let (view, mut memory) = parse("lock b sync_mode sync b:a | a* replica shutdown | b primary");
    let asks = decide(&view, &memory);
    assert_eq!(
        asks.why.reason,
        "the agent ends: asking to be let out of synchronous duty first"
    );
    assert_eq!(asks.memory.stepping_out, Some(view.now));
    assert!(crate::describe(&view, &asks.memory).leaves_sync);
    memory.stepping_out = Some(view.now - view.settings.loop_wait * 2);
    let stops = decide(&view, &memory);
    assert_eq!(stops.why.reason, "the agent ends: stopping PostgreSQL");
}

/// `hang`.
#[test]
fn a_primary_that_hangs_loses_the_lock() {
    check_all(
        r"
        lock a | a* silent was_primary probed 31s | b replica lsn 50
        => StopKill, because hang: PostgreSQL did not commit within hang_timeout: killed

        lock a | a* silent was_primary probed 31s | b replica mute
        => nothing, because hang: PostgreSQL hangs and nobody could take over

        lock a | a* primary armed probed 31s | b replica unasked
        => AskPeers, because hang: PostgreSQL hangs: asking who could take over

        # What has crashed and recovers is no hang, as long as a start may take.
        lock a | a* silent was_primary recovering probed 31s | b replica lsn 50
        => nothing, because starting: PostgreSQL does not answer and holds the lock

        # An agent that has just begun finds it hanging: that takes no longer than if it had seen it at work.
        lock a | a* silent silent_for 31s unprobed | b replica lsn 50
        => StopKill, because hang: PostgreSQL did not commit within hang_timeout: killed

        lock a | a* silent silent_for 29s unprobed | b replica lsn 50
        => ArmGuard, because lock_held: PostgreSQL does not answer

        # Neither does what is stopped by a signal recover.
        lock a | a* silent was_primary halted probed 31s | b replica lsn 50
        => StopKill, because hang: PostgreSQL did not commit within hang_timeout: killed

        lock a | a* silent halted silent_for 31s unprobed | b replica lsn 50
        => StopKill, because hang: PostgreSQL did not commit within hang_timeout: killed
        ",
    );
}

/// `switchover`: one took long to answer, and what the others said then is behind what has been written since.
#[test]
fn who_was_quick_is_asked_once_more() {
    let text =
        "lock a failover a> optime 3000000 | a* primary armed | b replica lsn 50 | c replica mute";
    let (mut view, mut memory) = parse(text);
    memory.request_seen = Some((3, view.now - Span::from_secs(1)));
    let b = view.peers.get_mut(&"b".into()).unwrap();
    (b.asked, b.answered) = (
        view.now - Span::from_millis(900),
        view.now - Span::from_millis(890),
    );
    let again = decide(&view, &memory);
    let [Action::AskPeers(asks), ..] = again.actions.as_slice() else {
        panic!("{:?}", again.actions)
    };
    let names: Vec<_> = asks.iter().map(|ask| ask.member.as_str()).collect();
    assert_eq!(names, ["b"]);
    // What is new and still too little is the end of it.
    let b = view.peers.get_mut(&"b".into()).unwrap();
    (b.asked, b.answered) = (view.now, view.now);
    let over = decide(&view, &memory).why.reason;
    assert!(over.contains("no healthy members found"), "{over}");
}

/// `restart`: a copy that was never started is no primary, whatever its pg_control says; one that was seen at work is.
#[test]
fn a_copy_is_not_started_as_the_primary_that_it_was_copied_from() {
    check_all(
        "
        lock a | a* crashed label | b replica
        => StartStandby, because restart: starting as a standby, to be promoted
        lock a | a* crashed label was_primary | b replica
        => StartPrimary, because restart: starting the crashed primary in place
        ",
    );
}

/// `switchover`.
#[test]
fn a_switchover_asks_first_and_stops_then() {
    check_all(
        r"
        lock a failover a>b | a* primary armed | b replica lsn 50
        => StopFast, because switchover: switchover: demoting myself

        lock a failover a>b | a* primary armed | b replica lsn 50 unasked
        => AskPeers, because switchover: switchover: asking the candidates

        lock a failover a>b | a* primary armed | b replica mute
        => PutFailover, because switchover: switchover: no healthy members found, the request is dropped

        lock a failover >b | a* primary armed | b replica lsn 50
        => StopFast, because switchover: manual failover: demoting myself

        lock a failover a>b | a* primary tl3 armed | b replica tl2 lsn 90
        => PutFailover, because switchover: switchover: no healthy members found, the request is dropped
        ",
    );
}

/// `restart`.
#[test]
fn a_dead_primary_is_started_or_handed_over() {
    check_all(
        r"
        lock a | a* crashed | b replica
        => StartPrimary, because restart: starting the crashed primary in place

        lock a | a* crashed reborn | b replica
        => ReattachLeader, because detached: taking the lock over from the agent before

        lock a handover | a* crashed | b replica lsn 50
        => ReleaseLeader, because restart: stopped PostgreSQL to fail over after a crash

        lock a handover | a* crashed | b replica lsn 50 unasked
        => AskPeers, because restart: PostgreSQL crashed: asking who could take over

        lock a handover | a* crashed | b replica mute
        => StartPrimary, because restart: starting the crashed primary in place

        lock a handover | a* crashed tl3 | b replica tl2 lsn 90
        => StartPrimary, because restart: starting the crashed primary in place

        lock a | a* crashed standby | b replica
        => StartStandby, because restart: starting as a standby, to be promoted

        lock a | a* crashed failed start_primary | b replica
        => nothing, because restart: PostgreSQL failed to start
        ",
    );
}

/// `paused`.
#[test]
fn hands_off_in_pause() {
    check_all(
        r"
        pause lock a | a* primary | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock
        ",
    );
}

/// PostgreSQL has written its last checkpoint and its WAL senders wait for a standby that hangs: they are ended as soon
/// as somebody who may take over has everything; where it is started again, after a while. Not while the archiver lives.
#[test]
fn senders_that_wait_for_a_standby_do_not_hold_up_the_lock() {
    let after = |text: &str, seconds: u64, restarts: bool| {
        let (mut view, mut memory) = parse(text);
        view.local.postmaster = Postmaster::Alive { pid: super::PID };
        memory.senders_since = Some(view.now - Span::from_secs(seconds));
        let restart = restarts.then_some(crate::Restarting {
            number: 1,
            since: view.now,
            timeout: None,
            stopping: true,
            down_since: None,
        });
        memory.restart = restart;
        let decision = decide(&view, &memory);
        let orders: alloc::vec::Vec<_> = decision.actions.iter().map(crate::Action::name).collect();
        assert!(decision.memory.senders_since.is_some());
        alloc::format!("{} because {}", orders.join(" "), decision.why)
    };
    let ends = "lock a | a* down lsn 50 shutdown job stop | b replica lsn 51 | c replica lsn 40";
    assert_eq!(
        after(ends, 0, false),
        "StopKill because shutdown: the agent ends: b has all WAL, ending what is left"
    );
    let behind = "lock a | a* down lsn 50 shutdown job stop | b replica lsn 45 | c replica lsn 40";
    let asks = " because shutdown: the agent ends: asking whether all WAL has arrived";
    for seconds in [1, 50] {
        assert_eq!(after(behind, seconds, false), asks, "rows are at stake");
    }
    let restarts = "lock a | a* down lsn 50 job stop | b replica lsn 51";
    for (seconds, expected) in [
        (
            1,
            "ArmGuard PutMember because starting: restart: WAL senders wait for standbys",
        ),
        (
            5,
            "StopKill because starting: restart: a standby does not receive all WAL, ending what is left",
        ),
    ] {
        assert_eq!(after(restarts, seconds, true), expected);
    }
    let (mut view, memory) = parse(ends);
    view.local.postmaster = Postmaster::Alive { pid: super::PID };
    for archiving in [false, true] {
        view.local.archiving = archiving;
        let decision = decide(&view, &memory);
        assert_eq!(decision.memory.senders_since.is_some(), !archiving);
    }
}

/// A PostgreSQL that hung before it was told to stop gives no more licence than before: else the lock would be kept for it for
/// as long as a stop may take.
#[test]
fn the_stop_of_a_hung_primary_is_no_excuse() {
    use crate::lease::{Excuse, excuse};
    let (mut view, memory) =
        parse("lock a | a* silent was_primary probed 31s job stop | b replica");
    assert_eq!(excuse(&view, &memory), None);
    let until = view.now + view.settings.hang_timeout;
    view.local.probed = Some(view.now - Span::from_secs(29));
    assert_eq!(excuse(&view, &memory), Some(Excuse::LongJob { until }));
}
