//! Client of another agent's REST API: kept-alive connections, short strict deadlines, Patroni's
//! rules for TLS and basic authentication (contract: patroni-config, section 3, `ctl`).

mod client;
mod key;
#[cfg(test)]
mod tests;
mod tls;

pub use client::{Accepted, FailsafeAnswer, PeerError, PeerOptions, Peers, Response, endpoint};
pub use key::private_key;
