//! The fakes alone, without a brain and without faults of their own: for whoever compares them with
//! what they stand for. Nothing here decides or judges anything.

mod etcd;
mod postgres;

pub use etcd::{FakeEtcd, Told};
pub use postgres::{Facts, FakePostgres, Written};
