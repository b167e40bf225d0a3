//! A story again, step by step: that of a seed, or what the journals of real agents tell. Each step says
//! what happened, which rules, actions and broken invariants it shows, and what changed with it; one stops
//! where one of these occurs.

mod differences;
mod journal;
mod player;
mod situation;
mod stops;
mod story;

use std::collections::BTreeMap;

pub use journal::Journal;
pub use player::{End, Player, Shown};
pub use stops::{ACTIONS, INVARIANTS, Stop};
pub use story::Story;

/// What is the case, by what it is about.
pub type Facts = BTreeMap<String, String>;

/// Something by which one stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// This rule answered.
    Rule(String),
    /// This order was begun.
    Action(String),
    /// This invariant is broken.
    Broken(String),
}

/// A moment at which something happened.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// When: as seconds of the story, to compare and to show.
    pub seconds: f64,
    /// By which member, where it is one's own.
    pub who: Option<String>,
    /// What, in words.
    pub said: Vec<String>,
    /// By what one may stop.
    pub marks: Vec<Mark>,
    /// What is the case now.
    pub facts: Facts,
    /// For whoever decided: what it saw that it had not seen at its last decision, and what it keeps in mind.
    pub seen: Vec<String>,
    /// What every rule said that was asked.
    pub ladder: Vec<String>,
}

/// Where steps come from.
pub trait Source {
    /// The next one; `None`: the story is over.
    fn next(&mut self) -> Option<Step>;
}
