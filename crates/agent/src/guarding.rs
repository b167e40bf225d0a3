//! The agent's side of the guard: start it early, arm it, notice its death.

use std::path::Path;
use std::sync::Arc;

use pgherd_guard::{Guard, Options, RUNNING_PROGRAM};
use pgherd_ha::{GuardFact, LeaseFact};
use pgherd_instance::{Instance, PostmasterHandle};
use pgherd_model::{GuardMode, Span, Time};
use tokio::sync::mpsc::UnboundedSender;

use crate::event::Event;
use crate::{clock, logging};

/// The guard process and what is known of it.
pub(crate) struct Guarding {
    instance: Instance,
    events: UnboundedSender<Event>,
    guard: Option<Arc<Guard>>,
    armed_for: Option<u32>,
    armed_by: Option<LeaseFact>,
    failed_at: Option<Time>,
    /// In a row.
    failures: u32,
    superseded: bool,
    /// It has fired and killed that many processes; told of once.
    fired: Option<u32>,
}

/// After a failure the process is started again no sooner than this.
const AGAIN: Span = Span::from_secs(5);
/// A guard that is only tried fires then, should nobody come back to disarm it.
const TRIAL: Span = Span::from_secs(60);

impl Guarding {
    pub(crate) fn new(instance: Instance, events: UnboundedSender<Event>) -> Guarding {
        Guarding {
            instance,
            events,
            guard: None,
            armed_for: None,
            armed_by: None,
            failed_at: None,
            failures: 0,
            superseded: false,
            fired: None,
        }
    }

    /// The guard as the view shows it.
    pub(crate) fn fact(&mut self) -> GuardFact {
        let alive = self.guard.as_ref().is_some_and(|guard| guard.alive());
        if !alive {
            self.armed_for = None;
        } else if let Some(fired) = self.guard.as_ref().and_then(|guard| guard.fired()) {
            if self.armed_for.is_some() {
                tracing::error!(
                    "the guard fired and killed {} processes of PostgreSQL",
                    fired.killed
                );
                self.fired = Some(fired.killed);
            }
            self.armed_for = None;
        }
        GuardFact {
            alive,
            armed_for: self.armed_for,
            armed_by: self.armed_by.filter(|_| self.armed_for.is_some()),
            failed: self.failed_at,
            failures: self.failures,
        }
    }

    /// Whether it has fired since the last call: how many processes it killed.
    pub(crate) fn take_fired(&mut self) -> Option<u32> {
        self.fired.take()
    }

    /// The process, for the renewal thread.
    pub(crate) fn guard(&self) -> Option<Arc<Guard>> {
        self.guard.clone()
    }

    /// Starts the process ahead of need, so that a promotion does not wait for it.
    pub(crate) async fn prepare(&mut self, mode: GuardMode) {
        if mode == GuardMode::Off || self.guard.as_ref().is_some_and(|guard| guard.alive()) {
            return;
        }
        if self
            .failed_at
            .is_some_and(|at| clock::now().since(at) < AGAIN)
        {
            return;
        }
        if let Err(error) = self.spawn().await {
            self.failed(&error);
        }
    }

    async fn spawn(&mut self) -> std::io::Result<()> {
        let instance = self.instance.clone();
        let guard = blocking(move || {
            let options = Options {
                data_dir: instance.path().to_owned(),
                programs: instance.server_programs(),
                form: logging::form_for_guard(),
            };
            Guard::spawn(Path::new(RUNNING_PROGRAM), options, clock::now)
        });
        let guard = guard.await?;
        let pidfd = guard.pidfd()?;
        let events = self.events.clone();
        let handle = PostmasterHandle {
            pid: guard.pid(),
            pidfd: Arc::new(pidfd),
        };
        tokio::spawn(async move {
            if handle.wait_exit().await.is_ok() {
                events.send(Event::GuardGone).ok();
            }
        });
        self.guard = Some(Arc::new(guard));
        self.armed_for = None;
        Ok(())
    }

    /// Arms it for a postmaster until the deadline of this lease, but not beyond `no_later`.
    ///
    /// # Errors
    /// When there is no protection: the reason.
    pub(crate) async fn arm(
        &mut self,
        pid: u32,
        lease: &LeaseFact,
        no_later: Option<Time>,
    ) -> std::io::Result<()> {
        let deadline = lease.deadlines().guard;
        let limited = no_later.filter(|limit| *limit < deadline);
        match self.try_arm(pid, limited.unwrap_or(deadline)).await {
            Ok(()) => {
                self.armed_for = Some(pid);
                // With less than the lease's own deadline it is to be armed once more.
                if limited.is_none() {
                    self.armed_by = Some(*lease);
                }
                self.worked();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    async fn try_arm(&mut self, pid: u32, deadline: Time) -> std::io::Result<()> {
        let guard = self.running().await?;
        let supersede = !self.superseded;
        blocking(move || {
            guard.arm(Some(pid), deadline)?;
            if supersede {
                let ended = guard.supersede_others()?;
                if ended > 0 {
                    tracing::info!("ended {ended} guard(s) of an earlier agent");
                }
            }
            Ok(())
        })
        .await?;
        // Only now: one that could not be ended is tried again, since it would fire.
        self.superseded = true;
        Ok(())
    }

    /// Whether arming works again: arms it and disarms it at once.
    ///
    /// # Errors
    /// It does not: the reason.
    pub(crate) async fn try_out(&mut self, pid: u32) -> std::io::Result<()> {
        let tried = match self.running().await {
            Ok(guard) => {
                let until = clock::now() + TRIAL;
                blocking(move || guard.arm(Some(pid), until).and_then(|()| guard.disarm())).await
            }
            Err(error) => Err(error),
        };
        match &tried {
            Ok(()) => self.worked(),
            Err(error) => self.failed(error),
        }
        tried
    }

    /// The process; it is started if there is none.
    async fn running(&mut self) -> std::io::Result<Arc<Guard>> {
        if !self.guard.as_ref().is_some_and(|guard| guard.alive()) {
            self.spawn().await?;
        }
        let none = || std::io::Error::other("no guard");
        self.guard.clone().ok_or_else(none)
    }

    /// Disarms it.
    pub(crate) async fn disarm(&mut self) {
        let Some(guard) = self.guard.clone() else {
            return;
        };
        match blocking(move || guard.disarm()).await {
            Ok(()) => self.armed_for = None,
            Err(error) => tracing::warn!("cannot disarm the guard: {error}"),
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        self.armed_for = None;
        if self.failed_at.is_none() {
            tracing::error!("no protection by the guard: {error}");
        }
        self.failed_at = Some(clock::now());
        self.failures = self.failures.saturating_add(1);
    }

    fn worked(&mut self) {
        self.failed_at = None;
        self.failures = 0;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)?
}
