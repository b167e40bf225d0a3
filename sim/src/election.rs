//! etcd without a leader: its members raise their terms until one is elected, and agents ask them for
//! these. It is drawn from a generator of its own, so that a world without it stays what it was.
//!
//! Until a majority has moved on, the former leader may hang for its clients and still end leases.
//! Now and then one node is deaf as well: only its questions for terms are answered. And the lock
//! may vanish just then.

use pgherd_ha::LeaseFact;
use pgherd_ha::lease::Lease;
use pgherd_model::{RaftAnswer, Span, Time};
use pgherd_scenario::words::EtcdPart;

use crate::acts::Act;
use crate::event::{ETCD, Event};
use crate::rng::Rng;
use crate::world::World;

const MEMBERS: usize = 3;

/// How far an election is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Begin,
    /// The leader is lost.
    Lose,
    /// A member stands for election.
    Stand,
    /// The former leader is back before anybody was elected.
    Back,
    /// The deaf node hears again.
    Hears,
}

struct UnderWay {
    /// Whoever is elected from then on leads.
    ends: Time,
    /// This member does not answer, or has not heard of the election.
    away: Option<usize>,
    lost: Option<usize>,
    /// How often in a thousand a member hears of another one's election.
    hears: u64,
}

/// etcd's members.
pub(crate) struct Quorum {
    rng: Rng,
    left: u64,
    terms: [u64; MEMBERS],
    /// That of the last leader.
    pub(crate) term: u64,
    lead: usize,
    under_way: Option<UnderWay>,
    deaf: Option<usize>,
    /// Somebody has ended this member, until somebody starts it again.
    dead: [bool; MEMBERS],
}

impl Quorum {
    pub(crate) fn draw(seed: u64) -> Quorum {
        let mut rng = Rng::new(seed ^ 0x5EA7_0F1E_C710_0000);
        let left = if rng.chance(500) {
            rng.between(1, 8)
        } else {
            0
        };
        Quorum {
            rng,
            left,
            terms: [2; MEMBERS],
            term: 2,
            lead: 0,
            under_way: None,
            deaf: None,
            dead: [false; MEMBERS],
        }
    }

    /// No elections but those that somebody causes.
    pub(crate) fn calm(seed: u64) -> Quorum {
        Quorum {
            left: 0,
            ..Quorum::draw(seed)
        }
    }

    /// Too few members are left to agree on anything, also on the end of a lease.
    pub(crate) fn is_lost(&self) -> bool {
        self.dead.iter().filter(|dead| **dead).count() > MEMBERS / 2
    }

    /// Its members elect a leader.
    pub(crate) fn is_voting(&self) -> bool {
        self.under_way.is_some()
    }

    /// This node's requests are answered, as far as etcd's members are concerned.
    pub(crate) fn answers(&self, node: usize) -> bool {
        self.under_way.is_none() && self.deaf != Some(node)
    }

    /// Nothing that the last leader proposes is committed any more.
    pub(crate) fn deposed(&self) -> bool {
        let beyond = self.terms.iter().filter(|term| **term > self.term);
        self.under_way.is_some() && beyond.count() > MEMBERS / 2
    }

    fn take_over(&mut self, member: usize) {
        let newest = self.terms.iter().max().map_or(0, |term| *term);
        self.terms = [newest; MEMBERS];
        (self.term, self.lead, self.under_way) = (newest, member, None);
    }

    /// All members were away.
    pub(crate) fn restarted(&mut self) {
        self.terms[self.lead] += 1;
        self.take_over(self.lead);
    }

    fn some(&mut self, count: usize) -> usize {
        usize::try_from(self.rng.below(count as u64)).unwrap_or(0)
    }
}

impl World {
    pub(crate) fn next_election(&mut self) {
        if self.quorum.left > 0 {
            let wait = self.quorum.rng.between(1_000, 30_000);
            self.step_election(wait, Step::Begin);
        }
    }

    fn step_election(&mut self, wait: u64, step: Step) {
        self.at(self.now + Span::from_millis(wait), Event::Election(step));
    }

    pub(crate) fn on_election(&mut self, step: Step) {
        if self.chaos.healed.is_some() {
            return;
        }
        match step {
            Step::Begin => self.begin_election(),
            Step::Lose => self.lose_leader(),
            Step::Stand => self.stand(),
            Step::Back if self.quorum.under_way.is_some() && !self.quorum.deposed() => {
                self.quorum.under_way = None;
                self.say(|| "etcd's leader is back".into());
                self.election_over();
            }
            Step::Back => {}
            Step::Hears => {
                self.quorum.deaf = None;
                self.chaos.open = self.chaos.open.saturating_sub(1);
            }
        }
    }

