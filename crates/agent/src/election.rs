//! While a renewal of the leader lease is not answered: asks etcd's members how far they are with their
//! election, and moves the lease's deadlines by what that proves (`pgherd_ha::election`).

use std::convert::Infallible;

use pgherd_dcs::RaftStates;
use pgherd_ha::LeaseFact;
use pgherd_ha::election::Elections;
use pgherd_ha::lease::Lease;
use pgherd_model::{Span, Time};
use tokio::sync::watch;

use crate::clock;

/// What is known of an election that keeps renewals from being answered.
pub(crate) struct Watch {
    states: RaftStates,
    elections: Elections,
    /// Since when no renewal has been answered, and whether the log says why that does no harm.
    since: Option<Time>,
    told: bool,
}

impl Watch {
    pub(crate) fn new(states: RaftStates) -> Watch {
        Watch {
            states,
            elections: Elections::default(),
            since: None,
            told: false,
        }
    }

    /// A renewal was confirmed.
    pub(crate) fn answered(&mut self) {
        self.elections.forget();
        if let Some(since) = self.since.take()
            && std::mem::take(&mut self.told)
        {
            let ms = clock::now().since(since).as_millis();
            tracing::info!("etcd has a leader again; it answered no renewal for {ms} ms");
        }
        self.states.learn();
    }

    /// Runs beside a try to renew, which began then, until that ends. Before it is sure that the try is not answered
    /// at once, nobody is asked.
    pub(crate) async fn unanswered(
        &mut self,
        began: Time,
        publish: &watch::Sender<Option<LeaseFact>>,
        extend: impl Fn(&LeaseFact),
    ) -> Infallible {
        let Some(length) = publish.borrow().map(|fact| fact.length) else {
            return std::future::pending().await;
        };
        if self.since.is_none() {
            clock::sleep_until(began + length / 50).await;
            self.since = Some(began);
        }
        loop {
            let answer = self.states.next(length / 50, length / 10).await;
            self.elections.note(answer);
            self.prolong(publish, &extend);
        }
    }

    /// Publishes what is proved now.
    fn prolong(
        &mut self,
        publish: &watch::Sender<Option<LeaseFact>>,
        extend: &impl Fn(&LeaseFact),
    ) {
        let Some(fact) = *publish.borrow() else {
            return;
        };
        let lease = Lease {
            sent: fact.sent,
            life: fact.length,
        };
        let voters = self.states.voters();
        let now = clock::now();
        let Some(proof) = self.elections.proof(&voters, &lease, now) else {
            return;
        };
        let later = LeaseFact {
            sent: proof.sent,
            ..fact
        };
        extend(&later);
        // The loop looks when the deadline of before comes.
        publish.send_if_modified(|slot| {
            *slot = Some(later);
            false
        });
        if !std::mem::replace(&mut self.told, true) {
            let lives = later.deadlines().expires.since(now);
            tracing::warn!(
                "etcd answers no renewal because it elects a leader: {} of its members had gone from raft term {} to {} when they were asked, and a new leader gives every lease its full life; the leader lease lives for {} ms more at least",
                voters.len() / 2 + 1,
                proof.passed,
                proof.reached,
                lives.as_millis()
            );
        }
        tracing::debug!(
            passed = proof.passed,
            reached = proof.reached,
            by_ms = Span::as_millis(&proof.sent.since(fact.sent)),
            "the leader lease lives longer"
        );
    }
}
