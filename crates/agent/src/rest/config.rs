//! `/config`: the dynamic configuration (contract: patroni-rest, section 5).

use super::App;
use super::answer::{self, Answer};
use crate::snapshot::Order;
use axum::body::Bytes;
use pgherd_model::{Answer as Stored, Cluster, Op};
use pgherd_wire::patroni::config::merge_patch;
use pgherd_wire::patroni::rest::python_json;
use serde_json::{Map, Value};
use std::sync::Arc;

/// How often a write is tried again when somebody else changed the key in between.
const TRIES: usize = 3;

/// `GET /config`: while the lock service does not answer, what it said last, which is what holds here.
pub(super) async fn get(app: &App) -> Answer {
    let last = app.last();
    let config = match last.cluster.as_deref().and_then(object) {
        Some(kept) if last.dcs_unreachable => Some(kept),
        kept => match app.fresh_cluster().await {
            Ok(cluster) => object(&cluster),
            Err(answer) if kept.is_none() => return *answer,
            Err(_) => kept,
        },
    };
    match config {
        Some((config, _)) => answer::json(200, python_json(&Value::Object(config))),
        None => answer::page(502),
    }
}

/// `PATCH /config`: merged into what is there, with the revision read as the guard.
pub(super) async fn patch(app: Arc<App>, body: Bytes) -> Answer {
    let Some(patch) = requested(&body) else {
        return answer::page(400);
    };
    for _ in 0..TRIES {
        let cluster = match app.fresh_cluster().await {
            Ok(cluster) => cluster,
            Err(answer) => return *answer,
        };
        let Some((before, revision)) = object(&cluster) else {
            return answer::page(503);
        };
        let before = Value::Object(before);
        let mut after = before.clone();
        merge_patch(&mut after, &patch);
        if after == before {
            // The loop is woken all the same, as Patroni does.
            let _ = app.hooks.orders.send(Order::WakeUp).await;
            return answer::json(200, python_json(&after));
        }
        match write(&app, &after, Some(revision)).await {
            Some(Stored::Done { .. }) => return answer::json(200, python_json(&after)),
            Some(_) => {}
            None => return answer::page(503),
        }
    }
    answer::page(409)
}

/// `PUT /config`: replaces what is there.
pub(super) async fn put(app: Arc<App>, body: Bytes) -> Answer {
    let Some(config) = requested(&body) else {
        return answer::page(400);
    };
    for _ in 0..TRIES {
        let cluster = match app.fresh_cluster().await {
            Ok(cluster) => cluster,
            Err(answer) => return *answer,
        };
        let revision = cluster.config.as_ref().map(|config| config.revision);
        if let Some(Stored::Done { .. }) = write(&app, &config, revision).await {
            return answer::json(200, python_json(&config));
        }
    }
    answer::page(502)
}

/// A body that is an object with at least one key.
fn requested(body: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(body).ok()?;
    value
        .as_object()
        .is_some_and(|object| !object.is_empty())
        .then_some(value)
}

/// The configuration as an object, and its revision.
fn object(cluster: &Cluster) -> Option<(Map<String, Value>, u64)> {
    let stored = cluster.config.as_ref()?;
    match serde_json::from_str(&stored.value.text) {
        Ok(Value::Object(config)) => Some((config, stored.revision)),
        _ => None,
    }
}

/// Compact JSON, as Patroni stores it. `None`: the lock service did not answer.
async fn write(app: &App, config: &Value, expected: Option<u64>) -> Option<Stored> {
    let op = Box::new(Op::PutConfig {
        text: config.to_string(),
        expected,
    });
    let limit = app.last().settings.retry_timeout;
    let writing = app.ask(|answer| Order::Write { op, answer });
    match tokio::time::timeout(limit, writing).await.ok()?? {
        Ok(stored) => Some(stored),
        Err(cause) => {
            tracing::warn!("REST: the configuration can not be written: {cause}");
            None
        }
    }
}
