//! Orders to the hands, one after the other; the first that fails ends the list.

use std::time::Duration;

use pgherd_ha::{Action, Ask, JobKind, LeaseFact, PeerFact, RemoteHistory, Sequence, StartAs};
use pgherd_model::{
    Answer, GuardMode, LogicalSlot, Lsn, MemberName, Op, PeerStatus, PostgresState, Role, Span,
    Time, Timeline, Upstream,
};

use crate::agent::Agent;
use crate::clock;
use crate::event::Event;
use crate::jobs::{Commands, Limits, Sources, source};
use crate::journal::{Done, REFUSED};

/// A receiver that does not go away by then is looked at again.
const STOP_RECEIVING: Duration = Duration::from_secs(5);
/// Longest checkpoint beside the loop.
const CHECKPOINT: Duration = Duration::from_secs(3600);

/// What came of one order.
enum Effect {
    /// The world is another one: look again at once.
    Changed,
    /// Nothing the next look would show at once.
    Quiet,
    /// It did not work: what follows was decided on a world that is not. With the reason.
    Failed(String),
    /// It did not work, but nothing that follows depends on it; whether to look again, and the reason.
    InVain(bool, String),
}

impl Agent {
    /// Carries out a list; true: look again at once.
    pub(crate) async fn act(&mut self, actions: Vec<Action>) -> bool {
        let mut sequence = Sequence::new(actions);
        while let Some(action) = sequence.next_action() {
            let order = Done::begin(&action);
            match self.perform(action).await {
                Effect::Changed => {
                    self.journal.action(order, None);
                    sequence.done(true);
                }
                Effect::Quiet => {
                    self.journal.action(order, None);
                    sequence.done(false);
                }
                Effect::Failed(reason) => {
                    self.journal.action(order, Some(&reason));
                    sequence.failed();
                }
                Effect::InVain(changed, reason) => {
                    self.journal.action(order, Some(&reason));
                    sequence.done(changed);
                }
            }
        }
        sequence.is_changed()
    }

    async fn perform(&mut self, action: Action) -> Effect {
        let name = action.name();
        tracing::debug!("order: {name}");
        match action {
            Action::Store(op) => self.store(op).await,
            Action::AskPeers(asks) => self.ask_peers(asks),
            Action::AskHistory {
                member,
                address,
                timeline,
            } => self.ask_history(member, address, timeline),
            Action::StartJob(kind) => self.start_job(kind),
            Action::SetUpstream(upstream) => done(name, self.set_upstream(upstream).await),
            Action::StopReceiving => {
                let stopped = self.instance.stop_receiving(STOP_RECEIVING).await;
                done(name, stopped.map(|_| ()))
            }
            Action::EndSenders(pids) => {
                in_vain(quiet(done(name, self.instance.end_senders(&pids).await)))
            }
            Action::ArmGuard { pid, no_later } => self.arm(pid, no_later).await,
            Action::TryGuard { pid } => self.try_guard(pid).await,
            Action::DisarmGuard => {
                self.guarding.disarm().await;
                self.watchdog.disarm().await;
                Effect::Quiet
            }
            Action::ReserveTimelines { last } => {
                done(name, self.instance.reserve_timelines(last).await)
            }
            Action::CreateSlot(slot) => {
                let kind = pgherd_model::SlotKind::Physical;
                in_vain(done(name, self.instance.create_slot(&slot, &kind).await))
            }
            Action::DropSlot(slot) => {
                let dropped = self.instance.drop_slot(&slot).await;
                in_vain(quiet(done(name, dropped.map(|_| ()))))
            }
            Action::AdvanceSlot(slot, lsn) => {
                let advanced = self.instance.advance_slot(&slot, lsn).await;
                in_vain(quiet(done(name, advanced.map(|_| ()))))
            }
            Action::CreateLogicalSlot(slot) => self.logical_slot(slot, None),
            Action::AdvanceLogicalSlot(slot, lsn) => self.logical_slot(slot, Some(lsn)),
            Action::SetSynchronousStandbys(names) => {
                let set = self
                    .instance
                    .set_synchronous_standby_names(Some(names))
                    .await;
                done(name, set.map(|_| ()))
            }
            Action::Checkpoint => self.checkpoint(),
            Action::Exit { code, message } => {
                // An error is the reason of the decision, and in the log already.
                if code == 0 {
                    tracing::info!("{message}");
                }
                self.exit = Some(code);
                Effect::Quiet
            }
        }
    }

