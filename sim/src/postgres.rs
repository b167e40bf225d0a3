//! A fake PostgreSQL: a data directory, processes, and what it says about itself.

use std::collections::BTreeMap;

use pgherd_ha::fence::{Facts, Postmaster as Seen, Process};
use pgherd_model::{
    ControlFile, ControlState, DataDir, HistoryLine, LogicalSlot, Look, Lsn, Postmaster, Receiver,
    Slot, SlotKind, Standby, SystemId, Time, Timeline, Upstream, WalPositions,
};

use crate::event::NODES;
use crate::far;
use crate::history::Files;
use crate::parameters::{self, Parameters};
use crate::wal::{FIRST, Wal};

/// What survives a crash of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) data: DataDir,
    pub(crate) control: ControlFile,
    pub(crate) shutdown_end: Option<Lsn>,
    pub(crate) standby_signal: bool,
    pub(crate) backup_label: bool,
    pub(crate) wal: Wal,
    /// Replayed so far, if it is or was a standby.
    pub(crate) replayed: u64,
    /// Ends of the timelines that lead to the present one.
    pub(crate) history: Vec<(u32, u64)>,
    pub(crate) timeline: u32,
    /// History files in pg_wal.
    pub(crate) files: Files,
    /// The newest history that recovery as a standby goes by, where one was installed or fetched: its
    /// timeline, and where those before it end.
    pub(crate) installed: Option<(u32, Vec<(u32, u64)>)>,
    pub(crate) upstream: Option<Upstream>,
    pub(crate) slots: BTreeMap<String, Option<Lsn>>,
    /// Logical slots of one database and plugin, and up to where they are confirmed. On a primary a consumer keeps up.
    pub(crate) logical: BTreeMap<String, u64>,
    /// `synchronous_standby_names` as written.
    pub(crate) sync_names: String,
    /// Parameters of the last primary that its WAL tells of, or its own.
    pub(crate) required: Parameters,
}

/// A logical slot of this name.
pub(crate) fn logical(name: &str) -> LogicalSlot {
    LogicalSlot {
        name: name.into(),
        database: "app".into(),
        plugin: "test_decoding".into(),
    }
}

impl Disk {
    pub(crate) fn empty() -> Disk {
        Disk {
            data: DataDir::Empty,
            control: ControlFile {
                system_id: SystemId(0),
                state: ControlState::ShutDown,
                timeline: Timeline(1),
                checkpoint: Lsn(FIRST),
                min_recovery_end: Lsn(0),
                min_recovery_timeline: Timeline(0),
                rewindable: true,
            },
            shutdown_end: None,
            standby_signal: false,
            backup_label: false,
            wal: Wal::default(),
            replayed: FIRST,
            history: Vec::new(),
            timeline: 1,
            files: Files::default(),
            installed: None,
            upstream: None,
            slots: BTreeMap::new(),
            logical: BTreeMap::new(),
            sync_names: String::new(),
            required: Parameters::new(),
        }
    }

    /// How far recovery reads the own WAL on its way to the present timeline of `theirs`: files of
    /// timelines that are not on that way, or go past a fork, are left alone.
    pub(crate) fn readable_towards(&self, theirs: &Disk) -> u64 {
        let on_the_way = |record: &&crate::wal::Record| {
            let forked = theirs.end_of(record.timeline);
            record.timeline == theirs.timeline || forked.is_some_and(|end| record.end <= end)
        };
        let read = self.wal.records.iter().take_while(on_the_way);
        read.last().map_or(FIRST, |record| record.end)
    }

