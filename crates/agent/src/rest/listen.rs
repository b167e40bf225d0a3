//! Opens the port, plain or TLS, serves until the agent ends, and moves when the settings do.

use super::quarters::{Bounded, Entrance, Quarters};
use super::tls::{self, Acceptor};
use super::{App, Front};
use crate::snapshot::Hooks;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use pgherd_model::{Span, Time};
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{HostPort, RestApi};
use rustls::ServerConfig;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::task::JoinHandle;

/// How long a client may take for its headers, also for the first byte of them, and how long a kept-alive
/// connection may be idle.
const HEADER_TIMEOUT: Span = Span::from_secs(15);

/// How long a client may take nothing of its answers while they wait to be sent.
const WRITE_TIMEOUT: Span = Span::from_secs(30);

/// How long requests may go on at an address that was given up.
const LAST_REQUESTS: Span = Span::from_secs(30);

/// How long requests may go on where another program is about to take over: the port is as good as closed meanwhile.
const BEFORE_ANOTHER: Span = Span::from_millis(500);

/// How long a client that was let in last may take for its request before that.
const JUST_LET_IN: Span = Span::from_millis(50);

/// How long clients wait at sockets that were taken over until there is something to answer.
const FIRST_LOOK: Span = Span::from_secs(2);

/// How long it may take until a socket is closed.
const CLOSING: Span = Span::from_secs(2);

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
    /// Clients wait at them for an answer that is no worse than the one of before.
    taken_over: bool,
    tls: Option<Arc<ServerConfig>>,
    patience: Patience,
}

/// How long is waited for a client.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// Who says nothing.
    silent: Span,
    /// Who does not read.
    deaf: Span,
}

/// Opens the port and reads the certificate. Of `inherited` those are used that are at its addresses.
///
/// # Errors
/// See [`RestError`].
pub async fn bind(
    api: &RestApi,
    clock: fn() -> Time,
    inherited: Vec<TcpListener>,
) -> Result<Bound, RestError> {
    let tls = tls::config(api)?;
    Ok(Bound {
        api: api.clone(),
        clock,
        taken_over: !inherited.is_empty(),
        sockets: open(api, inherited).await?,
        tls,
        patience: Patience {
            silent: HEADER_TIMEOUT,
            deaf: WRITE_TIMEOUT,
        },
    })
}

/// All sockets of `restapi.listen`. What there is of them already is used, the rest of that is closed.
async fn open(api: &RestApi, mut present: Vec<TcpListener>) -> Result<Vec<TcpListener>, RestError> {
    let mut sockets = Vec::new();
    let addresses = addresses(&api.listen).await?;
    present.retain(|socket| {
        let address = socket.local_addr();
        address.is_ok_and(|address| addresses.contains(&address))
    });
    for address in addresses {
        let same = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| at == address);
        if let Some(at) = present.iter().position(same) {
            let socket = present.swap_remove(at);
            rustix::net::listen(&socket, queue(api.request_queue_size)).ok();
            sockets.push(socket);
            continue;
        }
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
    Ok(sockets)
}

impl Bound {
    /// Another limit than [`HEADER_TIMEOUT`].
    #[cfg(test)]
    pub(super) fn with_silence(mut self, silent: Span) -> Bound {
        self.patience.silent = silent;
        self
    }

    /// Another limit than [`WRITE_TIMEOUT`].
    #[cfg(test)]
    pub(super) fn with_deafness(mut self, deaf: Span) -> Bound {
        self.patience.deaf = deaf;
        self
    }

    /// Serves from now on, on a thread of its own.
    ///
    /// # Errors
    /// [`RestError::Settings`] for headers that can not be sent, [`RestError::Ended`].
    pub async fn serve(self, hooks: Hooks, peers: Peers) -> Result<Server, RestError> {
        let front = Front::new(&self.api, &hooks.last().version, peers).await?;
        let mut server = Server {
            quarters: Quarters::open().map_err(RestError::Ended)?,
            entrance: Entrance::new(),
            app: App::new(front, self.clock, hooks),
            api: self.api,
            sockets: self.sockets,
            taken_over: self.taken_over,
            tls: None,
            patience: self.patience,
            handle: Handle::new(),
            accepting: Vec::new(),
        };
        server.serve(self.tls)?;
        Ok(server)
    }
}

/// The REST server; it ends when this is dropped.
pub struct Server {
    quarters: Quarters,
    entrance: Entrance,
    app: Arc<App>,
    api: RestApi,
    sockets: Vec<TcpListener>,
    /// As there, until they are served.
    taken_over: bool,
    /// The certificate in use; None: plain HTTP.
    tls: Option<RustlsConfig>,
    patience: Patience,
    /// Of the connections that were accepted by the present settings.
    handle: Handle<SocketAddr>,
    /// Those who accept them, one per socket.
    accepting: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

impl Server {
    /// The port that is served (of use when the configured one is 0).
    pub fn port(&self) -> Option<u16> {
        let address = self.sockets.first()?.local_addr().ok()?;
        Some(address.port())
    }

    /// Lets this run beside the requests, on their thread.
    pub(crate) fn beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.quarters.runtime.spawn(work);
    }

