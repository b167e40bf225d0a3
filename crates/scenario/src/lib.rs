//! The language of scenarios: stories of faults that an operator can read (`tests/scenarios/*.scn`,
//! docs/scenarios.md).
//!
//! [`words`] is what can be said, [`parse`] reads it, and neither knows who carries it out: `sim` does so in
//! simulated time, `tests` with real processes.

mod expect;
mod line;
mod parse;
mod settings;
mod steps;
pub mod words;

pub use line::Malformed;
pub use parse::parse;

/// A length of time.
pub type Span = std::time::Duration;
