//! Replication between the fakes: who may attach to whom, and what arrives when.

use pgherd_model::{Lsn, Span, Timeline};

use crate::event::{Event, NODES};
use crate::perform::Effect;
use crate::postgres::{Attached, Pg, Stream};
use crate::wal::What;
use crate::world::{Node, World};

/// PostgreSQL's wal_retrieve_retry_interval.
const RETRY_MS: u64 = 5000;
/// wal_receiver_timeout and wal_sender_timeout.
const HUNG: Span = Span::from_secs(20);

impl World {
    /// The node behind an upstream.
    fn upstream_node(&self, node: usize) -> Option<usize> {
        let upstream = self.nodes[node].pg.disk.upstream.as_ref()?;
        let number = usize::from(upstream.port).checked_sub(5000)?;
        (number < NODES && number != node).then_some(number)
    }

    /// A standby tries to stream, and again later if it cannot.
    pub(crate) fn on_connect(&mut self, node: usize) {
        let pg = &self.nodes[node].pg;
        if !pg.in_recovery || pg.postmaster.is_none() || pg.stream.is_some() || pg.promoting {
            return;
        }
        let epoch = pg.epoch;
        let Some(from) = self.upstream_node(node) else {
            return;
        };
        let ready = self.nodes[node].pg.accepts() && self.nodes[from].pg.accepts();
        if !ready || !self.connected(node, from) || !self.attach(node, from) {
            self.after(RETRY_MS, Event::Connect { node, epoch });
        }
    }

    /// As PostgreSQL decides it: by timelines and positions, never by contents.
    fn attach(&mut self, node: usize, from: usize) -> bool {
        let theirs = &self.nodes[from].pg;
        let own = &self.nodes[node].pg;
        let timeline = own.disk.wal.timeline().max(own.disk.control.timeline.0);
        if theirs.disk.timeline < timeline || theirs.disk.wal.end() < own.disk.replayed {
            return false;
        }
        let mut files = own.disk.files.clone();
        if !files.fetch(&theirs.disk.files, timeline, theirs.disk.timeline) {
            self.say(|| format!("{node} cannot stream from {from}: a history file is missing"));
            return false;
        }
        let mut keep = own.disk.wal.end();
        let replayed = own.disk.replayed;
        let switch = theirs.disk.end_of(timeline);
        let newer = theirs.disk.timeline > timeline;
        let fetched = newer.then(|| (theirs.disk.timeline, theirs.disk.history.clone()));
        let common = own.disk.wal.common(&theirs.disk.wal);
        if newer {
            // The histories come first: they are there, and count at the next start, also where
            // they show that this standby has gone past the fork.
            let disk = &mut self.nodes[node].pg.disk;
            disk.files.clone_from(&files);
            disk.installed = fetched;
            match switch {
                Some(switch) if replayed <= switch => keep = keep.min(switch),
                _ => return false,
            }
        }
        if common < replayed {
            self.fail(format!(
                "diverged copy: {node} replayed up to {:X}, streams from {from}, the same only up to {common:X}",
                self.nodes[node].pg.disk.replayed
            ));
            return false;
        }
        let theirs = &self.nodes[from].pg;
        let (epoch, history, tli) = (
            theirs.epoch,
            theirs.disk.history.clone(),
            theirs.disk.timeline,
        );
        let (conn, now) = (self.number(), self.now);
        let pg = &mut self.nodes[node].pg;
        pg.disk.wal.cut(keep.min(common.max(pg.disk.replayed)));
        pg.disk.files = files;
        pg.disk.history = history;
        pg.disk.timeline = tli;
        pg.received = true;
        pg.stream = Some(Stream {
            from,
            epoch,
            conn,
            due: false,
            heard: now,
        });
        let flushed = pg.disk.wal.end();
        self.nodes[from].pg.attached.insert(
            node,
            Attached {
                conn,
                flushed,
                told: false,
            },
        );
        self.say(|| format!("{node} streams from {from}"));
        self.flow(from);
        true
    }

