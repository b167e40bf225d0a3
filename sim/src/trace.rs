//! What happened, line by line, for people and to compare two runs; and for whoever replays it, what was
//! decided on and ordered.

use pgherd_ha::{Decision, Memory, View};
use pgherd_model::Time;

/// Where lines go.
#[derive(Default)]
pub(crate) struct Trace {
    lines: Option<Vec<String>>,
    details: Option<Details>,
}

/// One decision, with all that it was made on.
pub(crate) struct Look {
    pub(crate) node: usize,
    pub(crate) view: View,
    pub(crate) memory: Memory,
    pub(crate) decision: Decision,
}

#[derive(Default)]
struct Details {
    looks: Vec<Look>,
    actions: Vec<(usize, &'static str)>,
}

impl Trace {
    /// Keeps every line.
    pub(crate) fn kept() -> Trace {
        Trace {
            lines: Some(Vec::new()),
            details: None,
        }
    }

    /// And decisions and orders.
    pub(crate) fn detailed() -> Trace {
        Trace {
            details: Some(Details::default()),
            ..Trace::kept()
        }
    }

    pub(crate) fn line(&mut self, now: Time, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now} {}", text()));
        }
    }

    pub(crate) fn look(&mut self, node: usize, view: &View, memory: &Memory, decision: &Decision) {
        if let Some(details) = &mut self.details {
            details.looks.push(Look {
                node,
                view: view.clone(),
                memory: memory.clone(),
                decision: decision.clone(),
            });
        }
    }

    pub(crate) fn action(&mut self, node: usize, name: &'static str) {
        if let Some(details) = &mut self.details {
            details.actions.push((node, name));
        }
    }

    /// What came since it was last taken.
    pub(crate) fn take(&mut self) -> (Vec<String>, Vec<Look>, Vec<(usize, &'static str)>) {
        let lines = self.lines.as_mut().map(std::mem::take).unwrap_or_default();
        let details = self
            .details
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        (lines, details.looks, details.actions)
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