    /// Made, or advanced, beside the loop.
    fn logical_slot(&self, slot: LogicalSlot, advance: Option<Lsn>) -> Effect {
        match advance {
            Some(lsn) => self.slots.advance(slot, lsn),
            None => self.slots.create(slot),
        }
        Effect::Quiet
    }

    /// Unchanged files are a reminder: a reload wakes a standby that sleeps between two tries.
    async fn set_upstream(&mut self, upstream: Option<Upstream>) -> pgherd_instance::Result<()> {
        if self.instance.set_upstream(upstream).await? {
            let commands = &self.effective.postgresql.callbacks;
            self.callbacks.reloaded(commands);
            return Ok(());
        }
        self.instance.reload().await.map(drop)
    }

    async fn store(&mut self, op: Op) -> Effect {
        let lease = self.renewal.lease_of_lock();
        if matches!(op, Op::PutFailsafe { .. }) && self.failsafe.beyond(lease).is_some() {
            let reason = "a round of the failsafe mode came to its end since this was decided";
            return Effect::Failed(reason.to_owned());
        }
        if matches!(op, Op::AcquireLeader { .. } | Op::ReattachLeader { .. })
            && let Err(error) = self.renewal.renew_now(self.patience(&op)).await
        {
            tracing::warn!("the lock cannot be taken: {error}");
            return Effect::Failed(error);
        }
        let sent = clock::now();
        let answer = self.store.run(&op, self.store_deadline(&op)).await;
        if let Ok(Answer::Done { revision }) = answer {
            self.journal.wrote(revision, sent);
        }
        match (&op, answer) {
            (Op::LookAtLease { .. }, Ok(Answer::Lease(sight))) => {
                self.sight = Some(sight);
                Effect::Changed
            }
            (_, Ok(Answer::Refused)) => {
                tracing::info!("{} was refused: somebody else changed the key", short(&op));
                Effect::Failed(REFUSED.to_owned())
            }
            (
                Op::PutInitialize {
                    system_id: None, ..
                },
                Ok(Answer::Done { revision }),
            ) => {
                self.bootstrap_claim = Some(revision);
                Effect::Changed
            }
            (Op::AcquireLeader { .. }, Ok(Answer::Done { .. })) => {
                tracing::info!("acquired the leader key");
                Effect::Changed
            }
            // A loop that repairs the key at once may not have seen it otherwise.
            (
                Op::PutConfig {
                    expected: Some(_), ..
                },
                Ok(Answer::Done { .. }),
            ) => {
                tracing::warn!(
                    "the key config in etcd is no JSON object, the settings of before hold: written back"
                );
                Effect::Changed
            }
            (Op::ReleaseLeader { .. }, Ok(Answer::Done { .. })) => {
                tracing::info!("Leader key released");
                Effect::Changed
            }
            (Op::PutMember(_) | Op::PutStatus { .. }, Ok(_)) => Effect::Quiet,
            (_, Ok(_)) => Effect::Changed,
            (_, Err(error)) => {
                tracing::warn!("{error}");
                Effect::Failed(error.to_string())
            }
        }
    }

    /// How long a renewal may take that comes before this. A lock that is put under another lease
    /// lives under one of the two: the loop must see the deadlines of both.
    fn patience(&self, op: &Op) -> Span {
        let life = self.effective.settings.lease_ttl;
        match (op, self.held) {
            (Op::ReattachLeader { .. }, Some(held)) => held.length.min(life) / 5,
            _ => life,
        }
    }

