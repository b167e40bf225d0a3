//! Who takes a free lock, and when (contract: patroni-ha-rules, sections 2 and 6; Safety 4).

use super::{check_all, parse};
use crate::decide;
use alloc::vec::Vec;
use pgherd_model::Span;

/// `lock_free`: position, priority, tags, lag, timeline, sync.
#[test]
fn the_healthiest_takes_it() {
    check_all(
        r"
        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 40 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        # In recovery for now: it is being promoted, under a lock that somebody has deleted meanwhile.
        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 40 | c replica lsn 40 promoting
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        lock - former c deleted 80 | a* replica lsn 50 from c | b replica lsn 40 | c down words
        => StopReceiving, because lock_free: the lock is free: ending the stream

        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 60 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: Wal position of b is ahead of my wal position

        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 60 mute | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 60 nodog | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 50 prio 2 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b has equally tolerable WAL position and priority 2, while this node has priority 1

        lock - former c deleted 80 | a* replica lsn 50 prio 2 | b replica lsn 50 prio 2 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica lsn 50 | b primary lsn 10 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: Primary (b) is still alive

        lock - former c deleted 80 optime 3000000 | a* replica lsn 50 | b replica lsn 40 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: My wal position exceeds maximum replication lag

        lock - former c deleted 80 history 2 check_timeline | a* replica tl2 lsn 50 | b replica tl3 lsn 40 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: My timeline is behind the cluster's

        lock - former c deleted 80 history 2 check_timeline | a* replica tl3 lsn 40 | b replica tl2 lsn 50 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 sync_mode sync c:b | a* replica lsn 60 | b replica lsn 50 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: not in /sync: a synchronous standby takes over

        lock - former c deleted 80 sync_mode sync c:a | a* replica lsn 50 | b replica lsn 60 prio 9 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica lsn 50 stands_back | b replica lsn 40 | c down words
        => nothing, because lock_free: the others go first

        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 40 unasked | c down words
        => AskPeers, because lock_free: the lock is free: asking the others

        lock - former c deleted 80 asking | a* replica lsn 50 | b replica lsn 40 unasked | c down words
        => nothing, because lock_free: the lock is free: waiting for the others' answers

        lock - | a* replica lsn 50
        => AcquireLeader, because lock_free: no other member is writable; healthiest of 1

        lock - | a* primary lsn 50 | b replica lsn 40
        => AcquireLeader, because lock_free: acquired session lock as a leader

        lock - history 3 | a* primary tl3 lsn 50 | b replica tl4 lsn 40
        => StopKill, because lock_free: running as primary on the old timeline 3: stopped
        ",
    );
}

/// `lock_free`: whoever cannot be guarded takes no lock, and keeps nobody else from it.
#[test]
fn without_a_required_guard_nobody_races() {
    check_all(
        r"
        lock - former c deleted 80 guard_required | a* replica guardfailed 1s | b replica lsn 40 | c down words
        => nothing, because lock_free: the guard is required and cannot be armed: this node does not take the lock

        lock - former c deleted 80 guard_required | a* replica guardfailed 5s | b replica lsn 40 | c down words
        => TryGuard, because lock_free: the guard is required and cannot be armed: this node does not take the lock

        lock - former c deleted 80 | a* replica dog_required dogfailed 1s | b replica lsn 40 | c down words
        => nothing, because lock_free: the watchdog is required and cannot be armed: this node does not take the lock

        # Also when it is named.
        lock - former c deleted 80 guard_required failover c>a | a* replica guardfailed 1s | b replica lsn 40 | c down words
        => nothing, because lock_free: the guard is required and cannot be armed: this node does not take the lock

        lock - former c deleted 80 guard_required failover c>b | a* replica | b replica nodog | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 guard_required failover >b | a* replica | b replica nodog | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica guardfailed 1s | b replica lsn 40 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        ",
    );
}

