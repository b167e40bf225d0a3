//! Goes through a story: one step, or on to where something occurs.

use std::collections::VecDeque;

use super::differences::changes;
use super::{Facts, Source, Step, Stop};

/// A step as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The how manieth.
    pub number: u64,
    /// What happened.
    pub step: Step,
    /// What is another than before it.
    pub changed: Vec<String>,
}

/// Why a player stopped.
#[derive(Clone, Debug)]
pub enum End {
    /// What was waited for has occurred, in the last of these steps.
    Reached(Vec<Shown>),
    /// The story ended before; its last steps.
    Over(Vec<Shown>),
}

/// A story on its way.
pub struct Player<'a> {
    source: Box<dyn Source + 'a>,
    number: u64,
    facts: Facts,
    /// Only steps of this member count.
    pub who: Option<String>,
    /// Only steps from then on count, in seconds of the story.
    pub from: f64,
}

impl<'a> Player<'a> {
    /// From its beginning.
    pub fn new(source: impl Source + 'a) -> Player<'a> {
        Player {
            source: Box::new(source),
            number: 0,
            facts: Facts::new(),
            who: None,
            from: 0.0,
        }
    }

    /// One step.
    pub fn step(&mut self) -> Option<Shown> {
        let step = self.source.next()?;
        self.number += 1;
        let changed = changes(&self.facts, &step.facts);
        self.facts.clone_from(&step.facts);
        Some(Shown {
            number: self.number,
            step,
            changed,
        })
    }

    /// On to the next step that one of these is about; `last`: how many steps to keep.
    pub fn until(&mut self, stops: &[Stop], last: usize) -> End {
        let mut kept = VecDeque::new();
        while let Some(shown) = self.step() {
            let reached =
                self.counts(&shown.step) && stops.iter().any(|stop| stop.hits(&shown.step.marks));
            if kept.len() >= last.max(1) {
                kept.pop_front();
            }
            kept.push_back(shown);
            if reached {
                return End::Reached(kept.into());
            }
        }
        End::Over(kept.into())
    }

    fn counts(&self, step: &Step) -> bool {
        let own = |who: &String| step.who.as_ref().is_none_or(|it| it == who);
        step.seconds >= self.from && self.who.as_ref().is_none_or(own)
    }

    /// What is the case now.
    pub fn situation(&self) -> &Facts {
        &self.facts
    }
}

impl Shown {
    /// In words, a line each.
    pub fn lines(&self) -> Vec<String> {
        let step = &self.step;
        let who = step
            .who
            .as_ref()
            .map_or_else(String::new, |who| format!(" {who}"));
        let mut lines = vec![format!("step {} {:.6} s{who}", self.number, step.seconds)];
        let more = |kind: &str, of: &[String]| -> Vec<String> {
            of.iter().map(|it| format!("  {kind} {it}")).collect()
        };
        lines.extend(more(" ", &step.said));
        lines.extend(more("saw", &step.seen));
        lines.extend(more("now", &self.changed));
        lines
    }
}
