//! Which etcd members there are, and one client for each.

use crate::call::{Fault, Kind};
use crate::{Error, Options, Protocol};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use pgherd_model::Span;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::timeout;

/// Where distributions keep the CA certificates of the system.
const SYSTEM_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Checking a user name and password takes etcd a good part of a second when it is busy.
const AUTHENTICATE_LIMIT: Span = Span::from_secs(5);

/// A watched connection that has been silent for so long is asked for a sign of life (below HTTP/2, which
/// is no request), and given up without one. etcd ends connections that ask more often than every 5 s
/// (`--grpc-keepalive-min-time`).
const PING: (Span, Span) = (Span::from_secs(6), Span::from_secs(2));

/// Establishing a TCP connection on a network that works takes far less.
const CONNECT_LIMIT: Span = Span::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Configured and discovered endpoints, shared by all pools of a node.
#[derive(Debug)]
pub(crate) struct Endpoints {
    options: Mutex<Arc<Options>>,
    discovered: Mutex<Vec<String>>,
    /// How often the options were changed: connections of before are not used any more.
    changes: watch::Sender<u64>,
}

impl Endpoints {
    /// # Errors
    /// [`Error::Settings`] without endpoints or with unreadable certificates.
    pub(crate) fn new(options: Options) -> Result<Endpoints, Error> {
        check(&options)?;
        Ok(Endpoints {
            options: Mutex::new(Arc::new(options)),
            discovered: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }

    pub(crate) fn options(&self) -> Arc<Options> {
        lock(&self.options).clone()
    }

    /// From now on etcd is spoken to with these, over new connections.
    pub(crate) fn change(&self, options: Options) {
        *lock(&self.options) = Arc::new(options);
        lock(&self.discovered).clear();
        self.changes.send_modify(|count| *count += 1);
    }

    /// Wakes when the options were changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How often the options were changed.
    pub(crate) fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// All of them, the configured ones first.
    pub(crate) fn list(&self) -> Vec<String> {
        let mut list = self.options().endpoints.clone();
        for endpoint in lock(&self.discovered).iter() {
            if !list.contains(endpoint) {
                list.push(endpoint.clone());
            }
        }
        list
    }

    /// Takes over the client URLs that etcd's members advertise. Addresses that mean "this
    /// machine" say nothing to others, unless the configured ones are of that kind.
    pub(crate) fn learn(&self, urls: &[String]) {
        let local = |host: &str| {
            ["127.", "localhost", "[::1]"]
                .iter()
                .any(|start| host.starts_with(start))
        };
        let options = self.options();
        let all_here = options.endpoints.iter().any(|host| local(host));
        let scheme = format!("{}://", options.protocol.scheme());
        let hosts = urls
            .iter()
            .filter_map(|url| url.strip_prefix(&scheme))
            .map(|host| host.trim_end_matches('/').to_owned())
            .filter(|host| !host.starts_with("0.0.0.0") && !host.starts_with("[::]"))
            .filter(|host| all_here || !local(host))
            .collect();
        *lock(&self.discovered) = hosts;
    }

    /// A client for one endpoint, authenticated if a user is configured and etcd wants one.
    async fn connect(&self, endpoint: &str) -> Result<Client, Fault> {
        let fault = |error: Error| Fault::new(endpoint, Kind::Unsent, error.to_string());
        let options = self.options();
        let url = format!("{}://{endpoint}", options.protocol.scheme());
        let connect = connect_options(&options, true).map_err(fault)?;
        match Client::connect([&url], Some(connect)).await {
            Err(error) if error.to_string().contains("authentication is not enabled") => {
                let connect = connect_options(&options, false).map_err(fault)?;
                Client::connect([&url], Some(connect)).await
            }
            other => other,
        }
        .map_err(|error| Fault::of_connect(endpoint, &error))
    }
}

/// Whether these options can work.
///
/// # Errors
/// [`Error::Settings`] without endpoints or with unreadable certificates.
pub(crate) fn check(options: &Options) -> Result<(), Error> {
    if options.endpoints.is_empty() {
        return Err(Error::Settings(
            "no endpoint: name at least one under etcd3.hosts".into(),
        ));
    }
    connect_options(options, false).map(|_| ())
}

/// # Errors
/// [`Error::Settings`] when a certificate file cannot be read.
fn connect_options(options: &Options, authenticate: bool) -> Result<ConnectOptions, Error> {
    // A member without a leader refuses at once instead of waiting for one.
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(CONNECT_LIMIT)
        .with_require_leader(true)
        .with_keep_alive(PING.0, PING.1)
        .with_keep_alive_while_idle(false)
        .with_auto_token_refresh(true);
    if options.protocol == Protocol::Https {
        connect = connect.with_tls(tls(options)?);
    }
    if let (true, Some(user)) = (authenticate, &options.username) {
        let password = options
            .password
            .as_ref()
            .map_or("", |secret| secret.expose());
        connect = connect.with_user(user, password);
    }
    Ok(connect)
}

/// A PEM file that holds a `part`; errors name the setting.
fn pem(path: &Path, setting: &str, part: &str) -> Result<Vec<u8>, Error> {
    let wrong = |what: String| {
        let path = path.display();
        Error::Settings(format!("etcd3.{setting}: {path} {what}"))
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let end = format!("{part}-----");
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let found = lines.any(|line| {
        let line = String::from_utf8_lossy(line);
        line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end)
    });
    match found {
        true => Ok(bytes),
        false => Err(wrong(format!("holds no {part} in PEM format"))),
    }
}

/// What the files of a connection with TLS hold, in PEM format.
pub(crate) struct Papers {
    pub(crate) ca: Vec<u8>,
    /// Client certificate with its chain, and its key.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// # Errors
/// [`Error::Settings`] when a certificate file cannot be read.
pub(crate) fn papers(options: &Options) -> Result<Papers, Error> {
    let ca = match &options.cacert {
        Some(path) => pem(path, "cacert", "CERTIFICATE")?,
        None => SYSTEM_CAS
            .iter()
            .find_map(|path| std::fs::read(path).ok())
            .ok_or_else(|| {
                Error::Settings("no CA certificates on this system; set etcd3.cacert".into())
            })?,
    };
    let identity = match (&options.cert, &options.key) {
        (Some(cert), key) => {
            let chain = pem(cert, "cert", "CERTIFICATE")?;
            // Patroni allows one file with both.
            let (key, setting) = match key {
                Some(key) => (key, "key"),
                None => (cert, "cert"),
            };
            Some((chain, pem(key, setting, "PRIVATE KEY")?))
        }
        (None, Some(_)) => {
            return Err(Error::Settings(
                "etcd3.key is set without etcd3.cert".into(),
            ));
        }
        (None, None) => None,
    };
    Ok(Papers { ca, identity })
}

fn tls(options: &Options) -> Result<TlsOptions, Error> {
    let papers = papers(options)?;
    let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(papers.ca));
    Ok(match papers.identity {
        Some((chain, key)) => tls.identity(Identity::from_pem(chain, key)),
        None => tls,
    })
}

/// The clients of one user of etcd, one per endpoint, and the order in which it asks them.
#[derive(Clone)]
pub(crate) struct Pool {
    endpoints: Arc<Endpoints>,
    state: Arc<Mutex<PoolState>>,
}

#[derive(Default)]
struct PoolState {
    order: Vec<String>,
    clients: HashMap<String, Client>,
    connecting: HashMap<String, Connecting>,
    /// Of which options the connections are.
    changes: u64,
}

/// What came of a connection that is being made; `None` until it is made or has failed.
type Connecting = watch::Receiver<Option<Result<Client, Fault>>>;

impl Pool {
    pub(crate) fn new(endpoints: Arc<Endpoints>) -> Pool {
        Pool {
            endpoints,
            state: Arc::default(),
        }
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The state, without connections that were made with other options.
    fn state(&self) -> MutexGuard<'_, PoolState> {
        let changes = *self.endpoints.changes.borrow();
        let mut state = lock(&self.state);
        if state.changes < changes {
            state.clients.clear();
            state.connecting.clear();
            state.changes = changes;
        }
        state
    }

    /// All endpoints, the one that worked last first.
    pub(crate) fn order(&self) -> Vec<String> {
        let list = self.endpoints.list();
        let mut state = self.state();
        state.order.retain(|endpoint| list.contains(endpoint));
        for endpoint in list {
            if !state.order.contains(&endpoint) {
                state.order.push(endpoint);
            }
        }
        state.order.clone()
    }

    /// The client of an endpoint, connected if need be. Making a connection goes on when the
    /// caller gives up waiting, so that the next one finds it made: checking a password takes a
    /// busy etcd longer than a try may last.
    pub(crate) async fn client(&self, endpoint: &str) -> Result<Client, Fault> {
        let mut connecting = {
            let mut state = self.state();
            if let Some(client) = state.clients.get(endpoint) {
                return Ok(client.clone());
            }
            // One whose task ended with its runtime is of no use.
            let alive = |connecting: &&Connecting| connecting.has_changed().is_ok();
            match state.connecting.get(endpoint).filter(alive) {
                Some(connecting) => connecting.clone(),
                None => self.connect(&mut state, endpoint),
            }
        };
        let aborted = || Fault::new(endpoint, Kind::Unsent, "connecting was given up");
        let outcome = connecting.wait_for(Option::is_some).await;
        outcome
            .map_err(|_| aborted())?
            .clone()
            .ok_or_else(aborted)?
    }

    fn connect(&self, state: &mut PoolState, endpoint: &str) -> Connecting {
        let (done, connecting) = watch::channel(None);
        state
            .connecting
            .insert(endpoint.to_owned(), connecting.clone());
        let pool = self.clone();
        let endpoint = endpoint.to_owned();
        let changes = state.changes;
        tokio::spawn(async move {
            let outcome = match timeout(AUTHENTICATE_LIMIT, pool.endpoints.connect(&endpoint)).await
            {
                Ok(outcome) => outcome,
                Err(_) => {
                    let text = "the user name was not checked in time";
                    Err(Fault::new(&endpoint, Kind::Unsent, text))
                }
            };
            let mut state = pool.state();
            if state.changes == changes {
                state.connecting.remove(&endpoint);
                if let Ok(client) = &outcome {
                    state.clients.insert(endpoint, client.clone());
                }
            }
            drop(state);
            let _nobody_waits = done.send(Some(outcome));
        });
        connecting
    }

    /// Forgets the connection to an endpoint, which may be hung or have lost its token.
    pub(crate) fn disconnect(&self, endpoint: &str) {
        lock(&self.state).clients.remove(endpoint);
    }

    /// Asks this endpoint last from now on, over a new connection.
    pub(crate) fn demote(&self, endpoint: &str) {
        let mut state = lock(&self.state);
        state.clients.remove(endpoint);
        if let Some(at) = state.order.iter().position(|known| known == endpoint) {
            let endpoint = state.order.remove(at);
            state.order.push(endpoint);
        }
    }
}
