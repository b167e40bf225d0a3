//! `paused`: hands off, but for a switchover to a named member (contract: patroni-ha-rules, section
//! 13).

use super::{check_all, *};
use crate::Action;

/// `paused`: the lock is for a primary of this cluster, and a request needs a name.
#[test]
fn a_paused_cluster_keeps_to_its_own() {
    let other = "system ID mismatch, node a belongs to a different cluster: 2 != 1: 2 is the identifier of the cluster in etcd, 1 that of the data in /data. Nothing there was changed. Set postgresql.data_dir to data of this cluster or to an empty directory, or scope and namespace to the cluster that the data belong to";
    check_all(&format!(
        r"
        lock - pause initialize other | a* primary | b replica
        => nothing, because paused: PAUSE: {other}

        lock a pause initialize other | a* primary | b replica
        => ReleaseLeader, because paused: PAUSE: {other}

        lock - pause initialize other failover >b | a* replica | b replica
        => nothing, because paused: PAUSE: {other}

        lock - pause initialize underway | a* primary | b replica
        => AcquireLeader, because paused: PAUSE: acquired session lock as a leader

        lock a pause initialize none | a* primary | b replica
        => PutInitialize, because paused: PAUSE: repaired `initialize`

        lock a pause failover a> | a* primary | b replica
        => PutFailover, because paused: PAUSE: switchover is possible only to a specific candidate in a paused state

        lock a pause failover a> at +30 | a* primary | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock

        lock b pause failover b> | a* replica from b | b primary
        => nothing, because paused: PAUSE: no action. I am (a), a secondary, and following a leader (b)

        lock b pause fork b:1@60 | a* replica from c | b primary tl2
        => SetUpstream, because paused: PAUSE: following b from b:5432

        # What went another way is left as it is.
        lock b pause fork b:1@40 rewind remove | a* replica from c | b primary tl2
        => nothing, because paused: PAUSE: local WAL goes to 0/32 on timeline 1, but timeline 2 forked off at 0/28

        lock b pause fork b:1@40 remove | a* replica tl2 from c past 1@45 | b primary tl2
        => nothing, because paused: PAUSE: timeline 2 is not that of b: timeline 1 ended at 0/2D here, timeline 1 ended at 0/28 there

        # Whoever is not named stands back, whatever becomes of the one who is.
        lock - pause former c deleted 80 failover >b | a* replica | b replica mute | c down words
        => nothing, because lock_free: following a different leader because i am not the healthiest node: b was named to take over

        # Nobody else is touched: a primary without the lock, a standby that somebody has stopped.
        lock b pause failover b>c | a* primary | b primary | c replica
        => nothing, because paused: PAUSE: no action. I am (a)

        lock - pause failover c>b | a* down standby | b replica | c down
        => nothing, because paused: PAUSE: no action. I am (a)

        lock - pause failover c>b | a* primary | b replica | c down
        => AcquireLeader, because paused: PAUSE: acquired session lock as a leader
        "
    ));
}

/// The release of a lock says nothing about a PostgreSQL that goes on.
#[test]
fn a_running_primary_of_another_cluster_has_no_last_words() {
    let (view, memory) = parse("lock a pause initialize other | a* primary | b replica");
    let release = Op::ReleaseLeader {
        create_revision: 5,
        mod_revision: 5,
        status: None,
        member: None,
    };
    assert_eq!(decide(&view, &memory).actions, [Action::Store(release)]);
}

/// `paused`: a switchover that was begun before the pause, and whose lock has gone meanwhile.
#[test]
fn a_pause_does_not_keep_down_what_a_switchover_stopped() {
    let (view, memory) = parse("lock a failover a> | a* primary armed | b replica lsn 51");
    let begun = decide(&view, &memory);
    assert!(begun.memory.rejoins, "{}", begun.why);
    let (down, _) = parse("lock - pause failover a> | a* crashed standby | b replica lsn 51");
    let back = decide(&down, &begun.memory);
    let starts = |action: &Action| action.name() == "StartStandby";
    assert!(back.actions.iter().any(starts), "{}", back.why);
    // It is primary again: nothing is left of it.
    let (primary, _) = parse("lock a pause | a* primary | b replica");
    let memory = Memory {
        demotion: None,
        ..begun.memory
    };
    assert!(!decide(&primary, &memory).memory.rejoins);
}

/// `paused`: a switchover takes PostgreSQL down and brings it back.
#[test]
fn a_switchover_in_a_pause_ends_with_a_standby() {
    let names = |decision: &crate::Decision| {
        let names = decision.actions.iter().map(Action::name);
        names
            .filter(|name| !NOISE.contains(name))
            .collect::<Vec<_>>()
    };
    let (view, memory) = parse("lock a pause failover a>b | a* primary armed | b replica lsn 51");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    let (down, _) = parse("lock a pause failover a>b | a* down | b replica lsn 51");
    let released = decide(&down, &begun.memory);
    assert_eq!(names(&released), ["ReleaseLeader"], "{}", released.why);
    let (taken, _) = parse("lock b pause fork b:1@51 | a* down | b primary tl2");
    let back = decide(&taken, &released.memory);
    assert_eq!(names(&back), ["StartStandby"], "{}", back.why);
    let (standby, _) = parse("lock b pause | a* replica from b tl2 | b primary tl2");
    let there = decide(&standby, &back.memory);
    assert_eq!(there.why.rule, "paused", "{}", there.why);
    // From then on it is left alone.
    let (stopped, _) = parse("lock b pause | a* down standby | b primary tl2");
    let left = decide(&stopped, &there.memory);
    assert_eq!(names(&left), Vec::<&str>::new(), "{}", left.why);
    assert_eq!(left.why.rule, "paused");
}
