//! Which answers are too old to be believed: those of another etcd cluster, and those that carry
//! an older raft term than one already seen (contract: patroni-dcs, section 4).

use etcd_client::ResponseHeader;
use pgherd_model::{Span, Time};
use std::sync::{Mutex, PoisonError};

/// What of an answer's header counts here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    pub(crate) cluster: u64,
    pub(crate) term: u64,
    pub(crate) revision: u64,
    /// The member of etcd that answers.
    pub(crate) member: u64,
}

impl Header {
    /// From etcd's header; an answer without one is as good as zeros, which are not judged.
    pub(crate) fn of(header: Option<&ResponseHeader>) -> Header {
        let revision = header.map_or(0, ResponseHeader::revision);
        Header {
            cluster: header.map_or(0, ResponseHeader::cluster_id),
            term: header.map_or(0, ResponseHeader::raft_term),
            revision: u64::try_from(revision).unwrap_or(0),
            member: header.map_or(0, ResponseHeader::member_id),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    cluster: u64,
    term: u64,
    epoch: u64,
    /// When an answer of this term was first seen.
    since: Time,
    refused_since: Option<Time>,
}

/// The highest term seen, shared by all connections of a node.
///
/// A restored snapshot starts again at a low term, with the same cluster id or another one. So
/// that nobody has to restart every agent, such an answer is accepted once nothing better came
/// for `patience`, which outlasts every lease; that begins a new epoch of revisions.
#[derive(Debug)]
pub(crate) struct Terms {
    state: Mutex<State>,
    patience: Span,
}

impl Terms {
    pub(crate) fn new(patience: Span) -> Terms {
        Terms {
            state: Mutex::default(),
            patience,
        }
    }

    /// When the highest term was first seen, by an answer that had come by then.
    pub(crate) fn since(&self) -> Time {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.since
    }

    /// The epoch that the answer, which came `now`, belongs to, or why it is refused.
    pub(crate) fn check(&self, header: Header, now: Time) -> Result<u64, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if header.cluster == 0 {
            // It carries no header that could be judged.
            return Ok(state.epoch);
        }
        if state.cluster == 0 {
            state.cluster = header.cluster;
        }
        let foreign = header.cluster != state.cluster;
        if !foreign && header.term >= state.term {
            if header.term > state.term {
                state.since = now;
            }
            state.term = header.term;
            state.refused_since = None;
            return Ok(state.epoch);
        }
        let since = *state.refused_since.get_or_insert(now);
        if now.since(since) < self.patience {
            return Err(if foreign {
                format!(
                    "it belongs to another etcd cluster ({:x} instead of {:x}), its answer is not believed",
                    header.cluster, state.cluster
                )
            } else {
                format!(
                    "it is behind (raft term {} after {} was seen), its answer is not believed",
                    header.term, state.term
                )
            });
        }
        tracing::warn!(
            cluster = format!("{:x}", header.cluster),
            term = header.term,
            before = state.term,
            "only an etcd with another cluster id or an older term has answered for {:?}; it was restored, it seems, and is believed from now on",
            self.patience
        );
        *state = State {
            cluster: header.cluster,
            term: header.term,
            epoch: state.epoch + 1,
            since: now,
            refused_since: None,
        };
        Ok(state.epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cluster: u64, term: u64) -> Header {
        Header {
            cluster,
            term,
            revision: 1,
            member: 1,
        }
    }

    #[test]
    fn older_term_and_other_cluster_are_refused_until_nothing_better_comes() {
        let terms = Terms::new(Span::from_secs(30));
        let at = |s: u64| Time::from_millis(s * 1000);
        assert_eq!(terms.check(answer(7, 3), at(0)), Ok(0));
        assert_eq!(terms.since(), at(0));
        assert!(terms.check(answer(7, 2), at(1)).is_err());
        assert!(terms.check(answer(8, 9), at(2)).is_err());
        assert_eq!(
            terms.check(answer(7, 4), at(3)),
            Ok(0),
            "a better one resets the wait"
        );
        assert_eq!(terms.check(answer(7, 4), at(4)), Ok(0));
        assert_eq!(terms.since(), at(3), "the term is the same");
        assert!(terms.check(answer(7, 3), at(32)).is_err());
        assert!(terms.check(answer(7, 3), at(61)).is_err());
        assert_eq!(
            terms.check(answer(7, 3), at(62)),
            Ok(1),
            "restored snapshot"
        );
        assert_eq!(terms.check(answer(7, 3), at(63)), Ok(1));
        assert_eq!(terms.since(), at(62));
    }
}