    /// There is new WAL here: it sets out to whoever is attached.
    pub(crate) fn flow(&mut self, from: usize) {
        for node in 0..NODES {
            let slow = self.swarm.replication_ms;
            let wait = self.rng.below(slow);
            let Some(stream) = &mut self.nodes[node].pg.stream else {
                continue;
            };
            if stream.from == from && !stream.due {
                stream.due = true;
                let conn = stream.conn;
                self.after(wait, Event::Receive { node, conn });
            }
        }
    }

    pub(crate) fn on_receive(&mut self, node: usize, conn: u64) {
        let now = self.now;
        let stream = self.nodes[node].pg.stream.as_mut();
        let Some(stream) = stream.filter(|it| it.conn == conn) else {
            return;
        };
        stream.due = false;
        let (from, epoch) = (stream.from, stream.epoch);
        let valid = self.nodes[from].pg.epoch == epoch
            && self.nodes[from]
                .pg
                .attached
                .get(&node)
                .is_some_and(|it| it.conn == conn);
        if !self.linked(from, node) || !valid {
            return;
        }
        let Some((pg, theirs)) = two(&mut self.nodes, node, from) else {
            return;
        };
        let timeline = theirs.disk.timeline;
        let lacks = !pg.disk.files.lead_to(pg.disk.timeline, timeline);
        let mut fetched = lacks.then(|| pg.disk.files.clone());
        if let Some(files) = &mut fetched
            && !files.fetch(&theirs.disk.files, pg.disk.timeline, timeline)
        {
            self.on_broken(node, conn);
            return;
        }
        let news = theirs.disk.wal.since(pg.disk.wal.end());
        if pg.full && !news.is_empty() {
            // A walreceiver that cannot write takes all of PostgreSQL with it.
            self.kill_postgres(node);
            return;
        }
        if let Some(files) = fetched {
            pg.disk.files = files;
        }
        for record in news {
            if record.what == What::Checkpoint {
                pg.disk.control.timeline = Timeline(record.timeline);
                pg.disk.control.checkpoint = Lsn(record.start);
                pg.disk.control.min_recovery_end = Lsn(record.end);
                pg.disk.control.min_recovery_timeline = Timeline(record.timeline);
            }
        }
        pg.disk.wal.records.extend_from_slice(news);
        pg.disk.history.clone_from(&theirs.disk.history);
        pg.disk.timeline = timeline;
        pg.replay(&theirs.disk.required);
        let both_ways = self.connected(node, from);
        let pg = &mut self.nodes[node].pg;
        if let Some(stream) = pg.stream.as_mut().filter(|_| both_ways) {
            stream.heard = now;
        }
        let lsn = pg.disk.wal.end();
        let wait = self.delay();
        self.after(wait, Event::Flushed { node, conn, lsn });
        self.flow(node);
    }

    pub(crate) fn on_flushed(&mut self, node: usize, conn: u64, lsn: u64) {
        let Some(from) = self.nodes[node]
            .pg
            .stream
            .as_ref()
            .map(|stream| stream.from)
        else {
            return;
        };
        if !self.linked(node, from) {
            return;
        }
        let end = self.nodes[from].pg.disk.wal.end();
        let pg = &mut self.nodes[from].pg;
        let Some(attached) = pg.attached.get_mut(&node).filter(|it| it.conn == conn) else {
            return;
        };
        attached.flushed = attached.flushed.max(lsn);
        if let Some(restart) = pg.disk.slots.get_mut(&self.names[node]) {
            *restart = Some(Lsn(lsn));
        }
        if lsn < end {
            self.flow(from);
        }
        self.confirm(from);
    }

