//! What of the loop's life goes into the journal: changes, never what is routine. The journal is
//! for people after the fact; nothing reads it here, and nothing depends on it.

mod file;
pub(crate) mod read;
mod words;

use std::path::PathBuf;

use pgherd_ha::{Action, Decision, JobKind, Outcome, PeerFact, Severity, View};
use pgherd_model::{Cluster, MemberName, Span, Time};
use pgherd_wire::journal::{Entry, Stamp, State, What, Wrote};

use crate::clock;
use crate::snapshot::Snapshot;
use file::Queue;
pub(crate) use words::{detail, is_routine};

/// What was told is told again no sooner than this, and each time twice as late.
const FIRST: Span = Span::from_secs(1);
/// But no later than this.
const LAST: Span = Span::from_secs(32);
/// What nobody has said for that long is forgotten.
const FORGET: Span = Span::from_secs(60);
/// More different things than that are not remembered.
const MOST: usize = 256;
/// What stays is told, however often it was told before.
const STEADY: Span = Span::from_secs(1);

/// Tells a journal what happened.
pub(crate) struct Journal {
    queue: Option<Queue>,
    member: String,
    agent: String,
    seq: u64,
    state: State,
    wrote: Option<Wrote>,
    /// Decisions.
    decided: Repeats<Key>,
    /// The decision of the last look, and since when it has been the same.
    present: Option<(Key, Time)>,
    /// The last one that was written.
    written: Option<Key>,
    /// Orders, answers and events.
    said: Repeats<String>,
}

/// What makes a decision another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    rule: &'static str,
    reason: String,
    actions: Vec<&'static str>,
    leader: Option<String>,
    term: Option<u64>,
    timeline: Option<u32>,
    role: Option<String>,
    postgres: Option<String>,
    /// etcd can be read, PostgreSQL streams, the leader's lease is overdue.
    flags: [bool; 3],
    guard: &'static str,
}

