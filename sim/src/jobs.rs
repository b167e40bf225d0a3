//! Long jobs as `agent::jobs` runs them: one at a time, step by step.

use pgherd_ha::fence::Plan;
use pgherd_ha::{Job, JobKind, Outcome, StartAs};
use pgherd_model::{ControlState, DataDir, LogicalSlot, Lsn, Span, StopMode, Timeline, Upstream};

use crate::bugs::Bug;
use crate::event::{Event, Killer};
use crate::guard::Killing;
use crate::history::Files;
use crate::postgres::{Disk, Phase};
use crate::rng::Rng;
use crate::world::{CONSENT, World};

/// Longest ordered stop, and longest promotion.
const STOP: Span = Span::from_secs(60);
/// The step of a promotion that `pre_promote` is about to forbid.
const FORBIDDEN: u32 = u32::MAX;
/// Budget of one round of killing.
const KILL: Span = Span::from_secs(5);

impl World {
    /// Begins a job; whatever runs is given up first.
    pub(crate) fn start_job(&mut self, node: usize, kind: JobKind) {
        self.abandon_job(node);
        let (number, since) = (self.number(), self.clock(node));
        self.check_copy(node, &kind);
        if let JobKind::Start(start) = &kind {
            self.check_start(node, start);
        }
        let agent = &mut self.nodes[node].agent;
        agent.job_number = number;
        agent.job_step = 0;
        agent.job = Some(Job {
            kind: kind.clone(),
            since,
            outcome: None,
            ended: None,
        });
        let run = agent.run;
        if matches!(
            kind,
            JobKind::Stop {
                mode: StopMode::Kill,
                ..
            }
        ) {
            let plan = Plan::starting(since, KILL);
            self.nodes[node].agent.killing = Some(Killing::new(plan));
            self.after(
                0,
                Event::Kill {
                    node,
                    run,
                    killer: Killer::Job(number),
                },
            );
        } else {
            self.after(1, Event::Job { node, run, number });
        }
    }

    /// What a job leaves behind that does not reach its end.
    pub(crate) fn abandon_job(&mut self, node: usize) {
        self.nodes[node].agent.killing = None;
    }

    pub(crate) fn job_done(&mut self, node: usize, outcome: Outcome) {
        let now = self.clock(node);
        self.nodes[node].agent.killing = None;
        if let Some(job) = &mut self.nodes[node].agent.job {
            job.outcome = Some(outcome.clone());
            job.ended = Some(now);
            let name = job.kind.name();
            self.say(|| format!("{node} {name} ended: {outcome:?}"));
        }
        self.poke(node);
    }

    pub(crate) fn on_job(&mut self, node: usize, number: u64) {
        let agent = &self.nodes[node].agent;
        let Some(job) = agent.job.clone() else {
            return;
        };
        if agent.job_number != number || job.outcome.is_some() {
            return;
        }
        let step = agent.job_step;
        let run = agent.run;
        let disk = &self.nodes[node].pg;
        if disk.frozen && writes(&job.kind) {
            self.after(100, Event::Job { node, run, number });
            return;
        }
        if disk.full && writes(&job.kind) {
            let reason = "no space left on device".into();
            self.job_done(node, Outcome::Failed(reason));
            return;
        }
        if job.kind == JobKind::Promote
            && let Some(wait) = self.asks_first(node, step)
        {
            match wait {
                Some(millis) => self.after(millis, Event::Job { node, run, number }),
                None => {
                    let reason = "pre_promote failed".into();
                    self.job_done(node, Outcome::Refused(reason));
                }
            }
            return;
        }
        self.nodes[node].agent.job_step += 1;
        let late = self.clock(node).since(job.since);
        let next = match job.kind {
            JobKind::Bootstrap => self.bootstrap(node, step),
            JobKind::Clone {
                from: Some(_),
                far: true,
            } => self.copy_far(node, step),
            JobKind::Clone {
                from: Some(from), ..
            } => self.copy(node, step, from.address.1),
            JobKind::Clone { from: None, .. } => Err("no method works without a leader".into()),
            JobKind::Start(start) => self.start(node, step, &start, late),
            JobKind::Stop {
                mode,
                checkpoint_first,
            } => self.stop(node, step, mode, checkpoint_first, late),
            JobKind::Promote => self.promote(node, late),
            JobKind::CrashRecovery => self.crash_recovery(node, step),
            JobKind::Rewind { address, .. } => self.rewind(node, step, address.1),
            JobKind::RemoveData => {
                self.nodes[node].pg.disk = Disk::empty();
                Ok(None)
            }
            JobKind::CopySlots { from, slots } => {
                self.copy_slots(node, step, from.address.1, &slots, late)
            }
        };
        match next {
            Ok(Some(millis)) => self.after(millis, Event::Job { node, run, number }),
            Ok(None) => self.job_done(node, Outcome::Done),
            Err(reason) if self.wrong.is(Bug::JobWithoutEnd) => {
                self.say(|| format!("{node} would have failed: {reason}"));
            }
            Err(reason) => self.job_done(node, Outcome::Failed(reason)),
        }
    }

