//! Steps of a scenario as faults and orders of the simulated world, and what it has no such thing for.

use pgherd_model::{CrashHandover, GuardMode, Settings, SynchronousMode};
use pgherd_scenario::words::{
    Frozen, Guard, Place, Scenario, Setting, Starter, Statement, Step, Victim,
};

use crate::acts::Act;
use crate::event::{ETCD, NODES};
use crate::faults::Fault;
use crate::world::World;

/// Parameters that take effect with a start of PostgreSQL only.
const NEED_RESTART: [&str; 6] = [
    "max_connections",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "shared_buffers",
];

/// The first thing in it that the simulator cannot do: the line, 0 for the cluster itself, and what.
pub(super) fn lack(scenario: &Scenario) -> Option<(usize, String)> {
    if scenario.nodes != NODES {
        let nodes = scenario.nodes;
        return Some((0, format!("run a cluster of {nodes} (only of {NODES})")));
    }
    scenario.lines.iter().find_map(|line| {
        let what = match &line.statement {
            Statement::Step(Step::Upgrade(_)) => "upgrade an agent".into(),
            Statement::Step(Step::SetParameter { name, .. })
                if !NEED_RESTART.contains(&name.as_str()) =>
            {
                format!(
                    "change `{name}` (only what needs a restart: {})",
                    NEED_RESTART.join(", ")
                )
            }
            Statement::Step(_) | Statement::Let { .. } | Statement::Expect(_) => return None,
        };
        Some((line.number, what))
    })
}

/// What the step does to the world, where it is one or more faults; `nodes`: whom [`Step::named`] names.
pub(super) fn faults(world: &World, step: &Step, nodes: &[usize]) -> Vec<Fault> {
    let node = nodes.first().copied().unwrap_or(0);
    let fault = match step {
        Step::Kill(victim, _) => kill(*victim, node),
        Step::StartAgain(Starter::Agent, _) => Fault::StartAgent(node),
        Step::StartAgain(Starter::Node, _) => Fault::Boot(node),
        Step::Freeze(what, _, frozen) => freeze(*what, node, *frozen),
        Step::FillDisk(_, full) => Fault::FillDisk(node, *full),
        Step::Switchover(to) => Fault::Operator(Act::Switchover(to.as_ref().map(|_| node))),
        Step::Failover(_) => Fault::Operator(Act::Failover(node)),
        Step::Restart(_) => Fault::Operator(Act::RestartNow(node)),
        Step::Reinitialize(_) => Fault::Operator(Act::Reinitialize(node, false)),
        Step::Pause(pause) => Fault::Operator(Act::Pause(*pause)),
        Step::KillEtcd(part) => Fault::KillEtcd(*part),
        Step::StartEtcd => Fault::StartEtcd,
        Step::Cut {
            from,
            to,
            both_ways,
        } => return cut(from, to, *both_ways, nodes),
        Step::HealNetwork => return heal_network(world),
        Step::Start
        | Step::Wait(_)
        | Step::Writers(_)
        | Step::Upgrade(_)
        | Step::Set(_)
        | Step::SetParameter { .. } => return Vec::new(),
    };
    vec![fault]
}

fn kill(victim: Victim, node: usize) -> Fault {
    match victim {
        Victim::Agent => Fault::KillAgent(node),
        Victim::Guard => Fault::KillGuard(node),
        Victim::Postmaster => Fault::KillPostmaster(node),
        Victim::Postgres => Fault::KillPostgres(node),
        Victim::Node => Fault::Crash(node),
    }
}

fn freeze(what: Frozen, node: usize, frozen: bool) -> Fault {
    match what {
        Frozen::Agent => Fault::StopAgent(node, frozen),
        Frozen::Guard => Fault::StopGuard(node, frozen),
        Frozen::Postmaster => Fault::StopPostmaster(node, frozen),
        Frozen::Walreceiver => Fault::StopReceiver(node, frozen),
        Frozen::Disk => Fault::FreezeDisk(node, frozen),
    }
}

