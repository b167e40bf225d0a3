//! The client against small servers on loopback: documents, silence, broken connections.

use crate::{FailsafeAnswer, PeerError, PeerOptions, Peers, endpoint};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use pgherd_model::{Lsn, Role, Span, Time};
use pgherd_wire::patroni::config::{Ctl, Login, Secret};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SHORT: Span = Span::from_millis(300);
const LONG: Span = Span::from_secs(10);

fn clock() -> Time {
    Time::from_millis(77)
}

fn peers() -> Peers {
    let ctl = Ctl {
        authentication: Some(Login {
            username: "admin".into(),
            password: Secret::new("s3cret"),
        }),
        ..Ctl::default()
    };
    Peers::new(&PeerOptions::new(&ctl, true, clock)).unwrap()
}

async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn a_status_document_becomes_facts() {
    let body = r#"{"state": "running", "role": "replica", "timeline": 3, "replication_state": "streaming",
        "xlog": {"received_location": 200, "replayed_location": 100}, "tags": {"nofailover": true}}"#;
    let url = serve(Router::new().route(
        "/patroni",
        get(async move || (axum::http::StatusCode::SERVICE_UNAVAILABLE, body)),
    ))
    .await;
    let status = peers().status(&url, LONG).await.unwrap();
    assert_eq!(status.asked, Time::from_millis(77));
    assert_eq!(status.role, Some(Role::Replica));
    assert_eq!((status.received, status.replayed), (Lsn(200), Lsn(100)));
    assert!(status.reachable && status.streaming && status.tags.nofailover);
}

#[tokio::test]
async fn what_is_no_document_is_an_error() {
    let url = serve(Router::new().fallback(|| async { "hello" })).await;
    let error = peers().status(&url, LONG).await.unwrap_err();
    assert!(
        matches!(error, PeerError::Answer { status: 200, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_hanging_server_costs_its_deadline_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    // Accepts through the backlog, never answers.
    let begun = Instant::now();
    let error = peers().status(&url, SHORT).await.unwrap_err();
    assert!(matches!(error, PeerError::Timeout { .. }), "{error}");
    assert!(
        error.to_string().contains("did not answer within 300 ms"),
        "{error}"
    );
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < LONG);
}

#[tokio::test]
async fn a_server_that_stops_in_the_body_costs_its_deadline_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{";
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    });
    let error = peers().status(&url, SHORT).await.unwrap_err();
    assert!(matches!(error, PeerError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}/patroni");
    let error = peers().status(&url, LONG).await.unwrap_err();
    assert!(error.is_connect(), "{error}");
    assert!(!peers().liveness(&url).await);
}

/// A port whose queue of connections is full: the system drops whatever comes, as a network does that is cut
/// without a word. Held open by what is given back.
async fn black_hole() -> (String, Vec<tokio::net::TcpStream>, TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(SHORT, connect).await {
            Ok(stream) => waiting.push(stream.unwrap()),
            Err(_) => return (format!("http://{address}/patroni"), waiting, listener),
        }
    }
    panic!("the queue of {address} does not fill");
}

