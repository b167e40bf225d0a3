//! The loop: observe, decide, act, look again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use pgherd_dcs::{Picture, Store};
use pgherd_ha::beat::MemberCare;
use pgherd_ha::lease;
use pgherd_ha::{
    Action, Decision, Identity, LOOK_PAUSE, LeaseFact, Memory, Outcome, PeerFact, RemoteHistory,
    Severity, View,
};
use pgherd_instance::{Instance, Probe, ServerConfig};
use pgherd_model::{
    Cluster, DataDir, LeaseSight, MemberName, Op, Span, SynchronousMode, SystemId, Time,
};
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{Effective, NodeConfig};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::asked::Asked;
use crate::callbacks::Callbacks;
use crate::clock::Alarm;
use crate::event::Event;
use crate::failsafe::Failsafe;
use crate::glance::Calm;
use crate::guarding::Guarding;
use crate::jobs::Jobs;
use crate::journal::Journal;
use crate::notes::Notes;
use crate::observe::Observer;
use crate::reload::Reloaded;
use crate::renewal::Renewal;
use crate::service::Service;
use crate::slots::SlotKeeper;
use crate::snapshot::{Attention, Order, Snapshot};
use crate::upgrade::{Handover, Wish};
use crate::watchdog::Watchdog;
use crate::{clock, orders, settings};

/// Looks in a row without rest.
const ROUNDS: usize = 8;
/// While a short job runs, its effects are looked for this often.
const DURING_JOB: Span = Span::from_millis(100);

/// How the loop ends.
pub(crate) enum End {
    /// The agent ends, with this status.
    Exit(u8),
    /// Another program takes over, and the watchdog with it.
    Upgrade(Handover, Option<OwnedFd>),
}

/// One node: its hands, and what they have told.
pub(crate) struct Agent {
    pub(crate) node: NodeConfig,
    pub(crate) identity: Identity,
    pub(crate) effective: Effective,
    /// The dynamic configuration that it comes from, JSON text.
    pub(crate) config: String,
    pub(crate) config_revision: Option<u64>,
    pub(crate) store: Store,
    pub(crate) picture: watch::Receiver<Picture>,
    pub(crate) renewal: Renewal,
    /// Rounds and promises of the failsafe mode.
    pub(crate) failsafe: Arc<Failsafe>,
    /// The lease that the own lock lives under, as of the last decision.
    pub(crate) held: Option<LeaseFact>,
    pub(crate) instance: Instance,
    pub(crate) peers: Peers,
    pub(crate) guarding: Guarding,
    pub(crate) watchdog: Watchdog,
    pub(crate) jobs: Jobs,
    /// Logical slots.
    pub(crate) slots: SlotKeeper,
    /// `hot_standby_feedback` is on, whatever the configuration says of it.
    feedback: bool,
    pub(crate) observer: Observer,
    /// Where a glance is enough: what the last look found.
    pub(crate) calm: Option<Calm>,
    /// Wakes the loop.
    alarm: Alarm,
    /// Whether anybody looks at what the loop publishes.
    pub(crate) attention: Arc<Attention>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) service: Service,
    pub(crate) started: Time,
    pub(crate) dcs_last_seen: i64,
    pub(crate) sight: Option<LeaseSight>,
    pub(crate) peer_facts: BTreeMap<MemberName, PeerFact>,
    pub(crate) asking: usize,
    pub(crate) history: Option<RemoteHistory>,
    pub(crate) asking_history: bool,
    pub(crate) bootstrap_claim: Option<u64>,
    pub(crate) bootstrapped: Option<SystemId>,
    pub(crate) probed: Option<Time>,
    pub(crate) probing: bool,
    /// The last refusal of a probe, which is told once.
    pub(crate) refused: Option<String>,
    pub(crate) next_probe: Time,
    /// What was done to keep the member lease alive.
    pub(crate) member_care: MemberCare,
    pub(crate) shutdown: bool,
    pub(crate) asked: Asked,
    /// Another program is to take over as soon as nothing long runs.
    pub(crate) upgrade: Option<Wish>,
    pub(crate) exit: Option<u8>,
    pub(crate) notes: Notes,
    pub(crate) callbacks: Callbacks,
    pub(crate) journal: Journal,
    /// What each peer answered as the log tells it, and when that was.
    pub(crate) peer_words: BTreeMap<MemberName, (String, Time)>,
    /// The node's own configuration or the dynamic one has changed and not taken effect yet.
    pub(crate) reloaded: bool,
    /// A configuration that is not written yet, since the data are not known to be the cluster's.
    pub(crate) unwritten: Option<ServerConfig>,
    /// Checks and writes it.
    pub(crate) writing: Option<JoinHandle<()>>,
    /// PostgreSQL is to read its files again, changed or not: what they name may have.
    pub(crate) reread: bool,
    pub(crate) was_primary: bool,
    /// `synchronous_standby_names` is what the user's parameters say.
    pub(crate) sync_names_given_back: bool,
}