/// `lock_free` where the longest WAL is not the best.
#[test]
fn a_tail_or_a_voter_alone_does_not_win() {
    check_all(
        r"
        # What was acknowledged on timeline 3 is worth more than a tail that nobody got.
        lock - former c deleted 80 history 2 | a* replica tl2 lsn 50 | b replica tl3 lsn 40 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: these data go to 0/32 on timeline 2, which the cluster left at 0/1: only a failover that names this node gives up what was acknowledged since then

        lock - former c deleted 80 history 2 | a* replica tl3 lsn 40 | b replica tl2 lsn 50 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 history 2 failover >a | a* replica tl2 lsn 50 | b replica tl3 lsn 40 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 history 2 failover c>a | a* replica tl2 lsn 50 | b replica tl3 lsn 40 | c down words
        => PutFailover, because lock_free: switchover to this node: dropped, its leader is lost: these data go to 0/32 on timeline 2, which the cluster left at 0/1: only a failover that names this node gives up what was acknowledged since then

        # A switchover whose leader is lost names nobody who lags more than a failover allows.
        lock - former c deleted 80 optime 3000000 failover c>a | a* replica lsn 50 | b replica lsn 3000000 | c down words
        => PutFailover, because lock_free: switchover to this node: dropped, its leader is lost: My wal position exceeds maximum replication lag

        lock - former c deleted 80 optime 3000000 failover c>a | a replica lsn 50 | b* replica lsn 3000000 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 optime 3000000 failover >a | a* replica lsn 50 | b replica lsn 3000000 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        # In Patroni's quorum mode a commit may have gone to the other voter alone.
        lock - former c deleted 80 sync_mode sync c:a,b/1 | a* replica lsn 50 | b replica mute | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: 0 of the voters in /sync have no more WAL than this node, 1 are needed

        lock - former c deleted 80 sync_mode sync c:a,b/1 | a* replica lsn 50 | b replica lsn 40 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        ",
    );
}

/// `lock_free` with a request in `failover`.
#[test]
fn a_request_changes_who_may() {
    check_all(
        r"
        lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 60 nofailover | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 | a* replica lsn 50 nofailover | b replica lsn 40 | c down words
        => nothing, because lock_free: following a different leader because I am not allowed to promote

        lock - former c deleted 80 failover c>b | a* replica lsn 50 | b replica lsn 40 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b was named to take over

        lock - former c deleted 80 failover c>b | a* replica lsn 50 | b replica lsn 40 mute | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - former c deleted 80 failover c>a | a* replica lsn 50 | b replica lsn 60 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3

        lock - failover c> | c* replica lsn 50 prio 3 | a replica lsn 50 | b replica lsn 40
        => nothing, because lock_free: following a different leader because i am not the healthiest node: this node gave up the lock for another one

        lock - failover c> | a* replica lsn 50 | b replica lsn 50 | c replica lsn 50 prio 3
        => AcquireLeader, because lock_free: no other member is writable; healthiest of 3

        lock - failover c> | c* replica lsn 50 | a replica lsn 40 | b replica lsn 40
        => AcquireLeader, because lock_free: no other member is writable; healthiest of 3
        ",
    );
}

