//! How a node comes into the cluster, and back into it: `bootstrap`, `identity`, `rewind`,
//! `follow`.

use super::*;

/// `bootstrap`.
#[test]
fn no_data_yet() {
    check_all(
        r"
        lock - initialize none | a* empty | b empty
        => PutInitialize, because bootstrap: trying to bootstrap a new cluster

        lock - initialize none | a* empty poor | b empty
        => nothing, because bootstrap: waiting for leader to bootstrap

        lock - initialize none | a* empty nofailover | b empty
        => nothing, because bootstrap: waiting for leader to bootstrap

        lock - initialize underway | a* empty claimed | b empty
        => Bootstrap, because bootstrap: bootstrap in progress

        lock - initialize underway | a* empty | b empty
        => nothing, because bootstrap: another node is creating the cluster

        lock - initialize underway | a* empty claimed failed bootstrap | b empty
        => DeleteInitialize + Exit, because bootstrap: failed to bootstrap the cluster: broken

        lock - initialize underway noconfig | a* primary claimed bootstrapped | b empty
        => PutInitialize + PutConfig + AcquireLeader, because bootstrap: initialized a new cluster

        # What somebody stored before is the configuration.
        lock - initialize underway | a* primary claimed bootstrapped | b empty
        => PutInitialize + AcquireLeader, because bootstrap: initialized a new cluster

        lock - initialize none | a* primary claimed bootstrapped | b empty
        => Exit, because bootstrap: `initialize` was changed while this node created the cluster

        lock - | a* empty | b replica
        => nothing, because bootstrap: waiting for leader to bootstrap

        lock b | a* empty | b primary
        => Clone, because bootstrap: trying to bootstrap from leader 'b'

        lock b | a* crashed standby done clone | b primary tl1
        => StartStandby, because follow: bootstrapped from leader 'b': starting as a secondary

        lock b | a* empty failed clone | b primary
        => nothing, because bootstrap: copying failed, the next try is due soon

        # A removal that failed half-way: a copy makes up for it, and nothing is started.
        lock b | a* unfinished failed removal | b primary
        => nothing, because bootstrap: copying failed, the next try is due soon

        lock b | a* unfinished | b primary
        => Clone, because bootstrap: trying to bootstrap from leader 'b'

        lock b | a* unfinished failed removal | b down
        => nothing, because bootstrap: copying failed, the next try is due soon

        lock - | a* unfinished | b replica
        => nothing, because bootstrap: waiting for leader to bootstrap

        lock a | a* unfinished | b replica
        => ReleaseLeader, because bootstrap: released the lock: there is no data here

        lock b | a* empty | b down
        => nothing, because bootstrap: waiting for b to run before copying it

        lock a | a* empty | b replica
        => ReleaseLeader, because bootstrap: released the lock: there is no data here

        lock a | a* unusable | b replica
        => ReleaseLeader, because bootstrap: data directory unusable: not ours
        ",
    );
}

/// `identity`.
#[test]
fn data_and_cluster_belong_together() {
    check_all(
        r"
        lock b initialize other | a* replica | b primary
        => Exit, because identity: system ID mismatch, node a belongs to a different cluster: 2 != 1: 2 is the identifier of the cluster in etcd, 1 that of the data in /data. Nothing there was changed. Set postgresql.data_dir to data of this cluster or to an empty directory, or scope and namespace to the cluster that the data belong to

        lock a initialize none | a* primary armed | b replica
        => PutInitialize, because identity: repaired `initialize`

        lock - initialize none | a* replica | b replica
        => nothing, because identity: neither a leader nor `initialize`: waiting for the leader

        lock - initialize none | a* down | b empty
        => PutInitialize, because identity: claimed the cluster for the data found here
        ",
    );
}

