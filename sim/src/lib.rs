//! The simulator: three nodes that run the brain that ships, with fakes of etcd, PostgreSQL and
//! time, through faults that one seed decides.
//!
//! One thread, no clock but its own, one generator: a seed and a commit repeat a story exactly.

mod acts;
mod agent;
mod bugs;
mod calendar;
mod client;
mod coverage;
mod digest;
mod election;
mod etcd;
mod event;
mod failsafe;
pub mod fakes;
mod far;
mod faults;
mod guard;
mod history;
mod image;
mod invariants;
mod jobs;
mod parameters;
mod perform;
mod postgres;
mod queue;
pub mod replay;
mod rng;
pub mod scenario;
mod seed;
mod server;
mod store;
mod stream;
mod swarm;
mod trace;
mod view;
mod wal;
mod world;

use std::collections::BTreeMap;

pub use bugs::Bug;
pub use coverage::{Pairs, Wanted};
pub use digest::digest;
pub use faults_of::RULES;
pub use rng::Rng;
pub use seed::{Kind, Seed};

mod faults_of {
    //! Names that a run must have seen.

    /// The ladder's rules, first to last.
    pub const RULES: [&str; 20] = [
        "paused",
        "fence",
        "given_up",
        "detached",
        "shutdown",
        "reinitialize",
        "starting",
        "bootstrap",
        "identity",
        "failsafe",
        "hang",
        "unguarded",
        "standby_cluster",
        "switchover",
        "restart_order",
        "restart",
        "lock_held",
        "lock_free",
        "rewind",
        "follow",
    ];
}

/// Variants of `ha::Action`.
pub const ACTIONS: [&str; 19] = [
    "Store",
    "AskPeers",
    "AskHistory",
    "StartJob",
    "SetUpstream",
    "StopReceiving",
    "EndSenders",
    "ArmGuard",
    "TryGuard",
    "DisarmGuard",
    "ReserveTimelines",
    "CreateSlot",
    "DropSlot",
    "AdvanceSlot",
    "CreateLogicalSlot",
    "AdvanceLogicalSlot",
    "SetSynchronousStandbys",
    "Checkpoint",
    "Exit",
];

/// What people schedule, what becomes of it, what etcd's elections do, and what becomes of a guard that hangs.
pub const DEEDS: [&str; 11] = [
    "switchover scheduled",
    "schedule withdrawn",
    "schedule carried out",
    "schedule dropped",
    "clock set",
    "election of etcd",
    "lease prolonged by an election",
    "election outlived",
    "hanging guard replaced",
    "kept in office",
    "places changed",
];

/// How often something was seen, by name.
pub type Counts = BTreeMap<&'static str, u64>;

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The invariant that was broken, and when in simulated time.
    pub failure: Option<String>,
    /// Events that happened.
    pub events: u64,
    /// Simulated seconds.
    pub seconds: u64,
    /// Those of them in which clients rested and nothing went wrong, in the end.
    pub idle: u64,
    /// Decisions.
    pub decisions: u64,
    /// Rules that answered.
    pub rules: Counts,
    /// Actions by variant.
    pub kinds: Counts,
    /// Actions by the name that logs show.
    pub actions: Counts,
    /// What went wrong, and what became of that.
    pub faults: Counts,
    /// How often something went wrong.
    pub hits: u64,
    /// Rules that answered upon faults.
    pub pairs: Pairs,
    /// Every line, if asked for.
    pub trace: Vec<String>,
}

/// Runs one seed to its end; `trace`: keep every line.
pub fn run(seed: impl Into<Seed>, trace: bool) -> Report {
    run_with(seed, None, trace)
}

/// The same in a world where something is done wrong.
pub fn run_with(seed: impl Into<Seed>, bug: Option<Bug>, trace: bool) -> Report {
    let seed = seed.into();
    let trace = if trace {
        trace::Trace::kept()
    } else {
        trace::Trace::default()
    };
    let mut world = world::World::new(seed, trace);
    world.wrong = bugs::Wrong(bug);
    // No story is longer than some millions of events.
    let mut left = 20_000_000_u64;
    while world.step() {
        left -= 1;
        if left == 0 {
            world.fail("it never ends".into());
            break;
        }
    }
    let idle = world.idle_for().as_secs();
    Report {
        failure: world.failure,
        events: world.seen.events,
        seconds: world.now.as_millis() / 1000,
        idle,
        decisions: world.seen.rules.values().sum(),
        rules: world.seen.rules,
        kinds: world.seen.kinds,
        actions: world.seen.actions,
        faults: world.seen.faults,
        hits: world.seen.hits,
        pairs: world.seen.pairs.into_iter().map(|it| (it, 1)).collect(),
        trace: world.trace.into_lines(),
    }
}

impl Report {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Report) {
        self.events += other.events;
        self.seconds += other.seconds;
        self.idle += other.idle;
        self.decisions += other.decisions;
        self.hits += other.hits;
        for (mine, theirs) in [
            (&mut self.rules, &other.rules),
            (&mut self.kinds, &other.kinds),
            (&mut self.actions, &other.actions),
            (&mut self.faults, &other.faults),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
        for (pair, seeds) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += seeds;
        }
    }

    /// Rules, actions and deeds that never occurred.
    pub fn never(&self) -> Vec<&'static str> {
        let rules = RULES
            .into_iter()
            .filter(|name| !self.rules.contains_key(name));
        rules
            .chain(
                ACTIONS
                    .into_iter()
                    .filter(|name| !self.kinds.contains_key(name)),
            )
            .chain(
                DEEDS
                    .into_iter()
                    .filter(|name| !self.faults.contains_key(name)),
            )
            .collect()
    }
}
