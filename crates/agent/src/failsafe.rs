//! The failsafe mode: rounds of `POST /failsafe` on the renewal thread, and what this node answers to such questions.
//!
//! Both sides are decided in `pgherd_ha::failsafe`. Here is one state for the loop, the renewal thread and the REST
//! server, behind one lock: an answer that is counted, an order to take the lock and a promise cannot overtake each
//! other. A promise is on disk before it is given, since an agent that comes back remembers nothing; there it has no time,
//! but a length, which counts anew from the start of the next agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pgherd_ha::failsafe::{
    Due, Extension, FailsafeFact, Promise, Refusal, Rounds, Wish, is_primary, patience, refusal,
};
use pgherd_ha::{Decision, Identity, LeaseFact, View, beat};
use pgherd_model::{Lsn, MemberName, Op, Settings, Span, Time};
use pgherd_peer::{FailsafeAnswer, Peers};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::clock::{self, Alarm};
use crate::renewal::Shared;
use crate::snapshot::Hooks;

/// How long a promise may take to be on disk.
const WRITE: Span = Span::from_secs(1);

/// All that is known of it.
#[derive(Debug)]
pub struct Failsafe {
    state: Mutex<State>,
    /// Held by whoever writes the file.
    file: Mutex<Option<Kept>>,
    path: PathBuf,
    /// A round may be due earlier than it was.
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    wish: Option<Wish>,
    rounds: Rounds,
    promise: Option<Promise>,
    /// It is primary, or about to be; also before the first look, since nothing is known then.
    leads: bool,
    /// When the last confirmed renewal of the lock's lease was sent, as of the last decision.
    renewed: Option<Time>,
    /// What a question says of this node.
    myself: (String, String, String),
    /// Who does not accept, and why, as the log tells it.
    told: BTreeMap<String, String>,
    /// The mode is on, and whether promises can be kept was looked at since it is.
    tried: bool,
}

/// A promise as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    leader: MemberName,
    length: Span,
}

/// The longest life of a leader's lease that is believed, in milliseconds: a day.
const LONGEST: u64 = 86_400_000;

/// A question to this node.
pub(crate) struct Question {
    leader: MemberName,
    life: Option<Span>,
    slots: BTreeMap<String, Lsn>,
}

impl Question {
    /// Reads the body of `POST /failsafe`; `None`: it names nobody.
    pub(crate) fn read(body: &[u8]) -> Option<Question> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let leader = document.get("name")?.as_str()?;
        let life = document.pointer("/pgherd/life_ms").and_then(Value::as_u64);
        // No lease lives longer; a promise must end.
        if life.is_some_and(|millis| millis > LONGEST) {
            return None;
        }
        let slots = document.get("slots").and_then(Value::as_object);
        let slot = |(name, at): (&String, &Value)| Some((name.clone(), Lsn(at.as_u64()?)));
        Some(Question {
            leader: leader.into(),
            life: life.map(Span::from_millis),
            slots: slots.into_iter().flatten().filter_map(slot).collect(),
        })
    }
}

/// What came of a question.
pub(crate) enum Answered {
    /// The leader may stay in office; `news`: this was another one's word, or nobody's.
    Accepted {
        /// Worth a look of the loop.
        news: bool,
    },
    Refused(Refusal),
    /// The promise could not be written down.
    NotKept,
}

