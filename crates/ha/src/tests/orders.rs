//! `restart_order` and `reinitialize`: what people ask of one node.

use super::*;
use crate::{Action, Decision, Restarted};

/// `asked N`: a restart, number N; `asked_at N S`: at S seconds from now; with `only_pending`. `copy N`: a
/// new copy, with `force`, `from_leader`.
pub(super) fn of(me: &Said) -> Orders {
    let order = |number: &str| RestartOrder {
        number: number.parse().unwrap(),
        condition: RestartCondition {
            pending: me.has("only_pending"),
            ..RestartCondition::default()
        },
        timeout: None,
        scheduled: None,
    };
    let seconds = me.words.iter().position(|word| word == "asked_at");
    let seconds = seconds.map(|at| me.words[at + 2].clone());
    Orders {
        restart: me.value("asked").map(order),
        scheduled_restart: me.value("asked_at").map(order).map(|order| RestartOrder {
            scheduled: seconds.map(|text| ScheduledRestart {
                schedule: Schedule {
                    at: text
                        .parse()
                        .ok()
                        .map(|s: i64| WallTime(WALL.0 + s * 1_000_000)),
                    text,
                },
                start_time: me.value("of").unwrap_or_default().into(),
                document: "{}".into(),
            }),
            ..order
        }),
        reinitialize: me.value("copy").map(|number| ReinitializeOrder {
            number: number.parse().unwrap(),
            force: me.has("force"),
            from_leader: me.has("from_leader"),
        }),
        ..Orders::default()
    }
}

fn names(decision: &Decision) -> Vec<&'static str> {
    let names = decision.actions.iter().map(Action::name);
    names.filter(|name| !NOISE.contains(name)).collect()
}

/// A view that follows one with this memory.
fn then(text: &str, memory: &Memory) -> Decision {
    decide(&parse(text).0, memory)
}

/// The job that a decision orders has come to its end, or not, when the next view is taken.
fn with_job(text: &str, memory: &Memory, failed: bool) -> Decision {
    let (mut view, _) = parse(text);
    view.local.job = Some(Job {
        kind: JobKind::Stop {
            mode: StopMode::Fast,
            checkpoint_first: true,
        },
        since: view.now,
        ended: Some(view.now),
        outcome: Some(match failed {
            true => Outcome::Failed("it still runs".into()),
            false => Outcome::Done,
        }),
    });
    decide(&view, memory)
}

/// `restart_order`, then `restart`: no crash, so no hand-over, whatever the settings say of crashes.
#[test]
fn a_primary_restarts_in_place_when_asked() {
    let (view, memory) = parse("lock a handover | a* primary armed asked 1 | b replica");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    assert_eq!(begun.memory.dealt_with, 1);
    let down = "lock a handover | a* down asked 1 was_primary | b replica";
    let started = with_job(down, &begun.memory, false);
    assert_eq!(names(&started), ["StartPrimary"], "{}", started.why);
    assert_eq!(started.why.reason, "starting PostgreSQL again");
    let state = crate::describe(&parse(down).0, &started.memory).state;
    assert_eq!(state, Some(PostgresState::Restarting));
    let done = then(
        "lock a handover | a* primary armed asked 1 | b replica",
        &started.memory,
    );
    let end = Some((1, Restarted::Runs));
    assert_eq!(done.memory.restarted, end, "{}", done.why);
    assert_eq!(names(&done), Vec::<&str>::new());
    assert_eq!(done.memory.restart, None);
}

/// `restart_order`: once, and a later order is another one.
#[test]
fn an_order_is_carried_out_once() {
    let (view, mut memory) = parse("lock a | a* primary armed asked 4 | b replica");
    memory.dealt_with = 4;
    assert_eq!(names(&decide(&view, &memory)), Vec::<&str>::new());
    memory.dealt_with = 3;
    assert_eq!(names(&decide(&view, &memory)), ["StopFast"]);
}

/// `restart_order`: whatever of the two is dropped, the other one is still to come.
#[test]
fn a_restart_for_now_and_one_at_a_time_are_two_orders() {
    let text = "pause unreachable lock a | a* primary reborn asked 2 asked_at 1 30 | b replica";
    let (view, memory) = parse(text);
    let dropped = decide(&view, &memory).memory;
    assert_eq!((dropped.dealt_with, dropped.scheduled_dealt), (2, 0));
    let shown = crate::describe(&view, &dropped).scheduled_restart;
    assert!(shown.is_some());
    let (view, memory) = parse("lock a | a* primary armed asked_at 2 -16 | b replica");
    let stale = decide(&view, &memory).memory;
    assert_eq!((stale.dealt_with, stale.scheduled_dealt), (0, 2));
}

