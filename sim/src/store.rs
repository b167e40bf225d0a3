//! Between the agents and etcd: requests, answers, the watch, the keeper and the renewal thread,
//! as `dcs` and `agent::renewal` do it.

use std::rc::Rc;

use pgherd_ha::LeaseFact;
use pgherd_ha::lease::{self, Lease, Licence, Renewal};
use pgherd_model::{Answer, Cluster, Op, Span, Time, proof_pause};

use crate::agent::{Asked, Pending};
use crate::etcd::By;
use crate::event::{Call, ETCD, Event, NODES, Reply};
use crate::rng::Rng;
use crate::world::World;

/// How soon the keeper reads again what the watch has not told.
const GRACE: Span = Span::from_millis(100);

impl World {
    /// Sends a request; the answer, or its absence, arrives as an event.
    pub(crate) fn call(&mut self, node: usize, call: Call, asked: Asked, budget: Span) {
        let id = self.number();
        let run = self.nodes[node].agent.run;
        self.nodes[node].agent.asked.insert(id, asked);
        if self.linked(node, ETCD) {
            let wait = self.delay();
            self.after(
                wait,
                Event::Request {
                    node,
                    run,
                    id,
                    call,
                },
            );
        }
        let at = self.now + budget;
        self.at(at, Event::NoAnswer { node, run, id });
    }

    /// The request that carries out an order, decided on what this agent sees now.
    pub(crate) fn order(&self, node: usize, op: Rc<Op>) -> Call {
        let it = &self.nodes[node];
        let picture = it.agent.picture.as_ref();
        let own = picture.and_then(|picture| picture.members.get(&it.name));
        let member = own.map(|own| own.revision);
        Call::Store { op, member }
    }

    pub(crate) fn on_store(&mut self, event: Event) {
        let agent = match &event {
            Event::Answer { node, run, .. } | Event::Watch { node, run, .. } => {
                if !self.linked(ETCD, *node) {
                    return;
                }
                Some((*node, *run))
            }
            Event::NoAnswer { node, run, .. } | Event::Keeper { node, run } => Some((*node, *run)),
            _ => None,
        };
        if let Some((node, run)) = agent
            && !self.awake(node, run, &event)
        {
            return;
        }
        match event {
            Event::Request {
                node,
                run,
                id,
                call,
            } => self.on_request(node, run, id, &call),
            Event::Answer {
                node,
                id,
                reply,
                picture,
                term,
                ..
            } => {
                // Answers to renewals carry no term.
                if !matches!(reply, Reply::Lease(_)) {
                    self.note_term(node, term);
                }
                self.on_answer(node, id, reply, picture);
            }
            Event::NoAnswer { node, id, .. } => self.on_no_answer(node, id),
            Event::Watch { node, picture, .. } => self.watched(node, &picture),
            Event::Keeper { node, .. } => self.keep(node),
            Event::Lease { id, expires } => self.lease_over(id, expires),
            Event::Revoke { id, expires } => self.revoke(id, expires),
            _ => {}
        }
    }

    /// The keeper asks then, unless something else is planned before.
    pub(crate) fn ask_after(&mut self, node: usize, pause: Span) {
        let (run, at) = (self.nodes[node].agent.run, self.now + pause);
        self.nodes[node].agent.keeper_at = Some(at);
        self.at(at, Event::Keeper { node, run });
    }

    fn interval(&self, node: usize) -> Span {
        proof_pause(self.nodes[node].settings.lease_ttl)
    }

    /// The keeper asks, unless it may rest: news of the watch are enough.
    fn keep(&mut self, node: usize) {
        let agent = &self.nodes[node].agent;
        // It waits for an answer, or this was planned and put off.
        if agent.keeper_at.is_none_or(|at| self.now < at) {
            return;
        }
        let sent = self.clock(node);
        let age = sent.since(agent.fresh_at);
        let calm = agent.missed == 0 && !agent.problem && agent.behind.is_none();
        if calm && age < self.interval(node) {
            let pause = self.interval(node) - age;
            return self.ask_after(node, pause.max(Span::from_millis(1)));
        }
        if let Some(rest) = agent.rest.filter(|_| calm) {
            let due = agent.heard + rest;
            if sent < due {
                let pause = self.truly(node, due).since(self.now);
                return self.ask_after(node, pause.max(Span::from_millis(1)));
            }
        }
        self.nodes[node].agent.keeper_at = None;
        let limit =
            (self.nodes[node].settings.lease_ttl / 5).clamp(Span::from_secs(1), Span::from_secs(2));
        self.call(node, Call::Read, Asked::Keeper { sent }, limit);
    }

