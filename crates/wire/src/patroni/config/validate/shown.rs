//! Values as Patroni's lines show them (Python's `str`), without secrets.

use crate::patroni::config::yaml::{Data, Node};
use serde_json::Value;

/// What stands for a secret.
const HIDDEN: &str = "********";

/// A value after its key.
pub(super) fn shown(path: &str, node: &Node) -> String {
    if secret(path) {
        return HIDDEN.to_owned();
    }
    match &node.data {
        Data::Text(text) => without_login(text),
        _ => python(path, node),
    }
}

/// The whole document, for `--print`.
pub(super) fn hidden(node: &Node) -> Value {
    hide("", node.to_json())
}

fn hide(path: &str, value: Value) -> Value {
    let inner = |key: &str| format!("{path}.{key}");
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let value = hide(&inner(&key), value);
                (key, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(|item| hide(path, item)).collect(),
        Value::String(text) if !secret(path) => Value::String(without_login(&text)),
        Value::Null => Value::Null,
        _ if secret(path) => Value::String(HIDDEN.to_owned()),
        other => other,
    }
}

/// Passwords, and whatever stands where a section with passwords is expected.
fn secret(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    key.ends_with("password")
        || matches!(
            key,
            "authentication" | "superuser" | "replication" | "rewind" | "token"
        )
}

/// `user:password@host` is a form of addresses.
pub(super) fn without_login(text: &str) -> String {
    let Some((login, rest)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    if !login.contains(':') || text.contains(char::is_whitespace) {
        return text.to_owned();
    }
    match login.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://{HIDDEN}@{rest}"),
        None => format!("{HIDDEN}@{rest}"),
    }
}

fn python(path: &str, node: &Node) -> String {
    match &node.data {
        Data::Null => "None".to_owned(),
        Data::Bool(true) => "True".to_owned(),
        Data::Bool(false) => "False".to_owned(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => format!("{number:?}"),
        Data::Text(_) if secret(path) => format!("'{HIDDEN}'"),
        Data::Text(text) => format!("'{}'", without_login(text)),
        Data::List(items) => {
            let items: Vec<String> = items.iter().map(|item| python(path, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Data::Map(entries) => {
            let pairs: Vec<String> = entries
                .iter()
                .map(|entry| {
                    let path = format!("{path}.{}", entry.key);
                    let value = match secret(&path) {
                        true => format!("'{HIDDEN}'"),
                        false => python(&path, &entry.node),
                    };
                    format!("'{}': {value}", entry.key)
                })
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}
