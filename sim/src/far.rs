//! Another cluster, of which this one is a copy now and then (`standby_cluster`): one fake primary, far away.
//!
//! Nobody of it runs a brain, and it is always there when it should be. While this cluster has a primary of its own it
//! follows that, unseen; once this one has been made its copy, and nobody here writes any more, it is promoted.

use std::collections::BTreeSet;

use pgherd_model::{DataDir, Lsn, Span, StandbyCluster, Time, Timeline, Upstream};

use crate::event::{Event, NODES};
use crate::postgres::{Disk, Phase};
use crate::rng::Rng;
use crate::wal::What;
use crate::world::World;

/// Its port, of which the numbers of nodes are none.
pub(crate) const PORT: u16 = 6000;
/// How often it does something.
const PAUSE_MS: u64 = 100;
/// So long nobody here has been able to write when it is promoted.
const QUIET: Span = Span::from_secs(2);

/// The other cluster.
pub(crate) struct Far {
    /// Chance, apart, so that nothing else in a world changes with it.
    pub(crate) rng: Rng,
    /// Its data; `None`: it has no primary.
    pub(crate) disk: Option<Disk>,
    /// Since when it could be promoted.
    quiet: Option<Time>,
}

/// What `standby_cluster` says then.
pub(crate) fn section() -> StandbyCluster {
    StandbyCluster {
        places: vec![("far".into(), PORT)],
        slot: None,
        copies_alone: false,
    }
}

/// Whether this leads there.
pub(crate) fn is_far(upstream: Option<&Upstream>) -> bool {
    upstream.is_some_and(|upstream| upstream.port == PORT)
}

impl World {
    /// There is one, and half of these worlds begin as its copy.
    pub(crate) fn add_far(&mut self, mut rng: Rng) {
        let first = rng.chance(500);
        let mut far = Far {
            rng,
            disk: None,
            quiet: None,
        };
        if first {
            let standing = std::mem::replace(&mut self.nodes[0].pg.disk, Disk::empty());
            self.initdb(0);
            let mut disk = std::mem::replace(&mut self.nodes[0].pg.disk, standing);
            disk.control.state = pgherd_model::ControlState::InProduction;
            disk.shutdown_end = None;
            far.disk = Some(disk);
            self.oracle.highest = 1;
            self.swarm.settings.standby_cluster = Some(section());
            for node in &mut self.nodes {
                node.settings = self.swarm.settings.clone();
            }
            self.configs = vec![self.swarm.settings.clone()];
        }
        self.far = Some(far);
        self.after(PAUSE_MS, Event::Far);
    }

    /// Somebody makes this cluster a copy of the other one, or one of its own.
    pub(crate) fn change_places(&mut self) {
        let copy = self.present().standby_cluster.is_some();
        let picture = self.etcd.picture();
        let leader = picture.leader_name().and_then(|name| self.node_of(name));
        let follows = leader.is_some_and(|leader| self.follows_far(leader));
        let Some(far) = &mut self.far else { return };
        if copy && far.disk.is_some() && !follows {
            // Whoever does that looks first.
            return;
        }
        far.quiet = None;
        if copy {
            far.disk = None;
        }
        self.change(|settings| settings.standby_cluster = (!copy).then(section));
    }

    /// Whether it is time for that again.
    pub(crate) fn changes_places(&mut self) -> bool {
        self.far.as_mut().is_some_and(|far| far.rng.chance(150))
    }

    pub(crate) fn on_far(&mut self) {
        self.after(PAUSE_MS, Event::Far);
        if self.present().standby_cluster.is_none() {
            return;
        }
        self.promote_far();
        self.write_far();
        for node in 0..NODES {
            self.follow_far(node);
        }
    }

