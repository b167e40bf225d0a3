//! Values of PostgreSQL as patronictl (so Python's driver) shows them. Types that are not named here stay
//! as PostgreSQL writes them.

use serde_json::{Number, Value};
use tokio_postgres::types::Type;

/// A value that came as text; `None` is null.
pub(crate) fn of_postgres(text: Option<&str>, kind: Option<&Type>) -> Value {
    let Some(text) = text else {
        return Value::Null;
    };
    let kept = || Value::from(text);
    match kind {
        Some(&Type::BOOL) => Value::Bool(text == "t"),
        Some(&(Type::INT2 | Type::INT4 | Type::INT8 | Type::OID)) => {
            text.parse::<i64>().map_or_else(|_| kept(), Value::from)
        }
        Some(&(Type::FLOAT4 | Type::FLOAT8)) => float(text),
        Some(&Type::TIMESTAMPTZ) => match text.rfind(['+', '-']) {
            // The date has signs too.
            Some(at) if at > 10 => {
                let zone = &text[at..];
                let minutes = if zone.len() == 3 { ":00" } else { "" };
                format!("{}{zone}{minutes}", micros(&text[..at])).into()
            }
            _ => kept(),
        },
        Some(&(Type::TIMESTAMP | Type::TIME)) => micros(text).into(),
        _ => kept(),
    }
}

fn float(text: &str) -> Value {
    match text {
        "Infinity" => "inf".into(),
        "-Infinity" => "-inf".into(),
        "NaN" => "nan".into(),
        text => {
            let number = text.parse::<f64>().ok().and_then(Number::from_f64);
            number.map_or_else(|| text.into(), Value::Number)
        }
    }
}

/// Either no part of a second or six digits of it.
fn micros(text: &str) -> String {
    match text.rsplit_once('.') {
        Some((whole, part)) => format!("{whole}.{part:0<6}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_pythons() {
        for (text, kind, shown) in [
            ("t", Type::BOOL, json!(true)),
            ("7", Type::INT8, json!(7)),
            ("3", Type::FLOAT8, json!(3.0)),
            ("-Infinity", Type::FLOAT4, json!("-inf")),
            ("1.10", Type::NUMERIC, json!("1.10")),
            (
                "2020-01-01 10:00:00+00",
                Type::TIMESTAMPTZ,
                json!("2020-01-01 10:00:00+00:00"),
            ),
            (
                "2020-01-01 10:00:00.5-03:30",
                Type::TIMESTAMPTZ,
                json!("2020-01-01 10:00:00.500000-03:30"),
            ),
            ("10:00:00", Type::TIME, json!("10:00:00")),
            ("a", Type::TEXT, json!("a")),
        ] {
            assert_eq!(of_postgres(Some(text), Some(&kind)), shown, "{text}");
        }
        assert_eq!(of_postgres(None, None), Value::Null);
    }
}
