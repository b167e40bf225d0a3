//! The tables: what was measured beside what was promised.

use super::clients::Seen;
use super::footprint::Footprint;
use pgherd_tests::measure::machine::Facts;
use pgherd_tests::measure::stats::{grouped, summary};

/// Promises: milliseconds, MB, threads, seconds per minute, requests per minute.
const START_MS: f64 = 30.0;
const MEMORY_MB: f64 = 8.0;
const THREADS: usize = 6;
const CPU: f64 = 0.03;
const REQUESTS: f64 = 30.0;
/// Of HAProxy's rate at least this share, and no answer but one in a hundred later than this.
const RATE: f64 = 0.5;
const P99_MS: f64 = 2.0;

/// Who keeps the cluster, and with which times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Patroni's defaults.
    Patroni,
    /// pgherd with `lease_ttl: 5`.
    Fast,
    /// pgherd with Patroni's defaults.
    Defaults,
}

impl Setting {
    /// In the order of the report.
    pub(crate) const ALL: [Setting; 3] = [Setting::Patroni, Setting::Fast, Setting::Defaults];

    /// For a person.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Setting::Patroni => "Patroni",
            Setting::Fast => "pgherd, lease_ttl 5",
            Setting::Defaults => "pgherd, Patroni's defaults",
        }
    }
}

/// Answers of HAProxy and of the agent, run by run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) fixed: Vec<Seen>,
    pub(crate) agent: Vec<Seen>,
}

/// All figures of one setting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    /// From the start to the first 200 on `/liveness`.
    pub(crate) start_ms: Vec<f64>,
    pub(crate) leader: Footprint,
    pub(crate) replica: Footprint,
    /// Requests to etcd per minute, of three nodes.
    pub(crate) requests: f64,
    /// A connection for each request.
    pub(crate) each: Rates,
    /// Connections kept.
    pub(crate) kept: Rates,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) facts: Facts,
    pub(crate) settings: Vec<(Setting, Figures)>,
}

impl Measured {
    /// Whether no answer of the product was missing or wrong.
    pub(crate) fn is_whole(&self) -> bool {
        let product = self.settings.iter().filter(|(s, _)| *s != Setting::Patroni);
        let mut seen = product.flat_map(|(_, it)| it.each.agent.iter().chain(&it.kept.agent));
        !self.settings.is_empty() && seen.all(|seen| seen.errors == 0)
    }
}

/// The report.
pub(crate) fn markdown(measured: &Measured) -> String {
    let mut out = String::new();
    for (name, value) in &measured.facts {
        out.push_str(&format!("- {name}: {value}\n"));
    }
    out.push_str("\n| figure |");
    for (setting, _) in &measured.settings {
        out.push_str(&format!(" {} |", setting.name()));
    }
    out.push_str(" promise |\n|---|");
    out.push_str(&"---|".repeat(measured.settings.len() + 1));
    out.push('\n');
    for line in LINES {
        out.push_str(&format!("| {} |", line.name));
        let mut kept = true;
        for (setting, figures) in &measured.settings {
            let (text, good) = (line.cell)(figures);
            let bound = line.only.is_none_or(|only| only == *setting);
            kept &= good || !bound || *setting == Setting::Patroni;
            out.push_str(&format!(" {text} |"));
        }
        let word = if kept { "met" } else { "not met" };
        let promise = line.promise.map(|text| format!("{}: {word}", text()));
        out.push_str(&format!(" {} |\n", promise.as_deref().unwrap_or("-")));
    }
    out
}

/// A line of the table: its text for a setting, and whether that is within the promise.
struct Line {
    name: &'static str,
    cell: fn(&Figures) -> (String, bool),
    /// `None`: a figure to compare with.
    promise: Option<fn() -> String>,
    /// The promise is for this setting alone.
    only: Option<Setting>,
}