/// `restart_order`, then `follow`.
#[test]
fn a_standby_restarts_and_follows_again() {
    let (view, memory) = parse("lock b | a* replica from b asked 1 | b primary");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    let down = with_job(
        "lock b | a* crashed standby asked 1 | b primary",
        &begun.memory,
        false,
    );
    assert_eq!(names(&down), ["StartStandby"], "{}", down.why);
    // The stop failed and PostgreSQL goes on: said so, and nothing else is done about it.
    let failed = with_job(
        "lock b | a* replica from b asked 1 | b primary",
        &begun.memory,
        true,
    );
    let end = Some((1, Restarted::Failed));
    assert_eq!(failed.memory.restarted, end, "{}", failed.why);
}

/// `restart_order`: a pause is no obstacle for what is asked for now.
#[test]
fn a_pause_does_not_keep_a_restart_from_its_end() {
    let (view, memory) = parse("lock a pause | a* primary asked 1 | b replica");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
    let down = with_job(
        "lock a pause | a* down was_primary asked 1 | b replica",
        &begun.memory,
        false,
    );
    assert_eq!(names(&down), ["StartPrimary"], "{}", down.why);
    // One with a time waits for the end of the pause.
    let (view, memory) = parse("lock a pause | a* primary asked_at 1 0 | b replica");
    assert_eq!(names(&decide(&view, &memory)), Vec::<&str>::new());
}

/// `restart_order`: a stop that takes longer than its job goes on by itself, and the start follows.
#[test]
fn a_stop_that_takes_long_is_waited_for() {
    for pause in ["", "pause"] {
        let primary = format!("lock a {pause} | a* primary asked 1 | b replica");
        let (view, memory) = parse(&primary);
        let begun = decide(&view, &memory);
        assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
        let silent = format!("lock a {pause} | a* silent asked 1 was_primary | b replica");
        let waiting = with_job(&silent, &begun.memory, true);
        assert!(waiting.memory.restart.is_some(), "{}", waiting.why);
        let down = format!("lock a {pause} | a* down asked 1 was_primary | b replica");
        let started = with_job(&down, &waiting.memory, true);
        assert_eq!(names(&started), ["StartPrimary"], "{}", started.why);
    }
}

/// `restart_order`: where nobody may start PostgreSQL (its data went another way) the order ends.
#[test]
fn a_restart_that_cannot_end_fails() {
    let (view, memory) = parse("lock b | a* replica from b asked 1 | b primary");
    let begun = decide(&view, &memory);
    let text = "lock b fork b:1@45 | a* down lsn 50 asked 1 | b primary tl2";
    let down = with_job(text, &begun.memory, false);
    assert!(down.memory.restart.is_some(), "{}", down.why);
    let (mut later, _) = parse(text);
    later.now = later.now + later.settings.primary_start_timeout;
    let over = decide(&later, &down.memory);
    let end = Some((1, Restarted::Failed));
    assert_eq!(over.memory.restarted, end, "{}", over.why);
    assert_eq!(over.memory.restart, None);
    // Whoever gives it less time is told sooner.
    let mut hasty = down.memory.clone();
    hasty.restart.as_mut().unwrap().timeout = Some(Span::from_secs(5));
    for (seconds, end) in [(4, None), (5, end)] {
        later.now = parse(text).0.now + Span::from_secs(seconds);
        let told = decide(&later, &hasty).memory.restarted;
        assert_eq!(told, end, "{seconds}");
    }
}

