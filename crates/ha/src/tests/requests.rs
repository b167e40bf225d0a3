//! Questions and requests over several looks: an operator's request is neither lost nor served twice,
//! nobody who is silent is asked again and again, and a lock that was given up stays so.

use super::*;
use crate::{Action, Decision};

fn names(decision: &Decision) -> Vec<&'static str> {
    let names = decision.actions.iter().map(Action::name);
    names.filter(|name| !NOISE.contains(name)).collect()
}

fn then(text: &str, memory: &Memory) -> Decision {
    decide(&parse(text).0, memory)
}

/// A Patroni may not have read who leads; whoever does not say so within a loop_wait is cut off.
#[test]
fn a_switchover_waits_a_while_for_a_candidate_to_see_the_lock() {
    let (mut view, memory) =
        parse("lock a failover a>b | a* primary armed | b replica lsn 50 unlocked");
    let waiting = decide(&view, &memory);
    assert_eq!(names(&waiting), Vec::<&str>::new(), "{}", waiting.why);
    let (revision, _) = waiting.memory.request_seen.unwrap();
    let bound = view.settings.loop_wait;
    let mut memory = waiting.memory;
    let shortly_before = Span::from_millis(bound.as_millis() as u64 - 1);
    for (waited, expected) in [(shortly_before, "AskPeers"), (bound, "PutFailover")] {
        memory.request_seen = Some((revision, view.now - waited));
        let fact = view.peers.get_mut(&"b".into()).unwrap();
        fact.asked = view.now - Span::from_millis(201);
        fact.answered = fact.asked;
        let decision = decide(&view, &memory);
        assert_eq!(names(&decision), [expected], "{}", decision.why);
    }
}

/// Whom it asks.
fn asked(decision: &Decision) -> Vec<&str> {
    let asks = decision.actions.iter().find_map(|action| match action {
        Action::AskPeers(asks) => Some(asks),
        _ => None,
    });
    let asks = asks.map(Vec::as_slice).unwrap_or_default();
    asks.iter().map(|ask| ask.member.0.as_str()).collect()
}

fn answers_at(view: &mut View, at: Time) {
    for fact in view.peers.values_mut() {
        (fact.asked, fact.answered) = (at, at);
    }
}

/// Time goes on, and with it what is looked at all the time.
fn later(view: &mut View, millis: u64) {
    view.now = view.now + Span::from_millis(millis);
    view.local.probed = Some(view.now);
    if let Some(lease) = &mut view.lease {
        lease.sent = view.now;
    }
}

const NONE: [&str; 0] = [];

/// `switchover`: what was answered before the request was seen says nothing about now.
#[test]
fn a_request_is_served_by_answers_that_came_after_it() {
    let (mut view, memory) = parse("lock a failover a>b | a* primary armed | b replica lsn 50");
    let seen = (3, view.now);
    answers_at(&mut view, seen.1 - Span::from_millis(100));
    let first = decide(&view, &memory);
    assert_eq!(asked(&first), ["b"], "{}", first.why);
    assert_eq!(first.memory.request_seen, Some(seen));
    // Under way: not lost, not asked a second time.
    later(&mut view, 10);
    view.asking = true;
    let second = decide(&view, &first.memory);
    assert_eq!(names(&second), NONE, "{}", second.why);
    // The store goes away for a moment, with the answer already there.
    view.asking = false;
    answers_at(&mut view, seen.1);
    let fresh = view.dcs.clone();
    view.dcs = Dcs::Unreachable {
        since: view.now,
        last: view.fresh().cloned(),
    };
    let third = decide(&view, &second.memory);
    assert_eq!(names(&third), NONE, "{}", third.why);
    assert_eq!(third.memory.request_seen, Some(seen), "the same request");
    // Back again: served at once, by the answer to the one question.
    later(&mut view, 10);
    view.dcs = fresh;
    let fourth = decide(&view, &third.memory);
    assert_eq!(names(&fourth), ["StopFast"], "{}", fourth.why);
}

