//! Long jobs: one at a time, in a task beside the loop; a stop replaces whatever runs.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgherd_ha::{Job, JobKind, Outcome, StartAs};
use pgherd_instance::{self as instance, Error, Instance, Source};
use pgherd_model::{ControlState, MemberName, Settings, Span, StopMode, Timeline};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::clock;
use crate::event::Event;

/// Longest time of a job that copies or repairs data. What it takes goes with their size, and to begin anew
/// takes longer than to wait.
const COPY: Duration = Duration::from_secs(24 * 3600);
/// Longest promotion.
const PROMOTE: Duration = Duration::from_secs(60);
/// Longest checkpoint before a planned stop: afterwards the stop itself does the work.
const CHECKPOINT: Duration = Duration::from_secs(300);
/// Longest ordered stop; a planned demotion that takes longer ends by killing.
const STOP: Duration = Duration::from_secs(60);
/// Longest shutdown checkpoint: killed in the middle of it, all of it would be to be recovered.
const LAST_CHECKPOINT: Duration = Duration::from_secs(600);
/// Budget of killing; each round goes on where the last one ended.
const KILL: Duration = Duration::from_secs(5);

/// The one job and its past.
pub(crate) struct Jobs {
    instance: Instance,
    events: UnboundedSender<Event>,
    number: u64,
    running: Option<AbortHandle>,
    /// The job that runs or ran last: a fact of the view.
    pub(crate) last: Option<Job>,
    /// How long somebody who asked for a restart lets the start take; `None`: as the settings say.
    pub(crate) start_timeout: Option<Span>,
}

impl Jobs {
    pub(crate) fn new(instance: Instance, events: UnboundedSender<Event>) -> Jobs {
        Jobs {
            instance,
            events,
            number: 0,
            running: None,
            last: None,
            start_timeout: None,
        }
    }

    /// Begins a job; whatever runs is given up first.
    pub(crate) fn start(&mut self, kind: JobKind, sources: Sources, settings: &Settings) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.number += 1;
        let work = Work {
            kind: kind.clone(),
            sources,
            instance: self.instance.clone(),
            events: self.events.clone(),
            start_timeout: self.start_timeout.unwrap_or(settings.primary_start_timeout),
        };
        let (number, events) = (self.number, self.events.clone());
        let task = tokio::spawn(async move {
            let outcome = match work.run().await {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    // The rules that follow these two tell the reason themselves.
                    if !matches!(work.kind, JobKind::Bootstrap | JobKind::Promote) {
                        tracing::error!("{} failed: {error:#}", work.kind.words());
                    }
                    Outcome::Failed(format!("{error:#}"))
                }
            };
            events.send(Event::JobEnded { number, outcome }).ok();
        });
        self.running = Some(task.abort_handle());
        self.last = Some(Job {
            kind,
            since: clock::now(),
            outcome: None,
            ended: None,
        });
    }

    /// Whether one is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Notes the end of a job; one that was replaced says nothing any more.
    pub(crate) fn ended(&mut self, number: u64, outcome: Outcome) -> Option<&Job> {
        if number != self.number {
            return None;
        }
        self.running = None;
        let job = self.last.as_mut()?;
        job.outcome = Some(outcome);
        job.ended = Some(clock::now());
        Some(job)
    }
}

/// Where other members are found, as far as the job needs it.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// Whose history to install before a start.
    pub(crate) history: Option<(MemberName, String, u16)>,
}

struct Work {
    kind: JobKind,
    sources: Sources,
    instance: Instance,
    events: UnboundedSender<Event>,
    start_timeout: Duration,
}

impl Work {
    async fn run(&self) -> Result<()> {
        let instance = &self.instance;
        match &self.kind {
            JobKind::Bootstrap => self.bootstrap().await,
            JobKind::Clone { address, .. } => {
                self.clear_half_made().await?;
                instance.check_port().await?;
                Ok(instance.basebackup(&source(address), COPY).await?)
            }
            JobKind::Start(StartAs::Primary) => self.start(&instance::StartAs::Primary).await,
            JobKind::Start(StartAs::Standby { upstream, follow }) => {
                if let Some((_, timeline)) = follow {
                    self.install_history(*timeline).await;
                }
                self.start(&instance::StartAs::Standby(upstream.clone()))
                    .await
            }
            JobKind::Stop {
                mode: StopMode::Kill,
                ..
            } => kill(instance.clone()).await,
            JobKind::Stop {
                mode,
                checkpoint_first,
            } => {
                if *checkpoint_first {
                    // Without it the stop takes longer, nothing else.
                    instance.checkpoint(CHECKPOINT).await.ok();
                }
                self.stop(*mode).await
            }
            JobKind::Promote => {
                let timeline = instance.promote(PROMOTE).await?;
                tracing::info!(
                    "promoted self to leader by acquiring session lock, timeline {timeline}"
                );
                Ok(())
            }
            JobKind::CrashRecovery => Ok(instance.crash_recovery(COPY).await?),
            JobKind::Rewind { address, .. } => Ok(instance.rewind(&source(address), COPY).await?),
            JobKind::RemoveData => Ok(instance.remove_data_dir().await?),
        }
    }

