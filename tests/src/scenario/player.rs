//! The driver that plays a scenario with real processes, line by line. After the last line everything is healed
//! and the cluster must become whole again; then what clients were told is compared with what is there.

use super::clients::Clients;
use super::settings;
use super::view::View;
use super::world::World;
use pgherd_scenario::Span;
use pgherd_scenario::words::{
    Bound, Condition, Expectation, Line, Scenario, State, Statement, Step, Who,
};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at what was seen.
const PAUSE: Duration = Duration::from_millis(20);
/// By when everybody was looked at again after a step.
const SETTLES: Duration = Duration::from_secs(5);
/// By when a cluster is whole again in which nothing is wrong any more.
const HEALS: Duration = Duration::from_secs(120);
/// Lines of the story that a failure shows.
const SHOWN: usize = 30;

/// Something was not as expected.
#[derive(Debug)]
pub(super) struct Failed {
    at: String,
    statement: String,
    what: String,
    /// One line per member.
    seen: Vec<String>,
    /// The end of the story.
    trace: Vec<String>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.at, self.statement, self.what)?;
        for line in &self.seen {
            write!(f, "\n  {line}")?;
        }
        write!(f, "\n  the story before:")?;
        for line in &self.trace {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// Plays it, and prints when each expectation was met.
///
/// # Errors
/// Something is not as it expects.
pub(super) async fn play(scenario: &Scenario) -> Result<(), Failed> {
    let mut player = Player::new(scenario).await?;
    for line in &scenario.lines {
        player.line(line).await?;
    }
    player.end().await
}

struct Player<'a> {
    scenario: &'a Scenario,
    world: World,
    clients: Clients,
    /// When the last step was done.
    done: Instant,
    names: BTreeMap<&'a str, usize>,
    /// Rows waited for a standby all the time, so that none of them may be lost.
    synchronous: bool,
    /// Who was primary after the last step, and what it had written then.
    mark: Option<(usize, u64)>,
}

