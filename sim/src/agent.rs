//! One agent: its loop as `agent::agent` runs it, with the fakes as hands.

use std::collections::BTreeMap;
use std::rc::Rc;

use pgherd_ha::election::Elections;
use pgherd_ha::lease::{self, Excuse};
use pgherd_ha::{
    Job, LOOK_PAUSE, LeaseFact, Local, Memory, Orders, PeerFact, RemoteHistory, Sequence, View,
    beat::MemberCare, is_calm, may_be_kept, quiet_pause,
};
use pgherd_model::{Cluster, LeaseSight, Member, MemberName, Op, Span, SystemId, Time};

use crate::bugs::Bug;
use crate::event::{Call, Event};
use crate::invariants::rest::Resting;
use crate::perform::Effect;
use crate::world::World;

/// Looks in a row without rest.
const ROUNDS: usize = 8;
/// While a job runs, its effects are looked for this often.
const DURING_JOB: Span = Span::from_millis(100);

/// What waits for an answer of etcd.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// The order that is being carried out.
    Order(Rc<Op>),
    /// A renewal.
    Renewal { sent: Time },
    /// The member lease.
    Member { sent: Time },
    /// The keeper's read.
    Keeper { sent: Time },
}

/// The order that is being carried out, as far as it takes time.
#[derive(Clone, Debug)]
pub(crate) enum Pending {
    /// The lease is renewed first.
    RenewFirst(Rc<Op>),
    /// Something with an end of its own.
    Order,
}

/// The renewal thread.
#[derive(Default)]
pub(crate) struct Renewing {
    pub(crate) keep: bool,
    pub(crate) fact: Option<LeaseFact>,
    pub(crate) tick_finished: Time,
    pub(crate) probe_sent: Option<Time>,
    pub(crate) primary_since: Time,
    pub(crate) excuse: Option<Excuse>,
    pub(crate) last_try: Option<Time>,
    /// When the last confirmed renewal was sent.
    pub(crate) confirmed: Time,
    pub(crate) elections: Elections,
    /// No renewal has been answered since the last one that was; etcd's members are asked.
    pub(crate) unanswered: bool,
    pub(crate) watching: bool,
    pub(crate) in_flight: bool,
    pub(crate) number: u64,
    /// Lease under which the lock lives, as the loop last saw it; 0: not this node's.
    pub(crate) attached: i64,
    /// It has said that the licence is over.
    pub(crate) revoked: bool,
}

/// A question to peers that is under way.
pub(crate) struct Question {
    pub(crate) member: MemberName,
    pub(crate) asked: Time,
}

