//! What goes wrong, when, and how it is healed.

use std::collections::BTreeSet;

use pgherd_model::{Span, SynchronousMode, Time};
use pgherd_scenario::words::EtcdPart;

use crate::acts::Act;
use crate::event::{ETCD, Event, NODES};
use crate::rng::Rng;
use crate::world::World;

/// Number of kinds of faults that are drawn.
pub(crate) const KINDS: usize = 19;
/// The first of them that are drawn apart.
pub(crate) const LATER: usize = 15;
/// Some of them by number.
pub(crate) const KILL_AGENT: usize = 0;
pub(crate) const KILL_POSTMASTER: usize = 2;
pub(crate) const STOP_AGENT: usize = 4;
pub(crate) const ISOLATE: usize = 8;
pub(crate) const ETCD_DOWN: usize = 9;
pub(crate) const CUT_OFF: usize = 14;

/// One thing that goes wrong, or the end of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    StartAgent(usize),
    KillAgent(usize),
    KillGuard(usize),
    KillPostmaster(usize),
    Crash(usize),
    Boot(usize),
    StopAgent(usize, bool),
    StopPostmaster(usize, bool),
    StopGuard(usize, bool),
    Link(usize, usize, bool),
    Isolate(usize, bool),
    EtcdDown(bool),
    Operator(Act),
    // Those below are never drawn: only scenarios order them.
    /// The postmaster and every child.
    KillPostgres(usize),
    /// Packets of the first to the second.
    OneWay(usize, usize),
    /// Whoever writes to the disk waits, and cannot be killed.
    FreezeDisk(usize, bool),
    FillDisk(usize, bool),
    StopReceiver(usize, bool),
    KillEtcd(EtcdPart),
    StartEtcd,
}

/// The state of disorder.
#[derive(Default)]
pub(crate) struct Chaos {
    /// Machines without power.
    pub(crate) dark: [bool; NODES],
    /// Agent or guard of this node are hit until then: at most one of them at a time.
    reserved: [Time; NODES],
    done: u64,
    /// Kinds of faults so far.
    kinds: BTreeSet<&'static str>,
    /// The last fault, or its end.
    pub(crate) disturbed: Time,
    /// Faults that have an end which has not come.
    pub(crate) open: u64,
    /// An operator last named this node for a failover, which may lose rows.
    pub(crate) failover_to: Option<usize>,
    /// An operator last named somebody to take over then.
    pub(crate) asked: Option<Time>,
    /// The lock was last deleted by hand then.
    pub(crate) vanished: Option<Time>,
    /// Everything was healed then.
    pub(crate) healed: Option<Time>,
    /// It has been as it should be since then.
    pub(crate) fine: Option<Time>,
    /// `config` as it was when somebody deleted it.
    pub(crate) forgotten: Option<String>,
    /// Clients rest.
    pub(crate) idle: bool,
    pub(crate) over: bool,
}

/// A long story has faults of so many kinds at least.
const LEAST_KINDS: usize = 3;

/// Under this name runs count it.
const BROKEN: &str = "guard broken";

/// How long a machine, a process or a link is away.
fn length(world: &mut World) -> u64 {
    match world.rng.below(4) {
        0 => world.rng.between(20, 500),
        1 => world.rng.between(500, 5000),
        2 => world.rng.between(2000, 20_000),
        _ => world.rng.between(10_000, 90_000),
    }
}

impl World {
    /// Draws the next fault, or heals everything.
    pub(crate) fn on_chaos(&mut self) {
        if self.etcd.picture().system_id().is_none() && self.now < Time::from_millis(120_000) {
            // A cluster first.
            self.after(1000, Event::Chaos);
            return;
        }
        if self.has_had_enough() {
            self.heal();
            return;
        }
        self.chaos.done += 1;
        self.break_guard();
        if self.changes_places() {
            self.on_fault(Fault::Operator(Act::ChangePlaces));
        } else {
            self.draw();
        }
        let pause = self.swarm.pause_ms;
        let wait = if self.rng.chance(200) {
            self.rng.below(300)
        } else {
            self.rng.below(pause)
        };
        self.after(wait, Event::Chaos);
    }

    /// All that was to go wrong has.
    fn has_had_enough(&self) -> bool {
        let lasts = self.swarm.lasts;
        if lasts.is_zero() {
            return self.chaos.done >= self.swarm.faults;
        }
        // What was drawn and could not be done does not count.
        self.now > Time::ZERO + lasts
            && self.seen.hits >= self.swarm.faults
            && self.chaos.kinds.len() >= LEAST_KINDS
    }

