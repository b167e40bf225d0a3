//! The failsafe mode.

use super::*;
use crate::failsafe::{Extension, FailsafeFact, Promise, Standing};

/// `extended 3`: the last round in which everybody accepted was sent so many seconds ago; `promised b 3`: to b, for so
/// many seconds more.
pub(super) fn fact(now: Time, me: &Said) -> FailsafeFact {
    let seconds = |text: &str| Span::from_secs(number(Some(text)));
    FailsafeFact {
        extension: me.value("extended").map(|ago| Extension {
            sent: now - seconds(ago),
            life: Span::from_secs(20),
        }),
        promise: me.value("promised").map(|text| {
            let (leader, more) = text.split_once(':').unwrap();
            let until = now + seconds(more);
            Promise {
                until,
                ..Promise::new(leader.into(), now, None, &Settings::default())
            }
        }),
    }
}

/// `a,b`: names in `/failsafe`; `none`: nobody.
pub(super) fn named(text: &str) -> Option<Stored<BTreeMap<String, String>>> {
    let names = text.split(',').filter(|name| *name != "none");
    stored(names.map(|name| (name.to_string(), url(name))).collect())
}

/// Of the leader, who decides in most of these, as its own configuration says.
fn url(name: &str) -> String {
    match name {
        "a" => "http://me".into(),
        name => format!("http://{name}"),
    }
}

/// The leader has written the key itself, or has only found it (`found`).
pub(super) fn standing(cluster: Option<&Cluster>, me: &Said) -> Option<Standing> {
    let stored = cluster?.failsafe.as_ref();
    let revision = stored.map(|stored| stored.revision);
    Some(Standing {
        term: 5,
        first: revision.filter(|_| me.has("found")),
        revision,
        members: stored.map(|it| it.value.clone()).unwrap_or_default(),
        ordered: None,
    })
}

/// Whom a leader would ask.
fn asks(text: &str) -> String {
    let (view, memory) = parse(text);
    let wish = decide(&view, &memory).failsafe;
    wish.map_or("nobody".into(), |wish| {
        let names: Vec<String> = wish.members.into_keys().collect();
        format!("{} for {}s", names.join(","), wish.life.as_secs())
    })
}

#[test]
fn whom_a_leader_asks() {
    for (text, expected) in [
        (
            "lock a failsafe_mode named a,b,c | a* primary | b replica | c replica",
            "b,c for 20s",
        ),
        (
            "lock a named a,b,c | a* primary | b replica | c replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode named b,c | a* primary | b replica | c replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode | a* primary | b replica | c replica",
            "nobody",
        ),
        // An order of the agent before may still be on its way.
        (
            "lock a failsafe_mode named a,b,c | a* primary found | b replica | c replica",
            "nobody",
        ),
        ("lock a failsafe_mode named a | a* primary", " for 20s"),
        // Also while nothing can be read, and beyond the lease.
        (
            "lock a failsafe_mode named a,b unreachable | a* primary renewed 8 | b replica",
            "b for 20s",
        ),
        (
            "lock a failsafe_mode named a,b unreachable | a* primary renewed 30 extended 3 | b replica",
            "b for 20s",
        ),
        // Overdue is overdue.
        (
            "lock a failsafe_mode named a,b unreachable | a* primary renewed 13 | b replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode named a,b unreachable | a* primary renewed 30 extended 13 | b replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode named a,b | a* primary shutdown | b replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode named a,b | a* replica | b replica",
            "nobody",
        ),
        (
            "lock a failsafe_mode guard_required named a,b | a* primary guardfailed 1 twice | b replica",
            "nobody",
        ),
        (
            "lock b failsafe_mode named a,b | a* replica from b | b primary",
            "nobody",
        ),
    ] {
        assert_eq!(asks(text), expected, "{text}");
    }
}

#[test]
fn a_leader_stays_in_office_by_the_word_of_the_others() {
    check_all(
        "
        lock a failsafe_mode named a,b unreachable | a* primary renewed 30 extended 3 | b replica
        => nothing, because failsafe: continue to run as a leader because failsafe mode is enabled and all members are accessible
        # An hour ago.
        lock a failsafe_mode named a,b unreachable | a* primary renewed 30 extended 12 | b replica
        => StopFast, because fence: no renewal of the lock was confirmed for 0.6 of its life: demoting
        lock a failsafe_mode named a,b unreachable | a* primary renewed 30 extended 14 | b replica
        => StopKill, because fence: no renewal of the lock was confirmed for 0.7 of its life: PostgreSQL is killed
        # The lease is newer than the round: others count on that alone.
        lock a failsafe_mode named a,b unreachable | a* primary renewed 13 extended 14 | b replica
        => StopFast, because fence: no renewal of the lock was confirmed for 0.6 of its life: demoting
        # Others were told that it is stopped.
        lock a failsafe_mode named a,b unreachable | a* down was_primary renewed 30 extended 3 | b replica
        => nothing, because failsafe: PostgreSQL is not started in failsafe mode: waiting for the lock service
        # Etcd is back: the lock has gone, and is taken again.
        lock - failsafe_mode named a,b | a* primary renewed 30 extended 3 | b replica
        => AcquireLeader, because lock_free: acquired session lock as a leader
        # Somebody else was faster, whatever he had promised.
        lock b failsafe_mode named a,b | a* primary renewed 30 extended 3 | b primary
        => StopKill, because fence: b holds the lock: PostgreSQL is killed
        # In a pause nobody is demoted anyway.
        lock a pause failsafe_mode named a,b unreachable | a* primary renewed 30 extended 3 | b replica
        => nothing, because paused: PAUSE: no action. I am (a), the leader with the lock
        ",
    );
}

