//! The duties beside the ladder, each asked alone.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::parse;
use crate::ctx::Ctx;
use crate::upkeep::DUTIES;

/// What one duty orders.
fn of(duty: &str, view: &str) -> String {
    let (view, mut memory) = parse(view);
    crate::race::remember_former(&Ctx::new(&view, &memory), &mut memory);
    let ctx = Ctx::new(&view, &memory);
    let (_, ask) = DUTIES.iter().find(|(name, _)| *name == duty).unwrap();
    let (actions, _) = ask(&ctx, &mut memory);
    let names: alloc::vec::Vec<String> = actions
        .iter()
        .map(|action| match action {
            crate::Action::Store(_) | crate::Action::AskPeers(_) => action.name().to_string(),
            _ => format!("{action:?}"),
        })
        .collect();
    if names.is_empty() {
        "nothing".to_string()
    } else {
        names.join(" + ")
    }
}

/// Pairs of a view and what this duty orders: something only when fact and wish differ.
pub(super) fn check(duty: &str, pairs: &[(&str, &str)]) {
    for (view, expected) in pairs {
        assert_eq!(of(duty, view), *expected, "{duty}: {view}");
    }
}

/// `guard`.
#[test]
fn the_guard_watches_whoever_holds_the_lock() {
    check(
        "guard",
        &[
            (
                "lock a optime 50 | a* primary | b replica",
                "ArmGuard { pid: 4711, no_later: None }",
            ),
            ("lock a | a* primary guardfailed 1s | b replica", "nothing"),
            (
                "lock a | a* primary guardfailed 5s | b replica",
                "ArmGuard { pid: 4711, no_later: None }",
            ),
            // What is required and does not work is tried, so that this node counts again.
            (
                "lock b guard_required | a* replica from b guardfailed 5s | b primary",
                "TryGuard { pid: 4711 }",
            ),
            (
                "lock b guard_required | a* replica from b guardfailed 1s | b primary",
                "nothing",
            ),
            (
                "lock b | a* replica from b guardfailed 5s | b primary",
                "nothing",
            ),
            (
                "lock b | a* replica from b armed | b primary",
                "DisarmGuard",
            ),
            // Another one is to take the place of one that hangs; for a standby it is only a danger.
            ("lock a | a* primary armed | b replica", "nothing"),
            (
                "lock a | a* primary armed guardhangs | b replica",
                "ArmGuard { pid: 4711, no_later: None }",
            ),
            (
                "lock a | a* primary armed guardhangs guardfailed 1s | b replica",
                "nothing",
            ),
            (
                "lock b | a* replica from b armed guardhangs guardfailed 1s | b primary",
                "DisarmGuard",
            ),
            (
                "lock - | a* crashed armed job start_primary | b replica",
                "nothing",
            ),
        ],
    );
}

/// `guard`, which looks after the watchdog device too.
#[test]
fn the_watchdog_is_armed_with_the_guard() {
    let arm = "ArmGuard { pid: 4711, no_later: None }";
    check(
        "guard",
        &[
            ("lock a optime 50 | a* primary armed dog | b replica", arm),
            (
                "lock a | a* primary armed dog dogarmed | b replica",
                "nothing",
            ),
            // Nothing to be had, nothing is missed; until the lock is another one.
            (
                "lock a | a* primary armed dog dogfailed 60s | b replica",
                "nothing",
            ),
            (
                "lock a | a* primary armed dog_required dogfailed 1s twice | b replica",
                "nothing",
            ),
            (
                "lock a | a* primary armed dog_required dogfailed 5s twice | b replica",
                arm,
            ),
            // Without a guard too.
            ("lock a guard_off | a* primary dog | b replica", arm),
            ("lock a guard_off | a* primary | b replica", "nothing"),
            (
                "lock b | a* replica from b dog dogarmed | b primary",
                "DisarmGuard",
            ),
            (
                "lock a pause | a* primary dog dogarmed | b replica",
                "DisarmGuard",
            ),
            // It may still write: the machine is better reset than that it goes on.
            ("lock b | a* primary dog dogarmed | b primary", "nothing"),
            (
                "lock b | a* replica from b dog_required dogfailed 5s | b primary",
                "TryGuard { pid: 4711 }",
            ),
            (
                "lock b | a* replica from b dog_required dogfailed 1s | b primary",
                "nothing",
            ),
        ],
    );
}

