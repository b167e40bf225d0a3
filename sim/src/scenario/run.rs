//! The driver that plays a scenario in the simulated world: line by line, with simulated time in between.
//! All invariants of the simulator hold meanwhile, and after the last line everything is healed and the
//! cluster must become whole again, as after the random stories.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;

use pgherd_model::{Span, Time};
use pgherd_scenario::words::{
    Bound, Condition, Expectation, Line, Scenario, Setting, Statement, Step, Who,
};

use crate::client::Client;
use crate::event::{Event, NODES};
use crate::faults::Fault;
use crate::invariants::Ledger;
use crate::trace::Trace;
use crate::world::World;

use super::condition::{holds, lost_rows, primary, replicas, seen};
use super::deeds;

/// Clients that write.
const WRITERS: usize = 3;
/// Lines of the story that a failure shows.
const SHOWN: usize = 30;
/// No end is longer than so many events.
const LONGEST: u64 = 5_000_000;

/// An expectation that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Where it stands.
    pub line: usize,
    /// As written.
    pub text: String,
    /// So long after the last step.
    pub after: Span,
}

/// A scenario that went as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// All expectations.
    pub met: Vec<Met>,
    /// Simulated time until the last line was met.
    pub simulated: Span,
}

/// A scenario that did not reach its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The simulator has no such thing.
    CannotYet {
        /// File and line.
        at: String,
        /// What it cannot do.
        what: String,
    },
    /// Something was not as expected.
    Failed(Box<Failed>),
}