    fn begin_election(&mut self) {
        let holder = self.etcd.picture();
        let holder = holder.leader_name().and_then(|name| self.node_of(name));
        let (Some(holder), false) = (holder, self.etcd.down) else {
            self.next_election();
            return;
        };
        self.quorum.left -= 1;
        if self.quorum.deaf.is_some() || !self.quorum.rng.chance(400) {
            self.lose_leader();
            return;
        }
        // Early enough for the others to notice what becomes of the lock.
        self.deafen(holder);
        let wait = self.quorum.rng.between(0, 1_500);
        self.step_election(wait, Step::Lose);
    }

    fn lose_leader(&mut self) {
        let length = match self.quorum.rng.below(3) {
            0 => self.quorum.rng.between(200, 2_500),
            1 => self.quorum.rng.between(2_000, 6_000),
            _ => self.quorum.rng.between(4_000, 15_000),
        };
        let rng = &mut self.quorum.rng;
        let (dead, first) = (rng.chance(700), rng.between(100, 2_000));
        let back = rng.chance(200).then(|| rng.between(100, 4_000));
        let lead = self.quorum.lead;
        self.quorum.under_way = Some(UnderWay {
            ends: self.now + Span::from_millis(length),
            away: Some(lead),
            lost: dead.then_some(lead),
            hears: 600,
        });
        self.chaos.open += 1;
        self.chaos.disturbed = self.now;
        self.happened("election of etcd");
        self.seen.hits += 1;
        self.say(|| format!("etcd loses its leader for {length} ms"));
        self.step_election(first, Step::Stand);
        if let Some(back) = back {
            self.step_election(back, Step::Back);
        }
    }

    /// Somebody ends members of etcd. What is lost with one that does not lead is not modelled: those who
    /// were connected to it go on with another one.
    pub(crate) fn kill_etcd(&mut self, part: EtcdPart) {
        let lead = self.quorum.lead;
        let dead = &self.quorum.dead;
        let follower = (0..MEMBERS).find(|member| *member != lead && !dead[*member]);
        if matches!(part, EtcdPart::Leader | EtcdPart::Majority) {
            self.quorum.dead[lead] = true;
        }
        if let Some(follower) = follower
            && matches!(part, EtcdPart::Minority | EtcdPart::Majority)
        {
            self.quorum.dead[follower] = true;
        }
        if self.quorum.is_lost() {
            self.quorum.under_way = None;
            self.etcd.down = true;
            return;
        }
        if part != EtcdPart::Leader {
            return;
        }
        self.chaos.open += 1;
        self.quorum.under_way = Some(UnderWay {
            ends: self.now,
            away: Some(lead),
            lost: Some(lead),
            hears: 1000,
        });
        // Followers wait one to two seconds (etcd's defaults) before they stand for election; the other one
        // hears of it. Longer elections are drawn by the random stories.
        let wait = self.quorum.rng.between(1_000, 2_000);
        self.step_election(wait, Step::Stand);
    }

    /// All members of etcd run.
    pub(crate) fn start_etcd(&mut self) {
        self.quorum.dead = [false; MEMBERS];
        self.etcd_up();
    }

    /// Only questions for terms of the holder of the lock are answered from now on; its lock may vanish,
    /// or its lease with it.
    fn deafen(&mut self, holder: usize) {
        let rng = &mut self.quorum.rng;
        let (hears, vanishes, lease) = (rng.between(100, 20_000), rng.chance(600), rng.chance(700));
        self.quorum.deaf = Some(holder);
        self.chaos.open += 1;
        self.say(|| format!("{holder} is deaf for {hears} ms"));
        self.step_election(hears, Step::Hears);
        if !vanishes || self.pending().is_some() {
            return;
        }
        let picture = self.etcd.picture();
        if let Some(leader) = picture.leader.as_ref().filter(|_| lease) {
            self.say(|| format!("lease {} is revoked", leader.lease));
            self.etcd.revoke(leader.lease);
            self.chaos.vanished = Some(self.now);
            self.announce();
        } else {
            self.on_act(Act::DeleteLeader);
        }
    }

    /// One member that has heard of the election raises its term; another one may vote for it.
    fn stand(&mut self) {
        let Some(under_way) = &self.quorum.under_way else {
            return;
        };
        let (ends, away, chance) = (under_way.ends, under_way.away, under_way.hears);
        let quorum = &mut self.quorum;
        let mut member = quorum.some(MEMBERS);
        if away == Some(member) {
            member = (member + 1) % MEMBERS;
        }
        quorum.terms[member] += 1;
        let term = quorum.terms[member];
        let mut votes = 1;
        for other in 0..MEMBERS {
            let hears = away != Some(other) && other != member && quorum.rng.chance(chance);
            if hears && quorum.terms[other] < term {
                quorum.terms[other] = term;
                votes += 1;
            }
        }
        if votes > MEMBERS / 2 && self.now >= ends {
            let more = self.quorum.rng.pick(&[0, 1]);
            self.elected(member, Span::from_secs(more));
            return;
        }
        let wait = self.quorum.rng.between(50, 1_600);
        self.step_election(wait, Step::Stand);
    }

