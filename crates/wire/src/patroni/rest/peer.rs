//! Reading of another member's `GET /patroni`, of pgherd and of Patroni 3 and 4.

use super::super::dcs::tags_from_value;
use super::super::lenient::{as_u64, truthy};
use pgherd_model::{Lsn, PeerStatus, PostgresState, Role, Time, Timeline};
use serde_json::Value;

/// Reads the body of an answer. `None`: it is no JSON object, which counts as no answer.
/// `asked` is when the question was sent.
pub fn peer_status(body: &[u8], asked: Time) -> Option<PeerStatus> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let document = document.as_object()?;
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let xlog = ["xlog", "wal"]
        .into_iter()
        .find_map(|key| document.get(key)?.as_object());
    let lsn = |key: &str| Some(Lsn(as_u64(xlog?.get(key)?)?));
    Some(PeerStatus {
        asked,
        state: text("state").and_then(PostgresState::parse),
        role: text("role").and_then(Role::parse),
        reachable: xlog.is_some(),
        writable_at: lsn("location"),
        received: lsn("received_location").unwrap_or_default(),
        replayed: lsn("replayed_location").unwrap_or_default(),
        timeline: document
            .get("timeline")
            .and_then(as_u64)
            .and_then(|timeline| u32::try_from(timeline).ok())
            .map(Timeline),
        streaming: text("replication_state") == Some("streaming"),
        promoting: document.get("promoting").is_some_and(truthy),
        watchdog_failed: document.get("watchdog_failed").is_some_and(truthy),
        unlocked: document.get("cluster_unlocked").is_some_and(truthy),
        failsafe: document.get("failsafe_mode_is_active").is_some_and(truthy),
        tags: document
            .get("tags")
            .map(tags_from_value)
            .unwrap_or_default(),
    })
}
