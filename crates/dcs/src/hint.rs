//! Why an endpoint that was never understood does not answer: what to change in `etcd3`. The
//! libraries' errors do not tell TLS from plain text, so the endpoint is asked in both.

use crate::{Options, Protocol};
use pgherd_model::Span;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a connection and its answer together.
const LIMIT: Span = Span::from_secs(1);
/// A greeting in TLS that is too short: a server that speaks TLS answers with an alert.
const BROKEN_HELLO: &[u8] = &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0];
/// How an alert begins.
const ALERT: &[u8] = &[0x15, 3];

/// What to do about a failure at `endpoint`; `None`: nothing is known.
pub(crate) async fn remedy(options: &Options, endpoint: &str, failure: &str) -> Option<String> {
    if failure.contains("tcp connect error") || failure.contains("dns error") {
        return None;
    }
    if failure.contains("invalid peer certificate") {
        let text = match &options.cacert {
            Some(path) => format!(
                "{} (etcd3.cacert) does not vouch for this server's certificate",
                path.display()
            ),
            None => {
                "the system's certificates do not vouch for this server's: set etcd3.cacert".into()
            }
        };
        return Some(text);
    }
    let text = match (options.protocol, speaks_tls(endpoint).await?) {
        (Protocol::Http, true) => {
            "it speaks TLS, but etcd3.protocol is http: set etcd3.protocol: https"
        }
        (Protocol::Https, false) => {
            "it speaks plain HTTP, but etcd3.protocol is https: set etcd3.protocol: http"
        }
        (Protocol::Https, true) if options.cert.is_none() => {
            "it may want a client certificate: set etcd3.cert and etcd3.key"
        }
        (Protocol::Https, true) => {
            "it may refuse the client certificate: check etcd3.cert and etcd3.key"
        }
        (Protocol::Http, false) => return None,
    };
    Some(text.to_owned())
}

/// `None`: it said nothing that tells. etcd without TLS waits for the rest of the greeting, so both
/// questions go out at once.
async fn speaks_tls(endpoint: &str) -> Option<bool> {
    let request = format!("GET /version HTTP/1.0\r\nHost: {endpoint}\r\n\r\n");
    let (tls, plain) = tokio::join!(
        timeout(LIMIT, answer(endpoint, BROKEN_HELLO)),
        timeout(LIMIT, answer(endpoint, request.as_bytes())),
    );
    let starts =
        |answer: Option<Vec<u8>>, with| answer.is_some_and(|bytes| bytes.starts_with(with));
    if starts(tls.ok().flatten(), ALERT) {
        return Some(true);
    }
    starts(plain.ok().flatten(), b"HTTP/").then_some(false)
}

/// The first bytes of what comes back, also when the connection is cut after them.
async fn answer(endpoint: &str, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(endpoint).await.ok()?;
    stream.write_all(request).await.ok()?;
    let mut answer = Vec::new();
    let _cut = stream.take(64).read_to_end(&mut answer).await;
    Some(answer)
}