/// Another request is another question, even if the answers to the one before are new.
#[test]
fn the_next_request_is_asked_for_anew() {
    let (mut view, memory) = parse("lock a failover a>b | a* primary armed | b replica lsn 50");
    let answered = view.now;
    let first = decide(&view, &memory);
    assert_eq!(names(&first), ["StopFast"], "{}", first.why);
    assert_eq!(first.memory.request_seen, Some((3, answered)));
    later(&mut view, 10);
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.failover.as_mut().unwrap().revision = 4;
    let mut memory = first.memory;
    memory.demotion = None;
    let second = decide(&view, &memory);
    assert_eq!(asked(&second), ["b"], "{}", second.why);
    assert_eq!(second.memory.request_seen, Some((4, view.now)));
}

/// A demotion is taken back: from the moment this is told, not before, etcd is asked whose the lock is, and the decision
/// follows the answer.
fn taken_back(view: &mut View, memory: &Memory) -> Decision {
    let told = decide(view, memory);
    assert_eq!(names(&told), NONE, "{}", told.why);
    let shown = crate::describe(view, &told.memory);
    assert_eq!(shown.state, Some(PostgresState::Starting));
    later(view, 1);
    let asked = decide(view, &told.memory);
    assert_eq!(names(&asked), ["Refresh"], "{}", asked.why);
    // What was read before proves nothing.
    let again = decide(view, &asked.memory);
    assert_eq!(names(&again), ["Refresh"], "{}", again.why);
    view.tenure.proved = view.now;
    later(view, 1);
    decide(view, &asked.memory)
}

/// A request that was tried and could not be served is cleaned up, not tried again.
#[test]
fn a_request_is_not_served_twice() {
    let text = "lock a failover a>b | a* primary armed | b replica lsn 50";
    let (mut view, memory) = parse(text);
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    // Down, and 5 s later nobody has the shutdown checkpoint.
    let (mut down, _) = parse("lock a failover a>b | a* down | b replica lsn 50");
    let waiting = decide(&down, &begun.memory);
    later(&mut down, 5000);
    let back = taken_back(&mut down, &waiting.memory);
    assert_eq!(
        names(&back),
        ["PutFailover", "StartPrimary"],
        "{}",
        back.why
    );
    // Primary again, and the key is still there: its cleaning was lost.
    later(&mut view, 5000);
    let now = view.now;
    answers_at(&mut view, now);
    let again = decide(&view, &back.memory);
    assert_eq!(names(&again), ["PutFailover"], "{}", again.why);
    assert_eq!(again.memory.demotion, None);
}

/// The answer to the release was lost and the store went away: its holder does not go on.
#[test]
fn a_lock_that_was_given_up_stays_so_without_the_store() {
    for text in [
        "unreachable lock a | a* down | b replica",
        "unreachable lock a | a* crashed | b replica",
    ] {
        let (view, mut memory) = parse(text);
        let held = decide(&view, &memory);
        assert!(held.keep_lease, "{text}: its own until it is released");
        assert_eq!(names(&held), ["StartPrimary"], "{text}: {}", held.why);
        memory.released = Some(5);
        memory.rest_until = Some(view.now + Span::from_secs(3));
        let given_up = decide(&view, &memory);
        assert!(!given_up.keep_lease, "{text}: {}", given_up.why);
        assert_eq!(names(&given_up), NONE, "{text}: {}", given_up.why);
        assert_eq!(given_up.memory.released, Some(5), "{text}");
        // Nor after its rest: it may come back as a standby only.
        memory.rest_until = None;
        let rested = decide(&view, &memory);
        assert!(!rested.keep_lease, "{text}");
        let orders = names(&rested);
        let harmless = matches!(orders.as_slice(), ["StartStandby" | "CrashRecovery"]);
        assert!(harmless, "{text}: {orders:?}, because {}", rested.why);
    }
}

/// `lock_free`: whoever did not answer is not asked again in the same race, whoever did is.
#[test]
fn who_is_silent_does_not_hold_up_the_race() {
    let text = "lock - former c deleted 80 free 1 | a* replica lsn 50 | b replica lsn 60 mute \
                | c down words | d replica lsn 40";
    let (mut view, memory) = parse(text);
    assert_eq!(names(&decide(&view, &memory)), ["AcquireLeader"]);
    // Something kept it from that for two seconds: c and d are asked anew, b is not.
    later(&mut view, 2000);
    let second = decide(&view, &memory);
    assert_eq!(asked(&second), ["c", "d"], "{}", second.why);
    // Its silence lasts five seconds.
    later(&mut view, 2900);
    assert_eq!(asked(&decide(&view, &memory)), ["c", "d"]);
    later(&mut view, 100);
    assert_eq!(asked(&decide(&view, &memory)), ["b", "c", "d"]);
}

