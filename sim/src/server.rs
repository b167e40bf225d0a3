//! How the fake PostgreSQL lives: starts, recovers, promotes, stops, dies.

use pgherd_model::{ControlState, DataDir, Lsn, Span, SystemId, Timeline, Upstream};

use crate::event::{Event, NODES};
use crate::parameters;
use crate::postgres::{Child, Disk, Phase, Work};
use crate::wal::What;
use crate::world::World;

/// Whoever waits for a disk tries again after this.
const WAITING_MS: u64 = 50;

impl World {
    pub(crate) fn on_postgres(&mut self, event: Event) {
        let of = |event: &Event| match event {
            Event::Ready { node, epoch }
            | Event::Promoted { node, epoch }
            | Event::Stopping { node, epoch, .. }
            | Event::Dead { node, epoch }
            | Event::Checkpoint { node, epoch }
            | Event::Reload { node, epoch }
            | Event::Applied { node, epoch }
            | Event::Connect { node, epoch } => Some((*node, *epoch)),
            _ => None,
        };
        if let Some((node, epoch)) = of(&event)
            && self.nodes[node].pg.epoch != epoch
        {
            return;
        }
        let writes = match &event {
            Event::Ready { node, .. }
            | Event::Promoted { node, .. }
            | Event::Stopping { node, .. }
            | Event::Checkpoint { node, .. } => self.nodes[*node].pg.frozen,
            Event::Receive { node, .. } => {
                self.nodes[*node].pg.frozen || self.nodes[*node].pg.receiver_stopped
            }
            _ => false,
        };
        if writes {
            self.after(WAITING_MS, event);
            return;
        }
        match event {
            Event::Ready { node, .. } => self.on_ready(node),
            Event::Promoted { node, .. } => self.on_promoted(node),
            Event::Stopping { node, step, .. } => self.on_stopping(node, step),
            Event::Dead { node, .. } => self.on_dead(node),
            Event::Checkpoint { node, .. } => self.on_checkpoint(node),
            Event::Reload { node, epoch } => self.on_reload(node, epoch),
            Event::Applied { node, .. } => {
                let pg = &mut self.nodes[node].pg;
                pg.applying -= 1;
                pg.waits_for.clone_from(&pg.disk.sync_names);
                self.check_sync_names();
                self.confirm(node);
            }
            Event::Connect { node, .. } => self.on_connect(node),
            Event::Receive { node, conn } => self.on_receive(node, conn),
            Event::Flushed { node, conn, lsn } => self.on_flushed(node, conn, lsn),
            Event::Broken { node, conn } => self.on_broken(node, conn),
            _ => {}
        }
    }

    /// initdb: a cluster of its own.
    pub(crate) fn initdb(&mut self, node: usize) -> SystemId {
        let id = SystemId(7_000_000_000_000_000_000 + self.number());
        let record = self.number();
        let mut disk = Disk::empty();
        disk.data = DataDir::Initialized;
        disk.control.system_id = id;
        disk.control.rewindable = self.swarm.rewindable;
        let checkpoint = disk.wal.append(record, 1, 120, What::Checkpoint);
        disk.control.checkpoint = Lsn(checkpoint.start);
        disk.shutdown_end = Some(Lsn(checkpoint.end));
        disk.replayed = checkpoint.end;
        self.nodes[node].pg.disk = disk;
        id
    }

