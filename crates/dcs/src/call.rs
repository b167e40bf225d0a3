//! One request, several endpoints, one deadline: each try has a limit of its own, then the next
//! endpoint is asked, until the deadline of the whole operation.

use crate::Error;
use crate::endpoints::Pool;
use crate::hint::remedy;
use crate::terms::{Header, Terms};
use etcd_client::{Client, Error as EtcdError};
use pgherd_model::{Span, Time};
use std::collections::BTreeSet;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A healthy etcd answers in a few milliseconds; a try gets at least this.
const TRY_MIN: Span = Span::from_millis(300);
/// First limit of a try; doubled in each round.
const TRY_START: Span = Span::from_secs(1);
/// Between rounds in which every endpoint failed at once.
const ROUND_PAUSE: Span = Span::from_millis(100);

/// What a failure means for the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Certainly without effect.
    Unsent,
    /// It may have had its effect.
    Unknown,
    /// Token lost or auth settings changed: without effect, a new connection heals it.
    Token,
    /// The lease does not exist (any more).
    LeaseGone,
    /// The revision to watch from was compacted: read everything anew.
    Compacted,
    /// NOSPACE alarm.
    NoSpace,
    /// Permission, user or password.
    Denied,
}

/// A failed try.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) endpoint: String,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn new(endpoint: &str, kind: Kind, text: impl Into<String>) -> Fault {
        Fault {
            endpoint: endpoint.to_owned(),
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn of(endpoint: &str, error: &EtcdError) -> Fault {
        Fault::new(endpoint, kind_of(error), words_of(error))
    }

    /// As [`Fault::of`] while connecting, when nothing of the operation was sent yet.
    pub(crate) fn of_connect(endpoint: &str, error: &EtcdError) -> Fault {
        let kind = match kind_of(error) {
            Kind::Denied => Kind::Denied,
            _ => Kind::Unsent,
        };
        Fault::new(endpoint, kind, words_of(error))
    }

    /// Says where and what.
    pub(crate) fn line(&self) -> String {
        format!("{}: {}", self.endpoint, self.text)
    }
}

/// etcd's words without the library's wrapping, with the innermost cause.
fn words_of(error: &EtcdError) -> String {
    let EtcdError::GRpcStatus(status) = error else {
        return error.to_string();
    };
    let mut words = status.message().to_owned();
    if let Some(cause) = innermost(status) {
        let cause = cause.to_string();
        if !words.contains(&cause) {
            words = format!("{words} ({cause})");
        }
    }
    if words.is_empty() {
        words = status.code().to_string();
    }
    words
}

fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    let mut cause = error.source()?;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Some(cause)
}

fn never_connected(error: &EtcdError) -> bool {
    let cause = match error {
        EtcdError::GRpcStatus(status) => innermost(status),
        other => innermost(other),
    };
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| {
        matches!(
            io.kind(),
            ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::AddrNotAvailable
        )
    })
}

fn kind_of(error: &EtcdError) -> Kind {
    let message = match error {
        EtcdError::GRpcStatus(status) => status.message(),
        EtcdError::LeaseKeepAliveError(text) if text.contains("lease not found") => {
            return Kind::LeaseGone;
        }
        EtcdError::InvalidArgs(_) | EtcdError::InvalidUri(_) => return Kind::Unsent,
        _ if never_connected(error) => return Kind::Unsent,
        _ => return Kind::Unknown,
    };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["requested lease not found"]) {
        Kind::LeaseGone
    } else if says(&["database space exceeded"]) {
        Kind::NoSpace
    } else if says(&["permission denied", "authentication failed"]) {
        Kind::Denied
    } else if says(&[
        "invalid auth token",
        "user name is empty",
        "revision of auth store is old",
        "authentication is not enabled",
    ]) {
        Kind::Token
    } else if says(&[
        "no leader",
        "too many requests",
        "not capable",
        "tcp connect error",
    ]) || never_connected(error)
    {
        Kind::Unsent
    } else {
        Kind::Unknown
    }
}

/// An answer and how it came.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) value: T,
    pub(crate) header: Header,
    pub(crate) epoch: u64,
    pub(crate) endpoint: String,
    /// When the try that was answered was sent.
    pub(crate) sent: Time,
    /// When the answer came.
    pub(crate) answered: Time,
    /// An earlier try may have had its effect too.
    pub(crate) doubtful: bool,
}

