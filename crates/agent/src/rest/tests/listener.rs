//! The port itself: kept-alive connections, a slow client, an occupied port, headers.

use super::{Node, api, clock, peers, primary};
use crate::looks::looks;
use crate::rest::{Bound, RestError, Server, bind};
use crate::snapshot::Hooks;
use pgherd_dcs::Picture;
use pgherd_model::Span;
use pgherd_peer::{PeerOptions, Peers, endpoint};
use pgherd_wire::patroni::config::{Ctl, Login, RestApi, Secret, VerifyClient};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

async fn serving() -> (u16, Server) {
    let server = served(&api(false)).await;
    (port(&server), server)
}

async fn read_some(stream: &mut TcpStream) -> String {
    let mut buffer = vec![0; 8192];
    let read = tokio::time::timeout(Span::from_secs(10), stream.read(&mut buffer));
    let length = read.await.expect("an answer within 10 s").unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn connections_are_kept_and_slow_clients_hold_up_nobody() {
    let (port, server) = serving().await;
    let mut slow = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    slow.write_all(b"GET /primary HTTP/1.1\r\nHost")
        .await
        .unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let answer = read_some(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-length: "), "{answer}");
    }
    // What HAProxy sends by default, and what a status line alone looks like.
    stream
        .write_all(b"OPTIONS / HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let answer = read_some(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    drop(server);
}

/// Reads to the end, which must come by itself.
async fn closed(mut stream: impl AsyncRead + Unpin) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest));
    // By a reset or in order: the place is free again.
    drop(end.await.expect("closed within 10 s"));
}

/// A connection that says nothing, or nothing more, does not keep its place among the few there are.
#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificates(at);
    let short = Span::from_secs(1);
    let mut settings = api(false);
    let bound = bind(&settings, clock, Vec::new()).await.unwrap();
    let server = serve(bound.with_silence(short)).await;
    let silent = TcpStream::connect(("127.0.0.1", port(&server)));
    closed(silent.await.unwrap()).await;
    let mut idle = TcpStream::connect(("127.0.0.1", port(&server)))
        .await
        .unwrap();
    idle.write_all(b"GET /primary HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(read_some(&mut idle).await.starts_with("HTTP/1.1 200 OK"));
    closed(idle).await;

    settings.certfile = Some(at.join("cert.pem"));
    settings.keyfile = Some(at.join("key.pem"));
    let bound = bind(&settings, clock, Vec::new()).await.unwrap();
    let server = serve(bound.with_silence(short)).await;
    let stream = TcpStream::connect(("127.0.0.1", port(&server)));
    let connector = tokio_rustls::TlsConnector::from(trusting(&at.join("ca.pem")));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let secure = connector.connect(name, stream.await.unwrap()).await;
    closed(secure.unwrap()).await;
}

/// A TLS client that knows this authority.
pub(super) fn trusting(ca: &std::path::Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[tokio::test]
async fn an_occupied_port_names_address_and_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = api(false);
    settings.listen.port = taken.local_addr().unwrap().port();
    let error = bind(&settings, clock, Vec::new()).await.unwrap_err();
    assert!(matches!(error, RestError::Bind { .. }));
    let text = error.to_string();
    assert!(
        text.contains(&taken.local_addr().unwrap().to_string()),
        "{text}"
    );
    assert!(
        text.contains("choose another port in restapi.listen"),
        "{text}"
    );
}

#[tokio::test]
async fn every_address_means_both_families() {
    for host in ["", "*", "0.0.0.0", "localhost"] {
        let mut settings = api(false);
        settings.listen.host = host.into();
        let server = served(&settings).await;
        let port = port(&server);
        assert!(
            TcpStream::connect(("127.0.0.1", port)).await.is_ok() || host == "localhost",
            "{host:?}"
        );
    }
}

#[tokio::test]
async fn a_host_nobody_knows_is_told() {
    let mut settings = api(false);
    settings.listen.host = "no-such-host.invalid".into();
    let text = bind(&settings, clock, Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("no-such-host.invalid") && text.contains("restapi.listen"),
        "{text}"
    );
}

