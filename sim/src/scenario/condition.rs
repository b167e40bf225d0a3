//! Whether what a scenario expects is so in the simulated world, and what there is to see in it.

use pgherd_model::{Lsn, PostgresState};
use pgherd_scenario::words::{Condition, State};

use crate::event::NODES;
use crate::postgres::Phase;
use crate::world::World;

/// Whoever holds the lock and accepts writes.
pub(super) fn primary(world: &World) -> Option<usize> {
    let picture = world.etcd.picture();
    let node = world.node_of(picture.leader_name()?)?;
    let pg = &world.nodes[node].pg;
    (pg.accepts() && !pg.in_recovery).then_some(node)
}

/// Members that stream from the primary.
pub(super) fn replicas(world: &World) -> Vec<usize> {
    (0..NODES)
        .filter(|node| is(world, *node, State::Replica))
        .collect()
}

fn writable(world: &World) -> Vec<usize> {
    (0..NODES)
        .filter(|node| world.nodes[*node].pg.can_write(world.now))
        .collect()
}

fn is(world: &World, node: usize, state: State) -> bool {
    let pg = &world.nodes[node].pg;
    match state {
        State::Primary => primary(world) == Some(node),
        State::Replica => {
            let from = pg.stream.as_ref().map(|stream| stream.from);
            let streams = from.is_some_and(|from| world.connected(from, node));
            pg.accepts() && pg.in_recovery && streams && from == primary(world)
        }
        State::ReadOnly => pg.accepts() && pg.in_recovery,
        State::Down => pg.is_down(world.now),
    }
}

/// How many members say in etcd that they run.
fn published(world: &World) -> usize {
    let picture = world.etcd.picture();
    let members = world.nodes.iter();
    members
        .filter_map(|node| picture.member(&node.name))
        .filter(|member| member.state == Some(PostgresState::Running))
        .count()
}

/// It is so. `who`: whom it is about; `before`: rows that were acknowledged when the line was reached.
pub(super) fn holds(
    world: &World,
    condition: &Condition,
    who: Option<usize>,
    before: usize,
) -> bool {
    let acknowledged = world.oracle.ledger.as_ref();
    let acknowledged = acknowledged.map_or(0, |ledger| ledger.rows.len());
    match condition {
        Condition::Primary { .. } => {
            let node = primary(world).filter(|node| Some(*node) != who);
            node.is_some_and(|node| writable(world) == [node])
        }
        Condition::NoPrimary => writable(world).is_empty(),
        Condition::Is {
            be: false,
            state: State::Primary,
            ..
        } => who.is_some_and(|node| !writable(world).contains(&node)),
        Condition::Is { be, state, .. } => who.is_some_and(|node| is(world, node, *state) == *be),
        Condition::Whole => {
            world.pending().is_none()
                && replicas(world).len() == NODES - 1
                && published(world) == NODES
        }
        Condition::Writes => acknowledged > before,
        Condition::NoWrites => acknowledged == before,
        Condition::NoGap(longest) => world
            .oracle
            .ledger
            .as_ref()
            .is_none_or(|ledger| ledger.longest.max(world.now.since(ledger.last)) <= *longest),
        Condition::Timeline(timeline) => {
            let node = primary(world);
            node.is_some_and(|node| world.nodes[node].pg.disk.timeline == *timeline)
        }
        Condition::PendingRestart { pending, .. } => {
            let name = who.map(|node| &world.nodes[node].name);
            let picture = world.etcd.picture();
            let member = name.and_then(|name| picture.member(name));
            member.is_some_and(|member| member.pending_restart == *pending)
        }
        Condition::NoRowLost => lost_rows(world) == Some(0),
    }
}

/// How many acknowledged rows the primary does not have; `None`: there is no primary.
pub(super) fn lost_rows(world: &World) -> Option<usize> {
    let node = primary(world)?;
    let mut rows = world.oracle.ledger.clone()?.rows;
    for row in world.nodes[node].pg.disk.wal.rows() {
        rows.remove(&row);
    }
    Some(rows.len())
}

/// One line per member.
pub(super) fn seen(world: &World) -> Vec<String> {
    let picture = world.etcd.picture();
    let lines = world.nodes.iter().enumerate().map(|(number, node)| {
        let disk = &node.pg.disk;
        let lock = if picture.leader_name() == Some(&node.name) {
            ", holds the lock"
        } else {
            ""
        };
        let agent = match (node.agent.alive, node.agent.stopped) {
            (false, _) => ", agent dead",
            (true, true) => ", agent frozen",
            (true, false) => "",
        };
        let (name, role, timeline) = (&node.name, role(world, number), disk.timeline);
        let lsn = Lsn(disk.wal.end());
        format!("{name}: {role}, timeline {timeline}, LSN {lsn}{lock}{agent}")
    });
    lines.collect()
}

fn role(world: &World, node: usize) -> String {
    let pg = &world.nodes[node].pg;
    if world.chaos.dark[node] {
        return "without power".into();
    }
    if pg.stopped {
        return "postmaster frozen".into();
    }
    if pg.postmaster.is_none() {
        return match pg.is_down(world.now) {
            true => "down".into(),
            false => "postmaster dead, processes left".into(),
        };
    }
    let frozen = if pg.frozen { " on a frozen disk" } else { "" };
    let upstream = pg.stream.as_ref().map(|stream| stream.from);
    match (pg.phase, pg.in_recovery, upstream) {
        (Phase::Running, false, _) => format!("primary{frozen}"),
        (Phase::Running, true, Some(from)) => {
            format!("replica of {}{frozen}", world.nodes[from].name)
        }
        (Phase::Running, true, None) => format!("read-only, streams from nobody{frozen}"),
        (Phase::Starting, ..) => format!("starting{frozen}"),
        (Phase::Stopping, ..) => format!("stopping{frozen}"),
        (Phase::Down, ..) => "down".into(),
    }
}