    /// "requested timeline is not a child of this server's history", or does not contain the minimum
    /// recovery point: PostgreSQL does not start as a standby.
    pub(crate) fn is_off_the_way(&self) -> bool {
        let newest = |(target, _): &&(u32, Vec<(u32, u64)>)| *target > self.control.timeline.0;
        let Some((target, ends)) = self.installed.as_ref().filter(newest) else {
            return false;
        };
        let beyond = |timeline: u32, lsn: u64| {
            let end = ends.iter().find(|(past, _)| *past == timeline);
            timeline != *target && end.is_none_or(|(_, end)| lsn >= *end)
        };
        let control = &self.control;
        let least = control.min_recovery_end.0;
        beyond(control.timeline.0, control.checkpoint.0)
            || (least > 0 && beyond(control.min_recovery_timeline.0, least - 1))
    }

    /// A checkpoint of a primary is in pg_control.
    pub(crate) fn checkpointed(&mut self, at: crate::wal::Record) {
        self.control.checkpoint = Lsn(at.start);
        self.control.timeline = Timeline(at.timeline);
        self.control.min_recovery_end = Lsn(0);
        self.control.min_recovery_timeline = Timeline(0);
    }

    /// Where the timeline `timeline` ended on the way to the present one.
    pub(crate) fn end_of(&self, timeline: u32) -> Option<u64> {
        self.history
            .iter()
            .find(|(past, _)| *past == timeline)
            .map(|(_, end)| *end)
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Checkpointer, walsender and the like.
    Helper,
    /// A client's session.
    Session(usize),
}

/// Of a process that was killed and waits for a disk.
const NEVER: Time = Time(u64::MAX);

/// A process other than the postmaster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Child {
    pub(crate) work: Work,
    /// It was killed and disappears then.
    pub(crate) dies: Option<Time>,
    /// Its postmaster is dead; it goes on until then.
    pub(crate) until: Option<Time>,
}

impl Child {
    pub(crate) fn new(work: Work) -> Child {
        Child {
            work,
            dies: None,
            until: None,
        }
    }

    /// It can still do something.
    pub(crate) fn acts(&self, now: Time) -> bool {
        self.dies.is_none() && self.until.is_none_or(|at| at > now)
    }

    /// It is seen in a list of processes.
    pub(crate) fn seen(&self, now: Time) -> bool {
        self.dies.is_none_or(|at| at > now) && self.until.is_none_or(|at| at > now)
    }
}

/// What the postmaster is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Down,
    Starting,
    Running,
    Stopping,
}

/// A stream from somebody else, seen from the standby.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) from: usize,
    pub(crate) epoch: u64,
    pub(crate) conn: u64,
    /// Something of it is on the way.
    pub(crate) due: bool,
    pub(crate) heard: Time,
}

/// A standby, seen from its upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attached {
    pub(crate) conn: u64,
    pub(crate) flushed: u64,
    /// The WAL sender was told to end, and is stuck in its farewell.
    pub(crate) told: bool,
}

impl Attached {
    /// Its WAL sender's.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.conn % 1_000_000_000).unwrap_or_default()
    }

    /// What is on its way to a standby that does not take it fills the socket, for half of them.
    pub(crate) fn fills_its_socket(&self) -> bool {
        self.conn.is_multiple_of(2)
    }
}

/// One PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct Pg {
    pub(crate) disk: Disk,
    pub(crate) postmaster: Option<u32>,
    pub(crate) stopped: bool,
    pub(crate) children: BTreeMap<u32, Child>,
    pub(crate) phase: Phase,
    pub(crate) epoch: u64,
    pub(crate) in_recovery: bool,
    pub(crate) promoting: bool,
    pub(crate) stream: Option<Stream>,
    /// It streams from the other cluster.
    pub(crate) far: bool,
    pub(crate) attached: BTreeMap<usize, Attached>,
    /// `synchronous_standby_names` as sessions know it.
    pub(crate) sync_names: String,
    /// The same as commits go by it.
    pub(crate) waits_for: String,
    /// Reloads that the checkpointer has not acted on.
    pub(crate) applying: u32,
    /// When it was told to stop.
    pub(crate) stop_began: Time,
    /// A shutdown checkpoint is being written or sent.
    pub(crate) shutting: bool,
    /// Received since this start.
    pub(crate) received: bool,
    /// Its disk answers nothing.
    pub(crate) frozen: bool,
    /// Its disk has no room.
    pub(crate) full: bool,
    /// Replay waits: the primary has more of some parameter than this standby.
    pub(crate) short: bool,
    /// The walreceiver does nothing.
    pub(crate) receiver_stopped: bool,
    /// Parameters that need a restart: as the agent wrote them, and as they are in force.
    pub(crate) written: Parameters,
    pub(crate) in_force: Parameters,
}

