//! Answers in the form that Patroni's clients expect: texts, JSON documents, bare status lines
//! and the error pages of Python's HTTP server (contract: patroni-rest, section 1).

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;

/// What a handler answers.
pub(crate) type Answer = Response<Body>;

/// A plain sentence, sent as `text/html` like Patroni does.
pub(crate) fn text(status: u16, text: impl Into<String>) -> Answer {
    build(status, "text/html", text.into())
}

/// Text that is no page: metrics.
pub(crate) fn plain(text: String) -> Answer {
    build(200, "text/plain", text)
}

/// A JSON document.
pub(crate) fn json(status: u16, document: impl Into<Body>) -> Answer {
    build(status, "application/json", document)
}

/// JSON documents, one a line.
pub(crate) fn lines(status: u16, lines: impl Into<Body>) -> Answer {
    build(status, "application/x-ndjson", lines)
}

/// Only a status line: all that a health checker reads.
pub(crate) fn status_only(healthy: bool) -> Answer {
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    status.into_response()
}

/// 401 with the sentence that says which half is wrong.
pub(crate) fn unauthorized(sentence: &'static str) -> Answer {
    let mut answer = text(401, sentence);
    answer.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"Patroni\""),
    );
    answer
}

/// The page for a status that has no sentence of its own.
pub(crate) fn page(status: u16) -> Answer {
    let message = StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or("???");
    page_with(status, message)
}

/// 501: patronictl looks for the explanation's words.
pub(crate) fn unsupported(method: &str) -> Answer {
    page_with(501, &format!("Unsupported method ('{}')", escape(method)))
}

fn page_with(status: u16, message: &str) -> Answer {
    let explanation = match status {
        400 => "Bad request syntax or unsupported method",
        408 => "Request timed out; try again later",
        409 => "Request conflict",
        411 => "Client must specify Content-Length",
        413 => "Entity is too large",
        501 => "Server does not support this operation",
        502 => "Invalid responses from another server/proxy",
        503 => "The server cannot process the request due to a high load",
        _ => "???",
    };
    let body = format!(
        r#"<!DOCTYPE HTML>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: {status}</p>
        <p>Message: {message}.</p>
        <p>Error code explanation: {status} - {explanation}.</p>
    </body>
</html>
"#
    );
    closing(build(status, "text/html;charset=utf-8", body))
}

/// The connection ends with this answer: what the client goes on sending is not read.
pub(crate) fn closing(mut answer: Answer) -> Answer {
    answer
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn build(status: u16, content_type: &'static str, body: impl Into<Body>) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
