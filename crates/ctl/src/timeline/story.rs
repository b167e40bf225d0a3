//! From entries to sentences: what somebody would tell at a post-mortem, each thing once.

use super::merge::{Moment, seconds, text};
use pgherd_wire::journal::{Heard, Seen, What};
use std::collections::{BTreeMap, BTreeSet};

/// One line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Milliseconds since 1970.
    pub(super) at: i64,
    /// Whose journal tells it.
    pub(super) member: String,
    /// One sentence.
    pub(super) text: String,
}

/// Orders that are told of only when they fail: what matters about them is told otherwise.
const QUIET: [&str; 10] = [
    "AskHistory",
    "Checkpoint",
    "CreateSlot",
    "DisarmGuard",
    "DropSlot",
    "PutConfig",
    "PutFailover",
    "PutHistory",
    "PutInitialize",
    "TryGuard",
];

/// All lines, in the order of the moments.
pub(super) fn lines(moments: &[Moment]) -> Vec<Line> {
    let mut tellers: BTreeMap<&str, Teller> = BTreeMap::new();
    let mut lines = Vec::new();
    for moment in moments {
        let teller = tellers.entry(&moment.entry.member).or_default();
        for text in teller.tell(moment) {
            lines.push(Line {
                at: moment.at,
                member: moment.entry.member.clone(),
                text,
            });
        }
    }
    lines
}

/// What one member was last known to be.
#[derive(Default)]
struct Teller {
    agent: String,
    leader: Option<String>,
    streaming: bool,
    /// The timeline it was last told to stream.
    streams_on: u32,
    stale: bool,
    blind: bool,
    primary: bool,
    request: Option<String>,
    /// Sentences told since the leader changed.
    told: BTreeSet<String>,
}

impl Teller {
    fn tell(&mut self, moment: &Moment) -> Vec<String> {
        let entry = &moment.entry;
        if self.agent != entry.agent {
            // Another run knows nothing of the one before.
            *self = Teller {
                agent: entry.agent.clone(),
                ..Teller::default()
            };
        }
        let mut texts = Vec::new();
        if entry.dropped > 0 {
            texts.push(format!(
                "{} entries of the journal were lost",
                entry.dropped
            ));
        }
        match &entry.what {
            What::Start { version } => texts.push(format!("the agent starts (pgherd {version})")),
            What::Decision {
                rule,
                severity,
                reason,
                actions,
                view,
            } => {
                self.changes(moment, view, &mut texts);
                // Jobs, questions and what is routine tell of themselves.
                let asks = |name: &String| matches!(name.as_str(), "AskPeers" | "AskHistory");
                let serious = matches!(severity.as_str(), "warning" | "error");
                let telling = rule != "starting"
                    && severity != "routine"
                    && !reason.starts_with("no action.")
                    && !actions.iter().any(asks);
                if (telling || serious) && self.told.insert(reason.clone()) {
                    texts.push(format!("{reason} ({rule})"));
                }
            }
            What::Action {
                name,
                detail,
                outcome,
                error,
                ..
            } => {
                let term = entry.state.wrote.map_or(0, |wrote| wrote.revision);
                let text = action(name, detail, outcome, error, term);
                // A reminder of the same upstream is none.
                texts.extend(
                    text.filter(|text| name != "SetUpstream" || self.told.insert(text.clone())),
                );
            }
            What::JobBegun { words, .. } => texts.push(format!("begins: {words}")),
            What::JobEnded {
                words,
                outcome,
                error,
                took_ms,
                ..
            } => texts.push(job_ended(words, outcome, error, *took_ms)),
            What::Answer(heard) => texts.push(answer(heard)),
            What::Noticed { event, detail } => texts.push(noticed(event, detail)),
            What::Unknown => {}
        }
        texts
    }