/// `restart_order`: a start that has taken its time is told of, whatever rule looks after it; the restart
/// goes on until PostgreSQL runs or is gone.
#[test]
fn a_start_that_takes_long_is_told_and_goes_on() {
    let standby = StartAs::Standby {
        upstream: None,
        follow: None,
    };
    for (lock, start) in [
        ("lock a | a* silent asked 1 | b replica", StartAs::Primary),
        ("lock b | a* silent standby asked 1 | b primary", standby),
    ] {
        let (mut view, mut memory) = parse(lock);
        memory.restart = Some(crate::Restarting {
            number: 1,
            since: view.now,
            timeout: Some(Span::from_secs(5)),
            stopping: true,
            down_since: Some(view.now),
        });
        memory.dealt_with = 1;
        let begun = view.now;
        let mut start = Job {
            kind: JobKind::Start(start),
            since: begun,
            outcome: None,
            ended: None,
        };
        view.local.job = Some(start.clone());
        view.now = begun + Span::from_millis(4_999);
        assert_eq!(decide(&view, &memory).memory.restarted, None, "{lock}");
        view.now = begun + Span::from_secs(5);
        let told = decide(&view, &memory);
        let end = Some((1, Restarted::Starting));
        assert_eq!(told.memory.restarted, end, "{lock}: {}", told.why);
        assert!(told.memory.restart.is_some(), "{lock}: {}", told.why);
        // Its job has given up waiting; that is no failure.
        start.outcome = Some(Outcome::Failed("it does not answer yet".into()));
        start.ended = Some(view.now);
        view.local.job = Some(start);
        let waiting = decide(&view, &told.memory);
        assert_eq!(waiting.memory.restarted, end, "{lock}: {}", waiting.why);
        assert!(waiting.memory.restart.is_some(), "{lock}: {}", waiting.why);
        view.local.postmaster = Postmaster::Down;
        let gone = decide(&view, &waiting.memory);
        let end = Some((1, Restarted::Failed));
        assert_eq!(gone.memory.restarted, end, "{lock}: {}", gone.why);
    }
}

/// `restart_order`: what does not answer any more can be restarted, what has never answered is let start.
#[test]
fn a_standby_that_hangs_is_restarted_when_asked() {
    let hangs = "lock b | a* silent standby asked 1 | b primary";
    let (view, memory) = parse(hangs);
    let starting = decide(&view, &memory);
    assert_eq!(starting.why.rule, "starting", "{}", starting.why);
    assert_eq!(starting.memory.dealt_with, 0);
    let state = |view: &View, memory: &Memory| crate::describe(view, memory).state;
    assert_eq!(
        state(&view, &starting.memory),
        Some(PostgresState::Starting)
    );

    let answered = then("lock b | a* replica from b | b primary", &memory).memory;
    let idle = then("lock b | a* silent standby | b primary", &answered);
    assert_eq!(state(&view, &idle.memory), Some(PostgresState::Running));
    let begun = then(hangs, &idle.memory);
    assert_eq!(begun.memory.dealt_with, 1, "{}", begun.why);
    let stop = JobKind::Stop {
        mode: StopMode::Fast,
        // It would not come to its end.
        checkpoint_first: false,
    };
    assert_eq!(begun.actions, [Action::StartJob(stop)], "{}", begun.why);

    // Another postmaster has to answer first.
    let (mut other, _) = parse(hangs);
    other.local.postmaster = Postmaster::Alive { pid: 4712 };
    let waits = decide(&other, &idle.memory);
    assert_eq!(waits.why.rule, "starting", "{}", waits.why);
    assert_eq!(state(&other, &waits.memory), Some(PostgresState::Starting));
}

/// `member`: what waits for a restart waits for that of this postmaster, also while it says nothing.
#[test]
fn a_pending_restart_is_known_while_postgresql_hangs() {
    let answered = then(
        "lock b | a* replica from b pends | b primary",
        &Memory::default(),
    );
    let (silent, _) = parse("lock b | a* silent standby | b primary");
    let hangs = decide(&silent, &answered.memory).memory;
    assert!(crate::describe(&silent, &hangs).pending_restart);
    for gone in ["a* down", "a* replica from b"] {
        let (view, _) = parse(&format!("lock b | {gone} | b primary"));
        let memory = decide(&view, &hangs).memory;
        assert!(!crate::describe(&view, &memory).pending_restart, "{gone}");
    }
}