/// `fence` and `starting` leave alone what runs on another cluster's data, `identity` ends the agent.
#[test]
fn a_primary_of_another_cluster_is_left_running() {
    for state in ["primary", "silent", "leftovers", "down"] {
        for lock in ["b", "-"] {
            let text = format!("lock {lock} initialize other | a* {state} | b primary");
            let (view, mut memory) = parse(&text);
            let decision = decide(&view, &memory);
            assert_eq!(decision.why.rule, "identity", "{text}: {}", decision.why);
            let names: Vec<_> = decision.actions.iter().map(crate::Action::name).collect();
            assert_eq!(names, ["Exit"], "{text}: {}", decision.why);
            if (state, lock) == ("primary", "b") {
                // What it has made itself beside the cluster of others must not run.
                let mut making = view.clone();
                making.orders.bootstrap_claim = Some(1);
                let made = decide(&making, &memory);
                assert_eq!(made.why.rule, "fence", "{}", made.why);
            }
            // Its own primary is not foreign because somebody has changed `initialize`.
            memory.attached_term = Some(1);
            let led = decide(&view, &memory);
            if (state, lock) == ("primary", "b") {
                assert_eq!(led.why.rule, "fence", "{}", led.why);
            }
        }
    }
}

/// `follow`.
#[test]
fn a_standby_follows() {
    check_all(
        r"
        lock b | a* down lsn 40 | b primary tl1
        => nothing, because rewind: timeline 1 was made here and, another one of that number, by b; pg_rewind is not possible (by the numbers of their timelines it cannot tell where the two parted) and remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of b stop the agent, empty /data and start it, or set postgresql.remove_data_directory_on_diverged_timelines

        lock b fork b:1@45 | a* down lsn 40 | b primary tl2
        => StartStandby, because follow: starting as a secondary

        lock b fork b:1@45 | a* replica lsn 40 from c | b primary tl2
        => SetUpstream, because follow: following b from b:5432

        lock b | a* replica from b | b primary
        => nothing, because follow: no action. I am (a), a secondary, and following a leader (b)

        lock b | a* replica from b broken | b primary
        => SetUpstream, because follow: no action. I am (a), a secondary, and following a leader (b), not streaming yet

        lock b | a* replica | b down
        => nothing, because follow: waiting for b to run as primary

        lock - | a* down | b replica
        => StartStandby, because follow: starting as a secondary
        ",
    );
}

/// `rewind`.
#[test]
fn the_true_cause_is_told_where_pg_rewind_is_not_possible() {
    check_all(
        r"
        lock b fork b:1@45 rewind | a* down lsn 45 plain | b primary tl2
        => nothing, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D; pg_rewind is not possible (these data have neither data checksums nor wal_log_hints) and remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of b stop the agent, empty /data and start it, or set postgresql.remove_data_directory_on_diverged_timelines

        lock b fork b:1@45 | a* down lsn 45 plain | b primary tl2
        => nothing, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D; pg_rewind is not possible (use_pg_rewind is off, and these data have neither data checksums nor wal_log_hints) and remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of b stop the agent, empty /data and start it, or set postgresql.remove_data_directory_on_diverged_timelines

        lock b rewind | a* down lsn 40 | b primary tl1
        => nothing, because rewind: timeline 1 was made here and, another one of that number, by b; pg_rewind is not possible (by the numbers of their timelines it cannot tell where the two parted) and remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of b stop the agent, empty /data and start it, or set postgresql.remove_data_directory_on_diverged_timelines
        ",
    );
}

