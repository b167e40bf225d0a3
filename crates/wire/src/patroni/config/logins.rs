//! Where a document of configuration holds secrets: in values of keys that end in `password`, and in
//! logins of addresses (`http://user:password@host`). What the user's own commands hold cannot be told
//! from the rest of them.

use super::PLACEHOLDER;
use serde_json::Value;

/// Keys whose values are addresses, also without a scheme.
const ADDRESSES: [&str; 4] = ["host", "hosts", "proxy", "url"];

/// Whether a secret stands in it; a placeholder is none.
pub fn holds_secrets(document: &Value) -> bool {
    let mut hidden = document.clone();
    hide("", &mut hidden);
    hidden != *document
}

/// Puts a placeholder where a secret stands, in the value of this key and all within it.
pub(super) fn hide(key: &str, value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, inner)| hide(key, inner)),
        Value::Array(items) => items.iter_mut().for_each(|item| hide(key, item)),
        Value::Null => {}
        secret if key.ends_with("password") => *secret = PLACEHOLDER.into(),
        Value::String(text) => *text = without_logins(text, ADDRESSES.contains(&key)),
        Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The text with a placeholder for each login. Rather too much of a text is lost than a password shown:
/// one may hold any character.
fn without_logins(text: &str, address: bool) -> String {
    let mut parts = text.split("://");
    let first = parts.next().unwrap_or_default();
    let mut shown = match first.rsplit_once('@') {
        Some((login, rest)) if address && login.contains(':') => format!("{PLACEHOLDER}@{rest}"),
        _ => first.to_owned(),
    };
    for part in parts {
        // In the midst of other words an address ends at a blank.
        let blank = part.find(char::is_whitespace).filter(|_| !address);
        let (place, rest) = part.split_at(blank.unwrap_or(part.len()));
        shown.push_str("://");
        match place.rsplit_once('@') {
            Some((_, host)) => shown.push_str(&format!("{PLACEHOLDER}@{host}")),
            None => shown.push_str(place),
        }
        shown.push_str(rest);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn logins_are_taken_out_of_addresses_and_nothing_else() {
        for (key, text, shown) in [
            ("url", "https://u:p@h:2379", "https://#FIXME@h:2379"),
            ("url", "https://token@h", "https://#FIXME@h"),
            (
                "url",
                "http://u:p/a@b c,d@[::1]:2379",
                "http://#FIXME@[::1]:2379",
            ),
            ("host", "u:p@h:2379", "#FIXME@h:2379"),
            (
                "hosts",
                "http://u:p@a,http://u:q@b",
                "http://#FIXME@a,http://#FIXME@b",
            ),
            ("hosts", "a:1,b:2", "a:1,b:2"),
            (
                "archive_command",
                "curl -T %p https://u:p@h/%f || mail -s x://y a@b",
                "curl -T %p https://#FIXME@h/%f || mail -s x://y a@b",
            ),
            ("log_line_prefix", "%m:%u@%d ", "%m:%u@%d "),
        ] {
            let mut value = Value::from(text);
            hide(key, &mut value);
            assert_eq!(value, shown, "{key}: {text}");
        }
    }

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        for document in [
            json!({"etcd3": {"password": "x"}}),
            json!({"etcd3": {"hosts": ["a:1", "u:p@b:1"]}}),
            json!({"etcd3": {"url": "http://u:p@h"}}),
            json!({"restapi": {"keyfile_password": 5}}),
            json!({"postgresql": {"authentication": {"rewind": {"sslpassword": "x"}}}}),
        ] {
            assert!(holds_secrets(&document), "{document}");
        }
        for document in [
            json!({"etcd3": {"hosts": ["a:1"], "password": null}}),
            json!({"postgresql": {"authentication": {"superuser": {"password": "#FIXME"}}}}),
            json!({"postgresql": {"parameters": {"password_encryption": "md5"}}}),
        ] {
            assert!(!holds_secrets(&document), "{document}");
        }
    }
}
