//! The HA brain: `decide(&View, &Memory) -> Decision`, what this node does now.
//!
//! Pure: no I/O, no clock, no log, no `Result`. What could not be seen is a fact in the [`View`];
//! the reason for a decision comes back as data. `rules` is the ladder (first answer wins),
//! `upkeep` the small duties that run beside it.
#![no_std]

extern crate alloc;

mod act;
pub mod beat;
mod ctx;
mod decide;
mod decision;
pub mod election;
pub mod failsafe;
pub mod fence;
mod fork;
mod holder;
pub mod lease;
mod logical;
mod memory;
mod race;
mod rules;
mod schedule;
mod senders;
mod steady;
mod upkeep;
mod view;
pub mod watchdog;

#[cfg(test)]
mod tests;

pub use act::Sequence;
pub use decide::decide;
pub use decision::{Action, Ask, Decision, JobKind, Origin, Rung, Severity, StartAs, Why};
pub use logical::{feedback, slot_on_leader};
pub use memory::{
    Answered, Backoff, Demotion, Former, Memory, Reinitializing, Restarted, Restarting, SlotCopy,
    SyncClaim,
};
pub use steady::{LOOK_PAUSE, Pulse, goes_on, is_calm, may_be_kept, quiet_pause};
pub use upkeep::{describe, small_step};
pub use view::{
    Dcs, GuardFact, Identity, Job, LeaseFact, Local, Orders, Outcome, PeerFact, RemoteHistory,
    Tenure, View, WatchdogFact,
};
