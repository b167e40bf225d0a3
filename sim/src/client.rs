//! Clients that write all the time to whatever accepts writes, and remember what was acknowledged.

use crate::event::{Event, NODES};
use crate::postgres::{Child, Work};
use crate::wal::What;
use crate::world::World;

/// One client with at most one session.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    number: usize,
    session: Option<(usize, u32, u64)>,
    next: usize,
    /// It waits for the answer to its last statement.
    pub(crate) waiting: Option<(u64, u64)>,
    /// It had an answer to some statement.
    pub(crate) answered: bool,
}

impl Client {
    pub(crate) fn new(number: usize) -> Client {
        Client {
            number,
            session: None,
            next: number,
            waiting: None,
            answered: false,
        }
    }
}

impl Client {
    /// Its session is in this life of this node's PostgreSQL.
    pub(crate) fn is_at(&self, node: usize, epoch: u64) -> bool {
        let at = self.session.map(|(node, _, epoch)| (node, epoch));
        at == Some((node, epoch))
    }
}

impl World {
    pub(crate) fn on_client(&mut self, event: Event) {
        match event {
            Event::Client { client } => self.client_turn(client),
            Event::Commit {
                client,
                node,
                pid,
                epoch,
                length,
            } => {
                self.commit(client, node, pid, epoch, length);
            }
            Event::Acknowledge {
                client,
                node,
                pid,
                epoch,
                row,
                lsn,
            } => {
                self.acknowledge(client, node, pid, epoch, row, lsn);
            }
            _ => {}
        }
    }

    fn client_turn(&mut self, client: usize) {
        let now = self.now;
        if self.chaos.idle {
            self.after(500, Event::Client { client });
            return;
        }
        if let Some((node, pid, epoch)) = self.clients[client].session {
            if self.nodes[node].pg.lives(now, epoch, pid) {
                if self.clients[client].waiting.is_none() {
                    let length = self.rng.between(60, 4000);
                    // Now and then a statement that takes long before it commits.
                    let long = self.rng.chance(self.swarm.long);
                    let wait = if long { self.rng.between(200, 2000) } else { 0 };
                    self.clients[client].waiting = Some((0, 0));
                    self.after(
                        wait,
                        Event::Commit {
                            client,
                            node,
                            pid,
                            epoch,
                            length,
                        },
                    );
                } else {
                    self.after(50, Event::Client { client });
                }
                return;
            }
            self.clients[client].session = None;
            self.clients[client].waiting = None;
        }
        self.connect_client(client);
        let wait = self.rng.between(3, 30);
        self.after(wait, Event::Client { client });
    }

    fn connect_client(&mut self, client: usize) {
        let it = &mut self.clients[client];
        let node = it.next % NODES;
        it.next += 1;
        let number = u32::try_from(it.number).unwrap_or(0);
        let pid = u32::try_from(self.number() % 1_000_000).unwrap_or(0) * 4 + 3 + number;
        let pg = &mut self.nodes[node].pg;
        if pg.accepts() && !pg.in_recovery {
            pg.children.insert(pid, Child::new(Work::Session(client)));
            self.clients[client].session = Some((node, pid, pg.epoch));
        }
    }

    /// Somebody opens a session here and commits one row: the client and the row, where that goes.
    pub(crate) fn write_once(&mut self, node: usize) -> Option<(usize, u64)> {
        let client = self.clients.len();
        let number = self.number();
        let pg = &mut self.nodes[node].pg;
        if !pg.accepts() || pg.in_recovery {
            return None;
        }
        let pid = u32::try_from(number % 1_000_000).unwrap_or(0) * 4 + 3;
        pg.children.insert(pid, Child::new(Work::Session(client)));
        let epoch = pg.epoch;
        let mut it = Client::new(client);
        it.session = Some((node, pid, epoch));
        it.waiting = Some((0, 0));
        self.clients.push(it);
        self.commit(client, node, pid, epoch, 120);
        let (row, _) = self.clients[client].waiting?;
        Some((client, row))
    }

    /// What waits for a standby here is cancelled: it is committed, and its client is told so.
    pub(crate) fn cancel_waits(&mut self, node: usize) {
        let now = self.now;
        for client in 0..self.clients.len() {
            let it = &self.clients[client];
            let Some((at, pid, epoch)) = it.session.filter(|(at, ..)| *at == node) else {
                continue;
            };
            if it.waiting.is_some_and(|(row, _)| row != 0)
                && self.nodes[at].pg.lives(now, epoch, pid)
            {
                self.clients[client].waiting = None;
                self.clients[client].answered = true;
            }
        }
    }

    fn commit(&mut self, client: usize, node: usize, pid: u32, epoch: u64, length: u64) {
        if self.nodes[node].pg.frozen && self.nodes[node].pg.lives(self.now, epoch, pid) {
            let event = Event::Commit {
                client,
                node,
                pid,
                epoch,
                length,
            };
            self.after(50, event);
            return;
        }
        if self.nodes[node].pg.full && self.nodes[node].pg.lives(self.now, epoch, pid) {
            // "PANIC: could not write to file: No space left on device"
            self.kill_postgres(node);
        }
        let (now, row) = (self.now, self.number());
        let pause = self.swarm.client_ms;
        let next = self.rng.between(1, pause);
        let pg = &mut self.nodes[node].pg;
        if !pg.lives(now, epoch, pid) || pg.in_recovery {
            self.clients[client].waiting = None;
            self.after(next, Event::Client { client });
            return;
        }
        let timeline = pg.disk.timeline;
        let lsn = pg
            .disk
            .wal
            .append(row, timeline, length, What::Row(row))
            .end;
        self.flow(node);
        self.clients[client].waiting = Some((row, lsn));
        let micros = self.rng.chance(500);
        self.after(
            u64::from(micros),
            Event::Acknowledge {
                client,
                node,
                pid,
                epoch,
                row,
                lsn,
            },
        );
        self.after(next, Event::Client { client });
    }

    fn acknowledge(
        &mut self,
        client: usize,
        node: usize,
        pid: u32,
        epoch: u64,
        row: u64,
        lsn: u64,
    ) {
        let now = self.now;
        let pg = &self.nodes[node].pg;
        if self.clients[client].waiting != Some((row, lsn)) {
            return;
        }
        if !pg.lives(now, epoch, pid) {
            self.clients[client].waiting = None;
            return;
        }
        if pg.frozen {
            // Not flushed yet.
            let event = Event::Acknowledge {
                client,
                node,
                pid,
                epoch,
                row,
                lsn,
            };
            self.after(50, event);
            return;
        }
        if !pg.confirmed(lsn, &self.names) {
            // It waits for standbys; their word brings it back here.
            return;
        }
        self.clients[client].waiting = None;
        self.clients[client].answered = true;
        self.acknowledged(node, row, lsn);
    }

    /// A standby has said how far it is: whoever waited for that gets his answer.
    pub(crate) fn confirm(&mut self, node: usize) {
        for client in 0..self.clients.len() {
            let it = &self.clients[client];
            if let (Some((at, pid, epoch)), Some((row, lsn))) = (it.session, it.waiting)
                && at == node
                && row != 0
                && self.nodes[node].pg.confirmed(lsn, &self.names)
            {
                self.after(
                    0,
                    Event::Acknowledge {
                        client,
                        node,
                        pid,
                        epoch,
                        row,
                        lsn,
                    },
                );
            }
        }
    }
}
