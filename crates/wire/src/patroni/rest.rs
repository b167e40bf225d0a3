//! Documents and texts of Patroni's REST API (contract: patroni-rest).

mod cluster;
mod metrics;
mod peer;
mod python;
mod restart;
mod spoken_time;
mod status;
mod switchover;
mod time;

pub use cluster::{Mode, cluster_document};
pub use metrics::metrics;
pub use peer::peer_status;
pub use python::python_json;
pub use restart::RestartWish;
pub(crate) use status::reasons;
pub use status::{StatusInput, status_document};
pub use switchover::{
    Accepted, Action, Outcome, Refusal, Wish, failover_outcome, no_good_candidate, scheduled_text,
};
pub use time::{BadSchedule, iso_timestamp, parse_schedule, status_timestamp, stored_schedule};

#[cfg(test)]
mod tests;