#[test]
fn whoever_has_promised_follows_and_does_not_race() {
    check_all(
        "
        # `renewed` long ago, the lock is gone: without a promise this node would take it.
        lock - former a looked 80 renewed_before 60 failsafe_mode named a,b | a primary mute | b* replica
        => AcquireLeader, because lock_free: the lease of a ran out; healthiest of 2
        lock - former a looked 80 renewed_before 60 failsafe_mode named a,b | a primary | b* replica from a promised a:5
        => nothing, because follow: no action. I am (b), a secondary, and following a leader (a)
        # The promise holds whatever the mode is by now.
        lock - former a looked 80 renewed_before 60 named a,b | a primary mute | b* replica from a promised a:5
        => nothing, because follow: no action. I am (b), a secondary, and following a leader (a)
        unreachable failsafe_mode named a,b | a primary | b* replica from a promised a:5
        => nothing, because follow: no action. I am (b), a secondary, and following a leader (a)
        # Somebody holds the lock in the lock service: that counts.
        lock c failsafe_mode named a,b,c | a primary | b* replica from c promised a:5 | c primary
        => nothing, because follow: no action. I am (b), a secondary, and following a leader (c)
        # It says itself that it is over.
        lock - former a failsafe_mode named a,b | a replica | b* replica promised a:5
        => AcquireLeader, because lock_free: a answers that it is not writable; healthiest of 2
        # Or it released the lock in order, and answers no more.
        lock - former a deleted 80 failsafe_mode named a,b | a down words mute | b* replica promised a:5
        => AcquireLeader, because lock_free: a released the lock; healthiest of 2
        lock - former a failsafe_mode named a,b | a replica active | b* replica from a promised a:5
        => nothing, because follow: waiting for a to run as primary
        ",
    );
}

#[test]
fn what_was_known_of_the_lease_before_a_promise_tells_nothing_after_it() {
    let text = "lock - former a looked 80 renewed_before 60 failsafe_mode named a,b | a primary mute | b* replica from a promised a:5";
    let (mut view, memory) = parse(text);
    let memory = decide(&view, &memory).memory;
    view.failsafe.promise = None;
    view.now = view.now + Span::from_secs(5);
    for fact in view.peers.values_mut() {
        (fact.asked, fact.answered) = (view.now, view.now);
    }
    let decision = decide(&view, &memory);
    assert_eq!(decision.why.rule, "lock_free");
    assert_eq!(
        decision.memory.former.as_ref().and_then(|it| it.looked),
        None
    );
    assert!(
        decision.why.reason.contains("vanished early"),
        "{}",
        decision.why
    );
}

#[test]
fn whoever_is_not_named_waits_for_the_word_of_one_who_is() {
    check_all(
        "
        lock - free 60 former a failsafe_mode named a,b | a primary mute | b replica | c* replica lsn 60
        => AcquireLeader, because lock_free: a full lease has passed since the lock of a vanished; healthiest of 3
        # What was seen of the lease is not enough.
        lock - former a looked 80 renewed_before 60 named a,b | a primary mute | b replica | c* replica lsn 60
        => nothing, because lock_free: the lock of a vanished early and it may still be writable
        # Only members that cannot lead are named: the word of one is enough.
        lock - free 60 former a failsafe_mode named a,b | a primary mute | b replica nofailover | c* replica
        => AcquireLeader, because lock_free: a full lease has passed since the lock of a vanished; healthiest of 3
        lock - free 60 former a failsafe_mode named a,b | a primary mute | b replica active | c* replica lsn 60
        => nothing, because lock_free: b says that a leader without the lock stays in office
        lock - free 60 former a failsafe_mode named a | a primary mute | c* replica lsn 60
        => nothing, because lock_free: /service/demo/failsafe does not name c, and nobody whom it names answers: a leader may be in office by their word; once it is certain that none of them is primary, remove the key: etcdctl del /service/demo/failsafe
        # Nobody is named: the mode was switched off.
        lock - free 60 former a named none | a primary mute | c* replica
        => AcquireLeader, because lock_free: a full lease has passed since the lock of a vanished; healthiest of 2
        ",
    );
}

#[test]
fn a_leader_whose_key_is_gone_is_asked_all_the_same() {
    let asked = |text: &str| {
        let (view, memory) = parse(text);
        let actions = decide(&view, &memory).actions;
        let asked = actions.into_iter().find_map(|action| match action {
            crate::Action::AskPeers(asks) => Some(asks),
            _ => None,
        });
        let names: Vec<String> = asked
            .into_iter()
            .flatten()
            .map(|ask| format!("{} {}", ask.member, ask.url))
            .collect();
        names.join(", ")
    };
    let text = "lock - former a failsafe_mode named a,b,c | b* replica | c replica unasked";
    assert_eq!(asked(text), "c http://c, a http://me");
}