/// `lock_free`: released, answered, ran out, vanished early, never seen.
#[test]
fn not_before_the_former_leader_is_known_not_to_write() {
    check_all(
        r"
        lock - former c free 3 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        lock - former c free 20 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => AcquireLeader, because lock_free: a full lease has passed since the lock of c vanished; healthiest of 3

        lock - former c free 3 | a* replica lsn 50 | b replica lsn 40 | c replica lsn 50
        => AcquireLeader, because lock_free: c answers that it is not writable; healthiest of 3

        lock - former c free 3 | a* replica lsn 50 | b replica lsn 40 | c primary lsn 50
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        lock - former c free 1 renewed_before 81 looked 97 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => AcquireLeader, because lock_free: the lease of c ran out; healthiest of 3

        lock - former c free 1 renewed_before 84 looked 99 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => nothing, because lock_free: the lease of c has run out, its processes end

        lock - former c deleted 95 free 3 | a* replica lsn 50 | b replica lsn 40 | c down words mute
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        # An election of etcd, on which whoever cannot renew may have counted, begins the wait anew.
        lock - former c free 20 elected 3 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        lock - former c free 30 elected 20 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => AcquireLeader, because lock_free: a full lease has passed since the lock of c vanished; healthiest of 3

        # And there must have been none until it was too late for one.
        lock - former c free 20 proved 6 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => nothing, because lock_free: the lock of c vanished early and it may still be writable

        lock - former c free 20 proved 5 | a* replica lsn 50 | b replica lsn 40 | c primary mute
        => AcquireLeader, because lock_free: a full lease has passed since the lock of c vanished; healthiest of 3

        lock - up 30 elected 3 | a* replica lsn 50 | b replica lsn 40 mute
        => nothing, because lock_free: b may have held the lock before this agent started

        lock - up 3 | a* replica lsn 50 | b replica lsn 40 mute
        => nothing, because lock_free: b may have held the lock before this agent started

        lock - up 30 | a* replica lsn 50 | b replica lsn 40 mute
        => AcquireLeader, because lock_free: a full lease has passed without a lock; healthiest of 2
        ",
    );
}

/// Whoever has seen nothing for as long as a lease lives, without having noticed it, does not know
/// who led last: what the last one known says does not count.
#[test]
fn an_agent_that_was_stopped_does_not_know_the_former_leader() {
    let text =
        "lock - former c deleted 80 | a* replica lsn 50 | b replica lsn 40 mute | c down words";
    for (seconds, known) in [(17, true), (18, false)] {
        let (view, mut memory) = super::parse(text);
        memory.heard = Some(view.now - Span::from_secs(seconds));
        let decision = crate::decide(&view, &memory);
        assert_eq!(decision.memory.former.is_some(), known, "{seconds} s");
        assert_eq!(decision.memory.heard, Some(view.now));
        let takes = decision
            .actions
            .iter()
            .any(|it| it.name() == "AcquireLeader");
        assert_eq!(takes, known, "{seconds} s");
    }
}

/// The lock of the last holder that was seen ended long ago, or another one held it since: a look shows only how
/// it ended.
#[test]
fn a_holder_that_came_and_went_between_two_looks_is_not_overlooked() {
    check_all(
        "
        lock - former c deleted 80 ended 4 | a* replica lsn 50 | b replica lsn 40 mute | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        lock - former c deleted 80 ended 5 | a* replica lsn 50 | b replica lsn 40 mute | c down words
        => nothing, because lock_free: b may have held the lock before this agent started
        ",
    );
}

/// Whoever was silent while the leader seemed to be gone, by its stream or by its lease, is not waited for once more
/// when the lock goes; and is asked again before that silence is too old to count.
#[test]
fn silence_of_before_counts_for_the_race() {
    let asks = |decision: &crate::Decision| {
        let mut names = decision.actions.iter().map(crate::Action::name);
        names.any(|name| name == "AskPeers")
    };
    let ago = |view: &crate::View, ms| view.now - Span::from_millis(ms);
    for (suspect, asked, again) in [(2000, 1500, false), (2000, 2500, true), (9000, 5500, true)] {
        let text = "lock - former c free 0 | a* replica lsn 50 | c primary mute";
        let (mut view, mut memory) = super::parse(text);
        memory.lease_stale = Some(ago(&view, suspect));
        let at = ago(&view, asked);
        view.peers.values_mut().for_each(|fact| fact.asked = at);
        assert_eq!(
            asks(&crate::decide(&view, &memory)),
            again,
            "free, {asked} ms"
        );
    }
    for (asked, again) in [(1500, false), (2900, false), (3000, true)] {
        let text = "lock c | a* replica from c broken lsn 50 | c primary mute";
        let (mut view, mut memory) = super::parse(text);
        memory.stream_broken = Some(ago(&view, 9000));
        let at = ago(&view, asked);
        view.peers.values_mut().for_each(|fact| fact.asked = at);
        assert_eq!(
            asks(&crate::decide(&view, &memory)),
            again,
            "held, {asked} ms"
        );
    }
}

