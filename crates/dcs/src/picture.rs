//! What the store publishes.

use pgherd_model::{Cluster, Time};
use std::sync::Arc;

/// One consistent picture of the cluster's keys, and how much it can be trusted.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The keys; `None` until they were read once. Kept while etcd is unreachable.
    pub cluster: Option<Arc<Cluster>>,
    /// Cluster id of the etcd that `cluster` was read from, 0 before that: revisions of different ones
    /// say nothing of each other.
    pub etcd: u64,
    /// The last moment for which `cluster` is proven current: when a linearizable read was sent
    /// that showed exactly this. It advances without waking receivers; only a changed cluster or
    /// problem does.
    pub fresh_at: Time,
    /// When etcd last told something: a proof as above, or news of the watch. Those say that the watch works, not
    /// that `cluster` was current at that moment: they may have been on their way for a while. It advances as
    /// `fresh_at` does.
    pub heard: Time,
    /// Why the picture is not kept up at present: no endpoint works. Gone with the next proof.
    pub problem: Option<String>,
}