    /// Once, and for good: that node is a standby from then on, and nobody waits for it.
    fn break_guard(&mut self) {
        if !self.swarm.breaks_guard {
            return;
        }
        let picture = self.etcd.picture();
        let Some(leader) = picture.leader_name().and_then(|name| self.node_of(name)) else {
            return;
        };
        // A primary goes for want of a guard only where any other node may follow it.
        let standby = |node: &usize| *node != leader && self.nodes[*node].pg.in_recovery;
        let anybody = self.swarm.nofailover.is_none()
            && self.swarm.settings.synchronous_mode == SynchronousMode::Off
            && (0..NODES).filter(standby).count() == NODES - 1;
        let first = (0..NODES).find(standby);
        let primary = anybody && self.rng.chance(500) && self.reserve(leader, 0);
        let node = if primary { Some(leader) } else { first };
        if let Some(node) = node {
            self.say(|| format!("{node} no guard can be armed any more"));
            self.swarm.breaks_guard = false;
            self.nodes[node].guard_broken = true;
            self.happened(BROKEN);
            if node == leader {
                self.kill_guard(node);
            }
        }
    }

    fn draw(&mut self) {
        let total: u64 = self.swarm.weights.iter().sum();
        let mut left = self.rng.below(total);
        let kind = self.swarm.weights.iter().position(|weight| {
            let hit = left < *weight;
            left = left.saturating_sub(*weight);
            hit
        });
        let away = length(self);
        if self.swarm.rough > 0 && self.rng.chance(self.swarm.rough) {
            self.draw_rough(away);
            return;
        }
        let mut node = usize::try_from(self.rng.below(NODES as u64)).unwrap_or(0);
        // The leader is hit more often than by chance.
        if self.rng.chance(500)
            && let Some(leader) = self.etcd.picture().leader_name()
        {
            node = self.node_of(leader).unwrap_or(node);
        }
        let other = (node + 1 + usize::try_from(self.rng.below(2)).unwrap_or(0)) % NODES;
        let process = matches!(kind, Some(0 | 1 | 3 | 4 | 6 | 13));
        if process && !self.reserve(node, away) {
            return;
        }
        let Some((first, end)) = self.fault(kind, node, other) else {
            return;
        };
        self.on_fault(first);
        if let Some(end) = end {
            self.chaos.open += 1;
            self.after(away, Event::Fault(end));
        }
    }

    /// What only rough worlds know.
    fn draw_rough(&mut self, away: u64) {
        let node = usize::try_from(self.rng.below(NODES as u64)).unwrap_or(0);
        let other =
            (node + 1 + usize::try_from(self.rng.below(NODES as u64)).unwrap_or(0)) % (NODES + 1);
        let (first, end) = match self.rng.below(4) {
            0 => (
                Fault::StopReceiver(node, true),
                Fault::StopReceiver(node, false),
            ),
            1 => (Fault::OneWay(other, node), Fault::Link(node, other, true)),
            _ => (Fault::OneWay(node, other), Fault::Link(node, other, true)),
        };
        self.on_fault(first);
        self.chaos.open += 1;
        self.after(away, Event::Fault(end));
    }

    /// What this kind does, and what ends it.
    fn fault(
        &mut self,
        kind: Option<usize>,
        node: usize,
        other: usize,
    ) -> Option<(Fault, Option<Fault>)> {
        Some(match kind {
            Some(0) => (Fault::KillAgent(node), Some(Fault::StartAgent(node))),
            Some(1) => (Fault::KillGuard(node), None),
            Some(2) => (Fault::KillPostmaster(node), None),
            Some(3) => (Fault::Crash(node), Some(Fault::Boot(node))),
            Some(4) => (
                Fault::StopAgent(node, true),
                Some(Fault::StopAgent(node, false)),
            ),
            Some(5) => (
                Fault::StopPostmaster(node, true),
                Some(Fault::StopPostmaster(node, false)),
            ),
            Some(6) => (
                Fault::StopGuard(node, true),
                Some(Fault::StopGuard(node, false)),
            ),
            Some(7) => (
                Fault::Link(node, other, false),
                Some(Fault::Link(node, other, true)),
            ),
            Some(8) => (
                Fault::Isolate(node, true),
                Some(Fault::Isolate(node, false)),
            ),
            Some(9) => (Fault::EtcdDown(true), Some(Fault::EtcdDown(false))),
            Some(10) => (Fault::Operator(Act::DeleteLeader), None),
            Some(11) => {
                let named = self.rng.chance(600).then_some(other);
                (Fault::Operator(Act::Switchover(named)), None)
            }
            Some(12) => (Fault::Operator(Act::Failover(other)), None),
            Some(13) => (Fault::Operator(Act::EndAgent(node)), None),
            Some(14) => (
                Fault::Link(node, ETCD, false),
                Some(Fault::Link(node, ETCD, true)),
            ),
            Some(15) => (
                Fault::Operator(Act::Pause(true)),
                Some(Fault::Operator(Act::Pause(false))),
            ),
            Some(16) => (Fault::Operator(Act::Configure), None),
            Some(17) => (Fault::Operator(Act::Restart(node)), None),
            Some(_) => {
                let force = self.rng.chance(300);
                (Fault::Operator(Act::Reinitialize(node, force)), None)
            }
            None => return None,
        })
    }

