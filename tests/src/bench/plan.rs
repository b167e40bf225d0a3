//! What is measured: the events with their promises, and for each the systems and settings that
//! take part.

use super::report::{Bound, Section, System};
use pgherd_tests::{Value, json};

/// Names of the figures.
pub(crate) const GAP: &str = "longest gap between acknowledged writes, ms";
/// Acknowledged rows that are not there at the end.
pub(crate) const MISSING: &str = "acknowledged rows missing";
/// Rows acknowledged by the former primary at or after the first one of its successor.
pub(crate) const LATE: &str = "rows acknowledged by the old node after the new one's first";
/// Time during which both acknowledged.
pub(crate) const BOTH: &str = "ms with two writable primaries";
/// From the event to the first acknowledgement by another node.
pub(crate) const MOVED: &str = "until the new primary's first acknowledgement, ms";
/// From the start of three agents to two streaming standbys.
pub(crate) const FORMED: &str = "until all stream, ms";

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Planned change of the primary.
    Switchover,
    /// Postmaster and children die; another node takes over.
    CrashHandover,
    /// Postmaster and children die; restart in place.
    CrashRestart,
    /// The postmaster alone dies; its children work on.
    PostmasterKilled,
    /// The postmaster alone is stopped; its children work on.
    PostmasterStopped,
    /// Every process of the node dies.
    NodeKilled,
    /// The node's network drops everything both ways.
    NodeCut,
    /// The agent alone is stopped.
    AgentStopped,
    /// Three nodes from empty directories.
    Bootstrap,
}

/// All events with their letters, in the order of the report.
pub(crate) const EVENTS: [(&str, Event); 9] = [
    ("a", Event::Switchover),
    ("b", Event::CrashHandover),
    ("c", Event::CrashRestart),
    ("d1", Event::PostmasterKilled),
    ("d2", Event::PostmasterStopped),
    ("e1", Event::NodeKilled),
    ("e2", Event::NodeCut),
    ("f", Event::AgentStopped),
    ("g", Event::Bootstrap),
];

/// A system with the settings by which it takes part in an event.
#[derive(Clone, Debug)]
pub(crate) struct Entrant {
    /// Who keeps the cluster.
    pub(crate) system: System,
    /// Tells entrants of one system apart.
    pub(crate) label: &'static str,
    /// Merged into the dynamic settings of an agent.
    pub(crate) dcs: Value,
    /// By hand: L in seconds where a lease takes part, and syncfs in crash recovery.
    pub(crate) lease: u32,
    /// See `lease`.
    pub(crate) syncfs: bool,
}

/// Life of the lease in the fast profile, seconds.
const FAST: u32 = 5;
const DEFAULTS: &str = "Patroni's defaults, L 20 s";

fn entrant(system: System, label: &'static str, dcs: Value) -> Entrant {
    Entrant {
        system,
        label,
        dcs,
        lease: FAST,
        syncfs: true,
    }
}

fn hand(label: &'static str, lease: u32, syncfs: bool) -> Entrant {
    Entrant {
        lease,
        syncfs,
        ..entrant(System::Hand, label, json!({}))
    }
}

/// `pgherd.lease_ttl` of the fast profile beside Patroni's default times.
fn fast(extra: &Value) -> Value {
    merged(json!({"pgherd": {"lease_ttl": FAST}}), extra)
}

fn merged(mut base: Value, extra: &Value) -> Value {
    pgherd_tests::yaml::merge(&mut base, extra);
    base
}

/// Patroni with everything as fast as it allows.
fn fastest() -> Value {
    json!({"ttl": 20, "loop_wait": 1, "retry_timeout": 3})
}

impl Event {
    /// Who takes part, and how.
    pub(crate) fn entrants(self) -> Vec<Entrant> {
        use System::{Hand, Patroni, Pgherd};
        let none = json!({});
        let at_once = json!({"primary_start_timeout": 0});
        // The licence of a hung PostgreSQL is lost after this; the default, ttl, only takes longer.
        let hang = json!({"pgherd": {"hang_timeout": 5}});
        match self {
            Event::Switchover | Event::Bootstrap => vec![
                entrant(Hand, "", none.clone()),
                entrant(Patroni, "", none.clone()),
                entrant(Pgherd, "", fast(&none)),
            ],
            Event::CrashHandover => vec![
                entrant(Hand, "", none),
                entrant(Patroni, "", at_once.clone()),
                entrant(Pgherd, "", fast(&at_once)),
            ],
            Event::CrashRestart => vec![
                hand("syncfs", FAST, true),
                hand("fsync (PostgreSQL's default)", FAST, false),
                entrant(Patroni, "", none.clone()),
                entrant(Patroni, "fastest timers", fastest()),
                entrant(Pgherd, "", fast(&none)),
            ],
            Event::PostmasterKilled => vec![
                entrant(Patroni, "", at_once.clone()),
                entrant(Pgherd, "", fast(&at_once)),
            ],
            Event::PostmasterStopped => vec![
                entrant(Patroni, "", at_once.clone()),
                entrant(Pgherd, "", merged(fast(&at_once), &hang)),
            ],
            Event::NodeKilled | Event::NodeCut => vec![
                hand("L 2 s", 2, true),
                hand("L 5 s", 5, true),
                hand(DEFAULTS, 20, true),
                entrant(Patroni, "ttl 30 s", none.clone()),
                entrant(Patroni, "ttl 20 s", json!({"ttl": 20, "retry_timeout": 5})),
                entrant(
                    Pgherd,
                    "L 2 s",
                    merged(none.clone(), &json!({"pgherd": {"lease_ttl": 2}})),
                ),
                entrant(Pgherd, "L 5 s", fast(&none)),
                entrant(Pgherd, DEFAULTS, none),
            ]
            .into_iter()
            .filter(|e| self == Event::NodeKilled || e.system != Hand)
            .collect(),
            Event::AgentStopped => vec![
                entrant(Patroni, "", none.clone()),
                entrant(Pgherd, "L 5 s", fast(&none)),
                entrant(Pgherd, DEFAULTS, none),
            ],
        }
    }

