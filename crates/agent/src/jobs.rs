//! Long jobs: one at a time, in a task beside the loop; a stop replaces whatever runs.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgherd_ha::{Job, JobKind, Outcome, Reinitializing, StartAs};
use pgherd_instance::{self as instance, BootstrapMethod, Error, Instance, Methods, Source};
use pgherd_model::{
    ControlState, DataDir, MemberName, Settings, Span, StopMode, SynchronousMode, SystemId,
    Timeline,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::AbortHandle;

use crate::clock;
use crate::event::Event;

/// Longest time of a job that copies or repairs data. What it takes goes with their size, and to begin anew
/// takes longer than to wait.
const COPY: Duration = Duration::from_secs(24 * 3600);
/// Longest checkpoint before a planned stop: afterwards the stop itself does the work.
const CHECKPOINT: Duration = Duration::from_secs(300);
/// Longest `pre_promote` where `primary_start_timeout` is 0.
const PRE_PROMOTE: Duration = Duration::from_secs(60);
/// Longest `before_stop`: afterwards PostgreSQL is stopped all the same.
const BEFORE_STOP: Duration = Duration::from_secs(300);
/// What is asked of PostgreSQL's programs takes no longer, where `pg_ctl_timeout` is 0.
const PROGRAM: Duration = Duration::from_secs(60);
/// How long PostgreSQL may take to stop by SIGQUIT: it kills its own processes after five seconds.
const QUIT: Duration = Duration::from_secs(6);
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
    /// The new copy that somebody asked for.
    pub(crate) made_anew: Option<Reinitializing>,
}

/// Commands of the user's that a job asks, as they are configured now.
#[derive(Clone, Default)]
pub(crate) struct Commands {
    /// `pre_promote`.
    pub(crate) pre_promote: Option<String>,
    /// `before_stop`; not where the lease of the lock is overdue.
    pub(crate) before_stop: Option<String>,
}

/// How long what PostgreSQL is told may take, as it is configured now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `primary_start_timeout`; zero: as long as `program`.
    start: Duration,
    /// `pg_ctl_timeout`: a postmaster that begins, a promotion, an ordered stop. A planned demotion that takes longer
    /// ends by killing.
    program: Duration,
    /// `primary_stop_timeout`, in synchronous mode alone: then PostgreSQL is stopped by force.
    stop: Option<Duration>,
}

