//! The guard as an actor of its own, and killing as `ha::fence` says, step by step.

use pgherd_ha::Outcome;
use pgherd_ha::fence::{self, Facts, Plan, Progress, Step};
use pgherd_ha::lease::guard_patience;
use pgherd_model::{GuardMode, Span, Time};

use crate::bugs::Bug;
use crate::event::{Event, Killer};
use crate::perform::Effect;
use crate::world::World;

/// One killing under way.
#[derive(Clone, Debug)]
pub(crate) struct Killing {
    plan: Plan,
    progress: Progress,
    facts: Option<Facts>,
}

impl Killing {
    pub(crate) fn new(plan: Plan) -> Killing {
        Killing {
            plan,
            progress: Progress::default(),
            facts: None,
        }
    }
}

/// One guard process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guard {
    pub(crate) deadline: Option<Time>,
    pub(crate) stopped: bool,
    /// Extensions that it has not read yet.
    unread: Vec<Time>,
    /// When the first of them was sent, by the clock of its node.
    silent_since: Option<Time>,
    agent: bool,
    fired: bool,
    killing: Option<Killing>,
    /// A step was due while it was stopped.
    late: bool,
}

impl Guard {
    /// Once it has fired it protects nothing any more.
    pub(crate) fn has_fired(&self) -> bool {
        self.fired
    }

    /// How it is.
    pub(crate) fn word(&self) -> &'static str {
        match (self.killing.is_some(), self.fired, self.deadline.is_some()) {
            _ if self.stopped => "stopped",
            (true, ..) => "kills",
            (false, true, _) => "has fired",
            (false, false, true) => "armed",
            (false, false, false) => "ready",
        }
    }

    /// It lives and does not answer.
    pub(crate) fn hangs(&self, now: Time, life: Span) -> bool {
        let silent = self.silent_since.map(|since| now.since(since));
        !self.fired && silent.is_some_and(|silent| silent >= guard_patience(life))
    }

    fn read(&mut self) {
        self.silent_since = None;
        for deadline in self.unread.drain(..) {
            self.deadline = self.deadline.map(|old| old.max(deadline));
        }
    }
}

/// One round of a guard.
const ROUND: Span = Span::from_millis(300);

impl World {
    /// Ahead of need.
    pub(crate) fn spawn_guard(&mut self, node: usize) {
        if self.nodes[node].settings.guard == GuardMode::Off {
            return;
        }
        let it = &self.nodes[node];
        if it
            .agent
            .guard
            .is_some_and(|number| it.guards.contains_key(&number))
        {
            return;
        }
        self.spawn_another(node);
        self.nodes[node].agent.armed_for = None;
    }

    fn spawn_another(&mut self, node: usize) {
        let number = self.number();
        let it = &mut self.nodes[node];
        it.guards.insert(
            number,
            Guard {
                agent: true,
                ..Guard::default()
            },
        );
        it.agent.guard = Some(number);
    }

    pub(crate) fn arm(&mut self, node: usize, pid: u32, no_later: Option<Time>) -> Effect {
        self.spawn_guard(node);
        let (now, life) = (self.clock(node), self.nodes[node].settings.lease_ttl);
        let it = &mut self.nodes[node];
        let extended = it.agent.failsafe.guard_deadline(it.agent.renewing.fact);
        let Some(fact) = it.agent.renewing.fact else {
            return Effect::Failed;
        };
        let before = it.agent.guard.unwrap_or(0);
        let there = it.pg.postmaster == Some(pid) && !it.guard_broken;
        let present = it.guards.get(&before).filter(|_| there);
        let stopped = present.is_some_and(|guard| guard.stopped);
        let present = present.is_some();
        if stopped {
            // It does not answer, so another one is armed; only then is it killed.
            self.spawn_another(node);
            *self
                .seen
                .faults
                .entry("hanging guard replaced")
                .or_default() += 1;
        }
        let it = &mut self.nodes[node];
        let number = it.agent.guard.unwrap_or(0);
        let Some(guard) = it.guards.get_mut(&number).filter(|_| present) else {
            // No other one can be armed, or the postmaster is another one.
            let hangs = it.guards.get(&number).is_some_and(|it| it.hangs(now, life));
            it.agent.guard_failed = Some(now);
            it.agent.guard_failures += 1;
            if !hangs {
                it.agent.armed_for = None;
            }
            return Effect::Changed;
        };
        let lease = extended.unwrap_or(fact.deadlines().guard);
        let limited = no_later.filter(|limit| *limit < lease);
        let lease = limited.unwrap_or(lease);
        guard.read();
        guard.deadline = Some(lease).filter(|_| !self.wrong.is(Bug::ForgetToFence));
        guard.fired = false;
        it.agent.armed_for = Some(pid);
        if limited.is_none() {
            it.agent.armed_by = Some(fact);
        }
        it.agent.guard_failed = None;
        it.agent.guard_failures = 0;
        if stopped {
            it.guards.remove(&before);
        }
        if !std::mem::replace(&mut it.agent.superseded, true) {
            it.guards.retain(|other, _| *other == number);
        }
        let at = self.truly(node, lease);
        self.at(at, Event::Guard { node, number });
        Effect::Changed
    }

