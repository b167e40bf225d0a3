//! Patroni's REST API (contract: patroni-rest).
//!
//! One handler for everything, because Patroni's routing is no routing table: verb and first
//! segment of the path select an endpoint, and what is left over is a health check.

mod access;
mod answer;
mod bodies;
mod ciphers;
mod config;
mod document;
mod failover;
mod failsafe;
mod health;
mod journal;
mod listen;
mod quarters;
mod query;
mod restart;
mod tls;

#[cfg(test)]
mod tests;

pub use listen::{Bound, RestError, Server, bind};

/// Whether certificates and keys of this section can be used.
pub(crate) fn check_tls(api: &pgherd_wire::patroni::config::RestApi) -> Result<(), RestError> {
    tls::config(api).map(drop)
}

use crate::snapshot::{Hooks, Order, Snapshot};
use access::{Door, Members};
use answer::Answer;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, SERVER};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use bodies::{Bodies, Kind};
use health::Health;
use pgherd_model::{Cluster, Look, PostgresState, Span, Time};
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{RestApi, ServerTokens};
use pgherd_wire::patroni::rest::{Action, Refusal, python_json};
use query::Query;
use serde_json::{Map, Value, json};
use std::future::ready;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// How long PostgreSQL may take to say its position, before it is shown as silent.
const LOOK_TIMEOUT: Span = Span::from_secs(1);

/// Between two questions to a PostgreSQL that runs and gave no answer.
const ASK_AGAIN: Span = Span::from_millis(100);

/// What all requests share.
pub(crate) struct App {
    hooks: Hooks,
    clock: fn() -> Time,
    /// Tells this program from one that took its place in the same process.
    started: Time,
    front: RwLock<Arc<Front>>,
    bodies: Bodies,
    /// Of journals that are read or sent: an answer may take 2 MB.
    journals: Arc<Semaphore>,
    /// Body of the last health check.
    shown: document::Shown,
}

/// What the settings say, until they are read again.
pub(crate) struct Front {
    peers: Peers,
    door: Door,
    server: HeaderValue,
    extra_headers: Vec<(HeaderName, HeaderValue)>,
}

impl Front {
    /// Prepares what the settings say; `version`: the one that Patroni's clients see.
    pub(crate) async fn new(
        api: &RestApi,
        version: &str,
        peers: Peers,
    ) -> Result<Front, RestError> {
        let door = Door::new(api).await?;
        let mut extra_headers = Vec::new();
        let secure = api
            .https_extra_headers
            .iter()
            .filter(|_| api.certfile.is_some());
        for (name, value) in api.http_extra_headers.iter().chain(secure) {
            let header = HeaderName::try_from(name)
                .ok()
                .zip(HeaderValue::try_from(value).ok());
            extra_headers.push(header.ok_or_else(|| {
                RestError::Settings(format!(
                    "restapi.http_extra_headers: {name:?} can not be sent as a header"
                ))
            })?);
        }
        let server = match api.server_tokens {
            ServerTokens::Original => concat!("pgherd/", env!("CARGO_PKG_VERSION")).to_owned(),
            ServerTokens::Minimal => format!("Patroni/{version}"),
            ServerTokens::ProductOnly => "Patroni".to_owned(),
        };
        let server = HeaderValue::try_from(server).map_err(|_| {
            RestError::Settings("the version can not be sent as a header".to_owned())
        })?;
        Ok(Front {
            peers,
            door,
            server,
            extra_headers,
        })
    }
}

impl App {
    /// Answers with what the hooks tell, behind this front.
    pub(crate) fn new(front: Front, clock: fn() -> Time, hooks: Hooks) -> Arc<App> {
        Arc::new(App {
            hooks,
            started: clock(),
            clock,
            front: RwLock::new(Arc::new(front)),
            bodies: Bodies::default(),
            journals: Arc::new(Semaphore::new(journal::AT_A_TIME)),
            shown: document::Shown::default(),
        })
    }

    fn front(&self) -> Arc<Front> {
        let front = self.front.read();
        front.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that begin from now on meet this front.
    fn change(&self, front: Front) {
        let mut kept = self.front.write().unwrap_or_else(PoisonError::into_inner);
        *kept = Arc::new(front);
    }

    fn last(&self) -> Arc<Snapshot> {
        self.hooks.asked((self.clock)())
    }

    /// Until the loop has shown something new, but not longer than this; `None`: not at all.
    fn looked(&self, limit: Option<Span>) -> impl Future<Output = ()> + Send + 'static {
        let mut snapshot = self.hooks.snapshot.clone();
        async move {
            if let Some(limit) = limit {
                tokio::time::timeout(limit, snapshot.changed()).await.ok();
            }
        }
    }