impl Failsafe {
    /// What the agent before has promised holds on.
    pub(crate) fn new(path: PathBuf, settings: &Settings) -> Failsafe {
        let kept = read(&path);
        let now = clock::now();
        let promise = kept.clone().map(|kept| {
            let until = now + kept.length;
            let promise = Promise::new(kept.leader, now, None, settings);
            Promise { until, ..promise }
        });
        Failsafe {
            state: Mutex::new(State {
                promise,
                leads: true,
                ..State::default()
            }),
            file: Mutex::new(kept),
            path,
            wake: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It leads nobody, as far as its loop knows.
    #[cfg(test)]
    pub(crate) fn follows(&self) {
        self.state().leads = false;
    }

    /// What a question says of this node.
    pub(crate) fn identity(&self, name: &MemberName, identity: &Identity) {
        let (conn_url, api_url) = (identity.conn_url.clone(), identity.api_url.clone());
        self.state().myself = (name.to_string(), conn_url, api_url);
    }

    /// For the view; a promise that is over goes.
    pub(crate) fn fact(self: &Arc<Failsafe>, now: Time) -> FailsafeFact {
        let mut state = self.state();
        let over = state.promise.take_if(|it| now >= it.until).is_some();
        let fact = FailsafeFact {
            extension: state.rounds.extension,
            promise: state.promise.clone(),
        };
        drop(state);
        if over {
            self.put_away();
        }
        fact
    }

    /// `failsafe_mode_is_active`, at this moment.
    pub(crate) fn is_active(&self, now: Time) -> bool {
        let state = self.state();
        let promised = state.promise.as_ref().is_some_and(|it| now < it.until);
        let extension = state
            .rounds
            .extension
            .filter(|it| Some(it.sent) > state.renewed);
        promised || extension.is_some_and(|it| now < it.deadlines().gone)
    }

    /// What follows from a decision before it is carried out. `false`: this node has promised something since it
    /// looked, so that it must not take the lock.
    pub(crate) fn decided(self: &Arc<Failsafe>, view: &View, decision: &Decision) -> bool {
        let mut state = self.state();
        let at = |promise: Option<&Promise>| promise.map(|it| it.at);
        let takes = decision.actions.iter().any(takes_lock);
        let overtaken = takes && at(state.promise.as_ref()) > at(view.failsafe.promise.as_ref());
        let primary = is_primary(view, &decision.memory);
        state.leads = (decision.keep_lease && !overtaken) || primary;
        let on = view.settings.failsafe_mode;
        let untried = !std::mem::replace(&mut state.tried, on) && on;
        let begins = state.wish.is_none() && decision.failsafe.is_some();
        state.wish.clone_from(&decision.failsafe);
        state.renewed = decision.memory.held.map(|held| held.sent);
        // Who holds the lock has nobody above him.
        let over = decision.memory.term.is_some() && state.promise.take().is_some();
        drop(state);
        if begins {
            self.wake.notify_one();
        }
        if over {
            self.put_away();
        }
        if untried {
            self.try_place();
        }
        !overtaken
    }

    /// Says before it is needed that no promise can be kept.
    fn try_place(&self) {
        if let Err(error) = may_write_beside(&self.path) {
            tracing::warn!(
                "failsafe mode is of no use as long as {} cannot be written ({error}): this member will let no \
                 leader stay in office while etcd is away; allow this user to write there",
                self.path.display()
            );
        }
    }

    /// The last round, if it goes beyond what the lease was renewed for.
    pub(crate) fn beyond(&self, lease: Option<LeaseFact>) -> Option<Extension> {
        let extension = self.state().rounds.extension?;
        lease
            .is_none_or(|lease| lease.sent < extension.sent)
            .then_some(extension)
    }

    /// `POST /failsafe`.
    pub(crate) async fn answer(
        self: &Arc<Failsafe>,
        hooks: &Hooks,
        question: Question,
    ) -> Answered {
        let leader = question.leader.clone();
        let news = match self.promise(hooks, question) {
            Ok(news) => news,
            Err(refused) => return Answered::Refused(refused),
        };
        if news {
            tracing::warn!(
                "{leader} cannot reach etcd: this node lets it stay in office, and does not take the lock meanwhile"
            );
        }
        match self.keep().await {
            Ok(()) => Answered::Accepted { news },
            Err(error) => {
                tracing::error!("a promise to {leader} cannot be kept on disk: {error}");
                Answered::NotKept
            }
        }
    }

    /// Makes the promise, or not; whether it is another one's than before.
    fn promise(&self, hooks: &Hooks, question: Question) -> Result<bool, Refusal> {
        let received = clock::now();
        let settings = hooks.last().settings.clone();
        let picture = hooks.picture.borrow().clone();
        let current = picture.problem.is_none()
            && received.since(picture.heard) < beat::stale_after(&settings);
        let cluster = picture.cluster.filter(|_| current);
        let mut state = self.state();
        let (on, leader) = (settings.failsafe_mode, question.leader);
        if let Some(refused) = refusal(on, state.leads, cluster.as_deref(), &leader) {
            return Err(refused);
        }
        let mut promise = Promise::new(leader, received, question.life, &settings);
        promise.slots = question.slots;
        let before = state.promise.as_ref();
        let news = before.is_none_or(|it| it.leader.name != promise.leader.name);
        // One to somebody else lasts as long as it was to last.
        promise.until = promise.until.max(before.map_or(Time::ZERO, |it| it.until));
        state.promise = Some(promise);
        Ok(news)
    }

    /// Makes the file say what is promised.
    async fn keep(self: &Arc<Failsafe>) -> Result<(), String> {
        let this = self.clone();
        let writing = tokio::task::spawn_blocking(move || this.write());
        match tokio::time::timeout(WRITE, writing).await {
            Ok(Ok(written)) => written.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the disk does not answer".to_owned()),
        }
    }

    /// The same where nobody waits for it.
    fn put_away(self: &Arc<Failsafe>) {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = this.write() {
                tracing::warn!("{}: {error}", this.path.display());
            }
        });
    }