    /// `lease_ttl` was changed: now and then the link to etcd goes just when the lease of the new
    /// life is granted, so that the lock stays under the one before. It has a generator of its own.
    pub(crate) fn cut_after_grant(&mut self, node: usize) {
        let mut rng = Rng::new(self.now.0);
        if self.chaos.healed.is_some() || self.swarm.weights[CUT_OFF] == 0 || !rng.chance(400) {
            return;
        }
        self.chaos.open += 1;
        let (cut, end) = (rng.between(2, 12), rng.between(500, 30_000));
        let link = |up| Event::Fault(Fault::Link(node, ETCD, up));
        self.at(self.now + Span::from_millis(cut), link(false));
        self.at(self.now + Span::from_millis(end), link(true));
    }

    /// Safety is promised with one of agent and guard dead or stopped, not both: where no guard can be armed the agent
    /// is left alone until nothing can write.
    fn reserve(&mut self, node: usize, away: u64) -> bool {
        let it = &self.nodes[node];
        let unguarded = it.guard_broken && it.pg.can_write(self.now);
        if self.now < self.chaos.reserved[node] || unguarded {
            return false;
        }
        self.chaos.reserved[node] = self.now + Span::from_millis(away + 8000);
        true
    }

    pub(crate) fn on_fault(&mut self, fault: Fault) {
        if self.chaos.healed.is_some() && !matches!(fault, Fault::StartAgent(_)) {
            return;
        }
        self.say(|| format!("fault {fault:?}"));
        self.happened(word(fault));
        if ends(fault) {
            self.chaos.open = self.chaos.open.saturating_sub(1);
        } else {
            self.seen.hits += 1;
            self.chaos.kinds.insert(word(fault));
        }
        if !matches!(fault, Fault::Operator(Act::Switchover(_))) {
            self.chaos.disturbed = self.now;
        }
        match fault {
            Fault::StartAgent(node) if !self.chaos.dark[node] => self.start_agent(node),
            Fault::StartAgent(_) => {}
            Fault::KillAgent(node) => self.kill_agent(node),
            Fault::KillGuard(node) => self.kill_guard(node),
            Fault::KillPostmaster(node) => self.kill_postmaster(node),
            Fault::Crash(node) => self.crash(node),
            Fault::Boot(node) => self.boot(node),
            Fault::StopAgent(node, true) => self.nodes[node].agent.stopped = true,
            Fault::StopAgent(node, false) => self.resume_agent(node),
            Fault::StopPostmaster(node, stop) => {
                let pg = &mut self.nodes[node].pg;
                pg.stopped = stop && pg.postmaster.is_some();
            }
            Fault::StopGuard(node, stop) => self.stop_guard(node, stop),
            Fault::Link(a, b, up) => {
                self.links[a][b] = up;
                self.links[b][a] = up;
                self.one_way
                    .retain(|cut, _| *cut != (a, b) && *cut != (b, a));
            }
            Fault::Isolate(node, cut) => self.set_links(node, !cut),
            Fault::EtcdDown(true) => self.etcd.down = true,
            Fault::EtcdDown(false) => self.etcd_up(),
            Fault::Operator(act) => self.on_act(act),
            Fault::KillPostgres(node) => self.kill_postgres(node),
            Fault::OneWay(from, to) => {
                self.links[from][to] = false;
                self.one_way.insert((from, to), self.now);
            }
            Fault::FreezeDisk(node, true) => self.nodes[node].pg.frozen = true,
            Fault::FreezeDisk(node, false) => self.thaw_disk(node),
            Fault::FillDisk(node, full) => self.nodes[node].pg.full = full,
            Fault::StopReceiver(node, stop) => self.nodes[node].pg.receiver_stopped = stop,
            Fault::KillEtcd(part) => self.kill_etcd(part),
            Fault::StartEtcd => self.start_etcd(),
        }
    }

    fn kill_guard(&mut self, node: usize) {
        if let Some(number) = self.nodes[node].agent.guard {
            self.nodes[node].guards.remove(&number);
            self.poke(node);
        }
    }

    /// The machine loses its power.
    fn crash(&mut self, node: usize) {
        self.chaos.dark[node] = true;
        self.kill_agent(node);
        self.nodes[node].guards.clear();
        self.set_links(node, false);
        self.lose_postgres(node);
    }

    fn boot(&mut self, node: usize) {
        self.chaos.dark[node] = false;
        self.set_links(node, true);
        self.start_agent(node);
    }

    fn kill_agent(&mut self, node: usize) {
        self.end_agent(node);
    }

