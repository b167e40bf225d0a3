//! The world: true time, a queue of what happens next, three nodes, etcd, clients, and the faults
//! that hit them.

use std::collections::{BTreeMap, BTreeSet};

use pgherd_model::{MemberName, Settings, Span, SynchronousMode, Time, WallTime};

use crate::agent::Agent;
use crate::bugs::Wrong;
use crate::calendar::Calendar;
use crate::client::Client;
use crate::election::Quorum;
use crate::etcd::Etcd;
use crate::event::{ETCD, Event, NODES, Reply};
use crate::far::Far;
use crate::faults::Chaos;
use crate::guard::Guard;
use crate::invariants::Oracle;
use crate::postgres::Pg;
use crate::queue::Queue;
use crate::rng::Rng;
use crate::seed::{Kind, Seed};
use crate::swarm::Swarm;
use crate::trace::Trace;

/// The true wall clock when the world begins.
const EPOCH: i64 = 1_795_000_000_000_000;

/// A connection over which no acknowledgement comes back carries nothing more after this: TCP sends what
/// is lost again before it sends anything new, and an agent has one connection to each member of etcd.
const UNACKNOWLEDGED: Span = Span::from_secs(3);

/// Operators are drawn apart, so that worlds without them stay what they were.
const OPERATOR: u64 = 0x6f70_6572_6174_6f72;

/// So is whether the failsafe mode is on, and what happens to its questions: by this number not in the seeds of
/// `regressions.txt` of before.
const FAILSAFE: u64 = 0x6661_696c_7361_0644;

/// So is what makes a world a rough one.
const ROUGH: u64 = 0x726f_7567_6868_6868;
/// So is what makes a long one.
const LONG: u64 = 0x6c6f_6e67_6c6f_6e67;
/// So is what becomes of the cluster that this one may be a copy of.
const FAR: u64 = 0x7374_616e_6462_7921;
/// So is whether somebody is asked before a promotion.
pub(crate) const CONSENT: u64 = 0x7072_656d_6f74_6521;

/// One machine.
pub(crate) struct Node {
    pub(crate) name: MemberName,
    /// Its clock minus true time.
    pub(crate) offset: Span,
    /// Its wall clock minus the true one, in microseconds.
    pub(crate) wall_offset: i64,
    /// When it was last set, and what it was before.
    pub(crate) wall_before: Option<(Time, i64)>,
    /// What its agent last took from `config`; it is kept on disk.
    pub(crate) settings: Settings,
    /// The text of it.
    pub(crate) config: String,
    pub(crate) pg: Pg,
    pub(crate) agent: Agent,
    pub(crate) guards: BTreeMap<u64, Guard>,
    /// No guard can be armed here any more, and nobody mends that.
    pub(crate) guard_broken: bool,
    /// On disk: to whom a promise was made last, and for how long.
    pub(crate) promised: Option<(MemberName, Span)>,
}

/// What a world has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) rules: BTreeMap<&'static str, u64>,
    pub(crate) actions: BTreeMap<&'static str, u64>,
    pub(crate) kinds: BTreeMap<&'static str, u64>,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Rules that answered upon a kind of fault.
    pub(crate) pairs: BTreeSet<(&'static str, &'static str)>,
    pub(crate) events: u64,
    pub(crate) hits: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    /// Chance in questions of the failsafe mode.
    pub(crate) failsafe: Rng,
    queue: Queue,
    numbers: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) etcd: Etcd,
    pub(crate) quorum: Quorum,
    pub(crate) clients: Vec<Client>,
    /// A packet of the first gets through to the second.
    pub(crate) links: [[bool; NODES + 1]; NODES + 1],
    /// Since when packets of the first do not reach the second, where they do the other way.
    pub(crate) one_way: BTreeMap<(usize, usize), Time>,
    /// Configurations so far, by the number that `config` names.
    pub(crate) configs: Vec<Settings>,
    /// Parameters of PostgreSQL by the number of the first configuration with them.
    pub(crate) parameters: BTreeMap<usize, BTreeMap<String, String>>,
    pub(crate) swarm: Swarm,
    pub(crate) chaos: Chaos,
    /// Kinds of faults of a moment ago, and until when they count as that.
    pub(crate) upset: Vec<(&'static str, Time)>,
    pub(crate) calendar: Calendar,
    /// Another cluster, in worlds where this one may be its copy.
    pub(crate) far: Option<Far>,
    pub(crate) oracle: Oracle,
    /// What is done wrong here on purpose.
    pub(crate) wrong: Wrong,
    pub(crate) trace: Trace,
    pub(crate) seen: Seen,
    pub(crate) failure: Option<String>,
    pub(crate) names: Vec<String>,
}