/// No answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) last: Fault,
    /// A try may have had its effect.
    pub(crate) doubtful: bool,
}

fn not_sent() -> Fault {
    Fault::new(
        "-",
        Kind::Unsent,
        "the deadline had passed before it was sent",
    )
}

impl Failure {
    fn of_read(last: Fault) -> Failure {
        Failure {
            last,
            doubtful: false,
        }
    }

    /// The error for the operation `what`.
    pub(crate) fn error(self, what: String) -> Error {
        let last = self.last.line();
        match self.last.kind {
            // Whatever an earlier try put under it is gone as well.
            Kind::LeaseGone => Error::NoLease { what },
            _ if self.doubtful => Error::Ambiguous { what, last },
            Kind::NoSpace => Error::NoSpace {
                what,
                endpoint: self.last.endpoint,
            },
            Kind::Denied => Error::Denied {
                what,
                endpoint: self.last.endpoint,
                reason: self.last.text,
            },
            _ => Error::Unavailable { what, last },
        }
    }
}

/// How a request is to be tried.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// End of the whole operation.
    pub(crate) deadline: Time,
    /// Longest try; `None`: as the deadline and the number of endpoints allow.
    pub(crate) per_try: Option<Span>,
    /// Without effects: a lost answer is no doubt.
    pub(crate) read_only: bool,
}

/// Who asks: connections, terms, clock.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) pool: Pool,
    pub(crate) terms: Arc<Terms>,
}

impl Caller {
    pub(crate) fn now(&self) -> Time {
        (self.pool.endpoints().options().clock)()
    }

    /// The fault with what to change in the settings, where an endpoint tells. For those that
    /// never answered: it asks the endpoint once more.
    pub(crate) async fn explained(&self, mut fault: Fault) -> Fault {
        let options = self.pool.endpoints().options();
        if let Some(remedy) = remedy(&options, &fault.endpoint, &fault.text).await {
            fault.text = format!("{}; {remedy}", fault.text);
        }
        fault
    }

    /// One try at one endpoint.
    pub(crate) async fn once<T, F, Fut>(
        &self,
        endpoint: &str,
        limit: Span,
        request: &F,
    ) -> Result<Reply<T>, Fault>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<(T, Header), EtcdError>>,
    {
        let sent = self.now();
        let client = match timeout(limit, self.pool.client(endpoint)).await {
            Ok(client) => client?,
            Err(_) => {
                let text = format!("no connection within {} ms", limit.as_millis());
                return Err(Fault::new(endpoint, Kind::Unsent, text));
            }
        };
        let left = limit
            .saturating_sub(self.now().since(sent))
            .max(Span::from_millis(1));
        let (value, header) = match timeout(left, request(client)).await {
            Ok(answer) => answer.map_err(|error| Fault::of(endpoint, &error))?,
            Err(_) => {
                let text = format!("no answer within {} ms", limit.as_millis());
                return Err(Fault::new(endpoint, Kind::Unknown, text));
            }
        };
        let answered = self.now();
        let epoch = self
            .terms
            .check(header, answered)
            .map_err(|text| Fault::new(endpoint, Kind::Unknown, text))?;
        Ok(Reply {
            value,
            header,
            epoch,
            endpoint: endpoint.to_owned(),
            sent,
            answered,
            doubtful: false,
        })
    }

