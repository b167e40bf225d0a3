//! `/restart` and `/reinitialize` (contract: patroni-rest, sections 5 and 8). The loop and its brain do the
//! work; here it is judged, and waited for.

use super::answer::{self, Answer};
use super::{App, document, refused};
use crate::asked::{ReinitializeRequest, RestartEnd, RestartRequest};
use crate::snapshot::Order;
use axum::body::Bytes;
use pgherd_model::{PostgresState, Settings, Span};
use pgherd_wire::patroni::config;
use pgherd_wire::patroni::rest::RestartWish;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::timeout;

/// Longest stop that is waited for, beside the time for the start.
const STOP: Span = Span::from_secs(120);

/// Time for a start where nobody gives it any.
const START: Span = Span::from_secs(60);

/// `POST /restart`.
pub(super) async fn post(app: Arc<App>, body: Bytes) -> Answer {
    // A pause that somebody has just ordered counts, as with a switchover; only for this is it asked.
    let paused = match RestartWish::names_a_time(&body) {
        false => false,
        true => match app.fresh_cluster().await {
            Ok(cluster) => document::mode(&cluster).paused,
            Err(answer) => return *answer,
        },
    };
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
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
    match timeout(snapshot.settings.retry_timeout, asking).await {
        Ok(Some(true)) => answer::text(202, "Restart scheduled"),
        Ok(Some(false)) => answer::text(409, "Another restart is already scheduled"),
        Ok(None) | Err(_) => answer::page(503),
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
    let limit = longest(&snapshot.settings, wish.timeout);
    let request = RestartRequest {
        condition: wish.condition,
        timeout: wish.timeout,
        scheduled: None,
    };
    let asking = app.ask(|answer| Order::Restart { request, answer });
    let answered = timeout(limit, asking).await;
    let under_way = app.last().under_way.clone();
    let end = match answered {
        Ok(Some(Some(end))) => end,
        Ok(Some(None)) => return no("restart already in progress"),
        Ok(None) => RestartEnd::Failed,
        Err(_) => out_of_time(under_way.as_deref()),
    };
    told(end, under_way.as_deref())
}

/// How long a restart may take in all: the end of a race for the lock, leave from synchronous duty, the
/// stop, the start.
fn longest(settings: &Settings, asked: Option<Span>) -> Span {
    let start = asked.unwrap_or(settings.primary_start_timeout);
    let start = if start.is_zero() { START } else { start };
    STOP + settings.loop_wait * 4 + start
}

/// Nobody has told of an end in time. What has not begun by now never does: it is forgotten together with
/// this request.
fn out_of_time(under_way: Option<&str>) -> RestartEnd {
    match under_way {
        Some("restart") => RestartEnd::StillStarting,
        _ => RestartEnd::Failed,
    }
}

fn told(end: RestartEnd, under_way: Option<&str>) -> Answer {
    match (end, under_way) {
        (RestartEnd::Done, _) => answer::text(200, "restarted successfully"),
        (RestartEnd::StillStarting, _) => answer::text(503, "postgres is still starting"),
        (RestartEnd::Dropped, Some(action)) => {
            answer::text(503, format!("{action} already in progress"))
        }
        (RestartEnd::Failed, _) | (RestartEnd::Dropped, None) => {
            answer::text(503, "restart failed")
        }
    }
}

/// `DELETE /restart`.
pub(super) async fn delete(app: &App) -> Answer {
    let asking = app.ask(|answer| Order::ForgetRestart { answer });
    match timeout(app.last().settings.retry_timeout, asking).await {
        Ok(Some(true)) => answer::text(200, "scheduled restart deleted"),
        Ok(Some(false)) => answer::text(404, "no restarts are scheduled"),
        Ok(None) | Err(_) => answer::page(503),
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
    let wanted = |key: &str| request.get(key).and_then(config::boolean) == Some(true);
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
    let asking = app.ask(|answer| Order::Reinitialize { request, answer });
    match timeout(snapshot.settings.retry_timeout, asking).await {
        Ok(Some(Ok(()))) => answer::text(200, "reinitialize started"),
        Ok(Some(Err(reason))) => no(&reason),
        // The loop is gone, or stuck: it forgets what nobody waits for any more.
        Ok(None) | Err(_) => answer::page(503),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_that_never_began_has_failed() {
        assert_eq!(out_of_time(None), RestartEnd::Failed);
        assert_eq!(out_of_time(Some("reinitialize")), RestartEnd::Failed);
        assert_eq!(out_of_time(Some("restart")), RestartEnd::StillStarting);
    }

    #[tokio::test]
    async fn what_took_the_place_of_a_restart_is_named() {
        for (under_way, text) in [
            (Some("reinitialize"), "reinitialize already in progress"),
            (None, "restart failed"),
        ] {
            let (parts, body) = told(RestartEnd::Dropped, under_way).into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            assert_eq!(
                (parts.status.as_u16(), body.as_ref()),
                (503, text.as_bytes())
            );
        }
    }

    #[test]
    fn whoever_asks_waits_no_longer_than_it_may_take() {
        let settings = Settings::default();
        let limit = |asked| longest(&settings, asked);
        let base = STOP + settings.loop_wait * 4;
        assert_eq!(limit(None), base + settings.primary_start_timeout);
        assert_eq!(limit(Some(Span::from_secs(5))), base + Span::from_secs(5));
        let at_once = Settings {
            primary_start_timeout: Span::ZERO,
            ..settings.clone()
        };
        assert_eq!(longest(&at_once, None), base + START);
    }
}