impl Pg {
    pub(crate) fn new() -> Pg {
        Pg {
            disk: Disk::empty(),
            postmaster: None,
            stopped: false,
            children: BTreeMap::new(),
            phase: Phase::Down,
            epoch: 0,
            in_recovery: false,
            promoting: false,
            stream: None,
            far: false,
            attached: BTreeMap::new(),
            sync_names: String::new(),
            waits_for: String::new(),
            applying: 0,
            stop_began: Time::ZERO,
            shutting: false,
            received: false,
            frozen: false,
            full: false,
            short: false,
            receiver_stopped: false,
            written: Parameters::new(),
            in_force: Parameters::new(),
        }
    }

    /// When a child is gone that is killed so that it would go `then`: on a frozen disk it waits for that.
    pub(crate) fn dies(&self, then: Time) -> Time {
        if self.frozen { NEVER } else { then }
    }

    /// The disk answers again: whoever was killed meanwhile goes.
    pub(crate) fn thaw(&mut self, then: Time) {
        self.frozen = false;
        for child in self.children.values_mut() {
            child.dies = child.dies.map(|at| if at == NEVER { then } else { at });
        }
    }

    fn pending_restart(&self) -> Vec<(String, String, String)> {
        let waits =
            |(name, _): &(&String, &String)| self.in_force.get(*name) != self.written.get(*name);
        let waiting = self.written.iter().filter(waits);
        waiting
            .map(|(name, value)| {
                let before = self.in_force.get(name);
                let before = before.map_or("default", String::as_str);
                (name.clone(), before.to_owned(), value.clone())
            })
            .collect()
    }

    /// Takes away what has died by now.
    pub(crate) fn reap(&mut self, now: Time) {
        self.children.retain(|_, child| child.seen(now));
    }

    /// No process is left.
    pub(crate) fn is_down(&self, now: Time) -> bool {
        self.postmaster.is_none() && !self.children.values().any(|child| child.seen(now))
    }

    /// A new connection works.
    pub(crate) fn accepts(&self) -> bool {
        self.postmaster.is_some() && !self.stopped && self.phase == Phase::Running
    }

    /// Something of it could acknowledge a write.
    pub(crate) fn can_write(&self, now: Time) -> bool {
        let alive = self.children.values().any(|child| child.acts(now));
        !self.in_recovery && alive && matches!(self.phase, Phase::Running)
    }

    /// A session that can still do something.
    pub(crate) fn lives(&self, now: Time, epoch: u64, pid: u32) -> bool {
        self.epoch == epoch && self.children.get(&pid).is_some_and(|child| child.acts(now))
    }

    pub(crate) fn processes(&self, now: Time) -> Postmaster {
        let left = self.children.values().filter(|child| child.seen(now));
        match self.postmaster {
            Some(pid) => Postmaster::Alive { pid },
            None => match u32::try_from(left.count()).unwrap_or(u32::MAX) {
                0 => Postmaster::Down,
                count => Postmaster::Leftovers(count),
            },
        }
    }

    /// The processes as the fence looks at them.
    pub(crate) fn facts(&self, now: Time, looked: Time) -> Facts {
        let process = |pid: u32| Process {
            pid,
            parent: 1,
            started: self.epoch,
        };
        let others = self.children.iter();
        let others = others.filter(|(_, child)| child.seen(now));
        Facts {
            looked,
            postmaster: match self.postmaster {
                None => Seen::Dead,
                Some(pid) if self.stopped => Seen::Stopped(process(pid)),
                Some(pid) => Seen::Running(process(pid)),
            },
            others: others.map(|(pid, _)| process(*pid)).collect(),
        }
    }

