//! Clients that stand still: that read no answer, or do not send what they said they would.

use super::journal::line;
use super::listener::{LIMIT, certificates, port, serve_with, trusting};
use super::{api, clock};
use crate::rest::{Server, bind, journal};
use pgherd_model::Span;
use rustls_pki_types::ServerName;
use std::path::Path;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// One that serves plain HTTP, or TLS.
struct Site {
    server: Server,
    directory: tempfile::TempDir,
    secure: bool,
}

impl Site {
    async fn open(secure: bool, login: bool, deaf: Span) -> Site {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let mut settings = api(login);
        if secure {
            certificates(at);
            settings.certfile = Some(at.join("cert.pem"));
            settings.keyfile = Some(at.join("key.pem"));
        }
        let bound = bind(&settings, clock, Vec::new()).await.unwrap();
        let server = serve_with(bound.with_deafness(deaf), Some(Self::journal(at))).await;
        Site {
            server,
            directory,
            secure,
        }
    }

    fn journal(directory: &Path) -> std::path::PathBuf {
        directory.join("journal")
    }

    async fn connect(&self) -> Box<dyn Wire> {
        let stream = TcpStream::connect(("127.0.0.1", port(&self.server)));
        let stream = stream.await.unwrap();
        if !self.secure {
            return Box::new(stream);
        }
        let ca = self.directory.path().join("ca.pem");
        let connector = tokio_rustls::TlsConnector::from(trusting(&ca));
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Box::new(connector.connect(name, stream).await.unwrap())
    }

    /// The first line of the answer, on a connection of its own.
    async fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        let mut line = vec![0; 4096];
        let read = timeout(LIMIT, stream.read(&mut line)).await;
        line.truncate(read.expect("an answer within 10 s").unwrap());
        let text = String::from_utf8_lossy(&line);
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Asks until the answer has this status.
    async fn ask_until(&self, request: &[u8], status: u16) {
        let (wanted, end) = (format!("HTTP/1.1 {status} "), Instant::now() + LIMIT * 2);
        loop {
            let line = self.ask(request).await;
            if line.starts_with(&wanted) {
                return;
            }
            assert!(Instant::now() < end, "{line}, not {status}");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    for secure in [false, true] {
        let site = Site::open(secure, false, Span::from_secs(1)).await;
        let mut deaf = site.connect().await;
        let questions = b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        let asking = async { while deaf.write_all(&questions).await.is_ok() {} };
        let asked = timeout(LIMIT, asking).await;
        asked.expect("closed within 10 s");
    }
}

/// What an answer of 2 MB takes is counted as long as it is kept, which is until the client has it.
#[tokio::test]
async fn a_journal_that_is_not_fetched_keeps_its_place() {
    const FETCH: &[u8] = b"GET /journal HTTP/1.1\r\nHost: x\r\n\r\n";
    for secure in [false, true] {
        let site = Site::open(secure, false, LIMIT * 6).await;
        let lines: String = (1..=3000).map(line).collect();
        std::fs::write(Site::journal(site.directory.path()), lines).unwrap();
        let mut slow = Vec::new();
        for _ in 0..journal::AT_A_TIME {
            let mut stream = site.connect().await;
            // The system takes one or two of them, whoever reads.
            stream.write_all(&FETCH.repeat(8)).await.unwrap();
            slow.push(stream);
        }
        site.ask_until(FETCH, 503).await;
        drop(slow);
        site.ask_until(FETCH, 200).await;
    }
}

/// Of whoever may not, or wants to send too much, nothing is waited for, and nothing kept.
#[tokio::test]
async fn a_body_that_will_be_refused_is_not_received() {
    let site = Site::open(false, true, LIMIT).await;
    let login = "Authorization: Basic YWRtaW46czNjcmV0\r\n";
    for (request, header, length, status) in [
        ("PATCH /config", "", 1_000_000, 401),
        ("PUT /config", "", 1_000_000, 401),
        ("POST /switchover", "", 1000, 401),
        ("POST /restart", "", 1000, 401),
        ("POST /failsafe", "", 1000, 401),
        ("POST /citus", "", 1000, 401),
        ("POST /mpp", "", 65_537, 413),
        ("POST /switchover", login, 65_537, 413),
        ("POST /restart", login, 65_537, 413),
        ("PATCH /config", login, 1_048_577, 413),
    ] {
        let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        let line = site.ask(format!("{head}{header}\r\n").as_bytes()).await;
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(line.starts_with(&wanted), "{request} {length}: {line}");
    }
}