    fn write(&self) -> std::io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let promise = self.state().promise.clone();
        let wanted = promise.map(|promise| Kept {
            length: promise.until.since(promise.at),
            leader: promise.leader.name,
        });
        // One that lasts longer than it need does no harm.
        let length = |kept: &Option<Kept>| kept.as_ref().map(|it| it.length);
        if *file == wanted || (wanted.is_some() && length(&file) >= length(&wanted)) {
            return Ok(());
        }
        match &wanted {
            Some(kept) => write(&self.path, kept)?,
            None => match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            },
        }
        *file = wanted;
        Ok(())
    }
}

fn takes_lock(action: &pgherd_ha::Action) -> bool {
    matches!(action, pgherd_ha::Action::Store(Op::AcquireLeader { .. }))
}

/// What is left by the agent before; what cannot be read is taken for a long promise.
fn read(path: &Path) -> Option<Kept> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("{}: cannot be read: {error}", path.display());
            String::new()
        }
    };
    let document: Value = serde_json::from_str(&text).unwrap_or_default();
    let leader = document.get("leader").and_then(Value::as_str);
    let length = document.get("length_ms").and_then(Value::as_u64);
    Some(Kept {
        leader: leader.unwrap_or("unknown").into(),
        length: length.map_or(Span::from_secs(300), Span::from_millis),
    })
}

fn may_write_beside(path: &Path) -> std::io::Result<()> {
    use rustix::fs::{Access, access};
    Ok(access(parent(path), Access::WRITE_OK | Access::EXEC_OK)?)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write(path: &Path, kept: &Kept) -> std::io::Result<()> {
    use std::io::Write;
    let length = u64::try_from(kept.length.as_millis()).unwrap_or(u64::MAX);
    let text = json!({"leader": kept.leader.as_str(), "length_ms": length}).to_string();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    std::fs::File::open(parent(path))?.sync_all()
}

/// Asks, beside the renewals.
pub(crate) struct Rounder {
    pub(crate) failsafe: Arc<Failsafe>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) fact: tokio::sync::watch::Receiver<Option<LeaseFact>>,
}

impl Rounder {
    /// Never ends by itself.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        let mut alarm = Alarm::new();
        loop {
            let next = this.step();
            tokio::select! {
                () = this.failsafe.wake.notified() => {}
                () = alarm.at(next) => {}
            }
        }
    }

    /// Begins a round if one is due; when to come back.
    fn step(self: &Arc<Rounder>) -> Time {
        let now = clock::now();
        let lease = self.lease();
        let mut state = self.failsafe.state();
        let Some(wish) = state.wish.clone() else {
            return now + Span::from_secs(3600);
        };
        match state.rounds.due(now, &wish, lease, self.shared.confirmed()) {
            Some(Due::Begin) if self.shared.is_licensed(now) => {}
            Some(Due::At(at)) => return at,
            Some(Due::Begin) | None => return now + wish.life / 10,
        }
        let now = clock::now();
        let (number, kept) = state.rounds.begin(now, &wish, lease);
        if kept {
            self.stay(&state);
        }
        let (name, conn_url, api_url) = &state.myself;
        let slots: BTreeMap<&String, u64> =
            wish.slots.iter().map(|(name, at)| (name, at.0)).collect();
        let life = u64::try_from(wish.life.as_millis()).unwrap_or(u64::MAX);
        let body = json!({"name": name, "conn_url": conn_url, "api_url": api_url, "slots": slots,
            "pgherd": {"life_ms": life}});
        let body: Arc<str> = body.to_string().into();
        drop(state);
        let Some(peers) = self.shared.peers() else {
            return now + wish.life / 10;
        };
        for (member, url) in wish.members {
            let (this, peers, body) = (self.clone(), peers.clone(), body.clone());
            tokio::spawn(async move {
                let limit = patience(wish.life);
                let said = ask(&peers, &url, &body, limit).await;
                this.note(number, &member, said);
            });
        }
        now + wish.life / 50
    }

    /// The lease that the lock lives under.
    fn lease(&self) -> Option<LeaseFact> {
        let fact = *self.fact.borrow();
        fact.filter(|fact| self.shared.is_attached(fact.lease))
    }

    /// A member has answered, or not; `Err`: why that is no acceptance.
    fn note(&self, number: u64, member: &str, said: Result<(), String>) {
        let lease = self.lease();
        let mut state = self.failsafe.state();
        let accepted = said.is_ok();
        match said {
            Ok(()) => drop(state.told.remove(member)),
            Err(why) if state.told.get(member) != Some(&why) => {
                tracing::warn!("failsafe mode: {member} does not accept: {why}");
                state.told.insert(member.to_owned(), why);
            }
            Err(_) => {}
        }
        let wish = state.wish.clone();
        let answer = (number, member, accepted);
        let now = clock::now();
        if state.rounds.answered(now, answer, wish.as_ref(), lease) {
            self.stay(&state);
        }
    }

    /// Everybody has accepted.
    fn stay(&self, state: &State) {
        if let Some(extension) = state.rounds.extension {
            self.shared.extend_guard_to(extension.deadlines().guard);
            self.shared.feed(extension.lease());
            tracing::debug!("failsafe mode: everybody has accepted");
        }
    }
}

