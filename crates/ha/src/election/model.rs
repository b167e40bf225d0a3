//! A small world around [`Elections`]: three or five members of etcd with terms, votes, logs and a
//! lessor each, that are killed, frozen and parted, and one holder of a lease whose renewals get lost.
//! Never may the lease be ended before the moment that its holder counts on.
//!
//! Left out are two things that belong together: a leader that does not know yet that there is
//! another one confirms no renewal here, and a new leader adds no election timeout to the lives
//! that it gives. A proposal is not passed on from a former leader to the next (`race` minds that).

use alloc::vec;
use alloc::vec::Vec;

use pgherd_model::{RaftAnswer, Span, Time};

use super::{Elections, nth_greatest};
use crate::lease::Lease;

const STEP: u64 = 10;
const LIFE: u64 = 5000;
const ELECTION: u64 = 1000;
const HEARTBEAT: u64 = 100;

/// By which rule the holder believes in more life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// That of [`Elections`].
    Proof,
    /// A majority answers.
    Answers,
    /// One member has moved on.
    OneMoved,
    /// The latest question that found anybody in the old term.
    AnyQuestion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    TakesOver,
    Revoke,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
}

#[derive(Clone, Debug)]
enum Message {
    Vote(u64, (u64, usize)),
    Voted(u64),
    Append(u64, Vec<(u64, Entry)>),
    Appended(u64, usize),
    Renew { sent: u64, passed_on: bool },
    Renewed { sent: u64 },
    Ask { asked: u64 },
    Told { asked: u64, term: u64 },
}

/// The first three fields are on its disk.
#[derive(Clone, Debug, Default)]
struct Member {
    term: u64,
    voted: Option<usize>,
    log: Vec<(u64, Entry)>,
    role: Role,
    lead: Option<usize>,
    waited: u64,
    timeout: u64,
    votes: Vec<usize>,
    /// Per member: so much of the log it has, and it was heard since the last check.
    follows: Vec<(usize, bool)>,
    checked: u64,
    beat: u64,
    /// Its lessor is in charge, and lets the lease run out then.
    expires: Option<u64>,
    down_until: u64,
    frozen_until: u64,
}

/// Everything; the holder of the lease has the number after the last member.
struct World {
    random: u64,
    now: u64,
    members: Vec<Member>,
    mail: Vec<(u64, usize, usize, Message)>,
    cut: Vec<(usize, usize, u64)>,
    renewals_lost_until: u64,
    rule: Rule,
    basis: Option<u64>,
    confirmed: u64,
    tried: u64,
    polled: u64,
    elections: Elections,
    answers: Vec<RaftAnswer>,
    /// The lease was ended then.
    ended: Option<u64>,
    outlived: u32,
}

impl World {
    fn new(seed: u64, rule: Rule) -> World {
        let count = if seed.is_multiple_of(3) { 5 } else { 3 };
        let mut world = World {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 10_000,
            members: vec![Member::default(); count],
            mail: Vec::new(),
            cut: Vec::new(),
            renewals_lost_until: 0,
            rule,
            basis: None,
            confirmed: 0,
            tried: 0,
            polled: 0,
            elections: Elections::default(),
            answers: Vec::new(),
            ended: None,
            outlived: 0,
        };
        for member in 0..count {
            world.wait_anew(member);
        }
        world
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % sides
    }

    fn some_member(&mut self) -> usize {
        let count = self.members.len() as u64;
        usize::try_from(self.roll(count)).unwrap()
    }

    fn holder(&self) -> usize {
        self.members.len()
    }

    fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    fn runs(&self, member: usize) -> bool {
        let it = &self.members[member];
        it.down_until <= self.now && it.frozen_until <= self.now
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        let slow = self.roll(40) == 0;
        let delay = 1 + if slow { self.roll(300) } else { self.roll(15) };
        self.mail.push((self.now + delay, from, to, message));
    }

