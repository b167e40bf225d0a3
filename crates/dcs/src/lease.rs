//! The two leases of a node and their renewal.

use crate::RenewError;
use crate::call::{Caller, Failure, Kind, Limits, Reply};
use crate::endpoints::{Endpoints, Pool};
use crate::options::Held;
use crate::terms::{Header, Terms};
use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper};
use pgherd_model::{Span, Time};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::timeout;

/// When the next endpoint is asked too, if the try has no limit of its own.
const STAGGER: Span = Span::from_millis(500);

/// A confirmed renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// When the request that was confirmed was sent: deadlines count from here.
    pub sent: Time,
    /// The lease.
    pub lease: i64,
    /// What etcd granted; may be more than was asked, with a warning in the log.
    pub granted: Span,
    /// What was asked, L: the value that counts.
    pub ttl: Span,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) id: i64,
    pub(crate) asked: Span,
    pub(crate) granted: Span,
}

#[derive(Debug)]
struct Slot {
    ttl: Span,
    lease: Option<Granted>,
}

/// One lease, shared by those who renew it and those who put keys under it.
#[derive(Debug)]
pub(crate) struct LeaseSlot {
    slot: Mutex<Slot>,
    /// So that two tasks that miss it do not take two.
    granting: tokio::sync::Mutex<()>,
    name: &'static str,
}

