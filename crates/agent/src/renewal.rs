//! Keeps the leader lease alive, on a thread, a runtime and connections of its own, so that
//! nothing the loop does can delay it; and moves the guard's deadline with each confirmation.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pgherd_dcs::{LeaderLease, RaftStates, RenewError, Renewed};
use pgherd_guard::Guard;
use pgherd_ha::LeaseFact;
use pgherd_ha::lease::{self, Excuse, Lease, Licence, Renewal as Next};
use pgherd_model::{Settings, Span, Time};
use pgherd_peer::Peers;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::clock::{self, Alarm};
use crate::election::Watch;
use crate::failsafe::{Failsafe, Rounder};
use crate::watchdog::Feeder;

/// What the loop and the renewal thread share.
pub(crate) struct Shared {
    /// The loop wants the lease kept.
    keep: AtomicBool,
    tick_finished: AtomicU64,
    probe_sent: AtomicU64,
    primary_since: AtomicU64,
    /// Lease under which the lock lives, as last seen; 0: not this node's.
    attached: AtomicI64,
    excuse: Mutex<Option<Excuse>>,
    settings: Mutex<Settings>,
    guard: Mutex<Option<Arc<Guard>>>,
    watchdog: OnceLock<Feeder>,
    /// When the last confirmed renewal was sent.
    confirmed: AtomicU64,
    /// The deadline that the guard was told last; 0: none, or it is another guard.
    told: AtomicU64,
    /// For rounds of the failsafe mode, over connections of this thread.
    peers: Mutex<Option<Peers>>,
    wake: Notify,
}

/// The loop's handle of the renewal thread.
pub(crate) struct Renewal {
    shared: Arc<Shared>,
    fact: watch::Receiver<Option<LeaseFact>>,
    requests: mpsc::UnboundedSender<oneshot::Sender<Result<LeaseFact, String>>>,
}

impl Renewal {
    /// Starts the thread.
    pub(crate) fn start(
        lease: LeaderLease,
        states: RaftStates,
        settings: Settings,
        failsafe: Arc<Failsafe>,
    ) -> std::io::Result<Renewal> {
        let now = clock::now().0;
        let shared = Arc::new(Shared {
            keep: AtomicBool::new(false),
            tick_finished: AtomicU64::new(now),
            probe_sent: AtomicU64::new(0),
            primary_since: AtomicU64::new(now),
            attached: AtomicI64::new(0),
            excuse: Mutex::new(None),
            settings: Mutex::new(settings),
            guard: Mutex::new(None),
            watchdog: OnceLock::new(),
            confirmed: AtomicU64::new(0),
            told: AtomicU64::new(0),
            peers: Mutex::new(None),
            wake: Notify::new(),
        });
        let (publish, fact) = watch::channel(None);
        let (requests, asked) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let worker = Worker {
            shared: shared.clone(),
            lease,
            publish,
            last_try: None,
            confirmed: Time::ZERO,
            watch: Watch::new(states),
            failing: false,
        };
        let rounder = Rounder {
            failsafe,
            shared: shared.clone(),
            fact: fact.clone(),
        };
        std::thread::Builder::new()
            .name("renewal".into())
            // A task, since whatever wakes the future that a runtime itself waits for costs two system calls more.
            .spawn(move || {
                runtime.block_on(async {
                    tokio::spawn(rounder.run());
                    tokio::spawn(worker.run(asked)).await.ok()
                });
            })?;
        Ok(Renewal {
            shared,
            fact,
            requests,
        })
    }

    /// The last confirmed renewal.
    pub(crate) fn fact(&self) -> Option<LeaseFact> {
        *self.fact.borrow()
    }

