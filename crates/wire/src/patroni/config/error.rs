//! Why a configuration cannot be used.

use thiserror::Error;

/// The first thing wrong with a configuration. `Display` is one line:
/// `FILE:LINE: KEY: expected WHAT, found WHAT`, with the remedy where it is not obvious. Values of
/// keys that may hold secrets are never in it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    /// `FILE:LINE`, `FILE` or `environment variable NAME`.
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
}

/// Messages of libraries may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
