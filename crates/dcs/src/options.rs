//! Where etcd is, who we are there, and how long things may take.

use pgherd_model::{MemberName, Secret, Span, Time};
use pgherd_wire::patroni::config::Etcd3;
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

/// A lease that somebody else took for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its id.
    pub id: i64,
    /// The life that was asked for.
    pub life: Span,
}

/// The leases that this process takes over from the program that ran in it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// Of the lock.
    pub leader: Option<Held>,
    /// Of the member key.
    pub member: Option<Held>,
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
    /// Leases to go on with.
    pub leases: Leases,
    /// The body's clock (CLOCK_BOOTTIME).
    pub clock: fn() -> Time,
}

impl Options {
    /// For section `etcd3` of a configuration; `prefix`, `me`, the lives of the member's and the
    /// leader's lease and the clock as in the fields of these names.
    pub fn new(
        etcd: &Etcd3,
        prefix: String,
        me: MemberName,
        (ttl, lease_ttl): (Span, Span),
        clock: fn() -> Time,
    ) -> Options {
        let tls = etcd.endpoints.iter().any(|url| url.starts_with("https://"));
        let endpoints = etcd.endpoints.iter().map(|url| {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            rest.trim_end_matches('/').to_owned()
        });
        let login = etcd.login.as_ref();
        Options {
            endpoints: endpoints.collect(),
            protocol: if tls { Protocol::Https } else { Protocol::Http },
            cacert: etcd.cacert.clone(),
            cert: etcd.cert.clone(),
            key: etcd.key.clone(),
            username: login.map(|login| login.username.clone()),
            password: login.map(|login| login.password.clone()),
            discovery: !etcd.use_proxies,
            prefix,
            me,
            ttl,
            lease_ttl,
            leases: Leases::default(),
            clock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_wire::patroni::config::Login;

    fn options(etcd: &Etcd3) -> Options {
        let lives = (Span::from_secs(30), Span::from_secs(20));
        Options::new(etcd, "/service/demo/".into(), "n0".into(), lives, || {
            Time(0)
        })
    }

    #[test]
    fn a_section_becomes_options() {
        let mut etcd = Etcd3 {
            endpoints: vec!["http://a:2379".into(), "http://[::1]:2379/".into()],
            use_proxies: false,
            login: None,
            cacert: None,
            cert: None,
            key: None,
        };
        let plain = options(&etcd);
        assert_eq!(plain.endpoints, ["a:2379", "[::1]:2379"]);
        assert_eq!((plain.protocol, plain.discovery), (Protocol::Http, true));
        assert_eq!((plain.username, plain.password), (None, None));

        etcd.endpoints = vec!["https://a:2379".into()];
        etcd.use_proxies = true;
        etcd.login = Some(Login {
            username: "herd".into(),
            password: Secret::new("hunter2"),
        });
        let whole = options(&etcd);
        assert_eq!((whole.protocol, whole.discovery), (Protocol::Https, false));
        assert_eq!(whole.username.as_deref(), Some("herd"));
        assert_eq!(whole.password, Some(Secret::new("hunter2")));
        assert!(!format!("{whole:?}").contains("hunter2"));
    }
}
