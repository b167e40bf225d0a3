//! `KEY=VALUE` on the command line: where in the dynamic configuration, and what.

use crate::error::CtlError;
use pgherd_wire::patroni::config::read_document;
use serde_json::{Map, Value};

/// One change: path and value; null removes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Setting {
    path: Vec<String>,
    value: Value,
}

const PARAMETERS: [&str; 2] = ["postgresql", "parameters"];

impl Setting {
    /// Of `-s`: parts of the path are separated by dots.
    pub(crate) fn parse(text: &str) -> Result<Setting, CtlError> {
        let (key, value) = split(text)?;
        let parts: Vec<&str> = key.split('.').collect();
        let path = match parts.strip_prefix(&PARAMETERS) {
            // Parameters of extensions have a dot in their name.
            Some(name) if !name.is_empty() => parameter(&name.join(".")),
            _ => parts.iter().map(|part| (*part).to_owned()).collect(),
        };
        Setting::new(text, path, value)
    }

    /// Of `-p`: a parameter of PostgreSQL.
    pub(crate) fn parse_parameter(text: &str) -> Result<Setting, CtlError> {
        let (key, value) = split(text)?;
        Setting::new(text, parameter(key), value)
    }

    fn new(text: &str, path: Vec<String>, value: &str) -> Result<Setting, CtlError> {
        if path.iter().any(String::is_empty) {
            return Err(invalid(text));
        }
        let source = format!("value of {}", path.join("."));
        let value = read_document(value, &source).map_err(|error| {
            CtlError::told(format!(
                "{error} (it is read as YAML: quote text that holds special characters)"
            ))
        })?;
        Ok(Setting { path, value })
    }

    /// Makes the change. Sections that come to be empty by it go too.
    pub(crate) fn apply(self, document: &mut Map<String, Value>) {
        set(document, &self.path, self.value);
    }
}

fn split(text: &str) -> Result<(&str, &str), CtlError> {
    let (key, value) = text.split_once('=').ok_or_else(|| invalid(text))?;
    Ok((key.trim(), value))
}

fn invalid(text: &str) -> CtlError {
    CtlError::told(format!("Invalid parameter setting {text}"))
}

fn parameter(name: &str) -> Vec<String> {
    let parts = PARAMETERS.iter().copied().chain([name]);
    parts.map(str::to_owned).collect()
}

fn set(document: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        match value {
            Value::Null => document.shift_remove(key),
            value => document.insert(key.clone(), value),
        };
        return;
    }
    let inner = document.entry(key.clone()).or_insert(Value::Null);
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
        if inner.is_empty() {
            document.shift_remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(settings: &[&str]) -> Value {
        let mut document = json!({"ttl": 20, "a": 5, "postgresql": {"parameters": {"x": 1}}});
        for text in settings {
            let setting = Setting::parse(text).unwrap();
            setting.apply(document.as_object_mut().unwrap());
        }
        document
    }

    #[test]
    fn settings_create_replace_and_remove() {
        assert_eq!(
            changed(&["ttl=30", "a.c=[1, x]", "b.d.e='on'", "f.g=null", "ttl2= "]),
            json!({"ttl": 30, "a": {"c": [1, "x"]}, "b": {"d": {"e": "on"}},
                "postgresql": {"parameters": {"x": 1}}})
        );
        assert_eq!(
            changed(&["postgresql.parameters.x=", "a=null"]),
            json!({"ttl": 20})
        );
        assert_eq!(
            changed(&["postgresql.parameters.auto_explain.log=1"])["postgresql"]["parameters"],
            json!({"x": 1, "auto_explain.log": 1})
        );
    }

    #[test]
    fn what_is_no_setting_is_told() {
        for text in ["foo", "=5", "a.=3", "a..b=1"] {
            let error = Setting::parse(text).unwrap_err();
            assert_eq!(
                error,
                CtlError::told(format!("Invalid parameter setting {text}"))
            );
        }
        let error = Setting::parse_parameter("a=[1").unwrap_err();
        assert!(
            matches!(&error, CtlError::Told(text) if text.starts_with("value of postgresql.parameters.a:1")),
            "{error:?}"
        );
    }
}
