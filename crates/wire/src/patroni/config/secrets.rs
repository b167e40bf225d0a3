//! What is shown of a configuration: no password of it, under whatever key and in whatever text it stands. Rather too
//! much is hidden than too little. What a command gets as a bare argument (`-p word`) cannot be told from others.

use serde_json::Value;

/// What stands for a secret.
pub const HIDDEN: &str = "********";

/// A value as it may be shown; `path`: its keys, parted by dots. Sections are looked through.
pub fn without_secrets(path: &str, value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| {
                let value = without_secrets(&format!("{path}.{key}"), value);
                (key, value)
            })
            .collect(),
        Value::Array(items) => items
            .into_iter()
            .map(|item| without_secrets(path, item))
            .collect(),
        Value::Null => Value::Null,
        _ if is_secret(path) => Value::String(HIDDEN.to_owned()),
        // `%m:%u@%d` is no address.
        Value::String(text) if path.ends_with(".log_line_prefix") => Value::String(text),
        Value::String(text) => Value::String(text_without_secrets(&text)),
        other => other,
    }
}

/// Whether something in it is not to be shown.
pub fn holds_secrets(document: &Value) -> bool {
    without_secrets("", document.clone()) != *document
}

/// Passwords, connection strings, and whatever stands where a section with passwords is expected.
pub(super) fn is_secret(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    let key = key.to_ascii_lowercase();
    ["password", "passwd", "secret", "token"]
        .iter()
        .any(|end| key.ends_with(end))
        || key.contains("passphrase")
        || key.contains("conninfo")
        || matches!(
            key.as_str(),
            "authentication" | "superuser" | "replication" | "rewind"
        )
}

/// A text without `user:password@` of an address or URL, and without what follows `password=` and the like in a
/// connection string, a line of pg_hba.conf or a command.
pub fn text_without_secrets(text: &str) -> String {
    without_assigned(&without_logins(text))
}

fn without_logins(text: &str) -> String {
    let mut words = text.split_inclusive(char::is_whitespace);
    match (words.next(), words.next()) {
        // Alone it is an address, with or without a scheme.
        (Some(word), None) => without_login(word, true),
        _ => text
            .split_inclusive(char::is_whitespace)
            .map(|word| without_login(word, false))
            .collect(),
    }
}

/// `user:password@host` is a form of addresses; among other words only one with a scheme is taken for it.
fn without_login(word: &str, alone: bool) -> String {
    let Some((login, rest)) = word.rsplit_once('@') else {
        return word.to_owned();
    };
    match login.split_once("://") {
        Some((scheme, login)) if login.contains(':') => format!("{scheme}://{HIDDEN}@{rest}"),
        None if alone && login.contains(':') => format!("{HIDDEN}@{rest}"),
        _ => word.to_owned(),
    }
}

/// Words in the name of what is assigned.
const ASSIGNED: [&str; 6] = ["password", "passwd", "passphrase", "pwd", "secret", "token"];

fn without_assigned(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        out.push_str(before);
        out.push('=');
        rest = behind;
        let name_end = before.trim_end();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let around = name_end.trim_end_matches(is_of_name);
        let name = name_end[around.len()..].to_ascii_lowercase();
        if ASSIGNED.iter().any(|word| name.contains(word)) {
            let value = behind.trim_start();
            // A quote before the name ends behind the value.
            let open = around.chars().next_back().filter(|c| is_quote(*c));
            let length = length_of_value(value, open);
            if length > 0 {
                out.push_str(&behind[..behind.len() - value.len()]);
                out.push_str(HIDDEN);
            }
            rest = &value[length..];
        }
    }
    out.push_str(rest);
    out
}

fn is_quote(letter: char) -> bool {
    matches!(letter, '\'' | '"')
}

