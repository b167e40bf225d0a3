//! Patroni's REST API (contract: patroni-rest).
//!
//! One handler for everything, because Patroni's routing is no routing table: the first segment of
//! the path selects an endpoint, and what is left over is a health check.

mod listen;

pub use listen::{Bound, RestConfig, RestError, TlsFiles, VerifyClient, bind, serve};
