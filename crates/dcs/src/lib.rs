//! The etcd v3 hand: one consistent picture of a cluster's keys, guarded writes, leases.
//!
//! - [`Store`] keeps the picture (range, then watch, proven again and again by linearizable
//!   reads) and carries out [`Op`](pgherd_model::Op)s.
//! - [`LeaderLease`] renews the lease of the `leader` key on connections of its own, from
//!   whatever thread the body likes, so that a busy loop cannot delay it.
//! - [`RaftStates`] asks every member of etcd how far it is in an election, for as long as it has no
//!   leader.
//!
//! There is one etcd client per endpoint, in an order of our own, each try with a deadline:
//! a client that balances over endpoints fails when one of them hangs.

mod call;
mod endpoints;
mod error;
mod hint;
mod image;
mod keeper;
mod lease;
mod ops;
mod options;
mod picture;
mod raft;
mod store;
mod terms;

pub use error::{Error, RenewError};
pub use lease::{LeaderLease, Renewed};
pub use options::{Held, Leases, Options, Protocol};
pub use pgherd_model::Secret;
pub use picture::Picture;
pub use raft::RaftStates;
pub use store::Store;

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_model::{Op, Span, Time};

    fn goes_to_another_thread<T: Send>(_: T) {}

    #[test]
    fn futures_can_be_spawned() {
        fn all(store: &Store, lease: &mut LeaderLease) {
            goes_to_another_thread(store.run(&Op::Refresh, Time::ZERO));
            goes_to_another_thread(store.keep_alive_member(Time::ZERO));
            goes_to_another_thread(lease.renew(Span::ZERO));
        }
        let _compiles: fn(&Store, &mut LeaderLease) = all;
    }
}
