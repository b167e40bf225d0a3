//! A REST client as small as the tests need.

use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Value of `WWW-Authenticate`, if any.
    pub authenticate: Option<String>,
    /// Body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("status {}, not JSON ({e}): {:?}", self.status, self.body))
    }
}

fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<()> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // A client belongs to the runtime that made it, and every test has its own: no sharing.
    Box::leak(Box::new(
        reqwest::Client::builder()
            .no_proxy()
            // Whether a certificate is right is the business of those who made it.
            .tls_danger_accept_invalid_certs(true)
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client"),
    ))
}

/// One request on a connection of its own; 60 s at most.
///
/// # Errors
/// A text when no answer came.
pub async fn request(
    method: &str,
    url: &str,
    auth: Option<&(String, String)>,
    body: Option<&str>,
) -> Result<Answer, String> {
    let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?;
    let mut request = client()
        .request(method, url)
        .timeout(Duration::from_secs(60));
    if let Some((user, password)) = auth {
        request = request.basic_auth(user, Some(password));
    }
    if let Some(body) = body {
        request = request.body(body.to_owned());
    }
    let answer = request.send().await.map_err(|e| format!("{url}: {e:?}"))?;
    let header = answer.headers().get("www-authenticate");
    let authenticate = header.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let body = answer.text().await.map_err(|e| format!("{url}: {e:?}"))?;
    Ok(Answer {
        status,
        authenticate,
        body,
    })
}

/// The raw bytes of an answer to raw bytes, for what HTTP libraries smooth over.
///
/// # Errors
/// Those of the socket; 5 s without a byte is one.
pub fn raw(address: (&str, u16), request: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
