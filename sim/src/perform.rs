//! Orders of the brain as deeds of the fakes, as `agent::act` carries them out.

use std::rc::Rc;

use pgherd_ha::{Action, Ask, JobKind, PeerFact, RemoteHistory, beat};
use pgherd_model::{
    DataDir, GuardMode, Lsn, MemberName, Op, PeerStatus, PostgresState, Role, Time, Timeline,
    Upstream,
};

use crate::agent::{Asked, Pending, Question};
use crate::event::Event;
use crate::world::World;

/// What came of one order.
pub(crate) enum Effect {
    Changed,
    Quiet,
    Failed,
    /// It takes time: an event ends it.
    Pending,
}

impl World {
    pub(crate) fn perform(&mut self, node: usize, action: Action) -> Effect {
        *self.seen.actions.entry(action.name()).or_default() += 1;
        *self.seen.kinds.entry(kind(&action)).or_default() += 1;
        self.trace.action(node, action.name());
        self.oracle.ordered(node, &action);
        match action {
            Action::Store(op) => self.order_store(node, op),
            Action::AskPeers(asks) => self.ask_peers(node, asks),
            Action::AskHistory {
                member, timeline, ..
            } => self.ask_history(node, &member, timeline),
            Action::StartJob(kind) => {
                self.start_job(node, kind);
                Effect::Changed
            }
            Action::SetUpstream(upstream) => self.set_upstream(node, upstream),
            Action::StopReceiving => {
                self.nodes[node].pg.disk.upstream = None;
                self.nodes[node].pg.far = false;
                self.drop_stream(node);
                self.soon(node, Some(true), 20)
            }
            Action::EndSenders(pids) => self.end_senders(node, &pids),
            Action::ArmGuard { pid, no_later } => self.arm(node, pid, no_later),
            Action::TryGuard { pid } => self.try_guard(node, pid),
            Action::DisarmGuard => {
                self.disarm(node);
                Effect::Quiet
            }
            Action::ReserveTimelines { last } => {
                // Now and then the disk is full.
                if self.mishap(200) {
                    return Effect::Failed;
                }
                self.nodes[node].pg.disk.files.fill(last.0);
                Effect::Changed
            }
            Action::CreateSlot(name) => self.slot(node, name, |slots, name| {
                slots.entry(name).or_insert(None);
            }),
            // One that is in use stays.
            Action::DropSlot(name) if self.uses_slot(node, &name) => self.soon(node, Some(true), 2),
            Action::DropSlot(name) => {
                self.nodes[node].pg.disk.logical.remove(&name);
                self.slot(node, name, |slots, name| {
                    slots.remove(&name);
                })
            }
            Action::CreateLogicalSlot(slot) => self.logical_slot(node, slot.name, None),
            Action::AdvanceLogicalSlot(slot, lsn) => self.logical_slot(node, slot.name, Some(lsn)),
            Action::AdvanceSlot(name, lsn) => self.slot(node, name, |slots, name| {
                slots.insert(name, Some(lsn));
            }),
            Action::SetSynchronousStandbys(names) => self.set_sync_names(node, names),
            Action::Checkpoint => {
                self.checkpoint_postgres(node);
                Effect::Quiet
            }
            Action::Exit { code, message } => {
                self.say(|| format!("{node} exits with {code}: {message}"));
                self.exited(node, code);
                Effect::Pending
            }
        }
    }

    fn set_upstream(&mut self, node: usize, upstream: Option<Upstream>) -> Effect {
        let pg = &mut self.nodes[node].pg;
        if pg.postmaster.is_none() {
            return Effect::Failed;
        }
        // What was reserved for a promotion that did not come goes.
        pg.disk.files.unreserve();
        let same = pg.disk.upstream == upstream;
        pg.disk.upstream = upstream;
        let epoch = pg.epoch;
        if !same {
            pg.far = false;
            self.drop_stream(node);
        }
        self.after(10, Event::Connect { node, epoch });
        self.soon(node, Some(true), 15)
    }

    fn set_sync_names(&mut self, node: usize, names: String) -> Effect {
        let pg = &mut self.nodes[node].pg;
        pg.disk.sync_names = names;
        let epoch = pg.epoch;
        let wait = self.rng.between(5, 150);
        self.after(wait, Event::Reload { node, epoch });
        self.soon(node, Some(true), 5)
    }

    fn soon(&mut self, node: usize, outcome: Option<bool>, millis: u64) -> Effect {
        let (number, run) = (self.number(), self.nodes[node].agent.run);
        self.nodes[node].agent.pending = Some((number, Pending::Order));
        self.after(
            millis,
            Event::Performed {
                node,
                run,
                number,
                outcome,
            },
        );
        Effect::Pending
    }

    /// A standby is attached by it.
    fn uses_slot(&self, node: usize, name: &str) -> bool {
        let attached = self.nodes[node].pg.attached.keys();
        attached
            .into_iter()
            .any(|standby| self.names[*standby] == name)
    }

