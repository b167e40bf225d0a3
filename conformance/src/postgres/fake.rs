//! The simulator's PostgreSQL.

use pgherd_ha::Action;
use pgherd_sim::fakes::FakePostgres;

use super::side::{Facts, Side, Written};

/// Three of them; how long things take comes from a seed.
pub struct Fake(FakePostgres);

impl Fake {
    /// Nothing runs yet.
    pub fn new(seed: u64) -> Fake {
        Fake(FakePostgres::new(seed))
    }
}

impl Side for Fake {
    async fn perform(&mut self, node: usize, action: Action) -> Result<(), String> {
        self.0.perform(node, action)
    }

    async fn set_parameter(&mut self, node: usize, name: &str, value: &str) {
        self.0.set_parameter(node, name, value);
    }

    async fn write(&mut self, node: usize, row: u64) -> Written {
        self.0.write(node, row)
    }

    async fn cancel(&mut self, node: usize) {
        self.0.cancel(node);
    }

    async fn kill_postmaster(&mut self, node: usize) {
        self.0.kill_postmaster(node);
    }

    async fn freeze(&mut self, node: usize, frozen: bool) {
        self.0.freeze(node, frozen);
    }

    async fn freeze_receiver(&mut self, node: usize, frozen: bool) {
        self.0.freeze_receiver(node, frozen);
    }

    async fn facts(&mut self, node: usize) -> Facts {
        self.0.facts(node)
    }

    fn acknowledged(&self) -> Vec<u64> {
        let mut rows = self.0.acknowledged().to_vec();
        rows.sort_unstable();
        rows
    }

    fn address(&self, node: usize) -> (String, u16) {
        self.0.address(node)
    }

    async fn settle(&mut self) {
        self.0.settle();
    }
}