    /// In order; the limit does not count what is written at the end.
    async fn stop(&self, mode: StopMode) -> Result<()> {
        let longest = tokio::time::Instant::now() + LAST_CHECKPOINT;
        loop {
            let stopped = self.instance.stop(mode, STOP).await;
            let late = matches!(stopped, Err(Error::Timeout { .. }));
            let time_left = tokio::time::Instant::now() < longest;
            if !(late && time_left && self.writes_its_last().await) {
                return Ok(stopped?);
            }
            tracing::warn!("PostgreSQL has been writing its shutdown checkpoint for a minute");
        }
    }

    /// The shutdown checkpoint is under way: pg_control says so from its beginning to its end.
    async fn writes_its_last(&self) -> bool {
        let control = self.instance.control_file().await;
        control.is_ok_and(|control| control.state == ControlState::ShuttingDown)
    }

    async fn bootstrap(&self) -> Result<()> {
        self.clear_half_made().await?;
        self.instance.check_port().await?;
        match self.create().await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.instance.stop(StopMode::Immediate, STOP).await.ok();
                match self.instance.set_aside().await {
                    Ok(path) => {
                        tracing::error!("the failed cluster was moved to {}", path.display())
                    }
                    Err(error) => tracing::error!("cannot set the failed cluster aside: {error}"),
                }
                Err(error)
            }
        }
    }

    async fn create(&self) -> Result<()> {
        let id = self.instance.initdb(COPY).await.context("initdb")?;
        self.instance
            .start(&instance::StartAs::Primary, STOP)
            .await?;
        self.instance.wait_ready(STOP).await?;
        self.instance
            .post_bootstrap(COPY)
            .await
            .context("after initdb")?;
        self.instance.end_bootstrap().await?;
        self.events.send(Event::Bootstrapped(id)).ok();
        Ok(())
    }

    /// A bootstrap that an earlier agent did not finish: without its roles it is no use.
    async fn clear_half_made(&self) -> Result<()> {
        if !self.instance.is_half_made() {
            return Ok(());
        }
        tracing::warn!("removing a cluster whose bootstrap was interrupted");
        kill(self.instance.clone()).await?;
        Ok(self.instance.remove_data_dir().await?)
    }

    async fn start(&self, role: &instance::StartAs) -> Result<()> {
        self.instance.start(role, STOP).await?;
        self.events.send(Event::WakeUp).ok();
        let timeout = if self.start_timeout.is_zero() {
            STOP
        } else {
            self.start_timeout
        };
        match self.instance.wait_ready(timeout).await {
            Ok(_) => Ok(()),
            // It lives and recovers: that is seen by looking, and bounded by the rules.
            Err(Error::Timeout { .. }) if *role != instance::StartAs::Primary => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Best effort: without it recovery follows what is in pg_wal, and the stream tells the rest.
    async fn install_history(&self, timeline: Timeline) {
        let Some((name, host, port)) = &self.sources.history else {
            return;
        };
        let source = source(&(host.clone(), *port));
        let fetched = self.instance.remote_history(&source, timeline).await;
        let installed = match fetched {
            Ok(history) => self.instance.install_history(&history).await,
            Err(error) => Err(error),
        };
        if let Err(error) = installed {
            tracing::warn!("cannot install the timeline history of {name}: {error}");
        }
    }
}

pub(crate) fn source(address: &(String, u16)) -> Source {
    Source {
        host: address.0.clone(),
        port: address.1,
        database: None,
    }
}

/// The fence's way: nothing acknowledges any more when this returns.
pub(crate) async fn kill(instance: Instance) -> Result<()> {
    let killing = tokio::task::spawn_blocking(move || {
        let programs = instance.server_programs();
        pgherd_guard::kill(instance.path(), &programs, KILL, clock::now)
    });
    match killing.await {
        Ok(Ok(killed)) => {
            tracing::warn!(
                "killed {} processes of PostgreSQL in {} ms",
                killed.processes,
                killed.took.as_millis()
            );
            Ok(())
        }
        Ok(Err(error)) => bail!("{error}"),
        Err(error) => bail!("killing was interrupted: {error}"),
    }
}