    fn everybody_else(&self, member: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.members.len()).filter(move |other| *other != member)
    }

    fn wait_anew(&mut self, member: usize) {
        // Narrow, so that votes are often split.
        let timeout = ELECTION + self.roll(ELECTION / 2);
        let it = &mut self.members[member];
        (it.waited, it.timeout) = (0, timeout);
    }

    fn follow(&mut self, member: usize, term: u64, lead: Option<usize>) {
        let it = &mut self.members[member];
        if term > it.term {
            (it.term, it.voted) = (term, None);
        }
        (it.role, it.lead, it.expires) = (Role::Follower, lead, None);
        self.wait_anew(member);
    }

    /// One step; false: the story is over.
    fn step(&mut self) -> bool {
        self.now += STEP;
        self.break_something();
        let (due, later): (Vec<_>, Vec<_>) = core::mem::take(&mut self.mail)
            .into_iter()
            .partition(|(at, ..)| *at <= self.now);
        self.mail = later;
        for (at, from, to, message) in due {
            if to < self.members.len() && self.members[to].frozen_until > self.now {
                // Read when it goes on.
                self.mail.push((at, from, to, message));
                continue;
            }
            let pair = (from.min(to), from.max(to));
            let cut = self
                .cut
                .iter()
                .any(|(a, b, until)| (*a, *b) == pair && *until > self.now);
            if !cut && (to == self.holder() || self.runs(to)) {
                self.take(from, to, message);
            }
        }
        for member in 0..self.members.len() {
            if self.runs(member) {
                self.tick(member);
            }
        }
        self.hold()
    }

    fn break_something(&mut self) {
        if self.roll(150) > 0 {
            return;
        }
        self.cut.retain(|(.., until)| *until > self.now);
        let mut victim = self.some_member();
        if self.roll(2) == 0 {
            let leads = |it: &Member| it.role == Role::Leader;
            victim = self.members.iter().position(leads).unwrap_or(victim);
        }
        let until = self.now + 100 + self.roll(6000);
        let other = self.some_member();
        let holder = self.holder();
        match self.roll(6) {
            0 => {
                let it = &self.members[victim];
                let (term, voted, log) = (it.term, it.voted, it.log.clone());
                self.members[victim] = Member {
                    term,
                    voted,
                    log,
                    down_until: until,
                    ..Member::default()
                };
                self.wait_anew(victim);
            }
            1 => self.members[victim].frozen_until = until,
            2 => {
                for peer in self.everybody_else(victim) {
                    self.cut.push((victim.min(peer), victim.max(peer), until));
                }
            }
            3 => self.cut.push((victim.min(other), victim.max(other), until)),
            4 => self.cut.push((victim, holder, until)),
            _ => self.renewals_lost_until = until,
        }
    }

    fn tick(&mut self, member: usize) {
        let now = self.now;
        let majority = self.majority();
        let it = &mut self.members[member];
        it.waited += STEP;
        if it.role != Role::Leader {
            if it.waited >= it.timeout {
                self.stand(member);
            }
            return;
        }
        if now >= it.checked + ELECTION {
            let heard = it.follows.iter().filter(|(_, heard)| *heard).count() + 1;
            it.checked = now;
            it.follows.iter_mut().for_each(|(_, heard)| *heard = false);
            if heard < majority {
                let term = it.term;
                self.follow(member, term, None);
                return;
            }
        }
        if it.expires.is_some_and(|at| now >= at) && !it.log.contains(&(it.term, Entry::Revoke)) {
            it.log.push((it.term, Entry::Revoke));
        }
        if now >= it.beat + HEARTBEAT {
            it.beat = now;
            let (term, log) = (it.term, it.log.clone());
            for peer in self.everybody_else(member) {
                self.send(member, peer, Message::Append(term, log.clone()));
            }
        }
    }

    fn stand(&mut self, member: usize) {
        self.wait_anew(member);
        let it = &mut self.members[member];
        it.term += 1;
        (it.role, it.lead, it.voted) = (Role::Candidate, None, Some(member));
        it.votes = vec![member];
        let last = (it.log.last().map_or(0, |entry| entry.0), it.log.len());
        let term = it.term;
        for peer in self.everybody_else(member) {
            self.send(member, peer, Message::Vote(term, last));
        }
    }

    fn take(&mut self, from: usize, to: usize, message: Message) {
        match message {
            Message::Vote(term, last) => self.asked_for_vote(from, to, term, last),
            Message::Voted(term) => self.voted(from, to, term),
            Message::Append(term, log) => {
                if term >= self.members[to].term {
                    self.follow(to, term, Some(from));
                    self.members[to].log = log;
                }
                let it = &self.members[to];
                let answer = Message::Appended(it.term, it.log.len());
                self.send(to, from, answer);
            }
            Message::Appended(term, length) => self.appended(from, to, term, length),
            Message::Renew { sent, passed_on } => self.renew(to, sent, passed_on),
            Message::Renewed { sent } => {
                self.confirmed = self.confirmed.max(sent);
                self.basis = self.basis.max(Some(sent));
                self.elections.forget();
                self.answers.clear();
            }
            Message::Ask { asked } => {
                let term = self.members[to].term;
                self.send(to, from, Message::Told { asked, term });
            }
            Message::Told { asked, term } => {
                let answer = RaftAnswer {
                    member: from as u64,
                    term,
                    asked: Time::from_millis(asked),
                    answered: Time::from_millis(self.now),
                };
                self.elections.note(answer);
                let same = |it: &RaftAnswer| (it.member, it.term) == (answer.member, term);
                self.answers
                    .retain(|it| !same(it) || it.asked > answer.asked);
                self.answers.push(answer);
            }
        }
    }

    fn asked_for_vote(&mut self, from: usize, to: usize, term: u64, last: (u64, usize)) {
        let it = &self.members[to];
        // Whoever hears its leader does not listen to others.
        if it.lead.is_some() && it.waited < ELECTION && it.role != Role::Leader {
            return;
        }
        if term > it.term {
            self.follow(to, term, None);
        }
        let it = &mut self.members[to];
        let own = (it.log.last().map_or(0, |entry| entry.0), it.log.len());
        if term == it.term && it.voted.is_none_or(|to| to == from) && last >= own {
            it.voted = Some(from);
            self.wait_anew(to);
            self.send(to, from, Message::Voted(term));
        }
    }

    fn voted(&mut self, from: usize, to: usize, term: u64) {
        let majority = self.majority();
        let count = self.members.len();
        let now = self.now;
        let it = &mut self.members[to];
        if it.role != Role::Candidate || it.term != term || it.votes.contains(&from) {
            return;
        }
        it.votes.push(from);
        if it.votes.len() >= majority {
            (it.role, it.lead) = (Role::Leader, Some(to));
            it.log.push((term, Entry::TakesOver));
            it.follows = vec![(0, false); count];
            (it.checked, it.beat) = (now, 0);
        }
    }

    fn appended(&mut self, from: usize, to: usize, term: u64, length: usize) {
        if term > self.members[to].term {
            self.follow(to, term, None);
            return;
        }
        let (majority, now) = (self.majority(), self.now);
        let it = &mut self.members[to];
        if it.role != Role::Leader || term < it.term {
            return;
        }
        it.follows[from] = (it.follows[from].0.max(length), true);
        let lengths = it.follows.iter().map(|(length, _)| *length);
        let Some(committed) = nth_greatest(lengths, majority - 1) else {
            return;
        };
        let entries = &it.log[..committed.min(it.log.len())];
        if entries.contains(&(it.term, Entry::TakesOver)) && it.expires.is_none() {
            it.expires = Some(now + LIFE);
        }
        if entries.contains(&(it.term, Entry::Revoke)) {
            self.ended.get_or_insert(now);
        }
    }

    fn renew(&mut self, member: usize, sent: u64, passed_on: bool) {
        let newest = self.members.iter().filter(|it| it.role == Role::Leader);
        let newest = newest.map(|it| it.term).max();
        let (now, holder) = (self.now, self.holder());
        let it = &mut self.members[member];
        match (it.role, it.lead) {
            (Role::Leader, _)
                if it.expires.is_some_and(|at| now < at) && newest == Some(it.term) =>
            {
                it.expires = Some(now + LIFE);
                self.send(member, holder, Message::Renewed { sent });
            }
            (Role::Leader, _) => {}
            (_, Some(lead)) if !passed_on => {
                let passed_on = true;
                self.send(member, lead, Message::Renew { sent, passed_on });
            }
            _ => {}
        }
    }

    /// What the holder of the lease does: as `agent::renewal`.
    fn hold(&mut self) -> bool {
        let (now, holder) = (self.now, self.holder());
        let unanswered = self.confirmed < self.tried && now >= self.confirmed + 600;
        let pause = if unanswered { 100 } else { 500 };
        if now >= self.tried + pause {
            self.tried = now;
            if self.renewals_lost_until <= now {
                let to = self.some_member();
                let renew = Message::Renew {
                    sent: now,
                    passed_on: false,
                };
                self.send(holder, to, renew);
            }
        }
        let Some(basis) = self.basis else {
            return self.ended.is_none() && now < 60_000;
        };
        if unanswered && now >= self.polled + 100 {
            self.polled = now;
            for member in 0..self.members.len() {
                self.send(holder, member, Message::Ask { asked: now });
            }
        }
        if self.ended.is_some() {
            return false;
        }
        let overdue = now >= basis + LIFE * 6 / 10;
        if let Some(later) = self.later(basis).filter(|_| !overdue) {
            assert!(later > basis && later <= now);
            let before = (basis - self.confirmed) / (LIFE * 6 / 10);
            self.outlived += u32::from(before == 0 && now >= self.confirmed + LIFE / 2);
            self.basis = Some(later);
        }
        // Whoever is overdue demotes; the lease must live on for a while all the same.
        now < (basis + 2 * LIFE).min(60_000)
    }

    fn later(&self, basis: u64) -> Option<u64> {
        let lease = Lease {
            sent: Time::from_millis(basis),
            life: Span::from_millis(LIFE),
        };
        let voters: Vec<u64> = (0..self.members.len() as u64).collect();
        let now = Time::from_millis(self.now);
        if self.rule == Rule::Proof {
            let proof = self.elections.proof(&voters, &lease, now)?;
            return Some(proof.sent.0 / 1_000_000);
        }
        let term_of = |member: u64| {
            let of = self.answers.iter().filter(|it| it.member == member);
            of.map(|it| it.term).max()
        };
        let terms: Vec<u64> = voters.iter().filter_map(|id| term_of(*id)).collect();
        let reached = match self.rule {
            Rule::OneMoved => *terms.iter().max()?,
            Rule::Answers => u64::MAX,
            Rule::Proof | Rule::AnyQuestion => {
                nth_greatest(terms.iter().copied(), self.majority())?
            }
        };
        let asked = voters.iter().filter_map(|id| {
            let of = |it: &&RaftAnswer| it.member == *id && it.term < reached;
            self.answers
                .iter()
                .filter(of)
                .map(|it| it.asked.0 / 1_000_000)
                .max()
        });
        let count = if self.rule == Rule::AnyQuestion {
            1
        } else {
            self.majority()
        };
        nth_greatest(asked, count).filter(|later| *later > basis)
    }
}

/// How often an election was outlived that would have ended as a demotion, and the first seed in which
/// the lease was ended too soon.
fn worlds(rule: Rule, seeds: u64) -> (u32, Option<u64>) {
    let mut outlived = 0;
    for seed in 0..seeds {
        let mut world = World::new(seed, rule);
        let mut held = None;
        while world.ended.is_none() && world.now < 60_000 {
            held = world.basis;
            if !world.step() {
                break;
            }
        }
        outlived += world.outlived;
        if let (Some(ended), Some(basis)) = (world.ended, held.max(world.basis))
            && ended < basis + LIFE
        {
            return (outlived, Some(seed));
        }
    }
    (outlived, None)
}

#[test]
fn a_lease_is_never_ended_before_its_holder_expects_that() {
    let (outlived, broken) = worlds(Rule::Proof, 1500);
    assert_eq!(broken, None);
    assert!(outlived > 100, "too quiet a world: {outlived}");
}

#[test]
fn weaker_rules_are_found_out() {
    for rule in [Rule::Answers, Rule::OneMoved, Rule::AnyQuestion] {
        let (_, broken) = worlds(rule, 3000);
        assert!(broken.is_some(), "{rule:?} was not found out");
    }
}