    /// The end of what is replayed or written.
    pub(crate) fn position(&self) -> u64 {
        self.disk.wal.end()
    }

    /// WAL up to there has come, of a primary with these parameters: it is replayed, unless they are
    /// more than its own.
    pub(crate) fn replay(&mut self, required: &Parameters) {
        if self.disk.required != *required {
            self.disk.required.clone_from(required);
        }
        self.short |= parameters::lacks(&self.in_force, required);
        if !self.short {
            self.disk.replayed = self.disk.wal.end();
        }
    }

    /// A commit at `lsn` may be acknowledged.
    pub(crate) fn confirmed(&self, lsn: u64, names: &[String]) -> bool {
        if self.waits_for.is_empty() {
            return true;
        }
        let Some((count, _)) = listed(&self.waits_for) else {
            return true;
        };
        let candidates = self.candidates(&self.waits_for, names);
        let flushed = |node: &usize| self.attached.get(node).is_some_and(|it| it.flushed >= lsn);
        match is_any(&self.waits_for) {
            true => candidates.iter().filter(|(_, node)| flushed(node)).count() >= count,
            // Those that come first are waited for, and nobody in their place.
            false => {
                let first = candidates.iter().take(count);
                candidates.len() >= count && first.into_iter().all(|(_, node)| flushed(node))
            }
        }
    }

    /// Attached standbys that `synchronous_standby_names` names, by their priority.
    fn candidates(&self, text: &str, names: &[String]) -> Vec<(i64, usize)> {
        let listed = listed(text).map_or(Vec::new(), |(_, listed)| listed);
        let place = |node: &usize| {
            let place = listed
                .iter()
                .position(|it| *it == names[*node] || *it == "*");
            let place = place.filter(|_| !is_any(text)).or(place.map(|_| 0))?;
            Some((i64::try_from(place + 1).unwrap_or(0), *node))
        };
        let mut candidates: Vec<(i64, usize)> = self.attached.keys().filter_map(place).collect();
        candidates.sort_unstable();
        candidates
    }

    pub(crate) fn look(&self, names: &[String], server: (u16, &str)) -> Look {
        let (replayed, wal) = (self.disk.replayed, &self.disk.wal);
        let timeline = if self.in_recovery {
            wal.timeline_at(replayed).max(self.disk.control.timeline.0)
        } else {
            self.disk.timeline
        };
        let upstream = self.disk.upstream.as_ref();
        let near = self.stream.as_ref().map(|stream| stream.from);
        let near = near.map(|from| 5000 + u16::try_from(from).unwrap_or(0));
        let port = near.or(self.far.then_some(far::PORT));
        let receiver = port.map(|port| Receiver {
            streaming: true,
            timeline: Timeline(self.disk.timeline),
            host: server.1.into(),
            port,
            slot: upstream.and_then(|upstream| upstream.slot.clone()),
            latest_end: Lsn(self.position()),
        });
        Look {
            in_recovery: self.in_recovery,
            timeline: Timeline(timeline),
            wal: self.positions(),
            receiver,
            upstream: self.disk.upstream.clone(),
            slots: self.slots(names),
            standbys: self.standbys(names),
            start_time: String::new(),
            server_version: 150_000,
            replay_paused: self.in_recovery && self.short,
            replayed_at: None,
            synchronous_standby_names: self.sync_names.clone(),
            checkpointer_ready: self.applying == 0,
            restore_command: false,
            pending_restart: self.pending_restart(),
        }
    }

    fn positions(&self) -> WalPositions {
        if !self.in_recovery {
            return WalPositions {
                flushed: Lsn(self.position()),
                ..WalPositions::default()
            };
        }
        let received = if self.received { self.position() } else { 0 };
        WalPositions {
            flushed: Lsn(0),
            received: Lsn(received),
            replayed: Lsn(self.disk.replayed),
        }
    }

