//! The watchdog device (`watchdog`, as in Patroni): resets the machine where agent and guard are stopped together.
//!
//! A thread of its own does all calls of the device, which may take long with some drivers: neither loop nor renewals
//! wait for them longer than they want. It feeds the device when the renewal thread tells of a lease that was confirmed,
//! and not by itself, so an agent that hangs, or cannot renew, feeds nothing. Only one that cannot be stopped any more,
//! where there is nothing left to be reset for, it feeds for ever.

mod device;
mod keeper;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pgherd_ha::WatchdogFact;
use pgherd_ha::lease::Lease;
use pgherd_ha::watchdog::{self, Running};
use pgherd_model::{GuardMode, Span, Time};
use pgherd_wire::patroni::config::{Watchdog as Config, WatchdogMode};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

pub(crate) use device::inherited;

use crate::clock;
use crate::event::Event;
use keeper::{Keeper, Order};

/// How long the device may take for what is asked of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Whether it is there is looked at no more often than this.
const CHECK_EVERY: Span = Span::from_secs(5);
/// Orders that wait for the device; when it hangs, more are dropped.
const ROOM: usize = 64;

/// What the program of before has left: its number there, and whether it is fed though nobody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) number: i32,
    pub(crate) kept: bool,
}

/// The loop's side.
pub(crate) struct Watchdog {
    config: Config,
    link: Arc<Link>,
    failed_at: Option<Time>,
    /// In a row.
    failures: u32,
    /// It was seen to be missing; not tried.
    unfit: bool,
    checked: Option<Time>,
    /// The failure that the log tells of.
    told: Option<String>,
    /// It is to be armed anew: the configuration is another one.
    stale: bool,
}

/// What loop, renewal thread and the device's thread share.
struct Link {
    orders: Mutex<Option<SyncSender<Order>>>,
    state: Mutex<State>,
    events: UnboundedSender<Event>,
}

/// How the device is.
#[derive(Default)]
struct State {
    open: bool,
    /// It is fed by renewals.
    armed: Option<Running>,
    /// It could not be stopped, and is fed by its thread.
    kept: bool,
    /// Feeding it has failed; told of once.
    broken: Option<String>,
}

/// The renewal thread's side.
#[derive(Clone)]
pub(crate) struct Feeder(Arc<Link>);

impl Feeder {
    /// A renewal of this lease was confirmed, or all that the failsafe mode asks have accepted. Does not wait.
    pub(crate) fn feed(&self, lease: Lease) {
        if self.0.state().armed.is_some() {
            self.0.send(Order::Feed(lease)).ok();
        }
    }
}

impl Watchdog {
    /// `left`: the device that the program of before had opened.
    pub(crate) fn new(
        config: Config,
        left: Option<(OwnedFd, Left)>,
        events: UnboundedSender<Event>,
    ) -> Watchdog {
        let link = Arc::new(Link {
            orders: Mutex::default(),
            state: Mutex::default(),
            events,
        });
        let watchdog = Watchdog {
            config,
            link,
            failed_at: None,
            failures: 0,
            unfit: false,
            checked: None,
            told: None,
            stale: false,
        };
        if let Some((device, left)) = left {
            let order = Order::Inherit {
                device,
                kept: left.kept,
                config: watchdog.config.clone(),
            };
            if let Err(error) = watchdog.order(order) {
                tracing::error!("the watchdog that the program before has armed is lost: {error}");
            }
        }
        watchdog
    }

    pub(crate) fn feeder(&self) -> Feeder {
        Feeder(self.link.clone())
    }

    /// The device as the view shows it.
    pub(crate) fn fact(&mut self) -> WatchdogFact {
        let broken = self.link.state().broken.take();
        if let Some(reason) = broken {
            self.failed(&io::Error::other(reason));
        }
        let state = self.link.state();
        WatchdogFact {
            mode: self.mode(),
            armed: state.armed.map(|it| it.life).filter(|_| !self.stale),
            running: state.open && !state.kept,
            failed: self.failed_at,
            failures: self.failures,
        }
    }

    fn mode(&self) -> GuardMode {
        match self.config.mode {
            WatchdogMode::Off => GuardMode::Off,
            WatchdogMode::Automatic => GuardMode::Automatic,
            WatchdogMode::Required => GuardMode::Required,
        }
    }

    /// Looks whether one that is required is there, so that a lock is not taken in vain. It is not opened.
    pub(crate) fn prepare(&mut self, life: Span) {
        let now = clock::now();
        let tried = self.failed_at.is_some() && !self.unfit;
        let recent = self.checked.is_some_and(|at| now.since(at) < CHECK_EVERY);
        if self.config.mode != WatchdogMode::Required || self.link.state().open || tried || recent {
            return;
        }
        self.checked = Some(now);
        match self.check(life) {
            Ok(()) if self.unfit => {
                tracing::info!("the watchdog {} is there", self.config.device.display());
                self.worked();
            }
            Ok(()) => {}
            Err(error) => {
                self.failed(&error);
                self.unfit = true;
            }
        }
    }

    fn check(&self, life: Span) -> io::Result<()> {
        usual(life, self.config.safety_margin)?;
        device::check(&self.config.device, self.config.driver)
    }

    /// Arms it for a lease, to fire before that and `limit` are over.
    ///
    /// # Errors
    /// It is required and cannot be armed: the reason.
    pub(crate) async fn arm(&mut self, lease: Lease, limit: Option<Time>) -> io::Result<()> {
        if self.config.mode == WatchdogMode::Off {
            return Ok(());
        }
        let before = self.link.state().armed;
        let armed = match self.check(lease.life) {
            Ok(()) => self.ask_to_arm(lease, limit).await,
            Err(error) => {
                // One that ran under a longer lease would fire, or fire too late.
                self.disarm().await;
                Err(error)
            }
        };
        match armed {
            Ok(usual) => {
                if before.map(|it| it.usual) != Some(usual) {
                    self.tell_armed(lease.life, usual);
                }
                self.stale = false;
                self.worked();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                match self.config.mode {
                    WatchdogMode::Required => Err(error),
                    WatchdogMode::Automatic | WatchdogMode::Off => Ok(()),
                }
            }
        }
    }