async fn ask(peers: &Peers, url: &str, body: &str, limit: Span) -> Result<(), String> {
    match peers.post_failsafe(url, body, limit).await {
        Ok(FailsafeAnswer::Accepted(_)) => Ok(()),
        Ok(FailsafeAnswer::Refused { status, text }) => {
            let text = text.lines().next().unwrap_or_default();
            Err(format!("{status} {text}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.pgherd-failsafe");
        (directory, path)
    }

    #[test]
    fn a_promise_outlives_the_agent_that_made_it() {
        let (_directory, path) = place();
        let settings = Settings::default();
        let failsafe = Failsafe::new(path.clone(), &settings);
        assert_eq!(failsafe.state().promise, None);
        let now = clock::now();
        let life = Some(Span::from_secs(90));
        failsafe.state().promise = Some(Promise::new("n1".into(), now, life, &settings));
        failsafe.write().unwrap();
        // `ttl` is shorter than what the leader was told.
        let next = Failsafe::new(path.clone(), &settings);
        let promise = next.state().promise.clone().unwrap();
        assert_eq!(promise.leader.name.as_str(), "n1");
        assert!(promise.until >= now + Span::from_secs(90));
        assert!(next.is_active(clock::now()));
        next.state().promise = None;
        next.write().unwrap();
        assert!(!path.exists());
        assert_eq!(Failsafe::new(path, &settings).state().promise, None);
    }

    #[test]
    fn where_no_promise_can_be_kept_is_seen_before() {
        let (directory, path) = place();
        may_write_beside(&path).unwrap();
        may_write_beside(Path::new("data.pgherd-failsafe")).unwrap();
        let missing = directory.path().join("missing/data.pgherd-failsafe");
        may_write_beside(&missing).unwrap_err();
    }

    #[test]
    fn what_cannot_be_read_is_a_promise() {
        let (_directory, path) = place();
        std::fs::write(&path, "{").unwrap();
        let failsafe = Failsafe::new(path, &Settings::default());
        assert!(failsafe.is_active(clock::now()));
    }

    #[test]
    fn a_question_is_read_as_patroni_asks_it() {
        let body = br#"{"name": "n0", "conn_url": "postgres://127.0.0.1:5432/postgres",
            "api_url": "http://127.0.0.1:8008/patroni", "slots": {"n1": 67418720}}"#;
        let question = Question::read(body).unwrap();
        assert_eq!((question.leader.as_str(), question.life), ("n0", None));
        assert_eq!(question.slots.get("n1"), Some(&Lsn(67_418_720)));
        for body in ["", "[]", "{}", r#"{"name": 1}"#] {
            assert!(Question::read(body.as_bytes()).is_none(), "{body}");
        }
        let ours =
            Question::read(br#"{"name": "n0", "slots": null, "pgherd": {"life_ms": 20000}}"#);
        assert_eq!(ours.unwrap().life, Some(Span::from_secs(20)));
    }
}
