//! `GET /journal?since=TIME`: the last lines of this node's journal, for `pgherd ctl timeline`.
//! pgherd's own; to Patroni the path is a health check.

use std::sync::Arc;

use axum::body::Bytes;
use pgherd_model::Span;
use pgherd_wire::journal::{Header, Stamp};
use pgherd_wire::patroni::rest::python_json;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::answer::{self, Answer};
use super::query::Query;
use crate::clock;
use crate::journal::read::{ANSWER_BYTES, lines};

/// How many may be read or sent at a time.
pub(super) const AT_A_TIME: usize = 2;

/// How long the file may take, and how long to wait for others who read it before.
const PATIENCE: Span = Span::from_secs(5);

/// An answer and its place among the few there may be, until the last byte is sent or the connection has
/// ended: not when the file is read, since a client may take its time.
struct Placed {
    lines: String,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        self.lines.as_bytes()
    }
}

/// The answer: a header, then the lines.
pub(super) async fn get(app: &Arc<App>, query: &Query) -> Answer {
    let since = match query.get("since").map(str::parse::<Stamp>).transpose() {
        Ok(since) => since.unwrap_or_default(),
        Err(_) => {
            let expected = "since: expected a time with a zone, such as 2026-11-21T00:21:27Z";
            return answer::text(400, expected);
        }
    };
    let Some(path) = app.hooks.journal.clone() else {
        return answer::text(404, "this node keeps no journal (pgherd.journal is off)");
    };
    let waiting = tokio::time::timeout(PATIENCE, app.journals.clone().acquire_owned()).await;
    let Ok(Ok(place)) = waiting else {
        return answer::text(503, "the journal is being read by somebody else");
    };
    let shown = path.display().to_string();
    // Beside the loop: the disk may be slow, or never answer; then nobody else waits for it.
    let read = tokio::task::spawn_blocking(move || {
        // A disk that never answers keeps the place, too.
        lines(&path, since, ANSWER_BYTES).map(|read| (read, place))
    });
    let failed = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(Ok(((lines, left_out), place)))) => {
            let header = Header {
                journal: app.last().name.to_string(),
                now: Stamp(clock::wall().0.div_euclid(1000)),
                left_out,
            };
            let header = serde_json::to_value(header).unwrap_or_default();
            let placed = Placed {
                lines: format!("{}\n{lines}", python_json(&header)),
                _place: place,
            };
            return answer::lines(200, Bytes::from_owner(placed));
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s", PATIENCE.as_secs()),
    };
    tracing::warn!("REST: the journal {shown} cannot be read: {failed}");
    answer::text(500, "the journal cannot be read, the log says why")
}
