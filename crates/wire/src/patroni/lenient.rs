//! Reading of JSON that other programs, older versions and people wrote: numbers as text,
//! Python's idea of truth. What cannot be read is `None`, never an error.

use serde_json::Value;

/// A non-negative integer: a JSON number or decimal text.
pub fn as_u64(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().and_then(whole_u64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// An integer: a JSON number or decimal text.
pub fn as_i64(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Python's `bool(value)`: what the members of a mixed cluster make of a tag. Text is true
/// unless it is empty, also the text `false`.
pub fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

fn whole_u64(number: f64) -> Option<u64> {
    // 2^53: beyond it a float is not an exact integer any more.
    let exact = (0.0..9_007_199_254_740_992.0).contains(&number) && number.fract() == 0.0;
    exact.then_some(number as u64)
}