    /// A receiver that wakes when the lease is lost or taken.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<LeaseFact>> {
        self.fact.clone()
    }

    /// Whether the lease is to be kept alive.
    pub(crate) fn keep(&self, keep: bool) {
        if self.shared.keep.swap(keep, Ordering::Relaxed) != keep {
            self.shared.wake.notify_one();
        }
    }

    /// The lock lives under this lease: only its renewals move the guard's deadline, also those of before
    /// the lock was put there, or put back.
    pub(crate) fn attached(&self, lease: i64) {
        let before = self.shared.attached.swap(lease, Ordering::Relaxed);
        let fact = self.fact().filter(|fact| fact.lease == lease);
        if let Some(fact) = fact.filter(|_| before != lease) {
            self.shared.extend_guard(&fact);
        }
    }

    /// The loop finished a tick.
    pub(crate) fn tick_finished(&self) {
        self.shared
            .tick_finished
            .store(clock::now().0, Ordering::Relaxed);
    }

    /// PostgreSQL committed; the probe was begun at `sent`.
    pub(crate) fn probed(&self, sent: Time) {
        self.shared.probe_sent.store(sent.0, Ordering::Relaxed);
    }

    /// PostgreSQL has just become primary, or an excuse ended: its silence counts from here.
    pub(crate) fn primary_since(&self, at: Time) {
        self.shared.primary_since.store(at.0, Ordering::Relaxed);
    }

    /// Why PostgreSQL need not answer now.
    pub(crate) fn excuse(&self, excuse: Option<Excuse>) {
        *lock(&self.shared.excuse) = excuse;
    }

    /// New settings.
    pub(crate) fn settings(&self, settings: Settings) {
        *lock(&self.shared.settings) = settings;
    }

    /// Who asks the others, when the lock service is away.
    pub(crate) fn peers(&self, peers: Peers) {
        *lock(&self.shared.peers) = Some(peers);
    }

    /// The lease that the lock lives under, as far as it is known.
    pub(crate) fn lease_of_lock(&self) -> Option<LeaseFact> {
        self.fact()
            .filter(|fact| self.shared.is_attached(fact.lease))
    }

    /// Tells the guard of the last renewal, if it has not heard of it: nobody will tell it of another for a while.
    pub(crate) fn tell_guard(&self) {
        if let Some(fact) = self.fact() {
            self.shared.extend_guard(&fact);
        }
    }

    /// The guard whose deadline moves with each confirmation.
    pub(crate) fn guard(&self, guard: Option<Arc<Guard>>) {
        let mut present = lock(&self.shared.guard);
        self.shared.told.store(0, Ordering::Relaxed);
        *present = guard;
    }

    /// The watchdog that is fed with each confirmation.
    pub(crate) fn watchdog(&self, feeder: Feeder) {
        self.shared.watchdog.set(feeder).ok();
    }

    /// Renews (or grants) now: before the lock is taken.
    ///
    /// # Errors
    /// No confirmation came within L/5 per endpoint, L/2 in all, and this limit.
    pub(crate) async fn renew_now(&self, limit: Span) -> Result<LeaseFact, String> {
        let gone = || "the renewal thread has ended".to_owned();
        let (answer, receiver) = oneshot::channel();
        self.requests.send(answer).map_err(|_| gone())?;
        match tokio::time::timeout(limit, receiver).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => Err("no renewal was confirmed".to_owned()),
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    lease: LeaderLease,
    publish: watch::Sender<Option<LeaseFact>>,
    last_try: Option<Time>,
    /// When the last confirmed renewal was sent; what is published may count from later on.
    confirmed: Time,
    watch: Watch,
    failing: bool,
}

type Request = oneshot::Sender<Result<LeaseFact, String>>;

impl Worker {
    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let mut revoked = false;
        // One for all waits of this thread, on its own runtime: each of tokio's timers wakes it once more.
        let mut alarm = Alarm::new();
        loop {
            while let Ok(answer) = requests.try_recv() {
                self.answer(answer, &mut alarm).await;
            }
            let next = self.next();
            match next {
                Next::Renew { until } => {
                    revoked = false;
                    self.renew(until.since(clock::now()), &mut alarm).await.ok();
                    continue;
                }
                Next::LicenceOver(ref why) if !revoked => {
                    revoked = true;
                    tracing::error!("the lock is not renewed any more: {why}");
                    if let Some(fact) = *self.publish.borrow() {
                        self.shared.extend_guard(&fact);
                    }
                    self.publish.send_modify(|_| {});
                }
                _ => {}
            }
            let until = match next {
                Next::Wait(at) => at,
                _ => clock::now() + Span::from_millis(200),
            };
            let shared = self.shared.clone();
            tokio::select! {
                request = requests.recv() => match request {
                    // The loop has ended.
                    None => return,
                    Some(answer) => {
                        self.answer(answer, &mut alarm).await;
                    }
                },
                () = shared.wake.notified() => {}
                () = alarm.at(until) => {}
            }
        }
    }

    async fn answer(&mut self, answer: Request, alarm: &mut Alarm) {
        if answer.is_closed() {
            // Nobody waits for it any more.
            return;
        }
        let budget = lock(&self.shared.settings).lease_ttl / 2;
        answer.send(self.renew(budget, alarm).await).ok();
    }

    fn next(&self) -> Next {
        let now = clock::now();
        let idle = Next::Wait(now + Span::from_secs(3600));
        if !self.shared.keep.load(Ordering::Relaxed) {
            return idle;
        }
        let fact = *self.publish.borrow();
        let settings = lock(&self.shared.settings).clone();
        let Some(fact) = fact else {
            // The lock carries our name but nothing renews it: take a lease for it.
            let pause = self.last_try.map_or(now, |at| at + settings.lease_ttl / 10);
            let until = now + settings.lease_ttl / 5;
            return if now >= pause {
                Next::Renew { until }
            } else {
                Next::Wait(pause)
            };
        };
        let lease = Lease {
            sent: fact.sent,
            life: fact.length,
        };
        let licence = self.shared.licence();
        let (confirmed, last_try) = (self.confirmed, self.last_try);
        match lease::renewal(now, &lease, confirmed, last_try, &licence, &settings) {
            // Once more: who comes back after an outage may still find its lease alive.
            Next::Expired => {
                let pause = self.last_try.map_or(now, |at| at + settings.lease_ttl / 10);
                let over = now >= licence.end(&settings).at;
                let until = now + settings.lease_ttl / 5;
                if now >= pause && !over {
                    Next::Renew { until }
                } else {
                    Next::Expired
                }
            }
            other => other,
        }
    }

    async fn renew(&mut self, budget: Span, alarm: &mut Alarm) -> Result<LeaseFact, String> {
        let outcome = self.ask(budget, alarm).await;
        match outcome {
            Ok(renewed) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the leader lease is renewed again");
                }
                let fact = LeaseFact {
                    lease: renewed.lease,
                    sent: renewed.sent,
                    length: renewed.ttl,
                };
                self.watch.answered();
                Ok(self.publish_confirmed(fact))
            }
            Err(error) => {
                // Once per outage: tries follow each other quickly.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("{error}");
                }
                if matches!(error, RenewError::Lost { .. }) {
                    self.publish.send_replace(None);
                }
                Err(error.to_string())
            }
        }
    }

    /// Whoever answered last is asked alone for a moment, then everybody, and how far an election is.
    async fn ask(&mut self, budget: Span, alarm: &mut Alarm) -> Result<Renewed, RenewError> {
        let began = clock::now();
        self.last_try = Some(began);
        let present = *self.publish.borrow();
        let soon = present.map_or(Span::ZERO, |fact| fact.length / 50);
        let kept = tokio::select! {
            biased;
            kept = self.lease.renew_kept() => kept,
            () = alarm.at(began + soon.min(budget)) => None,
        };
        if let Some(outcome) = kept {
            return outcome;
        }
        let (shared, publish) = (&self.shared, &self.publish);
        if let Some(fact) = present {
            shared.extend_guard(&fact);
        }
        let budget = budget.saturating_sub(clock::now().since(began));
        tokio::select! {
            biased;
            outcome = self.lease.renew(budget) => outcome,
            never = self.watch.unanswered(began, publish, |fact| shared.extend_guard(fact)) => match never {},
        }
    }

    /// Publishes a confirmed renewal; what is in force then, which never counts from an earlier moment
    /// than before.
    fn publish_confirmed(&mut self, mut fact: LeaseFact) -> LeaseFact {
        self.confirmed = fact.sent;
        self.shared.confirmed.store(fact.sent.0, Ordering::Relaxed);
        let before = self.publish.borrow().filter(|old| old.lease == fact.lease);
        if let Some(before) = before {
            fact.sent = fact.sent.max(before.sent);
        }
        self.shared.keep_guard(&fact);
        self.publish.send_if_modified(|slot| {
            *slot = Some(fact);
            before.is_none()
        });
        fact
    }
}

