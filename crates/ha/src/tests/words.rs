//! What people are told: how much a decision matters, and what they are to do.

use alloc::string::{String, ToString};

use super::*;
use crate::{Action, Severity};

#[test]
fn a_kill_is_a_warning_and_a_dead_end_an_error() {
    for line in "
        routine: lock a | a* primary armed | b replica
        routine: lock b | a* replica from b | b primary
        routine: pause lock a | a* primary | b replica
        info: lock a | a* replica armed | b replica
        info: lock b | a* empty | b primary
        info: lock b | a* crashed standby | b primary
        info: lock - former c deleted 80 | a* replica | b replica lsn 40 | c down words
        info: lock a | a* primary armed shutdown | b replica
        warning: lock a unreachable | a* primary armed renewed 12s | b replica
        warning: lock b | a* primary | b primary
        warning: lock a | a* leftovers was_primary | b replica
        warning: lock a | a* crashed | b replica
        warning: lock a handover | a* crashed | b replica lsn 50
        warning: lock a | a* silent was_primary probed 31s | b replica lsn 50
        warning: lock a | a* replica armed failed promote | b replica
        warning: lock - history 3 | a* primary tl3 lsn 50 | b replica tl4 lsn 40
        warning: lock ghost | a* replica | b replica
        error: lock b | a* unusable | b primary
        error: lock b initialize other | a* replica from b | b primary
        error: lock a guard_required | a* replica guardfailed 1s | b replica
        error: lock a | a* silent was_primary probed 31s | b replica mute
        error: lock ghost leaseless | a* replica | b replica
        error: lock b | a* replica from b | b primary addressless
        "
    .lines()
    .map(str::trim)
    .filter(|line| !line.is_empty())
    {
        let (severity, view) = line.split_once(": ").unwrap();
        let (view, memory) = parse(view);
        let why = decide(&view, &memory).why;
        let given = format!("{:?}", why.severity).to_lowercase();
        assert_eq!(given, severity, "{line} => {why}");
    }
}

fn reason(view: &View, memory: &Memory) -> String {
    decide(view, memory).why.to_string()
}

