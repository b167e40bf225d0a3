//! `history`: past failovers and switchovers.

use crate::args::HistoryArgs;
use crate::error::CtlError;
use crate::output::say;
use crate::rows::show;
use crate::session::Session;
use pgherd_wire::patroni::dcs::history_value;
use serde_json::Value;

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &HistoryArgs) -> Result<(), CtlError> {
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    let history = seen.cluster.history.as_ref();
    let document = history.map(|stored| history_value(&stored.value));
    let lines = document.as_ref().and_then(Value::as_array);
    let row = |line: &Value| {
        let field = |at: usize| line.get(at).cloned().unwrap_or_else(|| "".into());
        (0..5).map(field).collect::<Vec<Value>>()
    };
    let rows: Vec<Vec<Value>> = lines.into_iter().flatten().map(row).collect();
    let headings = [
        ("TL", true),
        ("LSN", true),
        ("Reason", false),
        ("Timestamp", false),
        ("New Leader", false),
    ];
    say(&show(&headings, &rows, args.format, "\t"))
}
