//! Numbers, sizes, times and flags as PostgreSQL and Patroni write them
//! (contract: patroni-config, section 1).

use pgherd_model::Span;
use serde_json::Value;

/// A flag: a boolean, 1 or 0, or one of `on true yes 1 off false no 0` as text.
pub fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" => Some(true),
            "off" | "false" | "no" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// One of a few words, without regard to case; where `off` or `on` is among them, [`boolean`] says
/// the same.
pub(super) fn word(value: &Value, words: &[&'static str]) -> Option<&'static str> {
    let given = match (value.as_str(), boolean(value)) {
        (_, Some(true)) if words.contains(&"on") => "on",
        (_, Some(false)) if words.contains(&"off") => "off",
        (Some(text), _) => text.trim(),
        (None, _) => return None,
    };
    words
        .iter()
        .copied()
        .find(|word| word.eq_ignore_ascii_case(given))
}

/// An integer: a number or text, decimal, `0x` hexadecimal or octal with a leading 0.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number.round() as i64)),
        Value::String(text) => match split_number(text.trim())? {
            (number, "") => Some(number.round() as i64),
            _ => None,
        },
        _ => None,
    }
}

/// Bytes: a plain number, or with unit `B kB MB GB TB`.
pub fn bytes(value: &Value) -> Option<i64> {
    let Value::String(text) = value else {
        return integer(value);
    };
    let (number, unit) = split_number(text.trim())?;
    let factor = match unit {
        "" | "B" => 1.0,
        "kB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    // Saturates far outside of what a size or a position can be.
    Some((number * factor).round_ties_even() as i64)
}

/// Whole MB, as PostgreSQL reads a parameter with that unit: a plain number is MB, fractions are rounded, more than it
/// can hold is `None`.
pub(super) fn megabytes(value: &Value) -> Option<i64> {
    let megabytes = match value {
        Value::String(text) => {
            let (number, unit) = split_number(text.trim())?;
            // What is given in a unit is rounded to the next smaller one first.
            let rounded = |by: f64| (number * by).round_ties_even() / by;
            match unit {
                "" => number,
                "B" => number / 1_048_576.0,
                "kB" => rounded(1024.0) / 1024.0,
                "MB" => rounded(1024.0),
                "GB" => rounded(1024.0) * 1024.0,
                "TB" => rounded(1024.0) * 1_048_576.0,
                _ => return None,
            }
        }
        number => number.as_f64()?,
    };
    let megabytes = megabytes.round_ties_even() as i64;
    i32::try_from(megabytes).is_ok().then_some(megabytes)
}

/// A time: a plain number of seconds, or with unit `us ms s min h d`. Negative ones are `None`.
pub(crate) fn seconds(value: &Value) -> Option<Span> {
    let seconds = match value {
        Value::String(text) => {
            let (number, unit) = split_number(text.trim())?;
            let factor = match unit {
                "" | "s" => 1.0,
                "us" => 0.000_001,
                "ms" => 0.001,
                "min" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
            number * factor
        }
        other => other.as_f64()?,
    };
    Span::try_from_secs_f64(seconds).ok()
}

/// (number, unit without spaces)
fn split_number(text: &str) -> Option<(f64, &str)> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = rest.strip_prefix("0x").or(rest.strip_prefix("0X"));
    if let Some(hex) = hex {
        let end = hex
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(hex.len());
        let (digits, unit) = hex.split_at(end);
        let number = u64::from_str_radix(digits, 16).ok()?;
        return Some((sign * number as f64, unit.trim_start()));
    }
    let end = decimal(rest);
    let (digits, unit) = rest.split_at(end);
    let whole = digits.bytes().all(|c| c.is_ascii_digit());
    let octal = whole && digits.len() > 1 && digits.starts_with('0');
    let number = match octal {
        true => f64::from(u32::from_str_radix(digits, 8).ok()?),
        false => digits.parse().ok()?,
    };
    Some((sign * number, unit.trim_start()))
}

/// Where a decimal number ends: `1.5`, `1e3`.
fn decimal(text: &str) -> usize {
    let none = |text: &str, of: fn(char) -> bool| text.find(|c| !of(c)).unwrap_or(text.len());
    let end = none(text, |c| c.is_ascii_digit() || c == '.');
    let Some(exponent) = text[end..].strip_prefix(['e', 'E']) else {
        return end;
    };
    let sign = usize::from(exponent.starts_with(['+', '-']));
    match none(&exponent[sign..], |c| c.is_ascii_digit()) {
        0 => end,
        digits => end + 1 + sign + digits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn units_as_in_postgresql() {
        assert_eq!(bytes(&json!("1MB")), Some(1_048_576));
        assert_eq!(bytes(&json!("1.5 kB")), Some(1536));
        assert_eq!(bytes(&json!(7)), Some(7));
        assert_eq!(bytes(&json!("0x10")), Some(16));
        assert_eq!(bytes(&json!("1mb")), None);
        assert_eq!(megabytes(&json!("1.5GB")), Some(1536));
        assert_eq!(megabytes(&json!("0x40")), Some(64));
        assert_eq!(megabytes(&json!("0100 MB")), Some(64));
        assert_eq!(megabytes(&json!("2147483648B")), Some(2048));
        assert_eq!(megabytes(&json!("1e3")), Some(1000));
        assert_eq!(megabytes(&json!("16896kB")), Some(16));
        assert_eq!(megabytes(&json!("15.49999MB")), Some(16));
        assert_eq!(megabytes(&json!("15.49999")), Some(15));
        assert_eq!(megabytes(&json!("0.0005TB")), Some(1024));
        assert_eq!(megabytes(&json!(64.5)), Some(64));
        assert_eq!(megabytes(&json!("2048TB")), None);
        assert_eq!(megabytes(&json!("1gb")), None);
        assert_eq!(megabytes(&json!("")), None);
        assert_eq!(megabytes(&json!(true)), None);
        assert_eq!(seconds(&json!("30min")), Some(Span::from_secs(1800)));
        assert_eq!(seconds(&json!("250ms")), Some(Span::from_millis(250)));
        assert_eq!(seconds(&json!(-1)), None);
        assert_eq!(integer(&json!("-010")), Some(-8));
        assert_eq!(integer(&json!("10s")), None);
        assert_eq!(integer(&json!("")), None);
        for flag in [json!("ON"), json!(1), json!(true), json!("yes")] {
            assert_eq!(boolean(&flag), Some(true));
        }
        assert_eq!(boolean(&json!("maybe")), None);
    }
}