/// One life of one agent.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) alive: bool,
    pub(crate) stopped: bool,
    pub(crate) run: u64,
    pub(crate) deferred: Vec<Event>,
    pub(crate) memory: Memory,
    pub(crate) picture: Option<Rc<Cluster>>,
    pub(crate) leader_deleted: Option<u64>,
    /// Whose lock that was, where the watch told.
    pub(crate) leader_ended: Option<u64>,
    /// Term of the last lock by the order of events; `None`: it is gone, or not known which was the last.
    pub(crate) holder: Option<u64>,
    /// Term of the last lock whose end the watch told of after a read had shown that it is gone.
    pub(crate) passed_over: Option<u64>,
    /// Up to there the watch has told everything.
    pub(crate) told: u64,
    /// The keeper's read showed what the watch had not told, with the picture at this revision.
    pub(crate) behind: Option<u64>,
    pub(crate) fresh_at: Time,
    /// When etcd last told something.
    pub(crate) heard: Time,
    /// How long the keeper may do without news, by the last decision.
    pub(crate) rest: Option<Span>,
    /// When the keeper asks next, in true time, if it does not wait for an answer.
    pub(crate) keeper_at: Option<Time>,
    /// The highest term of etcd seen, and when that was first seen.
    pub(crate) term: u64,
    pub(crate) elected_by: Time,
    pub(crate) problem: bool,
    pub(crate) missed: u32,
    pub(crate) dcs_fresh: Option<Time>,
    pub(crate) started: Time,
    pub(crate) leader_lease: i64,
    pub(crate) member_lease: i64,
    /// Its life as granted.
    pub(crate) member_life: Span,
    pub(crate) renewing: Renewing,
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) pending: Option<(u64, Pending)>,
    pub(crate) sequence: Option<Sequence>,
    pub(crate) round: usize,
    pub(crate) busy: bool,
    pub(crate) dirty: bool,
    pub(crate) wake_at: Time,
    pub(crate) wake_number: u64,
    /// What it sees of PostgreSQL, for the next decision.
    pub(crate) local: Option<Local>,
    /// What it last decided on.
    pub(crate) view: Option<Box<View>>,
    /// What it decided on before that: the next one is made of it, where things are as they were.
    pub(crate) spare: Option<Box<View>>,
    pub(crate) sight: Option<LeaseSight>,
    pub(crate) peers: BTreeMap<MemberName, PeerFact>,
    pub(crate) questions: BTreeMap<u64, Question>,
    pub(crate) history: Option<RemoteHistory>,
    pub(crate) asking_history: bool,
    pub(crate) claim: Option<u64>,
    pub(crate) bootstrapped: Option<SystemId>,
    /// What initdb made.
    pub(crate) initdb: Option<SystemId>,
    pub(crate) probed: Option<Time>,
    pub(crate) probing: bool,
    next_probe: Time,
    pub(crate) member_care: MemberCare,
    pub(crate) silent_since: Option<Time>,
    pub(crate) shutdown: bool,
    /// What people ask of it.
    pub(crate) orders: Orders,
    pub(crate) was_primary: bool,
    pub(crate) job: Option<Job>,
    pub(crate) job_number: u64,
    pub(crate) job_step: u32,
    pub(crate) killing: Option<crate::guard::Killing>,
    pub(crate) guard: Option<u64>,
    pub(crate) armed_for: Option<u32>,
    pub(crate) armed_by: Option<LeaseFact>,
    pub(crate) guard_failed: Option<Time>,
    pub(crate) guard_failures: u32,
    pub(crate) superseded: bool,
    /// The renewal that is under way was sent for the order that waits.
    pub(crate) for_order: bool,
    /// When a lease was last asked about.
    pub(crate) sight_asked: Time,
    /// Rounds and promises of the failsafe mode.
    pub(crate) failsafe: crate::failsafe::Failsafe,
    /// Its last decision, where that goes on to hold.
    pub(crate) resting: Option<Resting>,
    /// Its connection to this life of PostgreSQL.
    pub(crate) connected: u64,
    /// Revision of the configuration that is in force.
    pub(crate) config_revision: Option<u64>,
}

impl Agent {
    /// What it publishes, by its last decision.
    pub(crate) fn described(&self) -> Option<Member> {
        let view = self.view.as_ref()?;
        Some(pgherd_ha::describe(view, &self.memory))
    }
}

impl World {
    /// The agent begins a life.
    pub(crate) fn start_agent(&mut self, node: usize) {
        if self.nodes[node].agent.alive {
            return;
        }
        let (run, now) = (self.number(), self.clock(node));
        self.nodes[node].agent = Agent {
            alive: true,
            run,
            started: now,
            fresh_at: Time::ZERO,
            problem: true,
            member_care: MemberCare {
                sent: Some(now),
                ..MemberCare::default()
            },
            ..Agent::default()
        };
        let renewing = &mut self.nodes[node].agent.renewing;
        renewing.tick_finished = now;
        renewing.primary_since = now;
        self.remember_promise(node);
        self.say(|| format!("{node} agent starts"));
        self.spawn_guard(node);
        self.ask_after(node, Span::from_millis(5));
        self.after(
            20,
            Event::Wake {
                node,
                run,
                number: 0,
            },
        );
        self.after(
            1,
            Event::Renewal {
                node,
                run,
                number: 0,
            },
        );
    }

    /// SIGKILL to the agent, or its end.
    pub(crate) fn end_agent(&mut self, node: usize) {
        if !self.nodes[node].agent.alive {
            return;
        }
        self.abandon_job(node);
        self.nodes[node].agent = Agent {
            run: self.nodes[node].agent.run,
            ..Agent::default()
        };
        self.agent_gone(node);
        self.say(|| format!("{node} agent is gone"));
    }

    /// Something the loop wants to know has happened.
    pub(crate) fn poke(&mut self, node: usize) {
        let run = self.nodes[node].agent.run;
        if self.nodes[node].agent.alive {
            self.after(
                0,
                Event::Wake {
                    node,
                    run,
                    number: 0,
                },
            );
        }
    }