/// Up to the next white space that stands in no quotes; up to the closing quote where one is open. A quote that is
/// not closed goes on to the end.
fn length_of_value(value: &str, open: Option<char>) -> usize {
    let mut inside = open;
    let mut letters = value.char_indices();
    while let Some((at, letter)) = letters.next() {
        match inside {
            _ if letter == '\\' => {
                letters.next();
            }
            Some(quote) if letter == quote && open.is_some() => return at,
            Some(quote) if letter == quote => inside = None,
            Some(_) => {}
            None if is_quote(letter) => inside = Some(letter),
            None if letter.is_whitespace() => return at,
            None => {}
        }
    }
    value.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_lose_their_passwords_and_nothing_else() {
        let hidden = [
            ("https://me:s3cret@etcd:2379", "https://********@etcd:2379"),
            ("me:s3cret@etcd:2379", "********@etcd:2379"),
            (
                "https://me:s3/cr@et@etcd:2379",
                "https://********@etcd:2379",
            ),
            (
                "curl https://me:s3cret@h/%f -o %p",
                "curl https://********@h/%f -o %p",
            ),
            (
                "host=h password=s3cret user=me",
                "host=h password=******** user=me",
            ),
            (
                "password = 's3\\' cret' user=me",
                "password = ******** user=me",
            ),
            ("password='s3''cret' user=me", "password=******** user=me"),
            ("host=h password='s3cret", "host=h password=********"),
            (
                "host all all 0/0 ldap ldapbinddn=\"cn=x\" ldapbindpasswd=\"s3 cret\" ldapport=1",
                "host all all 0/0 ldap ldapbinddn=\"cn=x\" ldapbindpasswd=******** ldapport=1",
            ),
            (
                "host all all 0/0 ldap \"ldapbindpasswd=s3 cret\" ldapport=1",
                "host all all 0/0 ldap \"ldapbindpasswd=********\" ldapport=1",
            ),
            (
                "host all all 0/0 radius radiussecrets=s3cret,s3cret",
                "host all all 0/0 radius radiussecrets=********",
            ),
            (
                "AWS_SECRET_ACCESS_KEY=s3cret wal-g wal-push %p",
                "AWS_SECRET_ACCESS_KEY=******** wal-g wal-push %p",
            ),
            (
                "postgresql://h/db?password=s3cret",
                "postgresql://h/db?password=********",
            ),
            ("--sslpassword=s3cret", "--sslpassword=********"),
        ];
        for (text, shown) in hidden {
            assert_eq!(text_without_secrets(text), shown, "{text}");
            assert_eq!(text_without_secrets(shown), shown, "again: {shown}");
        }
        for plain in [
            "",
            "127.0.0.1:5432",
            "https://etcd:2379",
            "https://me@etcd",
            "test -f %p && cp %p me@h:/wal/%f",
            "scp %p b:/wal/x@y",
            "host=h passfile=/x user=me",
            "password=",
            "cn=x, ou=y",
            "=",
        ] {
            assert_eq!(text_without_secrets(plain), plain);
        }
    }

    #[test]
    fn sections_are_looked_through() {
        let value = json!({
            "superuser": {"username": "u", "password": "s3cret"},
            "rewind": "s3cret",
            "recovery_conf": {"primary_conninfo": "s3cret", "restore_command": "cp"},
            "pg_hba": ["host all all 0/0 ldap ldapbindpasswd=s3cret"],
            "ssl_passphrase_command": "echo s3cret",
            "password_encryption": "md5",
            "log_line_prefix": "%t:%r:%u@%d:[%p]:",
            "port": 1,
            "keyfile_password": null,
        });
        let shown = json!({
            "superuser": {"username": "u", "password": HIDDEN},
            "rewind": HIDDEN,
            "recovery_conf": {"primary_conninfo": HIDDEN, "restore_command": "cp"},
            "pg_hba": ["host all all 0/0 ldap ldapbindpasswd=********"],
            "ssl_passphrase_command": HIDDEN,
            "password_encryption": "md5",
            "log_line_prefix": "%t:%r:%u@%d:[%p]:",
            "port": 1,
            "keyfile_password": null,
        });
        assert_eq!(without_secrets("postgresql", value), shown);
        let number = without_secrets("restapi.authentication.password", json!(5));
        assert_eq!(number, json!(HIDDEN));
        assert!(holds_secrets(
            &json!({"etcd3": {"hosts": ["a:1", "u:p@b:1"]}})
        ));
        assert!(!holds_secrets(
            &json!({"etcd3": {"hosts": ["a:1"], "password": null}})
        ));
    }
}