/// `rewind`.
#[test]
fn data_that_went_another_way_are_never_started() {
    check_all(
        r"
        lock b | a* down lsn 40 | b primary tl2
        => AskHistory, because rewind: reading the timeline history of b

        lock b fork b:1@45 | a* down lsn 45 | b primary tl2
        => nothing, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D; pg_rewind is not possible (use_pg_rewind is off) and remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of b stop the agent, empty /data and start it, or set postgresql.remove_data_directory_on_diverged_timelines

        lock b fork b:1@45 rewind | a* down lsn 45 | b primary tl2
        => Rewind, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D: running pg_rewind from b

        lock b fork b:1@45 rewind | a* down lsn 45 | b primary tl2 unchecked
        => nothing, because rewind: waiting for the checkpoint of b after its promotion

        lock b fork b:1@45 rewind | a* down lsn 45 failed rewind | b primary tl2
        => nothing, because rewind: pg_rewind failed, the next try is due soon

        lock b fork b:1@45 rewind remove | a* down lsn 45 plain | b primary tl2
        => RemoveData, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D: copying b anew

        lock b fork b:1@45 remove | a* down lsn 45 | b primary tl2
        => RemoveData, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D: copying b anew

        lock b fork b:2@45 remove | a* down tl1 lsn 40 | b primary tl3
        => RemoveData, because rewind: timeline 1 is not in the history of b: copying b anew

        lock b remove | a* down tl3 lsn 40 | b primary tl2
        => RemoveData, because rewind: own timeline 3 is not in the history of b (2): copying b anew

        # A grandchild that forked off before its parent began: not past the earlier point, and where local
        # WAL lies between the two pg_rewind takes it for no divergence at all.
        lock b fork b:1@45,2@43 | a* replica lsn 43 from c | b primary tl3
        => SetUpstream, because follow: following b from b:5432

        lock b fork b:1@45,2@43 rewind remove | a* replica lsn 44 from c | b primary tl3
        => StopFast, because rewind: local WAL goes to 0/2C on timeline 1, but timeline 3 forked off at 0/2B, where pg_rewind does not see it: stopping to rewind

        lock b fork b:1@45,2@43 rewind remove | a* crashed standby lsn 44 | b primary tl3
        => RemoveData, because rewind: local WAL goes to 0/2D on timeline 1, but timeline 3 forked off at 0/2B, where pg_rewind does not see it: copying b anew

        # Its last checkpoint begins where the leader forked off: that is past the fork, and PostgreSQL knows it.
        lock b fork b:1@45 rewind | a* crashed interrupted lsn 44 | b primary tl2
        => StartStandby, because follow: starting as a secondary

        lock b fork b:1@45 remove | a* crashed interrupted standby lsn 46 | b primary tl2
        => RemoveData, because rewind: local WAL goes to 0/2F on timeline 1, but timeline 2 forked off at 0/2D: copying b anew

        lock b fork b:1@45,2@43 rewind | a* down lsn 45 tl2 | b primary tl3
        => Rewind, because rewind: local WAL goes to 0/2E on timeline 2, but timeline 3 forked off at 0/2B: running pg_rewind from b

        lock b fork b:1@45 | a* replica lsn 46 from c | b primary tl2
        => StopFast, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D: stopping to rewind

        lock b | a* crashed lsn 40 | b primary tl2
        => CrashRecovery, because rewind: crash recovery first, to know where the local WAL ends

        lock b | a* crashed lsn 40 failed recovery | b primary tl2
        => nothing, because rewind: crash recovery failed and without it the end of the local WAL is unknown: the next try is due soon
        ",
    );
}

#[test]
fn failures_on_the_way_are_forgotten_once_it_streams() {
    for (text, failures) in [
        ("lock b | a* replica from b | b primary", 0),
        ("lock b | a* replica from b broken | b primary", 3),
    ] {
        let (view, mut memory) = super::parse(text);
        memory.copy.failures = 3;
        let memory = crate::decide(&view, &memory).memory;
        assert_eq!(memory.copy.failures, failures, "{text}");
    }
}

/// `rewind`: recovery in single-user mode would write to a timeline that is another node's.
#[test]
fn a_killed_standby_is_shut_down_in_order_before_it_is_rewound() {
    check_all(
        "
        lock b fork b:1@45 rewind | a* crashed interrupted lsn 45 | b primary tl2
        => StartStandby, because rewind: local WAL goes to 0/2E on timeline 1, but timeline 2 forked off at 0/2D: starting as a standby first, to be shut down for pg_rewind

        lock b fork b:1@45 rewind | a* crashed interrupted standby lsn 46 | b primary tl2
        => StartStandby, because rewind: local WAL goes to 0/2F on timeline 1, but timeline 2 forked off at 0/2D: starting as a standby first, to be shut down for pg_rewind

        lock b fork b:1@45 rewind | a* crashed interrupted standby lsn 46 failed start_standby | b primary tl2
        => CrashRecovery, because rewind: crash recovery first, to know where the local WAL ends
        ",
    );
}