    /// The postmaster is started. `Err`: it does not start at all.
    pub(crate) fn start_postgres(
        &mut self,
        node: usize,
        standby: Option<Option<Upstream>>,
    ) -> Result<(), String> {
        let now = self.now;
        if !self.nodes[node].pg.is_down(now) {
            return Err("something of it still runs".into());
        }
        if self.nodes[node].pg.disk.data != DataDir::Initialized {
            return Err("no database cluster".into());
        }
        let epoch = self.number();
        let first = u32::try_from(self.number() % 1_000_000).unwrap_or(0) * 4 + 1000;
        let is_standby = standby.is_some();
        let pg = &mut self.nodes[node].pg;
        pg.epoch = epoch;
        pg.postmaster = Some(first);
        pg.stopped = false;
        pg.children.clear();
        for pid in first + 1..first + 4 {
            pg.children.insert(pid, Child::new(Work::Helper));
        }
        pg.phase = Phase::Starting;
        pg.in_recovery = is_standby;
        pg.promoting = false;
        pg.shutting = false;
        pg.received = false;
        pg.stream = None;
        pg.far = false;
        pg.attached.clear();
        let clean = pg.disk.control.state == ControlState::ShutDown
            || (is_standby && pg.disk.control.state == ControlState::ShutDownInRecovery);
        pg.disk.standby_signal = is_standby;
        let refused = is_standby && pg.disk.is_off_the_way();
        pg.disk.control.state = if refused {
            // It ends before it writes anything.
            pg.disk.control.state
        } else if is_standby {
            ControlState::InArchiveRecovery
        } else if clean {
            ControlState::StartingUp
        } else {
            ControlState::InCrashRecovery
        };
        if let Some(upstream) = standby {
            pg.disk.upstream = upstream;
            pg.disk.files.unreserve();
        }
        pg.sync_names.clone_from(&pg.disk.sync_names);
        pg.waits_for.clone_from(&pg.disk.sync_names);
        pg.short = false;
        pg.in_force = match is_standby {
            true => parameters::at_least(&pg.written, &pg.disk.required),
            false => pg.written.clone(),
        };
        pg.applying = 0;
        let mut wait = if clean {
            self.rng.between(30, 150)
        } else {
            self.rng.between(60, 900)
        };
        if self.rng.chance(self.swarm.slow) {
            wait += self.rng.between(1000, 8000);
        }
        self.say(|| format!("{node} postgres starts, standby {is_standby}"));
        self.after(wait, Event::Ready { node, epoch });
        Ok(())
    }

    /// Sessions know it at once; a checkpointer that is busy keeps everybody else waiting.
    fn on_reload(&mut self, node: usize, epoch: u64) {
        let wait = match self.rng.below(10) {
            0 => self.rng.between(100, 6000),
            1 | 2 => self.rng.between(20, 400),
            _ => self.rng.below(20),
        };
        let pg = &mut self.nodes[node].pg;
        pg.sync_names.clone_from(&pg.disk.sync_names);
        pg.applying += 1;
        self.after(wait, Event::Applied { node, epoch });
    }

    fn on_ready(&mut self, node: usize) {
        if self.nodes[node].pg.postmaster.is_none() {
            return;
        }
        if self.nodes[node].pg.full && !self.nodes[node].pg.in_recovery {
            // Recovery ends with a checkpoint, for which there is no room.
            self.kill_postgres(node);
            return;
        }
        if self.nodes[node].pg.in_recovery && self.nodes[node].pg.disk.is_off_the_way() {
            self.say(|| format!("{node} requested timeline is not a child of its history"));
            self.kill_postgres(node);
            return;
        }
        let record = self.number();
        let pg = &mut self.nodes[node].pg;
        pg.phase = Phase::Running;
        pg.disk.backup_label = false;
        pg.disk.shutdown_end = None;
        pg.disk.replayed = pg.disk.wal.end();
        let epoch = pg.epoch;
        if pg.in_recovery {
            pg.disk.timeline = pg.disk.timeline.max(pg.disk.wal.timeline());
            self.after(1, Event::Connect { node, epoch });
        } else {
            let crashed = pg.disk.control.state == ControlState::InCrashRecovery;
            pg.disk.control.state = ControlState::InProduction;
            if crashed {
                let at = pg
                    .disk
                    .wal
                    .append(record, pg.disk.timeline, 120, What::Checkpoint);
                pg.disk.checkpointed(at);
            }
            pg.disk.required.clone_from(&pg.in_force);
            self.writable(node, false);
        }
        self.say(|| format!("{node} postgres ready"));
    }

    /// Told to promote: does so in its own time.
    pub(crate) fn promote_postgres(&mut self, node: usize) {
        let wait = self.rng.between(15, 120);
        let pg = &mut self.nodes[node].pg;
        if !pg.accepts() || !pg.in_recovery || pg.promoting {
            return;
        }
        if pg.short {
            // "recovery aborted because of insufficient parameter settings"
            self.say(|| format!("{node} postgres cannot replay to the end, and ends"));
            self.kill_postgres(node);
            return;
        }
        pg.promoting = true;
        let epoch = pg.epoch;
        self.after(wait, Event::Promoted { node, epoch });
    }