    /// With what whoever leads here has, and what others have beyond that.
    fn promote_far(&mut self) {
        let now = self.now;
        let config = self
            .etcd
            .picture()
            .config
            .as_ref()
            .map(|it| it.value.text.clone());
        let told = |node: &crate::world::Node| Some(&node.config) == config.as_ref();
        let quiet = self.nodes.iter().all(told)
            && !(0..NODES).any(|node| {
                let pg = &self.nodes[node].pg;
                pg.can_write(now) || pg.promoting || (!pg.is_down(now) && !pg.in_recovery)
            });
        let Some(far) = self.far.as_mut().filter(|far| far.disk.is_none()) else {
            return;
        };
        if !quiet {
            far.quiet = None;
            return;
        }
        if now.since(*far.quiet.get_or_insert(now)) < QUIET {
            return;
        }
        let picture = self.etcd.picture();
        let leader = picture.leader_name().and_then(|name| self.node_of(name));
        let Some(leader) = leader.map(|node| &self.nodes[node].pg.disk) else {
            return;
        };
        let goes_on = |disk: &&Disk| {
            let made = disk.data == DataDir::Initialized;
            made && disk.wal.common(&leader.wal) == leader.wal.end()
        };
        let disks = self.nodes.iter().map(|node| &node.pg.disk);
        let furthest = disks.filter(goes_on).max_by_key(|disk| disk.wal.end());
        let Some(mut disk) = furthest.cloned() else {
            return;
        };
        let (record, end) = (self.number(), disk.wal.end());
        let last = disk.wal.timeline();
        let timeline = self.oracle.highest.max(disk.files.newest(last)) + 1;
        disk.history.retain(|(past, _)| *past < last);
        disk.history.push((last, end));
        disk.files.fill(timeline);
        disk.files.add(timeline);
        disk.timeline = timeline;
        disk.wal.append(record, timeline, 60, What::EndOfRecovery);
        disk.slots.clear();
        self.oracle.highest = timeline;
        // What is lost with a leader of before is lost.
        let have: BTreeSet<u64> = disk.wal.rows().collect();
        self.oracle.rows.retain(|row, _| have.contains(row));
        self.say(|| format!("the other cluster is promoted to timeline {timeline}"));
        if let Some(far) = &mut self.far {
            far.disk = Some(disk);
        }
    }

    /// Rows of its own, and checkpoints.
    fn write_far(&mut self) {
        let record = self.number();
        let idle = self.chaos.idle;
        let Some(far) = &mut self.far else { return };
        let Some(disk) = far.disk.as_mut().filter(|_| !idle && far.rng.chance(500)) else {
            return;
        };
        let what = match far.rng.chance(50) {
            true => What::Checkpoint,
            false => What::Row(record),
        };
        let at = disk.wal.append(record, disk.timeline, 100, what);
        if what == What::Checkpoint {
            disk.checkpointed(at);
        }
    }

    /// A standby here streams from there, as far as PostgreSQL lets it: by timelines and positions.
    fn follow_far(&mut self, node: usize) {
        let pg = &self.nodes[node].pg;
        let wants = pg.phase == Phase::Running
            && pg.in_recovery
            && pg.accepts()
            && !pg.promoting
            && is_far(pg.disk.upstream.as_ref());
        let able = !pg.frozen && !pg.full && !pg.receiver_stopped && !self.chaos.dark[node];
        let before = pg.far;
        let far = self.far.as_ref().and_then(|far| far.disk.clone());
        let streams = match far.filter(|_| wants && able) {
            Some(far) => self.receive_far(node, &far),
            None => false,
        };
        self.nodes[node].pg.far = streams;
        if streams != before {
            self.say(|| format!("{node} streams from the other cluster: {streams}"));
            self.poke(node);
        }
    }

    fn receive_far(&mut self, node: usize, theirs: &Disk) -> bool {
        let own = &self.nodes[node].pg.disk;
        let timeline = own.wal.timeline().max(own.control.timeline.0);
        let (replayed, end) = (own.replayed, own.wal.end());
        if theirs.timeline < timeline || theirs.wal.end() < replayed {
            return false;
        }
        let mut files = own.files.clone();
        if !files.fetch(&theirs.files, timeline, theirs.timeline) {
            return false;
        }
        let common = own.wal.common(&theirs.wal);
        let mut keep = end;
        if theirs.timeline > timeline {
            match theirs.end_of(timeline) {
                Some(switch) if replayed <= switch => keep = keep.min(switch),
                _ => return false,
            }
        }
        if common < replayed {
            self.fail(format!(
                "diverged copy: {node} replayed up to {replayed:X}, streams from the other cluster, the same only up to {common:X}"
            ));
            return false;
        }
        let pg = &mut self.nodes[node].pg;
        pg.disk.wal.cut(keep.min(common.max(replayed)));
        pg.disk.files = files;
        pg.disk.history.clone_from(&theirs.history);
        pg.disk.timeline = theirs.timeline;
        pg.received = true;
        let news = theirs.wal.since(pg.disk.wal.end()).to_vec();
        for record in news.iter().filter(|it| it.what == What::Checkpoint) {
            pg.disk.control.timeline = Timeline(record.timeline);
            pg.disk.control.checkpoint = Lsn(record.start);
            pg.disk.control.min_recovery_end = Lsn(record.end);
            pg.disk.control.min_recovery_timeline = Timeline(record.timeline);
        }
        let moved = !news.is_empty();
        pg.disk.wal.records.extend(news);
        pg.replay(&theirs.required);
        if moved {
            self.flow(node);
        }
        true
    }

    /// Whoever leads a copy is to stream from there, as soon as there is anybody.
    pub(crate) fn follows_far(&self, node: usize) -> bool {
        let there = self.far.as_ref().is_some_and(|far| far.disk.is_some());
        let pg = &self.nodes[node].pg;
        pg.in_recovery && is_far(pg.disk.upstream.as_ref()) && there && pg.far
    }
}
