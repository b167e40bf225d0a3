//! The thread that owns the device.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use pgherd_ha::lease::Lease;
use pgherd_ha::watchdog::{self, Feed, Running};
use pgherd_model::{Span, Time};
use pgherd_wire::patroni::config::{Watchdog as Config, WatchdogMode};
use tokio::sync::oneshot;

use super::device::Device;
use super::{Link, usual};
use crate::clock;
use crate::event::Event;

/// One that cannot be stopped, and does not tell what it counts, is fed this often.
const OFTEN: Span = Span::from_secs(1);

type Answer<T> = oneshot::Sender<io::Result<T>>;

/// What the thread is told.
pub(super) enum Order {
    /// The program of before has left it open.
    Inherit {
        device: OwnedFd,
        kept: bool,
        config: Config,
    },
    /// Answers what it counts.
    Arm {
        config: Config,
        lease: Lease,
        limit: Option<Time>,
        answer: Answer<Span>,
    },
    Feed(Lease),
    Try {
        config: Config,
        life: Span,
        answer: Answer<()>,
    },
    Stop {
        answer: Answer<()>,
    },
    HandOver {
        answer: Answer<(OwnedFd, bool)>,
    },
}

pub(super) struct Keeper {
    link: Arc<Link>,
    orders: Receiver<Order>,
    device: Option<Device>,
    running: Option<Running>,
    margin: Option<Span>,
    /// It could not be stopped: the pause between two feedings.
    kept: Option<Span>,
    /// It cannot be told to count less; told of once.
    coarse: bool,
}

impl Keeper {
    pub(super) fn new(link: Arc<Link>, orders: Receiver<Order>) -> Keeper {
        Keeper {
            link,
            orders,
            device: None,
            running: None,
            margin: None,
            kept: None,
            coarse: false,
        }
    }

