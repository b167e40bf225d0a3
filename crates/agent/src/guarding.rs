//! The agent's side of the guard: start it early, arm it, notice its death and its silence.
//!
//! A guard that hangs is as good as none, and a danger: when it goes on, it may fire at a deadline that
//! nobody moves any more. Another one is armed, and the one that hangs is killed after that. Until then
//! it is sent every extension, so it does no harm if it was only slow.

use std::io;
use std::path::Path;
use std::sync::Arc;

use pgherd_guard::{Guard, Options, RUNNING_PROGRAM};
use pgherd_ha::lease::guard_patience;
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
    /// It does not answer.
    hangs: bool,
    armed_for: Option<u32>,
    armed_by: Option<LeaseFact>,
    failed_at: Option<Time>,
    /// In a row.
    failures: u32,
    superseded: bool,
    /// It has fired and killed that many processes; told of once.
    fired: Option<u32>,
    /// The process that does not answer; told of once.
    hung: Option<u32>,
}

/// After a failure the process is started again no sooner than this.
const AGAIN: Span = Span::from_secs(5);
/// A guard that is only tried fires then, should nobody come back to disarm it.
const TRIAL: Span = Span::from_secs(60);

/// Until when a guard is armed.
struct Until {
    deadline: Time,
    /// The lease whose own deadline that is. With less than that it is to be armed once more.
    lease: Option<LeaseFact>,
}

impl Guarding {
    pub(crate) fn new(instance: Instance, events: UnboundedSender<Event>) -> Guarding {
        Guarding {
            instance,
            events,
            guard: None,
            hangs: false,
            armed_for: None,
            armed_by: None,
            failed_at: None,
            failures: 0,
            superseded: false,
            fired: None,
            hung: None,
        }
    }

    /// The guard as the view shows it, where a lease lives for `life`.
    pub(crate) fn fact(&mut self, life: Span) -> GuardFact {
        let guard = self.living();
        match &guard {
            Some(guard) => self.hear(guard, life),
            None => (self.hangs, self.armed_for) = (false, None),
        }
        GuardFact {
            alive: guard.is_some(),
            hangs: self.hangs,
            armed_for: self.armed_for,
            armed_by: self.armed_by.filter(|_| self.armed_for.is_some()),
            failed: self.failed_at,
            failures: self.failures,
        }
    }

    /// What the living guard has said, and whether it says anything.
    fn hear(&mut self, guard: &Guard, life: Span) {
        let said = guard.said();
        if let Some(fired) = said.fired {
            if self.armed_for.is_some() {
                tracing::error!(
                    "the guard fired and killed {} processes of PostgreSQL",
                    fired.killed
                );
                self.fired = Some(fired.killed);
            }
            // While it kills it takes no orders, and it is not to be disturbed.
            (self.hangs, self.armed_for) = (false, None);
            return;
        }
        let now = clock::now();
        let silent = said.silent_since.map(|since| now.since(since));
        match silent {
            Some(silent) if silent >= guard_patience(life) => self.hang(guard.pid()),
            // Sent and not answered a moment ago.
            Some(_) => {}
            None => {
                if std::mem::take(&mut self.hangs) {
                    tracing::info!("the guard answers again");
                    self.worked();
                }
                if said.confirmed.is_none() {
                    self.armed_for = None;
                }
            }
        }
    }

    fn hang(&mut self, pid: u32) {
        if !std::mem::replace(&mut self.hangs, true) {
            tracing::warn!(
                "the guard (process {pid}) does not answer: is it stopped, or the machine overloaded? \
                 another one is to take its place"
            );
            self.hung = Some(pid);
        }
    }

    /// Whether it has fired since the last call: how many processes it killed.
    pub(crate) fn take_fired(&mut self) -> Option<u32> {
        self.fired.take()
    }

    /// Whether one has begun to hang since the last call: its process.
    pub(crate) fn take_hung(&mut self) -> Option<u32> {
        self.hung.take()
    }

