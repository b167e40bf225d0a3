//! What is compared: facts of all nodes as lines, without raw positions.

use std::collections::BTreeMap;

use pgherd_model::{ControlState, DataDir, HistoryLine, Look, Lsn, Postmaster, Timeline};

use super::side::{Facts, NODES};
use crate::words::node_name;

/// Which node listens on a port.
pub(crate) type Ports<'a> = &'a dyn Fn(u16) -> Option<usize>;

/// All that is seen now.
pub(crate) fn lines(facts: &[Facts], acknowledged: &[u64], ports: Ports<'_>) -> Vec<String> {
    let forks = Forks::of(facts);
    let mut lines = Vec::new();
    for (node, facts) in facts.iter().enumerate().take(NODES) {
        let own = node_lines(facts, &forks, ports);
        let name = node_name(node);
        lines.extend(own.into_iter().map(|line| format!("{name} {line}")));
    }
    lines.extend(order(facts, &forks));
    lines.push(format!("acknowledged {acknowledged:?}"));
    lines
}

fn node_lines(facts: &Facts, forks: &Forks, ports: Ports<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    match (&facts.data, facts.postmaster, &facts.look) {
        (DataDir::Initialized, Postmaster::Alive { .. }, Some(look)) => {
            lines.extend(running(look, ports));
        }
        (DataDir::Initialized, Postmaster::Alive { .. }, None) => {
            lines.push("does not answer".into());
        }
        (_, Postmaster::Leftovers(_), _) => lines.push("has leftovers".into()),
        (DataDir::Initialized, Postmaster::Down, _) => lines.extend(down(facts)),
        (data, _, _) => lines.push(format!("has no cluster: {data:?}")),
    }
    if facts.data == DataDir::Initialized {
        lines.push(format!("has history {}", forks.told(&facts.history)));
        if facts.standby_signal {
            lines.push("has standby.signal".into());
        }
        if facts.backup_label {
            lines.push("has backup_label".into());
        }
        if let Some(rows) = &facts.rows {
            lines.push(format!("has rows {rows:?}"));
        }
    }
    lines
}

fn running(look: &Look, ports: Ports<'_>) -> Vec<String> {
    let whose = |port: u16| ports(port).map_or("somebody".into(), node_name);
    let role = if look.in_recovery {
        "standby"
    } else {
        "primary"
    };
    let Timeline(timeline) = look.timeline;
    let mut lines = vec![format!("is {role} on timeline {timeline}")];
    // One that is refused tries again and again: for moments it is there.
    if let Some(receiver) = look.receiver.as_ref().filter(|it| it.streaming) {
        let Timeline(timeline) = receiver.timeline;
        let slot = &receiver.slot;
        let from = whose(receiver.port);
        lines.push(format!(
            "streams from {from} on timeline {timeline}, slot {slot:?}"
        ));
    }
    // A primary keeps what it was told as a standby in its file; nobody asks for it.
    if let Some(upstream) = look.upstream.as_ref().filter(|_| look.in_recovery) {
        let slot = &upstream.slot;
        lines.push(format!(
            "is told to stream from {}, slot {slot:?}",
            whose(upstream.port)
        ));
    }
    for standby in look.standbys.iter().filter(|it| it.state == "streaming") {
        let (name, state) = (&standby.name, &standby.state);
        let (sync, priority) = (&standby.sync_state, standby.sync_priority);
        lines.push(format!(
            "feeds {name}: {state}, {sync}, priority {priority}"
        ));
    }
    for slot in &look.slots {
        let active = if slot.active { "active" } else { "idle" };
        let reserved = if slot.restart.is_some() {
            "reserved"
        } else {
            "reserves nothing"
        };
        lines.push(format!(
            "has slot {}: {:?}, {active}, {reserved}",
            slot.name, slot.kind
        ));
    }
    lines.push(format!(
        "has sync names {:?}",
        look.synchronous_standby_names
    ));
    for (name, now, wanted) in &look.pending_restart {
        lines.push(format!(
            "waits for a restart: {name} is {now}, wanted {wanted}"
        ));
    }
    if look.replay_paused {
        lines.push("has paused replay".into());
    }
    lines.sort();
    lines
}

