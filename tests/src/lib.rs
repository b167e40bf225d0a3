//! The driver of real processes: private etcds, PostgreSQL clusters run by `pgherd agent` or by
//! genuine Patroni, clients that remember every acknowledgement, and ways to break all of them.
//!
//! Everything that a test starts is ended and removed when its handle is dropped, and also when the
//! test process is killed (see [`janitor`]).

pub mod binary;
pub mod clock;
pub mod cluster;
pub mod etcd;
pub mod janitor;
pub mod measure;
pub mod net;
pub mod node;
pub mod options;
pub mod oracle;
pub mod page;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod rest;
pub mod scenario;
pub mod skip;
pub mod sql;
pub mod tls;
pub mod wait;
pub mod watcher;
pub mod writer;
pub mod yaml;

pub use cluster::TestCluster;
pub use etcd::{Etcd, EtcdOptions};
pub use net::Network;
pub use node::Node;
pub use options::{ClusterOptions, Kind, NodeOptions};
pub use proxy::{Proxy, Traffic};
pub use rest::Answer;
pub use rustix::process::Signal;
pub use serde_json::{Value, json};
pub use wait::wait_for;
pub use watcher::Watcher;
pub use writer::{Ack, Writer, WriterReport};
