//! `explain`: why a member does or does not act: its last decision and the ladder of rules.

use crate::args::{ExplainArgs, ExplainFormat};
use crate::error::CtlError;
use crate::session::Session;
use pgherd_model::{Member, Span};
use pgherd_peer::{PeerError, Peers, endpoint};
use pgherd_wire::patroni::rest::python_json;
use serde_json::{Value, json};
use std::io::Write;

/// How long a member may take.
const TIMEOUT: Span = Span::from_secs(5);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &ExplainArgs) -> Result<(), CtlError> {
    let scope = session.scope(args.cluster.as_deref())?;
    let seen = session.see(&scope).await?;
    let members: Vec<&Member> = match &args.member {
        None => seen
            .cluster
            .members
            .values()
            .map(|stored| &stored.value)
            .collect(),
        Some(name) => match seen.cluster.member(&name.as_str().into()) {
            Some(member) => vec![member],
            None => {
                let known: Vec<&str> = seen
                    .cluster
                    .members
                    .keys()
                    .map(|name| name.as_str())
                    .collect();
                let known = match known.as_slice() {
                    [] => "it has none".to_owned(),
                    known => format!("members: {}", known.join(", ")),
                };
                return Err(CtlError::told(format!(
                    "{name} is not a member of cluster {scope} ({known})"
                )));
            }
        },
    };
    if members.is_empty() {
        return Err(CtlError::told(format!("cluster {scope} has no members")));
    }
    let peers = session.peers()?;
    let mut out = String::new();
    let mut documents = Vec::new();
    let mut failed = false;
    for member in members {
        match ask(&peers, member).await {
            Ok(document) => {
                out.push_str(&show(&document));
                documents.push(document);
            }
            Err(cause) => {
                failed = true;
                out.push_str(&format!("{}: {cause}\n", member.name));
                documents.push(json!({"member": member.name.as_str(), "error": cause}));
            }
        }
    }
    if args.format == ExplainFormat::Json {
        out = python_json(&Value::Array(documents)) + "\n";
    }
    std::io::stdout().lock().write_all(out.as_bytes())?;
    if failed {
        Err(CtlError::Refused)
    } else {
        Ok(())
    }
}

/// The document of a member's last decision; else why there is none.
pub(crate) async fn ask(peers: &Peers, member: &Member) -> Result<Value, String> {
    let text = |cause: PeerError| cause.to_string();
    let url = endpoint(&member.api_url, "pgherd/explain").map_err(text)?;
    let answer = peers
        .request("GET", &url, None, TIMEOUT)
        .await
        .map_err(text)?;
    let document: Value = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    if answer.status == 200 && document.get("ladder").is_some() {
        return Ok(document);
    }
    // Patroni takes the path for a health check and answers with its status document.
    Err(match document["patroni"]["version"].as_str() {
        Some(version) => format!("runs Patroni {version}, not pgherd"),
        None => format!("answered {} without an explanation", answer.status),
    })
}

/// One member: the decision in a line, then the rules in the order in which they were asked.
fn show(document: &Value) -> String {
    let text = |value: &Value, key: &str| match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let age = document.get("age_ms").and_then(Value::as_u64).unwrap_or(0);
    let mut out = format!(
        "{} ({}.{:01} s ago): {}\n",
        text(document, "member"),
        age / 1000,
        age % 1000 / 100,
        text(document, "decision")
    );
    let ladder = document["ladder"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let width = ladder
        .iter()
        .map(|step| text(step, "rule").len())
        .max()
        .unwrap_or(0);
    for step in ladder {
        let fired = step.get("fired").and_then(Value::as_bool).unwrap_or(false);
        let mark = if fired { "=>" } else { "  " };
        let line = format!(
            "  {mark} {:width$}  {}",
            text(step, "rule"),
            text(step, "reason")
        );
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_shows_which_rule_fired() {
        let document = json!({
            "member": "n1", "age_ms": 1234, "decision": "AcquireLock, because lock_free: healthiest of 2",
            "ladder": [
                {"rule": "paused", "fired": false, "reason": "not paused"},
                {"rule": "lock_free", "fired": true, "reason": "healthiest of 2"},
                {"rule": "follow", "fired": false},
            ],
        });
        assert_eq!(
            show(&document),
            "n1 (1.2 s ago): AcquireLock, because lock_free: healthiest of 2\n\
             \x20    paused     not paused\n\
             \x20 => lock_free  healthiest of 2\n\
             \x20    follow\n"
        );
    }
}
