//! What clients were told: every acknowledged row with its node and its time, and the figures
//! that follow from them. Pure but for the lock that collects entries of several clients.

use super::clock::Instant;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One row that the server acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Number of the node that acknowledged.
    pub(crate) node: usize,
    /// Number of the client; with `id` the row's key.
    pub(crate) client: i32,
    /// Number of the row within its client.
    pub(crate) id: i64,
    /// When the statement was sent.
    pub(crate) sent: Instant,
    /// When the acknowledgement arrived.
    pub(crate) at: Instant,
}

/// The shared list of acknowledgements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Ack>>>);

impl Ledger {
    /// Adds an acknowledgement.
    pub(crate) fn note(&self, ack: Ack) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ack);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// All of them, ordered by arrival.
    pub(crate) fn sorted(&self) -> Vec<Ack> {
        let mut acks = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        acks.sort_by_key(|a| a.at);
        acks
    }

    /// The last acknowledgement so far.
    pub(crate) fn last(&self) -> Option<Ack> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acks.iter().max_by_key(|a| a.at).copied()
    }

    /// The first acknowledgement of a row that was sent at or after `from`.
    pub(crate) fn first_sent_after(&self, from: Instant) -> Option<Ack> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acks.iter()
            .filter(|a| a.sent >= from)
            .min_by_key(|a| a.at)
            .copied()
    }

    /// The first acknowledgement at or after `from` by a node for which `node` holds.
    pub(crate) fn first_by(&self, from: Instant, node: impl Fn(usize) -> bool) -> Option<Ack> {
        let acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        acks.iter()
            .filter(|a| a.at >= from && node(a.node))
            .min_by_key(|a| a.at)
            .copied()
    }
}

/// A time without an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Gap {
    /// The last acknowledgement before it.
    pub(crate) before: Ack,
    /// The first one after it.
    pub(crate) after: Ack,
}

impl Gap {
    /// Its length in ms.
    pub(crate) fn ms(&self) -> f64 {
        self.after.at.ms_since(self.before.at)
    }
}

impl fmt::Display for Gap {
    /// With the time of day, to be compared with the agents' logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before, self.after);
        let (from, to) = (before.at.time_of_day(), after.at.time_of_day());
        write!(
            f,
            "gap from {from} (n{}) to {to} UTC (n{})",
            before.node + 1,
            after.node + 1
        )
    }
}

/// The longest gap between neighbours of `acks` (which is ordered by arrival) that ended at or after
/// `from`. `None`: there is none.
pub(crate) fn longest_gap(acks: &[Ack], from: Instant) -> Option<Gap> {
    acks.windows(2)
        .filter(|pair| pair[1].at >= from)
        .map(|pair| Gap {
            before: pair[0],
            after: pair[1],
        })
        .max_by(|a, b| a.ms().total_cmp(&b.ms()))
}

/// What a former primary did after its successor had begun to acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Overlap {
    /// Rows acknowledged by the old node at or after the first acknowledgement by another.
    pub(crate) rows: usize,
    /// Time in ms from that first acknowledgement to the old node's last.
    pub(crate) ms: f64,
}

/// The overlap of `old` with the nodes after it; `acks` is ordered by arrival.
pub(crate) fn overlap(acks: &[Ack], old: usize, from: Instant) -> Overlap {
    let first_new = acks.iter().find(|a| a.at >= from && a.node != old);
    let Some(first_new) = first_new else {
        return Overlap::default();
    };
    let late = acks
        .iter()
        .filter(|a| a.node == old && a.at >= first_new.at);
    let last = late.clone().next_back();
    Overlap {
        rows: late.count(),
        ms: last.map_or(0.0, |a| a.at.ms_since(first_new.at)),
    }
}

/// How many acknowledged rows are not among `present` (client, id).
pub(crate) fn missing(acks: &[Ack], present: &HashSet<(i32, i64)>) -> usize {
    acks.iter()
        .filter(|a| !present.contains(&(a.client, a.id)))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(node: usize, id: i64, ms: u64) -> Ack {
        let at = Instant(ms * 1_000_000);
        Ack {
            node,
            client: 1,
            id,
            sent: at,
            at,
        }
    }

    #[test]
    fn the_longest_gap_counts_from_the_event() {
        let acks = [ack(0, 1, 0), ack(0, 2, 900), ack(0, 3, 901), ack(1, 4, 980)];
        let ms = |from| longest_gap(&acks, Instant(from)).map(|gap| gap.ms());
        assert_eq!(ms(900_500_000), Some(79.0));
        assert_eq!(ms(0), Some(900.0));
        assert_eq!(longest_gap(&acks[..1], Instant(0)), None);
    }

    #[test]
    fn an_overlap_is_what_the_old_node_says_after_the_new_one() {
        let acks = [ack(0, 1, 0), ack(1, 2, 10), ack(0, 3, 12), ack(0, 4, 15)];
        let seen = overlap(&acks, 0, Instant(0));
        assert_eq!(seen, Overlap { rows: 2, ms: 5.0 });
        assert_eq!(overlap(&acks[..1], 0, Instant(0)), Overlap::default());
    }

    #[test]
    fn missing_rows_are_acknowledged_and_absent() {
        let acks = [ack(0, 1, 0), ack(0, 2, 1)];
        assert_eq!(missing(&acks, &HashSet::from([(1, 2), (1, 3)])), 1);
    }
}