    pub(crate) fn on_wake(&mut self, node: usize, number: u64) {
        let agent = &mut self.nodes[node].agent;
        if agent.busy {
            agent.dirty |= number == 0;
            return;
        }
        if (number != 0 && number != agent.wake_number) || agent.picture.is_none() {
            return;
        }
        agent.busy = true;
        agent.dirty = false;
        agent.round = 0;
        self.observe(node);
    }

    /// Looks at PostgreSQL; what else there is to see is added when that is done.
    pub(crate) fn observe(&mut self, node: usize) {
        let now = self.clock(node);
        self.configure(node);
        let local = self.local(node);
        let run = self.nodes[node].agent.run;
        self.nodes[node].agent.wake_at = now + LOOK_PAUSE;
        self.nodes[node].agent.local = Some(local);
        let wait = if self.rng.chance(10) {
            self.rng.between(5, 300)
        } else {
            self.rng.below(4)
        };
        self.after(wait, Event::Decide { node, run });
    }

    pub(crate) fn on_decide(&mut self, node: usize) {
        let Some(view) = self.view(node) else {
            return;
        };
        let memory = &self.nodes[node].agent.memory;
        let decision = if self.wrong.none() {
            pgherd_ha::decide(&view, memory)
        } else {
            let (seen, remembered) = self.misread(&view, memory);
            let mut decision = pgherd_ha::decide(&seen, &remembered);
            self.misdecide(node, &view, &mut decision);
            decision
        };
        self.check_demotion(node, &view, &decision);
        *self.seen.rules.entry(decision.why.rule).or_default() += 1;
        self.answered(decision.why.rule);
        self.trace.line(self.now, || {
            let names: Vec<&str> = decision
                .actions
                .iter()
                .map(pgherd_ha::Action::name)
                .collect();
            format!("{node} {} {names:?}", decision.why)
        });
        let memory = &self.nodes[node].agent.memory;
        self.trace.look(node, &view, memory, &decision);
        self.check_hands_off(node, &view, &decision);
        if self.wrong.none() {
            self.check_rest(node, &view, &decision);
        }
        self.look_after(node, &view, &decision);
        let pause = match is_calm(&view, &decision) && may_be_kept(&view, &decision) {
            true => quiet_pause(&view.settings),
            false => LOOK_PAUSE,
        };
        let agent = &mut self.nodes[node].agent;
        agent.memory = decision.memory;
        agent.wake_at = view.now + pause;
        if let Some((at, _)) = decision.wake_at {
            agent.wake_at = agent.wake_at.min(at);
        }
        if view.running_job().is_some() {
            agent.wake_at = agent.wake_at.min(view.now + DURING_JOB);
        }
        agent.sequence = Some(Sequence::new(decision.actions));
        agent.spare = agent.view.replace(view);
        self.go_on(node);
    }

    /// Carries out orders until one takes time or none is left.
    pub(crate) fn go_on(&mut self, node: usize) {
        loop {
            if !self.nodes[node].agent.alive {
                return;
            }
            let Some(sequence) = &mut self.nodes[node].agent.sequence else {
                return;
            };
            let Some(action) = sequence.next_action() else {
                break;
            };
            let effect = self.perform(node, action);
            let Some(sequence) = &mut self.nodes[node].agent.sequence else {
                return;
            };
            match effect {
                Effect::Changed => sequence.done(true),
                Effect::Quiet => sequence.done(false),
                Effect::Failed => sequence.failed(),
                Effect::Pending => return,
            }
        }
        self.end_of_round(node);
    }

    /// An order that took time has ended.
    pub(crate) fn on_performed(&mut self, node: usize, number: u64, outcome: Option<bool>) {
        let agent = &mut self.nodes[node].agent;
        if agent
            .pending
            .as_ref()
            .is_none_or(|(present, _)| *present != number)
        {
            return;
        }
        agent.pending = None;
        if let Some(sequence) = &mut agent.sequence {
            match outcome {
                Some(changed) => sequence.done(changed),
                None => sequence.failed(),
            }
        }
        self.go_on(node);
    }