/// An agent whose PostgreSQL hangs takes longer than an answer is good for to say so: it counts from when it came, or
/// nobody would ever take over beside it.
#[test]
fn a_slow_answer_counts() {
    for (answered, takes) in [(100, true), (1000, false)] {
        let text = "lock - former c free 20 | a* replica lsn 50 | b replica lsn 40 | c down words";
        let (mut view, memory) = super::parse(text);
        for fact in view.peers.values_mut() {
            fact.asked = view.now - Span::from_millis(answered + 1200);
            fact.answered = view.now - Span::from_millis(answered);
        }
        let decision = crate::decide(&view, &memory);
        let mut names = decision.actions.iter().map(crate::Action::name);
        assert_eq!(
            names.any(|name| name == "AcquireLeader"),
            takes,
            "{}",
            decision.why
        );
    }
}

/// What happened before a read is not seen by it: only the end of the former holder's own lock tells that nobody had it
/// since. The watch may tell that later.
#[test]
fn one_must_know_whose_lock_ended() {
    let at = |ended: &str| {
        let text = alloc::format!(
            "lock - former c deleted 80 {ended} | a* replica lsn 50 | b replica lsn 40 mute | c down words"
        );
        super::parse(&text)
    };
    let (view, mut memory) = at("");
    memory.free_since = None;
    let unsure = decide(&view, &memory);
    let reason = &unsure.why.reason;
    assert!(reason.starts_with("b may have held the lock"), "{reason}");
    let told = decide(&at("ended 4").0, &unsure.memory).why.reason;
    assert!(told.starts_with("c released the lock"), "{told}");
    let stranger = decide(&at("ended 5").0, &unsure.memory);
    assert!(stranger.memory.former.is_none());
}

/// A leader hands over to nobody who does not see its lock, and nobody waits for ever for one that was named.
#[test]
fn who_does_not_see_the_lock_service_takes_no_lock() {
    check_all(
        "
        lock a failover a>b | a* primary armed | b replica lsn 50 unlocked
        => nothing, because switchover: switchover: b does not see the leader's lock yet
        lock a failover a>b | a* primary armed | b replica lsn 50
        => StopFast, because switchover: switchover: demoting myself
        lock - former c deleted 80 free 3 failover c>b | a* replica lsn 50 | b replica lsn 50 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b was named to take over
        lock - former c deleted 80 free 20 failover c>b | a* replica lsn 50 | b replica lsn 50 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        ",
    );
}

/// A person named somebody who is gone: that gives up no rows.
#[test]
fn a_failover_to_somebody_who_is_gone_allows_no_lag() {
    check_all(
        "
        lock - former c deleted 80 optime 5000000 failover >d | a* replica lsn 50 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: My wal position exceeds maximum replication lag
        lock - former c deleted 80 optime 5000000 failover >a | a* replica lsn 50 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 2
        ",
    );
}

/// An agent that never saw a holder of the lock: also a member whose key goes before it has answered may have been it.
#[test]
fn who_has_vanished_unheard_may_have_held_the_lock() {
    let (view, memory) = parse("lock - up 5 | a* replica | b replica | c replica mute");
    let before = decide(&view, &memory);
    assert!(
        before.why.reason.starts_with("c may have held the lock"),
        "{}",
        before.why
    );
    let (view, _) = parse("lock - up 5 | a* replica | b replica");
    let after = decide(&view, &before.memory);
    assert!(
        after.why.reason.starts_with("c may have held the lock"),
        "{}",
        after.why
    );
    let fresh = decide(&view, &memory);
    assert!(
        fresh.why.reason.starts_with("no other member is writable"),
        "{}",
        fresh.why
    );
}