    /// Sends an order that is answered; `None`: the loop is gone or does not want to.
    async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.hooks.orders.send(order(sender)).await.ok()?;
        receiver.await.ok()
    }

    /// The cluster as the lock service has it now; `Err`: the answer to give instead.
    async fn fresh_cluster(&self) -> Result<Cluster, Box<Answer>> {
        let limit = self.last().settings.retry_timeout;
        let asking = self.ask(|answer| Order::FreshCluster { answer });
        match tokio::time::timeout(limit, asking).await {
            Ok(Some(Ok(cluster))) => Ok(cluster),
            Ok(Some(Err(cause))) => {
                tracing::warn!("REST: the cluster can not be read from the lock service: {cause}");
                Err(Box::new(answer::page(502)))
            }
            Ok(None) | Err(_) => Err(Box::new(answer::page(502))),
        }
    }

    /// What PostgreSQL says now; `None`: it does not answer. One that runs is asked again, since a
    /// connection can break; of one that does not run nothing else is to be heard, and other nodes
    /// wait for this in their race.
    async fn look(&self) -> Option<Look> {
        let deadline = Instant::now() + LOOK_TIMEOUT;
        loop {
            let look = timeout_at(deadline, self.hooks.looks.now()).await.ok()??;
            let again = Instant::now() + ASK_AGAIN;
            let runs = self.last().state == PostgresState::Running;
            if look.is_some() || !runs || again >= deadline {
                return look;
            }
            tokio::time::sleep_until(again).await;
        }
    }

    /// The last snapshot with what PostgreSQL says at this moment.
    async fn looked_at(&self) -> Snapshot {
        let look = self.look().await;
        let last = Snapshot::clone(&self.last());
        let pending_restart = match &look {
            Some(look) => look.pending_restart.clone(),
            None => last.pending_restart,
        };
        Snapshot {
            look,
            looked: (self.clock)(),
            failsafe_active: self.hooks.failsafe.is_active((self.clock)()),
            pending_restart,
            ..last
        }
    }
}

/// The routes, for the listener and for tests.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new().fallback(handle).with_state(app)
}

/// Every request goes through here.
async fn handle(State(app): State<Arc<App>>, request: Request) -> Answer {
    if matches!(*request.method(), Method::HEAD | Method::OPTIONS) {
        // Whatever the path: a health check, of which only the status line is wanted.
        let query = Query::of(request.uri());
        return answer::status_only(healthy(&app, request.uri().path(), &query));
    }
    if let Some(healthy) = bare(&app, request.method(), request.uri()).await {
        return answer::status_only(healthy);
    }
    let mut answer = dispatch(&app, request).await;
    let headers = answer.headers_mut();
    let front = app.front();
    headers.insert(SERVER, front.server.clone());
    for (name, value) in &front.extra_headers {
        headers.insert(name, value.clone());
    }
    answer
}

/// What selects a handler, beside the verb.
fn endpoint(path: &str) -> &str {
    path.trim_start_matches('/').split('/').next().unwrap_or("")
}

/// The two checks that are answered with a status line, whatever headers are configured.
async fn bare(app: &App, method: &Method, uri: &Uri) -> Option<bool> {
    if *method != Method::GET {
        return None;
    }
    let now = || (app.clock)();
    match endpoint(uri.path()) {
        "liveness" => Some(Health::at(&app.last(), now()).liveness()),
        // The leader is ready whatever its PostgreSQL says.
        "readiness" if Health::at(&app.last(), now()).leader() => Some(true),
        "readiness" => {
            let query = Query::of(uri);
            Some(Health::at(&app.looked_at().await, now()).readiness(&query))
        }
        _ => None,
    }
}