/// `paused`: a primary does not come back as anything else because the lock service is away.
#[test]
fn in_a_pause_a_primary_comes_back_as_one() {
    let asked = "pause unreachable lock a | a* primary reborn asked 1 | b replica";
    let (view, memory) = parse(asked);
    let dropped = decide(&view, &memory);
    assert_eq!(names(&dropped), Vec::<&str>::new(), "{}", dropped.why);
    assert_eq!(
        (dropped.memory.dealt_with, dropped.memory.restart),
        (1, None)
    );
    let (view, memory) = parse("lock a pause | a* primary asked 1 | b replica");
    let begun = decide(&view, &memory);
    let away = "unreachable lock a pause | a* down reborn asked 1 | b replica";
    let waiting = with_job(
        away,
        &Memory {
            term: None,
            ..begun.memory.clone()
        },
        false,
    );
    assert_eq!(names(&waiting), Vec::<&str>::new(), "{}", waiting.why);
    let gone = with_job(
        "lock - pause | a* down asked 1 | b replica",
        &begun.memory,
        false,
    );
    assert_eq!(names(&gone), ["AcquireLeader"], "{}", gone.why);
    // The others are asked first, and who was promoted meanwhile keeps it.
    let unasked = "lock - pause | a* down asked 1 | b replica unasked";
    let asking = with_job(unasked, &begun.memory, false);
    assert_eq!(names(&asking), ["AskPeers"], "{}", asking.why);
    let promoted = "lock - pause | a* down asked 1 | b primary tl2";
    let left = with_job(promoted, &begun.memory, false);
    assert_eq!(names(&left), Vec::<&str>::new(), "{}", left.why);
    assert!(left.why.reason.contains("left to b"), "{}", left.why);
    let outrun = "lock - pause history 2 | a* down asked 1 | b replica tl3";
    let left = with_job(outrun, &begun.memory, false);
    assert_eq!(names(&left), Vec::<&str>::new(), "{}", left.why);
    assert!(left.why.reason.contains("old timeline"), "{}", left.why);
}

/// `restart_order`: the best candidate does not go away in the middle of a race.
#[test]
fn a_restart_waits_for_the_end_of_a_race() {
    let text =
        "lock - former c deleted 80 | a* replica lsn 50 asked 1 | b replica lsn 40 | c down words";
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    assert_eq!(decision.why.rule, "lock_free", "{}", decision.why);
    assert_eq!(decision.memory.dealt_with, 0);
    // One that nobody wins does not keep it for ever.
    let (mut late, mut memory) = parse(text);
    memory.free_since = Some(late.now - late.settings.loop_wait);
    assert_eq!(decide(&late, &memory).memory.dealt_with, 0);
    late.now = late.now + Span::from_millis(1);
    let begun = decide(&late, &memory);
    assert_eq!(names(&begun), ["StopFast"], "{}", begun.why);
}

/// `restart_order`: nobody's commit waits for a standby that is down.
#[test]
fn a_synchronous_standby_is_let_go_first() {
    let sync = "lock b sync_mode sync b:a | a* replica from b asked 1 | b primary";
    let (view, memory) = parse(sync);
    let asking = decide(&view, &memory);
    assert_eq!(names(&asking), Vec::<&str>::new(), "{}", asking.why);
    assert!(crate::describe(&view, &asking.memory).leaves_sync);
    assert!(asking.actions.iter().any(|it| it.name() == "PutMember"));
    let free = "lock b sync_mode sync b: | a* replica from b asked 1 | b primary";
    assert_eq!(names(&then(free, &asking.memory)), ["StopFast"]);
    // The leader does not react: not for ever.
    let (mut late, _) = parse(sync);
    late.now = late.now + late.settings.loop_wait * 2;
    assert_eq!(names(&decide(&late, &asking.memory)), ["StopFast"]);
}

/// `restart_order`: at its time, and only where its conditions hold then.
#[test]
fn a_scheduled_restart_waits_for_its_time() {
    for (said, expected, dealt) in [
        ("asked_at 1 30", vec![], 0),
        ("asked_at 1 0", vec!["StopFast"], 1),
        ("asked_at 1 -10", vec!["StopFast"], 1),
        ("asked_at 1 -16", vec![], 1),
        ("asked_at 1 someday", vec![], 1),
        ("asked_at 1 0 only_pending", vec![], 1),
        ("asked_at 1 0 only_pending pends", vec!["StopFast"], 1),
        // It was started since.
        ("asked_at 1 30 of yesterday", vec![], 1),
    ] {
        let (view, memory) = parse(&format!("lock a | a* primary armed {said} | b replica"));
        let decision = decide(&view, &memory);
        assert_eq!(names(&decision), expected, "{said}: {}", decision.why);
        assert_eq!(decision.memory.scheduled_dealt, dealt, "{said}");
        let shown = crate::describe(&view, &decision.memory).scheduled_restart;
        assert_eq!(shown.is_some(), dealt == 0, "{said}");
    }
    let (view, memory) = parse("lock a | a* primary armed asked_at 1 3 | b replica");
    let wake = decide(&view, &memory).wake_at;
    assert_eq!(
        wake,
        Some((view.now + Span::from_secs(3), "scheduled restart"))
    );
}