/// One that was known to lead, and has lost its member key in an outage, is waited for like one that was only met.
#[test]
fn who_led_before_an_outage_may_still_write() {
    let (view, memory) = parse("unreachable lock c | a* replica | b replica | c primary mute");
    let led = parse("lock c | a* replica from c | b replica | c primary");
    let memory = decide(&led.0, &memory).memory;
    let blind = decide(&view, &memory).memory;
    let (mut view, _) = parse("lock - | a* replica | b replica");
    view.now = view.now + Span::from_secs(40);
    let back = decide(&view, &blind);
    assert!(back.memory.former.is_none());
    assert!(
        back.memory.met.contains(&"c".into()),
        "{:?}",
        back.memory.met
    );
}

/// `lease_ttl` was raised: the lock may have moved to a longer lease before it went.
#[test]
fn a_lock_may_have_gone_with_a_longer_lease() {
    let text = "lock - former c free 6 renewed_before 80 looked 99 | a* replica lsn 50 | b replica lsn 40 | c primary mute";
    let (mut view, mut memory) = parse(text);
    let former = memory.former.as_mut().unwrap();
    (former.length, former.lease_ttl) = (Span::from_secs(5), Span::from_secs(5));
    view.settings.lease_ttl = Span::from_secs(5);
    let short = decide(&view, &memory).why.reason;
    assert!(short.starts_with("the lease of c ran out"), "{short}");
    view.settings.lease_ttl = Span::from_secs(20);
    let long = decide(&view, &memory).why.reason;
    assert!(long.starts_with("the lock of c vanished early"), "{long}");
}

/// A promotion that failed may still be carried out: the guard stays armed, and nobody is told that PostgreSQL cannot
/// write.
#[test]
fn who_failed_to_be_promoted_may_still_write() {
    let text = "lock - former c deleted 80 | a* replica lsn 50 armed failed promote | b replica lsn 40 unasked";
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    let names: Vec<&str> = decision.actions.iter().map(crate::Action::name).collect();
    assert_eq!(names, ["StopKill"], "{}", decision.why);
    let role = crate::describe(&view, &decision.memory).role;
    assert_eq!(role, Some(pgherd_model::Role::Promoted));
}

/// Where a timeline was left is where the earliest one after it was left too.
#[test]
fn data_that_a_later_timeline_left_behind_were_left() {
    check_all(
        "
        lock - former c deleted 80 history 1@60,2@40 | a* replica lsn 50 | b replica lsn 30 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: these data go to 0/32 on timeline 1, which the cluster left at 0/28: only a failover that names this node gives up what was acknowledged since then
        lock - former c deleted 80 history 1@60,2@70 | a* replica lsn 50 | b replica lsn 30 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        ",
    );
}

/// In quorum mode votes make up for copies; not where the leader ended in order and this node has its last checkpoint.
#[test]
fn votes_are_needed_unless_the_leader_said_where_it_ended() {
    check_all(
        "
        lock - former c deleted 90 quorum_mode sync c:a,b/1 | a* replica lsn 50 | b replica lsn 40 | c down words
        => AcquireLeader, because lock_free: c released the lock; healthiest of 3
        lock - former c deleted 90 quorum_mode sync c:a,b/1 | a* replica lsn 50 | b replica mute | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: 0 of the voters in /sync have no more WAL than this node, 1 are needed
        lock - former c deleted 90 quorum_mode sync c:a,b/1 failover c>a | a* replica lsn 50 | b replica unasked | c down words
        => AskPeers, because lock_free: the lock is free: asking the others
        lock - former c deleted 90 quorum_mode sync c:b/0 | a* replica lsn 50 | b replica lsn 40 | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: not in /sync: a synchronous standby takes over
        ",
    );
    let text = "lock - former c deleted 90 optime 49 quorum_mode sync c:a,b/1 failover c>a | a* replica lsn 50 | b replica unasked | c down words";
    let (mut view, memory) = parse(text);
    let asks = decide(&view, &memory).why.reason;
    assert!(asks.contains("asking the others"), "{asks}");
    let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.status.as_mut().unwrap().revision = 90;
    let takes = decide(&view, &memory).why.reason;
    assert!(takes.starts_with("c released the lock"), "{takes}");
}

