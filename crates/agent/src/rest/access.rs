//! Who may send requests that change something: source address, client certificate, basic
//! authentication, asked in this order (contract: patroni-rest, section 2).

use super::answer::{Answer, text, unauthorized};
use super::listen::RestError;
use axum::extract::ConnectInfo;
use axum::http::header::AUTHORIZATION;
use axum::http::{Extensions, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pgherd_model::{Cluster, Span};
use pgherd_wire::patroni::config::{RestApi, VerifyClient};
use ring::hmac;
use ring::rand::SystemRandom;
use std::net::{IpAddr, SocketAddr};

/// How long the name of a member's host may take to be resolved.
const RESOLVE: Span = Span::from_secs(2);

/// Marks the requests of a connection on which the client has shown a certificate.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownCertificate(pub(super) bool);

/// Whether the addresses of members open the door, where the settings say that they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// They do.
    Count,
    /// As Patroni, of `/failsafe`: only what is listed is looked at, and nothing where nothing is.
    Ignored,
}

/// What is asked of whoever wants to change something. Knows the credentials only as a keyed
/// hash; comparing takes the same time for every guess.
pub(super) struct Door {
    expected: Option<(hmac::Key, hmac::Tag)>,
    /// There is an `allowlist`, even if none of its names is known.
    listed: bool,
    allowed: Vec<Net>,
    include_members: bool,
    wants_certificate: bool,
}

impl Door {
    /// The door as configured. Names in the allowlist are resolved here, once.
    pub(super) async fn new(api: &RestApi) -> Result<Door, RestError> {
        let expected = match &api.authentication {
            None => None,
            Some(login) => {
                let key =
                    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| {
                        RestError::Settings("the system gives no random numbers".into())
                    })?;
                let pair = format!("{}:{}", login.username, login.password.expose());
                let tag = hmac::sign(&key, pair.as_bytes());
                Some((key, tag))
            }
        };
        let mut nets = Vec::new();
        for entry in &api.allowlist {
            match Net::parse(entry) {
                Some(net) => nets.push(net),
                None => nets.extend(resolve(entry).await.into_iter().map(Net::of)),
            }
        }
        Ok(Door {
            expected,
            listed: !api.allowlist.is_empty(),
            allowed: nets,
            include_members: api.allowlist_include_members,
            wants_certificate: api.certfile.is_some() && api.verify_client != VerifyClient::None,
        })
    }

    /// Whether a request may pass; `Err`: the answer to give instead.
    pub(super) async fn check(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        cluster: Option<&Cluster>,
        members: Members,
    ) -> Result<(), Box<Answer>> {
        let from = extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(address)| address.ip().to_canonical());
        let members = self.include_members && members == Members::Count;
        let guarded = self.listed || members;
        if guarded && !self.lets_in(from, cluster.filter(|_| members)).await {
            return Err(Box::new(text(403, "Access is denied")));
        }
        let shown = extensions.get::<ShownCertificate>();
        if self.wants_certificate && !shown.is_some_and(|ShownCertificate(shown)| *shown) {
            return Err(Box::new(text(403, "client certificate required")));
        }
        self.credentials(headers)
    }

    /// From an address that is listed, or that of a member of this cluster.
    async fn lets_in(&self, from: Option<IpAddr>, cluster: Option<&Cluster>) -> bool {
        let Some(from) = from else {
            return false;
        };
        if self.allowed.iter().any(|net| net.holds(from)) {
            return true;
        }
        let members = cluster
            .into_iter()
            .flat_map(|cluster| cluster.members.values());
        for member in members {
            let host = member.value.api_url.parse::<axum::http::Uri>().ok();
            let host = host.as_ref().and_then(|url| url.host());
            let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
            if let Some(host) = host
                && resolve(host).await.contains(&from)
            {
                return true;
            }
        }
        false
    }

    fn credentials(&self, headers: &HeaderMap) -> Result<(), Box<Answer>> {
        let Some((key, tag)) = &self.expected else {
            return Ok(());
        };
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Err(Box::new(unauthorized("no auth header received")));
        };
        let given = header
            .to_str()
            .ok()
            .and_then(|header| header.strip_prefix("Basic "))
            .and_then(|coded| STANDARD.decode(coded.trim()).ok());
        match given {
            Some(pair) if hmac::verify(key, &pair, tag.as_ref()).is_ok() => Ok(()),
            _ => Err(Box::new(unauthorized("not authenticated"))),
        }
    }
}

/// Addresses of a name or an address; none if it is unknown, which is logged.
async fn resolve(host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_canonical()];
    }
    match tokio::time::timeout(RESOLVE, tokio::net::lookup_host((host, 0))).await {
        Ok(Ok(found)) => found.map(|address| address.ip().to_canonical()).collect(),
        Ok(Err(cause)) => {
            tracing::warn!("REST: {host} of the allowlist is not known: {cause}");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("REST: {host} of the allowlist was not resolved within {RESOLVE:?}");
            Vec::new()
        }
    }
}

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    fn of(address: IpAddr) -> Net {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Net { address, bits }
    }

    /// `None`: a name.
    fn parse(text: &str) -> Option<Net> {
        let (address, bits) = match text.split_once('/') {
            None => return Some(Net::of(text.parse().ok()?)),
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, bits.parse().ok()?),
        };
        (bits <= Net::of(address).bits).then_some(Net { address, bits })
    }

    fn holds(&self, other: IpAddr) -> bool {
        // Shifting by the full width is not defined: no bits to compare means every address.
        let same = |left: u128, right: u128, width: u32| {
            let shift = width - u32::from(self.bits);
            left.checked_shr(shift) == right.checked_shr(shift)
        };
        match (self.address, other) {
            (IpAddr::V4(net), IpAddr::V4(other)) => {
                same(u128::from(net.to_bits()), u128::from(other.to_bits()), 32)
            }
            (IpAddr::V6(net), IpAddr::V6(other)) => same(net.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let holds =
            |net: &str, address: &str| Net::parse(net).unwrap().holds(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("10.1.2.3", "10.1.2.3") && !holds("10.1.2.3", "10.1.2.4"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("fe80::/10", "fe80::1") && holds("::/0", "::1"));
        assert!(!holds("::1", "::2"));
        for name in ["host.example", "10.0.0.0/33", "10.0.0/8", "/8", ""] {
            assert_eq!(Net::parse(name), None, "{name}");
        }
    }
}