#[tokio::test]
async fn a_lost_loop_is_an_error_page_and_no_hang() {
    let (port, server) = serving().await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream
        .write_all(b"GET /cluster HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    assert!(read_some(&mut stream).await.starts_with("HTTP/1.1 502 "));
    // A mistake is the client's all the same.
    for (path, body, status) in [
        ("switchover", r#"{"leader":"n0","candidate":"n1"}"#, 502),
        ("switchover", "{}", 400),
        ("switchover", r#"["n0"]"#, 400),
        ("switchover", r#"{"candidate":"n1"}"#, 400),
        ("failover", r#"{"leader":"n0"}"#, 400),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let length = body.len();
        let head = format!("POST /{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}");
        let request = format!("{head}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_some(&mut stream).await;
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{path} {body}: {answer}");
    }
    let node = Node::of(primary(), false).await;
    assert_eq!(node.get("/cluster").await.status, 200);
    drop(server);
}

/// Makes a certificate authority, and a certificate and key that it signed for 127.0.0.1.
pub(super) fn certificates(directory: &std::path::Path) {
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        let done = command
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"
    ));
    openssl(&format!(
        "req {key} -keyout key.pem -out request.pem -subj /CN=node"
    ));
    std::fs::write(directory.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    );
    // One self-signed certificate for everything, as is common with Patroni.
    openssl(&format!(
        "req -x509 {key} -keyout self.key -out self.pem -days 2 -subj /CN=other"
    ));
}

async fn serving_tls(
    cert: std::path::PathBuf,
    key: std::path::PathBuf,
    ca: std::path::PathBuf,
) -> (String, Server) {
    let mut settings = api(true);
    settings.certfile = Some(cert);
    settings.keyfile = Some(key);
    settings.cafile = Some(ca);
    settings.verify_client = VerifyClient::Optional;
    let server = served(&settings).await;
    (
        format!("https://127.0.0.1:{}/patroni", port(&server)),
        server,
    )
}

pub(super) fn port(server: &Server) -> u16 {
    server.port().unwrap()
}

async fn served(settings: &RestApi) -> Server {
    serve(bind(settings, clock, Vec::new()).await.unwrap()).await
}

async fn serve(bound: Bound) -> Server {
    serve_with(bound, None).await
}

pub(super) async fn serve_with(bound: Bound, journal: Option<std::path::PathBuf>) -> Server {
    let (_, snapshot) = watch::channel(Arc::new(primary()));
    let (orders, _) = mpsc::channel(1);
    let (_, picture) = watch::channel(Picture::default());
    let hooks = Hooks {
        failsafe: super::failsafe(),
        snapshot,
        attention: Arc::default(),
        orders,
        looks: looks().0,
        instance: None,
        picture,
        journal,
        configured: Arc::default(),
    };
    bound.serve(hooks, peers()).await.unwrap()
}

pub(super) const LIMIT: Span = Span::from_secs(10);

/// A client that trusts `ca`, with the node's certificate or without.
fn client(directory: &std::path::Path, ca: Option<&str>, cert: bool, insecure: bool) -> Peers {
    let file = |name: &str| directory.join(name);
    let login = Login {
        username: "admin".into(),
        password: Secret::new("s3cret"),
    };
    let ctl = Ctl {
        authentication: Some(login),
        cacert: ca.map(file),
        certfile: cert.then(|| file("cert.pem")),
        keyfile: cert.then(|| file("key.pem")),
        ..Ctl::default()
    };
    Peers::new(&PeerOptions::new(&ctl, insecure, clock)).unwrap()
}

#[tokio::test]
async fn client_certificates_open_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificates(at);
    let (url, _server) =
        serving_tls(at.join("cert.pem"), at.join("key.pem"), at.join("ca.pem")).await;
    let config = endpoint(&url, "config").unwrap();
    let careful = client(at, Some("ca.pem"), false, false);
    assert!(careful.status(&url, LIMIT).await.is_ok());
    let refused = careful.request("PATCH", &config, Some("{}"), LIMIT).await;
    let refused = refused.unwrap();
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (403, "client certificate required")
    );
    let known = client(at, Some("ca.pem"), true, false);
    let let_in = known.request("PATCH", &config, Some("{}"), LIMIT).await;
    assert_eq!(let_in.unwrap().status, 400);
}

#[tokio::test]
async fn what_a_client_checks_follows_patroni() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificates(at);
    let (url, _server) =
        serving_tls(at.join("cert.pem"), at.join("key.pem"), at.join("ca.pem")).await;
    let by_name = url.replace("127.0.0.1", "localhost");
    let (own, _own) = serving_tls(
        at.join("self.pem"),
        at.join("self.key"),
        at.join("self.pem"),
    )
    .await;
    for (url, ca, cert, insecure, good) in [
        // Insecure without a client certificate: nothing is checked.
        (&url, None, false, true, true),
        (&own, Some("self.pem"), false, true, true),
        // Insecure with one: the chain, but no name.
        (&by_name, Some("ca.pem"), true, true, true),
        (&url, Some("self.pem"), true, true, false),
        // Else both.
        (&url, Some("ca.pem"), false, false, true),
        (&url, Some("self.pem"), false, false, false),
        (&by_name, Some("ca.pem"), false, false, false),
        (&own, Some("self.pem"), false, false, false),
    ] {
        let status = client(at, ca, cert, insecure).status(url, LIMIT).await;
        assert_eq!(
            status.is_ok(),
            good,
            "{url} {ca:?} {cert} {insecure}: {status:?}"
        );
    }
}

#[tokio::test]
async fn unusable_certificates_are_named() {
    let mut settings = api(false);
    settings.certfile = Some("/nonexistent/cert.pem".into());
    let text = bind(&settings, clock, Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("/nonexistent/cert.pem (restapi.certfile)"),
        "{text}"
    );
}

/// Status of an answer to `GET /primary` over plain HTTP, on a connection of its own.
async fn plain(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /primary HTTP/1.0\r\n\r\n").await?;
    let answer = read_some(&mut stream).await;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn settings_that_are_read_again_hold_for_the_next_request() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificates(at);
    let mut server = served(&api(false)).await;
    let first = port(&server);
    let mut settings = api(true);
    settings.listen.port = 0;
    server.reload(&settings, peers()).await.unwrap();
    assert_eq!(port(&server), first, "the same address is not opened anew");
    let url = format!("http://127.0.0.1:{first}/config");
    let nobody = Peers::new(&PeerOptions::new(&Ctl::default(), true, clock)).unwrap();
    let patch = async |url: &str, client: &Peers| {
        let answer = client.request("PATCH", url, Some("{}"), LIMIT).await;
        answer.map(|answer| answer.status)
    };
    assert_eq!(patch(&url, &nobody).await.unwrap(), 401);
    assert_eq!(
        patch(&url, &client(at, None, false, true)).await.unwrap(),
        400
    );

    // TLS at the same address, then another certificate: old connections are no hindrance.
    settings.certfile = Some(at.join("cert.pem"));
    settings.keyfile = Some(at.join("key.pem"));
    server.reload(&settings, peers()).await.unwrap();
    assert_eq!(port(&server), first);
    let url = format!("https://127.0.0.1:{first}/config");
    assert_eq!(
        patch(&url, &client(at, Some("ca.pem"), false, false))
            .await
            .unwrap(),
        400
    );
    std::fs::copy(at.join("self.pem"), at.join("cert.pem")).unwrap();
    std::fs::copy(at.join("self.key"), at.join("key.pem")).unwrap();
    server.reload(&settings, peers()).await.unwrap();
    assert!(
        patch(&url, &client(at, Some("ca.pem"), false, false))
            .await
            .is_err()
    );
    assert_eq!(
        patch(&url, &client(at, None, false, true)).await.unwrap(),
        400
    );
}

#[tokio::test]
async fn the_port_moves_and_stays_where_it_can_not_move() {
    let mut settings = api(false);
    settings.listen.port = free_port();
    let mut server = served(&settings).await;
    let first = settings.listen.port;
    let refused = async |server: &mut Server, settings: &RestApi| {
        let error = server.reload(settings, peers()).await.unwrap_err();
        assert!(plain(first).await.unwrap().contains(" 200 "));
        error
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut next = settings.clone();
    next.listen.port = taken.local_addr().unwrap().port();
    let error = refused(&mut server, &next).await;
    assert!(matches!(error, RestError::Bind { .. }), "{error}");
    next.listen.port = first;
    next.certfile = Some("/nonexistent/cert.pem".into());
    let error = refused(&mut server, &next).await;
    assert!(matches!(error, RestError::Settings(_)), "{error}");
    // Another host with the same port: its own socket is in the way.
    next = settings.clone();
    next.listen.host = "*".into();
    server.reload(&next, peers()).await.unwrap();
    assert!(plain(first).await.unwrap().contains(" 200 "));
    next.listen.port = free_port();
    server.reload(&next, peers()).await.unwrap();
    assert!(plain(next.listen.port).await.unwrap().contains(" 200 "));
    assert!(plain(first).await.is_err());
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
