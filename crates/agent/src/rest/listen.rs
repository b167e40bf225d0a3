//! Opens the port, plain or TLS, and serves until the agent ends.

use super::App;
use super::tls::{self, Acceptor};
use crate::snapshot::Hooks;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use pgherd_model::{Span, Time};
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{HostPort, RestApi};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// How long a client may take for its headers, and how long a kept-alive connection may be idle.
const HEADER_TIMEOUT: Span = Span::from_secs(15);

/// Why the REST server could not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// The host of `restapi.listen` can not be found.
    #[error(
        "restapi.listen {listen}: the host can not be found: {cause}; give an address of this machine, or * for all"
    )]
    Address {
        /// As configured.
        listen: String,
        /// From the system.
        cause: io::Error,
    },
    /// The port can not be opened.
    #[error("can not listen on {address} (restapi.listen): {cause}{}", remedy(.cause))]
    Bind {
        /// Resolved address.
        address: SocketAddr,
        /// From the system.
        cause: io::Error,
    },
    /// Certificate, key or another setting can not be used; names it and the remedy.
    #[error("{0}")]
    Settings(String),
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
    api: RestApi,
    clock: fn() -> Time,
    sockets: Vec<TcpListener>,
    tls: Option<RustlsConfig>,
}

/// Opens the port and reads the certificate.
///
/// # Errors
/// See [`RestError`].
pub async fn bind(api: &RestApi, clock: fn() -> Time) -> Result<Bound, RestError> {
    let tls = tls::config(api)?.map(RustlsConfig::from_config);
    let mut sockets = Vec::new();
    for address in addresses(&api.listen).await? {
        match listen(address, api.request_queue_size) {
            Ok(socket) => sockets.push(socket),
            // A machine without IPv6: `*` means what there is.
            Err(_) if everywhere(&api.listen.host) && address.is_ipv6() => {}
            // One socket for both families holds the port already.
            Err(cause)
                if cause.kind() == io::ErrorKind::AddrInUse
                    && everywhere(&api.listen.host)
                    && !sockets.is_empty() => {}
            Err(cause) => return Err(RestError::Bind { address, cause }),
        }
    }
    Ok(Bound {
        api: api.clone(),
        clock,
        sockets,
        tls,
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
    /// [`RestError::Ended`], or [`RestError::Settings`] for headers that can not be sent.
    pub async fn serve(self, hooks: Hooks, peers: Peers) -> Result<(), RestError> {
        let app = App::new(&self.api, self.clock, hooks, peers).await?;
        let router = super::router(app);
        let handle = Handle::new();
        let mut servers = tokio::task::JoinSet::new();
        for socket in self.sockets {
            let service = router
                .clone()
                .into_make_service_with_connect_info::<SocketAddr>();
            let handle = handle.clone();
            match self.tls.clone() {
                None => {
                    let mut server = axum_server::from_tcp(socket)
                        .map_err(RestError::Ended)?
                        .handle(handle);
                    limits(server.http_builder());
                    servers.spawn(server.serve(service));
                }
                Some(tls) => {
                    let mut server = axum_server::from_tcp(socket)
                        .map_err(RestError::Ended)?
                        .acceptor(Acceptor::new(tls))
                        .handle(handle);
                    limits(server.http_builder());
                    servers.spawn(server.serve(service));
                }
            }
        }
        // The set ends its tasks when this future is dropped.
        match servers.join_next().await {
            Some(Ok(Err(cause))) => Err(RestError::Ended(cause)),
            Some(Err(cause)) => Err(RestError::Ended(io::Error::other(cause))),
            Some(Ok(Ok(()))) | None => {
                Err(RestError::Ended(io::Error::other("the listener is closed")))
            }
        }
    }
}

/// [`bind`], then [`Bound::serve`].
///
/// # Errors
/// See [`RestError`]; occupied ports and bad certificates are found before anything is served.
pub async fn serve(
    api: &RestApi,
    clock: fn() -> Time,
    hooks: Hooks,
    peers: Peers,
) -> Result<(), RestError> {
    bind(api, clock).await?.serve(hooks, peers).await
}

fn limits(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024);
}

fn everywhere(host: &str) -> bool {
    matches!(host, "" | "*")
}

/// Every address the host stands for; for `*` the one of both families, then IPv4 alone.
async fn addresses(listen: &HostPort) -> Result<Vec<SocketAddr>, RestError> {
    if everywhere(&listen.host) {
        return Ok(vec![
            SocketAddr::from(([0u16; 8], listen.port)),
            SocketAddr::from(([0u8; 4], listen.port)),
        ]);
    }
    let bad = |cause| RestError::Address {
        listen: listen.to_string(),
        cause,
    };
    let found: Vec<SocketAddr> = tokio::net::lookup_host((listen.host.as_str(), listen.port))
        .await
        .map_err(bad)?
        .collect();
    match found.first() {
        // Names such as localhost often have two addresses; the first one is enough, as Patroni does.
        Some(first) => Ok(vec![*first]),
        None => Err(bad(io::Error::new(io::ErrorKind::NotFound, "no address"))),
    }
}

/// A listening socket; Linux opens `[::]` for IPv4 as well.
fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    net::bind(&socket, &address)?;
    // Patroni's default of 5 is for a server that closes each connection; be no smaller than 128.
    net::listen(
        &socket,
        i32::try_from(backlog.clamp(128, 4096)).unwrap_or(128),
    )?;
    Ok(TcpListener::from(socket))
}
