//! What a seed draws for its whole world: settings, and which faults are how likely.

use pgherd_model::{CrashHandover, GuardMode, Settings, Span, SynchronousMode};

use crate::faults::{
    CUT_OFF, ETCD_DOWN, ISOLATE, KILL_AGENT, KILL_POSTMASTER, KINDS, LATER, STOP_AGENT,
};
use crate::postgres::logical;
use crate::rng::Rng;

/// One draw.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) settings: Settings,
    pub(crate) clients: usize,
    /// Longest pause of a client.
    pub(crate) client_ms: u64,
    /// Per mille of statements that take long before they commit.
    pub(crate) long: u64,
    /// How long replication takes at most.
    pub(crate) replication_ms: u64,
    /// How long a session may outlive its postmaster.
    pub(crate) outlive_ms: u64,
    /// Per mille of stops and starts that take seconds.
    pub(crate) slow: u64,
    pub(crate) rewindable: bool,
    pub(crate) nofailover: Option<usize>,
    pub(crate) priorities: [i64; 3],
    /// Before the first fault.
    pub(crate) quiet_ms: u64,
    /// Between two faults.
    pub(crate) pause_ms: u64,
    /// How many faults.
    pub(crate) faults: u64,
    /// And for how long at least, with at least three kinds of them.
    pub(crate) lasts: Span,
    /// Weights of the faults, in the order of `faults::KINDS`.
    pub(crate) weights: [u64; KINDS],
    /// On one node no guard can be armed any more from some moment on.
    pub(crate) breaks_guard: bool,
    /// Now and then something fails or is late by itself.
    pub(crate) mishaps: bool,
    /// Per mille of changed configurations that switch the failsafe mode.
    pub(crate) toggles: u64,
    /// Per mille of faults that are of a kind which only rough worlds know.
    pub(crate) rough: u64,
    /// Per mille of promotions that `pre_promote` forbids.
    pub(crate) forbids: u64,
}

impl Swarm {
    pub(crate) fn draw(rng: &mut Rng, operator: &mut Rng) -> Swarm {
        let mut weights = [0; KINDS];
        for (kind, weight) in weights.iter_mut().enumerate() {
            *weight = if kind < LATER {
                weigh(rng, 600)
            } else {
                weigh(operator, 300)
            };
        }
        let odd = rng.chance(250);
        let mut settings = settings(rng);
        if operator.chance(120) {
            // Without a guard nothing is promised for an agent that dies or stops.
            settings.guard = GuardMode::Off;
            weights[KILL_AGENT] = 0;
            weights[STOP_AGENT] = 0;
            weights[CUT_OFF] = weights[CUT_OFF].max(1);
        }
        let required = settings.guard == GuardMode::Required;
        let mut swarm = Swarm {
            breaks_guard: required && operator.chance(400),
            mishaps: true,
            toggles: 0,
            rough: 0,
            forbids: 0,
            settings,
            clients: usize::try_from(rng.between(1, 3)).unwrap_or(1),
            client_ms: rng.pick(&[20, 60, 200]),
            long: 30,
            replication_ms: rng.pick(&[2, 5, 20, 150]),
            outlive_ms: rng.pick(&[100, 1000, 4000]),
            slow: rng.pick(&[0, 20, 200]),
            rewindable: rng.chance(800),
            nofailover: odd.then(|| usize::try_from(rng.below(3)).unwrap_or(0)),
            priorities: if rng.chance(200) {
                [1, 2, 3]
            } else {
                [1, 1, 1]
            },
            quiet_ms: rng.between(8_000, 25_000),
            pause_ms: rng.pick(&[1500, 5000, 15_000, 40_000]),
            faults: rng.between(1, 14),
            lasts: Span::ZERO,
            weights,
        };
        // By what is drawn already, so that no other story becomes another.
        if swarm.quiet_ms.is_multiple_of(5) {
            swarm.settings.logical_slots.push(logical("feed"));
        }
        swarm
    }
}

