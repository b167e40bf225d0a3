//! Why a configuration cannot be used.

use thiserror::Error;

/// The first thing wrong with a configuration. `Display` is one line:
/// `FILE:LINE: KEY: expected WHAT, found WHAT`, with the remedy where it is not obvious. Values of
/// keys that may hold secrets are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{problem}", before(.place))]
pub struct ConfigError {
    /// `FILE:LINE`, `FILE` or `environment variable NAME`; empty where there is nothing that has one.
    pub place: String,
    /// Full key path where there is one, what was expected and found.
    pub problem: String,
}

impl ConfigError {
    pub(super) fn new(place: impl ToString, problem: impl ToString) -> Self {
        ConfigError {
            place: one_line(&place.to_string()),
            problem: one_line(&problem.to_string()),
        }
    }

    /// Nothing is configured: Patroni's line, with nothing before it (contract: patroni-config,
    /// section 1).
    pub(super) fn empty() -> Self {
        ConfigError::new("", "Config is empty.")
    }
}

fn before(place: &str) -> String {
    match place {
        "" => String::new(),
        place => format!("{place}: "),
    }
}

/// Messages of libraries may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
