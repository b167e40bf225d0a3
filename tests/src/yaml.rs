//! Node files as data: JSON values merged deeply and written as block YAML.

use serde_json::Value;
use std::fmt::Write as _;

/// Merges `patch` into `base`: objects recursively, `null` removes, everything else replaces.
pub fn merge(base: &mut Value, patch: &Value) {
    let (Value::Object(map), Value::Object(changes)) = (&mut *base, patch) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in changes {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Block YAML; strings are always in double quotes, so nothing is read as another type.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

fn block(out: &mut String, value: &Value, depth: usize) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                let _ = write!(out, "{pad}{}:", plain_or_quoted(key));
                nested(out, inner, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for inner in items {
                let _ = write!(out, "{pad}-");
                nested(out, inner, depth + 1);
            }
        }
        scalar => {
            let _ = writeln!(out, "{pad}{scalar}");
        }
    }
}

fn nested(out: &mut String, value: &Value, depth: usize) {
    let empty = match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    };
    if empty {
        let _ = writeln!(out, " {value}");
    } else {
        out.push('\n');
        block(out, value, depth);
    }
}

fn plain_or_quoted(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !matches!(
            key,
            "on" | "off" | "yes" | "no" | "true" | "false" | "null" | "y" | "n"
        );
    if plain {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_recurses_and_null_removes() {
        let mut base = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(&mut base, &json!({"a": {"b": null, "e": 3}, "d": [2]}));
        assert_eq!(base, json!({"a": {"c": 2, "e": 3}, "d": [2]}));
    }

    #[test]
    fn yaml_is_block_style_with_quoted_strings() {
        let text = to_yaml(&json!({"a": {"on": "off", "n": 5}, "l": [{"x": 1}, "y"], "e": {}}));
        assert_eq!(
            text,
            "a:\n  \"on\": \"off\"\n  \"n\": 5\nl:\n  -\n    x: 1\n  - \"y\"\ne: {}\n"
        );
    }
}