#[tokio::test]
async fn a_host_that_says_nothing_is_not_connected_to() {
    let (url, _waiting, _listener) = black_hole().await;
    let options = PeerOptions::new(&Ctl::default(), true, clock).connect_within(SHORT);
    let begun = Instant::now();
    let quick = Peers::new(&options).unwrap();
    let error = quick
        .request("POST", &url, Some("{}"), LONG)
        .await
        .unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(
        begun.elapsed() >= SHORT && begun.elapsed() < LONG,
        "{error}"
    );
    // Without the limit it costs the whole request, and nobody knows whether that had its effect.
    let error = peers().request("POST", &url, None, SHORT * 2).await;
    let error = error.unwrap_err();
    assert!(matches!(error, PeerError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_that_is_slow_is_waited_for() {
    let app = Router::new().route(
        "/patroni",
        post(async || {
            tokio::time::sleep(SHORT * 2).await;
            "done"
        }),
    );
    let url = serve(app).await;
    let options = PeerOptions::new(&Ctl::default(), true, clock).connect_within(SHORT);
    let peers = Peers::new(&options).unwrap();
    let answer = peers.request("POST", &url, None, LONG).await.unwrap();
    assert_eq!(answer.text, "done");
}

/// Answers one request per connection as if it would go on, then breaks the connection when the
/// next request comes: what a restarted agent looks like to a kept-alive client.
async fn forgetful(connections: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let body = r#"{"state": "running", "role": "primary", "xlog": {"location": 5}}"#;
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.read(&mut buffer).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn a_broken_kept_alive_connection_is_replaced_at_once() {
    let connections = Arc::new(AtomicUsize::new(0));
    let url = forgetful(connections.clone()).await;
    let peers = peers();
    for _ in 0..5 {
        let status = peers.status(&url, LONG).await.unwrap();
        assert_eq!(status.writable_at, Some(Lsn(5)));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_request_that_changes_something_is_not_sent_twice() {
    let connections = Arc::new(AtomicUsize::new(0));
    let url = forgetful(connections.clone()).await;
    let peers = peers();
    peers.status(&url, LONG).await.unwrap();
    let error = peers
        .request("POST", &url, Some("{}"), LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, PeerError::Broken { .. }), "{error}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn connections_are_kept() {
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let ports = seen.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/patroni", listener.local_addr().unwrap());
    let app = Router::new().route(
        "/patroni",
        get(
            move |axum::extract::ConnectInfo(from): axum::extract::ConnectInfo<
                std::net::SocketAddr,
            >| async move {
                ports.lock().unwrap().insert(from.port());
                "{}"
            },
        ),
    );
    let service = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let peers = peers();
    for _ in 0..5 {
        peers.status(&url, LONG).await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn failsafe_and_requests_carry_credentials() {
    let app = Router::new()
        .route(
            "/failsafe",
            post(|headers: HeaderMap, body: String| async move {
                assert_eq!(headers["authorization"], "Basic YWRtaW46czNjcmV0");
                assert_eq!(headers["content-length"], body.len().to_string());
                match body.contains("n0") {
                    true => Ok(([("lsn", "42")], "Accepted")),
                    false => Err((
                        axum::http::StatusCode::INTERNAL_SERVER_ERROR,
                        "Running as a leader",
                    )),
                }
            }),
        )
        .route(
            "/liveness",
            get(|| async { axum::http::StatusCode::SERVICE_UNAVAILABLE }),
        );
    let url = serve(app).await;
    let peers = peers();
    match peers
        .post_failsafe(&url, r#"{"name":"n0"}"#, LONG)
        .await
        .unwrap()
    {
        FailsafeAnswer::Accepted(accepted) => {
            assert_eq!(
                (accepted.sent, accepted.lsn),
                (Time::from_millis(77), Some(Lsn(42)))
            );
        }
        other => panic!("{other:?}"),
    }
    let refused = peers.post_failsafe(&url, "{}", LONG).await.unwrap();
    assert_eq!(
        refused,
        FailsafeAnswer::Refused {
            status: 500,
            text: "Running as a leader".into()
        }
    );
    assert!(peers.liveness(&url).await, "any answer counts");
    let other = endpoint(&url, "nothing").unwrap();
    assert_eq!(
        peers
            .request("DELETE", &other, None, LONG)
            .await
            .unwrap()
            .status,
        404
    );
}

#[test]
fn the_path_is_exchanged_and_nothing_else() {
    assert_eq!(
        endpoint("http://h:8008/patroni", "config").unwrap(),
        "http://h:8008/config"
    );
    assert_eq!(
        endpoint("https://u:p@[::1]:8008/x/y?z=1", "/leader").unwrap(),
        "https://[::1]:8008/leader"
    );
    for bad in ["", "h:8008", "ftp://h/", "/patroni", "postgres://h:1/x"] {
        assert!(
            matches!(endpoint(bad, "x"), Err(PeerError::BadUrl(_))),
            "{bad}"
        );
    }
}

#[test]
fn secrets_are_not_shown() {
    let login = Login {
        username: "admin".into(),
        password: Secret::new("s3cret"),
    };
    let ctl = Ctl {
        authentication: Some(login),
        ..Ctl::default()
    };
    let options = PeerOptions::new(&ctl, true, clock);
    let shown = format!("{options:?} {:?}", Peers::new(&options).unwrap());
    assert!(
        !shown.contains("s3cret") && !shown.contains("YWRtaW46"),
        "{shown}"
    );
}

#[test]
fn unusable_files_are_named() {
    let ctl = Ctl {
        cacert: Some("/nonexistent/ca.pem".into()),
        ..Ctl::default()
    };
    let error = Peers::new(&PeerOptions::new(&ctl, false, clock))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nonexistent/ca.pem") && error.contains("restapi.cafile"),
        "{error}"
    );
    // Checking nothing needs no certificates.
    assert!(Peers::new(&PeerOptions::new(&ctl, true, clock)).is_ok());
}