    fn on_promoted(&mut self, node: usize) {
        let record = self.number();
        let pg = &mut self.nodes[node].pg;
        let helpers = pg.children.values().any(|child| child.dies.is_none());
        if pg.postmaster.is_none() || pg.phase != Phase::Running || !helpers {
            return;
        }
        pg.disk.replayed = pg.disk.wal.end();
        let end = pg.disk.wal.end();
        let timeline = pg.disk.timeline;
        let next = pg.disk.files.newest(timeline) + 1;
        pg.disk.files.add(next);
        pg.disk.history.push((timeline, end));
        pg.disk.timeline = next;
        let first = pg.disk.wal.append(record, next, 60, What::EndOfRecovery);
        pg.disk.control.min_recovery_end = Lsn(first.end);
        pg.disk.control.min_recovery_timeline = Timeline(next);
        pg.in_recovery = false;
        pg.promoting = false;
        pg.far = false;
        pg.disk.required.clone_from(&pg.in_force);
        pg.disk.standby_signal = false;
        pg.disk.control.state = ControlState::InProduction;
        self.drop_stream(node);
        self.say(|| format!("{node} postgres promoted to timeline {next}"));
        self.writable(node, true);
    }

    pub(crate) fn checkpoint_postgres(&mut self, node: usize) {
        let wait = self.rng.between(20, 400);
        let epoch = self.nodes[node].pg.epoch;
        self.after(wait, Event::Checkpoint { node, epoch });
    }

    fn on_checkpoint(&mut self, node: usize) {
        let (record, now) = (self.number(), self.now);
        let pg = &mut self.nodes[node].pg;
        if pg.in_recovery || !pg.can_write(now) || pg.shutting {
            return;
        }
        let at = pg
            .disk
            .wal
            .append(record, pg.disk.timeline, 120, What::Checkpoint);
        pg.disk.checkpointed(at);
        self.flow(node);
    }

    /// SIGINT.
    pub(crate) fn stop_fast(&mut self, node: usize) {
        let wait = if self.rng.chance(self.swarm.slow) {
            self.rng.between(500, 6000)
        } else {
            self.rng.between(15, 120)
        };
        let now = self.now;
        let pg = &mut self.nodes[node].pg;
        if pg.postmaster.is_none() || pg.stopped || pg.phase == Phase::Stopping {
            return;
        }
        // A server that is still starting has nothing to write.
        let step = u8::from(pg.phase == Phase::Starting) * 2;
        pg.phase = Phase::Stopping;
        pg.stop_began = now;
        let then = pg.dies(now + Span::from_millis(3));
        for child in pg.children.values_mut() {
            if matches!(child.work, Work::Session(_)) && child.dies.is_none() {
                child.dies = Some(then);
            }
        }
        let epoch = pg.epoch;
        self.after(wait, Event::Stopping { node, epoch, step });
    }

    /// SIGQUIT.
    pub(crate) fn stop_immediately(&mut self, node: usize) {
        let pg = &mut self.nodes[node].pg;
        if pg.postmaster.is_none() || pg.stopped {
            return;
        }
        pg.phase = Phase::Stopping;
        let epoch = pg.epoch;
        let wait = self.rng.between(3, 30);
        self.after(
            wait,
            Event::Stopping {
                node,
                epoch,
                step: 2,
            },
        );
    }