const LINES: [Line; 10] = [
    Line {
        name: "start to the first 200 on `/liveness`, ms",
        cell: |it| match summary(&it.start_ms) {
            Some(s) => (
                format!("{:.0} ({:.0}-{:.0})", s.median, s.min, s.max),
                s.median <= START_MS,
            ),
            None => nothing(),
        },
        promise: Some(|| format!("at most {START_MS}")),
        only: None,
    },
    Line {
        name: "memory (PSS) of leader / replica, MB, guard included",
        cell: |it| {
            let (a, b) = (it.leader.memory_mb, it.replica.memory_mb);
            (format!("{a:.1} / {b:.1}"), a.max(b) <= MEMORY_MB)
        },
        promise: Some(|| format!("at most {MEMORY_MB}")),
        only: None,
    },
    Line {
        name: "threads of leader / replica",
        cell: |it| {
            let (a, b) = (it.leader.threads, it.replica.threads);
            (format!("{a} / {b}"), a.max(b) <= THREADS)
        },
        promise: Some(|| format!("at most {THREADS}")),
        only: None,
    },
    Line {
        name: "idle processor time of leader / replica, s per minute",
        cell: |it| {
            let (a, b) = (it.leader.cpu, it.replica.cpu);
            (format!("{a:.3} / {b:.3}"), a.max(b) <= CPU)
        },
        promise: Some(|| format!("at most {CPU}")),
        only: None,
    },
    Line {
        name: "`GET /primary`, a connection each: answers per second",
        cell: |it| rate(&it.each),
        promise: Some(|| format!("at least {RATE} x HAProxy")),
        only: None,
    },
    Line {
        name: "its p99, ms",
        cell: |it| p99(&it.each),
        promise: Some(|| format!("at most {P99_MS}, no errors")),
        only: None,
    },
    Line {
        name: "`GET /primary`, connections kept: answers per second",
        cell: |it| rate(&it.kept),
        promise: Some(|| format!("at least {RATE} x HAProxy")),
        only: None,
    },
    Line {
        name: "its p99, ms, connections kept",
        cell: |it| p99(&it.kept),
        promise: Some(|| format!("at most {P99_MS}, no errors")),
        only: None,
    },
    Line {
        name: "HAProxy's fixed answer: each / kept, per second",
        cell: |it| match (rates(&it.each.fixed), rates(&it.kept.fixed)) {
            (Some(each), Some(kept)) => (format!("{} / {}", grouped(each), grouped(kept)), true),
            _ => nothing(),
        },
        promise: None,
        only: None,
    },
    Line {
        name: "requests to etcd per minute, three idle nodes",
        cell: |it| (format!("{:.1}", it.requests), it.requests <= REQUESTS),
        promise: Some(|| format!("at most {REQUESTS} with Patroni's defaults")),
        only: Some(Setting::Defaults),
    },
];

fn nothing() -> (String, bool) {
    ("-".to_owned(), true)
}

fn rates(seen: &[Seen]) -> Option<f64> {
    let rates: Vec<f64> = seen.iter().map(|seen| seen.rate).collect();
    summary(&rates).map(|s| s.median)
}

fn rate(rates_of: &Rates) -> (String, bool) {
    let (Some(agent), Some(fixed)) = (rates(&rates_of.agent), rates(&rates_of.fixed)) else {
        return nothing();
    };
    let share = agent / fixed;
    let text = format!("{} ({share:.2} x HAProxy)", grouped(agent));
    (text, share >= RATE)
}

fn p99(rates_of: &Rates) -> (String, bool) {
    let all: Vec<f64> = rates_of.agent.iter().map(|seen| seen.p99_ms).collect();
    let errors: usize = rates_of.agent.iter().map(|seen| seen.errors).sum();
    match summary(&all) {
        Some(s) => (
            format!(
                "{:.2} ({:.2}-{:.2}), {errors} errors",
                s.median, s.min, s.max
            ),
            s.median <= P99_MS && errors == 0,
        ),
        None => nothing(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_shows() {
        let seen = |rate, p99_ms| Seen {
            rate,
            p99_ms,
            errors: 0,
        };
        let mut figures = Figures {
            start_ms: vec![10.0, 31.0, 12.0],
            requests: 29.0,
            ..Figures::default()
        };
        figures.each.fixed.push(seen(1000.0, 1.0));
        figures.each.agent.push(seen(499.0, 2.1));
        let measured = |setting| {
            let settings = vec![(setting, figures.clone())];
            markdown(&Measured {
                facts: Vec::new(),
                settings,
            })
        };
        let text = measured(Setting::Fast);
        assert!(text.contains("| 12 (10-31) | at most 30: met |"), "{text}");
        assert!(text.contains("| 499 (0.50 x HAProxy) | at least 0.5 x HAProxy: not met |"));
        assert!(text.contains("| 2.10 (2.10-2.10), 0 errors | at most 2, no errors: not met |"));
        // Patroni promises nothing.
        assert!(!measured(Setting::Patroni).contains("not met"));
    }
}
