//! The one place where values are quoted: conninfo strings, SQL identifiers and literals,
//! postgresql.conf values, pgpass fields.

/// A value for a conninfo string: quoted only where libpq needs it.
pub fn conninfo_value(value: &str) -> String {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| !c.is_whitespace() && c != '\'' && c != '\\');
    if plain {
        return value.to_owned();
    }
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for c in value.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// A conninfo string `key=value key=value` in the given order.
pub fn conninfo<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> String {
    pairs
        .iter()
        .map(|(key, value)| format!("{}={}", key.as_ref(), conninfo_value(value.as_ref())))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads a conninfo string of the `key=value` form (not the URI form) as libpq does. Stops at the
/// first thing that is not of that form.
pub(crate) fn parse_conninfo(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if key.is_empty() || chars.next_if_eq(&'=').is_none() {
            return pairs;
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        while let Some(c) = chars.next() {
            match c {
                '\'' if quoted => break,
                '\\' => value.extend(chars.next()),
                c if c.is_whitespace() && !quoted => break,
                c => value.push(c),
            }
        }
        pairs.push((key, value));
    }
}

/// An SQL identifier: `"name"`.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An SQL string literal, whatever `standard_conforming_strings` says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A value of postgresql.conf, with its quotes.
pub(crate) fn conf_value(value: &str) -> String {
    let inner = value
        .replace('\\', "\\\\")
        .replace('\'', "''")
        .replace('\n', "\\n");
    format!("'{inner}'")
}

/// Reads a value that [`conf_value`] (or Patroni) wrote.
pub(crate) fn parse_conf_value(text: &str) -> Option<String> {
    let inner = text.trim().strip_prefix('\'')?;
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => match chars.next() {
                Some('\'') => value.push('\''),
                _ => return Some(value),
            },
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

/// A field of a pgpass file.
pub(crate) fn pgpass_field(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conninfo_round_trips() {
        let pairs = [
            ("host", "10.0.0.1"),
            ("user", "a b"),
            ("password", "it's \\ me"),
            ("dbname", ""),
        ];
        let text = conninfo(&pairs);
        assert_eq!(
            text,
            "host=10.0.0.1 user='a b' password='it\\'s \\\\ me' dbname=''"
        );
        let parsed = parse_conninfo(&text);
        assert_eq!(parsed.len(), 4);
        for ((key, value), (k, v)) in parsed.iter().zip(pairs) {
            assert_eq!((key.as_str(), value.as_str()), (k, v));
        }
        // Patroni escapes blanks with a backslash instead of quoting; blanks around `=` are allowed.
        assert_eq!(
            parse_conninfo("user = a\\ b  x=1"),
            [
                ("user".to_owned(), "a b".to_owned()),
                ("x".to_owned(), "1".to_owned())
            ]
        );
        assert_eq!(parse_conninfo("nonsense"), []);
    }

    #[test]
    fn sql_and_files() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\b'"), " E'a\\\\b'''");
        assert_eq!(conf_value("it's \\ a"), "'it''s \\\\ a'");
        for text in ["", "x", "it's \\ a", "two\nlines", "''"] {
            assert_eq!(parse_conf_value(&conf_value(text)).as_deref(), Some(text));
        }
        assert_eq!(pgpass_field("a:b\\c"), "a\\:b\\\\c");
    }
}
