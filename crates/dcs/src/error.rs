//! What can go wrong with etcd, in words that say where and what to do.

use thiserror::Error;

/// A failed operation. Texts name the endpoint and what was asked of it.
#[derive(Clone, Debug, Error)]
pub enum Error {
    /// No etcd member answered in time; nothing was changed.
    #[error(
        "{what}: no etcd member answered within the deadline ({last}); check that etcd runs and that this machine reaches it"
    )]
    Unavailable {
        /// The operation and its key.
        what: String,
        /// Last failure, with its endpoint.
        last: String,
    },
    /// A write was sent and its answer did not arrive: it may have happened or happen yet. Look
    /// at the picture before you decide anything on it.
    #[error("{what}: sent to etcd, but no answer came ({last}); it may or may not have been done")]
    Ambiguous {
        /// The operation and its key.
        what: String,
        /// Last failure, with its endpoint.
        last: String,
    },
    /// There is no leader lease (any more): renew it first, then try again.
    #[error(
        "{what}: the leader lease does not exist (any more); it is granted anew by the next renewal"
    )]
    NoLease {
        /// The operation and its key.
        what: String,
    },
    /// etcd's NOSPACE alarm. Leases can still be kept alive, nothing can be written.
    #[error(
        "{what}: etcd at {endpoint} has no space left (NOSPACE alarm), existing leases go on; compact and defragment it (etcdctl compact, etcdctl defrag), then etcdctl alarm disarm"
    )]
    NoSpace {
        /// The operation and its key.
        what: String,
        /// Who said so.
        endpoint: String,
    },
    /// etcd refused for a reason that trying again does not heal (permission, user, password).
    #[error("{what}: etcd at {endpoint} refuses: {reason}")]
    Denied {
        /// The operation and its key.
        what: String,
        /// Who said so.
        endpoint: String,
        /// etcd's words.
        reason: String,
    },
    /// The options cannot work (no endpoint, unreadable certificate).
    #[error("etcd settings: {0}")]
    Settings(String),
}

/// A failed renewal of the leader lease.
#[derive(Clone, Debug, Error)]
pub enum RenewError {
    /// etcd does not know the lease any more: the lock is gone. The next renewal grants a new one.
    #[error("etcd at {endpoint} does not know leader lease {lease:x} any more")]
    Lost {
        /// Who said so.
        endpoint: String,
        /// The lease.
        lease: i64,
    },
    /// No answer within the budget; the lease may live or not.
    #[error("leader lease not renewed: {0}")]
    NoAnswer(String),
}