    fn end_of_round(&mut self, node: usize) {
        let now = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        let changed = agent
            .sequence
            .take()
            .is_some_and(|sequence| sequence.is_changed());
        agent.renewing.tick_finished = now;
        agent.round += 1;
        if changed && agent.round < ROUNDS {
            self.observe(node);
            return;
        }
        agent.busy = false;
        agent.wake_number = agent.wake_number.max(1) + 1;
        let (run, number, at) = (agent.run, agent.wake_number, agent.wake_at);
        let dirty = agent.dirty;
        if dirty {
            self.poke(node);
        }
        let at = self.truly(node, at);
        let least = self.now + Span::from_micros(200);
        self.at(at.max(least), Event::Wake { node, run, number });
    }

    /// Renewal, licence, guard and probes follow the decision.
    fn look_after(&mut self, node: usize, view: &View, decision: &pgherd_ha::Decision) {
        let primary = view.is_primary();
        let agent = &mut self.nodes[node].agent;
        let woken = agent.renewing.keep != decision.keep_lease;
        agent.renewing.keep = decision.keep_lease;
        let rest = std::mem::replace(&mut agent.rest, decision.rest);
        let asks = rest.is_some() && decision.rest.is_none();
        let leader = view.cluster().and_then(|cluster| cluster.leader.as_ref());
        let own = leader.filter(|leader| leader.name == view.me);
        let attached = own.map_or(0, |leader| leader.lease);
        let before = std::mem::replace(&mut agent.renewing.attached, attached);
        let renewed = agent.renewing.fact.filter(|fact| fact.lease == attached);
        if primary && !agent.was_primary {
            agent.renewing.primary_since = view.now;
            agent.probed = Some(view.now);
        }
        agent.was_primary = primary;
        let excuse = lease::excuse(view, &decision.memory);
        if excuse.is_some() {
            agent.renewing.primary_since = view.now;
            agent.probed = agent.probed.max(Some(view.now));
        }
        agent.renewing.excuse = excuse;
        if let Some(fact) = renewed.filter(|_| before != attached) {
            self.extend_guard(node, fact.deadlines().guard);
        }
        if woken {
            self.wake_renewal(node);
        }
        self.look_after_failsafe(node, view, decision);
        if asks {
            self.ask_after(node, Span::ZERO);
        }
        if excuse.is_none() {
            self.probe(node, view);
        }
        self.spawn_guard(node);
        if view.fresh().is_some() {
            self.keep_member_alive(node, view);
        }
        let agent = &mut self.nodes[node].agent;
        let published = view.cluster().and_then(Cluster::system_id);
        if published.is_some() && published == agent.bootstrapped {
            agent.bootstrapped = None;
            agent.claim = None;
        }
    }

    fn probe(&mut self, node: usize, view: &View) {
        let agent = &mut self.nodes[node].agent;
        if agent.probing || view.now < agent.next_probe {
            return;
        }
        agent.probing = true;
        let timeout = view.settings.hang_timeout;
        agent.next_probe = view.now + lease::probe_pause(timeout);
        let (run, sent) = (agent.run, view.now);
        let ends = self.now + timeout;
        self.after(
            5,
            Event::Probe {
                node,
                run,
                sent,
                ends,
            },
        );
    }

    /// A new connection and a commit: it is tried until it works or its time is over.
    pub(crate) fn on_probe(&mut self, node: usize, sent: Time, ends: Time) {
        let pg = &self.nodes[node].pg;
        let run = self.nodes[node].agent.run;
        let now = self.clock(node);
        if pg.accepts() && !pg.frozen {
            let agent = &mut self.nodes[node].agent;
            agent.probing = false;
            agent.probed = agent.probed.max(Some(sent));
            agent.renewing.probe_sent = Some(sent);
            self.poke(node);
        } else if pg.postmaster.is_none() || self.now >= ends {
            let agent = &mut self.nodes[node].agent;
            agent.probing = false;
            agent.next_probe = now + Span::from_secs(1);
            self.poke(node);
        } else {
            self.after(
                20,
                Event::Probe {
                    node,
                    run,
                    sent,
                    ends,
                },
            );
        }
    }

    fn keep_member_alive(&mut self, node: usize, view: &View) {
        if self.wrong.is(Bug::LoseMemberLease) {
            return;
        }
        let agent = &mut self.nodes[node].agent;
        if !agent.member_care.is_due(view.now, &view.settings) {
            return;
        }
        let sent = view.now;
        agent.member_care.sent = Some(sent);
        let limit = Span::from_secs(3);
        self.call(node, Call::Member, Asked::Member { sent }, limit);
    }
}