impl Swarm {
    /// No faults but those that somebody orders, and the settings that somebody wants.
    pub(crate) fn calm(settings: Settings) -> Swarm {
        Swarm {
            settings,
            clients: 0,
            client_ms: 20,
            long: 0,
            replication_ms: 5,
            outlive_ms: 1000,
            slow: 0,
            rewindable: true,
            nofailover: None,
            priorities: [1, 1, 1],
            // Odd: nobody deletes keys in the end.
            quiet_ms: 1,
            pause_ms: 0,
            faults: 0,
            lasts: Span::ZERO,
            weights: [0; KINDS],
            breaks_guard: false,
            mishaps: false,
            toggles: 0,
            rough: 0,
            forbids: 0,
        }
    }

    /// The failsafe mode is on, and etcd is away more often.
    pub(crate) fn fail_safely(&mut self, rng: &mut Rng) {
        self.settings.failsafe_mode = rng.chance(900);
        self.toggles = rng.pick(&[0, 0, 300]);
        self.weights[ETCD_DOWN] += rng.between(2, 12);
        // Somebody who is kept in office, and is lost then for those who keep him there.
        self.weights[CUT_OFF] += rng.between(5, 30);
        self.weights[ISOLATE] += rng.between(2, 15);
        if self.settings.guard != GuardMode::Off {
            self.weights[KILL_AGENT] += rng.between(2, 15);
        }
    }

    /// Faults for half an hour, and clients at whose pace half an hour is soon told.
    pub(crate) fn lengthen(&mut self, rng: &mut Rng) {
        self.faults = 20;
        self.lasts = Span::from_secs(30 * 60);
        self.pause_ms = rng.pick(&[40_000, 90_000, 150_000]);
        self.client_ms = rng.pick(&[200, 1000, 3000]);
        for kind in [KILL_POSTMASTER, ISOLATE, ETCD_DOWN, CUT_OFF] {
            self.weights[kind] = self.weights[kind].max(1);
        }
    }

    /// Many more faults, and closer together.
    pub(crate) fn roughen(&mut self, rng: &mut Rng) {
        self.rough = rng.pick(&[0, 100, 300]);
        self.faults = rng.between(20, 80);
        self.pause_ms = rng.pick(&[800, 3000, 10_000, 25_000]);
        if self.settings.synchronous_mode == SynchronousMode::On && rng.chance(600) {
            self.settings.synchronous_mode = SynchronousMode::Quorum;
        }
    }
}

fn weigh(rng: &mut Rng, chance: u64) -> u64 {
    if rng.chance(chance) {
        rng.between(1, 10)
    } else {
        0
    }
}

fn settings(rng: &mut Rng) -> Settings {
    let life = rng.pick(&[2, 5, 5, 20]);
    Settings {
        lease_ttl: Span::from_secs(life),
        loop_wait: Span::from_secs(rng.pick(&[2, 10])),
        hang_timeout: Span::from_secs(rng.pick(&[3, 10, 30])),
        maximum_lag_on_failover: rng.pick(&[1_048_576, 1_048_576, 10_000]),
        check_timeline: rng.chance(200),
        primary_start_timeout: Span::from_secs(rng.pick(&[0, 5, 300])),
        synchronous_mode: if rng.chance(400) {
            SynchronousMode::On
        } else {
            SynchronousMode::Off
        },
        synchronous_mode_strict: rng.chance(200),
        synchronous_node_count: usize::try_from(rng.between(1, 2)).unwrap_or(1),
        member_slots_ttl: Span::from_secs(rng.pick(&[0, 20, 1800])),
        use_pg_rewind: rng.chance(700),
        remove_data_directory_on_rewind_failure: true,
        remove_data_directory_on_diverged_timelines: true,
        crash_handover: if rng.chance(300) {
            CrashHandover::Sync
        } else {
            CrashHandover::Off
        },
        guard: if rng.chance(300) {
            GuardMode::Required
        } else {
            GuardMode::Automatic
        },
        ..Settings::default()
    }
}