impl Shared {
    /// What allows to renew the lock, or to ask others to be left in office.
    fn licence(&self) -> Licence {
        let time = |atomic: &AtomicU64| Time(atomic.load(Ordering::Relaxed));
        let probe = time(&self.probe_sent);
        Licence {
            tick_finished: time(&self.tick_finished),
            probe_sent: (probe != Time::ZERO).then_some(probe),
            primary_since: time(&self.primary_since),
            excuse: *lock(&self.excuse),
        }
    }

    pub(crate) fn is_licensed(&self, now: Time) -> bool {
        now < self.licence().end(&lock(&self.settings)).at
    }

    pub(crate) fn is_attached(&self, lease: i64) -> bool {
        self.attached.load(Ordering::Relaxed) == lease
    }

    /// When the last confirmed renewal was sent.
    pub(crate) fn confirmed(&self) -> Time {
        Time(self.confirmed.load(Ordering::Relaxed))
    }

    pub(crate) fn peers(&self) -> Option<Peers> {
        lock(&self.peers).clone()
    }

    /// Moves the guard's deadline, and the watchdog's, if the lock lives under this lease.
    fn extend_guard(&self, fact: &LeaseFact) {
        if self.is_attached(fact.lease) {
            self.extend_guard_to(fact.deadlines().guard);
            self.feed(fact.lease());
        }
    }

    /// Not where the licence is over: whatever was confirmed is not to last longer.
    pub(crate) fn feed(&self, lease: Lease) {
        if let Some(watchdog) = self.watchdog.get()
            && self.is_licensed(clock::now())
        {
            watchdog.feed(lease);
        }
    }

    /// Likewise with a renewal that was answered at once. Where they come often the guard need not hear of each: when
    /// one is not answered it is told what it has not heard ([`Worker::ask`]).
    fn keep_guard(&self, fact: &LeaseFact) {
        let told = Time(self.told.load(Ordering::Relaxed));
        if fact.deadlines().guard.since(told) >= fact.length * 3 / 20 {
            self.extend_guard(fact);
        } else if self.is_attached(fact.lease) {
            self.feed(fact.lease());
        }
    }

    pub(crate) fn extend_guard_to(&self, deadline: Time) {
        if let Some(guard) = lock(&self.guard).as_ref() {
            self.told.store(deadline.0, Ordering::Relaxed);
            // One that cannot be reached is dead now, which the loop notices by its pidfd; one that does
            // not answer is noticed by its silence.
            guard.extend(deadline).ok();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