    /// No request may keep the loop longer than the lease can bear, and one that can wait for the
    /// next look even less.
    fn store_deadline(&self, op: &Op) -> Time {
        let settings = &self.effective.settings;
        let patient = !matches!(
            op,
            Op::PutMember(_) | Op::PutStatus { .. } | Op::LookAtLease { .. }
        );
        let longest = Span::from_millis(if patient { 2000 } else { 500 });
        let life = self.held.map_or(settings.lease_ttl, |held| {
            settings.lease_ttl.min(held.length)
        });
        let limit = (life / 5).clamp(Span::from_millis(400), longest);
        clock::now() + limit.min(settings.retry_timeout)
    }

    fn ask_peers(&mut self, asks: Vec<Ask>) -> Effect {
        self.asking += 1;
        let (peers, events) = (self.peers.clone(), self.events.clone());
        tokio::spawn(async move {
            let mut asking = tokio::task::JoinSet::new();
            for ask in asks {
                let (peers, events) = (peers.clone(), events.clone());
                asking.spawn(async move {
                    let asked = clock::now();
                    let answer = peers.status(&ask.url, ask.timeout).await;
                    let words = match &answer {
                        Ok(answer) => peer_words(&ask, answer),
                        Err(error) => format!("no response from {}: {error}", ask.member),
                    };
                    events
                        .send(Event::Peer(
                            ask.member,
                            PeerFact {
                                asked,
                                answered: clock::now(),
                                answer: answer.ok(),
                            },
                            words,
                        ))
                        .ok();
                });
            }
            while asking.join_next().await.is_some() {}
            events.send(Event::AskingEnded).ok();
        });
        Effect::Changed
    }

    fn ask_history(
        &mut self,
        member: MemberName,
        address: (String, u16),
        timeline: Timeline,
    ) -> Effect {
        if self.asking_history {
            return Effect::Quiet;
        }
        self.asking_history = true;
        let (instance, events) = (self.instance.clone(), self.events.clone());
        tokio::spawn(async move {
            let asked = clock::now();
            let lines = match instance.remote_history(&source(&address), timeline).await {
                Ok(history) => {
                    let switches = history.switches.into_iter();
                    let lines = switches
                        .map(|switch| (switch.timeline, switch.end))
                        .collect();
                    Some((timeline, lines))
                }
                Err(error) => {
                    tracing::warn!("the timeline history of {member} cannot be read: {error}");
                    None
                }
            };
            events
                .send(Event::History(RemoteHistory {
                    from: member,
                    asked,
                    lines,
                }))
                .ok();
        });
        Effect::Quiet
    }

    fn start_job(&mut self, kind: JobKind) -> Effect {
        let mut sources = Sources::default();
        if let JobKind::Start(StartAs::Standby {
            follow: Some((name, _)),
            ..
        }) = &kind
        {
            let cluster = self.picture.borrow().cluster.clone();
            sources.history = cluster
                .and_then(|cluster| cluster.member(name)?.address.clone())
                .map(|(host, port)| (name.clone(), host, port));
        }
        match &kind {
            JobKind::Promote => self.slots.promoting(),
            JobKind::CopySlots { slots, .. } => self.slots.copied(slots),
            _ => {}
        }
        tracing::debug!("begin: {}", kind.words());
        self.journal.job_begun(&kind);
        // A server that is being started tells itself when there is something to see; a look now would
        // take the processor from it.
        let effect = match kind {
            JobKind::Start(_) => Effect::Quiet,
            _ => Effect::Changed,
        };
        let commands = self.commands();
        let pg_ctl_timeout = self.effective.postgresql.pg_ctl_timeout;
        let limits = Limits::of(&self.effective.settings, pg_ctl_timeout);
        self.jobs.start(kind, sources, commands, limits);
        effect
    }

    /// A lock whose lease was not renewed in time leaves no time to ask anybody.
    fn commands(&self) -> Commands {
        let overdue = |lease: LeaseFact| clock::now() >= lease.deadlines().demote_fast;
        let postgresql = &self.effective.postgresql;
        let before_stop = postgresql.before_stop.clone();
        Commands {
            pre_promote: postgresql.pre_promote.clone(),
            before_stop: before_stop.filter(|_| !self.held.is_some_and(overdue)),
        }
    }