impl World {
    /// A world of this seed, before anything has happened.
    pub(crate) fn new(seed: Seed, trace: Trace) -> World {
        let Seed { number: seed, kind } = seed;
        let mut rng = Rng::new(seed);
        let mut swarm = Swarm::draw(&mut rng, &mut Rng::new(seed ^ OPERATOR));
        if kind == Kind::Rough {
            swarm.roughen(&mut Rng::new(seed ^ ROUGH));
        }
        if kind == Kind::Long {
            swarm.lengthen(&mut Rng::new(seed ^ LONG));
        }
        swarm.forbids = Rng::new(seed ^ CONSENT).pick(&[0, 0, 0, 0, 60, 300]);
        if kind == Kind::Standby {
            // Nobody waits for a standby that would be another cluster's.
            swarm.settings.synchronous_mode = SynchronousMode::Off;
        }
        let mut failsafe = Rng::new(seed ^ FAILSAFE);
        if (failsafe.chance(120) && kind != Kind::Standby) || kind == Kind::Failsafe {
            swarm.fail_safely(&mut failsafe);
        }
        let drawn = (Calendar::draw(seed), Quorum::draw(seed));
        let mut world = World::build(rng, swarm, drawn, ["a", "b", "c"], trace);
        world.failsafe = failsafe;
        if kind == Kind::Standby {
            world.add_far(Rng::new(seed ^ FAR));
        }
        for node in 0..NODES {
            let delay = world.rng.between(0, 3000);
            world.after(delay, Event::Fault(crate::faults::Fault::StartAgent(node)));
        }
        for client in 0..world.clients.len() {
            world.after(5, Event::Client { client });
        }
        world.after(100, Event::Look);
        let quiet = world.swarm.quiet_ms;
        world.after(quiet, Event::Chaos);
        world.next_deed();
        world.next_election();
        world
    }

    /// A world in which nothing goes wrong by itself, nobody starts anything and nobody writes.
    pub(crate) fn calm(seed: u64, settings: Settings, trace: Trace) -> World {
        let drawn = (Calendar::calm(seed), Quorum::calm(seed));
        let swarm = Swarm::calm(settings);
        let mut world = World::build(Rng::new(seed), swarm, drawn, ["n1", "n2", "n3"], trace);
        world.after(100, Event::Look);
        world
    }

