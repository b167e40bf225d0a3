//! What both sides can do.

use pgherd_ha::Action;
use pgherd_model::MemberName;

pub use pgherd_sim::fakes::{Facts, Written};

/// How many nodes there are.
pub const NODES: usize = pgherd_sim::fakes::FakePostgres::NODES;

/// Three PostgreSQL with data directories that are empty at first.
#[expect(
    async_fn_in_trait,
    reason = "nobody outside of this crate's tests calls it"
)]
pub trait Side {
    /// Carries out an order as the agent does.
    async fn perform(&mut self, node: usize, action: Action) -> Result<(), String>;
    /// A parameter that needs a restart is written into the file.
    async fn set_parameter(&mut self, node: usize, name: &str, value: &str);
    /// A client of its own commits one row with this number.
    async fn write(&mut self, node: usize, row: u64) -> Written;
    /// Somebody cancels the statements that wait for a synchronous standby.
    async fn cancel(&mut self, node: usize);
    /// The postmaster alone is killed.
    async fn kill_postmaster(&mut self, node: usize);
    /// The postmaster is stopped, or goes on.
    async fn freeze(&mut self, node: usize, frozen: bool);
    /// The walreceiver is stopped, or goes on.
    async fn freeze_receiver(&mut self, node: usize, frozen: bool);
    /// What the agent would see.
    async fn facts(&mut self, node: usize) -> Facts;
    /// Rows whose clients have their answer, in the order of their numbers.
    fn acknowledged(&self) -> Vec<u64>;
    /// Where a node's PostgreSQL listens.
    fn address(&self, node: usize) -> (String, u16);
    /// Nothing more happens by itself; where that cannot be known, some time passes.
    async fn settle(&mut self);
}

/// A node's name.
pub(crate) fn name(node: usize) -> MemberName {
    MemberName(crate::words::node_name(node))
}