    /// The process, for the renewal thread.
    pub(crate) fn guard(&self) -> Option<Arc<Guard>> {
        self.guard.clone()
    }

    fn living(&self) -> Option<Arc<Guard>> {
        self.guard.clone().filter(|guard| guard.alive())
    }

    /// Starts the process ahead of need, so that a promotion does not wait for it.
    pub(crate) async fn prepare(&mut self, mode: GuardMode) {
        if mode == GuardMode::Off || self.living().is_some() {
            return;
        }
        if self
            .failed_at
            .is_some_and(|at| clock::now().since(at) < AGAIN)
        {
            return;
        }
        match self.spawn().await {
            Ok(guard) => self.take_in(guard),
            Err(error) => self.failed(&error),
        }
    }

    async fn spawn(&self) -> io::Result<Arc<Guard>> {
        let instance = self.instance.clone();
        let guard = blocking(move || {
            let options = Options {
                data_dir: instance.path().to_owned(),
                programs: instance.server_programs(),
                form: logging::form_for_guard(),
            };
            Guard::spawn(Path::new(RUNNING_PROGRAM), options, clock::now)
        });
        let guard = Arc::new(guard.await?);
        let handle = PostmasterHandle {
            pid: guard.pid(),
            pidfd: Arc::new(guard.pidfd()?),
        };
        let (events, process) = (self.events.clone(), guard.clone());
        tokio::spawn(async move {
            if handle.wait_exit().await.is_ok() {
                // Reaps it, also where another one has taken its place.
                process.alive();
                events.send(Event::GuardGone).ok();
            }
        });
        Ok(guard)
    }

    /// A new process, not armed.
    fn take_in(&mut self, guard: Arc<Guard>) {
        self.guard = Some(guard);
        (self.hangs, self.armed_for) = (false, None);
    }

