//! The port itself: kept-alive connections, a slow client, an occupied port, headers.

use super::{Node, api, clock, peers, primary};
use crate::rest::{RestError, bind};
use crate::snapshot::Hooks;
use pgherd_dcs::Picture;
use pgherd_model::Span;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

async fn serving() -> (u16, tokio::task::JoinHandle<()>) {
    let bound = bind(&api(false), clock).await.unwrap();
    let port = bound.port().unwrap();
    let (_, snapshot) = watch::channel(Arc::new(primary()));
    let (orders, _) = mpsc::channel(1);
    let (_, picture) = watch::channel(Picture::default());
    let hooks = Hooks {
        snapshot,
        orders,
        picture,
    };
    (
        port,
        tokio::spawn(async move { drop(bound.serve(hooks, peers()).await) }),
    )
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
    server.abort();
}

#[tokio::test]
async fn an_occupied_port_names_address_and_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = api(false);
    settings.listen.port = taken.local_addr().unwrap().port();
    let error = bind(&settings, clock).await.unwrap_err();
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
        let bound = bind(&settings, clock).await.unwrap();
        let port = bound.port().unwrap();
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
    let text = bind(&settings, clock).await.unwrap_err().to_string();
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
    let node = Node::of(primary(), false);
    assert_eq!(node.get("/cluster").await.status, 200);
    server.abort();
}