    /// What is another thing than at the decision before.
    fn changes(&mut self, moment: &Moment, view: &Seen, texts: &mut Vec<String>) {
        let state = &moment.entry.state;
        let leader = state.leader.as_deref();
        let before = self.leader.as_deref();
        let own = leader == Some(moment.entry.member.as_str());
        let name = before.or(leader).unwrap_or("nobody");
        if self.streaming && !view.streaming && before == leader {
            texts.push(format!("the stream from {name} broke"));
        }
        if !self.stale && view.stale {
            texts.push(overdue(moment, view, name));
        }
        match view.blind_ms {
            Some(ms) if !self.blind => {
                let since = seconds(i64::try_from(ms).unwrap_or(i64::MAX));
                texts.push(format!("etcd has not been readable for {since} s"));
            }
            None if self.blind => texts.push("etcd can be read again".into()),
            _ => {}
        }
        if before != leader {
            self.told.clear();
            match leader {
                None if before.is_some() => texts.push("sees that the lock is free".into()),
                // It has told how it took the lock.
                Some(leader) if !own => {
                    let term = state.term.unwrap_or(0);
                    texts.push(format!("sees that {leader} holds the lock (term {term})"));
                }
                _ => {}
            }
        }
        if let Some(request) = view.request.as_ref().filter(|_| own)
            && self.request.as_ref() != Some(request)
        {
            texts.push(format!("is asked for a {request}"));
        }
        self.request = view.request.clone();
        let (timeline, lsn) = (state.timeline.unwrap_or(0), state.lsn.as_deref());
        let begins = !self.streaming || before != leader || self.streams_on != timeline;
        if view.streaming && begins && leader.is_some() {
            self.streams_on = timeline;
            let from = view.upstream.as_deref().unwrap_or("?");
            let lsn = lsn.unwrap_or("?");
            texts.push(format!("streams from {from}, timeline {timeline}, {lsn}"));
        }
        let primary = state.role.as_deref() == Some("primary") && lsn.is_some();
        if primary && !self.primary {
            texts.push(format!("is primary, on timeline {timeline}"));
        }
        (self.streaming, self.stale) = (view.streaming, view.stale);
        (self.blind, self.primary) = (view.blind_ms.is_some(), primary);
        self.leader = state.leader.clone();
    }
}

/// With the last moment at which the lease can have been renewed, if that is known.
fn overdue(moment: &Moment, view: &Seen, leader: &str) -> String {
    let renewed = view
        .former
        .as_ref()
        .and_then(|former| former.renewed_boot_ms);
    let ago = renewed.and_then(|at| moment.entry.boot_ms.checked_sub(at));
    match ago.and_then(|ago| i64::try_from(ago).ok()) {
        Some(ago) => {
            let at = text(moment.at - ago);
            let clock = at.get(11..23).unwrap_or_default();
            format!("{leader} does not renew its lease: the last time was {clock} or before")
        }
        None => format!("{leader} does not renew its lease"),
    }
}

fn action(name: &str, detail: &str, outcome: &str, error: &str, term: u64) -> Option<String> {
    Some(match (name, outcome) {
        ("AcquireLeader", "done") => format!("has taken the lock (term {term})"),
        ("AcquireLeader", "refused") => "was late: somebody else has taken the lock".into(),
        ("AcquireLeader", _) => format!("could not take the lock: {error}"),
        ("ReleaseLeader", "done") => "has released the lock".into(),
        ("ReattachLeader", "done") => "has put the lock under its new lease".into(),
        ("ArmGuard", "done") => format!("has armed the guard ({detail})"),
        ("ArmGuard" | "TryGuard", _) => format!("the guard cannot be armed: {error}"),
        ("SetUpstream", "done") => format!("is told to stream from {detail}"),
        ("StopReceiving", "done") => {
            "has ended its stream: positions stand still while they are compared".into()
        }
        ("EndSenders", "done") => format!("ends WAL senders that hold up the stop {detail}"),
        ("AskPeers", "done") => format!("asks {detail}"),
        ("PutSync", "done") => format!("has written /sync: {detail}"),
        ("SetSynchronousStandbys", "done") => format!("waits for standbys: {detail:?}"),
        ("ReserveTimelines", "done") => format!("has reserved timelines {detail}"),
        ("Exit", "done") => format!("the agent ends ({detail})"),
        (quiet, "done") if QUIET.contains(&quiet) => return None,
        (other, "done") => format!("has done {other} {detail}").trim_end().to_owned(),
        (other, "refused") => format!("{other} was refused: somebody else changed the key"),
        (other, _) => format!("{other} {detail} failed: {error}").replace("  ", " "),
    })
}

