//! A TCP proxy that loses answers at a chosen moment: between an agent and its etcd.

use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// They pass both ways.
    Passes,
    /// Requests pass, answers are lost.
    Deaf,
    /// Every connection is closed at once.
    Cut,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    traffic: watch::Sender<Traffic>,
    /// Requests that contain this make the proxy deaf before they are passed on.
    trap: Mutex<Option<Vec<u8>>>,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port of the loopback and passes everything to `upstream` (`host:port`).
    ///
    /// # Panics
    /// When it can not listen.
    pub async fn start(upstream: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            traffic: watch::Sender::new(Traffic::Passes),
            trap: Mutex::new(None),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy {
            address,
            shared,
            task,
        }
    }

    /// `host:port` to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on. Connections that have lost answers are closed when bytes pass again.
    pub fn set(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// What happens now.
    pub fn traffic(&self) -> Traffic {
        *self.shared.traffic.borrow()
    }

    /// The next request that contains these bytes is passed on, its answer and all later ones are lost.
    ///
    /// # Panics
    /// Never: nothing panics while the lock is held.
    pub fn deaf_from(&self, request: &[u8]) {
        *self.shared.trap.lock().expect("no panic while held") = Some(request.to_vec());
    }
}

/// How a deletion of `key` looks inside of a transaction sent to etcd (`RequestOp` with a
/// `DeleteRangeRequest` of this key alone, as protobuf writes it).
///
/// # Panics
/// When the key has 126 bytes or more.
pub fn deletion(key: &str) -> Vec<u8> {
    let length = u8::try_from(key.len()).ok().filter(|n| *n < 126);
    let length = length.expect("a key whose length fits in one byte");
    let mut bytes = vec![0x1a, length + 2, 0x0a, length];
    bytes.extend(key.as_bytes());
    bytes
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.traffic.send_replace(Traffic::Cut);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut traffic = shared.traffic.subscribe();
            tokio::select! {
                _ = traffic.wait_for(|t| *t == Traffic::Cut) => {}
                _ = carry(client, &shared) => {}
            }
        });
    }
}

async fn carry(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let server = TcpStream::connect(&shared.upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        done = requests(from_client, to_server, shared) => done,
        done = answers(from_server, to_client, shared) => done,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let bytes = &buffer[..n];
        let sprung = {
            let mut trap = shared.trap.lock().expect("no panic while held");
            let found = |trap: &mut Vec<u8>| bytes.windows(trap.len()).any(|w| w == *trap);
            trap.take_if(found).is_some()
        };
        if sprung {
            shared.traffic.send_replace(Traffic::Deaf);
        }
        to.write_all(bytes).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut lost = false;
    loop {
        let n = from.read(&mut buffer).await?;
        let deaf = *shared.traffic.borrow() == Traffic::Deaf;
        lost |= deaf;
        if n == 0 || (lost && !deaf) {
            return Ok(());
        }
        if !deaf {
            to.write_all(&buffer[..n]).await?;
        }
    }
}
