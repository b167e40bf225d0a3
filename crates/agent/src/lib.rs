//! The agent beside each PostgreSQL: the loop that joins brain and hands, long jobs, the clock,
//! and Patroni's REST API.

mod act;
mod agent;
pub mod asked;
mod clock;
mod election;
mod event;
mod guarding;
mod jobs;
mod journal;
mod logging;
mod notes;
mod observe;
mod orders;
mod publish;
mod reload;
mod renewal;
pub mod rest;
mod settings;
pub mod snapshot;
mod start;
mod upgrade;

pub use clock::now;
pub use logging::guard_line;
pub use start::run;