    fn note_term(&mut self, node: usize, term: u64) {
        let now = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        if term > agent.term {
            (agent.term, agent.elected_by) = (term, now);
        }
    }

    /// It was not renewed since.
    fn same_lease(&self, id: i64, expires: Time) -> bool {
        self.etcd
            .leases
            .get(&id)
            .is_some_and(|lease| lease.expires == expires)
    }

    fn revoke(&mut self, id: i64, expires: Time) {
        let idle = self.quorum.deposed() || self.quorum.is_lost();
        if idle || !self.same_lease(id, expires) {
            return;
        }
        self.check_outlived(id);
        self.check_member_key(id);
        if self.etcd.revoke(id) {
            self.say(|| format!("etcd deletes lease {id}"));
            self.announce();
        }
    }

    /// etcd notices late.
    fn lease_over(&mut self, id: i64, expires: Time) {
        if self.same_lease(id, expires) {
            let late = self.rng.between(50, 500);
            self.after(late, Event::Revoke { id, expires });
        }
    }

    /// Tells all watches.
    pub(crate) fn announce(&mut self) {
        let picture = self.etcd.picture();
        for node in 0..NODES {
            if self.nodes[node].agent.alive && self.linked(ETCD, node) {
                let run = self.nodes[node].agent.run;
                let wait = if self.rng.chance(20) {
                    self.rng.between(20, 400)
                } else {
                    self.delay()
                };
                let picture = picture.clone();
                self.after(wait, Event::Watch { node, run, picture });
            }
        }
    }

    pub(crate) fn expect(&mut self, id: i64) {
        if let Some(expires) = self.etcd.leases.get(&id).map(|lease| lease.expires) {
            self.at(expires, Event::Lease { id, expires });
        }
    }

    fn on_request(&mut self, node: usize, run: u64, id: u64, call: &Call) {
        if !self.linked(node, ETCD) || self.nodes[node].agent.run != run {
            return;
        }
        let now = self.now;
        let reply = match call {
            Call::Read => Reply::Read,
            Call::Renew => {
                let held = self.nodes[node].agent.leader_lease;
                let life = self.nodes[node].settings.lease_ttl;
                // A lease of another life than is wanted now is left to run out.
                let fits = self
                    .etcd
                    .leases
                    .get(&held)
                    .is_none_or(|it| it.granted == life);
                if held == 0 || !fits {
                    if !fits {
                        self.cut_after_grant(node);
                    }
                    let lease = self.etcd.grant(now, life);
                    self.expect(lease);
                    Reply::Lease(Some((lease, life)))
                } else if self.etcd.renew(now, held) {
                    self.expect(held);
                    Reply::Lease(Some((held, life)))
                } else {
                    Reply::Lease(None)
                }
            }
            Call::Member => {
                // One of another life as well: it has to last until the key is put under another.
                let agent = &self.nodes[node].agent;
                let (held, life) = (agent.member_lease, agent.member_life);
                let kept = self.etcd.renew(now, held);
                self.expect(held);
                Reply::Lease(kept.then_some((held, life)))
            }
            Call::Store { op, member } => self.carry_out(node, op, *member),
        };
        let (picture, term) = (self.etcd.picture(), self.quorum.term);
        let wait = self.delay();
        self.after(
            wait,
            Event::Answer {
                node,
                run,
                id,
                reply,
                picture,
                term,
            },
        );
    }

    fn carry_out(&mut self, node: usize, op: &Op, member: Option<u64>) -> Reply {
        let leader_lease = self.nodes[node].agent.leader_lease;
        let takes = matches!(op, Op::AcquireLeader { .. } | Op::ReattachLeader { .. });
        if takes && leader_lease == 0 {
            return Reply::Lease(None);
        }
        let me = self.nodes[node].name.clone();
        if under_member_lease(op) && self.member_lease(node) == 0 {
            self.grant_member_lease(node);
        }
        let by = |world: &World| By {
            me: &me,
            leader_lease,
            member_lease: world.member_lease(node),
            member,
        };
        // A transaction that is refused puts nothing under a lease: nobody misses it then.
        if self.etcd.allows(&by(self), op) {
            if takes && !self.etcd.leases.contains_key(&leader_lease) {
                return Reply::Lease(None);
            }
            let lease = self.member_lease(node);
            if under_member_lease(op) && !self.etcd.leases.contains_key(&lease) {
                self.grant_member_lease(node);
            }
        }
        let before = self.etcd.writes;
        let picture = self.etcd.picture();
        let (now, by) = (self.now, by(self));
        let answer = self.etcd.run(now, &by, op);
        if self.etcd.writes != before {
            self.announce();
            self.note_named(node, op);
            self.check_release(node, op);
            self.check_named(node, &picture, op);
            self.check_healthiest(node, op);
            self.oracle.written(node, op, &self.nodes);
            self.check_request(node, &picture, op);
            self.check_sync_names();
        }
        Reply::Store(answer)
    }

