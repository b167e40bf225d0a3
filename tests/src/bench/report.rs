//! From samples to tables: one section per event, one line per system.

use pgherd_tests::measure::machine::Facts;
use pgherd_tests::measure::stats::{Summary, grouped, summary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Who keeps the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    /// Nobody: the steps by hand.
    Hand,
    /// Genuine Patroni.
    Patroni,
    /// The product.
    Pgherd,
}

impl System {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            System::Hand => "by hand",
            System::Patroni => "Patroni",
            System::Pgherd => "pgherd",
        }
    }
}

/// Named figures of one run, in the order of the table.
pub(crate) type Figures = Vec<(&'static str, f64)>;

/// One run of one event by one system.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Key of the event.
    pub(crate) event: String,
    /// Who kept the cluster.
    pub(crate) system: System,
    /// Settings that make the difference; empty if there is nothing to tell apart.
    pub(crate) label: String,
    /// What was measured, or why nothing was.
    pub(crate) outcome: Result<Vec<(String, f64)>, String>,
}

/// What the product promises for the first figure, or for a count.
#[derive(Clone, Debug)]
pub(crate) enum Bound {
    /// Median of the named figure, at most so many times that of the first line by hand.
    TimesHand(&'static str, f64),
    /// The named figure of the lines with this label: every sample at most this.
    AtMost(&'static str, String, f64),
    /// The named figure is zero in every sample.
    Zero(&'static str),
}

/// Head of an event's section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// Key of the event.
    pub(crate) event: &'static str,
    /// Heading.
    pub(crate) title: &'static str,
    /// One or two sentences on what happens and what is measured.
    pub(crate) about: &'static str,
    /// Promises of the product.
    pub(crate) bounds: Vec<Bound>,
}

/// Samples of one line, figure by figure.
struct Line<'a> {
    system: System,
    label: &'a str,
    figures: Vec<(&'a str, Vec<f64>)>,
    failures: Vec<&'a str>,
}

impl Line<'_> {
    fn summary(&self, figure: &str) -> Option<Summary> {
        let (_, values) = self.figures.iter().find(|(name, _)| *name == figure)?;
        summary(values)
    }

    fn name(&self) -> String {
        if self.label.is_empty() {
            self.system.name().to_owned()
        } else {
            format!("{}, {}", self.system.name(), self.label)
        }
    }
}

/// Lines of one event, by hand first, each system's in the order of their first sample.
fn lines<'a>(event: &str, samples: &'a [Sample]) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for sample in samples.iter().filter(|s| s.event == event) {
        let place = lines
            .iter()
            .position(|l| l.system == sample.system && l.label == sample.label)
            .unwrap_or_else(|| {
                lines.push(Line {
                    system: sample.system,
                    label: &sample.label,
                    figures: Vec::new(),
                    failures: Vec::new(),
                });
                lines.len() - 1
            });
        let line = &mut lines[place];
        match &sample.outcome {
            Err(why) => line.failures.push(why),
            Ok(figures) => {
                for (name, value) in figures {
                    match line.figures.iter_mut().find(|(n, _)| n == name) {
                        Some((_, values)) => values.push(*value),
                        None => line.figures.push((name, vec![*value])),
                    }
                }
            }
        }
    }
    lines.sort_by_key(|l| l.system);
    lines
}

/// The whole report as Markdown.
pub(crate) fn markdown(facts: &Facts, sections: &[Section], samples: &[Sample]) -> String {
    let mut out = String::new();
    for (name, value) in facts {
        let _ = writeln!(out, "- {name}: {value}");
    }
    overview(&mut out, sections, samples);
    for section in sections {
        let lines = lines(section.event, samples);
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n#### {}\n\n{}\n", section.title, section.about);
        table(&mut out, &lines);
        for (text, good) in verdicts(section, &lines, &lines) {
            let word = if good { "met" } else { "NOT met" };
            let _ = writeln!(out, "\n{text}: {word}.");
        }
        for line in &lines {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for failure in &line.failures {
                *counts.entry(failure).or_default() += 1;
            }
            for (failure, count) in counts {
                let _ = writeln!(
                    out,
                    "\n{}: {count} run(s) without a figure: {failure}",
                    line.name()
                );
            }
        }
    }
    out
}