    fn build(
        mut rng: Rng,
        swarm: Swarm,
        drawn: (Calendar, Quorum),
        names: [&str; NODES],
        trace: Trace,
    ) -> World {
        let (mut calendar, quorum) = drawn;
        let names: Vec<String> = names.into_iter().map(String::from).collect();
        let nodes = (0..NODES)
            .map(|node| Node {
                name: MemberName(names[node].clone()),
                offset: Span::from_millis(rng.between(1_000, 900_000)),
                wall_offset: calendar.wall_offset(),
                wall_before: None,
                settings: swarm.settings.clone(),
                config: "0".into(),
                pg: Pg::new(),
                agent: Agent::default(),
                guards: BTreeMap::new(),
                guard_broken: false,
                promised: None,
            })
            .collect();
        let clients = (0..swarm.clients).map(Client::new).collect();
        World {
            now: Time::from_millis(1000),
            failsafe: rng.clone(),
            queue: Queue::default(),
            numbers: 0,
            nodes,
            etcd: Etcd::new(),
            quorum,
            clients,
            links: [[true; NODES + 1]; NODES + 1],
            one_way: BTreeMap::new(),
            configs: vec![swarm.settings.clone()],
            parameters: BTreeMap::new(),
            swarm,
            chaos: Chaos::default(),
            upset: Vec::new(),
            calendar,
            far: None,
            oracle: Oracle::default(),
            wrong: Wrong::default(),
            trace,
            seen: Seen::default(),
            failure: None,
            names,
            rng,
        }
    }

    /// A number nobody else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// That happens so many milliseconds from now, and a little.
    pub(crate) fn after(&mut self, millis: u64, event: Event) {
        let jitter = self.rng.below(1_000_000);
        let at = self.now + Span::from_nanos(millis * 1_000_000 + jitter);
        self.at(at, event);
    }

