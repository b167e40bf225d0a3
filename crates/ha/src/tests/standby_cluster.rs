//! A cluster that is a copy of another one, `far`: `standby_cluster`, and what other rules and duties do there.

use super::{answer, check_all, decide, parse};
use crate::{Action, Demotion, describe};
use alloc::vec::Vec;
use pgherd_model::{Op, Role, Span};

/// `standby_cluster`, `lock_held`, `guard`.
#[test]
fn whoever_leads_it_follows_and_is_not_promoted() {
    check_all(
        r"
        lock a far | a* replica | b replica
        => SetUpstream, because lock_held: following the remote primary from far:5432

        lock a far | a* replica from far | b replica
        => nothing, because lock_held: no action. I am (a), the standby leader with the lock

        # It writes nothing that would have to be stopped when its lock goes.
        lock a far guard_required | a* replica from far armed | b replica
        => DisarmGuard, because lock_held: no action. I am (a), the standby leader with the lock

        lock a far pause | a* replica from far | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the standby leader with the lock

        lock a far pause | a* replica from b | b replica
        => SetUpstream, because paused: PAUSE: following the remote primary from far:5432

        # It is one no more.
        lock a | a* replica from far | b replica
        => ArmGuard, because lock_held: arming the guard before the promotion

        lock a | a* replica from far armed | b replica
        => Promote, because lock_held: the lock is held: promoting PostgreSQL
        ",
    );
}

/// `standby_cluster`, `restart`.
#[test]
fn a_primary_becomes_its_leader_in_order() {
    check_all(
        r"
        lock a far | a* primary armed | b replica
        => StopFast, because standby_cluster: standby_cluster is configured: demoting myself to be its standby leader

        lock a far | a* primary armed job stop | b replica
        => nothing, because starting: updated leader lock, stopping PostgreSQL is in progress

        lock a far | a* down | b replica
        => StartStandby, because restart: starting as the standby leader

        # Where its WAL ends is to be known, as wherever a primary comes back as a standby.
        lock a far | a* crashed was_primary | b replica
        => CrashRecovery, because restart: crash recovery before the start as a secondary

        lock a far | a* crashed failed recovery | b replica
        => StartStandby, because restart: starting as the standby leader

        lock a far | a* down standby | b replica
        => StartStandby, because restart: starting as the standby leader

        # People decide in a pause.
        lock a far pause | a* primary | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock
        ",
    );
}

/// `switchover`: one that fails ends as that, too.
#[test]
fn a_switchover_that_fails_takes_no_primary_back() {
    let (view, mut memory) = parse("lock a far | a* down lsn 50 | b replica lsn 40");
    memory.demotion = Some(Demotion {
        since: view.now - Span::from_secs(20),
        request: None,
        candidate: None,
        manual: false,
        word: "switchover".into(),
        down_since: Some(view.now - Span::from_secs(10)),
        taking_back: None,
    });
    let decision = decide(&view, &memory);
    assert_eq!(
        alloc::format!("{}", decision.why),
        "restart: starting as the standby leader"
    );
    assert_eq!(decision.memory.demotion, None);
}

/// `follow`, `switchover`, `request`.
#[test]
fn its_members_follow_and_relieve_its_leader() {
    check_all(
        r"
        lock b far | a* replica | b replica led
        => SetUpstream, because follow: following b from b:5432

        lock b far | a* replica from b | b replica led
        => nothing, because follow: no action. I am (a), a secondary, and following a leader (b)

        # It has just taken the lock.
        lock b far | a* replica from b | b replica
        => nothing, because follow: waiting for b to run as primary

        # The primary of before: its timeline is the one that all are on.
        lock b far | a* down | b replica led
        => StartStandby, because follow: starting as a secondary

        lock a far failover a>b | a* replica from far | b replica from a
        => ReleaseLeader, because switchover: switchover: b is to be the standby leader, Leader key released

        lock a far failover >b | a* replica from far | b replica from a
        => ReleaseLeader, because switchover: manual failover: b is to be the standby leader, Leader key released

        lock a far failover b>a | a* replica from far | b replica led
        => PutFailover, because lock_held: no action. I am (a), the standby leader with the lock
        ",
    );
}