fn has_all(reason: &str, words: &[&str]) {
    for words in words {
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

/// `identity`: what is wrong, where, and what to do; also when etcd went away meanwhile.
#[test]
fn data_of_another_cluster_are_named_with_the_remedy() {
    for text in [
        "lock b initialize other | a* replica from b | b primary",
        "unreachable lock b initialize other | a* replica from b | b primary",
        "lock - initialize other | a* down standby | b replica",
    ] {
        let (view, memory) = parse(text);
        let decision = decide(&view, &memory);
        assert!(
            matches!(decision.actions.as_slice(), [Action::Exit { code: 1, .. }]),
            "{text}: {:?}",
            decision.actions
        );
        let start = "system ID mismatch, node a belongs to a different cluster: 2 != 1";
        has_all(
            &decision.why.reason,
            &[start, "in /data.", "postgresql.data_dir", "scope"],
        );
    }
}

/// `follow`, `bootstrap`: the lock of somebody whom nobody knows.
#[test]
fn the_holder_of_a_lock_that_is_no_member_is_named_with_the_remedy() {
    let remedy = "etcdctl del /service/demo/leader";
    for text in [
        "lock ghost | a* replica | b replica",
        "lock ghost | a* empty | b replica",
    ] {
        let (view, memory) = parse(text);
        let who = "ghost holds the lock and is no member";
        let since = "made at revision 5, lease 7";
        has_all(&reason(&view, &memory), &[who, since, remedy]);
    }
    // PostgreSQL is started all the same.
    let (view, memory) = parse("lock ghost leaseless | a* down standby | b replica");
    let decision = decide(&view, &memory);
    let started = |action: &Action| action.name() == "StartStandby";
    assert!(decision.actions.iter().any(started), "{}", decision.why);
    let who = "WITHOUT A LEASE is held by ghost";
    has_all(&decision.why.reason, &[who, remedy]);
}

/// `bootstrap`, `rewind`, `follow`: a broken `conn_url` of the leader. Who streams already goes on.
#[test]
fn a_conn_url_that_is_none_is_named_with_the_remedy() {
    for text in [
        "lock b | a* empty | b primary addressless",
        "lock b | a* replica from b | b primary addressless",
        "lock b | a* down standby lsn 40 | b primary tl2 addressless",
        "lock b fork b:1@45 rewind | a* down lsn 45 | b primary tl2 addressless",
    ] {
        let (view, memory) = parse(text);
        let decision = decide(&view, &memory);
        let disruptive = |action: &Action| !NOISE.contains(&action.name());
        assert!(!decision.actions.iter().any(disruptive), "{text}");
        assert_eq!(decision.why.severity, Severity::Error, "{text}");
        let key = "/service/demo/members/b has the conn_url \"nonsense\", expected postgres://";
        let remedy = "correct postgresql.connect_address of b";
        has_all(&decision.why.reason, &[key, remedy]);
    }
}

/// A member that lives puts its lock under its lease at once; one that does not is told of.
#[test]
fn a_members_lock_without_lease_is_told_of_after_a_while() {
    let (mut view, memory) = parse("lock b leaseless | a* replica from b | b primary");
    let first = decide(&view, &memory);
    assert_eq!(first.why.severity, Severity::Routine, "{}", first.why);
    view.now = view.now + view.settings.lease_ttl;
    let later = decide(&view, &first.memory);
    assert_eq!(later.why.severity, Severity::Error);
    has_all(&later.why.reason, &["WITHOUT A LEASE is held by b"]);
    // The count begins anew with the next one.
    let (view, _) = parse("lock b | a* replica from b | b primary");
    assert_eq!(decide(&view, &later.memory).memory.leaseless_since, None);
}

/// `detached`: an agent that has just come, or a lease that was changed.
#[test]
fn a_new_lease_is_not_called_a_new_agent() {
    let (view, memory) = parse("lock a | a* primary armed | b replica");
    let held = decide(&view, &memory).memory;
    let (view, mut memory) = parse("lock a | a* primary armed newlease | b replica");
    memory.attached_term = None;
    let words = "detached: taking the lock over from the agent before";
    assert_eq!(reason(&view, &memory), words);
    let words = "detached: putting the lock under a new lease: lease_ttl was changed, \
                 or the lease before was lost";
    assert_eq!(reason(&view, &held), words);
}

/// `shutdown`: the member key says so, the end does not wait for it.
#[test]
fn an_agent_that_ends_leaves_stopped_behind() {
    let names = |decision: &crate::Decision| {
        let names = decision.actions.iter().map(Action::name);
        names.collect::<Vec<_>>()
    };
    let (mut view, memory) = parse("lock b | a* down standby shutdown | b primary");
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    let own = cluster.members.get_mut(&"a".into()).unwrap();
    own.value.state = Some(PostgresState::Running);
    let first = decide(&view, &memory);
    assert_eq!(names(&first), ["PutMember", "Exit"]);
    let Some(Action::Store(Op::PutMember(member))) = first.actions.first() else {
        panic!("{:?}", first.actions)
    };
    assert_eq!(member.state, Some(PostgresState::Stopped));
    assert_eq!(member.role, Some(Role::Replica));
    // The write fails: again, for a second.
    view.now = view.now + Span::from_millis(900);
    assert_eq!(names(&decide(&view, &first.memory)), ["PutMember", "Exit"]);
    view.now = view.now + Span::from_millis(100);
    assert_eq!(names(&decide(&view, &first.memory)), ["Exit"]);
    // It cannot be written, or is there already.
    for text in [
        "unreachable lock b | a* down standby shutdown | b primary",
        "lock b | a* down standby shutdown | b primary",
    ] {
        let (view, memory) = parse(text);
        assert_eq!(names(&decide(&view, &memory)), ["Exit"], "{text}");
    }
}