/// The same for a switchover to whoever is best.
#[test]
fn who_is_silent_does_not_hold_up_a_switchover() {
    let text = "lock a failover a> | a* primary armed | b replica lsn 50 mute | c replica lsn 50";
    let (mut view, memory) = parse(text);
    let seen = view.now;
    answers_at(&mut view, seen - Span::from_millis(100));
    let first = decide(&view, &memory);
    // Older than the request, silence says as little as an answer.
    assert_eq!(asked(&first), ["b", "c"], "{}", first.why);
    answers_at(&mut view, seen);
    later(&mut view, 2000);
    let second = decide(&view, &first.memory);
    assert_eq!(asked(&second), ["c"], "{}", second.why);
}

/// Nobody has all WAL and no primary may run here: whoever is named in a request would take the lock
/// without comparing, so the request is seen gone first, the one that is served or another one.
#[test]
fn a_lock_for_anybody_is_released_without_a_request() {
    for (begun_by, stored) in [("failover a>b", "failover a>b"), ("", "failover >b")] {
        let guard = match begun_by {
            "" => "guardfailed 1s twice",
            _ => "armed",
        };
        let (view, memory) = parse(&format!(
            "lock a guard_required {begun_by} | a* primary {guard} | b replica"
        ));
        let begun = decide(&view, &memory);
        assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
        let text = format!("lock a guard_required {stored} | a* down guardfailed 1s | b replica");
        let (mut down, _) = parse(&text);
        let waiting = decide(&down, &begun.memory);
        later(&mut down, 5000);
        let cleaned = decide(&down, &waiting.memory);
        assert_eq!(names(&cleaned), ["PutFailover"], "{}", cleaned.why);
        assert_eq!(cleaned.memory.released, None);
        assert!(cleaned.keep_lease);
        // The write was lost, and is repeated.
        let again = decide(&down, &cleaned.memory);
        assert_eq!(names(&again), ["PutFailover"], "{}", again.why);
        let Dcs::Fresh(cluster) = &mut down.dcs else {
            panic!("{:?}", down.dcs)
        };
        cluster.failover.as_mut().unwrap().value = Failover::default();
        let released = decide(&down, &again.memory);
        assert_eq!(names(&released), ["ReleaseLeader"], "{}", released.why);
    }
}

/// Nor does a lock go to the one who has all WAL while a request names another one.
#[test]
fn a_lock_is_not_handed_over_beside_a_request_for_somebody_else() {
    let (view, memory) =
        parse("lock a guard_required | a* primary guardfailed 1s twice | b replica | c replica");
    let begun = decide(&view, &memory);
    for (request, expected) in [
        (">c", "PutFailover"),
        (">b", "ReleaseLeader"),
        ("a>", "ReleaseLeader"),
    ] {
        let text = format!(
            "lock a guard_required failover {request} | a* down lsn 50 guardfailed 1s \
             | b replica lsn 51 | c replica lsn 40"
        );
        let handed = then(&text, &begun.memory);
        assert_eq!(names(&handed), [expected], "{}", handed.why);
    }
}

/// In a pause nothing is guarded, so a guard that does not work keeps nobody from going on.
#[test]
fn a_pause_needs_no_guard_to_go_on_as_primary() {
    let (view, memory) = parse("lock a pause failover a>b | a* primary | b replica");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    let text = "lock a pause guard_required failover a>b | a* down guardfailed 1s | b replica";
    let (mut down, _) = parse(text);
    let waiting = decide(&down, &begun.memory);
    later(&mut down, 5000);
    let back = taken_back(&mut down, &waiting.memory);
    assert_eq!(
        names(&back),
        ["PutFailover", "StartPrimary"],
        "{}",
        back.why
    );
}