    fn grant_member_lease(&mut self, node: usize) {
        let life = self.nodes[node].settings.ttl;
        let lease = self.etcd.grant(self.now, life);
        self.expect(lease);
        let agent = &mut self.nodes[node].agent;
        (agent.member_lease, agent.member_life) = (lease, life);
    }

    fn on_answer(&mut self, node: usize, id: u64, reply: Reply, picture: Rc<Cluster>) {
        let Some(asked) = self.nodes[node].agent.asked.remove(&id) else {
            return;
        };
        match (asked, reply) {
            (Asked::Keeper { sent }, _) => self.kept(node, sent, &picture),
            (Asked::Renewal { sent }, Reply::Lease(lease)) => self.renewed(node, sent, lease),
            (Asked::Member { sent }, Reply::Lease(Some((lease, _)))) => {
                if lease == self.member_lease(node) {
                    let it = &mut self.nodes[node];
                    it.agent.member_care.answered(sent, it.settings.ttl);
                } else {
                    self.poke(node);
                }
            }
            (Asked::Member { .. }, Reply::Lease(None)) => {
                self.nodes[node].agent.member_lease = 0;
                self.poke(node);
            }
            (Asked::Order(op), Reply::Store(answer)) => {
                match (&*op, &answer) {
                    (Op::LookAtLease { .. }, _) => self.proved(node, &picture),
                    (Op::Refresh, _) | (_, Answer::Refused) => self.read(node, &picture, false),
                    _ => self.echo(node, &picture),
                }
                self.stored(node, &op, answer);
            }
            (Asked::Order(_), _) => {
                // There is no such lease: the next renewal has another one granted.
                self.nodes[node].agent.leader_lease = 0;
                self.order_ended(node, None);
            }
            _ => {}
        }
    }

    /// As `act.rs` judges the answer.
    fn stored(&mut self, node: usize, op: &Op, answer: Answer) {
        let now = self.clock(node);
        let outcome = match (op, answer) {
            (Op::LookAtLease { .. }, Answer::Lease(mut sight)) => {
                // Asked and answered by the node's own clock.
                let asked = self.truly(node, now);
                sight.asked = self.nodes[node].agent.sight_asked;
                sight.answered = now;
                debug_assert!(sight.asked <= now && asked <= self.now);
                self.nodes[node].agent.sight = Some(sight);
                Some(true)
            }
            (_, Answer::Refused) => None,
            (
                Op::PutInitialize {
                    system_id: None, ..
                },
                Answer::Done { revision },
            ) => {
                self.nodes[node].agent.claim = Some(revision);
                Some(true)
            }
            (Op::PutMember(_) | Op::PutStatus { .. }, _) => Some(false),
            _ => Some(true),
        };
        self.order_ended(node, outcome);
    }

    pub(crate) fn order_ended(&mut self, node: usize, outcome: Option<bool>) {
        if let Some((number, _)) = self.nodes[node].agent.pending {
            self.on_performed(node, number, outcome);
        }
    }

    fn on_no_answer(&mut self, node: usize, id: u64) {
        let Some(asked) = self.nodes[node].agent.asked.remove(&id) else {
            return;
        };
        match asked {
            Asked::Keeper { .. } => {
                let agent = &mut self.nodes[node].agent;
                agent.missed += 1;
                let news = agent.missed >= 2 && !std::mem::replace(&mut agent.problem, true);
                if news {
                    self.poke(node);
                }
                self.ask_after(node, Span::from_millis(100));
            }
            Asked::Renewal { .. } => {
                self.nodes[node].agent.renewing.in_flight = false;
                self.renew_ended(node, false);
            }
            Asked::Order(_) => self.order_ended(node, None),
            Asked::Member { .. } => {}
        }
    }