    /// Takes over settings that were read again, and certificates that may be new. A request that is
    /// under way goes on; the port is opened anew only where address or protocol differ.
    ///
    /// # Errors
    /// See [`RestError`]; everything is as it was then.
    pub async fn reload(&mut self, api: &RestApi, peers: Peers) -> Result<(), RestError> {
        let tls = tls::config(api)?;
        let front = Front::new(api, &self.app.last().version, peers).await?;
        // Without a socket it was lost on a way that led nowhere.
        if api.listen != self.api.listen || self.sockets.is_empty() {
            self.move_to(api, tls).await?;
        } else {
            match (&self.tls, tls) {
                (Some(present), Some(tls)) => present.reload_from_config(tls),
                (None, None) => {}
                (_, tls) => {
                    self.stop().await;
                    self.serve(tls)?;
                }
            }
            for socket in &self.sockets {
                // Only the length of the queue changes.
                rustix::net::listen(socket, queue(api.request_queue_size)).ok();
            }
        }
        self.app.change(front);
        self.api = api.clone();
        Ok(())
    }

    /// Opens the new address first, so that nothing is lost if it can not be; where the old one is
    /// in its way, that one is closed before, and opened again if it was in vain.
    async fn move_to(
        &mut self,
        api: &RestApi,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<(), RestError> {
        let present = self.tls.as_ref().map(RustlsConfig::get_inner);
        let sockets = match open(api, Vec::new()).await {
            Ok(sockets) => sockets,
            Err(RestError::Bind { cause, .. })
                if cause.kind() == io::ErrorKind::AddrInUse
                    && api.listen.port == self.api.listen.port =>
            {
                self.stop().await;
                self.sockets.clear();
                match patiently(api).await {
                    Ok(sockets) => sockets,
                    Err(error) => {
                        self.sockets = patiently(&self.api).await?;
                        self.serve(present)?;
                        return Err(error);
                    }
                }
            }
            Err(error) => return Err(error),
        };
        self.stop().await;
        self.sockets = sockets;
        self.serve(tls)
    }

    /// No new connections by the old settings; requests that run may end.
    async fn stop(&mut self) {
        self.accept_no_more().await;
        let handle = std::mem::take(&mut self.handle);
        handle.graceful_shutdown(None);
        self.quarters.runtime.spawn(async move {
            tokio::time::sleep(LAST_REQUESTS).await;
            handle.shutdown();
        });
    }

    /// No new connections, and no requests that go on for long: another program takes over, at these sockets.
    pub(crate) async fn give_up(&mut self) -> Vec<TcpListener> {
        let last = self.handle.clone();
        let answered = async |limit: Span| {
            let end = tokio::time::Instant::now() + limit;
            while last.connection_count() > 0 && tokio::time::Instant::now() < end {
                tokio::time::sleep(Span::from_millis(2)).await;
            }
        };
        self.accept_no_more().await;
        // Whoever has just been let in and not asked yet would be closed as if it had nothing to ask.
        answered(JUST_LET_IN).await;
        self.stop().await;
        answered(BEFORE_ANOTHER).await;
        std::mem::take(&mut self.sockets)
    }

    /// Who accepts is gone when this returns: the sockets may be shared with a successor, which must not lose
    /// a client to it.
    async fn accept_no_more(&mut self) {
        for accepting in self.accepting.drain(..) {
            accepting.abort();
            accepting.await.ok();
        }
    }

    fn serve(&mut self, tls: Option<Arc<ServerConfig>>) -> Result<(), RestError> {
        self.tls = tls.map(RustlsConfig::from_config);
        let router = super::router(self.app.clone());
        let runtime = &self.quarters.runtime;
        let _there = runtime.enter();
        let taken_over = std::mem::take(&mut self.taken_over);
        for socket in &self.sockets {
            let socket = socket.try_clone().map_err(RestError::Ended)?;
            let service = router
                .clone()
                .into_make_service_with_connect_info::<SocketAddr>();
            let mut server = axum_server::from_tcp(socket)
                .map_err(RestError::Ended)?
                .handle(self.handle.clone());
            limits(server.http_builder(), self.patience.silent);
            let (entrance, deaf) = (self.entrance.clone(), self.patience.deaf);
            let looked = self.app.looked(taken_over.then_some(FIRST_LOOK));
            // HTTP/1 alone: where two versions are possible, the first bytes are waited for without any
            // limit. Said last, since another acceptor forgets it.
            let accepting = match self.tls.clone() {
                None => {
                    let acceptor = Bounded::new(DefaultAcceptor::new(), entrance, deaf);
                    let server = server.acceptor(acceptor).http1_only();
                    runtime.spawn(watched(looked, server.serve(service)))
                }
                Some(tls) => {
                    let acceptor = Bounded::new(Acceptor::new(tls), entrance, deaf);
                    let server = server.acceptor(acceptor).http1_only();
                    runtime.spawn(watched(looked, server.serve(service)))
                }
            };
            self.accepting.push(accepting);
        }
        Ok(())
    }
}

/// A listener that breaks is worth a line; one that was told to end is not.
async fn watched(first: impl Future<Output = ()>, serving: impl Future<Output = io::Result<()>>) {
    first.await;
    if let Err(error) = serving.await {
        tracing::error!("the REST API has ended: {error}");
    }
}

/// [`open`], while the sockets of before are being closed.
async fn patiently(api: &RestApi) -> Result<Vec<TcpListener>, RestError> {
    let end = tokio::time::Instant::now() + CLOSING;
    loop {
        match open(api, Vec::new()).await {
            Err(RestError::Bind { .. }) if tokio::time::Instant::now() < end => {}
            other => return other,
        }
        tokio::time::sleep(Span::from_millis(10)).await;
    }
}

fn limits(
    builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>,
    patience: Span,
) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
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
    net::listen(&socket, queue(backlog))?;
    Ok(TcpListener::from(socket))
}

/// Patroni's default of 5 is for a server that closes each connection. One that finds the queue full tries again
/// after 1 s, then 3 s: no crowd that comes at once may do that to a health check.
fn queue(backlog: u32) -> i32 {
    i32::try_from(backlog.clamp(1024, 4096)).unwrap_or(1024)
}