    /// Arms and disarms it.
    pub(crate) fn try_guard(&mut self, node: usize, pid: u32) -> Effect {
        self.spawn_guard(node);
        let now = self.clock(node);
        let it = &mut self.nodes[node];
        let there = it.pg.postmaster == Some(pid) && !it.guard_broken;
        let guard = it.agent.guard.and_then(|number| it.guards.get(&number));
        if guard.is_some_and(|guard| !guard.stopped && there) {
            it.agent.guard_failed = None;
            it.agent.guard_failures = 0;
            return Effect::Changed;
        }
        self.end_guard(node);
        let it = &mut self.nodes[node];
        it.agent.guard_failed = Some(now);
        it.agent.guard_failures += 1;
        Effect::Quiet
    }

    pub(crate) fn disarm(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let guard = it.agent.guard.and_then(|number| it.guards.get_mut(&number));
        match guard {
            // It does not answer, and is killed.
            Some(guard) if guard.stopped => self.end_guard(node),
            Some(guard) => {
                guard.read();
                guard.deadline = None;
                it.agent.armed_for = None;
            }
            None => {}
        }
    }

    /// The agent kills it, where nothing is to be guarded.
    fn end_guard(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        if let Some(number) = it.agent.guard.take() {
            it.guards.remove(&number);
        }
        it.agent.armed_for = None;
    }

    pub(crate) fn extend_guard(&mut self, node: usize, deadline: Time) {
        let now = self.clock(node);
        let it = &mut self.nodes[node];
        let Some(number) = it.agent.guard else {
            return;
        };
        if let Some(guard) = it.guards.get_mut(&number) {
            guard.unread.push(deadline);
            guard.silent_since.get_or_insert(now);
            if !guard.stopped {
                guard.read();
                let at = self.truly(node, deadline);
                self.at(at, Event::Guard { node, number });
            }
        }
    }

    /// The agent's end of the socket is closed.
    pub(crate) fn agent_gone(&mut self, node: usize) {
        for guard in self.nodes[node].guards.values_mut() {
            guard.agent = false;
        }
        self.nodes[node]
            .guards
            .retain(|_, guard| guard.deadline.is_some() || guard.stopped);
    }

    /// Its timer, or a reason to look.
    pub(crate) fn on_guard(&mut self, node: usize, number: u64) {
        let (now, truth) = (self.clock(node), self.now);
        let run = self.nodes[node].agent.run;
        let down = self.nodes[node].pg.is_down(truth);
        let Some(guard) = self.nodes[node].guards.get_mut(&number) else {
            return;
        };
        if guard.stopped {
            guard.late = true;
            return;
        }
        guard.read();
        if !guard.agent && (guard.deadline.is_none() || down) {
            self.nodes[node].guards.remove(&number);
            return;
        }
        if guard.killing.is_some() || guard.deadline.is_none_or(|at| now < at) {
            return;
        }
        guard.killing = Some(Killing::new(Plan::starting(now, ROUND)));
        *self.seen.faults.entry("guard fires").or_default() += 1;
        self.say(|| format!("{node} guard {number} fires"));
        self.check_fence(node, number);
        self.after(
            0,
            Event::Kill {
                node,
                run,
                killer: Killer::Guard(number),
            },
        );
    }

    pub(crate) fn stop_guard(&mut self, node: usize, stop: bool) {
        let Some(number) = self.nodes[node].agent.guard else {
            return;
        };
        let run = self.nodes[node].agent.run;
        if let Some(guard) = self.nodes[node].guards.get_mut(&number) {
            guard.stopped = stop;
            if !stop {
                guard.late = false;
                let killing = guard.killing.is_some();
                if let Some(deadline) = guard.deadline {
                    let at = self.truly(node, deadline);
                    self.at(at, Event::Guard { node, number });
                }
                self.after(0, Event::Guard { node, number });
                if killing {
                    self.after(
                        0,
                        Event::Kill {
                            node,
                            run,
                            killer: Killer::Guard(number),
                        },
                    );
                }
            }
        }
    }