    /// Heading, explanation and promises.
    pub(crate) fn section(self) -> Section {
        let (title, about) = self.words();
        let event = EVENTS
            .iter()
            .find(|(_, e)| *e == self)
            .map_or("", |(key, _)| key);
        Section {
            event,
            title,
            about,
            bounds: self.bounds(),
        }
    }

    /// Heading and explanation.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Event::Switchover => (
                "Switchover",
                "A planned change of the primary while one client writes. By hand: checkpoint, fast \
                 stop, promote.",
            ),
            Event::CrashHandover => (
                "Postmaster and children killed, hand over",
                "With `primary_start_timeout: 0`. By hand: wait until the last process is gone, \
                 promote the standby that received more.",
            ),
            Event::CrashRestart => (
                "Postmaster and children killed, restart in place",
                "By hand: wait until the last process is gone, start again.",
            ),
            Event::PostmasterKilled => (
                "Postmaster alone killed",
                "SIGKILL to the postmaster only, while one client of the old primary pipelines and \
                 one runs inserts of two seconds. `primary_start_timeout: 0`.",
            ),
            Event::PostmasterStopped => (
                "Postmaster alone stopped",
                "SIGSTOP to the postmaster only, clients as above. pgherd runs with \
                 `pgherd.hang_timeout: 5`.",
            ),
            Event::NodeKilled => (
                "Node lost: killed",
                "Agent, guard and PostgreSQL of the primary's node get SIGKILL at once. By hand: a \
                 lease in etcd, renewed every L/5 until the blow; etcd says that it is over, then \
                 promote.",
            ),
            Event::NodeCut => (
                "Node lost: network dropped",
                "The primary's node (agent and PostgreSQL in a network namespace) loses its network \
                 both ways, without an error to anybody. A client inside the node keeps writing to \
                 it through the socket.",
            ),
            Event::AgentStopped => (
                "Leader's agent stopped",
                "SIGSTOP to the agent of the primary until eight seconds after another node has \
                 begun to acknowledge, then SIGCONT; a client on every node.",
            ),
            Event::Bootstrap => (
                "Three nodes from empty directories",
                "Until both standbys stream. By hand: initdb, two base backups at the same time, \
                 start.",
            ),
        }
    }

    /// Promises.
    fn bounds(self) -> Vec<Bound> {
        match self {
            Event::Switchover => vec![Bound::TimesHand(GAP, 2.0), Bound::Zero(MISSING)],
            Event::CrashHandover => vec![Bound::TimesHand(GAP, 3.0)],
            Event::CrashRestart => vec![Bound::TimesHand(GAP, 1.5), Bound::Zero(MISSING)],
            Event::PostmasterKilled | Event::PostmasterStopped => vec![Bound::Zero(LATE)],
            Event::NodeKilled => lease_bounds(GAP, &[]),
            Event::NodeCut => lease_bounds(GAP, &[LATE]),
            Event::AgentStopped => lease_bounds(MOVED, &[BOTH, LATE]),
            Event::Bootstrap => vec![Bound::TimesHand(FORMED, 1.6)],
        }
    }
}

/// L + 700 ms for every L that is measured, and what must be zero.
fn lease_bounds(figure: &'static str, zero: &[&'static str]) -> Vec<Bound> {
    let limits = [("L 2 s", 2_700.0), ("L 5 s", 5_700.0), (DEFAULTS, 20_700.0)];
    let limits = limits.map(|(label, limit)| Bound::AtMost(figure, label.to_owned(), limit));
    limits
        .into_iter()
        .chain(zero.iter().copied().map(Bound::Zero))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_the_product_among_its_entrants_and_a_promise() {
        for (key, event) in EVENTS {
            assert_eq!(event.section().event, key);
            assert!(!event.section().bounds.is_empty());
            let ours = event
                .entrants()
                .into_iter()
                .filter(|e| e.system == System::Pgherd);
            assert!(ours.count() >= 1, "{key}");
        }
    }
}