impl Limits {
    /// What these settings say.
    pub(crate) fn of(settings: &Settings, pg_ctl_timeout: Span) -> Limits {
        let forced = settings.synchronous_mode != SynchronousMode::Off;
        let stop = Some(settings.primary_stop_timeout);
        Limits {
            start: settings.primary_start_timeout,
            program: match pg_ctl_timeout.is_zero() {
                true => PROGRAM,
                false => pg_ctl_timeout,
            },
            stop: stop.filter(|limit| forced && !limit.is_zero()),
        }
    }
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
            made_anew: None,
        }
    }

    /// Begins a job; whatever runs is given up first.
    pub(crate) fn start(
        &mut self,
        kind: JobKind,
        sources: Sources,
        commands: Commands,
        limits: Limits,
    ) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
        self.number += 1;
        let work = Work {
            kind: kind.clone(),
            sources,
            instance: self.instance.clone(),
            events: self.events.clone(),
            limits: Limits {
                start: self.start_timeout.unwrap_or(limits.start),
                ..limits
            },
            made_anew: self.made_anew,
            commands,
        };
        let (number, events) = (self.number, self.events.clone());
        let task = tokio::spawn(async move {
            let outcome = match work.run().await {
                Ok(()) => Outcome::Done,
                Err(error) if error.is::<Refusal>() => Outcome::Refused(format!("{error:#}")),
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
    commands: Commands,
    instance: Instance,
    events: UnboundedSender<Event>,
    limits: Limits,
    made_anew: Option<Reinitializing>,
}

/// A command of the user's does not want what was about to be begun.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(Error);

impl Work {
    async fn run(&self) -> Result<()> {
        let instance = &self.instance;
        match &self.kind {
            JobKind::Bootstrap => self.bootstrap().await,
            JobKind::Clone { from, far } => {
                self.clear_half_made().await?;
                instance.check_port().await?;
                let source = from.as_ref().map(|origin| source(&origin.address));
                // As Patroni: whoever asks for a copy of the leader gets a base backup.
                let only_basebackup = self.made_anew.is_some_and(|copy| copy.from_leader);
                let by = match (far, only_basebackup) {
                    (true, _) => Methods::Far,
                    (false, true) => Methods::Basebackup,
                    (false, false) => Methods::Replica,
                };
                let copying = instance.make_replica(source.as_ref(), by, COPY);
                Ok(copying.await?)
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
                self.before_stop().await;
                self.stop(*mode).await
            }
            JobKind::Promote => {
                self.pre_promote().await?;
                let timeline = instance.promote(self.limits.program).await?;
                tracing::info!(
                    "promoted self to leader by acquiring session lock, timeline {timeline}"
                );
                Ok(())
            }
            JobKind::CrashRecovery => Ok(instance.crash_recovery(COPY).await?),
            JobKind::Rewind { address, .. } => Ok(instance.rewind(&source(address), COPY).await?),
            JobKind::RemoveData if self.made_anew.is_some() => Ok(instance.give_data_up().await?),
            JobKind::RemoveData => Ok(instance.remove_data_dir().await?),
            JobKind::CopySlots { from, slots } => {
                let files = instance.read_slots(&source(&from.address), slots).await?;
                instance.checkpoint(CHECKPOINT).await.ok();
                self.before_stop().await;
                self.stop(StopMode::Fast).await?;
                Ok(instance.place_slots(files).await?)
            }
        }
    }

    /// Nothing was done when it says no, and nothing will be.
    async fn pre_promote(&self) -> Result<(), Refusal> {
        let Some(command) = &self.commands.pre_promote else {
            return Ok(());
        };
        let timeout = match self.limits.start.is_zero() {
            true => PRE_PROMOTE,
            false => self.limits.start,
        };
        let asked = self.instance.run_command("pre_promote", command, timeout);
        asked.await.map_err(Refusal)?;
        tracing::info!("pre_promote allows the promotion");
        Ok(())
    }

    /// Whatever it says, PostgreSQL is stopped.
    async fn before_stop(&self) {
        let Some(command) = &self.commands.before_stop else {
            return;
        };
        if self.instance.postmaster_handle().await.is_none() {
            return;
        }
        let asked = self
            .instance
            .run_command("before_stop", command, BEFORE_STOP);
        match asked.await {
            Ok(()) => tracing::info!("before_stop has ended, PostgreSQL is stopped"),
            Err(error) => tracing::warn!("{error}; PostgreSQL is stopped all the same"),
        }
    }

    /// In order; the limit does not count what is written at the end, unless somebody has set one that does.
    async fn stop(&self, mode: StopMode) -> Result<()> {
        if let Some(limit) = self.limits.stop {
            return self.stop_by_force(mode, limit).await;
        }
        let longest = tokio::time::Instant::now() + LAST_CHECKPOINT;
        loop {
            let stopped = self.instance.stop(mode, self.limits.program).await;
            let late = matches!(stopped, Err(Error::Timeout { .. }));
            let time_left = tokio::time::Instant::now() < longest;
            if !(late && time_left && self.writes_its_last().await) {
                return Ok(stopped?);
            }
            tracing::warn!("PostgreSQL is still writing its shutdown checkpoint");
        }
    }

    /// `primary_stop_timeout`: in order for so long, then by SIGQUIT, then nothing is left alive (contract:
    /// patroni-ha-rules, section 4). A synchronous standby has everything that was acknowledged.
    async fn stop_by_force(&self, mode: StopMode, limit: Duration) -> Result<()> {
        for (mode, limit) in [(mode, limit), (StopMode::Immediate, QUIT)] {
            match self.instance.stop(mode, limit).await {
                Err(error @ Error::Timeout { .. }) => {
                    tracing::warn!("{error}; it is stopped by force (primary_stop_timeout)");
                }
                stopped => return Ok(stopped?),
            }
        }
        kill(self.instance.clone()).await
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
                let limit = self.limits.program;
                self.instance.stop(StopMode::Immediate, limit).await.ok();
                if self.instance.data_dir().await == DataDir::Empty {
                    return Err(error);
                }
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
        let method = self.instance.options().bootstrap_method.clone();
        let id = match &method {
            Some(method) => self.restore(method).await?,
            None => {
                let id = self.instance.initdb(COPY).await.context("initdb")?;
                let primary = instance::StartAs::Primary;
                self.instance.start(&primary, self.limits.program).await?;
                self.instance.wait_ready(self.limits.program).await?;
                id
            }
        };
        let after = method.map_or("initdb".to_owned(), |method| method.method.name);
        self.instance
            .post_bootstrap(COPY)
            .await
            .with_context(|| format!("after {after}"))?;
        if self.instance.end_restored().await? {
            tracing::info!("PostgreSQL is started anew, with its own settings");
            self.stop(StopMode::Fast).await?;
            let primary = instance::StartAs::Primary;
            self.instance.start(&primary, self.limits.program).await?;
            self.instance.wait_ready(COPY).await?;
        }
        self.instance.end_bootstrap().await?;
        self.events.send(Event::Bootstrapped(id)).ok();
        Ok(())
    }

    /// Data that a command of the user's brings, recovered as it is configured.
    async fn restore(&self, method: &BootstrapMethod) -> Result<SystemId> {
        let name = || format!("bootstrap method {}", method.method.name);
        let id = self.instance.bootstrap_by(method, COPY).await;
        let id = id.with_context(name)?;
        let restored = instance::StartAs::Restored(method.recovery.clone());
        self.instance.start(&restored, self.limits.program).await?;
        tracing::info!("waiting for end of recovery after bootstrap");
        let recovered = self.instance.wait_recovered(COPY).await;
        recovered.with_context(name)?;
        Ok(id)
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
        self.instance.start(role, self.limits.program).await?;
        self.events.send(Event::WakeUp).ok();
        let timeout = if self.limits.start.is_zero() {
            self.limits.program
        } else {
            self.limits.start
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