    /// The next step of killing.
    pub(crate) fn on_kill(&mut self, node: usize, run: u64, killer: Killer) {
        let killing = match killer {
            Killer::Job(number) => {
                if !self.awake(node, run, &Event::Kill { node, run, killer }) {
                    return;
                }
                let agent = &self.nodes[node].agent;
                agent.killing.clone().filter(|_| agent.job_number == number)
            }
            Killer::Guard(number) => {
                let guard = self.nodes[node].guards.get(&number);
                guard
                    .filter(|guard| !guard.stopped)
                    .and_then(|guard| guard.killing.clone())
            }
        };
        let Some(mut killing) = killing else {
            return;
        };
        let next = self.kill_step(node, &mut killing);
        match (killer, next) {
            (Killer::Job(_), Ok(Some(at))) => {
                self.nodes[node].agent.killing = Some(killing);
                self.at(at, Event::Kill { node, run, killer });
            }
            (Killer::Job(_), Ok(None)) => self.job_done(node, Outcome::Done),
            (Killer::Job(_), Err(left)) => {
                self.job_done(node, Outcome::Failed(format!("{left} processes are left")));
            }
            (Killer::Guard(number), next) => self.guard_killed(node, number, run, killing, next),
        }
    }

    fn guard_killed(
        &mut self,
        node: usize,
        number: u64,
        run: u64,
        killing: Killing,
        next: Result<Option<Time>, usize>,
    ) {
        let now = self.clock(node);
        let soon = self.now + Span::from_millis(1);
        let Some(guard) = self.nodes[node].guards.get_mut(&number) else {
            return;
        };
        let killer = Killer::Guard(number);
        match next {
            Ok(Some(at)) => {
                guard.killing = Some(killing);
                self.at(at, Event::Kill { node, run, killer });
            }
            Ok(None) => {
                guard.killing = None;
                guard.deadline = None;
                guard.fired = true;
                if !guard.agent {
                    self.nodes[node].guards.remove(&number);
                }
                self.poke(node);
            }
            Err(_) => {
                guard.killing = Some(Killing::new(Plan::starting(now, ROUND)));
                self.at(soon, Event::Kill { node, run, killer });
            }
        }
    }

    /// When to go on; `None`: all are gone.
    fn kill_step(&mut self, node: usize, killing: &mut Killing) -> Result<Option<Time>, usize> {
        let (now, truth) = (self.clock(node), self.now);
        let step = fence::next(
            now,
            &killing.plan,
            &killing.progress,
            killing.facts.as_ref(),
        );
        let mut wait = Span::from_micros(self.rng.between(30, 400));
        let slowness = self.rng.below(15);
        let pg = &mut self.nodes[node].pg;
        match step {
            Step::Look => {
                pg.reap(truth);
                let mut facts = pg.facts(truth, now);
                self.overlook(&mut facts);
                killing.facts = Some(facts);
            }
            Step::Wait(until) => wait = until.since(now),
            Step::Quit(_) => {
                killing.progress.quit = Some(now);
                self.stop_immediately(node);
            }
            Step::StopPostmaster(process) => {
                killing.progress.stopped = Some(now);
                if pg.postmaster == Some(process.pid) {
                    pg.stopped = true;
                }
            }
            Step::KillOthers(them) => {
                killing.progress.killed = Some(now);
                let mut helpers = false;
                let then = pg.dies(truth + Span::from_millis(slowness));
                let frozen = pg.frozen;
                for it in them {
                    if let Some(child) = pg.children.get_mut(&it.pid) {
                        child.dies.get_or_insert(then);
                        helpers |= child.work == crate::postgres::Work::Helper;
                    }
                }
                if frozen {
                    // The session that the agent asks does not wait for a disk, and is gone.
                    self.nodes[node].agent.connected = 0;
                }
                if helpers {
                    self.no_helpers(node);
                }
            }
            Step::KillPostmaster(process) => {
                killing.progress.killed = Some(now);
                if self.nodes[node].pg.postmaster == Some(process.pid) {
                    if self.wrong.is(Bug::KillOnlyPostmaster) {
                        self.orphan(node);
                    }
                    let epoch = self.nodes[node].pg.epoch;
                    self.after(slowness, Event::Dead { node, epoch });
                }
            }
            Step::Gone => return Ok(None),
            Step::Overdue(left) => return Err(left.len()),
        }
        Ok(Some(self.now + wait.max(Span::from_micros(20))))
    }
}
