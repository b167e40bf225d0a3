//! The fake PostgreSQL on three nodes, under the orders that a brain gives. The brains themselves
//! sleep, and nobody writes but who is told to.

use pgherd_ha::Action;
use pgherd_model::{
    ControlFile, DataDir, HistoryLine, Look, Lsn, MemberName, Postmaster, Settings, Span,
};

use crate::event::NODES;
use crate::faults::Fault;
use crate::perform::Effect;
use crate::trace::Trace;
use crate::wal::{Record, What};
use crate::world::World;

/// What an agent can see of one PostgreSQL, and the rows that a client finds there.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// State of the data directory.
    pub data: DataDir,
    /// pg_control.
    pub control: Option<ControlFile>,
    /// End of the shutdown checkpoint, where it was stopped cleanly.
    pub shutdown_end: Option<Lsn>,
    /// standby.signal is there.
    pub standby_signal: bool,
    /// backup_label is there.
    pub backup_label: bool,
    /// Its processes.
    pub postmaster: Postmaster,
    /// What it says of itself.
    pub look: Option<Look>,
    /// History of its timeline.
    pub history: Vec<HistoryLine>,
    /// Rows by number; `None`: it takes no connections.
    pub rows: Option<Vec<u64>>,
}

/// What came of a client's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is committed.
    Acknowledged,
    /// It waits for a synchronous standby.
    Waits,
    /// It cannot be written here.
    Refused,
}

/// The longest job, and the longest wait for what was ordered.
const LONGEST: Span = Span::from_secs(900);
/// Until then everything that goes on by itself has come to its end.
const SETTLED: Span = Span::from_secs(15);

/// Three nodes, each with a data directory that is empty at first.
pub struct FakePostgres {
    world: World,
    /// Rows with their numbers and their clients.
    rows: Vec<(u64, u64, usize)>,
    acknowledged: Vec<u64>,
}

impl FakePostgres {
    /// How many nodes there are.
    pub const NODES: usize = NODES;

    /// Nothing runs yet.
    pub fn new(seed: u64) -> FakePostgres {
        let mut world = World::calm(seed, Settings::default(), Trace::default());
        world.chaos.idle = true;
        for node in 0..NODES {
            world.start_agent(node);
            world.nodes[node].agent.busy = true;
            let written = &mut world.nodes[node].pg.written;
            written.insert("max_connections".into(), "40".into());
        }
        FakePostgres {
            world,
            rows: Vec::new(),
            acknowledged: Vec::new(),
        }
    }

    /// This node's name.
    pub fn name(&self, node: usize) -> MemberName {
        self.world.nodes[node].name.clone()
    }

    /// Where its PostgreSQL listens.
    pub fn address(&self, node: usize) -> (String, u16) {
        ("host".into(), 5000 + u16::try_from(node).unwrap_or(0))
    }

    /// Carries out an order, and waits for its end.
    ///
    /// # Errors
    /// Why it failed.
    pub fn perform(&mut self, node: usize, action: Action) -> Result<(), String> {
        let job = matches!(action, Action::StartJob(_));
        if let Effect::Failed = self.world.perform(node, action) {
            return Err("it failed".into());
        }
        self.until(LONGEST, |world| {
            let agent = &world.nodes[node].agent;
            let ended = agent.job.as_ref().is_none_or(|job| job.outcome.is_some());
            agent.pending.is_none() && (ended || !job)
        });
        let last = self.world.nodes[node].agent.job.as_ref();
        let outcome = last.filter(|_| job).map(|job| job.outcome.clone());
        match outcome {
            None | Some(Some(pgherd_ha::Outcome::Done)) => Ok(()),
            Some(Some(
                pgherd_ha::Outcome::Failed(reason) | pgherd_ha::Outcome::Refused(reason),
            )) => Err(reason),
            Some(None) => Err("it does not end".into()),
        }
    }

    /// A parameter that needs a restart, as the agent writes it into the file.
    pub fn set_parameter(&mut self, node: usize, name: &str, value: &str) {
        let written = &mut self.world.nodes[node].pg.written;
        written.insert(name.into(), value.into());
    }

    /// A client of its own commits one row with this number.
    pub fn write(&mut self, node: usize, number: u64) -> Written {
        let Some((client, row)) = self.world.write_once(node) else {
            return Written::Refused;
        };
        self.rows.push((row, number, client));
        self.settle();
        match self.acknowledged.contains(&number) {
            true => Written::Acknowledged,
            false if self.world.clients[client].waiting.is_some() => Written::Waits,
            false => Written::Refused,
        }
    }

    /// Somebody cancels the statements that wait for a synchronous standby: they are committed here.
    pub fn cancel(&mut self, node: usize) {
        self.world.cancel_waits(node);
        self.note();
    }

    /// The postmaster alone is killed.
    pub fn kill_postmaster(&mut self, node: usize) {
        self.world.on_fault(Fault::KillPostmaster(node));
    }

    /// The postmaster is stopped, or goes on.
    pub fn freeze(&mut self, node: usize, frozen: bool) {
        self.world.on_fault(Fault::StopPostmaster(node, frozen));
    }

    /// The walreceiver is stopped, or goes on.
    pub fn freeze_receiver(&mut self, node: usize, frozen: bool) {
        self.world.on_fault(Fault::StopReceiver(node, frozen));
    }

    /// Numbers of the rows whose clients have their answer.
    pub fn acknowledged(&self) -> &[u64] {
        &self.acknowledged
    }

    /// What its agent would see.
    pub fn facts(&mut self, node: usize) -> Facts {
        let local = self.world.local(node);
        let pg = &self.world.nodes[node].pg;
        // Who waits for a standby is committed in the WAL, but nobody here sees it yet.
        let hidden = |client: usize| {
            let client = &self.world.clients[client];
            client.waiting.is_some() && client.is_at(node, pg.epoch)
        };
        let number = |row: u64| {
            let known = self.rows.iter().find(|(it, ..)| *it == row);
            let known = known.filter(|(.., client)| !hidden(*client));
            known.map(|(_, number, _)| *number)
        };
        let rows = pg.accepts().then(|| {
            let replayed = pg.disk.replayed;
            let there = |it: &&Record| !pg.in_recovery || it.end <= replayed;
            let records = pg.disk.wal.records.iter().filter(there);
            let rows = records.filter_map(|it| match it.what {
                What::Row(row) => Some(row),
                What::Checkpoint | What::EndOfRecovery => None,
            });
            let mut rows: Vec<u64> = rows.filter_map(number).collect();
            rows.sort_unstable();
            rows
        });
        Facts {
            data: local.data,
            control: local.control,
            shutdown_end: local.shutdown_end,
            standby_signal: local.standby_signal,
            backup_label: local.backup_label,
            postmaster: local.postmaster,
            look: local.look,
            history: local.own_history,
            rows,
        }
    }

    /// Time passes until nothing more happens by itself.
    pub fn settle(&mut self) {
        self.until(SETTLED, |_| false);
    }

    /// Lets things happen until it is so, for at most so long.
    fn until(&mut self, limit: Span, mut done: impl FnMut(&World) -> bool) {
        let end = self.world.now + limit;
        while !done(&self.world) {
            if self.world.next_at().is_none_or(|at| at > end) {
                self.world.now = end;
                return;
            }
            self.world.step();
            // Whoever gives the orders here need not keep the brain's promises.
            self.world.failure = None;
            self.note();
        }
    }

    fn note(&mut self) {
        for (_, number, client) in &self.rows {
            let answered = self.world.clients[*client].answered;
            if answered && !self.acknowledged.contains(number) {
                self.acknowledged.push(*number);
            }
        }
    }
}