fn cut(from: &Place, to: &Place, both_ways: bool, nodes: &[usize]) -> Vec<Fault> {
    let mut members = nodes.iter().copied();
    let mut ends = |place: &Place, other: &Place| match place {
        Place::Member(_) => members.next().into_iter().collect(),
        Place::Etcd => vec![ETCD],
        Place::Others | Place::Everybody => {
            // Whoever is at the other end; the parser wants a member at one of them.
            let there = match other {
                Place::Member(_) => nodes.first().copied(),
                Place::Etcd | Place::Others | Place::Everybody => None,
            };
            let last = if *place == Place::Everybody {
                ETCD
            } else {
                NODES - 1
            };
            (0..=last)
                .filter(|node| Some(*node) != there)
                .collect::<Vec<usize>>()
        }
    };
    let (from, to) = (ends(from, to), ends(to, from));
    let pairs = from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
    pairs
        .map(|(a, b)| match both_ways {
            true => Fault::Link(a, b, false),
            false => Fault::OneWay(a, b),
        })
        .collect()
}

/// But machines without power stay where they are.
fn heal_network(world: &World) -> Vec<Fault> {
    let dark = |node: usize| node < NODES && world.chaos.dark[node];
    let mut faults = Vec::new();
    for a in 0..NODES {
        for b in a + 1..=NODES {
            let whole = world.links[a][b] && world.links[b][a];
            if !whole && !dark(a) && !dark(b) {
                faults.push(Fault::Link(a, b, true));
            }
        }
    }
    faults
}

/// It goes on until another step ends it.
pub(super) fn lasts(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::KillAgent(_)
            | Fault::Crash(_)
            | Fault::StopAgent(_, true)
            | Fault::StopPostmaster(_, true)
            | Fault::StopGuard(_, true)
            | Fault::Link(_, _, false)
            | Fault::OneWay(..)
            | Fault::FreezeDisk(_, true)
            | Fault::FillDisk(_, true)
            | Fault::StopReceiver(_, true)
            | Fault::KillEtcd(_)
            | Fault::Operator(Act::Pause(true))
    )
}

/// As the agent derives them from the file of settings.
pub(super) fn settings(wanted: &[Setting]) -> Settings {
    let mut settings = Settings::default();
    for setting in wanted {
        apply(*setting, &mut settings);
    }
    let lease = wanted.iter().any(|it| matches!(it, Setting::Lease(_)));
    let hang = wanted.iter().any(|it| matches!(it, Setting::Hang(_)));
    if !lease {
        settings.lease_ttl = settings.ttl.saturating_sub(settings.loop_wait);
    }
    if !hang {
        settings.hang_timeout = settings.ttl;
    }
    settings
}

fn apply(setting: Setting, settings: &mut Settings) {
    match setting {
        Setting::Lease(span) => settings.lease_ttl = span,
        Setting::Ttl(span) => settings.ttl = span,
        Setting::Loop(span) => settings.loop_wait = span,
        Setting::Retry(span) => settings.retry_timeout = span,
        Setting::Hang(span) => settings.hang_timeout = span,
        Setting::StartTimeout(span) => settings.primary_start_timeout = span,
        Setting::LagLimit(bytes) => settings.maximum_lag_on_failover = bytes,
        Setting::Asynchronous => {
            settings.synchronous_mode = SynchronousMode::Off;
            settings.synchronous_mode_strict = false;
        }
        Setting::Synchronous => {
            settings.synchronous_mode = SynchronousMode::On;
            settings.synchronous_mode_strict = false;
        }
        Setting::Strict => {
            settings.synchronous_mode = SynchronousMode::On;
            settings.synchronous_mode_strict = true;
        }
        Setting::Guard(guard) => {
            settings.guard = match guard {
                Guard::Automatic => GuardMode::Automatic,
                Guard::Required => GuardMode::Required,
                Guard::Off => GuardMode::Off,
            };
        }
        Setting::HandOver => settings.crash_handover = CrashHandover::Sync,
        Setting::Rewind => settings.use_pg_rewind = true,
        Setting::CopyAnew => {
            settings.remove_data_directory_on_rewind_failure = true;
            settings.remove_data_directory_on_diverged_timelines = true;
        }
    }
}