    fn bootstrap(&mut self, node: usize, step: u32) -> Result<Option<u64>, String> {
        match step {
            0 => {
                self.nodes[node].pg.disk.data = DataDir::Unfinished;
                Ok(Some(self.rng.between(200, 1500)))
            }
            1 => {
                if self.mishap(20) {
                    self.nodes[node].pg.disk = Disk::empty();
                    return Err("initdb".into());
                }
                let id = self.initdb(node);
                self.nodes[node].agent.initdb = Some(id);
                self.start_postgres(node, None)?;
                Ok(Some(10))
            }
            _ if self.nodes[node].pg.accepts() => {
                self.nodes[node].agent.bootstrapped = self.nodes[node].agent.initdb.take();
                Ok(None)
            }
            _ if self.nodes[node].pg.postmaster.is_none() => {
                // Moved out of the way.
                self.lose_postgres(node);
                self.nodes[node].pg.disk = Disk::empty();
                Err("it died".into())
            }
            _ => Ok(Some(10)),
        }
    }

    fn source(&self, node: usize, port: u16) -> Result<usize, String> {
        let from = usize::from(port) - 5000;
        let usable = self.connected(node, from) && self.nodes[from].pg.accepts();
        if usable {
            Ok(from)
        } else {
            Err(format!("{from} does not answer"))
        }
    }

    fn copy(&mut self, node: usize, step: u32, port: u16) -> Result<Option<u64>, String> {
        let from = self.source(node, port)?;
        let now = self.now;
        if !self.nodes[node].pg.is_down(now) {
            return Err("PostgreSQL runs".into());
        }
        if step == 0 {
            self.nodes[node].pg.disk = Disk::empty();
            self.nodes[node].pg.disk.data = DataDir::Unfinished;
            return Ok(Some(self.rng.between(150, 2500)));
        }
        self.copied(node, from);
        let disk = &mut self.nodes[node].pg.disk;
        disk.files = Files::of_copy(disk.timeline);
        Ok(None)
    }

    fn copy_far(&mut self, node: usize, step: u32) -> Result<Option<u64>, String> {
        let there = self.far.as_ref().and_then(|far| far.disk.clone());
        let mut disk = there.ok_or("the other cluster does not answer")?;
        if step == 0 {
            self.nodes[node].pg.disk = Disk::empty();
            self.nodes[node].pg.disk.data = DataDir::Unfinished;
            return Ok(Some(self.rng.between(150, 2500)));
        }
        disk.backup_label = true;
        disk.control.timeline = Timeline(disk.timeline);
        disk.replayed = disk.wal.end();
        disk.files = Files::of_copy(disk.timeline);
        self.nodes[node].pg.disk = disk;
        Ok(None)
    }