/// `member`.
#[test]
fn the_own_key_is_written_when_the_store_can_be_read() {
    check(
        "member",
        &[
            ("lock b | a* replica tl2 from b | b primary", "PutMember"),
            (
                "unreachable lock b | a* replica tl2 from b | b primary",
                "nothing",
            ),
        ],
    );
}

/// `sight`.
#[test]
fn the_lease_of_the_lock_is_looked_at_by_whoever_may_take_it() {
    check(
        "sight",
        &[
            ("lock b | a* replica from b | b primary", "LookAtLease"),
            (
                "lock b | a* replica from b nofailover | b primary",
                "nothing",
            ),
        ],
    );
}

/// `peers`.
#[test]
fn others_are_asked_once_the_stream_is_broken() {
    check(
        "peers",
        &[
            (
                "lock b | a* replica from b broken | b primary unasked | c replica unasked",
                "AskPeers",
            ),
            (
                "lock b | a* replica from b | b primary unasked | c replica unasked",
                "nothing",
            ),
        ],
    );
}

/// `request`.
#[test]
fn a_request_that_nobody_can_serve_is_dropped() {
    check(
        "request",
        &[
            (
                "lock a failover c>b | a* primary armed | b replica",
                "PutFailover",
            ),
            (
                "lock a failover >b | a* primary armed | b replica mute",
                "nothing",
            ),
        ],
    );
}

/// `slots`.
#[test]
fn members_have_slots_and_nobody_else() {
    check(
        "slots",
        &[
            (
                "lock a | a* primary armed | b replica",
                r#"CreateSlot("b")"#,
            ),
            (
                "lock a | a* primary armed slot old | b replica",
                r#"CreateSlot("b") + DropSlot("old")"#,
            ),
            ("lock - | a* replica slot old | b replica mute", "nothing"),
            (
                "lock a no_slots | a* primary armed slot b | b replica",
                r#"DropSlot("b")"#,
            ),
            (
                "lock b | a* replica from b nofailover | b primary",
                "nothing",
            ),
        ],
    );
}

/// `sync`.
#[test]
fn the_synchronous_standby_is_one_that_postgresql_waits_for() {
    check(
        "sync",
        &[
            (
                "lock a sync_mode | a* primary armed | b replica attached",
                "PutSync",
            ),
            (
                "lock a sync_mode sync b:a | a* primary armed | b replica attached",
                "PutSync",
            ),
            (
                "lock a sync_mode sync a: | a* primary armed | b replica attached",
                r#"SetSynchronousStandbys("b")"#,
            ),
            (
                "lock a sync_mode sync a: | a* primary armed waits b | b replica attached synced",
                r#"SetSynchronousStandbys("b")"#,
            ),
            (
                "lock a sync_mode sync a:b | a* primary armed waits b | b replica",
                "PutSync",
            ),
            (
                "lock a sync a:b | a* primary armed waits b | b replica attached synced",
                r#"DeleteSync + SetSynchronousStandbys("")"#,
            ),
            // By tags: whoever is not to be, and whoever is wanted most.
            (
                "lock a sync_mode sync a: | a* primary armed | b replica attached nosync | c replica attached",
                r#"SetSynchronousStandbys("c")"#,
            ),
            (
                "lock a sync_mode sync a: | a* primary armed | b replica attached | c replica attached sync_prio 2",
                r#"SetSynchronousStandbys("c")"#,
            ),
        ],
    );
}

/// `bootstrap`: members tagged `clonefrom`, each in its turn, else the leader; nobody while that does not run as primary.
#[test]
fn a_copy_is_made_of_whom_the_tags_name() {
    for (text, expected) in [
        ("lock b | a* empty | b primary | c replica", ["b", "b"]),
        (
            "lock b | a* empty | b primary | c replica clonefrom | d replica clonefrom",
            ["c", "d"],
        ),
        (
            "lock b | a* empty | b replica | c replica clonefrom",
            ["", ""],
        ),
    ] {
        let (mut view, memory) = parse(text);
        let mut found = [0, 1].map(|millis| {
            view.now = view.now + pgherd_model::Span::from_millis(millis);
            let actions = crate::decide(&view, &memory).actions;
            let from = actions.into_iter().find_map(|action| match action {
                crate::Action::StartJob(crate::JobKind::Clone { from, .. }) => from,
                _ => None,
            });
            from.map_or(String::new(), |from| from.name.to_string())
        });
        found.sort();
        assert_eq!(found, expected, "{text}");
    }
}