    async fn ask_to_arm(&self, lease: Lease, limit: Option<Time>) -> io::Result<Span> {
        let config = self.config.clone();
        self.ask(|answer| Order::Arm {
            config,
            lease,
            limit,
            answer,
        })
        .await
    }

    fn tell_armed(&self, life: Span, usual: Span) {
        let place = self.config.device.display();
        let (usual, life) = (usual.as_secs(), life.as_secs());
        tracing::info!(
            "the watchdog {place} is armed: it resets this machine when the lease of {life} s was not renewed for {usual} s"
        );
    }

    /// Whether it can be armed again: opens and stops it. Only where nobody leads.
    ///
    /// # Errors
    /// It cannot: the reason.
    pub(crate) async fn try_out(&mut self, life: Span) -> io::Result<()> {
        if self.config.mode != WatchdogMode::Required || self.failed_at.is_none() {
            return Ok(());
        }
        let tried = match self.check(life) {
            Ok(()) => {
                let config = self.config.clone();
                self.ask(|answer| Order::Try {
                    config,
                    life,
                    answer,
                })
                .await
            }
            Err(error) => Err(error),
        };
        match &tried {
            Ok(()) => self.worked(),
            Err(error) => self.failed(error),
        }
        tried
    }

    /// Stops it, where that can be done.
    pub(crate) async fn disarm(&mut self) {
        if !self.link.state().open {
            return;
        }
        if let Err(error) = self.ask(|answer| Order::Stop { answer }).await {
            tracing::error!("the watchdog is not stopped and may reset this machine: {error}");
        }
    }

    /// This node does not lead: next time it is tried again.
    pub(crate) fn rests(&mut self) {
        if self.config.mode == WatchdogMode::Automatic {
            (self.failed_at, self.failures) = (None, 0);
        }
    }

    /// The agent ends: one that goes on counts to its end.
    pub(crate) fn ends(&self) {
        if self.link.state().open {
            tracing::warn!(
                "the watchdog {} cannot be stopped: it resets this machine unless an agent opens it again in time",
                self.config.device.display()
            );
        }
    }

    /// The configuration was read again.
    pub(crate) async fn change(&mut self, config: &Config) {
        if self.config == *config {
            return;
        }
        let same = self.config.device == config.device && self.config.driver == config.driver;
        if !same || config.mode == WatchdogMode::Off {
            self.disarm().await;
        }
        self.stale = self.link.state().armed.is_some();
        self.config = config.clone();
        (self.checked, self.told) = (None, None);
        self.worked();
    }

    /// For the program that takes over: it goes on to run, and this one feeds it until then.
    pub(crate) async fn hand_over(&self) -> Option<(OwnedFd, Left)> {
        if !self.link.state().open {
            return None;
        }
        match self.ask(|answer| Order::HandOver { answer }).await {
            Ok((device, kept)) => {
                let number = device.as_raw_fd();
                Some((device, Left { number, kept }))
            }
            Err(error) => {
                tracing::error!("the watchdog cannot be handed over: {error}");
                None
            }
        }
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Order,
    ) -> io::Result<T> {
        let (answer, answered) = oneshot::channel();
        self.order(order(answer))?;
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(answer) => answer.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::other(format!(
                "the watchdog {} does not answer",
                self.config.device.display()
            ))),
        }
    }

    /// The thread is started when there is something for it to do.
    fn order(&self, order: Order) -> io::Result<()> {
        {
            let mut orders = lock(&self.link.orders);
            if orders.is_none() {
                let (sender, receiver) = sync_channel(ROOM);
                let keeper = Keeper::new(self.link.clone(), receiver);
                std::thread::Builder::new()
                    .name("watchdog".into())
                    .spawn(move || keeper.run())?;
                *orders = Some(sender);
            }
        }
        self.link.send(order)
    }

    fn failed(&mut self, error: &io::Error) {
        let text = error.to_string();
        if self.told.as_ref() != Some(&text) {
            let missing = error.kind() == io::ErrorKind::NotFound;
            match self.config.mode {
                WatchdogMode::Required => {
                    tracing::error!("no protection by the watchdog, which is required: {text}");
                }
                _ if self.config.configured => {
                    tracing::warn!("no watchdog is used: {text}");
                }
                _ if missing => tracing::debug!("no watchdog is used: {text}"),
                _ => tracing::info!("no watchdog is used: {text}"),
            }
            self.told = Some(text);
        }
        self.failed_at = Some(clock::now());
        self.failures = self.failures.saturating_add(1);
        self.unfit = false;
    }

    fn worked(&mut self) {
        (self.failed_at, self.failures, self.unfit) = (None, 0, false);
        self.told = None;
    }
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn send(&self, order: Order) -> io::Result<()> {
        match lock(&self.orders).as_ref() {
            Some(orders) => orders
                .try_send(order)
                .map_err(|_| io::Error::other("the watchdog's thread hangs or has ended")),
            None => Ok(()),
        }
    }
}

/// What the device is to count.
fn usual(life: Span, margin: Option<Span>) -> io::Result<Span> {
    watchdog::timeout(life, margin).ok_or_else(|| {
        let text = format!(
            "a lease of {} s is too short for a watchdog, which counts whole seconds; 5 s or more are needed (pgherd.lease_ttl)",
            life.as_secs()
        );
        io::Error::other(text)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
