//! `/restart` and `/reinitialize` (contract: patroni-rest, sections 5 and 8). The loop and its brain do the
//! work; here it is judged, and waited for.

use super::answer::{self, Answer};
use super::{App, refused};
use crate::asked::{ReinitializeRequest, RestartEnd, RestartRequest};
use crate::snapshot::Order;
use axum::body::Bytes;
use pgherd_model::{PostgresState, Span};
use pgherd_wire::patroni::rest::RestartWish;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::timeout;

/// Longest stop that is waited for, beside the time for the start.
const STOP: Span = Span::from_secs(120);

/// `POST /restart`.
pub(super) async fn post(app: Arc<App>, body: Bytes) -> Answer {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let paused = app.last().settings.pause;
    let wish = match RestartWish::read(Some(&body), paused, now) {
        Ok(wish) => wish,
        Err(refusal) => return *refused(&refusal),
    };
    if wish.schedule.is_some() {
        return schedule(&app, &wish).await;
    }
    restart(&app, wish).await
}

async fn schedule(app: &App, wish: &RestartWish) -> Answer {
    let snapshot = app.looked_at().await;
    let started = snapshot.look.as_ref().map(|look| look.start_time.as_str());
    let request = RestartRequest {
        condition: wish.condition.clone(),
        timeout: wish.timeout,
        scheduled: wish.scheduled(started.unwrap_or_default()),
    };
    let asking = app.ask(|answer| Order::ScheduleRestart { request, answer });
    match asking.await {
        Some(true) => answer::text(202, "Restart scheduled"),
        Some(false) => answer::text(409, "Another restart is already scheduled"),
        None => answer::page(503),
    }
}

async fn restart(app: &App, wish: RestartWish) -> Answer {
    let no = |text: &str| answer::text(503, text);
    let snapshot = app.looked_at().await;
    let version = snapshot.look.as_ref().map(|look| look.server_version);
    let pending = !snapshot.pending_restart.is_empty();
    if !wish.condition.holds(snapshot.role, version, pending) {
        return no("restart conditions are not satisfied");
    }
    if let Some(action) = &snapshot.under_way {
        return no(&format!("{action} already in progress"));
    }
    if snapshot.state == PostgresState::Starting {
        return no("postgres is still starting");
    }
    let start = wish
        .timeout
        .unwrap_or(snapshot.settings.primary_start_timeout);
    let request = RestartRequest {
        condition: wish.condition,
        timeout: wish.timeout,
        scheduled: None,
    };
    let asking = app.ask(|answer| Order::Restart { request, answer });
    let leave = snapshot.settings.loop_wait * 2;
    match timeout(STOP + leave + start.max(STOP), asking).await {
        Ok(Some(Some(RestartEnd::Done))) => answer::text(200, "restarted successfully"),
        Ok(Some(Some(RestartEnd::Failed | RestartEnd::Dropped))) => no("restart failed"),
        Ok(Some(None)) => no("restart already in progress"),
        Ok(None) => no("restart failed"),
        Err(_) => no("postgres is still starting"),
    }
}

/// `DELETE /restart`.
pub(super) async fn delete(app: &App) -> Answer {
    match app.ask(|answer| Order::ForgetRestart { answer }).await {
        Some(true) => answer::text(200, "scheduled restart deleted"),
        Some(false) => answer::text(404, "no restarts are scheduled"),
        None => answer::page(503),
    }
}

/// `POST /reinitialize`.
pub(super) async fn reinitialize(app: Arc<App>, body: Bytes) -> Answer {
    let request = match body.as_ref() {
        b"" => Map::new(),
        body => match serde_json::from_slice(body) {
            Ok(Value::Object(request)) => request,
            _ => return answer::page(400),
        },
    };
    let no = |text: &str| answer::text(503, text);
    let wanted = |key: &str| request.get(key).is_some_and(|value| *value == true);
    let request = ReinitializeRequest {
        force: wanted("force"),
        from_leader: wanted("from_leader"),
    };
    let cluster = match app.fresh_cluster().await {
        Ok(cluster) => cluster,
        Err(answer) => return *answer,
    };
    let snapshot = app.last();
    match cluster.leader_name() {
        None => return no("Cluster has no leader, can not reinitialize"),
        Some(leader) if *leader == snapshot.name => {
            return no("I am the leader, can not reinitialize");
        }
        Some(_) => {}
    }
    if let Some(action) = snapshot.under_way.as_ref().filter(|_| !request.force) {
        return no(&format!("{action} already in progress"));
    }
    match app
        .ask(|answer| Order::Reinitialize { request, answer })
        .await
    {
        Some(()) => answer::text(200, "reinitialize started"),
        None => answer::page(503),
    }
}