/// What a voter said while the lock was held is no vote: it may have received more since, also where its key has gone.
#[test]
fn an_old_answer_is_no_vote() {
    let text = "lock - former c deleted 90 quorum_mode sync c:a,b/1 | a* replica lsn 50 | b replica lsn 40 | c down words";
    let (mut view, memory) = parse(text);
    let takes = decide(&view, &memory).why.reason;
    assert!(takes.starts_with("c released the lock"), "{takes}");
    let fact = view.peers.get_mut(&"b".into()).unwrap();
    fact.asked = view.now - Span::from_secs(3);
    let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.members.remove(&"b".into());
    let waits = decide(&view, &memory).why.reason;
    assert!(waits.contains("0 of the voters"), "{waits}");
}

/// Silence from before the lock was free: who is back by now may have more.
#[test]
fn who_was_silent_before_is_asked_once_more() {
    let text = "lock - former c deleted 80 | a* replica lsn 50 | b replica mute | c down words";
    let (mut view, memory) = parse(text);
    view.peers.get_mut(&"b".into()).unwrap().asked = view.now - Span::from_secs(1);
    let decision = decide(&view, &memory);
    let [crate::Action::AskPeers(asks), ..] = decision.actions.as_slice() else {
        panic!("{:?}", decision.actions)
    };
    let asked: Vec<_> = asks
        .iter()
        .map(|ask| (ask.member.as_str(), ask.timeout))
        .collect();
    assert_eq!(asked, [("b", Span::from_millis(200))]);
}

/// A primary whose lock went asks before it takes it again.
#[test]
fn a_primary_without_lock_asks_whether_somebody_was_promoted() {
    check_all(
        "
        lock - | a* primary tl2 lsn 50 | b replica unasked
        => AskPeers, because lock_free: running as primary without the lock: asking the others
        lock - asking | a* primary tl2 lsn 50 | b replica unasked
        => nothing, because lock_free: running as primary without the lock: waiting for the others' answers
        # Its lease runs out meanwhile: nobody is waited for any longer.
        lock - free 1 asking | a* primary tl2 lsn 50 | b replica unasked
        => AcquireLeader, because lock_free: acquired session lock as a leader
        lock - | a* primary tl2 lsn 50 | b primary tl3
        => StopKill, because lock_free: running as primary on timeline 2, and b on 3: stopped
        lock - | a* primary tl3 lsn 50 | b primary tl2
        => AcquireLeader, because lock_free: acquired session lock as a leader
        lock - | a* primary tl3 lsn 50 | b primary tl3 mute
        => AcquireLeader, because lock_free: acquired session lock as a leader
        lock - pause history 2 | a* primary tl2 lsn 50 | b replica tl3
        => nothing, because paused: PAUSE: primary on the old timeline 2, which the cluster has left: the lock is not taken; to let it lead all the same remove the key /service/demo/history
        lock - pause | a* primary tl2 lsn 50 | b primary tl3
        => nothing, because paused: PAUSE: the lock is left to b, which is primary on timeline 3
        ",
    );
}

/// A node that is down and calls itself primary is about to be started as one.
#[test]
fn a_stopped_primary_may_become_writable() {
    let text = "lock - former c free 0 | a* replica lsn 50 | c down";
    let (mut view, memory) = parse(text);
    let role = |view: &mut crate::View, role| {
        let fact = view.peers.get_mut(&"c".into()).unwrap();
        fact.answer.as_mut().unwrap().role = Some(role);
    };
    role(&mut view, pgherd_model::Role::Replica);
    let safe = decide(&view, &memory).why.reason;
    assert!(
        safe.starts_with("c answers that it is not writable"),
        "{safe}"
    );
    role(&mut view, pgherd_model::Role::Primary);
    let waits = decide(&view, &memory).why.reason;
    assert!(waits.contains("may still be writable"), "{waits}");
}
