//! `senders`: who is told to end when a stop waits for WAL senders, over several decisions.

use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{ControlState, Span};

use super::{parse, standby_pid};
use crate::{Action, Demotion, Restarting, decide};

/// Of `pg_receivewal`.
const BACKUP: u32 = 7;

/// Waits from the beginning, with a decision every 20 ms, and tells who is ended when: `1.0 c, 5.0 pg_receivewal b c`. Each
/// question to others is answered at once, never again by the same.
fn ends(text: &str, change: impl Fn(&mut crate::View, &mut crate::Memory)) -> Vec<String> {
    let (mut view, mut memory) = parse(text);
    memory.senders = ["b", "c", "d"]
        .map(|name| (standby_pid(name), name.into()))
        .into_iter()
        .chain([(BACKUP, "pg_receivewal".into())])
        .collect();
    view.local.awaits_senders = true;
    let begin = view.now;
    // What others told before the stop is old.
    for fact in view.peers.values_mut() {
        (fact.asked, fact.answered) = (begin - Span::from_secs(3), begin - Span::from_secs(3));
    }
    change(&mut view, &mut memory);
    let (mut told, mut before): (Vec<String>, Vec<u32>) = (Vec::new(), Vec::new());
    for turn in 0..320 {
        view.now = begin + Span::from_millis(20) * turn;
        view.heard = view.now;
        if let Some(lease) = &mut view.lease {
            lease.sent = view.now;
        }
        let decision = decide(&view, &memory);
        memory = decision.memory;
        for action in decision.actions {
            match action {
                Action::AskPeers(asks) => {
                    for ask in asks {
                        let fact = view.peers.get_mut(&ask.member).unwrap();
                        (fact.asked, fact.answered) = (view.now, view.now);
                    }
                }
                Action::EndSenders(pids) if pids != before => {
                    let name = |pid: &u32| memory.senders[pid].as_str();
                    let names: Vec<&str> = pids.iter().map(name).collect();
                    let after = view.now.since(begin).as_millis();
                    told.push(alloc::format!("{after} {}", names.join(" ")));
                    before = pids;
                }
                _ => {}
            }
        }
    }
    told
}

/// A switchover has ordered the stop.
fn demotes(candidate: Option<&str>) -> impl Fn(&mut crate::View, &mut crate::Memory) {
    move |view, memory| {
        memory.demotion = Some(Demotion {
            since: view.now,
            request: None,
            candidate: candidate.map(Into::into),
            manual: false,
            word: "switchover".into(),
            down_since: None,
            taking_back: None,
        });
    }
}

const STOPS: &str = "lock a | a* silent job stop | b replica | c replica mute | d replica";

#[test]
fn whoever_may_take_over_is_spared_to_the_end() {
    let all = "5000 pg_receivewal b c d";
    for (candidate, expected) in [
        (Some("b"), ["1000 c d", all]),
        (Some("c"), ["1000 b d", all]),
        // Asked once, after 200 ms; that answer counts however old it becomes.
        (None, ["1000 c", all]),
    ] {
        assert_eq!(ends(STOPS, demotes(candidate)), expected, "{candidate:?}");
    }
    // The agent ends.
    let ends_too = STOPS.replace("silent", "silent shutdown");
    assert_eq!(ends(&ends_too, |_, _| {}), ["1000 c", all]);
}

/// A candidate that streams from another standby gets the shutdown checkpoint through that one.
#[test]
fn the_upstream_of_a_candidate_is_spared_too() {
    let cascades =
        "lock a | a* silent job stop | b replica cascades d | c replica mute | d replica";
    let told = ends(cascades, demotes(Some("b")));
    assert_eq!(told, ["1000 c", "5000 pg_receivewal b c d"]);
}

/// Where PostgreSQL is started again nobody needs to have everything, nor where somebody else leads.
#[test]
fn nobody_is_spared_for_a_restart() {
    let restart = |view: &mut crate::View, memory: &mut crate::Memory| {
        memory.restart = Some(Restarting {
            number: 1,
            since: view.now,
            timeout: None,
            stopping: true,
            down_since: None,
        });
    };
    let expected = ["1000 b c d", "5000 pg_receivewal b c d"];
    assert_eq!(ends(STOPS, restart), expected);
    // A standby that others stream from, and that is stopped.
    let led =
        "lock e | a* silent standby job stop | b replica | c replica mute | d replica | e primary";
    let replicates = |view: &mut crate::View, _: &mut crate::Memory| {
        view.local.control.as_mut().unwrap().state = ControlState::InArchiveRecovery;
    };
    assert_eq!(ends(led, replicates), expected);
}

/// Not while the last checkpoint is written, while sessions have not ended, or where nothing is stopped in order.
#[test]
fn nobody_is_ended_where_the_senders_are_not_what_is_waited_for() {
    let writes = |view: &mut crate::View, _: &mut crate::Memory| {
        view.local.control.as_mut().unwrap().state = ControlState::ShuttingDown;
    };
    assert_eq!(ends(STOPS, writes), [] as [&str; 0]);
    let sessions =
        |view: &mut crate::View, _: &mut crate::Memory| view.local.awaits_senders = false;
    assert_eq!(ends(STOPS, sessions), [] as [&str; 0]);
    let killed = STOPS.replace("job stop", "job kill");
    assert_eq!(ends(&killed, |_, _| {}), [] as [&str; 0]);
}