    /// The data directory is what `from` is now.
    fn copied(&mut self, node: usize, from: usize) {
        let theirs = &self.nodes[from].pg;
        let mut disk = theirs.disk.clone();
        disk.backup_label = true;
        // It is a file like any other: a copy of a standby is one.
        disk.standby_signal = theirs.in_recovery;
        disk.installed = None;
        disk.slots.clear();
        disk.logical.clear();
        disk.upstream = None;
        disk.shutdown_end = None;
        disk.control.timeline = Timeline(disk.timeline);
        let end = disk.wal.end();
        if theirs.in_recovery {
            disk.control.min_recovery_end = Lsn(end);
            disk.control.min_recovery_timeline = Timeline(disk.wal.timeline());
        }
        disk.replayed = end;
        self.nodes[node].pg.disk = disk;
    }

    fn start(
        &mut self,
        node: usize,
        step: u32,
        start: &StartAs,
        late: Span,
    ) -> Result<Option<u64>, String> {
        if step == 0 {
            let standby = match start {
                StartAs::Primary => None,
                StartAs::Standby { upstream, follow } => {
                    if let (Some((name, _)), Some(upstream)) = (follow, upstream) {
                        let from = self.node_of(name).unwrap_or(node);
                        self.install_history(node, from, upstream);
                    }
                    Some(upstream.clone())
                }
            };
            self.start_postgres(node, standby)?;
            self.poke(node);
            return Ok(Some(5));
        }
        let pg = &self.nodes[node].pg;
        if pg.accepts() {
            return Ok(None);
        }
        if pg.postmaster.is_none() {
            return Err("the postmaster died".into());
        }
        let limit = self.nodes[node].settings.primary_start_timeout;
        if late > if limit.is_zero() { STOP } else { limit } {
            return match start {
                StartAs::Primary => Err("not ready in time".into()),
                StartAs::Standby { .. } => Ok(None),
            };
        }
        Ok(Some(5))
    }

    /// Recovery then follows the leader's timeline and leaves own WAL past the fork alone.
    fn install_history(&mut self, node: usize, from: usize, _upstream: &Upstream) {
        if !self.connected(node, from) || !self.nodes[from].pg.accepts() {
            return;
        }
        let theirs = self.nodes[from].pg.disk.clone();
        let disk = &mut self.nodes[node].pg.disk;
        let own = disk.wal.timeline();
        disk.files.add(theirs.timeline);
        disk.files.fill(theirs.timeline);
        if disk.files.newest(own) < theirs.timeline {
            return;
        }
        disk.installed = Some((theirs.timeline, theirs.history.clone()));
        if !disk.is_off_the_way() {
            disk.wal.cut(disk.readable_towards(&theirs));
            disk.replayed = disk.replayed.min(disk.wal.end());
        }
    }

    fn stop(
        &mut self,
        node: usize,
        step: u32,
        mode: StopMode,
        checkpoint_first: bool,
        late: Span,
    ) -> Result<Option<u64>, String> {
        let now = self.now;
        if step == 0 && checkpoint_first {
            return Ok(Some(self.rng.between(10, 300)));
        }
        self.nodes[node].pg.reap(now);
        if self.nodes[node].pg.is_down(now) {
            return Ok(None);
        }
        if late > STOP {
            return Err("it still runs".into());
        }
        match (self.nodes[node].pg.postmaster, mode) {
            (Some(_), StopMode::Fast) => self.stop_fast(node),
            (Some(_), _) => self.stop_immediately(node),
            // Leftovers are told to quit.
            (None, _) => {
                let then = self.nodes[node].pg.dies(now + Span::from_millis(10));
                for child in self.nodes[node].pg.children.values_mut() {
                    child.dies.get_or_insert(then);
                }
            }
        }
        Ok(Some(if self.nodes[node].pg.postmaster.is_some() {
            20
        } else {
            10
        }))
    }

    /// What cannot be copied is found out before the stop.
    fn copy_slots(
        &mut self,
        node: usize,
        step: u32,
        port: u16,
        slots: &[LogicalSlot],
        late: Span,
    ) -> Result<Option<u64>, String> {
        if step == 0 {
            let from = &self.nodes[self.source(node, port)?].pg;
            let there = |slot: &LogicalSlot| from.disk.logical.contains_key(&slot.name);
            return match !from.in_recovery && slots.iter().all(there) {
                true => Ok(Some(self.rng.between(5, 50))),
                false => Err("the leader has no such slot".into()),
            };
        }
        if let Some(millis) = self.stop(node, step, StopMode::Fast, false, late)? {
            return Ok(Some(millis));
        }
        let disk = &mut self.nodes[node].pg.disk;
        let at = disk.replayed;
        let copied = slots.iter().map(|slot| (slot.name.clone(), at));
        disk.logical.extend(copied);
        Ok(None)
    }