    /// pg_stat_replication.
    fn standbys(&self, names: &[String]) -> Vec<Standby> {
        let count = listed(&self.sync_names).map_or(0, |(count, _)| count);
        let candidates = self.candidates(&self.sync_names, names);
        let any = is_any(&self.sync_names);
        let standbys = self.attached.iter().map(|(node, standby)| {
            let place = candidates.iter().position(|(_, it)| it == node);
            let sync_state = match place {
                None => "async",
                Some(_) if any => "quorum",
                Some(place) if place < count => "sync",
                Some(_) => "potential",
            };
            let sync_priority = place.map_or(0, |place| candidates[place].0);
            Standby {
                pid: standby.pid(),
                name: names[*node].clone(),
                user: "replicator".into(),
                address: None,
                state: "streaming".into(),
                sync_state: sync_state.into(),
                sync_priority,
                written: Lsn(standby.flushed),
                flushed: Lsn(standby.flushed),
                replayed: Lsn(standby.flushed),
            }
        });
        standbys.collect()
    }

    /// pg_replication_slots.
    fn slots(&self, names: &[String]) -> Vec<Slot> {
        let active = |name: &String| {
            (0..NODES).any(|node| names[node] == *name && self.attached.contains_key(&node))
        };
        let slots = self.disk.slots.iter().map(|(name, restart)| Slot {
            name: name.clone(),
            kind: SlotKind::Physical,
            active: active(name),
            temporary: false,
            restart: *restart,
            confirmed_flush: None,
            holds_xmin: false,
            lost: false,
            failover: false,
        });
        let confirmed = |at: u64| match self.in_recovery {
            true => Lsn(at),
            false => Lsn(self.position()),
        };
        let logical = self.disk.logical.iter().map(|(name, at)| Slot {
            name: name.clone(),
            kind: logical(name).kind(),
            active: false,
            temporary: false,
            restart: Some(Lsn(*at)),
            confirmed_flush: Some(confirmed(*at)),
            holds_xmin: true,
            lost: false,
            failover: false,
        });
        slots.chain(logical).collect()
    }

    /// The history file of the timeline that the WAL is on: a standby knows more, of where its stream
    /// leads to.
    /// `before`: what it was at some time, which it may still be.
    pub(crate) fn own_history(&self, own: u32, before: Vec<HistoryLine>) -> Vec<HistoryLine> {
        if !self.disk.files.tells(own) {
            return Vec::new();
        }
        let past = || {
            let past = self.disk.history.iter();
            past.filter(|(timeline, _)| *timeline < own)
        };
        let told = before.iter().map(|line| (line.timeline.0, line.end.0));
        if told.eq(past().copied()) {
            return before;
        }
        let last = past().count().saturating_sub(1);
        let lines = past().enumerate();
        lines
            .map(|(index, (timeline, end))| HistoryLine {
                timeline: Timeline(*timeline),
                end: Lsn(*end),
                reason: "no recovery target specified".into(),
                timestamp: (index == last).then(|| "2026-11-21T00:00:00+00:00".into()),
                leader: None,
            })
            .collect()
    }
}

/// Any of the names will do, as many as are wanted.
fn is_any(text: &str) -> bool {
    text.trim_start().starts_with("ANY ")
}

/// Names in `synchronous_standby_names`, and how many must confirm; `None`: nobody.
pub(crate) fn listed(text: &str) -> Option<(usize, Vec<&str>)> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match text.split_once('(') {
        None => Some((1, vec![text])),
        Some((count, names)) => {
            let names: Vec<&str> = names.trim_end_matches(')').split(',').collect();
            let count = count.trim().trim_start_matches("ANY ");
            Some((count.trim().parse().unwrap_or(1), names))
        }
    }
}