    /// One watch event.
    fn watched(&mut self, node: usize, picture: &Rc<Cluster>) {
        let now = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        let heard = picture.revision > agent.told;
        if agent.take_events(picture, &self.etcd.turns) {
            self.poke(node);
        }
        let agent = &mut self.nodes[node].agent;
        if heard && agent.picture.is_some() {
            agent.heard = agent.heard.max(now);
        }
    }

    /// A write is done: the watch shows it within a moment. Now and then it is late, and all is read.
    fn echo(&mut self, node: usize, picture: &Rc<Cluster>) {
        let agent = &self.nodes[node].agent;
        let watches = agent.missed == 0 && agent.picture.is_some();
        let late = self.swarm.mishaps && Rng::new(self.now.0).chance(20);
        if watches && !late {
            self.watched(node, picture);
        } else {
            self.read(node, picture, false);
        }
    }

    /// A read of the revisions, before a look at a lease: it proves the picture if it shows the same.
    fn proved(&mut self, node: usize, picture: &Rc<Cluster>) {
        let agent = &mut self.nodes[node].agent;
        let known = agent.picture.as_ref().map(|known| known.revision);
        if known.is_some_and(|known| known >= picture.revision) {
            agent.fresh_at = agent.fresh_at.max(agent.sight_asked);
            agent.heard = agent.heard.max(agent.sight_asked);
        }
    }

    /// A complete read; `gap`: events before it were missed.
    fn read(&mut self, node: usize, picture: &Rc<Cluster>, gap: bool) {
        if self.nodes[node].agent.take_read(picture, gap) {
            self.poke(node);
        }
    }

    /// The keeper has read. What the watch has not told yet is waited for; a watch that goes on not to
    /// tell it is given up, and all is read.
    fn kept(&mut self, node: usize, sent: Time, picture: &Rc<Cluster>) {
        let agent = &mut self.nodes[node].agent;
        let broken = agent.missed > 0 || agent.problem;
        let known = agent.picture.as_ref().map(|known| known.revision);
        let behind = known.is_some_and(|known| known < picture.revision);
        if behind && !broken && agent.behind.replace(known.unwrap_or(0)) != known {
            self.ask_after(node, GRACE);
            return;
        }
        self.read(node, picture, broken || behind);
        let agent = &mut self.nodes[node].agent;
        agent.behind = None;
        agent.fresh_at = agent.fresh_at.max(sent);
        agent.heard = agent.heard.max(sent);
        agent.missed = 0;
        if std::mem::take(&mut agent.problem) {
            self.poke(node);
        }
        let interval = self.interval(node);
        self.ask_after(node, interval);
    }

    // The renewal thread.

    pub(crate) fn wake_renewal(&mut self, node: usize) {
        let run = self.nodes[node].agent.run;
        self.after(
            0,
            Event::Renewal {
                node,
                run,
                number: 0,
            },
        );
    }

    pub(crate) fn on_renewal(&mut self, node: usize, number: u64) {
        let now = self.clock(node);
        let renewing = &self.nodes[node].agent.renewing;
        if renewing.in_flight || (number != 0 && number != renewing.number) {
            return;
        }
        match self.next_renewal(node, now) {
            Renewal::Renew { until } => {
                self.nodes[node].agent.renewing.revoked = false;
                self.renew(node, until.since(now));
            }
            Renewal::Wait(at) => self.sleep_renewal(node, at),
            Renewal::LicenceOver(why) => {
                let renewing = &mut self.nodes[node].agent.renewing;
                if !std::mem::replace(&mut renewing.revoked, true) {
                    self.say(|| format!("{node} the lock is not renewed any more: {why}"));
                    self.poke(node);
                }
                self.sleep_renewal(node, now + Span::from_millis(200));
            }
            Renewal::Expired => self.sleep_renewal(node, now + Span::from_millis(200)),
        }
    }

    fn sleep_renewal(&mut self, node: usize, at: Time) {
        let number = self.number();
        self.nodes[node].agent.renewing.number = number;
        let run = self.nodes[node].agent.run;
        let at = self.truly(node, at);
        self.at(at, Event::Renewal { node, run, number });
    }

