//! `GET /journal?since=TIME`: the last lines of this node's journal, for `pgherd ctl timeline`.
//! pgherd's own; to Patroni the path is a health check.

use std::sync::Arc;

use pgherd_model::Span;
use pgherd_wire::journal::{Header, Stamp};
use pgherd_wire::patroni::rest::python_json;

use super::App;
use super::answer::{self, Answer};
use super::query::Query;
use crate::clock;
use crate::journal::read::{ANSWER_BYTES, lines};

/// How long the file may take, and how long to wait for a reader before.
const PATIENCE: Span = Span::from_secs(5);

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
    let reading = tokio::time::timeout(PATIENCE, app.reading.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = reading else {
        return answer::text(503, "the journal is being read by somebody else");
    };
    let shown = path.display().to_string();
    // Beside the loop: the disk may be slow, or never answer; then nobody else waits for it.
    let read = tokio::task::spawn_blocking(move || {
        let read = lines(&path, since, ANSWER_BYTES);
        drop(permit);
        read
    });
    let failed = match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(Ok((lines, left_out)))) => {
            let header = Header {
                journal: app.last().name.to_string(),
                now: Stamp(clock::wall().0.div_euclid(1000)),
                left_out,
            };
            let header = serde_json::to_value(header).unwrap_or_default();
            return answer::lines(200, format!("{}\n{lines}", python_json(&header)));
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("it took longer than {} s", PATIENCE.as_secs()),
    };
    tracing::warn!("REST: the journal {shown} cannot be read: {failed}");
    answer::text(500, "the journal cannot be read, the log says why")
}