/// `maximum_lag_on_syncnode`: measured by what a commit waits for, from the foremost standby.
#[test]
fn a_standby_that_lags_too_far_is_not_waited_for() {
    use pgherd_model::{CommitsWait, Lsn, MemberName, Op};
    let text = "lock a sync_mode sync a:b | a* primary armed waits b lsn 9000 | b replica attached synced | c replica attached";
    for (waits, longest, expected) in [
        (CommitsWait::Flushed, Some(1000), None),
        (CommitsWait::Replayed, None, None),
        (CommitsWait::Replayed, Some(8000), None),
        (CommitsWait::Replayed, Some(7999), Some(Vec::new())),
    ] {
        let (mut view, mut memory) = parse(text);
        view.settings.commits_wait = waits;
        view.settings.maximum_lag_on_syncnode = longest;
        for standby in &mut view.local.look.as_mut().unwrap().standbys {
            (standby.flushed, standby.replayed) = (Lsn(9000), Lsn(9000));
            if standby.name == "b" {
                standby.replayed = Lsn(1000);
            }
        }
        let (_, ask) = DUTIES.iter().find(|(name, _)| *name == "sync").unwrap();
        let (actions, _) = ask(&Ctx::new(&view, &memory), &mut memory);
        let published: Option<Vec<MemberName>> = actions.iter().find_map(|action| match action {
            crate::Action::Store(Op::PutSync { sync, .. }) => Some(sync.standbys.clone()),
            _ => None,
        });
        // It leaves `/sync` before PostgreSQL waits for the other one.
        assert_eq!(published, expected, "{waits:?} {longest:?}");
    }
}

/// `history`.
#[test]
fn a_new_timeline_is_published() {
    check(
        "history",
        &[
            ("lock a | a* primary tl2 armed | b replica", "PutHistory"),
            // Of another cluster, which had the same name.
            (
                "lock a history 2 | a* primary tl1 armed | b replica",
                "PutHistory",
            ),
            ("lock a | a* primary tl1 armed | b replica", "nothing"),
        ],
    );
}

/// `history`: who was promoted is kept of lines that are there, and no more lines than `max_timelines_history`.
#[test]
fn the_history_is_completed_and_cut() {
    let (mut view, memory) = parse("lock a | a* primary tl4 armed | b replica");
    let line = |timeline: u32| pgherd_model::HistoryLine {
        timeline: pgherd_model::Timeline(timeline),
        end: pgherd_model::Lsn(u64::from(timeline) * 10),
        reason: "no recovery target specified".into(),
        timestamp: Some("2026-11-21T00:23:34.338580+00:00".into()),
        leader: None,
    };
    let known = pgherd_model::HistoryLine {
        leader: Some("b".into()),
        ..line(2)
    };
    view.local.own_history = [1, 2, 3].map(line).into();
    if let crate::Dcs::Fresh(cluster) = &mut view.dcs {
        cluster.history = Some(pgherd_model::Stored {
            value: alloc::vec![known.clone()],
            revision: 3,
        });
    }
    let own = pgherd_model::HistoryLine {
        leader: Some("a".into()),
        ..line(3)
    };
    let (_, ask) = DUTIES.iter().find(|(name, _)| *name == "history").unwrap();
    for (most, expected) in [
        (0, alloc::vec![line(1), known.clone(), own.clone()]),
        (2, alloc::vec![known, own.clone()]),
        (1, alloc::vec![own]),
    ] {
        view.settings.max_timelines_history = most;
        let actions = ask(&Ctx::new(&view, &memory), &mut memory.clone()).0;
        let [crate::Action::Store(pgherd_model::Op::PutHistory { history, .. })] =
            actions.as_slice()
        else {
            panic!("{actions:?}");
        };
        assert_eq!(*history, expected, "{most}");
    }
}

