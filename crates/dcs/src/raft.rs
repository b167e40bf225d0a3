//! What each member of etcd says of its own raft state, without a quorum: `raft.status` of
//! `/debug/vars`, which etcd serves beside gRPC. (The term in gRPC's answers is that of the last
//! applied entry, which stands still during an election.) And which of them vote, learnt while
//! etcd has a leader. What follows from the answers is for others to say.

use crate::call::Caller;
use crate::endpoints::{Endpoints, Pool, papers};
use crate::terms::{Header, Terms};
use crate::{Error, Options, Protocol};
use etcd_client::Client;
use pgherd_model::{RaftAnswer, Span, Time};
use reqwest::redirect::Policy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How much of a document is read: it has 5 to 10 kB.
const LONGEST: usize = 1024 * 1024;
/// How often the list of voters is asked for, and how long it is believed. One change that it does not
/// show yet leaves every majority of it with a member in common with every new one. Asking is due with the
/// next renewal, which is at most 20 s away.
const LEARN: Span = Span::from_secs(35);
const BELIEVED: Span = Span::from_secs(60);
/// What asking for that list may take.
const LIST_LIMIT: Span = Span::from_secs(1);

/// The members that vote, by id.
#[derive(Debug, Default)]
struct Voters {
    ids: Vec<u64>,
    /// When the list was asked for, and of which options it is.
    asked: Time,
    version: u64,
    /// When it was last tried.
    tried: Time,
}

/// Asks all members of etcd for their raft states. Its connections belong to the runtime where it is
/// used.
pub struct RaftStates {
    caller: Caller,
    /// The client, and of which options it is.
    http: Option<(u64, reqwest::Client)>,
    voters: Arc<Mutex<Voters>>,
    asking: JoinSet<(String, Option<RaftAnswer>)>,
    /// When each endpoint is asked next; `None`: it has not answered yet.
    next: BTreeMap<String, Option<Time>>,
}

impl RaftStates {
    pub(crate) fn new(endpoints: Arc<Endpoints>, terms: Arc<Terms>) -> RaftStates {
        RaftStates {
            caller: Caller {
                pool: Pool::new(endpoints),
                terms,
            },
            http: None,
            voters: Arc::default(),
            asking: JoinSet::new(),
            next: BTreeMap::new(),
        }
    }

    /// The ids of the members that vote; empty: not known, or not lately enough.
    pub fn voters(&self) -> Vec<u64> {
        let voters = lock(&self.voters);
        let old = self.caller.now().since(voters.asked) > BELIEVED;
        match old || voters.version != self.caller.pool.endpoints().version() {
            true => Vec::new(),
            false => voters.ids.clone(),
        }
    }

    /// Learns who votes if that is due, beside whatever the caller does: to be called now and then
    /// while etcd answers.
    pub fn learn(&self) {
        let now = self.caller.now();
        let version = self.caller.pool.endpoints().version();
        {
            let mut voters = lock(&self.voters);
            if voters.tried != Time::ZERO
                && voters.version == version
                && now.since(voters.tried) < LEARN
            {
                return;
            }
            voters.tried = now;
            if voters.version != version {
                *voters = Voters {
                    version,
                    tried: now,
                    ..Voters::default()
                };
            }
        }
        let (caller, voters) = (self.caller.clone(), self.voters.clone());
        tokio::spawn(async move {
            let order = caller.pool.order();
            let Some(endpoint) = order.first() else {
                return;
            };
            match caller.once(endpoint, LIST_LIMIT, &voting).await {
                Ok(reply) => {
                    let mut voters = lock(&voters);
                    if voters.version == version {
                        (voters.ids, voters.asked) = (reply.value, reply.sent);
                    }
                }
                Err(fault) => {
                    tracing::debug!("voters of etcd not learnt: {}", fault.line());
                    caller.pool.demote(endpoint);
                    // Another endpoint, the next time.
                    lock(&voters).tried = Time::ZERO;
                }
            }
        });
    }