/// `reinitialize`, then `bootstrap`: stopped, removed, copied, started.
#[test]
fn data_are_copied_anew_when_asked() {
    let (view, memory) = parse("lock b | a* replica from b copy 1 | b primary");
    let begun = decide(&view, &memory);
    assert_eq!(names(&begun), ["StopImmediate"], "{}", begun.why);
    let down = then("lock b | a* crashed copy 1 | b primary", &begun.memory);
    assert_eq!(names(&down), ["RemoveData"], "{}", down.why);
    let empty = then("lock b | a* empty copy 1 | b primary", &down.memory);
    assert_eq!(names(&empty), ["Clone"], "{}", empty.why);
    let copied = then(
        "lock b | a* crashed standby copy 1 done clone | b primary",
        &empty.memory,
    );
    assert_eq!(names(&copied), ["StartStandby"], "{}", copied.why);
    assert!(copied.memory.reinitialize.is_some());
    let runs = then(
        "lock b | a* replica from b copy 1 | b primary",
        &copied.memory,
    );
    assert_eq!(runs.memory.reinitialize, None, "{}", runs.why);
}

/// Of a member: who waits for the end of the copy does not take the stop before it for that.
#[test]
fn a_copy_that_was_asked_for_is_shown_from_its_first_step_on() {
    let (_, mut memory) = parse("lock b | a* replica from b | b primary");
    for (text, expected) in [
        ("a* replica from b copy 1", PostgresState::CreatingReplica),
        ("a* silent standby job stop", PostgresState::CreatingReplica),
        ("a* crashed standby", PostgresState::CreatingReplica),
        (
            "a* crashed standby job removal",
            PostgresState::CreatingReplica,
        ),
        ("a* empty", PostgresState::CreatingReplica),
        ("a* empty job clone", PostgresState::CreatingReplica),
        // The next try is due later.
        ("a* unfinished failed clone", PostgresState::CreatingReplica),
        ("a* down standby done clone", PostgresState::Stopped),
        ("a* replica from b", PostgresState::Running),
    ] {
        let (view, _) = parse(&format!("lock b | {text} | b primary"));
        memory = decide(&view, &memory).memory;
        let state = crate::describe(&view, &memory).state;
        assert_eq!(state, Some(expected), "{text}");
    }
}

/// Of a member: others take it for stopped where it makes a copy.
#[test]
fn what_may_write_until_it_is_stopped_shows_no_copy() {
    for (text, expected) in [
        ("a* primary", PostgresState::Running),
        ("a* silent job stop", PostgresState::Stopping),
        ("a* crashed", PostgresState::CreatingReplica),
    ] {
        let (view, mut memory) = parse(&format!("lock b | {text} | b primary"));
        memory.reinitialize = Some(crate::Reinitializing {
            from_leader: false,
            removed: false,
            cannot_write: false,
        });
        let state = crate::describe(&view, &memory).state;
        assert_eq!(state, Some(expected), "{text}");
    }
}

/// `reinitialize`: the last copy is never removed, whatever happens between two looks.
#[test]
fn nothing_is_removed_without_another_leader() {
    for text in [
        "lock - | a* replica copy 1 | b replica",
        "lock a | a* primary armed copy 1 | b replica",
    ] {
        let (view, memory) = parse(text);
        let decision = decide(&view, &memory);
        assert_eq!(decision.memory.reinitialize, None, "{text}");
        assert!(
            !names(&decision).contains(&"StopImmediate"),
            "{}",
            decision.why
        );
    }
    let (view, memory) = parse("lock b | a* replica from b copy 1 | b primary");
    let begun = decide(&view, &memory);
    let gone = then("lock - | a* crashed copy 1 | b down", &begun.memory);
    assert_eq!(names(&gone), Vec::<&str>::new(), "{}", gone.why);
    assert_eq!(gone.memory.reinitialize, None);
}