/// Two timelines of one number: a node was promoted and lost before anybody knew that, and the next one
/// that was promoted gave the same number again.
#[test]
fn a_standby_follows_no_twin_of_its_timeline() {
    check_all(
        r"
        # It is known to be another one before it is followed, and known once.
        lock b | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70
        => AskHistory, because follow: reading the timeline history of b

        lock b fork b:1@45,2@50 | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70
        => SetUpstream, because follow: following b from b:5432

        lock b fork b:1@45,2@50 | a* replica tl3 lsn 60 from b past 1@45,2@50 | b primary tl3 lsn 70
        => nothing, because follow: no action. I am (a), a secondary, and following a leader (b)

        lock b fork b:1@45,2@48 | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70
        => StopFast, because rewind: timeline 3 is not that of b: timeline 2 ended at 0/32 here, timeline 2 ended at 0/30 there: stopping to rewind

        lock b fork b:1@45 | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70
        => StopFast, because rewind: timeline 3 is not that of b: timeline 2 ended at 0/32 here, no other timeline ended there: stopping to rewind

        # Also where the stream has been set already.
        lock b fork b:1@40,2@50 | a* replica tl3 lsn 60 from b past 1@45,2@50 | b primary tl3 lsn 70
        => StopFast, because rewind: timeline 3 is not that of b: timeline 1 ended at 0/2D here, timeline 1 ended at 0/28 there: stopping to rewind

        # An agent that has come back asks; nothing is stopped for that, nor where there is no answer.
        lock b | a* replica tl3 lsn 60 from b past 1@45,2@50 | b primary tl3 lsn 70
        => AskHistory, because follow: no action. I am (a), a secondary, and following a leader (b)

        lock b | a* replica tl3 lsn 60 from b broken past 1@45,2@50 | b primary tl3 lsn 70
        => SetUpstream + AskHistory, because follow: no action. I am (a), a secondary, and following a leader (b), not streaming yet

        lock b fork b:- | a* replica tl3 lsn 60 from b past 1@45,2@50 | b primary tl3 lsn 70
        => nothing, because follow: no action. I am (a), a secondary, and following a leader (b)

        lock b fork b:- | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70
        => nothing, because follow: the timeline history of b cannot be read yet

        # What was read of another leader says nothing about this one.
        lock b fork c:1@45,2@50 | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl3 lsn 70 | c replica tl3 lsn 60
        => AskHistory, because follow: reading the timeline history of b

        # Without its history file a timeline is followed by its number.
        lock b | a* replica tl3 lsn 60 from c | b primary tl3 lsn 70
        => SetUpstream, because follow: following b from b:5432

        # Whoever streams from another standby belongs to the leader's timeline all the same.
        lock b | a* replica tl3 lsn 60 from c cascades c past 1@45,2@50 | b primary tl3 lsn 70 | c replica tl3 lsn 60
        => AskHistory, because follow: no action. I am (a), a secondary, and following a leader (b)

        lock b fork b:1@45,2@48 | a* replica tl3 lsn 60 from c cascades c past 1@45,2@50 | b primary tl3 lsn 70 | c replica tl3 lsn 60
        => StopFast, because rewind: timeline 3 is not that of b: timeline 2 ended at 0/32 here, timeline 2 ended at 0/30 there: stopping to rewind
        ",
    );
}

/// The same, of data that are not running.
#[test]
fn no_twin_is_started_to_follow_the_other() {
    check_all(
        r"
        lock b | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl3 lsn 70
        => AskHistory, because follow: reading the timeline history of b

        lock b fork b:1@45,2@50 | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl3 lsn 70
        => StartStandby, because follow: starting as a secondary

        # From nobody, until there is an answer.
        lock b fork b:- | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl3 lsn 70
        => StartStandby, because follow: the timeline history of b cannot be read yet; starting as a secondary

        # pg_rewind does nothing where the numbers are the same.
        lock b fork b:1@45,2@48 rewind remove | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl3 lsn 70
        => RemoveData, because rewind: timeline 3 is not that of b: timeline 2 ended at 0/32 here, timeline 2 ended at 0/30 there: copying b anew

        # Of a descendant it sees where the ancestors part.
        lock b fork b:1@45,2@50,3@80 | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl4 lsn 90
        => StartStandby, because follow: starting as a secondary

        lock b fork b:1@45,2@48,3@80 rewind | a* crashed standby tl3 lsn 60 past 1@45,2@50 | b primary tl4 lsn 90
        => Rewind, because rewind: timeline 3 is not that in the history of b: timeline 2 ended at 0/32 here, timeline 2 ended at 0/30 there: running pg_rewind from b

        lock b fork b:1@45,2@48,3@80 rewind | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl4 lsn 90
        => StopFast, because rewind: timeline 3 is not that in the history of b: timeline 2 ended at 0/32 here, timeline 2 ended at 0/30 there: stopping to rewind

        # A history that lacks all that came before proves nothing.
        lock b fork b:3@80 | a* replica tl3 lsn 60 from c past 1@45,2@50 | b primary tl4 lsn 90
        => SetUpstream, because follow: following b from b:5432
        ",
    );
}