    /// Asks one endpoint after the other, round and round, the next one whenever `stagger` has passed
    /// without an answer or a try failed, while the earlier tries go on; the first answer counts.
    /// For requests that do no harm when they arrive twice. An endpoint is asked again although its
    /// first try still waits: etcd lets a request that came during an election wait for an election
    /// timeout more, while one that comes after it is answered at once.
    pub(crate) async fn race<T, F, Fut>(
        &self,
        limits: Limits,
        stagger: Span,
        request: F,
    ) -> Result<Reply<T>, Failure>
    where
        T: Send + 'static,
        F: Fn(Client) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<(T, Header), EtcdError>> + Send,
    {
        let mut last = not_sent();
        let mut tries = JoinSet::new();
        let mut unanswered: BTreeSet<String> = BTreeSet::new();
        let order = self.pool.order();
        let mut turns = order.iter().cycle();
        let mut next_try = self.now();
        // Endpoints that refused, one after the other: a whole round of them is worth a pause.
        let mut refusals = 0;
        loop {
            let now = self.now();
            let left = limits.deadline.since(now);
            if left.is_zero() {
                self.demote_all(&unanswered);
                return Err(Failure::of_read(last));
            }
            if next_try <= now
                && let Some(endpoint) = turns.next().cloned()
            {
                next_try = now + stagger;
                let limit = left.min(limits.per_try.unwrap_or(TRY_START));
                unanswered.insert(endpoint.clone());
                let (caller, request) = (self.clone(), request.clone());
                tries.spawn(async move { caller.once(&endpoint, limit, &request).await });
            }
            let pause = next_try.since(self.now()).min(left);
            if tries.is_empty() {
                sleep(pause).await;
                continue;
            }
            let Ok(Some(Ok(outcome))) = timeout(pause, tries.join_next()).await else {
                continue;
            };
            let fault = match outcome {
                Ok(reply) => {
                    unanswered.remove(&reply.endpoint);
                    self.demote_all(&unanswered);
                    return Ok(reply);
                }
                Err(fault) => fault,
            };
            match fault.kind {
                Kind::LeaseGone => return Err(Failure::of_read(fault)),
                Kind::Token => self.pool.disconnect(&fault.endpoint),
                _ => self.pool.demote(&fault.endpoint),
            }
            last = fault;
            refusals += 1;
            let rest = if refusals % order.len() == 0 {
                ROUND_PAUSE
            } else {
                Span::ZERO
            };
            next_try = next_try.min(self.now() + rest);
        }
    }

    fn demote_all(&self, endpoints: &BTreeSet<String>) {
        for endpoint in endpoints {
            self.pool.demote(endpoint);
        }
    }

    /// Asks one endpoint after the other until one answers or the deadline comes. What etcd
    /// itself says for good (lease gone, no space) ends it at once.
    pub(crate) async fn ask<T, F, Fut>(
        &self,
        limits: Limits,
        request: F,
    ) -> Result<Reply<T>, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<(T, Header), EtcdError>>,
    {
        let mut doubtful = false;
        let mut last = not_sent();
        let mut round = 0u32;
        loop {
            let order = self.pool.order();
            for (at, endpoint) in order.iter().enumerate() {
                let mut renewed_token = false;
                loop {
                    let Some(limit) = self.limit(limits, order.len() - at, round) else {
                        return Err(Failure { last, doubtful });
                    };
                    let fault = match self.once(endpoint, limit, &request).await {
                        Ok(reply) => return Ok(Reply { doubtful, ..reply }),
                        Err(fault) => fault,
                    };
                    let kind = fault.kind;
                    tracing::debug!(endpoint, ?kind, "try failed: {}", fault.text);
                    doubtful |= kind == Kind::Unknown && !limits.read_only;
                    // One that the deadline cut short says less than the one before.
                    if limit >= TRY_MIN || last.endpoint == "-" || kind != Kind::Unknown {
                        last = fault;
                    }
                    match kind {
                        Kind::LeaseGone | Kind::NoSpace => {
                            return Err(Failure { last, doubtful });
                        }
                        Kind::Token if !renewed_token => {
                            renewed_token = true;
                            self.pool.disconnect(endpoint);
                        }
                        _ => {
                            self.pool.demote(endpoint);
                            break;
                        }
                    }
                }
            }
            if last.kind == Kind::Denied {
                return Err(Failure { last, doubtful });
            }
            round += 1;
            let left = limits.deadline.since(self.now());
            sleep(ROUND_PAUSE.min(left)).await;
        }
    }

    fn limit(&self, limits: Limits, endpoints_left: usize, round: u32) -> Option<Span> {
        let left = limits.deadline.since(self.now());
        if left.is_zero() {
            return None;
        }
        let share = left / u32::try_from(endpoints_left).unwrap_or(1).max(1);
        let longest = limits.per_try.unwrap_or(TRY_START * 2u32.pow(round.min(5)));
        Some(share.max(TRY_MIN.min(longest)).min(longest).min(left))
    }
}
