//! The agent beside each PostgreSQL: the loop that joins brain and hands, long jobs, the clock,
//! and Patroni's REST API.

mod act;
mod agent;
pub mod asked;
mod callbacks;
mod called;
mod clock;
mod configured;
mod election;
mod event;
mod failsafe;
mod generate;
mod glance;
mod guarding;
mod install;
mod jobs;
mod journal;
mod logging;
pub mod looks;
mod notes;
mod observe;
mod orders;
mod publish;
mod reload;
mod renewal;
pub mod rest;
mod service;
mod settings;
mod slots;
pub mod snapshot;
mod start;
mod upgrade;
mod validate;
mod watchdog;

pub use clock::now;
pub use generate::{Origin, generate};
pub use install::{InstallOptions, UNIT_DIR, install};
pub use logging::guard_line;
pub use start::{run, would_start};
pub use validate::{ValidateOptions, validate};