/// `bootstrap`, `identity`.
#[test]
fn it_begins_as_a_copy() {
    check_all(
        r"
        lock - far initialize none | a* empty
        => PutInitialize, because bootstrap: trying to bootstrap a new cluster

        lock - far initialize underway | a* empty claimed
        => Clone, because bootstrap: trying to bootstrap from the remote primary far:5432

        lock - far initialize underway | a* unfinished claimed failed clone
        => nothing, because bootstrap: copying failed, the next try is due soon

        lock - far initialize underway | a* down claimed label
        => PutInitialize + AcquireLeader, because bootstrap: initialized a new standby cluster

        lock a far | a* down label | b empty
        => StartStandby, because restart: starting as the standby leader

        lock b far | a* empty | b replica led
        => Clone, because bootstrap: trying to bootstrap from leader 'b'

        # All keys are gone: no primary will put them back.
        lock - far initialize none | a* replica
        => PutInitialize, because identity: claimed the cluster for the data found here
        ",
    );
}

/// `lock_free`: what is safe to believe of whoever led before.
#[test]
fn its_leader_of_before_may_be_promoted_once_it_is_one_no_more() {
    let race = |far: &str| {
        answer(&alloc::format!(
            "lock - {far} former b free 1s | a* replica | b replica led"
        ))
    };
    assert_eq!(
        race("far"),
        "AcquireLeader, because lock_free: b answers that it is not writable; healthiest of 2"
    );
    assert_eq!(
        race(""),
        "nothing, because lock_free: the lock of b vanished early and it may still be writable"
    );
}

/// `lock_free`: whoever leads a copy is not killed by a guard when its lease runs out.
#[test]
fn a_lease_that_ran_out_before_proves_nothing_once_it_is_no_copy() {
    let race = |words: &str| {
        answer(&alloc::format!(
            "now 100s lock - {words} former b free 1s renewed_before 80s looked 96s | a* replica | b replica mute"
        ))
    };
    let taken = "AcquireLeader, because lock_free: the lease of b ran out; healthiest of 2";
    assert_eq!(race(""), taken);
    assert_eq!(race("far copy 1"), taken);
    assert_eq!(
        race("copy 1"),
        "nothing, because lock_free: the lock of b vanished early and it may still be writable"
    );
}

/// `lock_free`: `history` tells of timelines that were this cluster's own, at another time.
#[test]
fn a_history_of_its_own_says_nothing_there() {
    check_all(
        r"
        lock - far former b free 1s history 1@40 check_timeline | a* replica lsn 50 | b replica led lsn 45
        => AcquireLeader, because lock_free: b answers that it is not writable; healthiest of 2
        ",
    );
}

/// `member`, `status`: what others learn of it.
#[test]
fn its_leader_says_what_it_is() {
    for (text, role) in [
        ("lock a far | a* replica | b replica", Role::StandbyLeader),
        (
            "lock a far | a* down standby | b replica",
            Role::StandbyLeader,
        ),
        ("lock a far | a* primary | b replica", Role::Primary),
        (
            "lock a far | a* replica job promote | b replica",
            Role::Promoted,
        ),
        ("lock a | a* replica | b replica", Role::Promoted),
        ("lock b far | a* replica | b replica led", Role::Replica),
    ] {
        let (view, memory) = parse(text);
        assert_eq!(describe(&view, &memory).role, Some(role), "{text}");
    }
    let (view, memory) = parse("lock a far | a* replica from far lsn 50 | b replica");
    let actions = decide(&view, &memory).actions;
    let optimes: Vec<u64> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Store(Op::PutStatus { status, .. }) => Some(status.optime.0),
            _ => None,
        })
        .collect();
    assert_eq!(optimes, [50]);
}
