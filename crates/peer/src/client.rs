//! Requests to other agents. One connection pool for all of them; each request has one deadline
//! for everything: connecting, TLS, sending, waiting and reading.

use pgherd_model::{Lsn, PeerStatus, Span, Time};
use pgherd_wire::patroni::config::{Ctl, Login, Secret};
use pgherd_wire::patroni::rest::peer_status;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

/// How much of an answer is read at most: a status document has a few kB.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Time that [`Peers::liveness`] waits (contract: patroni-dcs, section 4, start-up).
const LIVENESS_TIMEOUT: Span = Span::from_secs(3);

/// What a client of other agents needs to know; the values of `ctl.*`, else of `restapi.*`.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// `ctl.authentication`, else `restapi.authentication`.
    pub login: Option<Login>,
    /// `ctl.certfile`: client certificate (PEM, with chain; the key too if `key` is missing).
    pub cert: Option<PathBuf>,
    /// `ctl.keyfile`.
    pub key: Option<PathBuf>,
    /// `ctl.keyfile_password`.
    pub key_password: Option<Secret>,
    /// `ctl.cacert`, else `restapi.cafile`. `None`: the system's.
    pub cacert: Option<PathBuf>,
    /// Agents: always true; commands: `ctl.insecure` or `-k`. With a client certificate the
    /// server's name is not checked, without one its certificate is not checked at all.
    pub insecure: bool,
    /// How long a connection may take; one that takes longer is [`PeerError::Connect`], so that silence
    /// of a host is told apart from a request that may have had its effect. `None`: as long as the request.
    pub connect_timeout: Option<Span>,
    /// The boot-time clock.
    pub clock: fn() -> Time,
}

impl PeerOptions {
    /// As the configuration says. Agents pass `insecure: true` (their own rule, not a setting),
    /// commands `ctl.insecure` or `-k`.
    pub fn new(ctl: &Ctl, insecure: bool, clock: fn() -> Time) -> PeerOptions {
        PeerOptions {
            login: ctl.authentication.clone(),
            cert: ctl.certfile.clone(),
            key: ctl.keyfile.clone(),
            key_password: ctl.keyfile_password.clone(),
            cacert: ctl.cacert.clone(),
            insecure,
            connect_timeout: None,
            clock,
        }
    }

    /// With a limit for connections.
    #[must_use]
    pub fn connect_within(self, limit: Span) -> PeerOptions {
        PeerOptions {
            connect_timeout: Some(limit),
            ..self
        }
    }
}

/// Why a peer could not be asked. Texts name the address, never credentials.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The options can not be used.
    #[error("{0}")]
    Options(String),
    /// The address is not a URL.
    #[error(
        "the member's api_url {0:?} is not a http or https URL: correct restapi.connect_address of that node"
    )]
    BadUrl(String),
    /// The whole request took longer than its deadline.
    #[error("{url} did not answer within {} ms", limit.as_millis())]
    Timeout {
        /// Address without credentials.
        url: String,
        /// The deadline that was set.
        limit: Span,
    },
    /// No connection.
    #[error("can not connect to {url}: {cause}")]
    Connect {
        /// Address without credentials.
        url: String,
        /// From the system or TLS.
        cause: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{url} broke off: {cause}")]
    Broken {
        /// Address without credentials.
        url: String,
        /// From HTTP.
        cause: String,
    },
    /// An answer that is of no use.
    #[error("{url} answered {status}, {cause}")]
    Answer {
        /// Address without credentials.
        url: String,
        /// HTTP status.
        status: u16,
        /// What is wrong with it.
        cause: String,
    },
}

impl PeerError {
    /// Nobody listens there: the connection was refused, the host is unreachable, or says nothing for as
    /// long as a connection may take. Nothing was sent.
    pub fn is_connect(&self) -> bool {
        matches!(self, PeerError::Connect { .. })
    }
}

/// Status, text and the `lsn` header of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Body; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Header `lsn` (only `POST /failsafe`).
    pub lsn: Option<Lsn>,
}

/// What a member said to `POST /failsafe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailsafeAnswer {
    /// 200.
    Accepted(Accepted),
    /// Any other status, with the text.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its text, shortened.
        text: String,
    },
}

/// An accepted `POST /failsafe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// When the question was SENT: the extension counts from here.
    pub sent: Time,
    /// Position of that member, if it said so.
    pub lsn: Option<Lsn>,
}

/// Client of the other agents. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    clock: fn() -> Time,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

impl Peers {
    /// A client. Reads the certificate files; no connection is made yet.
    ///
    /// # Errors
    /// [`PeerError::Options`] names the file that can not be used and the remedy.
    pub fn new(options: &PeerOptions) -> Result<Peers, PeerError> {
        let mut http = reqwest::Client::builder()
            .tls_backend_preconfigured(crate::tls::config(options)?)
            .http1_only()
            .tcp_nodelay(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("pgherd/", env!("CARGO_PKG_VERSION")));
        if let Some(limit) = options.connect_timeout {
            http = http.connect_timeout(limit);
        }
        let http = http.build().map_err(|error| {
            PeerError::Options(format!("can not set up the HTTP client: {}", chain(&error)))
        })?;
        let authorization = options.login.as_ref().map(authorization).transpose()?;
        Ok(Peers {
            http,
            authorization,
            clock: options.clock,
        })
    }

