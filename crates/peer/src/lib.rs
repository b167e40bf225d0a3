//! Client of another agent's REST API: kept-alive connections, short strict deadlines, Patroni's
//! rules for TLS and basic authentication (contract: patroni-config, section 3, `ctl`).
//!
//! Whoever starts the process must have installed rustls' ring provider
//! (`rustls::crypto::ring::default_provider().install_default()`), or `Peers::new` does it.

mod client;
mod document;
mod tls;

pub use client::{
    Accepted, Credentials, FailsafeAnswer, PeerError, PeerOptions, Peers, Response, endpoint,
};
