//! The failsafe mode between fake nodes, as `agent::failsafe` does it: rounds of questions beside the loop, answers, and
//! the promise that is kept on disk. Its chances come from a generator of their own.

use std::collections::BTreeMap;

use pgherd_ha::failsafe::{
    Due, Extension, FailsafeFact, Promise, Rounds, Wish, is_primary, patience, refusal,
};
use pgherd_ha::lease::Licence;
use pgherd_ha::{Decision, LeaseFact, View, beat};
use pgherd_model::{Cluster, Lsn, MemberName, Op, Span, Time};

use crate::event::Event;
use crate::world::World;

/// One member is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    from: usize,
    run: u64,
    round: u64,
    name: MemberName,
    life: Span,
    slots: BTreeMap<String, Lsn>,
}

/// What an agent knows of it.
#[derive(Default)]
pub(crate) struct Failsafe {
    wish: Option<Wish>,
    pub(crate) rounds: Rounds,
    /// Of the timer.
    number: u64,
    /// It is primary, or about to be.
    leads: bool,
    pub(crate) promise: Option<Promise>,
}

impl Failsafe {
    /// The last round, if it goes beyond what the lease was renewed for.
    fn beyond(&self, lease: Option<LeaseFact>) -> Option<Extension> {
        let extension = self.rounds.extension?;
        lease
            .is_none_or(|lease| lease.sent < extension.sent)
            .then_some(extension)
    }

    /// Until when a guard is armed, where that is later than the lease says.
    pub(crate) fn guard_deadline(&self, lease: Option<LeaseFact>) -> Option<Time> {
        self.beyond(lease).map(|it| it.deadlines().guard)
    }
}

impl World {
    /// An agent begins: whatever it has promised holds on, for as long as if it had been just now.
    pub(crate) fn remember_promise(&mut self, node: usize) {
        let now = self.clock(node);
        let it = &mut self.nodes[node];
        if let Some((leader, length)) = it.promised.clone() {
            let mut promise = Promise::new(leader, now, None, &it.settings);
            promise.until = now + length;
            it.agent.failsafe.promise = Some(promise);
        }
    }

    pub(crate) fn failsafe_fact(&mut self, node: usize) -> FailsafeFact {
        let now = self.clock(node);
        let it = &mut self.nodes[node];
        let over = it.agent.failsafe.promise.take_if(|it| now >= it.until);
        if over.is_some() {
            it.promised = None;
        }
        FailsafeFact {
            extension: it.agent.failsafe.rounds.extension,
            promise: it.agent.failsafe.promise.clone(),
        }
    }

    /// `failsafe_mode_is_active`.
    pub(crate) fn is_failsafe(&self, node: usize) -> bool {
        let now = self.clock(node);
        let failsafe = &self.nodes[node].agent.failsafe;
        let promised = failsafe.promise.as_ref().is_some_and(|it| now < it.until);
        promised || self.is_extended(node)
    }

    /// A round keeps it in office beyond what its lease was renewed for.
    pub(crate) fn is_extended(&self, node: usize) -> bool {
        let now = self.clock(node);
        let agent = &self.nodes[node].agent;
        let lease = self.lease_of_lock(node);
        let extension = agent.failsafe.beyond(lease);
        extension.is_some_and(|it| now < it.deadlines().gone)
    }

    /// Its lease counts again, and nothing else.
    pub(crate) fn has_renewed_since(&self, node: usize) -> bool {
        let last = self.nodes[node].agent.failsafe.rounds.extension;
        let lease = self.lease_of_lock(node);
        lease
            .zip(last)
            .is_some_and(|(lease, last)| lease.sent >= last.sent)
    }

    /// The lease that the lock lives under, as the loop last saw it.
    fn lease_of_lock(&self, node: usize) -> Option<LeaseFact> {
        let renewing = &self.nodes[node].agent.renewing;
        renewing.fact.filter(|fact| fact.lease == renewing.attached)
    }