    /// `GET /patroni` of the member with this `api_url`.
    ///
    /// # Errors
    /// No answer within `timeout`, or one that is not a status document.
    pub async fn status(&self, api_url: &str, timeout: Span) -> Result<PeerStatus, PeerError> {
        let url = endpoint(api_url, "patroni")?;
        let asked = (self.clock)();
        let answer = self.send(Method::GET, &url, None, timeout).await?;
        peer_status(answer.text.as_bytes(), asked).ok_or_else(|| PeerError::Answer {
            url,
            status: answer.status,
            cause:
                "which is not a status document: is restapi.connect_address of that member right?"
                    .to_owned(),
        })
    }

    /// Whether anything speaks HTTP at `<api_url>/liveness`: any answer at all within 3 s.
    pub async fn liveness(&self, api_url: &str) -> bool {
        let Ok(url) = endpoint(api_url, "liveness") else {
            return false;
        };
        self.send(Method::GET, &url, None, LIVENESS_TIMEOUT)
            .await
            .is_ok()
    }

    /// `POST /failsafe` with this JSON body.
    ///
    /// # Errors
    /// No answer within `timeout`.
    pub async fn post_failsafe(
        &self,
        api_url: &str,
        body: &str,
        timeout: Span,
    ) -> Result<FailsafeAnswer, PeerError> {
        let url = endpoint(api_url, "failsafe")?;
        let sent = (self.clock)();
        let answer = self.send(Method::POST, &url, Some(body), timeout).await?;
        Ok(if answer.status == 200 {
            FailsafeAnswer::Accepted(Accepted {
                sent,
                lsn: answer.lsn,
            })
        } else {
            let text = answer.text.chars().take(200).collect();
            FailsafeAnswer::Refused {
                status: answer.status,
                text,
            }
        })
    }

    /// Any request, with the basic authentication header if one is configured. `url` is complete;
    /// see [`endpoint`].
    ///
    /// # Errors
    /// No answer within `timeout`; every HTTP status is an answer.
    pub async fn request(
        &self,
        method: &str,
        url: &str,
        body: Option<&str>,
        timeout: Span,
    ) -> Result<Response, PeerError> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| PeerError::Options(format!("{method:?} is not an HTTP method")))?;
        self.send(method, url, body, timeout).await
    }

    /// Sends; a GET whose kept-alive connection turns out to be dead is sent once more at once,
    /// on a new one. Other methods are not: the first may have had its effect.
    async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<&str>,
        limit: Span,
    ) -> Result<Response, PeerError> {
        let begun = Instant::now();
        let first = self
            .send_once(method.clone(), url, body, limit, limit)
            .await;
        match first {
            Err(PeerError::Broken { .. }) if method == Method::GET => {
                let rest = limit.saturating_sub(begun.elapsed());
                self.send_once(method, url, body, rest, limit).await
            }
            other => other,
        }
    }

    async fn send_once(
        &self,
        method: Method,
        url: &str,
        body: Option<&str>,
        rest: Span,
        limit: Span,
    ) -> Result<Response, PeerError> {
        let timeout = || PeerError::Timeout {
            url: url.to_owned(),
            limit,
        };
        let work = self.exchange(method, url, body);
        tokio::time::timeout(rest, work)
            .await
            .map_err(|_| timeout())?
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Option<&str>,
    ) -> Result<Response, PeerError> {
        let mut request = self.http.request(method, url);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, "application/json")
                .body(body.to_owned());
        }
        let mut answer = request.send().await.map_err(|error| failure(url, &error))?;
        let status = answer.status().as_u16();
        let lsn = answer
            .headers()
            .get("lsn")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Lsn);
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| failure(url, &error))? {
            if bytes.len() + part.len() > BODY_LIMIT {
                let cause = format!("with more than {BODY_LIMIT} bytes");
                return Err(PeerError::Answer {
                    url: url.to_owned(),
                    status,
                    cause,
                });
            }
            bytes.extend_from_slice(&part);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Response { status, text, lsn })
    }
}

/// The URL of another endpoint of the agent that published this `api_url`: as Patroni does, the
/// path is exchanged, query and credentials are dropped.
///
/// # Errors
/// [`PeerError::BadUrl`].
pub fn endpoint(api_url: &str, path: &str) -> Result<String, PeerError> {
    let bad = || PeerError::BadUrl(api_url.to_owned());
    let mut url = reqwest::Url::parse(api_url).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(bad());
    }
    url.set_path(path);
    url.set_query(None);
    url.set_fragment(None);
    // Both are refused only for URLs without a host, which was checked.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(url.into())
}

fn failure(url: &str, error: &reqwest::Error) -> PeerError {
    let url = url.to_owned();
    if error.is_builder() {
        return PeerError::BadUrl(url);
    }
    let cause = chain(error);
    if error.is_connect() {
        PeerError::Connect { url, cause }
    } else {
        PeerError::Broken { url, cause }
    }
}

/// The innermost causes of an error in one line; reqwest's own text repeats the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if texts.last().is_none_or(|last| !last.ends_with(&text)) {
            texts.push(text);
        }
        next = cause.source();
    }
    match texts.pop() {
        Some(last) => last,
        None => error.to_string(),
    }
}

fn authorization(login: &Login) -> Result<HeaderValue, PeerError> {
    use base64::Engine as _;
    let pair = format!("{}:{}", login.username, login.password.expose());
    let coded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {coded}")).map_err(|_| {
        PeerError::Options("restapi.authentication can not be used in a header".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}
