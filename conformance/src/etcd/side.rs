//! What both sides can do.

use pgherd_model::{Cluster, Failover, Op, Settings, Span};

pub use pgherd_sim::fakes::Told;

/// Members that can join, by number.
pub const MEMBERS: usize = pgherd_sim::fakes::FakeEtcd::MEMBERS;

/// Lives that no list outlasts by chance; those that are about the end of leases ask for shorter ones.
pub fn settings() -> Settings {
    Settings {
        ttl: Span::from_secs(60),
        lease_ttl: Span::from_secs(40),
        ..Settings::default()
    }
}

/// One etcd, and members who use it as the product does.
#[expect(
    async_fn_in_trait,
    reason = "nobody outside of this crate's tests calls it"
)]
pub trait Side {
    /// The member's agent begins, and reads everything once.
    async fn join(&mut self, member: usize);
    /// It is killed.
    async fn leave(&mut self, member: usize);
    /// Carries out an order.
    async fn run(&mut self, member: usize, op: Op) -> Told;
    /// Renews the leader lease, or has one granted.
    async fn renew(&mut self, member: usize) -> Told;
    /// Keeps the member lease alive.
    async fn keep_alive(&mut self, member: usize) -> Told;
    /// Other lives from the next grant on.
    fn set_lives(&mut self, member: usize, ttl: Span, lease_ttl: Span);
    /// The leader's and the member's lease, 0: none.
    fn leases(&self, member: usize) -> (i64, i64);
    /// What the member's brain would see.
    fn picture(&self, member: usize) -> Option<Cluster>;
    /// The member has noticed that etcd does not answer.
    fn is_deaf(&self, member: usize) -> bool;
    /// The member reaches etcd no more, or again.
    fn link(&mut self, member: usize, up: bool);
    /// Revision of the store when the list began.
    fn base(&self) -> u64;
    /// Waits until all who are connected have heard of everything.
    async fn settle(&mut self);
    /// Time passes.
    async fn wait(&mut self, time: Span);
    /// Somebody revokes a lease.
    async fn revoke(&mut self, lease: i64);
    /// Somebody deletes a key.
    async fn delete(&mut self, key: &str);
    /// Somebody writes `config`.
    async fn write_config(&mut self, text: &str);
    /// Somebody writes `failover`.
    async fn write_failover(&mut self, failover: Failover);
    /// Somebody has etcd forget all that was before.
    async fn compact(&mut self);
}