async fn dispatch(app: &Arc<App>, request: Request) -> Answer {
    let path = request.uri().path().to_owned();
    let endpoint = endpoint(&path);
    let method = request.method().clone();
    let query = Query::of(request.uri());
    match (method.as_str(), endpoint) {
        ("GET", "patroni") => patroni(app).await,
        ("GET", "cluster") => cluster(app).await,
        ("GET", "history") => history(app),
        ("GET", "config") => config::get(app).await,
        ("GET", "failsafe") => failsafe::get(app),
        ("GET", "metrics") => metrics(app).await,
        // Only these three are pgherd's own: all around them is a health check, as in Patroni.
        ("GET", "pgherd") if path.trim_matches('/') == "pgherd/explain" => explain(app),
        ("GET", "pgherd") if path.trim_matches('/') == "pgherd/configuration" => {
            own_configuration(app, request).await
        }
        ("GET", "journal") if path.trim_matches('/') == "journal" => {
            own_journal(app, request, &query).await
        }
        ("GET", _) => health_check(app, &path, &query),
        ("PATCH", "config") => guarded(app, request, Kind::Config, config::patch).await,
        ("PUT", "config") => guarded(app, request, Kind::Config, config::put).await,
        ("POST", "switchover") => {
            guarded(app, request, Kind::Wish, |app, body| {
                failover::post(app, Action::Switchover, body)
            })
            .await
        }
        ("POST", "failover") => {
            guarded(app, request, Kind::Wish, |app, body| {
                failover::post(app, Action::Failover, body)
            })
            .await
        }
        ("POST", "reload") => match admit(app, &request.into_parts().0).await {
            Ok(()) => reload(app).await,
            Err(answer) => *answer,
        },
        ("DELETE", "switchover") => match admit(app, &request.into_parts().0).await {
            Ok(()) => failover::delete(app).await,
            Err(answer) => *answer,
        },
        ("POST", "restart") => optional(app, request, restart::post).await,
        ("DELETE", "restart") => match admit(app, &request.into_parts().0).await {
            Ok(()) => restart::delete(app).await,
            Err(answer) => *answer,
        },
        ("POST", "failsafe") => failsafe::post(app, request).await,
        ("POST", "citus") => guarded(app, request, Kind::Wish, |_, body| ready(event(&body))).await,
        ("POST", "mpp") => mpp(app, request).await,
        ("POST", "reinitialize") => optional(app, request, restart::reinitialize).await,
        // As Patroni where no signal has to be faked: it is taken, and nothing happens.
        ("POST", "pgherd") if path.trim_matches('/') == "pgherd/upgrade" => {
            match admit(app, &request.into_parts().0).await {
                Ok(()) => upgrade(app).await,
                Err(answer) => *answer,
            }
        }
        ("POST", "sigterm") => match admit(app, &request.into_parts().0).await {
            Ok(()) => answer::text(202, "shutdown scheduled"),
            Err(answer) => *answer,
        },
        (method, _) => answer::unsupported(method),
    }
}

/// It tells more than a health check does: whoever may change something may read it.
async fn own_journal(app: &Arc<App>, request: Request, query: &Query) -> Answer {
    match admit(app, &request.into_parts().0).await {
        Ok(()) => journal::get(app, query).await,
        Err(answer) => *answer,
    }
}

/// As [`own_journal`]: it names files, addresses and users.
async fn own_configuration(app: &Arc<App>, request: Request) -> Answer {
    match admit(app, &request.into_parts().0).await {
        Ok(()) => {
            let told = serde_json::to_value(app.hooks.configured.told());
            answer::json(200, python_json(&told.unwrap_or_default()))
        }
        Err(answer) => *answer,
    }
}

async fn admit(app: &App, parts: &Parts) -> Result<(), Box<Answer>> {
    admit_by(app, parts, Members::Count).await
}

async fn admit_by(app: &App, parts: &Parts, members: Members) -> Result<(), Box<Answer>> {
    let snapshot = app.last();
    let cluster = snapshot.cluster.as_deref();
    let front = app.front();
    front
        .door
        .check(&parts.headers, &parts.extensions, cluster, members)
        .await
}

/// Checks access, reads the body, and lets the handler do its work.
async fn guarded<F, R>(app: &Arc<App>, request: Request, kind: Kind, handler: F) -> Answer
where
    F: FnOnce(Arc<App>, Bytes) -> R,
    R: Future<Output = Answer>,
{
    let (parts, body) = request.into_parts();
    if let Err(answer) = admit(app, &parts).await {
        return *answer;
    }
    match app.bodies.read(&parts.headers, body, kind).await {
        Ok(body) => handler(app.clone(), body).await,
        Err(answer) => *answer,
    }
}

/// As [`guarded`], for a handler that needs no body.
async fn optional<F, R>(app: &Arc<App>, request: Request, handler: F) -> Answer
where
    F: FnOnce(Arc<App>, Bytes) -> R,
    R: Future<Output = Answer>,
{
    match request.headers().contains_key(CONTENT_LENGTH) {
        true => guarded(app, request, Kind::Wish, handler).await,
        false => match admit(app, &request.into_parts().0).await {
            Ok(()) => handler(app.clone(), Bytes::new()).await,
            Err(answer) => *answer,
        },
    }
}