impl Journal {
    /// A journal in this file; `None`: one that nobody keeps.
    pub(crate) fn start(path: Option<PathBuf>, member: &MemberName) -> Journal {
        let mut journal = Journal {
            queue: path.map(Queue::start),
            member: member.to_string(),
            agent: format!("{}-{}", Stamp(wall()), std::process::id()),
            seq: 0,
            state: State::default(),
            wrote: None,
            decided: Repeats::default(),
            present: None,
            written: None,
            said: Repeats::default(),
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        journal.write(What::Start { version });
        journal
    }

    /// What was decided; written when it is another decision than before.
    pub(crate) fn decision(&mut self, view: &View, decision: &Decision, shown: &Snapshot) {
        if self.queue.is_none() {
            return;
        }
        self.state = state(view, shown, self.wrote);
        let key = key(&self.state, view, decision);
        let now = view.now;
        let since = match &self.present {
            Some((present, since)) if *present == key => *since,
            _ => now,
        };
        self.present = Some((key.clone(), since));
        if self.written.as_ref() == Some(&key) {
            return;
        }
        let steady = now.since(since) >= STEADY;
        if !self.decided.is_due(&key, now) && !steady {
            return;
        }
        self.write(What::Decision {
            rule: key.rule.to_owned(),
            severity: match decision.why.severity {
                Severity::Routine => "routine",
                Severity::Info => "info",
                Severity::Warning => "warning",
                Severity::Error => "error",
            }
            .to_owned(),
            reason: words::short(&key.reason),
            actions: key.actions.iter().map(|name| (*name).to_owned()).collect(),
            view: Box::new(words::seen(view, decision)),
        });
        self.written = Some(key);
    }

    /// An order was carried out; `failed`: why not. What is routine is told when it fails.
    pub(crate) fn action(&mut self, done: Done, failed: Option<&str>) {
        if done.routine && failed.is_none() {
            return;
        }
        let error = words::short(failed.unwrap_or_default());
        let outcome = match failed {
            None => "done",
            Some(REFUSED) => "refused",
            Some(_) => "failed",
        };
        let said = format!("{} {} {outcome} {error}", done.name, done.detail);
        if !self.said.is_due(&said, clock::now()) {
            return;
        }
        self.write(What::Action {
            name: done.name.to_owned(),
            detail: words::short(&done.detail),
            outcome: outcome.to_owned(),
            error: if outcome == "failed" {
                error
            } else {
                String::new()
            },
            took_ms: words::millis(clock::now().since(done.begun)),
        });
    }

    /// A long job began.
    pub(crate) fn job_begun(&mut self, kind: &JobKind) {
        self.write(What::JobBegun {
            name: kind.name().to_owned(),
            words: kind.words(),
        });
    }

    /// A long job ended.
    pub(crate) fn job_ended(&mut self, kind: &JobKind, outcome: &Outcome, took: Span) {
        let (outcome, error) = match outcome {
            Outcome::Done => ("done", String::new()),
            Outcome::Failed(reason) => ("failed", words::short(reason)),
        };
        self.write(What::JobEnded {
            name: kind.name().to_owned(),
            words: kind.words(),
            outcome: outcome.to_owned(),
            error,
            took_ms: words::millis(took),
        });
    }

    /// Somebody answered, or did not. A position that moves is no news by itself.
    pub(crate) fn answer(&mut self, from: &MemberName, fact: &PeerFact) {
        let heard = words::heard(from, fact.answer.as_ref());
        let said = format!(
            "{from} {:?} {:?} {:?}",
            heard.its_role, heard.its_state, heard.its_timeline
        );
        if self.said.is_due(&said, clock::now()) {
            self.write(What::Answer(heard));
        }
    }

    /// Something happened between two looks.
    pub(crate) fn noticed(&mut self, event: &str, detail: &str) {
        if self.said.is_due(&format!("{event} {detail}"), clock::now()) {
            self.write(What::Noticed {
                event: event.to_owned(),
                detail: words::short(detail),
            });
        }
    }

    /// A write of this agent made this revision; it was sent at `sent`.
    pub(crate) fn wrote(&mut self, revision: u64, sent: Time) {
        self.wrote = Some(Wrote {
            revision,
            boot_ms: sent.as_millis(),
        });
        self.state.wrote = self.wrote;
    }

    fn write(&mut self, what: What) {
        let Some(queue) = &self.queue else {
            return;
        };
        self.seq += 1;
        queue.push(Entry {
            at: Stamp(wall()),
            boot_ms: clock::now().as_millis(),
            member: self.member.clone(),
            agent: self.agent.clone(),
            seq: self.seq,
            state: self.state.clone(),
            what,
            dropped: 0,
        });
    }
}

/// An order on its way.
pub(crate) struct Done {
    name: &'static str,
    detail: String,
    routine: bool,
    begun: Time,
}

impl Done {
    /// To be called before it is carried out.
    pub(crate) fn begin(action: &Action) -> Done {
        Done {
            name: action.name(),
            detail: detail(action),
            // A job tells of itself.
            routine: is_routine(action) || matches!(action, Action::StartJob(_)),
            begun: clock::now(),
        }
    }
}

/// The failure of a write whose guard did not hold.
pub(crate) const REFUSED: &str = "refused";

fn wall() -> i64 {
    clock::wall().0.div_euclid(1000)
}

fn state(view: &View, shown: &Snapshot, wrote: Option<Wrote>) -> State {
    let cluster = view.cluster();
    let leader = cluster.and_then(|cluster| cluster.leader.as_ref());
    let look = view.local.look.as_ref();
    let control = view.local.control.as_ref();
    State {
        revision: cluster.map(|cluster| cluster.revision),
        leader: cluster
            .and_then(Cluster::leader_name)
            .map(MemberName::to_string),
        term: leader.map(|leader| leader.create_revision),
        role: Some(shown.role.as_str().to_owned()),
        postgres: Some(shown.state.as_str().to_owned()),
        timeline: look
            .map(|look| look.timeline.0)
            .or(control.map(|control| control.timeline.0)),
        lsn: look.map(|look| look.wal.position().to_string()),
        wrote,
    }
}

fn key(state: &State, view: &View, decision: &Decision) -> Key {
    let actions = decision.actions.iter().filter(|action| !is_routine(action));
    Key {
        rule: decision.why.rule,
        reason: decision.why.reason.clone(),
        actions: actions.map(Action::name).collect(),
        leader: state.leader.clone(),
        term: state.term,
        timeline: state.timeline,
        role: state.role.clone(),
        postgres: state.postgres.clone(),
        flags: [
            view.fresh().is_some(),
            words::streams(view),
            decision.memory.lease_stale.is_some(),
        ],
        guard: words::guard(view),
    }
}

/// Keeps what alternates from filling the journal: a node that waits says several things in turn,
/// many times a second, perhaps for hours.
#[derive(Debug)]
struct Repeats<T> {
    told: Vec<Told<T>>,
}

#[derive(Debug)]
struct Told<T> {
    what: T,
    at: Time,
    seen: Time,
    pause: Span,
}

impl<T> Default for Repeats<T> {
    fn default() -> Repeats<T> {
        Repeats { told: Vec::new() }
    }
}

impl<T: Clone + PartialEq> Repeats<T> {
    /// Whether this is to be told now.
    fn is_due(&mut self, what: &T, now: Time) -> bool {
        self.told.retain(|told| now.since(told.seen) < FORGET);
        if let Some(told) = self.told.iter_mut().find(|told| told.what == *what) {
            told.seen = now;
            let due = now.since(told.at) >= told.pause;
            if due {
                told.at = now;
                told.pause = (told.pause * 2).min(LAST);
            }
            return due;
        }
        if self.told.len() >= MOST {
            self.told.remove(0);
        }
        self.told.push(Told {
            what: what.clone(),
            at: now,
            seen: now,
            pause: FIRST,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_alternates_is_told_ever_more_rarely() {
        let mut repeats = Repeats::default();
        let mut told = Vec::new();
        for tick in 0..4000_u64 {
            let now = Time::from_millis(tick * 10);
            if repeats.is_due(&(tick % 2), now) {
                told.push(tick * 10);
            }
        }
        let expected = [
            0, 10, 1000, 1010, 3000, 3010, 7000, 7010, 15000, 15010, 31000, 31010,
        ];
        assert_eq!(told, expected);
        // After a while of silence it is news again.
        assert!(repeats.is_due(&0, Time::from_millis(100_000)));
        assert!(repeats.is_due(&0, Time::from_millis(101_000)));
    }

    #[test]
    fn a_secret_of_an_order_is_not_written() {
        use pgherd_model::Op;
        let config = Action::Store(Op::PutConfig {
            text: "{\"postgresql\": {\"parameters\": {\"archive_command\": \"secret\"}}}".into(),
            expected: None,
        });
        assert_eq!(detail(&config), "");
    }
}
