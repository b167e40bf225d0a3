//! What is the case in a simulated world, in words.

use pgherd_model::{Cluster, MemberName};

use super::Facts;
use crate::event::{ETCD, NODES};
use crate::postgres::Phase;
use crate::world::World;

/// Everything that one asks of a moment.
pub(super) fn situation(world: &World) -> Facts {
    let mut facts = Facts::new();
    cluster(world, &mut facts);
    for node in 0..NODES {
        of_agent(world, node, &mut facts);
        of_postgres(world, node, &mut facts);
    }
    let named = |place: usize| match place {
        ETCD => "etcd",
        node => world.names[node].as_str(),
    };
    let cuts = (0..=ETCD).flat_map(|from| (0..=ETCD).map(move |to| (from, to)));
    let cuts = cuts.filter(|(from, to)| !world.links[*from][*to]);
    let cuts: Vec<String> = cuts
        .map(|(from, to)| format!("{} to {}", named(from), named(to)))
        .collect();
    put(&mut facts, "network cut", cuts.join(", "));
    facts
}

fn put(facts: &mut Facts, name: &str, value: String) {
    if !value.is_empty() {
        facts.insert(name.into(), value);
    }
}

fn list<'a>(names: impl Iterator<Item = &'a MemberName>) -> String {
    let names: Vec<&str> = names.map(MemberName::as_str).collect();
    names.join(", ")
}

/// What etcd holds.
fn cluster(world: &World, facts: &mut Facts) {
    let picture = world.etcd.picture();
    let state = match (world.etcd.down, world.quorum.is_voting()) {
        (true, _) => "down",
        (false, true) => "without a leader",
        (false, false) => "answers",
    };
    put(facts, "etcd", state.into());
    if let Some(leader) = &picture.leader {
        let (name, lease, term) = (&leader.name, leader.lease, leader.create_revision);
        put(
            facts,
            "etcd leader",
            format!("{name}, lease {lease}, term {term}"),
        );
    }
    put(facts, "etcd members", list(picture.members.keys()));
    if let Some(sync) = picture.sync.as_ref().map(|stored| &stored.value) {
        let leader = sync.leader.as_ref().map_or("nobody", MemberName::as_str);
        let standbys = list(sync.standbys.iter());
        put(facts, "etcd sync", format!("{leader} with [{standbys}]"));
    }
    if let Some(request) = picture.failover_request() {
        put(facts, "etcd failover", format!("{request:?}"));
    }
    let last = picture
        .history
        .as_ref()
        .and_then(|stored| stored.value.last());
    if let Some(line) = last {
        let told = format!("{} ended at {}", line.timeline, line.end);
        put(facts, "etcd history", told);
    }
    put(facts, "etcd config", text_of(&picture));
    if let Some(optime) = picture.optime() {
        put(facts, "etcd optime", optime.to_string());
    }
}

fn text_of(picture: &Cluster) -> String {
    let config = picture.config.as_ref();
    config.map_or_else(String::new, |stored| stored.value.text.clone())
}

fn of_agent(world: &World, node: usize, facts: &mut Facts) {
    let (it, name) = (&world.nodes[node], &world.names[node]);
    let agent = &it.agent;
    let state = match (agent.alive, agent.stopped) {
        _ if world.chaos.dark[node] => "has no power",
        (false, _) => "is gone",
        (true, true) => "is stopped",
        (true, false) => "runs",
    };
    put(facts, &format!("{name} agent"), state.into());
    let guards = it.guards.values().map(|guard| guard.word());
    let guards: Vec<&str> = guards.collect();
    put(facts, &format!("{name} guard"), guards.join(" and "));
    if let Some(lease) = agent.renewing.fact {
        let kept = if agent.renewing.keep {
            "kept"
        } else {
            "not kept"
        };
        put(
            facts,
            &format!("{name} lease"),
            format!("{}, {kept}", lease.lease),
        );
    }
    if let Some(job) = &agent.job {
        let outcome = job.outcome.as_ref();
        let outcome = outcome.map_or_else(|| "runs".into(), |it| format!("{it:?}"));
        put(
            facts,
            &format!("{name} job"),
            format!("{} {outcome}", job.kind.name()),
        );
    }
    let seen = agent.picture.as_ref().map(|picture| {
        let leader = picture.leader_name().map_or("nobody", MemberName::as_str);
        let fresh = if agent.problem { ", not current" } else { "" };
        format!("{leader} leads{fresh}")
    });
    put(facts, &format!("{name} sees"), seen.unwrap_or_default());
}

fn of_postgres(world: &World, node: usize, facts: &mut Facts) {
    let (pg, name) = (&world.nodes[node].pg, &world.names[node]);
    let role = if pg.in_recovery { "standby" } else { "primary" };
    let left = !pg.is_down(world.now);
    let mut state = match (pg.postmaster.is_some(), pg.phase) {
        (false, _) if left => "leftovers".into(),
        (false, _) => "down".into(),
        (true, Phase::Starting) => format!("starts as {role}"),
        (true, Phase::Running) => role.to_owned(),
        (true, Phase::Stopping) => format!("stops as {role}"),
        (true, Phase::Down) => "down".into(),
    };
    for (is, word) in [
        (pg.promoting, "is promoted"),
        (pg.stopped, "postmaster stopped"),
        (pg.frozen, "disk frozen"),
        (pg.full, "disk full"),
    ] {
        if is {
            state = format!("{state}, {word}");
        }
    }
    put(facts, &format!("{name} postgres"), state);
    put(
        facts,
        &format!("{name} data"),
        format!("{:?}", pg.disk.data),
    );
    put(
        facts,
        &format!("{name} timeline"),
        pg.disk.timeline.to_string(),
    );
    let end = pgherd_model::Lsn(pg.disk.wal.end());
    put(facts, &format!("{name} wal"), end.to_string());
    let from = pg
        .stream
        .as_ref()
        .map(|stream| world.names[stream.from].clone());
    put(
        facts,
        &format!("{name} streams from"),
        from.unwrap_or_default(),
    );
    put(facts, &format!("{name} waits for"), pg.waits_for.clone());
}
