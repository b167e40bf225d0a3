//! What must hold in every world, one file each, and what the judge remembers for it.

mod acknowledged_rows;
mod bounded_jobs;
mod convergence;
mod diverged_copy;
mod failsafe;
mod hands_off;
mod healthiest;
mod hung;
mod idle_cluster;
mod lag;
mod lease_clock;
mod lock_outlived;
mod member_key;
mod needless_fence;
mod nofailover;
mod one_primary;
mod promotion;
mod release;
pub(crate) mod rest;
mod schedule;
mod sync_names;
mod timelines;

use std::collections::{BTreeMap, BTreeSet};

use pgherd_ha::Action;
use pgherd_model::{ControlState, Op, Span, Time};

use crate::event::{Event, NODES};
use crate::world::{Node, World};

/// An acknowledged row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    /// The row may not be lost by any failover.
    pub(crate) synchronous: bool,
}

/// All acknowledgements, whatever became of the rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) rows: BTreeSet<u64>,
    /// The last one, or the moment from which on pauses count.
    pub(crate) last: Time,
    /// The longest time between two of them since then.
    pub(crate) longest: Span,
}

impl Ledger {
    fn note(&mut self, now: Time, row: u64) {
        self.rows.insert(row);
        self.longest = self.longest.max(now.since(self.last));
        self.last = now;
    }
}

/// What the judge remembers.
#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) rows: BTreeMap<u64, Acknowledged>,
    /// Timeline and node of the newest primary that acknowledged something.
    pub(crate) newest: Option<(u32, usize)>,
    /// Highest timeline that a promotion has made.
    pub(crate) highest: u32,
    /// Timelines that promotions have made, with their ancestors and where these ended.
    pub(crate) made: Vec<(u32, Vec<(u32, u64)>)>,
    /// A leader that was shut down in order has released the lock then.
    pub(crate) handed_over: Option<(usize, Time)>,
    pub(crate) released: bool,
    pub(crate) jobs: u64,
    /// Schedules that were begun.
    pub(crate) begun: BTreeSet<String>,
    /// The cluster was paused, and this node's agent has not looked after it since.
    pub(crate) hands_off: [bool; NODES],
    /// A switchover, or the want of a guard, has stopped PostgreSQL of this node in order.
    pub(crate) stepped_down: [bool; NODES],
    pub(crate) idle: Option<idle_cluster::Before>,
    pub(crate) idle_since: Option<Time>,
    /// Since when the holder of the lock has been this node with a PostgreSQL that does nothing.
    pub(crate) hung: Option<(usize, Time)>,
    /// Whoever last took the lock had been named for a failover.
    pub(crate) named: Option<usize>,
    /// Until then this node may write by the word of the others, whatever becomes of its agent.
    pub(crate) kept_until: [Time; NODES],
    /// When this node's agent last could not reach etcd, or did not run.
    pub(crate) apart: [Time; NODES],
    pub(crate) growth: [healthiest::Growth; NODES],
    /// What scenarios ask for, where one is played.
    pub(crate) ledger: Option<Ledger>,
}

impl Oracle {
    /// A brain has ordered something.
    pub(crate) fn ordered(&mut self, _node: usize, action: &Action) {
        if matches!(action, Action::StartJob(_)) {
            self.jobs += 1;
        }
    }

    /// etcd has carried out a write.
    pub(crate) fn written(&mut self, node: usize, op: &Op, nodes: &[Node]) {
        if let Op::ReleaseLeader {
            status: Some(_), ..
        } = op
        {
            let clean = nodes[node].pg.disk.control.state == ControlState::ShutDown;
            self.released = clean;
            self.handed_over = None;
        }
    }
}

impl World {
    /// PostgreSQL of this node accepts writes from now on.
    pub(crate) fn writable(&mut self, node: usize, promoted: bool) {
        self.check_only_writer(node);
        self.check_timeline(node, promoted);
        if promoted {
            self.check_promotion(node);
            self.check_lag(node);
            self.check_nofailover(node);
            self.check_rows(node);
        }
    }

    /// Now and then: everything that is not tied to one event.
    pub(crate) fn on_look(&mut self) {
        self.check_streams();
        self.check_copies();
        self.check_jobs();
        self.check_lease_clocks();
        self.check_promises();
        self.check_hung();
        self.note_reach();
        self.note_growth();
        self.check_convergence();
        self.after(200, Event::Look);
    }
}