    fn on_stopping(&mut self, node: usize, step: u8) {
        let now = self.now;
        let epoch = self.nodes[node].pg.epoch;
        let stopped = self.nodes[node].pg.stopped;
        if self.nodes[node].pg.postmaster.is_none() || stopped {
            // It goes on when it is resumed; killed, never.
            if stopped {
                self.after(50, Event::Stopping { node, epoch, step });
            }
            return;
        }
        let record = self.number();
        if step == 0 && self.waits_for_senders(node) {
            self.after(10, Event::Stopping { node, epoch, step });
            return;
        }
        let pg = &mut self.nodes[node].pg;
        match step {
            0 => {
                if pg.in_recovery {
                    pg.disk.control.state = ControlState::ShutDownInRecovery;
                    pg.disk.control.min_recovery_end = Lsn(pg.disk.replayed);
                    let timeline = pg.disk.wal.timeline_at(pg.disk.replayed);
                    pg.disk.control.min_recovery_timeline = Timeline(timeline);
                    self.on_stopping(node, 2);
                    return;
                }
                pg.shutting = true;
                let at = pg
                    .disk
                    .wal
                    .append(record, pg.disk.timeline, 120, What::Checkpoint);
                pg.disk.control.state = ControlState::ShutDown;
                pg.disk.checkpointed(at);
                pg.disk.shutdown_end = Some(Lsn(at.end));
                self.flow(node);
                self.after(
                    2,
                    Event::Stopping {
                        node,
                        epoch,
                        step: 1,
                    },
                );
            }
            1 => {
                // Walsenders wait until what is attached has everything.
                let end = pg.disk.wal.end();
                if pg.attached.values().any(|standby| standby.flushed < end) {
                    self.after(
                        5,
                        Event::Stopping {
                            node,
                            epoch,
                            step: 1,
                        },
                    );
                } else {
                    self.on_stopping(node, 2);
                }
            }
            _ => {
                for child in pg.children.values_mut() {
                    child.dies.get_or_insert(now);
                }
                self.on_dead(node);
            }
        }
    }

    /// The postmaster dies; its children notice in their own time, sessions late.
    pub(crate) fn kill_postmaster(&mut self, node: usize) {
        // What outlives a postmaster that is gone already must not be given another life.
        if self.nodes[node].pg.postmaster.is_none() {
            return;
        }
        self.orphan(node);
        self.on_dead(node);
    }

    /// Its postmaster goes: what is left of it acts for a while.
    pub(crate) fn orphan(&mut self, node: usize) {
        let now = self.now;
        let longest = self.swarm.outlive_ms;
        let rng = &mut self.rng;
        for child in self.nodes[node].pg.children.values_mut() {
            let late = match child.work {
                Work::Helper => rng.below(20),
                Work::Session(_) => rng.below(longest),
            };
            child.until = Some(now + Span::from_millis(late));
        }
    }

    /// The postmaster and every child are killed, or all of it panics.
    pub(crate) fn kill_postgres(&mut self, node: usize) {
        let then = self.nodes[node].pg.dies(self.now);
        for child in self.nodes[node].pg.children.values_mut() {
            child.dies.get_or_insert(then);
        }
        self.on_dead(node);
    }

    /// The disk answers again.
    pub(crate) fn thaw_disk(&mut self, node: usize) {
        let then = self.now + Span::from_millis(5);
        self.nodes[node].pg.thaw(then);
    }

    /// The postmaster is gone.
    pub(crate) fn on_dead(&mut self, node: usize) {
        let pg = &mut self.nodes[node].pg;
        if pg.postmaster.take().is_none() {
            return;
        }
        pg.stopped = false;
        pg.far = false;
        self.say(|| format!("{node} postmaster is gone"));
        self.no_helpers(node);
        self.poke(node);
    }

    /// Its walsenders and its walreceiver are gone: the other ends notice where packets get through.
    pub(crate) fn no_helpers(&mut self, node: usize) {
        self.drop_stream(node);
        self.nodes[node].pg.attached.clear();
        for other in 0..NODES {
            let stream = &self.nodes[other].pg.stream;
            if let Some(conn) = stream
                .as_ref()
                .filter(|it| it.from == node)
                .map(|it| it.conn)
                && self.linked(node, other)
            {
                self.after(1, Event::Broken { node: other, conn });
            }
        }
    }

    /// The machine goes dark.
    pub(crate) fn lose_postgres(&mut self, node: usize) {
        let pg = &mut self.nodes[node].pg;
        pg.postmaster = None;
        pg.children.clear();
        pg.stopped = false;
        pg.phase = Phase::Down;
        pg.stream = None;
        pg.far = false;
        pg.attached.clear();
        pg.epoch += 1;
        if pg.in_recovery {
            let back = pg.disk.replayed;
            pg.disk.control.min_recovery_end = pg.disk.control.min_recovery_end.min(Lsn(back));
        }
    }
}