    fn set_links(&mut self, node: usize, up: bool) {
        self.one_way.retain(|(a, b), _| *a != node && *b != node);
        for other in 0..=ETCD {
            if other != node {
                let up = up && !self.chaos.dark.get(other).is_some_and(|dark| *dark);
                self.links[node][other] = up;
                self.links[other][node] = up;
            }
        }
    }

    fn resume_agent(&mut self, node: usize) {
        let agent = &mut self.nodes[node].agent;
        agent.stopped = false;
        let deferred = std::mem::take(&mut agent.deferred);
        for event in deferred {
            self.at(self.now, event);
        }
    }

    pub(crate) fn etcd_up(&mut self) {
        if std::mem::take(&mut self.etcd.down) {
            let now = self.now;
            self.quorum.restarted();
            for (id, expires) in self.etcd.prolong(now, Span::from_secs(1)) {
                self.at(expires, Event::Lease { id, expires });
            }
        }
    }

    /// Everything works again.
    pub(crate) fn heal(&mut self) {
        self.say(|| "everything is healed".into());
        self.start_etcd();
        self.end_elections();
        self.chaos.dark = [false; NODES];
        self.links = [[true; NODES + 1]; NODES + 1];
        self.one_way.clear();
        for node in 0..NODES {
            self.resume_agent(node);
            self.stop_guard(node, false);
            self.nodes[node].pg.stopped = false;
            self.nodes[node].pg.full = false;
            self.nodes[node].pg.receiver_stopped = false;
            self.thaw_disk(node);
            self.nodes[node].agent.shutdown = false;
            self.start_agent(node);
        }
        // In some worlds somebody has also tidied up too much: the leader repairs it.
        // Replicas that have neither it nor a leader end, and go on only when a person helps.
        if self.swarm.quiet_ms.is_multiple_of(4) && self.pending().is_none() && self.in_time() {
            self.etcd.forget_initialize();
            self.announce();
        }
        self.resume();
        self.withdraw();
        self.forget_config();
        self.chaos.open = 0;
        self.chaos.healed = Some(self.now);
        self.chaos.disturbed = self.now;
    }
}

impl World {
    /// The leader's lease was renewed lately: it is not about to step down.
    fn in_time(&self) -> bool {
        let picture = self.etcd.picture();
        let leader = picture.leader_name().and_then(|name| self.node_of(name));
        leader.is_some_and(|node| {
            let fact = self.nodes[node].agent.renewing.fact;
            fact.is_some_and(|fact| self.clock(node).since(fact.sent) < fact.length / 4)
        })
    }
}

fn ends(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::StartAgent(_)
            | Fault::Boot(_)
            | Fault::StopAgent(_, false)
            | Fault::StopPostmaster(_, false)
            | Fault::StopGuard(_, false)
            | Fault::Link(_, _, true)
            | Fault::Isolate(_, false)
            | Fault::EtcdDown(false)
            | Fault::Operator(Act::Pause(false))
            | Fault::FreezeDisk(_, false)
            | Fault::FillDisk(_, false)
            | Fault::StopReceiver(_, false)
            | Fault::StartEtcd
    )
}

fn word(fault: Fault) -> &'static str {
    match fault {
        Fault::StartAgent(_) => "agent starts",
        Fault::KillAgent(_) => "agent killed",
        Fault::KillGuard(_) => "guard killed",
        Fault::KillPostmaster(_) => "postmaster killed",
        Fault::Crash(_) => "machine crashed",
        Fault::Boot(_) => "machine boots",
        Fault::StopAgent(_, true) => "agent stopped",
        Fault::StopPostmaster(_, true) => "postmaster stopped",
        Fault::StopGuard(_, true) => "guard stopped",
        Fault::StopAgent(..) | Fault::StopPostmaster(..) | Fault::StopGuard(..) => "resumed",
        Fault::Link(_, ETCD, false) => "etcd cut off",
        Fault::Link(_, _, false) => "link cut",
        Fault::Isolate(_, true) => "machine cut off",
        Fault::Link(..) | Fault::Isolate(..) => "link healed",
        Fault::EtcdDown(true) => "etcd down",
        Fault::EtcdDown(false) => "etcd up",
        Fault::Operator(act) => act.word(),
        Fault::KillPostgres(_) => "postgres killed",
        Fault::OneWay(..) => "one way cut",
        Fault::FreezeDisk(_, true) => "disk frozen",
        Fault::FreezeDisk(_, false) => "disk thawed",
        Fault::FillDisk(_, true) => "disk filled",
        Fault::FillDisk(_, false) => "disk cleared",
        Fault::StopReceiver(_, true) => "walreceiver stopped",
        Fault::StopReceiver(_, false) => "walreceiver resumed",
        Fault::KillEtcd(_) => "members of etcd killed",
        Fault::StartEtcd => "members of etcd started",
    }
}
