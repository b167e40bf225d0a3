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
/// But no later than this: what fails the whole night leaves room for what happened before it.
const LAST: Span = Span::from_secs(600);
/// What nobody has said for that long is forgotten. Longer than the longest pause, or it would be news
/// after each.
const FORGET: Span = Span::from_secs(1200);
/// More different things than that are not remembered.
const MOST: usize = 256;
/// A decision that stays is told although it was told before: it is how things are now. It has to stay
/// an eighth of its pause, and this at least,
const STEADY: Span = Span::from_secs(1);
/// and not longer than this.
const STEADY_MOST: Span = Span::from_secs(60);

/// Tells a journal what happened.
pub(crate) struct Journal {
    queue: Option<Queue>,
    member: String,
    agent: String,
    seq: u64,
    state: State,
    /// Cluster id of the etcd that the last look shows; 0: none.
    etcd: u64,
    wrote: Option<Wrote>,
    /// Decisions.
    decided: Repeats<Key>,
    /// The decision of the last look, and since when it has been the same.
    present: Option<(Key, Time)>,
    /// The last one that was written.
    written: Option<Key>,
    /// Orders, answers, events and jobs.
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
            etcd: 0,
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
        let (leader, term) = (self.state.leader.take(), self.state.term);
        self.state = state(view, shown, self.etcd, self.wrote);
        if (&leader, term) != (&self.state.leader, self.state.term) {
            // Another chapter begins: what was told in the one before is news again.
            self.said = Repeats::default();
        }
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
        let stays = now.since(since) >= (self.decided.pause(&key) / 8).clamp(STEADY, STEADY_MOST);
        if !self.decided.is_due(&key, now) && !stays {
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

    /// No decision waits to be written until it has stayed for long enough.
    pub(crate) fn is_settled(&self) -> bool {
        let present = self.present.as_ref().map(|(key, _)| key);
        self.queue.is_none() || present == self.written.as_ref()
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

    /// A long job began. One that fails is tried again every few seconds, perhaps for days.
    pub(crate) fn job_begun(&mut self, kind: &JobKind) {
        let (name, words) = (kind.name(), kind.words());
        if !self
            .said
            .is_due(&format!("{name} begins: {words}"), clock::now())
        {
            return;
        }
        self.write(What::JobBegun {
            name: name.to_owned(),
            words,
        });
    }

    /// A long job ended.
    pub(crate) fn job_ended(&mut self, kind: &JobKind, outcome: &Outcome, took: Span) {
        let (name, words) = (kind.name(), kind.words());
        let (outcome, error) = match outcome {
            Outcome::Done => ("done", String::new()),
            Outcome::Failed(reason) => ("failed", words::short(reason)),
            Outcome::Refused(reason) => ("refused", words::short(reason)),
        };
        let said = format!("{name} {outcome}: {words}: {error}");
        if !self.said.is_due(&said, clock::now()) {
            return;
        }
        self.write(What::JobEnded {
            name: name.to_owned(),
            words,
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

    /// A look shows the etcd with this cluster id. What was written to another one is not compared with
    /// what this one shows.
    pub(crate) fn reads(&mut self, etcd: u64) {
        if std::mem::replace(&mut self.etcd, etcd) != etcd {
            self.wrote = None;
        }
    }

    /// A write of this agent made this revision; it was sent at `sent`.
    pub(crate) fn wrote(&mut self, revision: u64, sent: Time) {
        // A write comes after what was seen before it. Where it does not, etcd counts anew (it was
        // restored), and no look has shown that yet.
        let counts_on = self.state.revision.is_none_or(|seen| revision > seen);
        self.wrote = counts_on.then_some(Wrote {
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

fn state(view: &View, shown: &Snapshot, etcd: u64, wrote: Option<Wrote>) -> State {
    let cluster = view.cluster();
    let leader = cluster.and_then(|cluster| cluster.leader.as_ref());
    let look = view.local.look.as_ref();
    let control = view.local.control.as_ref();
    State {
        etcd: (etcd != 0).then(|| format!("{etcd:x}")),
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
        reason: decision.why.reason.to_string(),
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

    /// How long it is kept quiet after it was told.
    fn pause(&self, what: &T) -> Span {
        let told = self.told.iter().find(|told| told.what == *what);
        told.map_or(FIRST, |told| told.pause)
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
        let later = Time::from_millis(40_000) + FORGET;
        assert!(repeats.is_due(&0, later));
        assert!(repeats.is_due(&0, later + FIRST));
    }

    /// A day of a standby that cannot start: one failure every five seconds.
    #[test]
    fn what_goes_on_failing_is_told_six_times_an_hour() {
        let mut repeats = Repeats::default();
        let hours = |from: u64, to: u64| from * 720..to * 720;
        let mut due = |tick: u64| repeats.is_due(&"failed", Time::from_millis(tick * 5000));
        let first = hours(0, 1).filter(|tick| due(*tick)).count();
        let last = hours(1, 24).filter(|tick| due(*tick)).count();
        assert!((10..=16).contains(&first), "{first}");
        assert!(last <= 23 * 6, "{last}");
    }

    fn lines(path: &std::path::Path) -> Vec<Entry> {
        let text = std::fs::read_to_string(path).unwrap();
        pgherd_wire::journal::read(&text).0
    }

    #[test]
    fn a_job_that_fails_the_same_way_again_and_again_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let mut journal = Journal::start(Some(path.clone()), &"n1".into());
        let fails = |journal: &mut Journal, why: &str| {
            journal.job_begun(&JobKind::CrashRecovery);
            let outcome = Outcome::Failed(why.to_owned());
            journal.job_ended(&JobKind::CrashRecovery, &outcome, Span::ZERO);
        };
        for _ in 0..100 {
            fails(&mut journal, "no space");
        }
        fails(&mut journal, "no memory");
        drop(journal);
        let told = lines(&path)
            .into_iter()
            .filter_map(|entry| match entry.what {
                What::JobBegun { name, .. } => Some(name),
                What::JobEnded { error, .. } => Some(error),
                _ => None,
            });
        let told: Vec<String> = told.collect();
        assert_eq!(told, ["CrashRecovery", "no space", "no memory"]);
    }

    /// A write to an etcd that was restored says nothing about the revisions of the one before.
    #[test]
    fn a_write_that_falls_behind_what_was_seen_is_not_kept() {
        let mut journal = Journal::start(None, &"n1".into());
        journal.reads(7);
        journal.state.revision = Some(100);
        journal.wrote(101, Time::from_millis(5));
        let wrote = Wrote {
            revision: 101,
            boot_ms: 5,
        };
        assert_eq!(journal.state.wrote, Some(wrote));
        journal.reads(7);
        assert_eq!(journal.wrote, Some(wrote));
        journal.wrote(9, Time::from_millis(6));
        assert_eq!(journal.state.wrote, None);
        journal.wrote(102, Time::from_millis(7));
        journal.reads(8);
        assert_eq!(journal.wrote, None);
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
