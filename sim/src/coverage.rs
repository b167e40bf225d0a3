//! What a run must have shown, from `coverage.toml`: for each rule the kinds of faults upon which it has
//! to have answered. A fault that no rule ever met proves nothing.

use std::collections::BTreeMap;

use pgherd_model::Span;

use crate::world::World;
use crate::{RULES, Report};

/// What is answered so long after a fault counts as an answer to it.
const UPON: Span = Span::from_secs(10);

/// In how many seeds a rule answered upon a kind of fault.
pub type Pairs = BTreeMap<(&'static str, &'static str), u64>;

impl World {
    /// Something of this kind has happened.
    pub(crate) fn upset(&mut self, kind: &'static str) {
        self.upset.retain(|(known, _)| *known != kind);
        self.upset.push((kind, self.now + UPON));
    }

    /// A rule answers.
    pub(crate) fn answered(&mut self, rule: &'static str) {
        let now = self.now;
        self.upset.retain(|(_, until)| *until > now);
        for (kind, _) in &self.upset {
            self.seen.pairs.insert((rule, kind));
        }
    }
}

/// What is wanted: kinds of faults by rule.
#[derive(Debug)]
pub struct Wanted(BTreeMap<String, Vec<String>>);

impl Wanted {
    /// What `coverage.toml` says.
    ///
    /// # Errors
    /// It is no TOML, or names a rule that there is not.
    pub fn stated() -> Result<Wanted, String> {
        Wanted::read(include_str!("../coverage.toml"))
    }

    fn read(text: &str) -> Result<Wanted, String> {
        let wanted: BTreeMap<String, Vec<String>> =
            toml::from_str(text).map_err(|error| format!("sim/coverage.toml: {error}"))?;
        match wanted.keys().find(|rule| !RULES.contains(&rule.as_str())) {
            Some(rule) => Err(format!(
                "sim/coverage.toml: there is no rule {rule:?}: known are {}",
                RULES.join(", ")
            )),
            None => Ok(Wanted(wanted)),
        }
    }

    /// What a run has not shown, one sentence each.
    pub fn missing(&self, report: &Report) -> Vec<String> {
        let mut missing = Vec::new();
        for (rule, kinds) in &self.0 {
            for kind in kinds {
                let hit = |(a, b): &(&str, &str)| a == rule && b == kind;
                if report.pairs.keys().any(hit) {
                    continue;
                }
                missing.push(match report.faults.contains_key(kind.as_str()) {
                    true => format!("rule {rule} never answered upon {kind:?}"),
                    false => format!("rule {rule}: no fault {kind:?} was seen"),
                });
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_can_be_read() {
        let wanted = Wanted::stated().unwrap_or_else(|error| panic!("{error}"));
        assert!(wanted.0.values().flatten().count() > 100);
    }

    #[test]
    fn an_unknown_rule_is_told_the_known_ones() {
        let error = Wanted::read("folow = []").err().unwrap_or_default();
        assert!(error.contains("\"folow\"") && error.contains("lock_free, rewind, follow"));
    }

    #[test]
    fn what_is_not_shown_is_missing() {
        let wanted = Wanted::read("fence = [\"agent killed\", \"disk full\", \"etcd down\"]");
        let wanted = wanted.unwrap_or_else(|error| panic!("{error}"));
        let mut report = Report::default();
        report.faults.insert("agent killed", 1);
        report.faults.insert("etcd down", 1);
        report.pairs.insert(("fence", "etcd down"), 1);
        let missing = [
            "rule fence never answered upon \"agent killed\"",
            "rule fence: no fault \"disk full\" was seen",
        ];
        assert_eq!(wanted.missing(&report), missing);
    }
}