/// What was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// File and line.
    pub at: String,
    /// As written.
    pub statement: String,
    /// What was wrong.
    pub what: String,
    /// One line per member.
    pub seen: Vec<String>,
    /// The end of the story.
    pub trace: Vec<String>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::CannotYet { at, what } => {
                write!(f, "{at}: the simulator cannot {what} yet")
            }
            Stopped::Failed(failed) => {
                write!(f, "{}: {}\n  {}", failed.at, failed.statement, failed.what)?;
                for line in &failed.seen {
                    write!(f, "\n  {line}")?;
                }
                write!(f, "\n  the story before (n1 is 0 in it, n2 is 1, n3 is 2):")?;
                for line in &failed.trace {
                    write!(f, "\n    {line}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for Stopped {}

/// What the simulator cannot do of it, if there is such a thing.
pub fn lacks(scenario: &Scenario) -> Option<Stopped> {
    let (line, what) = deeds::lack(scenario)?;
    let file = &scenario.file;
    let at = match line {
        0 => file.clone(),
        line => format!("{file}:{line}"),
    };
    Some(Stopped::CannotYet { at, what })
}

/// Plays it.
///
/// # Errors
/// The simulator cannot do what it says, or something is not as it expects, or an invariant is broken.
pub fn play(scenario: &Scenario) -> Result<Outcome, Stopped> {
    if let Some(stopped) = lacks(scenario) {
        return Err(stopped);
    }
    let mut player = Player::new(scenario);
    for line in &scenario.lines {
        player.line(line)?;
    }
    let simulated = player.world.now.since(player.begun);
    player.end()?;
    let met = player.met;
    Ok(Outcome { met, simulated })
}

struct Player<'a> {
    scenario: &'a Scenario,
    world: World,
    begun: Time,
    /// When the last step was done.
    done: Time,
    names: BTreeMap<&'a str, usize>,
    settings: Vec<Setting>,
    met: Vec<Met>,
}

impl<'a> Player<'a> {
    fn new(scenario: &'a Scenario) -> Player<'a> {
        let settings = deeds::settings(&scenario.settings);
        let mut world = World::calm(scenario.seed, settings, Trace::kept());
        world.oracle.ledger = Some(Ledger::default());
        Player {
            scenario,
            begun: world.now,
            done: world.now,
            world,
            names: BTreeMap::new(),
            settings: scenario.settings.clone(),
            met: Vec::new(),
        }
    }

    fn line(&mut self, line: &'a Line) -> Result<(), Stopped> {
        match &line.statement {
            Statement::Let { name, who } => {
                let node = self.find(line, who)?;
                self.world
                    .say(|| format!("line {}: {name} is {node}", line.number));
                self.names.insert(name, node);
                Ok(())
            }
            Statement::Step(step) => {
                self.world
                    .say(|| format!("line {}: {}", line.number, line.text));
                self.step(line, step)?;
                self.done = self.world.now;
                if let Some(ledger) = &mut self.world.oracle.ledger {
                    ledger.last = self.done;
                    ledger.longest = Span::ZERO;
                }
                self.unbroken(line)
            }
            Statement::Expect(expectation) => self.expect(line, expectation),
        }
    }

    /// Who that is now.
    fn find(&self, line: &Line, who: &Who) -> Result<usize, Stopped> {
        let nobody = |what: &str| Err(self.failed(line, what.into()));
        match who {
            Who::Node(node) => Ok(*node),
            Who::Named(name) => match self.names.get(name.as_str()) {
                Some(node) => Ok(*node),
                None => nobody("nobody has this name"),
            },
            Who::Primary => match primary(&self.world) {
                Some(node) => Ok(node),
                None => nobody("there is no primary"),
            },
            Who::Replica => match replicas(&self.world).first() {
                Some(node) => Ok(*node),
                None => nobody("there is no replica"),
            },
            Who::OtherReplica => {
                let taken = |node: &usize| self.names.values().any(|named| named == node);
                let mut others = replicas(&self.world);
                others.retain(|node| !taken(node));
                match others.as_slice() {
                    [node] => Ok(*node),
                    _ => nobody("there is not exactly one replica without a name"),
                }
            }
        }
    }

    fn step(&mut self, line: &Line, step: &Step) -> Result<(), Stopped> {
        let mut nodes = Vec::new();
        for who in step.named() {
            nodes.push(self.find(line, who)?);
        }
        match step {
            Step::Start => {
                for node in 0..NODES {
                    let delay = self.world.rng.between(0, 300);
                    self.world
                        .after(delay, Event::Fault(Fault::StartAgent(node)));
                }
            }
            Step::Wait(span) => {
                self.advance(line, self.world.now + *span, |_| false)?;
            }
            Step::Writers(run) => self.writers(*run),
            Step::Set(wanted) => {
                for setting in wanted {
                    let same = |it: &Setting| kind(it) == kind(setting);
                    self.settings.retain(|it| !same(it));
                    self.settings.push(*setting);
                }
                let settings = deeds::settings(&self.settings);
                self.world.chaos.disturbed = self.world.now;
                self.world.change(|present| {
                    let pause = present.pause;
                    *present = settings;
                    present.pause = pause;
                });
            }
            Step::SetParameter { name, value } => self.world.change_parameter(name, value),
            other => {
                for fault in deeds::faults(&self.world, other, &nodes) {
                    if deeds::lasts(fault) {
                        self.world.chaos.open += 1;
                    }
                    self.world.on_fault(fault);
                }
            }
        }
        Ok(())
    }

    fn writers(&mut self, run: bool) {
        self.world.chaos.idle = !run;
        if run && self.world.clients.is_empty() {
            for client in 0..WRITERS {
                self.world.clients.push(Client::new(client));
                self.world.after(5, Event::Client { client });
            }
        }
    }

    fn expect(&mut self, line: &Line, expectation: &Expectation) -> Result<(), Stopped> {
        let Expectation { condition, bound } = expectation;
        let who = match condition.about() {
            Some(who) => Some(self.find(line, who)?),
            None => None,
        };
        let ledger = self.world.oracle.ledger.as_ref();
        let before = ledger.map_or(0, |ledger| ledger.rows.len());
        let so = |world: &World| holds(world, condition, who, before);
        match bound {
            Bound::Now => {
                if !so(&self.world) {
                    let what = match lost_rows(&self.world) {
                        Some(lost) => format!("{lost} of {before} are lost"),
                        None => "there is no primary to ask".into(),
                    };
                    return Err(self.failed(line, what));
                }
            }
            Bound::Within(span) => {
                let until = self.done + *span;
                if !self.advance(line, until, so)? {
                    let passed = shown(self.world.now.since(self.done));
                    let what = format!("not so {passed} after the last step");
                    return Err(self.failed(line, what));
                }
            }
            Bound::For(span) => {
                // Gaps are looked at from the last step on, whatever was waited for since then.
                let gap = matches!(condition, Condition::NoGap(_));
                let from = if gap { self.done } else { self.world.now };
                let begun = self.world.now;
                if self.advance(line, from + *span, |world| !so(world))? {
                    let passed = shown(self.world.now.since(begun));
                    let what =
                        format!("not so, or not any more, {passed} after this line was reached");
                    return Err(self.failed(line, what));
                }
            }
        }
        self.met.push(Met {
            line: line.number,
            text: line.text.clone(),
            after: self.world.now.since(self.done),
        });
        Ok(())
    }

    /// Lets things happen until then, or until it is as wanted; `true`: it is.
    fn advance(
        &mut self,
        line: &Line,
        until: Time,
        wanted: impl Fn(&World) -> bool,
    ) -> Result<bool, Stopped> {
        loop {
            if wanted(&self.world) {
                return Ok(true);
            }
            match self.world.next_at() {
                Some(at) if at <= until => {
                    if !self.world.step() {
                        return Err(self.broken(line));
                    }
                }
                _ => {
                    self.world.now = self.world.now.max(until);
                    return Ok(wanted(&self.world));
                }
            }
        }
    }

    /// Everything is healed, and the cluster must become whole again.
    fn end(&mut self) -> Result<(), Stopped> {
        let Some(last) = self.scenario.lines.last() else {
            return Ok(());
        };
        self.world.heal();
        let mut left = LONGEST;
        while self.world.step() {
            left -= 1;
            if left == 0 {
                self.world.fail("it never ends".into());
                break;
            }
        }
        self.unbroken(last)
    }

    fn unbroken(&self, line: &Line) -> Result<(), Stopped> {
        match self.world.failure {
            Some(_) => Err(self.broken(line)),
            None => Ok(()),
        }
    }

    fn broken(&self, line: &Line) -> Stopped {
        let healed = if self.world.chaos.healed.is_some() {
            " after the last line, when everything was healed"
        } else {
            ""
        };
        let what = match &self.world.failure {
            Some(failure) => format!("an invariant is broken{healed}: {failure}"),
            None => "the story ended: two promotions made the same timeline".into(),
        };
        self.failed(line, what)
    }

    fn failed(&self, line: &Line, what: String) -> Stopped {
        Stopped::Failed(Box::new(Failed {
            at: format!("{}:{}", self.scenario.file, line.number),
            statement: line.text.clone(),
            what,
            seen: seen(&self.world),
            trace: self.world.trace.last(SHOWN).to_vec(),
        }))
    }
}

/// Settings that replace each other are one kind.
fn kind(setting: &Setting) -> std::mem::Discriminant<Setting> {
    match setting {
        Setting::Synchronous | Setting::Strict => discriminant(&Setting::Asynchronous),
        other => discriminant(other),
    }
}

/// A time as people read it.
fn shown(span: Span) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
