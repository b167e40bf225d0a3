//! The store as the body uses it.

use crate::{Error, LeaderLease, Options, Picture};
use pgherd_model::{Answer, Op, Span, Time};
use tokio::sync::watch;

/// The cluster's keys in etcd. Cheap to clone; its background task ends with the last clone.
#[derive(Clone)]
pub struct Store {
    picture: watch::Receiver<Picture>,
}

impl Store {
    /// Starts keeping the picture, on the tokio runtime of the caller. Does not wait for etcd.
    ///
    /// # Errors
    /// [`Error::Settings`] if the options cannot work.
    pub fn start(options: Options) -> Result<Store, Error> {
        Err(Error::Settings(format!(
            "no endpoint works yet: {:?}",
            options.endpoints
        )))
    }

    /// The picture, now and as it changes. An event in etcd arrives here within milliseconds.
    pub fn picture(&self) -> watch::Receiver<Picture> {
        self.picture.clone()
    }

    /// Carries out one operation; each is one etcd transaction with the guard its documentation
    /// names. Returns when the picture shows its outcome (after `Done`: the write; after
    /// `Refused`: what stood in the way), or at `deadline`.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Ambiguous`] may have changed something.
    pub async fn run(&self, op: &Op, deadline: Time) -> Result<Answer, Error> {
        Err(Error::Unavailable {
            what: format!("{op:?}"),
            last: deadline.to_string(),
        })
    }

    /// Keeps the member lease alive; call it about every `loop_wait`. `false`: etcd does not know
    /// the lease any more, or there was none; the next `PutMember` grants one and is needed now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answered.
    pub async fn keep_alive_member(&self, deadline: Time) -> Result<bool, Error> {
        Err(Error::Unavailable {
            what: "keep the member lease alive".into(),
            last: deadline.to_string(),
        })
    }

    /// The handle that renews the leader lease, with connections of its own, made on the runtime
    /// where it is used. One is enough; all share the lease.
    pub fn leader_lease(&self) -> LeaderLease {
        LeaderLease {}
    }

    /// Our present leader lease, 0 if there is none: to compare with the `leader` key's.
    pub fn leader_lease_id(&self) -> i64 {
        0
    }

    /// New settings. A changed `ttl` drops the member lease, the next `PutMember` takes a new one;
    /// a changed `lease_ttl` makes the next renewal grant a new leader lease, after which the
    /// `leader` key is to be re-attached at once: the old lease is not renewed any more.
    pub fn set_lives(&self, ttl: Span, lease_ttl: Span) {
        let _ = (ttl, lease_ttl);
    }
}