fn healthy(app: &App, path: &str, query: &Query) -> bool {
    Health::at(&app.last(), (app.clock)()).check(path, query)
}

fn health_check(app: &App, path: &str, query: &Query) -> Answer {
    let snapshot = app.last();
    let health = Health::at(&snapshot, (app.clock)());
    let status = if health.check(path, query) { 200 } else { 503 };
    answer::json(status, app.shown.status(&snapshot, &health))
}

fn refused(refusal: &Refusal) -> Box<Answer> {
    Box::new(match refusal.text.as_str() {
        "" => answer::page(refusal.status),
        text => answer::text(refusal.status, text),
    })
}

async fn metrics(app: &App) -> Answer {
    let snapshot = app.looked_at().await;
    let health = Health::at(&snapshot, (app.clock)());
    answer::plain(document::metrics(&snapshot, &health))
}

/// Always 200; positions are of this moment.
async fn patroni(app: &App) -> Answer {
    let snapshot = app.looked_at().await;
    let health = Health::at(&snapshot, (app.clock)());
    answer::json(200, document::status(&snapshot, &health))
}

async fn cluster(app: &App) -> Answer {
    match app.fresh_cluster().await {
        Ok(cluster) => answer::json(200, document::cluster(&app.last(), &cluster)),
        Err(answer) => *answer,
    }
}

fn history(app: &App) -> Answer {
    let snapshot = app.last();
    let history = snapshot
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.history.as_ref());
    let lines = history
        .map(|history| history.value.as_slice())
        .unwrap_or_default();
    answer::json(
        200,
        python_json(&pgherd_wire::patroni::dcs::history_value(lines)),
    )
}

/// `POST /reload`: the configuration is read again, soon; what comes of it is in the log.
async fn reload(app: &App) -> Answer {
    match app.hooks.orders.send(Order::Reload).await {
        Ok(()) => answer::text(202, "reload scheduled"),
        Err(_) => answer::page(503),
    }
}

/// `POST /mpp`: Patroni checks no access here.
async fn mpp(app: &App, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    match app.bodies.read(&parts.headers, body, Kind::Stranger).await {
        Ok(body) => event(&body),
        Err(answer) => *answer,
    }
}

/// `POST /citus`, `POST /mpp`: where no coordinator runs, an event is taken, and nothing happens.
fn event(body: &[u8]) -> Answer {
    match serde_json::from_slice(body) {
        Ok(Value::Object(event)) if !event.is_empty() => answer::text(200, "OK"),
        _ => answer::page(400),
    }
}

/// `POST /pgherd/upgrade`: the program that has replaced this one's file takes over, soon.
async fn upgrade(app: &App) -> Answer {
    match app.ask(|answer| Order::Upgrade { answer }).await {
        Some(Ok(version)) => answer::text(202, format!("{version} takes over")),
        Some(Err(reason)) => answer::text(503, reason),
        None => answer::page(503),
    }
}

/// Tells this process from every other, on this machine or another.
pub(crate) fn this_process() -> &'static str {
    static ID: LazyLock<String> = LazyLock::new(|| {
        // Seeded by the system anew in each process.
        let number = || RandomState::new().build_hasher().finish();
        format!("{:016x}{:016x}", number(), number())
    });
    &ID
}

/// `GET /pgherd/explain`: what the last decision was, and which rules were asked; which parameters the installed
/// PostgreSQL does not take.
fn explain(app: &App) -> Answer {
    let snapshot = app.last();
    let now = (app.clock)();
    let mut object = Map::new();
    object.insert("member".into(), snapshot.name.as_str().into());
    object.insert("scope".into(), snapshot.scope.as_str().into());
    let running = json!({"id": this_process(), "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"),
        "started_ms": app.started.as_millis()});
    object.insert("agent".into(), running);
    let age = now.since(snapshot.held_at()).as_millis();
    object.insert(
        "age_ms".into(),
        u64::try_from(age).unwrap_or(u64::MAX).into(),
    );
    if let Value::Object(last) = &snapshot.explain {
        object.extend(last.clone());
    }
    if let Some(instance) = &app.hooks.instance {
        object.insert("refused".into(), document::refused(&instance.refused()));
    }
    answer::json(200, python_json(&Value::Object(object)))
}
