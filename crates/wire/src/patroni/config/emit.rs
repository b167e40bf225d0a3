//! YAML for people to read, which PyYAML and [`super::load`] read back as what it was made of.

use super::scalar::resolve;
use super::yaml::Data;
use serde_json::Value;
use std::fmt::Write as _;

/// Block style, two blanks a level; text is quoted only where it would be read as something else.
/// An empty mapping or list is written as `{}` or `[]`.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

/// The same, indented by `depth` levels.
pub(super) fn indented(value: &Value, depth: usize) -> String {
    let mut out = String::new();
    block(&mut out, value, depth);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                out.push_str(&pad);
                out.push_str(&text(key));
                out.push(':');
                nested(out, inner, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for inner in items {
                out.push_str(&pad);
                out.push('-');
                match inner {
                    // Its first key stands behind the dash.
                    Value::Object(map) if !map.is_empty() => {
                        let mut item = String::new();
                        block(&mut item, inner, depth + 1);
                        out.push(' ');
                        out.push_str(item.trim_start());
                    }
                    _ => nested(out, inner, depth),
                }
            }
        }
        flat => {
            // Writing to text cannot fail.
            let _ = writeln!(out, "{pad}{}", scalar(flat));
        }
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    let flat = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if flat {
        let _ = writeln!(out, " {}", scalar(value));
    } else {
        out.push('\n');
        block(out, value, depth + 1);
    }
}

/// A value on one line.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(plain) => text(plain),
        other => other.to_string(),
    }
}

/// Plain where nothing can be misread; JSON's quotes are YAML's double quotes.
fn text(plain: &str) -> String {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || " _-./,()=+%$;~".contains(c);
    let starts = plain.starts_with(|c: char| c.is_ascii_alphanumeric() || "/._".contains(c));
    // A colon starts a value only before a blank; PyYAML reads 1:30 as a number, `resolve` as well.
    let colons = plain.chars().all(|c| ordinary(c) || c == ':') && !plain.contains(": ");
    let safe = starts && colons && !plain.ends_with([' ', ':']) && !looks_like_a_date(plain);
    match (safe, resolve(plain)) {
        (true, Data::Text(_)) => plain.to_owned(),
        _ => Value::from(plain).to_string(),
    }
}

/// PyYAML makes dates of `2026-11-27` and times of what follows one.
fn looks_like_a_date(plain: &str) -> bool {
    let mut parts = plain.splitn(2, '-');
    let year = parts.next().unwrap_or_default();
    parts.next().is_some() && year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::yaml::{Place, parse};
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "on": "off", "n": 5, "f": 1.5, "yes": true, "none": null, "": "",
            "texts": ["a: b", "#x", "- y", "1:30", "12", "0x1", "2026-11-27", "~", "it's", "a #b",
                "\"q\"", "multi\nline", "tab\t", "null", " x", "x ", "*", "&a", "!t", "ü", "{a}",
                "host all all 0.0.0.0/0 scram-sha-256", "10.0.0.1:8008", "*:5432", "no", "1e5", ".5",
                "cp %p /archive/%f", "[::1]:80", "a:"],
            "empty": {}, "list": [], "deep": {"list": [{"a": 1, "b": [1, 2]}, [3]]},
        });
        let text = to_yaml(&value);
        let place = Place {
            source: "x".into(),
            line: Some(1),
        };
        let read = parse(&text, &place, &mut Vec::new()).unwrap();
        assert_eq!(read.to_json(), value, "{text}");
    }

    #[test]
    fn people_can_read_it() {
        let value = json!({"postgresql": {"listen": "10.0.0.1:5432", "pg_hba": ["local all all trust"], "initdb": [{"encoding": "UTF8", "x": [1]}, "k"],
            "parameters": {"work_mem": "4MB", "fsync": "on"}}});
        assert_eq!(
            to_yaml(&value),
            "postgresql:\n  listen: 10.0.0.1:5432\n  pg_hba:\n    - local all all trust\n  \
             initdb:\n    - encoding: UTF8\n      x:\n        - 1\n    - k\n  \
             parameters:\n    work_mem: 4MB\n    fsync: \"on\"\n"
        );
    }
}
