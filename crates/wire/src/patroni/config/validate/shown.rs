//! Values as Patroni's lines show them (Python's `str`), without secrets.

use crate::patroni::config::secrets::{HIDDEN, is_secret, text_without_secrets, without_secrets};
use crate::patroni::config::yaml::{Data, Node};
use serde_json::Value;

/// A value after its key.
pub(super) fn shown(path: &str, node: &Node) -> String {
    if is_secret(path) {
        return HIDDEN.to_owned();
    }
    match &node.data {
        Data::Text(text) => text_without_secrets(text),
        _ => python(path, node),
    }
}

/// The whole document, for `--print`.
pub(super) fn hidden(node: &Node) -> Value {
    without_secrets("", node.to_json())
}

fn python(path: &str, node: &Node) -> String {
    match &node.data {
        Data::Null => "None".to_owned(),
        Data::Bool(true) => "True".to_owned(),
        Data::Bool(false) => "False".to_owned(),
        Data::Int(number) => number.to_string(),
        Data::Float(number) => format!("{number:?}"),
        Data::Text(_) if is_secret(path) => format!("'{HIDDEN}'"),
        Data::Text(text) => format!("'{}'", text_without_secrets(text)),
        Data::List(items) => {
            let items: Vec<String> = items.iter().map(|item| python(path, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Data::Map(entries) => {
            let pairs: Vec<String> = entries
                .iter()
                .map(|entry| {
                    let path = format!("{path}.{}", entry.key);
                    let value = match is_secret(&path) {
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