    /// After a decision.
    pub(crate) fn look_after_failsafe(&mut self, node: usize, view: &View, decision: &Decision) {
        let it = &mut self.nodes[node];
        let primary = is_primary(view, &decision.memory);
        it.agent.failsafe.leads = decision.keep_lease || primary;
        if decision.memory.term.is_some() {
            // Nobody else leads any more.
            it.agent.failsafe.promise = None;
            it.promised = None;
        }
        let begins = it.agent.failsafe.wish.is_none() && decision.failsafe.is_some();
        it.agent.failsafe.wish.clone_from(&decision.failsafe);
        if begins {
            self.wake_rounds(node, self.now);
        }
    }

    pub(crate) fn on_failsafe(&mut self, event: Event) {
        let agent = match &event {
            Event::Round { node, run, .. } | Event::FailsafeTold { node, run, .. } => {
                Some((*node, *run))
            }
            _ => None,
        };
        if let Some((node, run)) = agent
            && !self.awake(node, run, &event)
        {
            return;
        }
        match event {
            Event::Round { node, number, .. } => self.on_round(node, number),
            Event::FailsafeAsked { to, question } => self.on_failsafe_asked(to, *question),
            Event::FailsafeTold {
                node,
                round,
                by,
                accepted,
                ..
            } => self.on_failsafe_told(node, round, by, accepted),
            _ => {}
        }
    }

    fn wake_rounds(&mut self, node: usize, at: Time) {
        let number = self.number();
        let agent = &mut self.nodes[node].agent;
        agent.failsafe.number = number;
        let run = agent.run;
        self.at(at, Event::Round { node, run, number });
    }

    fn on_round(&mut self, node: usize, number: u64) {
        let (now, lease) = (self.clock(node), self.lease_of_lock(node));
        let agent = &self.nodes[node].agent;
        let Some(wish) = agent.failsafe.wish.clone() else {
            return;
        };
        if number != agent.failsafe.number {
            return;
        }
        let confirmed = agent.renewing.confirmed;
        let due = agent.failsafe.rounds.due(now, &wish, lease, confirmed);
        let next = match due {
            Some(Due::Begin) if self.is_licensed(node, now) => {
                self.begin_round(node, &wish, lease);
                now + wish.life / 50
            }
            Some(Due::At(at)) => at.max(now + Span::from_millis(1)),
            Some(Due::Begin) | None => now + wish.life / 10,
        };
        let at = self.truly(node, next);
        self.wake_rounds(node, at);
    }

    /// As for a renewal: PostgreSQL and the loop are at work.
    fn is_licensed(&self, node: usize, now: Time) -> bool {
        let renewing = &self.nodes[node].agent.renewing;
        let licence = Licence {
            tick_finished: renewing.tick_finished,
            probe_sent: renewing.probe_sent,
            primary_since: renewing.primary_since,
            excuse: renewing.excuse,
        };
        now < licence.end(&self.nodes[node].settings).at
    }

    fn begin_round(&mut self, node: usize, wish: &Wish, lease: Option<LeaseFact>) {
        let now = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        let (round, kept) = agent.failsafe.rounds.begin(now, wish, lease);
        let run = agent.run;
        if kept {
            self.stay_in_office(node);
        }
        for name in wish.members.keys() {
            let Some(to) = self.node_of(&MemberName::from(name.as_str())) else {
                continue;
            };
            let question = Question {
                from: node,
                run,
                round,
                name: self.nodes[node].name.clone(),
                life: wish.life,
                slots: wish.slots.clone(),
            };
            if self.linked(node, to) {
                let wait = self.failsafe_delay();
                let question = Box::new(question);
                let event = Event::FailsafeAsked { to, question };
                self.at(self.now + wait, event);
            }
        }
        let run = self.nodes[node].agent.run;
        // Silence is a refusal.
        for name in wish.members.keys() {
            if let Some(by) = self.node_of(&MemberName::from(name.as_str())) {
                let told = Event::FailsafeTold {
                    node,
                    run,
                    round,
                    by,
                    accepted: false,
                };
                self.at(self.now + patience(wish.life), told);
            }
        }
    }

    fn failsafe_delay(&mut self) -> Span {
        let rng = &mut self.failsafe;
        let millis = match rng.chance(30) {
            true => rng.between(5, 900),
            false => rng.below(3),
        };
        Span::from_micros(millis * 1000 + rng.below(1000))
    }