fn table(out: &mut String, lines: &[Line<'_>]) {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in lines.iter().flat_map(|l| &l.figures) {
        if !columns.contains(name) {
            columns.push(name);
        }
    }
    let floor = columns.first().copied().unwrap_or_default();
    let patroni = first(lines, System::Patroni, &columns);
    let _ = write!(out, "| |");
    for column in &columns {
        let _ = write!(out, " {column} |");
    }
    let _ = writeln!(out, " runs | x by hand | Patroni / this |");
    let _ = writeln!(out, "|---|{}---|---|---|", "---|".repeat(columns.len()));
    for line in lines {
        let _ = write!(out, "| {} |", line.name());
        for column in &columns {
            let _ = write!(
                out,
                " {} |",
                line.summary(column).map_or_else(|| "-".into(), cell)
            );
        }
        let own = columns.first().and_then(|c| line.summary(c));
        let runs = own.map_or(0, |s| s.count);
        let own = own.map(|s| s.median);
        let hand = hand(lines, line.label, floor).map(|s| s.median);
        let _ = writeln!(
            out,
            " {runs} | {} | {} |",
            ratio(own, hand),
            ratio(patroni, own)
        );
    }
}

/// The floor of a figure: the line by hand of the same label, else, for a line without a label, the
/// first one by hand.
fn hand(lines: &[Line<'_>], label: &str, figure: &str) -> Option<Summary> {
    let all = || lines.iter().filter(|l| l.system == System::Hand);
    let same = all().find(|l| l.label == label);
    same.or_else(|| all().next().filter(|_| label.is_empty()))?
        .summary(figure)
}

/// One line per event and setting of the product: its first figure beside the others'.
fn overview(out: &mut String, sections: &[Section], samples: &[Sample]) {
    let _ = writeln!(out, "\n| event | by hand | Patroni | pgherd | promises |");
    let _ = writeln!(out, "|---|---|---|---|---|");
    for section in sections {
        let lines = lines(section.event, samples);
        let figure = lines
            .iter()
            .find_map(|l| Some(l.figures.first()?.0))
            .unwrap_or_default();
        let patroni = lines.iter().find(|l| l.system == System::Patroni);
        let patroni = patroni.and_then(|l| l.summary(figure));
        for line in lines.iter().filter(|l| l.system == System::Pgherd) {
            let judged = verdicts(section, std::slice::from_ref(line), &lines);
            let met = judged.iter().filter(|(_, good)| *good).count();
            let text = |s: Option<Summary>| s.map_or_else(|| "-".into(), cell);
            let label = if line.label.is_empty() { "" } else { ", " };
            let failed = match line.failures.len() {
                0 => String::new(),
                count => format!(", {count} run(s) without a figure"),
            };
            let _ = writeln!(
                out,
                "| {}{label}{}: {figure} | {} | {} | {} | {met} of {} met{failed} |",
                section.title,
                line.label,
                text(hand(&lines, line.label, figure)),
                text(patroni),
                text(line.summary(figure)),
                judged.len(),
            );
        }
    }
}

/// Median of the first figure of a system's first line.
fn first(lines: &[Line<'_>], system: System, columns: &[&str]) -> Option<f64> {
    let line = lines.iter().find(|l| l.system == system)?;
    Some(line.summary(columns.first()?)?.median)
}

fn ratio(a: Option<f64>, b: Option<f64>) -> String {
    match (a, b) {
        (Some(a), Some(b)) if b > 0.0 => format!("{:.2}", a / b),
        _ => "-".to_owned(),
    }
}

fn cell(s: Summary) -> String {
    let (median, min, max) = (grouped(s.median), grouped(s.min), grouped(s.max));
    if min == max {
        median
    } else {
        format!("{median} ({min}-{max})")
    }
}

/// Promises of a section for the lines that are `judged`, with what was seen; none for a promise nobody was measured for.
fn verdicts(section: &Section, judged: &[Line<'_>], lines: &[Line<'_>]) -> Vec<(String, bool)> {
    let ours = || judged.iter().filter(|l| l.system == System::Pgherd);
    let mut found = Vec::new();
    for bound in &section.bounds {
        match bound {
            Bound::TimesHand(figure, limit) => {
                let hand = hand(lines, "", figure);
                let own = ours().next().and_then(|l| l.summary(figure));
                if let (Some(hand), Some(own)) = (hand, own) {
                    let seen = own.median / hand.median;
                    let text = format!("{figure}: {seen:.2} x by hand, bound {limit} x");
                    found.push((text, seen <= *limit));
                }
            }
            Bound::AtMost(figure, label, limit) => {
                for line in ours().filter(|l| l.label == *label) {
                    if let Some(own) = line.summary(figure) {
                        let (most, bound) = (grouped(own.max), grouped(*limit));
                        let text =
                            format!("{}: {figure} at most {most}, bound {bound}", line.name());
                        found.push((text, own.max <= *limit));
                    }
                }
            }
            Bound::Zero(figure) => {
                for line in ours() {
                    if let Some(own) = line.summary(figure) {
                        let text = format!(
                            "{}: {figure} at most {}, must be 0",
                            line.name(),
                            grouped(own.max)
                        );
                        found.push((text, own.max < 0.5));
                    }
                }
            }
        }
    }
    found
}

/// Whether a promise of safety was broken, or a run of the product failed.
pub(crate) fn broken(sections: &[Section], samples: &[Sample]) -> bool {
    let failed = samples
        .iter()
        .any(|s| s.system == System::Pgherd && s.outcome.is_err());
    failed
        || sections.iter().any(|section| {
            let safety = Section {
                bounds: section
                    .bounds
                    .iter()
                    .filter(|b| matches!(b, Bound::Zero(_)))
                    .cloned()
                    .collect(),
                ..section.clone()
            };
            let lines = lines(section.event, samples);
            let judged = verdicts(&safety, &lines, &lines);
            judged.iter().any(|(_, good)| !good)
        })
}

/// Every sample, for other programs and for [`parse`].
pub(crate) fn document(facts: &Facts, samples: &[Sample]) -> Value {
    let facts: Vec<Value> = facts.iter().map(|(n, v)| json!([n, v])).collect();
    let samples: Vec<Value> = samples
        .iter()
        .map(|s| {
            let mut one = json!({"event": s.event, "system": s.system.name(), "label": s.label});
            match &s.outcome {
                Ok(figures) => {
                    one["figures"] = figures.iter().map(|(n, v)| json!([n, v])).collect()
                }
                Err(why) => one["failure"] = Value::from(why.as_str()),
            }
            one
        })
        .collect();
    json!({"machine": facts, "samples": samples})
}

/// What [`document`] wrote; parts that are not understood are left out.
pub(crate) fn parse(document: &Value) -> (Facts, Vec<Sample>) {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let facts = list(&document["machine"])
        .iter()
        .map(|p| (text(&p[0]), text(&p[1])))
        .collect();
    let samples = list(&document["samples"])
        .iter()
        .filter_map(|s| {
            let systems = [System::Hand, System::Patroni, System::Pgherd];
            let figures = list(&s["figures"]);
            Some(Sample {
                event: text(&s["event"]),
                system: systems.into_iter().find(|y| s["system"] == y.name())?,
                label: text(&s["label"]),
                outcome: match s["failure"].as_str() {
                    Some(why) => Err(why.to_owned()),
                    None => Ok(figures
                        .iter()
                        .map(|f| (text(&f[0]), f[1].as_f64().unwrap_or(f64::NAN)))
                        .collect()),
                },
            })
        })
        .collect();
    (facts, samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(system: System, gap: f64, missing: f64) -> Sample {
        Sample {
            event: "a".to_owned(),
            system,
            label: String::new(),
            outcome: Ok(vec![
                ("gap, ms".to_owned(), gap),
                ("missing".to_owned(), missing),
            ]),
        }
    }

    fn section() -> Section {
        Section {
            event: "a",
            title: "Switchover",
            about: "About.",
            bounds: vec![Bound::TimesHand("gap, ms", 2.0), Bound::Zero("missing")],
        }
    }

    #[test]
    fn a_section_has_a_line_per_system_with_ratios() {
        let samples = [
            sample(System::Pgherd, 110.0, 0.0),
            sample(System::Hand, 70.0, 0.0),
            sample(System::Patroni, 1400.0, 0.0),
            sample(System::Hand, 90.0, 0.0),
        ];
        let text = markdown(&Vec::new(), &[section()], &samples);
        assert!(
            text.contains("| by hand | 80 (70-90) | 0 | 2 | 1.00 | 17.50 |"),
            "{text}"
        );
        assert!(
            text.contains("| pgherd | 110 | 0 | 1 | 1.38 | 12.73 |"),
            "{text}"
        );
        assert!(text.contains("1.38 x by hand, bound 2 x: met."), "{text}");
        assert!(!broken(&[section()], &samples));
    }

    #[test]
    fn samples_survive_the_file() {
        let mut failed = sample(System::Patroni, 0.0, 0.0);
        failed.outcome = Err("no other primary".to_owned());
        let samples = [sample(System::Hand, 70.25, 0.0), failed];
        let facts = vec![("kernel".to_owned(), "6.1".to_owned())];
        let (facts_read, read) = parse(&document(&facts, &samples));
        assert_eq!(facts_read, facts);
        assert_eq!(format!("{read:?}"), format!("{samples:?}"));
    }

    #[test]
    fn a_missing_row_breaks_the_run() {
        let samples = [sample(System::Pgherd, 10.0, 1.0)];
        assert!(broken(&[section()], &samples));
        let others = [sample(System::Patroni, 10.0, 1.0)];
        assert!(!broken(&[section()], &others));
    }
}