impl LeaseSlot {
    pub(crate) fn new(name: &'static str, ttl: Span, held: Option<Held>) -> LeaseSlot {
        let lease = held.map(|held| Granted {
            id: held.id,
            asked: held.life,
            granted: held.life,
        });
        LeaseSlot {
            slot: Mutex::new(Slot { ttl, lease }),
            granting: tokio::sync::Mutex::default(),
            name,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life that is asked for at present.
    pub(crate) fn ttl(&self) -> Span {
        self.lock().ttl
    }

    /// Asks for another life from the next grant on.
    pub(crate) fn set_ttl(&self, ttl: Span) {
        self.lock().ttl = ttl;
    }

    /// The lease, if there is one.
    pub(crate) fn present(&self) -> Option<Granted> {
        self.lock().lease
    }

    /// The lease, if there is one of the right life.
    pub(crate) fn fitting(&self) -> Option<Granted> {
        let slot = self.lock();
        slot.lease.filter(|lease| lease.asked == slot.ttl)
    }

    /// etcd does not know this lease (any more).
    pub(crate) fn forget(&self, id: i64) {
        let mut slot = self.lock();
        if slot.lease.is_some_and(|lease| lease.id == id) {
            slot.lease = None;
        }
    }

    /// The fitting lease, granted if need be, and when its grant was sent if it was.
    pub(crate) async fn ensure(
        &self,
        caller: &Caller,
        limits: Limits,
    ) -> Result<(Granted, Option<Time>), Failure> {
        let _one = self.granting.lock().await;
        if let Some(lease) = self.fitting() {
            return Ok((lease, None));
        }
        let asked = self.ttl();
        let seconds = whole_seconds(asked);
        let reply = caller
            .ask(limits, async |mut client: Client| {
                let granted = client.lease_grant(seconds, None).await?;
                let header = Header::of(granted.header());
                Ok(((granted.id(), granted.ttl()), header))
            })
            .await?;
        let (id, ttl) = reply.value;
        let granted = Span::from_secs(u64::try_from(ttl).unwrap_or(0));
        if granted > Span::from_secs(u64::try_from(seconds).unwrap_or(0)) {
            tracing::warn!(
                lease = self.name,
                asked = seconds,
                granted = ttl,
                endpoint = reply.endpoint,
                "etcd grants longer leases than asked; others will notice our death later, our own deadlines follow the asked value"
            );
        }
        let lease = Granted { id, asked, granted };
        self.lock().lease = Some(lease);
        tracing::debug!(
            lease = self.name,
            id = format!("{id:x}"),
            seconds,
            "granted"
        );
        Ok((lease, Some(reply.sent)))
    }
}

/// etcd counts leases in whole seconds. Rounded down: nobody may believe in more than was asked.
fn whole_seconds(span: Span) -> i64 {
    i64::try_from(span.as_secs().max(1)).unwrap_or(i64::MAX)
}

/// One keepalive; says when it was sent.
///
/// The member that is asked forwards to its leader. A leader that was just cut off may confirm
/// for as long as it takes to step down; the next one, when it takes over, gives every lease its
/// full life and an election timeout on top, so the confirmation holds.
pub(crate) async fn keep_alive(
    caller: &Caller,
    limits: Limits,
    id: i64,
) -> Result<Reply<KeptStream>, Failure> {
    let request = move |mut client: Client| async move {
        // The library keeps the header of this answer for itself.
        Ok((client.lease_keep_alive(id).await?, Header::default()))
    };
    caller.race(limits, stagger(limits), request).await
}

/// When the next endpoint is asked too.
fn stagger(limits: Limits) -> Span {
    limits.per_try.map_or(STAGGER, |limit| limit / 10)
}

/// A stream on which one lease is kept alive, message by message.
type KeptStream = (LeaseKeeper, LeaseKeepAliveStream);

/// The stream of the last renewal: the next one needs no other.
struct Kept {
    lease: i64,
    endpoint: String,
    /// Of which options the connection is.
    version: u64,
    stream: KeptStream,
}

impl Kept {
    /// One keepalive more; `None`: the stream broke. If this is given up the stream is of no use, since its next
    /// message might be the answer to this one.
    async fn again(&mut self) -> Option<Life> {
        let (keeper, answers) = &mut self.stream;
        keeper.keep_alive().await.ok()?;
        let answer = answers.message().await.ok().flatten()?;
        Some(if answer.ttl() > 0 {
            Life::Kept
        } else {
            Life::Gone
        })
    }
}

fn renewed(lease: Granted, sent: Time) -> Renewed {
    Renewed {
        sent,
        lease: lease.id,
        granted: lease.granted,
        ttl: lease.asked,
    }
}

/// What etcd says of a lease.
enum Life {
    Kept,
    Gone,
}

/// Renews the leader lease; may live on a thread and runtime of its own. Its connections are its
/// own and belong to the runtime on which [`LeaderLease::renew`] is called.
pub struct LeaderLease {
    caller: Caller,
    slot: Arc<LeaseSlot>,
    kept: Option<Kept>,
    /// Who was asked on the stream and has not answered.
    silent: Option<String>,
}

impl LeaderLease {
    pub(crate) fn new(
        endpoints: Arc<Endpoints>,
        terms: Arc<Terms>,
        slot: Arc<LeaseSlot>,
    ) -> LeaderLease {
        LeaderLease {
            caller: Caller {
                pool: Pool::new(endpoints),
                terms,
            },
            slot,
            kept: None,
            silent: None,
        }
    }

    /// Renews by the stream of the last renewal; `None`: there is none, or none any more. For as long as it takes:
    /// whoever does not wait any longer drops this and calls [`LeaderLease::renew`], which asks the other endpoints.
    ///
    /// # Errors
    /// [`RenewError::Lost`] as there.
    pub async fn renew_kept(&mut self) -> Option<Result<Renewed, RenewError>> {
        let lease = self.slot.fitting()?;
        let mut kept = self.kept.take()?;
        if kept.lease != lease.id || kept.version != self.caller.pool.endpoints().version() {
            return None;
        }
        let sent = self.caller.now();
        self.silent = Some(kept.endpoint.clone());
        let life = kept.again().await?;
        self.silent = None;
        Some(match life {
            Life::Kept => {
                self.kept = Some(kept);
                Ok(renewed(lease, sent))
            }
            Life::Gone => Err(self.lost(kept.endpoint, lease)),
        })
    }

    /// Renews the lease, or grants one if there is none (or one of another life than is wanted
    /// now); at most L/5 per try, then the next endpoint, until `budget` is used up. A renewal
    /// asks the next endpoint too whenever none has answered for a tenth of that.
    ///
    /// # Errors
    /// [`RenewError::Lost`] if etcd does not know the lease (the next call grants a new one);
    /// [`RenewError::NoAnswer`] if no endpoint confirmed it within `budget`.
    pub async fn renew(&mut self, budget: Span) -> Result<Renewed, RenewError> {
        let limits = Limits {
            deadline: self.caller.now() + budget,
            per_try: Some(self.slot.ttl() / 5),
            read_only: true,
        };
        let limit = stagger(limits).min(budget);
        if let Ok(Some(kept)) = timeout(limit, self.renew_kept()).await {
            return kept;
        }
        if let Some(endpoint) = self.silent.take() {
            self.caller.pool.demote(&endpoint);
        }
        let Some(lease) = self.slot.fitting() else {
            return match self.slot.ensure(&self.caller, limits).await {
                Ok((lease, Some(sent))) => Ok(renewed(lease, sent)),
                Ok((lease, None)) => self
                    .keep(lease, limits)
                    .await
                    .map(|sent| renewed(lease, sent)),
                Err(failure) => Err(self.no_answer(failure)),
            };
        };
        self.keep(lease, limits)
            .await
            .map(|sent| renewed(lease, sent))
    }

    async fn keep(&mut self, lease: Granted, limits: Limits) -> Result<Time, RenewError> {
        match keep_alive(&self.caller, limits, lease.id).await {
            Ok(reply) => {
                self.kept = Some(Kept {
                    lease: lease.id,
                    endpoint: reply.endpoint,
                    version: self.caller.pool.endpoints().version(),
                    stream: reply.value,
                });
                Ok(reply.sent)
            }
            Err(failure) if failure.last.kind == Kind::LeaseGone => {
                Err(self.lost(failure.last.endpoint, lease))
            }
            Err(failure) => Err(self.no_answer(failure)),
        }
    }

    fn lost(&self, endpoint: String, lease: Granted) -> RenewError {
        self.slot.forget(lease.id);
        RenewError::Lost {
            endpoint,
            lease: lease.id,
        }
    }

    fn no_answer(&self, failure: Failure) -> RenewError {
        let what = format!("grant or renew it ({} s)", self.slot.ttl().as_secs());
        RenewError::NoAnswer(failure.error(what).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_life_asks_for_another_lease() {
        let slot = LeaseSlot::new("leader", Span::from_secs(5), None);
        let lease = Granted {
            id: 7,
            asked: Span::from_secs(5),
            granted: Span::from_secs(5),
        };
        slot.lock().lease = Some(lease);
        assert_eq!(slot.fitting(), Some(lease));
        slot.set_ttl(Span::from_secs(6));
        assert_eq!((slot.fitting(), slot.present()), (None, Some(lease)));
        slot.forget(8);
        assert!(slot.present().is_some());
        slot.forget(7);
        assert!(slot.present().is_none());
        assert_eq!(whole_seconds(Span::from_millis(2900)), 2);
    }
}