/// `config`.
#[test]
fn a_missing_configuration_is_stored() {
    check(
        "config",
        &[
            (
                "lock a noconfig | a* primary armed | b replica",
                "PutConfig",
            ),
            (
                "lock a badconfig | a* primary armed | b replica",
                "PutConfig",
            ),
            ("lock a | a* primary armed | b replica", "nothing"),
            ("lock b noconfig | a* replica from b | b primary", "nothing"),
        ],
    );
}

/// `checkpoint`.
#[test]
fn a_promotion_is_followed_by_a_checkpoint() {
    check(
        "checkpoint",
        &[(
            "lock a | a* primary tl2 control 1 armed | b replica",
            "Checkpoint",
        )],
    );
}

/// `status`.
#[test]
fn the_position_is_published() {
    check(
        "status",
        &[(
            "lock a optime 10 | a* primary armed | b replica",
            "PutStatus",
        )],
    );
}

/// `config`: what is in force, over what was found, and nothing where nothing is known.
#[test]
fn the_configuration_in_force_is_put_back() {
    let put = |view: &crate::View, memory: &crate::Memory| {
        let (_, ask) = DUTIES.iter().find(|(name, _)| *name == "config").unwrap();
        ask(&Ctx::new(view, memory), &mut memory.clone()).0
    };
    let (mut view, memory) = parse("lock a badconfig | a* primary armed | b replica");
    view.config = r#"{"ttl":30}"#.into();
    let op = pgherd_model::Op::PutConfig {
        text: view.config.clone(),
        expected: Some(3),
    };
    assert_eq!(put(&view, &memory), [crate::Action::Store(op)]);
    view.config = String::new();
    assert_eq!(put(&view, &memory), []);
}

/// `member`: a key under a lease that nobody keeps alive is written anew; a standby that reads an
/// archive says so.
#[test]
fn the_own_key_lives_under_the_lease_in_force() {
    let (mut view, memory) = parse("lock b | a* replica archive | b primary");
    let member = crate::describe(&view, &memory);
    let state = member.replication_state.as_deref();
    assert_eq!(state, Some("in archive recovery"));
    let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    let own = cluster.members.get_mut(&member.name).unwrap();
    own.value = member;
    own.value.lease = 7;
    view.member_lease = 7;
    let (_, ask) = DUTIES.iter().find(|(name, _)| *name == "member").unwrap();
    let written = |view: &crate::View| ask(&Ctx::new(view, &memory), &mut memory.clone()).0.len();
    assert_eq!(written(&view), 0);
    view.member_lease = 0;
    assert_eq!(written(&view), 1);
    let (view, memory) = parse("lock b | a* replica from b archive | b primary");
    let state = crate::describe(&view, &memory).replication_state;
    assert_eq!(state.as_deref(), Some("streaming"));
    let (view, memory) = parse("lock b | a* replica | b primary");
    assert_eq!(crate::describe(&view, &memory).replication_state, None);
}

/// `member`: what waits for a restart is published, whatever else goes on.
#[test]
fn a_pending_restart_is_published() {
    let (mut view, memory) = parse("lock b | a* replica from b | b primary");
    assert!(!crate::describe(&view, &memory).pending_restart);
    let waiting = ("max_connections", "100", "200");
    let waiting = (waiting.0.into(), waiting.1.into(), waiting.2.into());
    if let Some(look) = &mut view.local.look {
        look.pending_restart.push(waiting);
    }
    let member = crate::describe(&view, &memory);
    assert!(member.pending_restart);
    assert_eq!(member.pending_restart_reason.len(), 1);
    // Written once: what is published already is no reason.
    let (_, duty) = DUTIES.iter().find(|(name, _)| *name == "member").unwrap();
    let ordered = |view: &crate::View| duty(&Ctx::new(view, &memory), &mut memory.clone()).0.len();
    let published = |view: &mut crate::View, member: &pgherd_model::Member| {
        let crate::Dcs::Fresh(cluster) = &mut view.dcs else {
            return;
        };
        let own = cluster.members.get_mut(&member.name);
        own.expect("it is a member").value = member.clone();
    };
    published(&mut view, &member);
    assert_eq!(ordered(&view), 0);
    let mut before = member;
    before.pending_restart_reason.clear();
    published(&mut view, &before);
    assert_eq!(ordered(&view), 1);
}