    /// That happens then.
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        let number = self.number();
        self.queue.push(at.max(self.now), number, event);
    }

    /// A node's clock.
    pub(crate) fn clock(&self, node: usize) -> Time {
        self.now + self.nodes[node].offset
    }

    /// A wall clock that is right.
    pub(crate) fn true_wall(&self) -> WallTime {
        WallTime(EPOCH + i64::try_from(self.now.0 / 1000).unwrap_or(i64::MAX))
    }

    /// A node's wall clock.
    pub(crate) fn wall(&self, node: usize) -> WallTime {
        WallTime(self.true_wall().0 + self.nodes[node].wall_offset)
    }

    /// A moment on a node's clock in true time.
    pub(crate) fn truly(&self, node: usize, at: Time) -> Time {
        at - self.nodes[node].offset
    }

    /// Packets of the first get through to the second.
    pub(crate) fn linked(&self, from: usize, to: usize) -> bool {
        let etcd = from == ETCD || to == ETCD;
        let silent = etcd && (self.etcd.down || !self.quorum.answers(from.min(to)));
        let cut = self.one_way.get(&(to, from));
        let stuck = cut.is_some_and(|at| self.now.since(*at) > UNACKNOWLEDGED);
        from == to || (self.links[from][to] && !silent && !stuck)
    }

    /// Packets get through both ways.
    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        self.linked(a, b) && self.linked(b, a)
    }

    /// Something fails or is late by itself, so often in a thousand.
    pub(crate) fn mishap(&mut self, per_mille: u64) -> bool {
        let drawn = self.rng.chance(per_mille);
        drawn && self.swarm.mishaps
    }

    /// Milliseconds a packet takes; now and then many.
    pub(crate) fn delay(&mut self) -> u64 {
        if self.rng.chance(10) {
            self.rng.between(5, 60)
        } else {
            self.rng.below(3)
        }
    }

    /// An invariant is broken: the story ends here.
    pub(crate) fn fail(&mut self, what: String) {
        self.trace.line(self.now, || format!("FAILED {what}"));
        if self.failure.is_none() {
            self.failure = Some(format!("at {}: {what}", self.now));
        }
    }

    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        self.trace.line(self.now, text);
    }

    /// Node with this name.
    pub(crate) fn node_of(&self, name: &MemberName) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == *name)
    }

    /// When the next thing happens.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.queue.next_at()
    }

    /// The answer to this request, if it is on its way.
    pub(crate) fn reply_on_its_way(&self, asked: u64) -> Option<&Reply> {
        self.queue.iter().find_map(|event| match event {
            Event::Answer { id, reply, .. } if *id == asked => Some(reply),
            _ => None,
        })
    }

    /// Lets the next thing happen; false: the story is over.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at, event)) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        self.seen.events += 1;
        self.happen(event);
        self.failure.is_none() && !self.chaos.over
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Request { .. }
            | Event::Answer { .. }
            | Event::NoAnswer { .. }
            | Event::Watch { .. }
            | Event::Keeper { .. }
            | Event::Lease { .. }
            | Event::Revoke { .. } => self.on_store(event),
            Event::Election(step) => self.on_election(step),
            Event::Wake { .. }
            | Event::Decide { .. }
            | Event::Performed { .. }
            | Event::Renewal { .. }
            | Event::Raft { .. }
            | Event::RaftAsked { .. }
            | Event::RaftTold { .. }
            | Event::Question { .. }
            | Event::PeerAnswer { .. }
            | Event::History { .. }
            | Event::Probe { .. }
            | Event::Job { .. }
            | Event::Kill { .. }
            | Event::Guard { .. } => self.on_process(event),
            Event::Client { .. } | Event::Commit { .. } | Event::Acknowledge { .. } => {
                self.on_client(event);
            }
            Event::Round { .. } | Event::FailsafeAsked { .. } | Event::FailsafeTold { .. } => {
                self.on_failsafe(event);
            }
            Event::Fault(fault) => self.on_fault(fault),
            Event::Chaos => self.on_chaos(),
            Event::Calendar => self.on_calendar(),
            Event::Far => self.on_far(),
            Event::Look => self.on_look(),
            other => self.on_postgres(other),
        }
    }

    /// Events of an agent or a guard: a process that is stopped takes them later.
    fn on_process(&mut self, event: Event) {
        let agent = match &event {
            Event::Wake { node, run, .. }
            | Event::Decide { node, run }
            | Event::Performed { node, run, .. }
            | Event::Renewal { node, run, .. }
            | Event::Raft { node, run }
            | Event::RaftTold { node, run, .. }
            | Event::PeerAnswer { node, run, .. }
            | Event::History { node, run, .. }
            | Event::Probe { node, run, .. }
            | Event::Job { node, run, .. } => Some((*node, *run)),
            _ => None,
        };
        if let Some((node, run)) = agent
            && !self.awake(node, run, &event)
        {
            return;
        }
        match event {
            Event::Wake { node, number, .. } => self.on_wake(node, number),
            Event::Decide { node, .. } => self.on_decide(node),
            Event::Performed {
                node,
                number,
                outcome,
                ..
            } => {
                self.on_performed(node, number, outcome);
            }
            Event::Renewal { node, number, .. } => self.on_renewal(node, number),
            Event::Raft { node, .. } => self.on_raft(node),
            Event::RaftAsked {
                node,
                run,
                member,
                asked,
            } => self.on_raft_asked(node, run, member, asked),
            Event::RaftTold { node, answer, .. } => self.on_raft_told(node, answer),
            Event::Question { from, run, to, ask } => self.on_question(from, run, to, ask),
            Event::PeerAnswer {
                node, ask, answer, ..
            } => {
                self.on_peer_answer(node, ask, answer.map(|answer| *answer));
            }
            Event::History {
                node,
                of,
                asked,
                timeline,
                ..
            } => {
                self.on_history(node, of, asked, timeline);
            }
            Event::Probe {
                node, sent, ends, ..
            } => self.on_probe(node, sent, ends),
            Event::Job { node, number, .. } => self.on_job(node, number),
            Event::Kill { node, run, killer } => self.on_kill(node, run, killer),
            Event::Guard { node, number } => self.on_guard(node, number),
            _ => {}
        }
    }

    /// The agent of that life exists and runs; if it is stopped, the event waits for it.
    pub(crate) fn awake(&mut self, node: usize, run: u64, event: &Event) -> bool {
        let agent = &mut self.nodes[node].agent;
        if !agent.alive || agent.run != run {
            return false;
        }
        if agent.stopped {
            agent.deferred.push(event.clone());
            return false;
        }
        true
    }
}