    /// `pre_promote` takes a while and says no: how long that lasts, then `None`.
    fn asks_first(&mut self, node: usize, step: u32) -> Option<Option<u64>> {
        if step == FORBIDDEN {
            return Some(None);
        }
        let mut own = Rng::new(self.now.as_millis() ^ CONSENT);
        let says_no = own.chance(self.swarm.forbids) && self.chaos.healed.is_none();
        if step > 0 || !says_no {
            return None;
        }
        self.nodes[node].agent.job_step = FORBIDDEN;
        self.happened("promotion forbidden");
        Some(Some(own.between(5, 1500)))
    }

    fn promote(&mut self, node: usize, late: Span) -> Result<Option<u64>, String> {
        let pg = &self.nodes[node].pg;
        if pg.postmaster.is_none() {
            return Err("it is not running".into());
        }
        if !pg.in_recovery && pg.phase == Phase::Running {
            return Ok(None);
        }
        if late > STOP {
            return Err("it takes too long".into());
        }
        self.promote_postgres(node);
        Ok(Some(20))
    }

    fn crash_recovery(&mut self, node: usize, step: u32) -> Result<Option<u64>, String> {
        let now = self.now;
        if !self.nodes[node].pg.is_down(now) {
            return Err("PostgreSQL runs".into());
        }
        if step == 0 {
            return Ok(Some(self.rng.between(80, 900)));
        }
        let record = self.number();
        let disk = &mut self.nodes[node].pg.disk;
        let at = disk
            .wal
            .append(record, disk.timeline, 120, crate::wal::What::Checkpoint);
        disk.control.state = ControlState::ShutDown;
        disk.checkpointed(at);
        disk.shutdown_end = Some(Lsn(at.end));
        disk.replayed = at.end;
        disk.standby_signal = false;
        Ok(None)
    }

    fn rewind(&mut self, node: usize, step: u32, port: u16) -> Result<Option<u64>, String> {
        let now = self.now;
        let from = self.source(node, port)?;
        let own = &self.nodes[node].pg;
        if !own.is_down(now) {
            return Err("PostgreSQL runs".into());
        }
        let clean = matches!(
            own.disk.control.state,
            ControlState::ShutDown | ControlState::ShutDownInRecovery
        );
        if step == 0 {
            if !clean {
                return Err("target server must be shut down cleanly".into());
            }
            if self.nodes[from].pg.disk.control.timeline == own.disk.control.timeline {
                // "source and target cluster are on the same timeline": nothing is done.
                return Ok(None);
            }
            if self.mishap(30) {
                return Err("could not find previous WAL record".into());
            }
            self.nodes[node].pg.disk.data = DataDir::Unfinished;
            return Ok(Some(self.rng.between(100, 1500)));
        }
        if self.nodes[node].pg.disk.data != DataDir::Unfinished {
            return Ok(None);
        }
        self.copied(node, from);
        let disk = &mut self.nodes[node].pg.disk;
        disk.control.state = ControlState::InArchiveRecovery;
        let end = disk.wal.end();
        disk.control.min_recovery_end = Lsn(end);
        disk.control.min_recovery_timeline = Timeline(disk.timeline);
        Ok(None)
    }
}

/// The job itself writes to the disk of the data directory.
fn writes(kind: &JobKind) -> bool {
    match kind {
        JobKind::Bootstrap
        | JobKind::Clone { .. }
        | JobKind::CrashRecovery
        | JobKind::CopySlots { .. }
        | JobKind::Rewind { .. } => true,
        JobKind::Start(_) | JobKind::Stop { .. } | JobKind::Promote | JobKind::RemoveData => false,
    }
}