/// What `/failsafe` is ordered to be.
fn put(text: &str) -> String {
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    let put = decision
        .actions
        .into_iter()
        .find_map(|action| match action {
            crate::Action::Store(Op::PutFailsafe {
                members, expected, ..
            }) => Some((members, expected)),
            _ => None,
        });
    put.map_or("nothing".into(), |(members, expected)| {
        let names: Vec<String> = members.into_keys().collect();
        format!("PutFailsafe {} on {expected:?}", names.join(","))
    })
}

#[test]
fn who_is_named() {
    for (text, expected) in [
        (
            "lock a failsafe_mode | a* primary | b replica",
            "PutFailsafe a,b on None",
        ),
        (
            "lock a failsafe_mode named a | a* primary | b replica",
            "PutFailsafe a,b on Some(3)",
        ),
        // Whoever has gone is kept for a while.
        (
            "lock a failsafe_mode named a,b,c | a* primary | b replica",
            "nothing",
        ),
        (
            "lock a failsafe_mode named a,b | a* primary | b replica",
            "nothing",
        ),
        // Found as it should be: written once more, so that no order of before counts.
        (
            "lock a failsafe_mode named a,b | a* primary found | b replica",
            "PutFailsafe a,b on Some(3)",
        ),
        (
            "lock a named a,b | a* primary | b replica",
            "PutFailsafe  on Some(3)",
        ),
        ("lock a named none | a* primary | b replica", "nothing"),
        ("lock a | a* primary | b replica", "nothing"),
        (
            "lock b failsafe_mode | a* replica from b | b primary",
            "nothing",
        ),
        // A round counts in which nobody else was asked.
        (
            "lock a failsafe_mode named a | a* primary renewed 5 extended 2 | b replica",
            "nothing",
        ),
        (
            "lock a failsafe_mode named a | a* primary renewed 5 extended 7 | b replica",
            "PutFailsafe a,b on Some(3)",
        ),
    ] {
        assert_eq!(put(text), expected, "{text}");
    }
}

#[test]
fn whoever_may_be_named_by_now_is_asked_too() {
    let text = "lock a failsafe_mode named a,b | a* primary | b replica | c replica";
    let (mut view, memory) = parse(text);
    let first = decide(&view, &memory);
    let asked = |decision: &crate::Decision| -> Vec<String> {
        let wish = decision.failsafe.clone().unwrap();
        wish.members.into_keys().collect()
    };
    assert_eq!(asked(&first), ["b", "c"]);
    // It was carried out, and the picture does not show it yet.
    let second = decide(&view, &first.memory);
    assert_eq!(asked(&second), ["b", "c"]);
    // Somebody is to be named no more: both, until that is seen.
    view.settings.failsafe_mode = false;
    let off = decide(&view, &second.memory);
    assert_eq!(off.failsafe, None);
    view.settings.failsafe_mode = true;
    let again = decide(&view, &off.memory);
    assert_eq!(again.failsafe, None, "it may name nobody by now");
}

#[test]
fn a_renewal_that_comes_after_a_round_is_in_time() {
    // etcd is back with the lock, whose lease was renewed a second ago.
    let text = "lock a failsafe_mode named a,b | a* primary renewed 1 extended 3 | b replica";
    let (view, mut memory) = parse(text);
    let before = memory.held.as_mut().unwrap();
    before.sent = view.now - Span::from_secs(40);
    let decision = decide(&view, &memory);
    assert_eq!(decision.memory.give_up, None);
    let text = "lock a named a,b | a* primary renewed 1 | b replica";
    let (view, mut memory) = parse(text);
    memory.held.as_mut().unwrap().sent = view.now - Span::from_secs(40);
    assert!(decide(&view, &memory).memory.give_up.is_some());
}

/// A lease that was granted anew does not carry the lock yet: nobody counts on it.
#[test]
fn a_new_lease_does_not_keep_in_office_before_the_lock_lives_under_it() {
    let text = "lock - failsafe_mode named a,b | a* primary | b replica";
    let (mut view, mut memory) = parse(text);
    let lease = |lease: i64, ago: u64| LeaseFact {
        lease,
        sent: view.now - Span::from_secs(ago),
        length: Span::from_secs(20),
    };
    (memory.term, memory.held, memory.was_primary) = (Some(5), Some(lease(7, 30)), true);
    view.failsafe.extension = Some(Extension {
        sent: view.now - Span::from_secs(11),
        life: Span::from_secs(20),
    });
    let new = lease(9, 0);
    view.lease = Some(new);
    let first = decide(&view, &memory);
    assert_eq!(first.why.rule, "lock_free");
    view.now = view.now + Span::from_secs(1);
    let second = decide(&view, &first.memory);
    assert_eq!(second.why.rule, "fence", "{}", second.why);
}