/// What an agent is made of.
pub(crate) struct Parts {
    pub(crate) node: NodeConfig,
    pub(crate) first: Effective,
    pub(crate) config: String,
    pub(crate) store: Store,
    pub(crate) renewal: Renewal,
    pub(crate) failsafe: Arc<Failsafe>,
    pub(crate) instance: Instance,
    pub(crate) peers: Peers,
    pub(crate) attention: Arc<Attention>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) journal: Journal,
    pub(crate) service: Service,
    pub(crate) watchdog: Watchdog,
}

impl Agent {
    /// An agent that has not looked yet.
    pub(crate) fn new(parts: Parts) -> Agent {
        let Parts {
            node,
            first,
            config,
            store,
            renewal,
            failsafe,
            instance,
            peers,
            attention,
            events,
            journal,
            service,
            watchdog,
        } = parts;
        Agent {
            feedback: settings::feedback(&node, &first),
            identity: settings::identity(&node, &first.postgresql),
            effective: first,
            config,
            config_revision: None,
            picture: store.picture(),
            renewal,
            failsafe,
            held: None,
            peers,
            guarding: Guarding::new(instance.clone(), events.clone()),
            jobs: Jobs::new(instance.clone(), events.clone()),
            slots: SlotKeeper::new(instance.clone(), events.clone()),
            observer: Observer::default(),
            calm: None,
            alarm: Alarm::new(),
            attention,
            started: clock::now(),
            dcs_last_seen: jiff::Timestamp::now().as_second(),
            sight: None,
            peer_facts: BTreeMap::new(),
            asking: 0,
            history: None,
            asking_history: false,
            bootstrap_claim: None,
            bootstrapped: None,
            probed: None,
            probing: false,
            refused: None,
            next_probe: Time::ZERO,
            member_care: MemberCare::default(),
            shutdown: false,
            asked: Asked::default(),
            upgrade: None,
            exit: None,
            notes: Notes::default(),
            callbacks: Callbacks::new(node.scope.clone()),
            journal,
            peer_words: BTreeMap::new(),
            unwritten: None,
            writing: None,
            reloaded: false,
            reread: false,
            was_primary: false,
            sync_names_given_back: false,
            store,
            instance,
            events,
            service,
            node,
            watchdog,
        }
    }

