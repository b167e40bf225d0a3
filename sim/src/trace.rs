//! What happened, line by line, for people and to compare two runs.

use pgherd_model::Time;

/// Where lines go.
#[derive(Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    /// Keeps every line.
    pub(crate) fn kept() -> Trace {
        Trace {
            lines: Some(Vec::new()),
        }
    }

    pub(crate) fn line(&mut self, now: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now} {}", text()));
        }
    }

    /// The last of those that were kept.
    pub(crate) fn last(&self, count: usize) -> &[String] {
        let lines = self.lines.as_deref().unwrap_or_default();
        &lines[lines.len().saturating_sub(count)..]
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