    fn next_renewal(&self, node: usize, now: Time) -> Renewal {
        let renewing = &self.nodes[node].agent.renewing;
        let life = self.nodes[node].settings.lease_ttl;
        if !renewing.keep {
            return Renewal::Wait(now + Span::from_secs(3600));
        }
        let pause = renewing.last_try.map_or(now, |at| at + life / 10);
        let again = Renewal::Renew {
            until: now + life / 5,
        };
        let Some(fact) = renewing.fact else {
            return if now >= pause {
                again
            } else {
                Renewal::Wait(pause)
            };
        };
        let mut licence = Licence {
            tick_finished: renewing.tick_finished,
            probe_sent: renewing.probe_sent,
            primary_since: renewing.primary_since,
            excuse: renewing.excuse,
        };
        self.mislicense(now, &mut licence);
        let held = Lease {
            sent: fact.sent,
            life: fact.length,
        };
        match lease::renewal(
            now,
            &held,
            renewing.confirmed,
            renewing.last_try,
            &licence,
            &self.nodes[node].settings,
        ) {
            Renewal::Expired
                if now >= pause && now < licence.end(&self.nodes[node].settings).at =>
            {
                again
            }
            other => other,
        }
    }

    /// Sends one renewal.
    pub(crate) fn renew(&mut self, node: usize, budget: Span) {
        let now = self.clock(node);
        let renewing = &mut self.nodes[node].agent.renewing;
        renewing.in_flight = true;
        renewing.last_try = Some(now);
        renewing.unanswered = true;
        self.call(node, Call::Renew, Asked::Renewal { sent: now }, budget);
        self.missend(node);
        self.watch_elections(node);
    }

    fn renewed(&mut self, node: usize, sent: Time, lease: Option<(i64, Span)>) {
        let now = self.clock(node);
        let sent = self.miscount(node, sent);
        let agent = &mut self.nodes[node].agent;
        agent.renewing.in_flight = false;
        let Some((lease, length)) = lease else {
            agent.leader_lease = 0;
            agent.renewing.fact = None;
            self.poke(node);
            self.renew_ended(node, false);
            return;
        };
        let before = agent.renewing.fact.filter(|old| old.lease == lease);
        let news = before.is_none();
        let outlived =
            before.is_some_and(|old| now >= agent.renewing.confirmed + old.length * 6 / 10);
        agent.renewing.unanswered = false;
        agent.renewing.elections.forget();
        agent.renewing.confirmed = sent;
        let sent = before.map_or(sent, |old| old.sent.max(sent));
        let attached = agent.renewing.attached;
        agent.leader_lease = lease;
        agent.renewing.fact = Some(LeaseFact {
            lease,
            sent,
            length,
        });
        let deadline = Lease { sent, life: length }.deadlines().guard;
        if outlived && before.is_some_and(|old| now < old.deadlines().demote_fast) {
            self.happened("election outlived");
        }
        // Only renewals of the lease under which the lock lives move the guard's deadline.
        if attached == lease {
            self.extend_guard(node, deadline);
        }
        if news {
            self.poke(node);
        }
        self.renew_ended(node, true);
    }

    fn renew_ended(&mut self, node: usize, confirmed: bool) {
        let agent = &mut self.nodes[node].agent;
        if let Some((number, Pending::RenewFirst(op))) = &agent.pending {
            let (number, op) = (*number, op.clone());
            if !std::mem::replace(&mut agent.for_order, true) {
                self.renew(node, self.nodes[node].settings.lease_ttl / 2);
                return;
            }
            if confirmed {
                agent.pending = Some((number, Pending::Order));
                let budget = self.store_budget(node);
                let call = self.order(node, op.clone());
                self.call(node, call, Asked::Order(op), budget);
            } else {
                self.on_performed(node, number, None);
            }
        }
        self.wake_renewal(node);
    }

    /// No request may keep the loop longer than the lease can bear.
    pub(crate) fn store_budget(&self, node: usize) -> Span {
        let settings = &self.nodes[node].settings;
        let held = self.nodes[node].agent.memory.held;
        let life = held.map_or(settings.lease_ttl, |held| {
            settings.lease_ttl.min(held.length)
        });
        let limit = life / 5;
        let limit = limit.clamp(Span::from_millis(500), Span::from_secs(2));
        limit.min(settings.retry_timeout)
    }
}

/// The operation puts something under the member lease.
fn under_member_lease(op: &Op) -> bool {
    matches!(
        op,
        Op::PutMember(_)
            | Op::PutInitialize {
                system_id: None,
                ..
            }
            | Op::ReleaseLeader {
                member: Some(_),
                ..
            }
    )
}