    fn on_failsafe_asked(&mut self, to: usize, question: Question) {
        let from = question.from;
        if !self.linked(from, to) || self.chaos.dark[to] || !self.nodes[to].agent.alive {
            return;
        }
        if self.nodes[to].agent.stopped {
            let question = Box::new(question);
            let event = Event::FailsafeAsked { to, question };
            self.nodes[to].agent.deferred.push(event);
            return;
        }
        let accepted = self.accept(to, &question);
        let wait = self.failsafe_delay();
        let told = Event::FailsafeTold {
            node: from,
            run: question.run,
            round: question.round,
            by: to,
            accepted,
        };
        self.at(self.now + wait, told);
    }

    /// `POST /failsafe`.
    fn accept(&mut self, node: usize, question: &Question) -> bool {
        let now = self.clock(node);
        let current = self.known_for_certain(node);
        let it = &self.nodes[node];
        let on = it.settings.failsafe_mode;
        let leads = it.agent.failsafe.leads;
        // Before the first look nothing is known of PostgreSQL.
        let looked = it.agent.view.is_some();
        let refused = refusal(on, leads || !looked, current.as_ref(), &question.name);
        if let Some(why) = refused {
            self.say(|| format!("{node} does not accept {}: {why:?}", question.name));
            return false;
        }
        // Now and then it cannot be written down.
        if self.failsafe.chance(5) {
            return false;
        }
        let it = &mut self.nodes[node];
        let life = Some(question.life);
        let mut promise = Promise::new(question.name.clone(), now, life, &it.settings);
        promise.slots.clone_from(&question.slots);
        let before = it.agent.failsafe.promise.as_ref();
        let news = before.is_none_or(|it| it.leader.name != question.name);
        // One to somebody else lasts as long as it was to last.
        promise.until = promise.until.max(before.map_or(Time::ZERO, |it| it.until));
        let length = promise.until.since(now);
        let kept = it
            .promised
            .as_ref()
            .map_or(Span::ZERO, |(_, length)| *length);
        it.promised = Some((question.name.clone(), length.max(kept)));
        it.agent.failsafe.promise = Some(promise);
        if news {
            self.say(|| format!("{node} lets {} stay in office", question.name));
            self.poke(node);
        }
        true
    }

    /// What etcd holds, if the picture is current.
    fn known_for_certain(&self, node: usize) -> Option<Cluster> {
        let agent = &self.nodes[node].agent;
        let limit = beat::stale_after(&self.nodes[node].settings);
        let fresh = !agent.problem && self.clock(node).since(agent.heard) < limit;
        self.seen_by(node).filter(|_| fresh)
    }

    fn on_failsafe_told(&mut self, node: usize, round: u64, by: usize, accepted: bool) {
        // An answer that comes back over a cut link does not come back.
        if accepted && !self.linked(by, node) {
            return;
        }
        let (now, lease) = (self.clock(node), self.lease_of_lock(node));
        let name = self.nodes[by].name.clone();
        let failsafe = &mut self.nodes[node].agent.failsafe;
        let wish = failsafe.wish.clone();
        let answer = (round, name.as_str(), accepted);
        if failsafe.rounds.answered(now, answer, wish.as_ref(), lease) {
            self.stay_in_office(node);
        }
    }

    /// Everybody has accepted.
    fn stay_in_office(&mut self, node: usize) {
        let Some(extension) = self.nodes[node].agent.failsafe.rounds.extension else {
            return;
        };
        self.say(|| format!("{node} stays in office: {extension:?}"));
        *self.seen.faults.entry("kept in office").or_default() += 1;
        self.oracle.kept_until[node] = self.truly(node, extension.deadlines().gone);
        self.extend_guard(node, extension.deadlines().guard);
    }

    /// A round came to its end since this was decided, and an order to name somebody else must not be carried out.
    pub(crate) fn names_too_late(&self, node: usize, op: &Op) -> bool {
        matches!(op, Op::PutFailsafe { .. }) && self.is_extended(node)
    }
}