fn down(facts: &Facts) -> Vec<String> {
    let Some(control) = &facts.control else {
        return vec!["has no pg_control".into()];
    };
    let Timeline(timeline) = control.timeline;
    let mut lines = vec![format!("is down: {:?}, timeline {timeline}", control.state)];
    let recovering = matches!(
        control.state,
        ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery
    );
    match control.min_recovery_end {
        Lsn(0) => lines.push("needs no recovery".into()),
        _ if recovering => {
            let Timeline(timeline) = control.min_recovery_timeline;
            lines.push(format!("must recover to timeline {timeline}"));
        }
        _ => lines.push("must recover".into()),
    }
    if facts.shutdown_end.is_some() {
        lines.push("has a shutdown checkpoint".into());
    }
    lines
}

/// Ends of timelines as all histories tell them, with names.
struct Forks(BTreeMap<(Timeline, Lsn), String>);

impl Forks {
    fn of(facts: &[Facts]) -> Forks {
        let mut ends: BTreeMap<(Timeline, Lsn), String> = BTreeMap::new();
        for line in facts.iter().flat_map(|facts| &facts.history) {
            ends.insert((line.timeline, line.end), String::new());
        }
        let mut last = (Timeline(0), 0);
        for ((timeline, _), name) in &mut ends {
            let number = if last.0 == *timeline { last.1 + 1 } else { 1 };
            last = (*timeline, number);
            *name = match number {
                1 => format!("fork{}", timeline.0),
                number => format!("fork{}.{number}", timeline.0),
            };
        }
        Forks(ends)
    }

    fn told(&self, history: &[HistoryLine]) -> String {
        let name = |line: &HistoryLine| {
            let known = self.0.get(&(line.timeline, line.end));
            known.cloned().unwrap_or_default()
        };
        history.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Positions of the nodes on each timeline and ends of that, from the lowest to the highest. Those on
/// different timelines say nothing of each other. And a running primary writes WAL by itself now and
/// then: it is compared with those that stream from it, and with nobody who stands still.
fn order(facts: &[Facts], forks: &Forks) -> Vec<String> {
    let mut places: BTreeMap<(Timeline, bool), Vec<(Lsn, String)>> = BTreeMap::new();
    for (node, facts) in facts.iter().enumerate() {
        let (timeline, position, moves) = match (&facts.look, facts.shutdown_end, &facts.control) {
            (Some(look), _, _) => {
                let streams = look.receiver.as_ref().is_some_and(|it| it.streaming);
                (
                    look.timeline,
                    look.wal.position(),
                    streams || !look.in_recovery,
                )
            }
            (None, Some(end), Some(control)) => (control.timeline, end, false),
            (None, _, _) => continue,
        };
        let places = places.entry((timeline, moves)).or_default();
        places.push((position, node_name(node)));
    }
    for ((timeline, end), name) in &forks.0 {
        let places = places.entry((*timeline, false)).or_default();
        places.push((*end, name.clone()));
    }
    let all = places.into_iter();
    all.map(|((timeline, moves), places)| ranked(timeline, moves, places))
        .collect()
}

fn ranked(timeline: Timeline, moves: bool, mut places: Vec<(Lsn, String)>) -> String {
    places.sort();
    let still = if moves { "" } else { ", still" };
    let mut text = format!("timeline {}{still}: ", timeline.0);
    for (at, (lsn, name)) in places.iter().enumerate() {
        let same = at > 0 && places[at - 1].0 == *lsn;
        text += match (at, same) {
            (0, _) => "",
            (_, true) => " = ",
            (_, false) => " < ",
        };
        text += name;
    }
    text
}