    fn slot(
        &mut self,
        node: usize,
        name: String,
        change: impl FnOnce(&mut std::collections::BTreeMap<String, Option<Lsn>>, String),
    ) -> Effect {
        let pg = &mut self.nodes[node].pg;
        if !pg.accepts() {
            return Effect::Failed;
        }
        // Reserved at once, as the agent makes them.
        let end = Lsn(pg.position());
        change(&mut pg.disk.slots, name.clone());
        if let Some(restart) = pg.disk.slots.get_mut(&name) {
            restart.get_or_insert(end);
        }
        self.soon(node, Some(true), 2)
    }

    /// Made on a primary, advanced on a standby that has it.
    fn logical_slot(&mut self, node: usize, name: String, advance: Option<Lsn>) -> Effect {
        let pg = &mut self.nodes[node].pg;
        let right = pg.accepts() && pg.in_recovery == advance.is_some();
        let (end, known) = (pg.position(), pg.disk.logical.contains_key(&name));
        // Beside the loop, which hears nothing of it.
        match advance {
            Some(lsn) if right && known => {
                pg.disk.logical.insert(name, lsn.0.min(pg.disk.replayed));
            }
            None if right => {
                pg.disk.logical.entry(name).or_insert(end);
            }
            _ => {}
        }
        Effect::Quiet
    }

    fn order_store(&mut self, node: usize, op: Op) -> Effect {
        if self.names_too_late(node, &op) {
            return Effect::Failed;
        }
        let (number, asked) = (self.number(), self.clock(node));
        if matches!(op, Op::AcquireLeader { .. } | Op::ReattachLeader { .. }) {
            let life = self.nodes[node].settings.lease_ttl;
            let agent = &self.nodes[node].agent;
            let held = agent.memory.held.map(|held| held.length.min(life) / 5);
            if let (Op::ReattachLeader { .. }, Some(limit)) = (&op, held) {
                let (run, outcome) = (self.nodes[node].agent.run, None);
                let given_up = Event::Performed {
                    node,
                    run,
                    number,
                    outcome,
                };
                self.at(self.now + limit, given_up);
            }
            let agent = &mut self.nodes[node].agent;
            agent.pending = Some((number, Pending::RenewFirst(Rc::new(op))));
            agent.for_order = false;
            if !agent.renewing.in_flight {
                agent.for_order = true;
                self.renew(node, self.nodes[node].settings.lease_ttl / 2);
            }
            return Effect::Pending;
        }
        let agent = &mut self.nodes[node].agent;
        agent.pending = Some((number, Pending::Order));
        agent.sight_asked = asked;
        let budget = self.store_budget(node);
        let op = Rc::new(op);
        let call = self.order(node, op.clone());
        self.call(node, call, Asked::Order(op), budget);
        Effect::Pending
    }

    fn ask_peers(&mut self, node: usize, asks: Vec<Ask>) -> Effect {
        let (run, asked) = (self.nodes[node].agent.run, self.clock(node));
        for ask in asks {
            let id = self.number();
            let member = ask.member.clone();
            self.nodes[node]
                .agent
                .questions
                .insert(id, Question { member, asked });
            if let Some(to) = self
                .node_of(&ask.member)
                .filter(|to| self.linked(node, *to))
            {
                let wait = self.delay();
                self.after(
                    wait,
                    Event::Question {
                        from: node,
                        run,
                        to,
                        ask: id,
                    },
                );
            }
            let at = self.now + ask.timeout;
            self.at(
                at,
                Event::PeerAnswer {
                    node,
                    run,
                    ask: id,
                    answer: None,
                },
            );
        }
        Effect::Changed
    }

    pub(crate) fn on_question(&mut self, from: usize, run: u64, to: usize, ask: u64) {
        if !self.linked(from, to) || self.chaos.dark[to] {
            return;
        }
        if self.nodes[to].agent.alive && self.nodes[to].agent.stopped {
            let event = Event::Question { from, run, to, ask };
            self.nodes[to].agent.deferred.push(event);
            return;
        }
        let answer = self.status(to).map(Box::new);
        let wait = self.delay();
        self.after(
            wait,
            Event::PeerAnswer {
                node: from,
                run,
                ask,
                answer,
            },
        );
    }

