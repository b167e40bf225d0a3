//! The simulator's etcd.

use pgherd_model::{Cluster, Failover, Op, Span};
use pgherd_sim::fakes::FakeEtcd;

use super::side::{Side, Told, settings};

/// One of it, whose own choices (how late something arrives) come from a seed.
pub struct Fake {
    etcd: FakeEtcd,
    base: u64,
}

impl Fake {
    /// Empty.
    pub fn new(seed: u64) -> Fake {
        let etcd = FakeEtcd::new(seed, settings());
        let base = etcd.revision();
        Fake { etcd, base }
    }
}

impl Side for Fake {
    async fn join(&mut self, member: usize) {
        self.etcd.join(member);
    }

    async fn leave(&mut self, member: usize) {
        self.etcd.leave(member);
    }

    async fn run(&mut self, member: usize, op: Op) -> Told {
        self.etcd.run(member, op)
    }

    async fn renew(&mut self, member: usize) -> Told {
        self.etcd.renew(member)
    }

    async fn keep_alive(&mut self, member: usize) -> Told {
        self.etcd.keep_alive(member)
    }

    fn set_lives(&mut self, member: usize, ttl: Span, lease_ttl: Span) {
        self.etcd.set_lives(member, ttl, lease_ttl);
    }

    fn leases(&self, member: usize) -> (i64, i64) {
        self.etcd.leases(member)
    }

    fn picture(&self, member: usize) -> Option<Cluster> {
        self.etcd.picture(member)
    }

    fn is_deaf(&self, member: usize) -> bool {
        self.etcd.is_deaf(member)
    }

    fn link(&mut self, member: usize, up: bool) {
        self.etcd.link(member, up);
    }

    fn base(&self) -> u64 {
        self.base
    }

    async fn settle(&mut self) {
        self.etcd.settle();
    }

    async fn wait(&mut self, time: Span) {
        self.etcd.wait(time);
    }

    async fn revoke(&mut self, lease: i64) {
        self.etcd.revoke(lease);
    }

    async fn delete(&mut self, key: &str) {
        match key {
            "leader" => self.etcd.delete_leader(),
            "initialize" => self.etcd.delete_initialize(),
            "config" => self.etcd.delete_config(),
            other => panic!("the fake has nobody who deletes {other}"),
        }
    }

    async fn write_config(&mut self, text: &str) {
        self.etcd.write_config(text);
    }

    async fn write_failover(&mut self, failover: Failover) {
        self.etcd.write_failover(failover);
    }

    // It tells whole pictures, and keeps no past that could be forgotten.
    async fn compact(&mut self) {}
}