    /// Arms it for a postmaster until the deadline of the lease, which is given with it, but not beyond `no_later`. Where it
    /// does not answer, another one takes its place.
    ///
    /// # Errors
    /// When there is no protection: the reason.
    pub(crate) async fn arm(
        &mut self,
        pid: u32,
        lease: impl Fn() -> Option<(LeaseFact, Time)>,
        no_later: Option<Time>,
    ) -> io::Result<()> {
        // Asked for anew when a process is ready for it: starting one takes time, in which the lease
        // may have been renewed, and a deadline of before may pass.
        let until = || {
            let none = || io::Error::other("there is no lease to arm it with");
            let (lease, deadline) = lease().ok_or_else(none)?;
            Ok(match no_later.filter(|limit| *limit < deadline) {
                Some(deadline) => Until {
                    deadline,
                    lease: None,
                },
                None => Until {
                    deadline,
                    lease: Some(lease),
                },
            })
        };
        match self.try_arm(pid, until).await {
            Ok(until) => {
                self.armed_for = Some(pid);
                if until.lease.is_some() {
                    self.armed_by = until.lease;
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

    async fn try_arm(
        &mut self,
        pid: u32,
        until: impl Fn() -> io::Result<Until>,
    ) -> io::Result<Until> {
        let armed = match self.arm_present(pid, &until).await? {
            Some(armed) => armed,
            None => self.arm_another(pid, &until).await?,
        };
        if !self.superseded {
            let guard = self.guard.clone().ok_or_else(no_guard)?;
            let ended = blocking(move || guard.supersede_others()).await?;
            if ended > 0 {
                tracing::info!("ended {ended} guard(s) of an earlier agent");
            }
        }
        // Only now: one that could not be ended is tried again, since it would fire.
        self.superseded = true;
        Ok(armed)
    }

    /// Arms the process that is there; `None`: there is none that answers.
    async fn arm_present(
        &mut self,
        pid: u32,
        until: impl Fn() -> io::Result<Until>,
    ) -> io::Result<Option<Until>> {
        let Some(guard) = self.living().filter(|_| !self.hangs) else {
            return Ok(None);
        };
        if guard.fired().is_some_and(|fired| fired.left > 0) {
            let text = format!("guard {} is still killing what its lease left", guard.pid());
            return Err(io::Error::other(text));
        }
        let until = until()?;
        let (present, deadline) = (guard.clone(), until.deadline);
        match blocking(move || present.arm(Some(pid), deadline)).await {
            Ok(()) => Ok(Some(until)),
            Err(_) if !guard.alive() => Ok(None),
            Err(error) if is_silence(&error) => {
                // It has the order, and will obey it should it go on.
                self.armed_for = Some(pid);
                self.hang(guard.pid());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts and arms another one, and kills the one before, in this order: at no moment there is none.
    async fn arm_another(
        &mut self,
        pid: u32,
        until: impl Fn() -> io::Result<Until>,
    ) -> io::Result<Until> {
        let fresh = self.spawn().await?;
        let armed = match until() {
            Ok(until) => {
                let (guard, deadline) = (fresh.clone(), until.deadline);
                let armed = blocking(move || guard.arm(Some(pid), deadline)).await;
                armed.map(|()| until)
            }
            Err(error) => Err(error),
        };
        let until = match armed {
            Ok(until) => until,
            Err(error) => {
                // It may have been told to fire, and nobody would extend that.
                kill(&fresh);
                return Err(error);
            }
        };
        let before = self.living();
        self.take_in(fresh);
        if let Some(before) = before {
            // What cannot be killed that way is looked for, and ended or told of.
            self.superseded &= kill(&before);
            tracing::info!("another guard is armed, the one before was killed");
        }
        Ok(until)
    }

    /// Whether arming works again: arms it and disarms it at once. Only where nothing is to be guarded.
    ///
    /// # Errors
    /// It does not: the reason.
    pub(crate) async fn try_out(&mut self, pid: u32) -> io::Result<()> {
        let tried = self.trial(pid).await;
        match &tried {
            Ok(()) => self.worked(),
            Err(error) => {
                // It may be armed, and nobody knows.
                self.end();
                self.failed(error);
            }
        }
        tried
    }

    async fn trial(&mut self, pid: u32) -> io::Result<()> {
        if self.hangs {
            self.end();
        }
        if self.living().is_none() {
            let fresh = self.spawn().await?;
            self.take_in(fresh);
        }
        let guard = self.guard.clone().ok_or_else(no_guard)?;
        let until = clock::now() + TRIAL;
        blocking(move || guard.arm(Some(pid), until).and_then(|()| guard.disarm())).await
    }

    /// Disarms it, or kills it where it does not answer: then it can not fire either.
    pub(crate) async fn disarm(&mut self) {
        if self.hangs {
            self.end();
        }
        let Some(guard) = self.living() else {
            return;
        };
        match blocking(move || guard.disarm()).await {
            Ok(()) => self.armed_for = None,
            Err(error) => {
                tracing::warn!("cannot disarm the guard, it is killed: {error}");
                self.end();
            }
        }
    }

    /// Ends the process; another one is started ahead of need.
    fn end(&mut self) {
        if let Some(guard) = self.living() {
            kill(&guard);
        }
        self.guard = None;
        (self.hangs, self.armed_for) = (false, None);
    }

    fn failed(&mut self, error: &io::Error) {
        // One that hangs may still be armed, and has to be disarmed some time.
        if !self.hangs {
            self.armed_for = None;
        }
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

/// Asked, it did not answer, or it has no room for a question.
fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, TimedOut, WouldBlock};
    // Its end of the socket is closed a moment before it is seen to be dead.
    matches!(error.kind(), BrokenPipe | TimedOut | WouldBlock)
}

/// Whether that was possible; a process that is gone counts.
fn kill(guard: &Guard) -> bool {
    match guard.kill() {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{error}");
            false
        }
    }
}

fn no_guard() -> io::Error {
    io::Error::other("no guard")
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}
