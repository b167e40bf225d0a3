//! `/failsafe`: whom the key names, and what a leader that cannot reach the lock service is answered (contract:
//! patroni-rest, section 5).

use std::sync::Arc;

use axum::extract::Request;
use axum::http::HeaderValue;
use pgherd_ha::failsafe::Refusal;
use pgherd_wire::patroni::rest::python_json;
use serde_json::Value;

use super::access::Members;
use super::answer::{self, Answer};
use super::bodies::Kind;
use super::{App, admit_by};
use crate::failsafe::{Answered, Question};
use crate::snapshot::Order;

/// Who keeps the leader in office when the lock service is away.
pub(super) fn get(app: &App) -> Answer {
    let snapshot = app.last();
    match snapshot
        .cluster
        .as_ref()
        .and_then(|cluster| cluster.failsafe.as_ref())
    {
        Some(members) => {
            let members = members
                .value
                .iter()
                .map(|(name, url)| (name.clone(), Value::from(url.as_str())));
            answer::json(200, python_json(&Value::Object(members.collect())))
        }
        None => answer::page(502),
    }
}

/// `POST /failsafe`.
pub(super) async fn post(app: &Arc<App>, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    if let Err(answer) = admit_by(app, &parts, Members::Ignored).await {
        return *answer;
    }
    let snapshot = app.last();
    if !snapshot.settings.failsafe_mode {
        return answer::page(502);
    }
    let body = match app.bodies.read(&parts.headers, body, Kind::Wish).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let Some(question) = Question::read(&body) else {
        return answer::page(400);
    };
    match app.hooks.failsafe.answer(&app.hooks, question).await {
        Answered::Accepted { news } => {
            if news {
                app.hooks.orders.send(Order::WakeUp).await.ok();
            }
            let mut answer = answer::text(200, "Accepted");
            if let Some(look) = &snapshot.look {
                let lsn = HeaderValue::from(look.wal.position().0);
                answer.headers_mut().insert("lsn", lsn);
            }
            answer
        }
        Answered::Refused(Refusal::Off) => answer::page(502),
        Answered::Refused(Refusal::Leads) => answer::text(500, "Running as a leader"),
        Answered::Refused(Refusal::Led(holder)) => {
            answer::text(500, format!("{holder} holds the leader lock"))
        }
        Answered::Refused(Refusal::Unnamed) => answer::text(500, "Not named in /failsafe"),
        Answered::NotKept => answer::text(500, "The promise can not be kept on disk"),
    }
}