    /// Until nobody has orders any more. What is open then is closed, and goes on to count.
    pub(super) fn run(mut self) {
        loop {
            let order = match self.kept {
                Some(pause) => self.orders.recv_timeout(pause),
                None => self.orders.recv().map_err(RecvTimeoutError::from),
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => self.keep(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Inherit {
                device,
                kept,
                config,
            } => {
                let device = Device::inherited(device, &config.device, config.driver);
                self.kept = kept.then(|| pause(&device));
                let wanted = config.mode != WatchdogMode::Off && device.is_at(&config.device);
                self.device = Some(device);
                // The configuration was changed meanwhile, and this program knows only that of now.
                if !wanted && let Err(error) = self.stop() {
                    tracing::error!("the watchdog of before is not stopped: {error}");
                }
                self.keep();
                self.publish();
            }
            Order::Arm {
                config,
                lease,
                limit,
                answer,
            } => {
                let before = self.running;
                let armed = self.arm(&config, lease, limit);
                if armed.is_err() {
                    // One that runs fires in time, fed or not.
                    match before.filter(|_| self.device.is_some()) {
                        Some(before) => self.running = Some(before),
                        None => drop(self.stop()),
                    }
                }
                self.publish();
                answer.send(armed).ok();
            }
            Order::Feed(lease) => {
                if let Err(error) = self.feed(lease) {
                    // The loop sees to it that nobody counts on it; it would reset the machine meanwhile.
                    self.stop().ok();
                    self.link.state().broken = Some(error.to_string());
                    self.link.events.send(Event::WakeUp).ok();
                }
                self.publish();
            }
            Order::Try {
                config,
                life,
                answer,
            } => {
                let tried = self.try_out(&config, life);
                self.publish();
                answer.send(tried).ok();
            }
            Order::Stop { answer } => {
                let stopped = self.stop();
                self.publish();
                answer.send(stopped).ok();
            }
            Order::HandOver { answer } => {
                let none = || io::Error::other("it is not open");
                let device = self.device.as_ref().ok_or_else(none);
                let handed = device.and_then(Device::descriptor);
                answer
                    .send(handed.map(|device| (device, self.kept.is_some())))
                    .ok();
            }
        }
    }

    /// What the others may know.
    fn publish(&self) {
        let mut state = self.link.state();
        state.open = self.device.is_some();
        state.armed = self.running;
        state.kept = self.kept.is_some();
    }

    fn arm(&mut self, config: &Config, lease: Lease, limit: Option<Time>) -> io::Result<Span> {
        let wish = usual(lease.life, config.safety_margin)?;
        self.running = None;
        self.margin = config.safety_margin;
        let usual = self.set_up(config, lease.life, wish)?;
        let expires = lease.deadlines().expires;
        let limit = limit.map_or(expires, |limit| limit.min(expires));
        let timeout = watchdog::fitting(clock::now(), limit, usual)
            .ok_or_else(|| io::Error::other("the lease is nearly over"))?;
        let device = self.device.as_mut().ok_or_else(closed)?;
        if timeout < usual && device.set_timeout(timeout)? > timeout {
            let text = format!("{} does not count {timeout:?}", device.place().display());
            return Err(io::Error::other(text));
        }
        let now = clock::now();
        device.ping()?;
        self.kept = None;
        self.running = Some(Running {
            life: lease.life,
            usual,
            timeout,
            fires: now + timeout,
            sent: lease.sent,
        });
        Ok(usual)
    }

    /// Opens it, if it is not, and sets what it counts: that.
    fn set_up(&mut self, config: &Config, life: Span, wish: Span) -> io::Result<Span> {
        let (place, driver) = (&config.device, config.driver);
        let same = self.device.as_ref().is_some_and(|it| it.is(place, driver));
        if !same {
            self.stop()?;
            if let Some(other) = &self.device {
                let text = format!("{} is open and cannot be stopped", other.place().display());
                return Err(io::Error::other(text));
            }
        }
        if let Some(device) = &mut self.device
            && let Ok(taken) = device.set_timeout(wish)
        {
            return fits(device, life, taken);
        }
        // Only one may have it open.
        self.device = None;
        let device = self.device.insert(Device::open(place, driver)?);
        let taken = device.set_timeout(wish)?;
        fits(device, life, taken)
    }

    fn feed(&mut self, lease: Lease) -> io::Result<()> {
        let (Some(running), Some(device)) = (self.running, &mut self.device) else {
            return Ok(());
        };
        let usual = if lease.life == running.life {
            running.usual
        } else {
            let wish = usual(lease.life, self.margin)?;
            let taken = device.set_timeout(wish)?;
            fits(device, lease.life, taken)?
        };
        let now = clock::now();
        let timeout = match running.feed(now, &lease, usual) {
            None => return Ok(()),
            Some(Feed::Ping) => running.timeout,
            Some(Feed::For(timeout)) if timeout == usual => {
                let taken = device.set_timeout(timeout)?;
                fits(device, lease.life, taken)?
            }
            // The renewal took long. One that cannot count less is not fed this time.
            Some(Feed::For(_)) if self.coarse => return Ok(()),
            Some(Feed::For(timeout)) => match device.set_timeout(timeout) {
                Ok(taken) if taken <= timeout => taken,
                other => {
                    self.coarse = true;
                    tracing::warn!(
                        "the watchdog {} cannot be told to count less ({other:?}): when renewals take long it may fire",
                        device.place().display()
                    );
                    return Ok(());
                }
            },
        };
        device.ping()?;
        self.running = Some(Running {
            life: lease.life,
            usual,
            timeout,
            fires: now + timeout,
            sent: lease.sent.max(running.sent),
        });
        Ok(())
    }

    fn try_out(&mut self, config: &Config, life: Span) -> io::Result<()> {
        let wish = usual(life, config.safety_margin)?;
        let tried = self.set_up(config, life, wish).map(drop);
        let stopped = self.stop();
        tried.and(stopped)
    }

    /// Stops it; one that cannot be stopped is fed from now on.
    ///
    /// # Errors
    /// It cannot even be written to.
    fn stop(&mut self) -> io::Result<()> {
        self.running = None;
        let Some(device) = self.device.take() else {
            return Ok(());
        };
        let place = device.place().display().to_string();
        match device.stop() {
            Ok(()) => {
                if self.kept.take().is_some() {
                    tracing::info!("the watchdog {place} is stopped after all");
                }
                Ok(())
            }
            Err((device, error)) => {
                if self.kept.is_none() {
                    tracing::warn!(
                        "the watchdog goes on, and is fed as long as this agent runs, also while it does not lead: {error}"
                    );
                }
                self.kept = Some(pause(&device));
                self.device = Some(device);
                self.keep();
                Ok(())
            }
        }
    }

    /// Feeds one that nobody can stop.
    fn keep(&mut self) {
        if self.kept.is_none() {
            return;
        }
        if let Some(device) = &mut self.device
            && let Err(error) = device.ping()
        {
            tracing::error!("the watchdog cannot be fed, and may reset this machine: {error}");
            // Not all the time: it may be gone.
            (self.device, self.kept) = (None, None);
            self.publish();
        }
    }
}

/// What it counts, if that will do.
fn fits(device: &Device, life: Span, taken: Span) -> io::Result<Span> {
    if watchdog::suits(life, taken) {
        return Ok(taken);
    }
    let (place, seconds) = (device.place().display(), taken.as_secs());
    let life = life.as_secs();
    Err(io::Error::other(format!(
        "{place} counts {seconds} s whatever it is told, which does not fit a lease of {life} s"
    )))
}

fn pause(device: &Device) -> Span {
    let timeout = device.timeout().unwrap_or(OFTEN * 3);
    (timeout / 3).clamp(OFTEN / 4, OFTEN * 10)
}

fn closed() -> io::Error {
    io::Error::other("it is not open")
}
