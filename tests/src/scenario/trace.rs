//! The story as it went, for whoever must find out why it went wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Lines with the time since the beginning; clones write into the same story.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    begun: Instant,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Trace {
    pub(super) fn new() -> Trace {
        Trace {
            begun: Instant::now(),
            lines: Arc::default(),
        }
    }

    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Since the beginning.
    pub(super) fn passed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn say(&self, text: &str) {
        let line = format!("{:8.3} s  {text}", self.passed().as_secs_f64());
        self.lines.lock().expect("no panic while held").push(line);
    }

    /// The last lines.
    pub(super) fn last(&self, count: usize) -> Vec<String> {
        let lines = self.lines.lock().expect("no panic while held");
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}