    /// Goes on asking every endpoint, each again `pause` after its last answer, which may take
    /// `limit`; the next answer that comes. Nothing is lost when it is dropped before.
    pub async fn next(&mut self, pause: Span, limit: Span) -> RaftAnswer {
        loop {
            let rest = self.ask(limit);
            if self.asking.is_empty() {
                sleep(rest).await;
                continue;
            }
            let Ok(Some(Ok((endpoint, answer)))) = timeout(rest, self.asking.join_next()).await
            else {
                continue;
            };
            self.next.insert(endpoint, Some(self.caller.now() + pause));
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Asks whom it is time to ask; how long until the next one is due.
    fn ask(&mut self, limit: Span) -> Span {
        let now = self.caller.now();
        let mut rest = limit;
        let Some(http) = self.http() else {
            return rest;
        };
        let endpoints = self.caller.pool.endpoints().list();
        let scheme = self.caller.pool.endpoints().options().protocol.scheme();
        let clock = self.caller.pool.endpoints().options().clock;
        for endpoint in endpoints {
            match self.next.get(&endpoint) {
                Some(None) => continue,
                Some(Some(due)) if *due > now => {
                    rest = rest.min(due.since(now));
                    continue;
                }
                _ => {}
            }
            self.next.insert(endpoint.clone(), None);
            let url = format!("{scheme}://{endpoint}/debug/vars");
            let http = http.clone();
            self.asking.spawn(async move {
                let asked = clock();
                let answer = match timeout(limit, raft_of(&http, &url)).await {
                    Ok(Ok((member, term))) => Some(RaftAnswer {
                        member,
                        term,
                        asked,
                        answered: clock(),
                    }),
                    Ok(Err(reason)) => {
                        tracing::debug!(endpoint, "no raft state: {reason}");
                        None
                    }
                    Err(_) => None,
                };
                (endpoint, answer)
            });
        }
        rest.max(Span::from_millis(1))
    }

    /// A client with the present options; `None`: none can be made.
    fn http(&mut self) -> Option<reqwest::Client> {
        let version = self.caller.pool.endpoints().version();
        if let Some((of, http)) = &self.http
            && *of == version
        {
            return Some(http.clone());
        }
        match client(&self.caller.pool.endpoints().options()) {
            Ok(http) => {
                self.http = Some((version, http.clone()));
                Some(http)
            }
            Err(error) => {
                tracing::debug!("etcd's members cannot be asked for their raft states: {error}");
                None
            }
        }
    }
}

fn lock(voters: &Mutex<Voters>) -> MutexGuard<'_, Voters> {
    voters.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn voting(client: Client) -> Result<(Vec<u64>, Header), etcd_client::Error> {
    let list = client.cluster_client().member_list().await?;
    let ids = list
        .members()
        .iter()
        .filter(|member| !member.is_learner())
        .map(etcd_client::Member::id)
        .collect();
    Ok((ids, Header::of(list.header())))
}

/// An HTTP client with the certificates of the gRPC ones.
fn client(options: &Options) -> Result<reqwest::Client, Error> {
    let wrong = |what: String| Error::Settings(format!("etcd3: {what}"));
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls(options)?)
        .http1_only()
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(Policy::none())
        .user_agent(concat!("pgherd/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| wrong(error.to_string()))
}

fn tls(options: &Options) -> Result<ClientConfig, Error> {
    let wrong = |what: &str, error: &dyn std::fmt::Display| {
        Error::Settings(format!("etcd3.{what} cannot be used: {error}"))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("protocol", &error))?;
    let mut roots = RootCertStore::empty();
    if options.protocol == Protocol::Http {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let papers = papers(options)?;
    let authorities = CertificateDer::pem_slice_iter(&papers.ca).filter_map(Result::ok);
    roots.add_parsable_certificates(authorities);
    let builder = builder.with_root_certificates(roots);
    let Some((chain, key)) = papers.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong("cert", &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| wrong("key", &error))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("cert", &error))
}

/// Id and term of whoever answers there.
async fn raft_of(http: &reqwest::Client, url: &str) -> Result<(u64, u64), String> {
    let text = |error: reqwest::Error| error.without_url().to_string();
    let mut answer = http.get(url).send().await.map_err(text)?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let mut document = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(text)? {
        if document.len() + part.len() > LONGEST {
            return Err(format!("its document has more than {LONGEST} bytes"));
        }
        document.extend_from_slice(&part);
    }
    raft_in(&document).ok_or_else(|| "its document tells no raft state".to_owned())
}

/// Id and term in a document of `/debug/vars`; etcd 3.4 to 3.6 write ids in hexadecimal.
fn raft_in(document: &[u8]) -> Option<(u64, u64)> {
    let vars: serde_json::Value = serde_json::from_slice(document).ok()?;
    let status = vars.get("raft.status")?;
    let id = status.get("id")?.as_str()?;
    let id = u64::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some((id, status.get("term")?.as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raft_state_is_found_among_the_variables() {
        let document = |status: &str| {
            let text =
                format!(r#"{{"cmdline": ["etcd"], "memstats": {{}}, "raft.status": {status}}}"#);
            raft_in(text.as_bytes())
        };
        let whole = r#"{"id":"628170c800dbcee","term":2,"vote":"628170c800dbcee","commit":4,"lead":"0",
            "raftState":"StateFollower","applied":4,"progress":{},"leadtransferee":"0"}"#;
        assert_eq!(document(whole), Some((0x0628_170c_800d_bcee, 2)));
        assert_eq!(document(r#"{"id":"0","term":2}"#), None);
        assert_eq!(document(r#"{"id":"ab"}"#), None);
        assert_eq!(document("null"), None);
        assert_eq!(raft_in(b"<html>"), None);
    }
}
