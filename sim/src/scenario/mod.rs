//! Plays scenarios (`tests/scenarios/*.scn`, docs/scenarios.md) in the simulated world. The language itself
//! is in `pgherd-scenario`, which a driver of real processes uses too.

mod condition;
mod deeds;
mod run;

pub use run::{Met, Outcome, Stopped, lacks, play};