    /// Runs until the brain or a signal ends it, or another program is to take over.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::UnboundedReceiver<Event>,
        publish: watch::Sender<Arc<Snapshot>>,
    ) -> End {
        let mut memory = Memory::default();
        let mut lease = self.renewal.changes();
        self.guarding.prepare(self.effective.settings.guard).await;
        self.renewal.guard(self.guarding.guard());
        self.watchdog.prepare(self.effective.settings.lease_ttl);
        self.renewal.watchdog(self.watchdog.feeder());
        loop {
            let wake_at = self.tick(&mut memory, &publish).await;
            if let Some(code) = self.exit {
                if code == 0 {
                    self.guarding.disarm().await;
                    self.watchdog.disarm().await;
                }
                self.watchdog.ends();
                self.callbacks.all_begun().await;
                return End::Exit(code);
            }
            if self.is_to_be_replaced(&memory) {
                let (handover, device) = self.handover().await;
                return End::Upgrade(handover, device);
            }
            let rested = self.rest(wake_at, &mut memory, &mut events, &mut lease);
            if !rested.await {
                return End::Exit(1);
            }
        }
    }

    /// Whether another program takes over now.
    fn is_to_be_replaced(&mut self, memory: &Memory) -> bool {
        let Some(wish) = self.upgrade else {
            return false;
        };
        let now = clock::now();
        let waits_for = if self.is_busy(memory) {
            Some("something runs here that would be lost with this program")
        } else if !self.is_safe() {
            Some("etcd does not answer, or the lock has not just been renewed")
        } else {
            None
        };
        if wish.is_over(now) {
            let why = waits_for.unwrap_or("the new program took too long to try");
            tracing::warn!(
                "no other program has taken over, and none will until it is asked for again: {why}"
            );
            self.upgrade = None;
            return false;
        }
        if waits_for.is_none() && !wish.is_tried(now) {
            // The file may be another one by now.
            self.upgrade = None;
            let events = self.events.clone();
            tokio::spawn(async move { orders::try_program(wish.asked, &events).await.ok() });
            return false;
        }
        waits_for.is_none()
    }

    /// Something runs that would be lost with this program.
    fn is_busy(&self, memory: &Memory) -> bool {
        let job = self.jobs.last.as_ref();
        let planned = memory.demotion.is_some()
            || memory.restart.is_some()
            || memory.reinitialize.is_some()
            || memory.rejoins;
        // What was given up and may still be seen as held is known to this program alone.
        let given_up = memory.released.is_some() || memory.give_up.is_some();
        // The successor would count on a lease that the lock does not live under yet, and so would the guard.
        let moving = memory.detached_since.is_some();
        let planned = planned || given_up || moving || self.shutdown;
        let writing = self.writing.as_ref().is_some_and(|it| !it.is_finished());
        let waited_for = self.asked.is_waited_for();
        planned || writing || waited_for || job.is_some_and(|job| job.outcome.is_none())
    }

    /// The lock service answers, so that the successor need not wait for it, and a lease that is held
    /// lives long enough for one that has to wait all the same.
    fn is_safe(&self) -> bool {
        let picture = self.picture.borrow();
        let recent = |at: Time, length: Span| clock::now().since(at) < length / 3;
        let life = self.effective.settings.lease_ttl;
        let held = self.held.is_none()
            || self
                .renewal
                .fact()
                .is_some_and(|it| recent(it.sent, it.length) && it.length == life);
        picture.problem.is_none() && recent(picture.fresh_at, life.max(Span::from_secs(6))) && held
    }

    async fn handover(&self) -> (Handover, Option<OwnedFd>) {
        let (device, watchdog) = self.watchdog.hand_over().await.unzip();
        let deadline = self.held.and(self.renewal.fact());
        // The successor has until then to take over.
        self.renewal.tell_guard();
        let handover = Handover {
            leases: self.store.leases(),
            stop_at: deadline.map(|fact| fact.deadlines().demote_immediate),
            sockets: Vec::new(),
            watchdog,
        };
        (handover, device)
    }

    /// Sleeps until something is worth a look; false: a channel is broken.
    async fn rest(
        &mut self,
        mut wake_at: Time,
        memory: &mut Memory,
        events: &mut mpsc::UnboundedReceiver<Event>,
        lease: &mut watch::Receiver<Option<LeaseFact>>,
    ) -> bool {
        let mut picture = self.picture.clone();
        loop {
            tokio::select! {
                () = self.alarm.at(wake_at) => match self.glance(memory).await {
                    Some(again) => wake_at = again,
                    None => return true,
                },
                changed = picture.changed() => return changed.is_ok(),
                changed = lease.changed() => return changed.is_ok(),
                event = events.recv() => {
                    let Some(event) = event else { return false };
                    let calm = self.calm.is_some();
                    let mut worth = event.is_worth_a_look(calm);
                    self.take(event);
                    while let Ok(event) = events.try_recv() {
                        worth |= event.is_worth_a_look(calm);
                        self.take(event);
                    }
                    if worth {
                        return true;
                    }
                }
            }
        }
    }

    /// Looks and acts until nothing changes any more, at most eight times.
    async fn tick(&mut self, memory: &mut Memory, publish: &watch::Sender<Arc<Snapshot>>) -> Time {
        let mut wake_at = clock::now() + LOOK_PAUSE;
        let mut looked = false;
        self.observer.kept.still_holds(false);
        for _ in 0..ROUNDS {
            self.service.looks();
            self.configure().await;
            self.give_sync_names_back().await;
            let view = self.observe().await;
            let decision = pgherd_ha::decide(&view, memory);
            self.note(&view, &decision);
            let snapshot = self.snapshot(&view, &decision);
            self.journal.decision(&view, &decision, &snapshot);
            let confirmed = snapshot.confirmed.clone();
            let commands = &self.effective.postgresql.callbacks;
            self.callbacks
                .seen(&view, &decision.memory, snapshot.role, commands);
            publish.send_replace(Arc::new(snapshot));
            self.asked.settle(&decision.memory);
            let restart = decision.memory.restart.as_ref();
            self.jobs.start_timeout = restart.and_then(|restart| restart.timeout);
            self.jobs.made_anew = decision.memory.reinitialize;
            let allowed = self.failsafe.decided(&view, &decision);
            self.look_after(&view, &decision).await;
            self.calm = self.calm_after(&view, &decision, confirmed);
            *memory = decision.memory;
            wake_at = self.next_look(view.now);
            if let Some((at, _)) = decision.wake_at {
                wake_at = wake_at.min(at);
            }
            // What was seen of the lease is decided on at once; PostgreSQL is as it was.
            let looks = |action: &Action| matches!(action, Action::Store(Op::LookAtLease { .. }));
            let only_looks = decision.actions.iter().all(looks);
            let changed = if allowed {
                self.act(decision.actions).await
            } else {
                tracing::info!(
                    "the lock is not taken: a leader has asked to stay in office meanwhile"
                );
                true
            };
            // Once: whoever is looked at slowly must not keep everything else waiting.
            let again = changed && !(only_looks && looked);
            looked |= only_looks;
            self.observer.kept.still_holds(again && only_looks);
            if self.jobs.is_running() {
                wake_at = wake_at.min(clock::now() + DURING_JOB);
            }
            self.renewal.tick_finished();
            if !again || self.exit.is_some() {
                break;
            }
        }
        wake_at
    }

    /// A changed configuration takes effect, the dynamic one or the node's own.
    async fn configure(&mut self) {
        let cluster = self.picture.borrow().cluster.clone();
        let stored = cluster.as_ref().and_then(|cluster| cluster.config.as_ref());
        if let Some(stored) = stored.filter(|it| Some(it.revision) != self.config_revision) {
            self.config_revision = Some(stored.revision);
            if stored.value.is_object {
                self.config = stored.value.text.clone();
                self.reloaded = true;
            } else {
                tracing::warn!(
                    "the key config in etcd is no JSON object, the settings of before hold: the leader writes them back"
                );
            }
        }
        if std::mem::take(&mut self.reloaded) {
            self.combine();
            self.watchdog.change(&self.node.watchdog).await;
        }
        self.write_configuration(cluster.as_deref()).await;
    }

    /// Joins the dynamic configuration and the node's own, and tells everybody but PostgreSQL.
    fn combine(&mut self) {
        let effective = settings::effective(&self.node, &self.config);
        for warning in &effective.warnings {
            if !self.effective.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        let options = settings::postgres(&self.node, &effective.postgresql);
        if let Err(error) = self.instance.change(options) {
            tracing::error!("the settings of before hold: {error}");
        }
        // What was never stored is not kept beside the data.
        let stored = self.config_revision.map(|_| self.config.as_str());
        let server = settings::server(&self.node, &effective, stored, self.feedback);
        self.unwritten = Some(server);
        self.store
            .set_lives(effective.settings.ttl, effective.settings.lease_ttl);
        self.renewal.settings(effective.settings.clone());
        self.identity = settings::identity(&self.node, &effective.postgresql);
        self.failsafe.identity(&self.node.name, &self.identity);
        self.effective = effective;
    }

    /// What is new of PostgreSQL's configuration, once its data are known to be the cluster's. Beside
    /// the loop: its check can take longer than a lock lives.
    async fn write_configuration(&mut self, cluster: Option<&Cluster>) {
        let due = self.unwritten.is_some() && self.data_are_ours(cluster).await;
        if let Some(server) = self.unwritten.take_if(|_| due) {
            self.instance.want(server);
        }
        let busy = self.writing.as_ref().is_some_and(|it| !it.is_finished());
        let reread = self.reread && self.unwritten.is_none();
        if busy || !(reread || self.instance.is_wanted()) {
            return;
        }
        self.reread &= !reread;
        let (instance, events) = (self.instance.clone(), self.events.clone());
        self.writing = Some(tokio::spawn(async move {
            let event = match instance.apply().await {
                Ok(true) => {
                    tracing::info!("the configuration of PostgreSQL was written");
                    Event::ServerReloaded
                }
                Ok(false) if reread => match instance.reload().await {
                    Ok(()) => Event::ServerReloaded,
                    Err(error) => {
                        tracing::debug!("PostgreSQL does not read its files again: {error}");
                        Event::WakeUp
                    }
                },
                Ok(false) => Event::WakeUp,
                Err(error) => {
                    tracing::error!("the configuration of PostgreSQL cannot be written: {error}");
                    Event::WakeUp
                }
            };
            events.send(event).ok();
        }));
    }

    /// Whether something may be written into the data directory: it has the cluster's system
    /// identifier, or there are no data whose files could be harmed.
    async fn data_are_ours(&self, cluster: Option<&Cluster>) -> bool {
        if self.instance.data_dir().await != DataDir::Initialized {
            return true;
        }
        let found = self.instance.control_file().await.ok();
        let wanted = cluster.and_then(Cluster::system_id);
        wanted.is_some() && wanted == found.map(|control| control.system_id)
    }

    /// Without a synchronous mode the user's parameters say whom PostgreSQL waits for, but only once
    /// `/sync` vouches for nobody any more.
    async fn give_sync_names_back(&mut self) {
        let cluster = self.picture.borrow().cluster.clone();
        let vouched = cluster
            .as_ref()
            .is_none_or(|cluster| cluster.sync.is_some());
        if vouched || self.effective.settings.synchronous_mode != SynchronousMode::Off {
            self.sync_names_given_back = false;
        } else if !self.sync_names_given_back
            && !self.instance.is_wanted()
            && self.data_are_ours(cluster.as_deref()).await
        {
            match self.instance.set_synchronous_standby_names(None).await {
                Ok(_) => self.sync_names_given_back = true,
                Err(error) => tracing::warn!("synchronous_standby_names: {error}"),
            }
        }
    }

    /// The reason goes into the log.
    fn note(&mut self, view: &View, decision: &Decision) {
        let leader = view.cluster().and_then(Cluster::leader_name);
        let (why, pause) = (&decision.why, view.settings.loop_wait);
        if !self.notes.is_news(view.now, leader, why, pause) {
            return;
        }
        self.service.status(&why.reason);
        if why.severity == Severity::Routine {
            let owner = leader.map_or("None", |name| name.as_str());
            tracing::info!("Lock owner: {owner}; I am {}", view.me);
        }
        match why.severity {
            Severity::Routine | Severity::Info => tracing::info!("{} ({})", why.reason, why.rule),
            Severity::Warning => tracing::warn!("{} ({})", why.reason, why.rule),
            Severity::Error => tracing::error!("{} ({})", why.reason, why.rule),
        }
    }

    /// An answer goes into the log when it is another one, at most once a second: a switchover asks
    /// its candidate a hundred times.
    fn note_answer(&mut self, name: &MemberName, words: String) {
        let now = clock::now();
        let told = self
            .peer_words
            .get(name)
            .is_some_and(|(last, at)| *last == words || now.since(*at) < Span::from_secs(1));
        if told {
            tracing::debug!("{words}");
        } else {
            tracing::info!("{words}");
            self.peer_words.insert(name.clone(), (words, now));
        }
    }

    /// Renewal, licence, guard and probes follow the decision.
    async fn look_after(&mut self, view: &View, decision: &Decision) {
        self.renewal.keep(decision.keep_lease);
        self.slots.seen(view);
        if let Some(feedback) = pgherd_ha::feedback(view).filter(|it| *it != self.feedback) {
            self.feedback = feedback;
            self.reloaded = true;
        }
        // Who waits for the lock service to answer asks.
        self.store
            .rest(decision.rest.filter(|_| self.upgrade.is_none()));
        self.held = decision.memory.held;
        let leader = view.cluster().and_then(|cluster| cluster.leader.as_ref());
        let own = leader.filter(|leader| leader.name == view.me);
        self.renewal.attached(own.map_or(0, |leader| leader.lease));
        let primary = view.is_primary();
        if primary && !self.was_primary {
            self.renewal.primary_since(view.now);
            self.probed = Some(view.now);
        }
        self.was_primary = primary;
        let excuse = lease::excuse(view, &decision.memory);
        if excuse.is_some() {
            self.renewal.primary_since(view.now);
            self.probed = self.probed.max(Some(view.now));
        }
        self.renewal.excuse(excuse);
        if excuse.is_none() {
            self.probe(view.now);
        }
        self.guarding.prepare(view.settings.guard).await;
        self.renewal.guard(self.guarding.guard());
        self.watchdog.prepare(view.settings.lease_ttl);
        if own.is_none() {
            self.watchdog.rests();
        }
        if view.fresh().is_some() {
            self.dcs_last_seen = jiff::Timestamp::now().as_second();
            self.keep_member_alive(view.now);
        }
        if view
            .fresh()
            .and_then(|cluster| cluster.system_id())
            .is_some()
            && self.bootstrapped.is_some()
            && view.cluster().and_then(|cluster| cluster.system_id()) == self.bootstrapped
        {
            self.bootstrapped = None;
            self.bootstrap_claim = None;
        }
    }

    /// The licence's check, beside the loop.
    pub(crate) fn probe(&mut self, now: Time) {
        if self.probing || now < self.next_probe {
            return;
        }
        let timeout = self.effective.settings.hang_timeout;
        self.probing = true;
        self.next_probe = now + lease::probe_pause(timeout);
        let (instance, events) = (self.instance.clone(), self.events.clone());
        tokio::spawn(async move {
            let sent = clock::now();
            let event = match instance.probe_commit(timeout).await {
                Ok(Probe::Committed) => Event::Probed(sent),
                Ok(Probe::Refused(reason)) => Event::ProbeRefused(sent, reason),
                Err(error) => Event::ProbeFailed(error.to_string()),
            };
            events.send(event).ok();
        });
    }

    pub(crate) fn keep_member_alive(&mut self, now: Time) {
        if !self.member_care.is_due(now, &self.effective.settings) {
            return;
        }
        self.member_care.sent = Some(now);
        let (store, limit) = (self.store.clone(), now + Duration::from_secs(3));
        let events = self.events.clone();
        tokio::spawn(async move {
            let event = match store.keep_alive_member(limit).await {
                Ok(true) => Event::MemberKept(now),
                // The key needs another lease now, not at the next look.
                Ok(false) => Event::WakeUp,
                Err(error) => {
                    tracing::debug!("{error}");
                    return;
                }
            };
            events.send(event).ok();
        });
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::WakeUp => {}
            Event::ServerReloaded => {
                let commands = &self.effective.postgresql.callbacks;
                self.callbacks.reloaded(commands);
            }
            Event::MemberKept(sent) => {
                let ttl = self.effective.settings.ttl;
                self.member_care.answered(sent, ttl);
            }
            Event::JobEnded { number, outcome } => self.job_ended(number, outcome),
            Event::Bootstrapped(id) => self.bootstrapped = Some(id),
            Event::Peer(name, fact, words) => {
                self.journal.answer(&name, &fact);
                self.note_answer(&name, words);
                self.peer_facts.insert(name, fact);
            }
            Event::AskingEnded => self.asking = self.asking.saturating_sub(1),
            Event::History(history) => {
                self.asking_history = false;
                self.history = Some(history);
            }
            Event::PostmasterGone(pid) => {
                self.journal.noticed("postmaster_gone", &pid.to_string());
                tracing::info!("postmaster {pid} has ended");
                self.observer.kept.forget();
            }
            Event::GuardGone => {
                self.journal.noticed("guard_gone", "");
                tracing::warn!("the guard process has ended");
            }
            Event::Probed(sent) => {
                self.probe_ended(sent);
                self.refused = None;
            }
            Event::ProbeRefused(sent, reason) => {
                self.probe_ended(sent);
                if self.refused.replace(reason.clone()).as_ref() != Some(&reason) {
                    self.journal.noticed("probe_failed", &reason);
                    tracing::error!(
                        "PostgreSQL lives and refuses the agent, which cannot tell whether it commits: {reason}; \
                         check postgresql.authentication.superuser, pg_hba and superuser_reserved_connections"
                    );
                }
            }
            Event::ProbeFailed(reason) => {
                self.probing = false;
                self.next_probe = clock::now() + Span::from_secs(1);
                self.journal.noticed("probe_failed", &reason);
                tracing::warn!("PostgreSQL did not commit a probe: {reason}");
            }
            Event::Asked(order) => self.asked(*order),
            Event::Reloaded(reloaded) => self.reloaded(*reloaded),
            Event::Upgrade(wish) => self.upgrade = Some(wish),
            Event::Shutdown => {
                self.journal.noticed("shutdown", "");
                self.shutdown = true;
            }
        }
    }

    /// PostgreSQL was well when it was asked.
    fn probe_ended(&mut self, sent: Time) {
        self.probing = false;
        self.probed = self.probed.max(Some(sent));
        self.renewal.probed(sent);
    }

    fn asked(&mut self, order: Order) {
        match order {
            Order::Restart { request, answer } => self.asked.restart(request, answer),
            Order::ScheduleRestart { request, answer } => self.asked.schedule(request, answer),
            Order::ForgetRestart { answer } => self.asked.forget(answer),
            Order::Reinitialize { request, answer } => self.asked.reinitialize(request, answer),
            Order::WakeUp
            | Order::Reload
            | Order::FreshCluster { .. }
            | Order::Upgrade { .. }
            | Order::Write { .. } => {}
        }
    }

    /// The rest follows at the next look.
    fn reloaded(&mut self, reloaded: Reloaded) {
        let Reloaded { node, peers } = reloaded;
        // Those of the renewal thread are its own.
        match settings::peers(&node) {
            Ok(own) => self.renewal.peers(own),
            Err(error) => tracing::error!("{error}"),
        }
        (self.node, self.peers) = (node, peers);
        (self.reloaded, self.reread) = (true, true);
    }

    fn job_ended(&mut self, number: u64, outcome: Outcome) {
        if let Some(job) = self.jobs.ended(number, outcome.clone()) {
            let took = clock::now().since(job.since);
            let commands = &self.effective.postgresql.callbacks;
            let restarts = self.callbacks.restarts() && !self.shutdown;
            self.callbacks
                .job_ended(&job.kind, &outcome, restarts, commands);
            self.journal.job_ended(&job.kind, &outcome, took);
        }
    }
}