    /// The standby sees its stream end; it tries again at once, then rarely.
    pub(crate) fn on_broken(&mut self, node: usize, conn: u64) {
        let pg = &mut self.nodes[node].pg;
        if pg.stream.as_ref().is_none_or(|stream| stream.conn != conn) {
            return;
        }
        self.drop_stream(node);
        let epoch = self.nodes[node].pg.epoch;
        self.after(10, Event::Connect { node, epoch });
        self.say(|| format!("{node} stream is broken"));
        self.poke(node);
    }

    /// The walreceiver ends.
    pub(crate) fn drop_stream(&mut self, node: usize) {
        let Some(stream) = self.nodes[node].pg.stream.take() else {
            return;
        };
        let from = &mut self.nodes[stream.from].pg;
        let known = from
            .attached
            .get(&node)
            .is_some_and(|it| it.conn == stream.conn);
        if known && self.links[node][stream.from] {
            self.nodes[stream.from].pg.attached.remove(&node);
        }
    }

    /// A WAL sender whose socket is full does not notice a stop until wal_sender_timeout.
    pub(crate) fn waits_for_senders(&self, node: usize) -> bool {
        let pg = &self.nodes[node].pg;
        let end = pg.disk.wal.end();
        let stuck = |(standby, it): (&usize, &Attached)| {
            it.fills_its_socket() && it.flushed < end && !self.connected(node, *standby)
        };
        self.now.since(pg.stop_began) < HUNG && pg.attached.iter().any(stuck)
    }

    /// SIGTERM. The first one's farewell gets stuck where nothing gets through, the second ends the sender.
    pub(crate) fn end_senders(&mut self, node: usize, pids: &[u32]) -> Effect {
        let attached: Vec<(usize, Attached)> = self.nodes[node]
            .pg
            .attached
            .iter()
            .map(|(standby, it)| (*standby, *it))
            .collect();
        for (standby, it) in attached {
            if !pids.contains(&it.pid()) {
                continue;
            }
            let linked = self.connected(node, standby);
            if linked || it.told {
                self.nodes[node].pg.attached.remove(&standby);
            } else if let Some(it) = self.nodes[node].pg.attached.get_mut(&standby) {
                it.told = true;
            }
            if linked {
                let conn = it.conn;
                self.after(
                    1,
                    Event::Broken {
                        node: standby,
                        conn,
                    },
                );
            }
        }
        Effect::Quiet
    }

    /// Connections that hang, or whose other end has forgotten them.
    pub(crate) fn check_streams(&mut self) {
        for node in 0..NODES {
            if let Some(stream) = self.nodes[node].pg.stream.clone() {
                let theirs = &self.nodes[stream.from].pg;
                let valid = theirs.epoch == stream.epoch
                    && theirs
                        .attached
                        .get(&node)
                        .is_some_and(|it| it.conn == stream.conn);
                let linked = self.connected(node, stream.from);
                let hung = !linked && self.now.since(stream.heard) > HUNG;
                if (linked && !valid) || hung {
                    self.on_broken(node, stream.conn);
                } else if linked {
                    let now = self.now;
                    if let Some(stream) = &mut self.nodes[node].pg.stream {
                        stream.heard = now;
                    }
                    self.flow(stream.from);
                }
            }
            let attached: Vec<(usize, u64)> = self.nodes[node]
                .pg
                .attached
                .iter()
                .map(|(it, at)| (*it, at.conn))
                .collect();
            for (standby, conn) in attached {
                let same = self.nodes[standby]
                    .pg
                    .stream
                    .as_ref()
                    .is_some_and(|it| it.conn == conn);
                if !same && self.connected(node, standby) {
                    self.nodes[node].pg.attached.remove(&standby);
                }
            }
        }
    }
}

/// PostgreSQL of this node, and that of another one.
fn two(nodes: &mut [Node], node: usize, other: usize) -> Option<(&mut Pg, &Pg)> {
    let [node, other] = nodes.get_disjoint_mut([node, other]).ok()?;
    Some((&mut node.pg, &other.pg))
}