    /// `GET /patroni`; `None`: refused.
    fn status(&mut self, node: usize) -> Option<PeerStatus> {
        let watchdog_failed = self.nodes[node].settings.guard == GuardMode::Required
            && self.nodes[node].agent.guard_failed.is_some();
        let limit = beat::stale_after(&self.nodes[node].settings);
        let now = self.clock(node);
        let agent = &self.nodes[node].agent;
        let current = !agent.problem && now.since(agent.heard) < limit;
        let led = agent.picture.as_ref().is_some_and(|it| it.leader.is_some());
        let unlocked = !(current && led);
        let described = agent.described().filter(|_| agent.alive)?;
        let pg = &self.nodes[node].pg;
        let state = described.state?;
        let asks = matches!(
            state,
            PostgresState::Running | PostgresState::Restarting | PostgresState::Starting
        );
        let look = (asks && pg.accepts()).then(|| pg.look(&self.names, (0, "host")));
        let mut status = PeerStatus {
            asked: Time::ZERO,
            state: (look.is_some() || !asks).then_some(state),
            role: described.role,
            reachable: look.is_some(),
            writable_at: None,
            received: Lsn(0),
            replayed: Lsn(0),
            timeline: None,
            failsafe: self.is_failsafe(node),
            streaming: false,
            watchdog_failed,
            unlocked,
            promoting: described.role == Some(Role::Promoted),
            tags: described.tags,
        };
        if let Some(look) = look {
            status.role = match (look.in_recovery, status.role) {
                (false, _) => Some(Role::Primary),
                (true, Some(Role::StandbyLeader)) => Some(Role::StandbyLeader),
                (true, _) => Some(Role::Replica),
            };
            status.writable_at = (!look.in_recovery).then_some(look.wal.flushed);
            status.received = look.wal.received;
            status.replayed = look.wal.replayed;
            status.timeline = Some(look.timeline);
            status.streaming = look.receiver.is_some();
        }
        self.misanswer(&mut status);
        Some(status)
    }

    pub(crate) fn on_peer_answer(&mut self, node: usize, ask: u64, answer: Option<PeerStatus>) {
        let Some(question) = self.nodes[node].agent.questions.remove(&ask) else {
            return;
        };
        let (asked, answered) = (question.asked, self.clock(node));
        // A packet that comes back over a cut link does not come back.
        let linked = self
            .node_of(&question.member)
            .is_some_and(|to| self.linked(to, node));
        let answer = answer
            .filter(|_| linked)
            .map(|answer| PeerStatus { asked, ..answer });
        self.nodes[node].agent.peers.insert(
            question.member,
            PeerFact {
                asked,
                answered,
                answer,
            },
        );
        if self.nodes[node].agent.questions.is_empty() {
            self.poke(node);
        }
    }

    fn ask_history(&mut self, node: usize, member: &MemberName, timeline: Timeline) -> Effect {
        let asked = self.clock(node);
        let agent = &mut self.nodes[node].agent;
        let run = agent.run;
        if std::mem::replace(&mut agent.asking_history, true) {
            return Effect::Quiet;
        }
        let of = self.node_of(member).unwrap_or(node);
        let wait = if self.connected(node, of) { 8 } else { 2000 };
        let timeline = timeline.0;
        self.after(
            wait,
            Event::History {
                node,
                run,
                of,
                asked,
                timeline,
            },
        );
        Effect::Quiet
    }

    pub(crate) fn on_history(&mut self, node: usize, of: usize, asked: Time, timeline: u32) {
        let theirs = &self.nodes[of].pg;
        let answers =
            self.connected(node, of) && theirs.accepts() && theirs.disk.timeline == timeline;
        let lines = answers.then(|| {
            let lines = theirs.disk.history.iter();
            let lines = lines
                .map(|(past, end)| (Timeline(*past), Lsn(*end)))
                .collect();
            (Timeline(timeline), lines)
        });
        let from = self.nodes[of].name.clone();
        let agent = &mut self.nodes[node].agent;
        agent.asking_history = false;
        agent.history = Some(RemoteHistory { from, asked, lines });
        self.poke(node);
    }

    /// The agent ends by itself.
    fn exited(&mut self, node: usize, code: u8) {
        self.end_agent(node);
        if self.nodes[node].pg.disk.data == DataDir::Unfinished {
            self.nodes[node].pg.disk.data = DataDir::Empty;
        }
        // Its service manager starts it again; after an end in order, somebody does.
        let wait = if code == 0 {
            self.rng.between(2000, 20_000)
        } else {
            self.rng.between(500, 3000)
        };
        self.after(wait, Event::Fault(crate::faults::Fault::StartAgent(node)));
    }
}

/// Variant of the action.
pub(crate) fn kind(action: &Action) -> &'static str {
    match action {
        Action::Store(_) => "Store",
        Action::AskPeers(_) => "AskPeers",
        Action::AskHistory { .. } => "AskHistory",
        Action::StartJob(JobKind::Promote) => "StartJob",
        Action::StartJob(_) => "StartJob",
        Action::SetUpstream(_) => "SetUpstream",
        Action::StopReceiving => "StopReceiving",
        Action::EndSenders(_) => "EndSenders",
        Action::ArmGuard { .. } => "ArmGuard",
        Action::TryGuard { .. } => "TryGuard",
        Action::DisarmGuard => "DisarmGuard",
        Action::ReserveTimelines { .. } => "ReserveTimelines",
        Action::CreateSlot(_) => "CreateSlot",
        Action::DropSlot(_) => "DropSlot",
        Action::AdvanceSlot(..) => "AdvanceSlot",
        Action::CreateLogicalSlot(_) => "CreateLogicalSlot",
        Action::AdvanceLogicalSlot(..) => "AdvanceLogicalSlot",
        Action::SetSynchronousStandbys(_) => "SetSynchronousStandbys",
        Action::Checkpoint => "Checkpoint",
        Action::Exit { .. } => "Exit",
    }
}