/// `reinitialize`: what runs goes on, unless force is asked for.
#[test]
fn force_gives_up_what_runs() {
    let (view, memory) = parse("lock b | a* empty job clone copy 1 | b primary");
    let decision = decide(&view, &memory);
    assert_eq!(decision.memory.reinitialize, None, "{}", decision.why);
    let told = Some((1, String::from("copying x already in progress")));
    assert_eq!(decision.memory.copy_refused, told);
    let (view, memory) = parse("lock b | a* empty job clone copy 1 force | b primary");
    let decision = decide(&view, &memory);
    assert_eq!(names(&decision), ["StopImmediate"], "{}", decision.why);
    // Also between two jobs of one.
    let (view, memory) = parse("lock b | a* replica from b copy 1 | b primary");
    let begun = decide(&view, &memory).memory;
    let second = then("lock b | a* crashed copy 2 | b primary", &begun);
    let told = Some((2, String::from("reinitialize already in progress")));
    assert_eq!(second.memory.copy_refused, told, "{}", second.why);
    assert_eq!(second.memory.reinitialize, begun.reinitialize);
}

/// `reinitialize`: nor without somebody who runs and can be reached, asked before the stop and before
/// the removal.
#[test]
fn nothing_is_removed_without_somebody_to_copy() {
    for (leader, reason) in [
        (
            "b down",
            "nothing is removed while b does not run as primary",
        ),
        (
            "b replica",
            "nothing is removed while b does not run as primary",
        ),
        ("b primary addressless", "b cannot be reached: "),
    ] {
        let order = format!("lock b | a* replica from b copy 1 | {leader}");
        let (view, memory) = parse(&order);
        let decision = decide(&view, &memory);
        assert_eq!(names(&decision), Vec::<&str>::new(), "{}", decision.why);
        let dropped = format!("reinitialize: dropped, {reason}");
        assert!(
            decision.why.reason.starts_with(&dropped),
            "{}",
            decision.why
        );
        assert_eq!(decision.memory.reinitialize, None, "{order}");
        assert_eq!(decision.memory.dealt_with, 1, "{order}");
        let (number, told) = decision.memory.copy_refused.unwrap();
        assert!(number == 1 && told.starts_with(reason), "{told}");
        let (view, memory) = parse("lock b | a* replica from b copy 1 | b primary");
        let begun = decide(&view, &memory);
        let down = format!("lock b | a* crashed copy 1 | {leader}");
        let given_up = then(&down, &begun.memory);
        assert_eq!(names(&given_up), Vec::<&str>::new(), "{}", given_up.why);
        let words = format!("reinitialize: given up, {reason}");
        assert!(given_up.why.reason.starts_with(&words), "{}", given_up.why);
        assert_eq!(given_up.memory.reinitialize, None, "{down}");
    }
}

/// `reinitialize`, then `bootstrap`: a removal that failed half-way is made up for, after a while.
#[test]
fn a_removal_that_failed_is_tried_again() {
    let (view, memory) = parse("lock b | a* replica from b copy 1 | b primary");
    let begun = decide(&view, &memory);
    let down = then("lock b | a* crashed copy 1 | b primary", &begun.memory);
    assert_eq!(names(&down), ["RemoveData"], "{}", down.why);
    let text = "lock b | a* unfinished copy 1 failed removal | b primary";
    let (mut view, _) = parse(text);
    let failed = decide(&view, &down.memory);
    assert_eq!(names(&failed), Vec::<&str>::new(), "{}", failed.why);
    assert_eq!(failed.memory.copy.failures, 1, "{}", failed.why);
    view.now = view.now + Span::from_secs(1);
    let again = decide(&view, &failed.memory);
    assert_eq!(names(&again), ["Clone"], "{}", again.why);
}

/// `reinitialize`: a removal goes on whatever replaces it, so nothing does.
#[test]
fn force_does_not_give_up_a_removal() {
    let text = "lock b | a* crashed job removal copy 1 force from_leader | b primary";
    let (view, memory) = parse(text);
    let decision = decide(&view, &memory);
    assert_eq!(names(&decision), Vec::<&str>::new(), "{}", decision.why);
    assert_eq!(decision.memory.dealt_with, 1);
    let copy = crate::Reinitializing {
        from_leader: true,
        removed: false,
        cannot_write: true,
    };
    assert_eq!(decision.memory.reinitialize, Some(copy), "served by it");
}
