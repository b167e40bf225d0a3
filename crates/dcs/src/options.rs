//! Where etcd is, who we are there, and how long things may take.

use pgherd_model::{MemberName, Secret, Span, Time};
use std::path::PathBuf;

/// How etcd is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Plain text.
    #[default]
    Http,
    /// TLS.
    Https,
}

impl Protocol {
    /// Scheme of a URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
        }
    }
}

/// What a [`Store`](crate::Store) needs to know. Certificates are read from their files at each
/// new connection, so renewed ones are taken up.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of the configured etcd members (or proxies), in order of preference.
    pub endpoints: Vec<String>,
    /// Plain or TLS.
    pub protocol: Protocol,
    /// CA certificates, PEM; `None` with TLS: those of the system.
    pub cacert: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// etcd user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Ask etcd for its other members. Off where the endpoints are proxies (`use_proxies`).
    pub discovery: bool,
    /// `/<namespace>/<scope>/`, with the slash at its end.
    pub prefix: String,
    /// Own name: value of `leader`, last part of the member key.
    pub me: MemberName,
    /// Life of the member lease.
    pub ttl: Span,
    /// Life of the leader lease, L.
    pub lease_ttl: Span,
    /// The body's clock (CLOCK_BOOTTIME).
    pub clock: fn() -> Time,
}
