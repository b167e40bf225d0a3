//! The journals of real agents as a story: the lines that `pgherd agent` keeps beside the data
//! (`data.pgherd-journal`), of one member or of several. Their form is that of `wire::journal`; whatever a line
//! has is a fact, so a newer one is understood as well.

use std::collections::BTreeMap;

use serde_json::Value;

use super::differences::flatten;
use super::{Facts, Mark, Source, Step};

/// What a line says of itself and not of the world.
const OF_THE_LINE: [&str; 15] = [
    "at", "boot_ms", "member", "agent", "seq", "kind", "rule", "severity", "reason", "actions",
    "view", "revision", "wrote", "took_ms", "dropped",
];

/// Lines of journals, in the order of their moments.
#[derive(Debug)]
pub struct Journal {
    lines: std::vec::IntoIter<(String, Value)>,
    begun: Option<String>,
    /// What each member last told.
    facts: BTreeMap<String, Facts>,
    /// Lines that are none.
    pub unreadable: usize,
}

impl Journal {
    /// The lines of all these texts.
    pub fn read(texts: &[String]) -> Journal {
        let (mut lines, mut unreadable) = (Vec::new(), 0);
        for line in texts.iter().flat_map(|text| text.lines()) {
            match serde_json::from_str::<Value>(line) {
                Ok(value) if value["at"].is_string() => lines.push((text(&value, "at"), value)),
                // The first line of an answer to `GET /journal`.
                Ok(value) if value["journal"].is_string() => {}
                _ => unreadable += usize::from(!line.trim().is_empty()),
            }
        }
        // Stamps of one width: as texts they are in the order of time. Lines of one member stay in theirs.
        lines.sort_by(|(one, _), (other, _)| one.cmp(other));
        Journal {
            lines: lines.into_iter(),
            begun: None,
            facts: BTreeMap::new(),
            unreadable,
        }
    }

    fn note(&mut self, member: &str, line: &Value) {
        let mut told = Facts::new();
        for (name, value) in line.as_object().into_iter().flatten() {
            if !OF_THE_LINE.contains(&name.as_str()) {
                flatten(name, value, &mut told);
            }
        }
        let known = self.facts.entry(member.to_owned()).or_default();
        for name in ["leader", "term", "role", "postgres", "timeline", "lsn"] {
            known.remove(name);
            if let Some(value) = told.remove(name) {
                known.insert(name.into(), value);
            }
        }
        if line["view"].is_object() {
            known.retain(|name, _| !name.starts_with("view."));
            flatten("view", &line["view"], known);
        }
    }
}

impl Source for Journal {
    fn next(&mut self) -> Option<Step> {
        let (at, line) = self.lines.next()?;
        let member = text(&line, "member");
        self.note(&member, &line);
        let begun = self.begun.get_or_insert_with(|| at.clone()).clone();
        let (said, marks) = told(&line);
        let mut all = Facts::new();
        for (member, facts) in &self.facts {
            let named = facts
                .iter()
                .map(|(name, value)| (format!("{member} {name}"), value));
            all.extend(named.map(|(name, value)| (name, value.clone())));
        }
        Some(Step {
            seconds: seconds(&at) - seconds(&begun),
            who: Some(member),
            said: vec![format!("{at} {said}")],
            marks,
            facts: all,
            ..Step::default()
        })
    }
}

/// What it says, and by what one stops.
fn told(line: &Value) -> (String, Vec<Mark>) {
    let word = |name: &str| text(line, name);
    match word("kind").as_str() {
        "decision" => {
            let actions = line["actions"].as_array().into_iter().flatten();
            let actions: Vec<String> = actions
                .filter_map(Value::as_str)
                .map(String::from)
                .collect();
            let said = format!("{}: {} {actions:?}", word("rule"), word("reason"));
            let mut marks = vec![Mark::Rule(word("rule"))];
            marks.extend(actions.into_iter().map(Mark::Action));
            (said, marks)
        }
        "action" => {
            let said = format!(
                "{} {} {}: {}",
                word("name"),
                word("detail"),
                word("outcome"),
                word("error")
            );
            (said, vec![Mark::Action(word("name"))])
        }
        "job_begun" => (
            format!("{} begins: {}", word("name"), word("words")),
            vec![Mark::Action(word("name"))],
        ),
        "job_ended" => (
            format!(
                "{} ended: {} {}",
                word("name"),
                word("outcome"),
                word("error")
            ),
            vec![],
        ),
        "answer" => (
            format!(
                "{} answers: {} {} {}",
                word("from"),
                word("its_role"),
                word("its_state"),
                word("its_lsn")
            ),
            vec![],
        ),
        "noticed" => (format!("{} {}", word("event"), word("detail")), vec![]),
        "start" => (
            format!("the agent begins, version {}", word("version")),
            vec![],
        ),
        other => (
            format!("{other:?}, which only a newer version knows"),
            vec![],
        ),
    }
}

fn text(line: &Value, name: &str) -> String {
    line[name].as_str().unwrap_or_default().to_owned()
}

/// Seconds since 1970.
fn seconds(at: &str) -> f64 {
    let at: jiff::Timestamp = at.parse().unwrap_or_default();
    at.as_millisecond() as f64 / 1e3
}
