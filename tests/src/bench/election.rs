//! etcd without a leader: kills the leader, measures until another member leads, and says what an
//! election explains in which nothing moved for too long.

use super::client::within;
use super::clock::Instant;
use anyhow::{Context as _, Result};
use etcd_client::Client;
use pgherd_tests::Etcd;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

/// The longest time, in ms, that a lease of 5 s must outlive in which etcd has no leader and not even
/// a majority of its members goes on to another term (docs/decisions/0005 and 0008).
pub(crate) const OUTLIVED: f64 = 2_000.0;
/// What a longer one causes begins at most so many ms after it: a lease of 5 s.
const AFTERMATH: f64 = 5_000.0;
/// The members must agree on a leader within this before it is killed, and on the next one after.
const AGREED: Duration = Duration::from_secs(20);
/// Pause between two questions to one member.
const POLL: Duration = Duration::from_millis(10);
/// Pause between two questions for terms, whose answers are longer.
const TERMS: Duration = Duration::from_millis(50);

/// A time during which etcd had no leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Election {
    /// When the former leader was killed.
    pub(crate) begin: Instant,
    /// Until a member said that another one leads.
    pub(crate) ms: f64,
    /// The longest part of it in which the other members did not all go on to another term.
    pub(crate) still_ms: f64,
}

impl Election {
    /// Whether nothing moved for longer than the lease can wait.
    pub(crate) fn too_long(&self) -> bool {
        self.still_ms > OUTLIVED
    }

    /// Whether it is the reason of what was noticed at `at`: it was too long already, or had been
    /// until just before.
    pub(crate) fn explains(&self, at: Instant) -> bool {
        let after = at.ms_since(self.begin);
        self.too_long() && after >= OUTLIVED && after <= self.ms + AFTERMATH
    }
}

/// Kills etcd's leader as soon as all members run and agree on it. Its number, and the election,
/// which is measured beside whatever else happens.
pub(crate) async fn kill_leader(etcd: &Arc<Etcd>) -> Result<(usize, JoinHandle<Result<Election>>)> {
    let (leader, id, others) = within(AGREED, agreed(etcd))
        .await
        .with_context(|| format!("etcd's members do not agree on a leader within {AGREED:?}"))?;
    let begin = Instant::now();
    etcd.kill(leader);
    let others_of = etcd.clone();
    let measured = tokio::spawn(async move {
        let mut questions: JoinSet<Instant> =
            others.into_iter().map(|c| next_leader(c, id)).collect();
        let found = within(AGREED, questions.join_next());
        let (mut still, mut moved) = (0.0_f64, begin);
        let first = {
            let mut found = std::pin::pin!(found);
            let mut reached = 0;
            loop {
                tokio::select! {
                    first = &mut found => break first.flatten(),
                    term = lowest_term(&others_of, leader) => {
                        if term > reached {
                            // The first one is that of the leader that was killed.
                            if reached > 0 {
                                still = still.max(Instant::now().ms_since(moved));
                                moved = Instant::now();
                            }
                            reached = term;
                        }
                    }
                }
            }
        };
        let end =
            first.with_context(|| format!("etcd has no leader {AGREED:?} after a kill"))??;
        Ok(Election {
            begin,
            ms: end.ms_since(begin),
            still_ms: still.max(end.ms_since(moved)),
        })
    });
    Ok((leader, measured))
}

/// The lowest term of the members but this one, 50 ms after the last answer; 0: one gave none.
async fn lowest_term(etcd: &Etcd, without: usize) -> u64 {
    let mut lowest = u64::MAX;
    for member in (0..etcd.len()).filter(|member| *member != without) {
        lowest = lowest.min(etcd.term(member).await.unwrap_or(0));
    }
    tokio::time::sleep(TERMS).await;
    lowest
}

/// Waits until all members name one leader: its number and id, and clients of the others.
async fn agreed(etcd: &Etcd) -> (usize, u64, Vec<Client>) {
    loop {
        if let Some(found) = agreed_now(etcd).await {
            return found;
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn agreed_now(etcd: &Etcd) -> Option<(usize, u64, Vec<Client>)> {
    let (mut leaders, mut members) = (Vec::new(), Vec::new());
    for member in 0..etcd.len() {
        let mut client = etcd.client(member).await.ok()?;
        let status = client.status().await.ok()?;
        leaders.push(status.leader());
        members.push((status.header()?.member_id(), client));
    }
    let id = *leaders.first()?;
    let number = members.iter().position(|(member, _)| *member == id)?;
    if leaders.iter().any(|leader| *leader != id) {
        return None;
    }
    members.remove(number);
    Some((number, id, members.into_iter().map(|(_, c)| c).collect()))
}

/// Asks one member until it knows another leader than `former`. (A follower names the dead one until
/// it stands for election, then none.)
async fn next_leader(mut client: Client, former: u64) -> Instant {
    loop {
        if let Ok(status) = client.status().await
            && status.leader() != 0
            && status.leader() != former
        {
            return Instant::now();
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn only_an_election_that_stands_still_explains_and_only_what_comes_late_in_it_or_soon_after() {
        let election = |ms, still_ms| Election {
            begin: at(10_000),
            ms,
            still_ms,
        };
        let explained = |ms, when| election(ms, ms).explains(at(when));
        assert!(
            !election(6_000.0, 1_900.0).explains(at(13_500)),
            "it moved on"
        );
        assert!(!explained(1_900.0, 12_500), "the lease outlives it");
        assert!(!explained(2_600.0, 11_900), "the lease was not over yet");
        assert!(explained(2_600.0, 12_550));
        assert!(explained(2_600.0, 17_500));
        assert!(!explained(2_600.0, 17_700), "long after it");
        assert!(!explained(2_600.0, 9_000), "before it");
    }
}