impl<'a> Player<'a> {
    async fn new(scenario: &'a Scenario) -> Result<Player<'a>, Failed> {
        let world = World::new(scenario).await.map_err(|what| Failed {
            at: scenario.file.clone(),
            statement: format!("cluster of {}", scenario.nodes),
            what,
            seen: Vec::new(),
            trace: Vec::new(),
        })?;
        Ok(Player {
            scenario,
            clients: Clients::begin(world.cluster.targets()),
            world,
            done: Instant::now(),
            names: BTreeMap::new(),
            synchronous: settings::synchronous(&scenario.settings) == Some(true),
            mark: None,
        })
    }

    async fn line(&mut self, line: &'a Line) -> Result<(), Failed> {
        let text = format!("line {}: {}", line.number, line.text);
        match &line.statement {
            Statement::Let { name, who } => {
                let node = self.find(line, who).await?;
                let is = self.world.node(node).name();
                self.world.trace.say(&format!("{text} ({is})"));
                self.names.insert(name, node);
                Ok(())
            }
            Statement::Step(step) => {
                self.world.trace.say(&text);
                self.step(line, step).await
            }
            Statement::Expect(expectation) => self.expect(line, expectation).await,
        }
    }

    async fn step(&mut self, line: &Line, step: &Step) -> Result<(), Failed> {
        let mut nodes = Vec::new();
        for who in step.named() {
            nodes.push(self.find(line, who).await?);
        }
        match step {
            Step::Wait(span) => sleep(*span).await,
            Step::Writers(run) => self.clients.run(*run),
            Step::Set(wanted) => self.synchronous &= settings::synchronous(wanted) != Some(false),
            _ => {}
        }
        if let Err(what) = self.world.perform(step, &nodes).await {
            return Err(self.failed(line, what));
        }
        self.done = Instant::now();
        self.mark = None;
        self.clients.mark();
        Ok(())
    }

    /// Who that is now.
    async fn find(&mut self, line: &Line, who: &Who) -> Result<usize, Failed> {
        match who {
            Who::Node(node) => return Ok(*node),
            Who::Named(name) => {
                return match self.names.get(name.as_str()) {
                    Some(node) => Ok(*node),
                    None => Err(self.failed(line, "nobody has this name".into())),
                };
            }
            Who::Primary | Who::Replica | Who::OtherReplica => {}
        }
        let until = Instant::now() + SETTLES;
        loop {
            let found = match self.view() {
                None => Err("not everybody was looked at"),
                Some(view) => found(&view, who, &self.names),
            };
            match found {
                Ok(node) => return Ok(node),
                Err(what) if Instant::now() >= until => {
                    return Err(self.failed(line, what.into()));
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn expect(&mut self, line: &Line, expectation: &Expectation) -> Result<(), Failed> {
        let Expectation { condition, bound } = expectation;
        let who = match condition.about() {
            Some(who) => Some(self.find(line, who).await?),
            None => None,
        };
        let before = self.clients.acknowledged();
        match bound {
            Bound::Now => self.no_row_lost(line).await?,
            Bound::Within(span) => {
                let until = self.done + *span;
                while self.so(condition, who, before) != Some(true) {
                    if Instant::now() >= until {
                        let what = format!("not so {} after the last step", shown(self.passed()));
                        return Err(self.failed(line, what));
                    }
                    sleep(PAUSE).await;
                }
            }
            Bound::For(span) => self.stays(line, condition, who, *span).await?,
        }
        let after = self.passed().as_secs_f64();
        let met = format!("{after:.3} s after the last step: {}", line.text);
        self.world.trace.say(&met);
        println!("{:>5} {after:>9.3} s  {}", line.number, line.text);
        Ok(())
    }

    async fn stays(
        &mut self,
        line: &Line,
        condition: &Condition,
        who: Option<usize>,
        span: Span,
    ) -> Result<(), Failed> {
        let before = self.clients.acknowledged();
        let begun = Instant::now();
        // Gaps are looked at from the last step on, whatever was waited for since then.
        let gap = matches!(condition, Condition::NoGap(_));
        let until = if gap { self.done } else { begun } + span;
        let mut judged = false;
        loop {
            match self.so(condition, who, before) {
                Some(true) => judged = true,
                Some(false) => {
                    let passed = shown(begun.elapsed());
                    let what =
                        format!("not so, or not any more, {passed} after this line was reached");
                    return Err(self.failed(line, what));
                }
                None if begun.elapsed() >= SETTLES => {
                    return Err(self.failed(line, "not everybody was looked at".into()));
                }
                None => {}
            }
            if judged && Instant::now() >= until {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    async fn no_row_lost(&mut self, line: &Line) -> Result<(), Failed> {
        let primary = self.find(line, &Who::Primary).await?;
        let target = self.world.node(primary).target();
        let what = match self.clients.lost(&target).await {
            Ok((_, lost)) if lost.is_empty() => return Ok(()),
            Ok((rows, lost)) => {
                format!(
                    "{} of {rows} are lost, the first: {:?}",
                    lost.len(),
                    lost[0]
                )
            }
            Err(error) => format!("{} does not tell its rows: {error}", target.name),
        };
        Err(self.failed(line, what))
    }

    /// What was seen since the last step.
    fn view(&self) -> Option<View> {
        self.world.view(self.done)
    }

    /// The same; a replica must have all that was written when a primary was first seen after the last step.
    fn marked_view(&mut self) -> Option<View> {
        let view = self.view()?;
        if let (Some(node), Some((_, written))) = (view.primary(), view.writes())
            && self.mark.is_none_or(|(marked, _)| marked != node)
        {
            self.mark = Some((node, written));
        }
        Some(view.with_mark(self.mark.map_or(0, |(_, written)| written)))
    }

    /// `None`: not everybody was looked at since the last step.
    fn so(&mut self, condition: &Condition, who: Option<usize>, before: usize) -> Option<bool> {
        // Also where it is not needed: whoever asks later what a replica must have by now.
        let view = self.marked_view();
        match condition {
            Condition::Writes => return Some(self.clients.acknowledged() > before),
            Condition::NoWrites => return Some(self.clients.acknowledged() == before),
            Condition::NoGap(longest) => return Some(self.clients.gap() <= *longest),
            Condition::NoRowLost => return None,
            Condition::Is {
                be,
                state: State::Down,
                ..
            } => return who.map(|node| self.world.is_down(node) == *be),
            _ => {}
        }
        let view = view?;
        let primary = view.primary();
        Some(match condition {
            Condition::Primary { .. } => {
                let node = primary.filter(|node| Some(*node) != who);
                node.is_some_and(|node| view.writable() == [node])
            }
            Condition::NoPrimary => view.writable().is_empty(),
            Condition::Is {
                be: false,
                state: State::Primary,
                ..
            } => who.is_some_and(|node| !view.writable().contains(&node)),
            Condition::Is { be, state, .. } => who.is_some_and(|node| view.is(node, *state) == *be),
            Condition::Timeline(timeline) => view.writes().is_some_and(|(it, _)| it == *timeline),
            Condition::PendingRestart { pending, .. } => {
                who.and_then(|node| view.pending_restart(node)) == Some(*pending)
            }
            Condition::Whole => view.whole(),
            Condition::Writes
            | Condition::NoWrites
            | Condition::NoGap(_)
            | Condition::NoRowLost => return None,
        })
    }

    fn passed(&self) -> Duration {
        self.done.elapsed()
    }

    /// Everything is healed, the cluster must become whole again, and nobody was told what is not so.
    async fn end(mut self) -> Result<(), Failed> {
        let Some(last) = self.scenario.lines.last() else {
            return Ok(());
        };
        self.world.trace.say("everything is healed");
        if let Err(what) = self.world.heal().await {
            return Err(self.failed(last, format!("after the last line: {what}")));
        }
        (self.done, self.mark) = (Instant::now(), None);
        while self.so(&Condition::Whole, None, 0) != Some(true) {
            if self.passed() >= HEALS {
                let passed = shown(self.passed());
                let what =
                    format!("no whole cluster {passed} after the last line, when all was healed");
                return Err(self.failed(last, what));
            }
            sleep(PAUSE).await;
        }
        let healed = self.passed().as_secs_f64();
        let primary = self.find(last, &Who::Primary).await?;
        let failed = self.failed(last, String::new());
        let primary = self.world.node(primary);
        match self.clients.verdict(primary, self.synchronous).await {
            Ok(told) => {
                let (file, all) = (&self.scenario.file, self.world.trace.passed().as_secs_f64());
                println!(
                    "{file}: as expected, {all:.1} s, whole {healed:.1} s after the end; {told}"
                );
                Ok(())
            }
            Err(what) => Err(Failed { what, ..failed }),
        }
    }

    fn failed(&self, line: &Line, what: String) -> Failed {
        Failed {
            at: format!("{}:{}", self.scenario.file, line.number),
            statement: line.text.clone(),
            what,
            seen: self.world.lines(),
            trace: self.world.trace.last(SHOWN),
        }
    }
}

fn found(view: &View, who: &Who, names: &BTreeMap<&str, usize>) -> Result<usize, &'static str> {
    let mut replicas = view.replicas();
    match who {
        Who::Primary => view.primary().ok_or("there is no primary"),
        Who::Replica => replicas.first().copied().ok_or("there is no replica"),
        Who::OtherReplica => {
            replicas.retain(|node| !names.values().any(|named| named == node));
            match replicas.as_slice() {
                [node] => Ok(*node),
                _ => Err("there is not exactly one replica without a name"),
            }
        }
        Who::Node(_) | Who::Named(_) => Err("this is a name"),
    }
}

/// A time as people read it.
fn shown(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