fn job_ended(words: &str, outcome: &str, error: &str, took_ms: u64) -> String {
    let took = seconds(i64::try_from(took_ms).unwrap_or(i64::MAX));
    match outcome {
        "done" => format!("done after {took} s: {words}"),
        _ => format!("failed after {took} s: {words}: {error}"),
    }
}

fn answer(heard: &Heard) -> String {
    let from = &heard.from;
    if !heard.answered {
        return format!("{from} does not answer");
    }
    let mut parts = vec![
        heard.its_role.clone().unwrap_or_else(|| "no role".into()),
        heard.its_state.clone().unwrap_or_else(|| "no state".into()),
    ];
    parts.extend(
        heard
            .its_timeline
            .map(|timeline| format!("timeline {timeline}")),
    );
    parts.extend(heard.its_lsn.clone());
    format!("{from} answers: {}", parts.join(", "))
}

fn noticed(event: &str, detail: &str) -> String {
    match event {
        "postmaster_gone" => format!("PostgreSQL has ended (postmaster {detail})"),
        "guard_fired" => {
            format!("the guard has fired: it killed {detail} processes of PostgreSQL")
        }
        "guard_hangs" => format!("the guard (process {detail}) does not answer"),
        "guard_gone" => "the guard process has ended".into(),
        "probe_failed" => format!("PostgreSQL did not commit a probe: {detail}"),
        "shutdown" => "the agent is told to end".into(),
        other => format!("{other} {detail}").trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::merge::merge;
    use super::super::tests::journals;
    use super::*;

    /// `MEMBER: TEXT` of all lines that are not before a line with these words.
    fn told(what: &str, from: &str) -> Vec<String> {
        let lines = lines(&merge(journals(what)).moments);
        let texts = lines
            .iter()
            .map(|line| format!("{}: {}", line.member, line.text));
        texts.skip_while(|text| !text.contains(from)).collect()
    }

    /// These lines are there, in this order.
    fn in_order(told: &[String], wanted: &[&str]) {
        let mut rest = told.iter();
        for wanted in wanted {
            assert!(
                rest.any(|text| text.contains(wanted)),
                "{wanted:?} is not there, or too early:\n{}",
                told.join("\n")
            );
        }
    }

    #[test]
    fn a_node_that_died_is_told_of() {
        let told = told("killed", "the stream from n2 broke");
        in_order(
            &told,
            &[
                "n1: the stream from n2 broke",
                "n3: n2 does not answer",
                "n2 does not renew its lease: the last time was 21:55:",
                "n1: sees that the lock is free",
                "n1: asks n3",
                "n3: has taken the lock (term 29)",
                "n1: was late: somebody else has taken the lock",
                "n3: has armed the guard",
                "n3: begins: promoting PostgreSQL",
                "n3: is primary, on timeline 2",
                "n1: streams from 127.0.0.1:24467, timeline 2, ",
                "n2: the agent starts",
                "n2: begins: pg_rewind from n3",
                "n2: done after 1.633 s: pg_rewind from n3",
                "n2: streams from 127.0.0.1:24467, timeline 2, ",
            ],
        );
        assert!(told.len() < 90, "{}\n{}", told.len(), told.join("\n"));
        let twice = told.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None);
    }

    #[test]
    fn a_switchover_is_told_of() {
        in_order(
            &told("crashed", "is asked for a switchover from n2 to n1"),
            &[
                "n2: asks n1",
                "n2: n1 answers: replica, running, timeline 1, 0/50000F8",
                "n2: begins: stopping PostgreSQL",
                "n2: PostgreSQL has ended",
                "n2: has released the lock",
                "n1: has taken the lock (term 31)",
                "n1: is primary, on timeline 2",
                "n2: streams from",
                "n1: PostgreSQL has ended",
                "n1: stopped PostgreSQL to fail over after a crash (restart)",
            ],
        );
    }
}
