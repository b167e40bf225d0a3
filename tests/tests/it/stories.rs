//! The driver of scenarios notices what is not as a story says, and tells it.

use pgherd_tests::{net, scenario};

#[test]
fn a_wrong_expectation_is_told_with_what_was_there_instead() {
    let name = "stories::a_wrong_expectation_is_told_with_what_was_there_instead";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let text = "cluster of 2, lease 5s\nstart\nexpect a whole cluster within 30s\nwriters run\n\
                expect writes within 2s\nexpect no primary for 1s\n";
    let Some(told) = scenario::failure("t.scn", text) else {
        return;
    };
    let begins = "t.scn:6: expect no primary for 1s\n  not so, or not any more, 0.0 s after this line was reached\n";
    assert!(told.starts_with(begins), "{told}");
    for seen in [
        ": primary on timeline 1, streams to [\"n",
        "\"], holds the lock\n",
        ": replica, streams from 10.",
        "line 4: writers run",
        "the lock: n",
    ] {
        assert!(told.contains(seen), "{seen}: {told}");
    }
}

/// Cut off from all that streams, the old primary acknowledges what nobody else ever sees. Its lock outlives
/// its machine, so the story must also see that nobody takes over at once.
#[test]
fn a_lost_row_and_a_lost_machine_are_noticed() {
    let name = "stories::a_lost_row_and_a_lost_machine_are_noticed";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let text = "cluster of 3, lease 5s, lag limit 16MB\nstart\nexpect a whole cluster within 30s\n\
                writers run\nexpect writes within 2s\nlet old be primary\ncut old from the others\nwait 2s\n\
                kill node of old\nexpect no primary for 2s\nexpect a primary other than old within 7s\n\
                expect no acknowledged row lost\n";
    let Some(told) = scenario::failure("t.scn", text) else {
        return;
    };
    assert!(
        told.starts_with("t.scn:12: expect no acknowledged row lost\n"),
        "{told}"
    );
    assert!(told.contains(" are lost, the first: Ack {"), "{told}");
    assert!(told.contains(": without power, agent dead"), "{told}");
}

/// Without a guard nobody ends the primary of an agent that is frozen: two members acknowledge at once, which
/// no line of the story says anything about.
#[test]
fn two_members_that_acknowledge_at_once_are_noticed() {
    let name = "stories::two_members_that_acknowledge_at_once_are_noticed";
    if net::enter(name) == net::Place::Done {
        return;
    }
    let text = "cluster of 2, lease 2s, guard off, rewind, copy anew\nstart\nexpect a whole cluster within 30s\n\
                let old be primary\nfreeze agent of old\nwait 6s\nexpect old not to be a replica within 1s\n";
    let Some(told) = scenario::failure("t.scn", text) else {
        return;
    };
    assert!(
        told.starts_with("t.scn:7: expect old not to be a replica within 1s\n"),
        "{told}"
    );
    assert!(told.contains(" acknowledged on timeline 1 "), "{told}");
    assert!(told.contains(" rows acknowledged, "), "{told}");
}
