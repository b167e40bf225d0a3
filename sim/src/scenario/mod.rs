//! Scenarios: stories of faults that an operator can read (`tests/scenarios/*.scn`, docs/scenarios.md).
//!
//! [`words`] is what can be said, [`parse`] reads it, and neither knows who carries it out. [`play`]
//! does so in the simulator; a driver of real processes uses the same words.

mod condition;
mod deeds;
mod line;
mod parse;
mod run;
pub mod words;

pub use line::Malformed;
pub use parse::parse;
pub use run::{Met, Outcome, Stopped, lacks, play};