    /// Every lease has its full life again, and maybe more.
    fn elected(&mut self, member: usize, more: Span) {
        self.quorum.take_over(member);
        let term = self.quorum.term;
        self.say(|| format!("etcd has a leader in term {term}"));
        let now = self.now;
        for (id, expires) in self.etcd.prolong(now, more) {
            self.at(expires, Event::Lease { id, expires });
        }
        self.election_over();
    }

    fn election_over(&mut self) {
        self.chaos.open = self.chaos.open.saturating_sub(1);
        self.chaos.disturbed = self.now;
        // Soon enough, now and then, for somebody who is still waiting.
        match self.quorum.left > 0 && self.quorum.rng.chance(400) {
            true => {
                let wait = self.quorum.rng.between(10, 4_000);
                self.step_election(wait, Step::Begin);
            }
            false => self.next_election(),
        }
    }

    /// No more of it.
    pub(crate) fn end_elections(&mut self) {
        self.quorum.left = 0;
        self.quorum.deaf = None;
        if self.quorum.under_way.is_some() {
            self.elected(self.quorum.lead, Span::from_secs(1));
        }
    }

    // The renewal thread's questions, as `agent::election` asks them.

    /// A renewal was sent: unless it is answered at once, the members are asked.
    pub(crate) fn watch_elections(&mut self, node: usize) {
        let renewing = &mut self.nodes[node].agent.renewing;
        if std::mem::replace(&mut renewing.watching, true) {
            return;
        }
        let Some(fact) = renewing.fact else {
            renewing.watching = false;
            return;
        };
        let run = self.nodes[node].agent.run;
        let at = self.now + fact.length / 50;
        self.at(at, Event::Raft { node, run });
    }

    pub(crate) fn on_raft(&mut self, node: usize) {
        let asked = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        let fact = agent.renewing.fact.filter(|_| agent.renewing.unanswered);
        let Some(fact) = fact else {
            agent.renewing.watching = false;
            return;
        };
        let run = agent.run;
        let linked = self.links[node][ETCD] && self.links[ETCD][node];
        if agent.renewing.in_flight && linked && !self.etcd.down {
            for member in 0..MEMBERS {
                let wait = self.packet();
                let event = Event::RaftAsked {
                    node,
                    run,
                    member,
                    asked,
                };
                self.at(self.now + wait, event);
            }
        }
        let at = self.now + fact.length / 50;
        self.at(at, Event::Raft { node, run });
    }

    fn packet(&mut self) -> Span {
        let rng = &mut self.quorum.rng;
        let millis = match rng.chance(50) {
            true => rng.between(5, 300),
            false => rng.below(3),
        };
        Span::from_micros(millis * 1000 + rng.below(1000))
    }

    pub(crate) fn on_raft_asked(&mut self, node: usize, run: u64, member: usize, asked: Time) {
        let lost = self.quorum.under_way.as_ref().and_then(|it| it.lost);
        let dead = lost == Some(member) || self.quorum.dead[member];
        if self.etcd.down || dead || self.quorum.rng.chance(100) {
            return;
        }
        let wait = self.packet();
        let answer = RaftAnswer {
            member: member as u64,
            term: self.quorum.terms[member],
            asked,
            answered: Time::ZERO,
        };
        self.at(self.now + wait, Event::RaftTold { node, run, answer });
    }

    pub(crate) fn on_raft_told(&mut self, node: usize, mut answer: RaftAnswer) {
        let now = self.clock(node);
        answer.answered = now;
        let renewing = &mut self.nodes[node].agent.renewing;
        renewing.elections.note(answer);
        let Some(fact) = renewing.fact.filter(|_| renewing.in_flight) else {
            return;
        };
        let lease = Lease {
            sent: fact.sent,
            life: fact.length,
        };
        let Some(proof) = renewing.elections.proof(&[0, 1, 2], &lease, now) else {
            return;
        };
        let later = LeaseFact {
            sent: proof.sent,
            ..fact
        };
        renewing.fact = Some(later);
        let attached = renewing.attached == fact.lease;
        self.say(|| format!("{node} its lease lives on: {proof:?}"));
        self.happened("lease prolonged by an election");
        if attached {
            self.extend_guard(node, later.deadlines().guard);
        }
    }
}