    async fn arm(&mut self, pid: u32, no_later: Option<Time>) -> Effect {
        let renewal = &self.renewal;
        if renewal.fact().is_none() {
            return Effect::Failed("there is no lease to arm it with".to_owned());
        }
        let failsafe = &self.failsafe;
        let until = || {
            let fact = renewal.fact()?;
            let extended = failsafe.beyond(Some(fact)).map(|it| it.deadlines().guard);
            Some((fact, extended.unwrap_or(fact.deadlines().guard)))
        };
        let armed = if self.effective.settings.guard == GuardMode::Off {
            Ok(())
        } else {
            self.guarding.arm(pid, until, no_later).await
        };
        self.renewal.guard(self.guarding.guard());
        let watched = self.arm_watchdog(no_later.is_some()).await;
        // Failed or not: the next look knows, and what follows depends on the settings.
        match armed.and(watched) {
            Ok(()) => Effect::Changed,
            Err(error) => Effect::InVain(true, error.to_string()),
        }
    }

    /// `shortens`: the lock lives under the lease before as yet, which the watchdog must not outlast either.
    async fn arm_watchdog(&mut self, shortens: bool) -> std::io::Result<()> {
        let Some(fact) = self.renewal.fact() else {
            return Ok(());
        };
        let extension = self.failsafe.beyond(Some(fact));
        let lease = extension.map_or_else(|| fact.lease(), |it| it.lease());
        let before = self
            .held
            .filter(|held| shortens && held.lease != fact.lease);
        let limit = before.map(|held| held.deadlines().expires);
        self.watchdog.arm(lease, limit).await
    }

    /// What is required and failed.
    async fn try_guard(&mut self, pid: u32) -> Effect {
        let settings = &self.effective.settings;
        let (required, life) = (settings.guard == GuardMode::Required, settings.lease_ttl);
        let guard = match self.guarding.fact(life).failed {
            Some(_) if required => self.guarding.try_out(pid).await,
            _ => Ok(()),
        };
        match guard.and(self.watchdog.try_out(life).await) {
            Ok(()) => {
                tracing::info!("what is required for a leader can be armed again");
                Effect::Changed
            }
            // The next look knows, and so do the others.
            Err(error) => Effect::InVain(false, error.to_string()),
        }
    }

    fn checkpoint(&mut self) -> Effect {
        let (instance, events) = (self.instance.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Err(error) = instance.checkpoint(CHECKPOINT).await {
                tracing::warn!("CHECKPOINT: {error}");
            }
            events.send(Event::WakeUp).ok();
        });
        Effect::Quiet
    }
}

fn done(name: &str, result: pgherd_instance::Result<()>) -> Effect {
    match result {
        Ok(()) => Effect::Changed,
        Err(error) => {
            tracing::warn!("{name}: {error}");
            Effect::Failed(error.to_string())
        }
    }
}

/// Worth doing, not worth another look.
fn quiet(effect: Effect) -> Effect {
    match effect {
        Effect::Changed | Effect::Quiet => Effect::Quiet,
        in_vain @ (Effect::Failed(_) | Effect::InVain(..)) => in_vain,
    }
}

/// What follows does not depend on it: a server that takes no more slots still has a position to publish
/// and standbys to name.
fn in_vain(effect: Effect) -> Effect {
    match effect {
        Effect::Failed(reason) => Effect::InVain(false, reason),
        other => other,
    }
}

/// In the form that tools know from Patroni, with the words of its member key.
fn peer_words(ask: &Ask, answer: &PeerStatus) -> String {
    let text = serde_json::json!({
        "state": answer.state.map(PostgresState::as_str),
        "role": answer.role.map(Role::as_str),
        "timeline": answer.timeline.map(|timeline| timeline.0),
        "position": answer.reachable.then(|| answer.position().to_string()),
    });
    format!("Got response from {} {}: {text}", ask.member, ask.url)
}

fn short(op: &Op) -> &'static str {
    Action::Store(op.clone()).name()
}
