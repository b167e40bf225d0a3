//! The story of a seed: one event after the other, those left out that say and change nothing.

use std::collections::BTreeMap;

use super::differences::{changes, fields};
use super::situation::situation;
use super::stops::broken;
use super::{Facts, Mark, Source, Step};
use crate::bugs::{Bug, Wrong};
use crate::seed::Seed;
use crate::trace::{Look, Trace};
use crate::world::World;

/// A world that is stepped.
pub struct Story {
    world: World,
    facts: Facts,
    /// What each node's brain saw at its last decision.
    views: BTreeMap<usize, Facts>,
    over: bool,
}

impl Story {
    /// Of this seed, before anything has happened.
    pub fn new(seed: impl Into<Seed>, bug: Option<Bug>) -> Story {
        let mut world = World::new(seed.into(), Trace::detailed());
        world.wrong = Wrong(bug);
        Story {
            world,
            facts: Facts::new(),
            views: BTreeMap::new(),
            over: false,
        }
    }

    /// What was broken, once the story has come there.
    pub fn failure(&self) -> Option<&str> {
        self.world.failure.as_deref()
    }

    /// What the node saw that it had not seen before, and what it keeps in mind.
    fn news(&mut self, look: &Look) -> Vec<String> {
        let view = fields("view", &look.view);
        let before = self.views.insert(look.node, view.clone());
        let mut news = before.map_or_else(Vec::new, |before| changes(&before, &view));
        let memory = fields("memory", &look.memory);
        news.extend(changes(&memory, &fields("memory", &look.decision.memory)));
        news
    }
}

impl Source for Story {
    fn next(&mut self) -> Option<Step> {
        while !self.over {
            self.over = !self.world.step();
            let (said, looks, actions) = self.world.trace.take();
            let facts = situation(&self.world);
            let news = changes(&self.facts, &facts);
            self.facts.clone_from(&facts);
            let failure = self.world.failure.as_deref();
            let broken = failure
                .and_then(|it| it.split_once(": "))
                .map(|(_, what)| broken(what));
            if said.is_empty() && news.is_empty() && looks.is_empty() {
                continue;
            }
            let mut step = Step {
                seconds: self.world.now.0 as f64 / 1e9,
                said,
                facts,
                ..Step::default()
            };
            for look in &looks {
                step.who = Some(self.world.names[look.node].clone());
                step.marks.push(Mark::Rule(look.decision.why.rule.into()));
                step.seen.extend(self.news(look));
                let rungs = look.decision.ladder.iter();
                let rungs = rungs.map(|rung| format!("{}: {}", rung.rule, rung.reason));
                step.ladder.extend(rungs);
            }
            for (node, action) in actions {
                step.who = Some(self.world.names[node].clone());
                step.marks.push(Mark::Action(action.into()));
            }
            step.marks.extend(broken);
            return Some(step);
        }
        None
    }
}
