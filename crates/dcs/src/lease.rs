//! The leader lease and its renewal.

use crate::RenewError;
use pgherd_model::{Span, Time};

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

/// Renews the leader lease; may live on a thread and runtime of its own.
pub struct LeaderLease {}

impl LeaderLease {
    /// Renews the lease, or grants one if there is none; at most L/5 per try, then the next
    /// endpoint, until `budget` is used up.
    ///
    /// # Errors
    /// [`RenewError::Lost`] if etcd does not know the lease (the next call grants a new one);
    /// [`RenewError::NoAnswer`] if no endpoint confirmed it within `budget`.
    pub async fn renew(&mut self, budget: Span) -> Result<Renewed, RenewError> {
        Err(RenewError::NoAnswer(format!("{budget:?}")))
    }
}
