//! What a plain scalar is, by the rules of YAML 1.1 as PyYAML has them.

use super::yaml::Data;

/// Resolves unquoted text. Numbers that do not fit, infinity, dates and sexagesimal fractions
/// stay text: no setting is made of them.
pub(super) fn resolve(text: &str) -> Data {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Data::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Data::Bool(true);
        }
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Data::Bool(false);
        }
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Data::Int(number);
    }
    if let Some(number) = fraction(text) {
        return Data::Float(number);
    }
    Data::Text(text.to_owned())
}

fn integer(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digits = |text: &str, radix: u32| {
        let plain: String = text.chars().filter(|c| *c != '_').collect();
        let fits = !plain.is_empty() && plain.chars().all(|c| c.is_digit(radix));
        fits.then(|| i64::from_str_radix(&plain, radix).ok())
            .flatten()
    };
    let value = if let Some(binary) = unsigned.strip_prefix("0b") {
        digits(binary, 2)?
    } else if let Some(hex) = unsigned.strip_prefix("0x") {
        digits(hex, 16)?
    } else if unsigned == "0" {
        0
    } else if let Some(octal) = unsigned.strip_prefix('0') {
        digits(octal, 8)?
    } else if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        sexagesimal(unsigned, digits)?
    } else {
        return None;
    };
    Some(if text.starts_with('-') { -value } else { value })
}

/// `1:30` is 90; without a colon it is the plain number.
fn sexagesimal(text: &str, digits: impl Fn(&str, u32) -> Option<i64>) -> Option<i64> {
    let mut parts = text.split(':');
    let mut value = digits(parts.next()?, 10)?;
    for part in parts {
        let minutes = (1..=2)
            .contains(&part.len())
            .then(|| part.parse::<i64>().ok())??;
        if minutes > 59 || part.starts_with(['+', '-']) {
            return None;
        }
        value = value.checked_mul(60)?.checked_add(minutes)?;
    }
    Some(value)
}

/// A fraction needs its point, an exponent needs its sign: `1e3` is text.
fn fraction(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let (whole, part) = mantissa.split_once('.')?;
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    let leading = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let shape =
        digits(whole) && digits(part) && (leading(whole) || (whole.is_empty() && leading(part)));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let number = exponent.strip_prefix(['-', '+']).unwrap_or_default();
        !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    });
    // PyYAML wants no sign before a bare point.
    let signed_point = whole.is_empty() && unsigned.len() != text.len();
    if !shape || !exponent_fits || signed_point {
        return None;
    }
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    plain.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        format!("{:?}", resolve(text))
    }

    /// The right side is what PyYAML 6 answered.
    #[test]
    fn scalars_are_what_pyyaml_makes_of_them() {
        for (text, expected) in [
            ("Yes", "Bool(true)"),
            ("oFF", "Text(\"oFF\")"),
            ("y", "Text(\"y\")"),
            ("1e3", "Text(\"1e3\")"),
            ("1.5e3", "Text(\"1.5e3\")"),
            ("1.5e+3", "Float(1500.0)"),
            ("12e45", "Text(\"12e45\")"),
            ("08", "Text(\"08\")"),
            ("010", "Int(8)"),
            ("0600", "Int(384)"),
            ("0o10", "Text(\"0o10\")"),
            ("1:30", "Int(90)"),
            ("190:20:30", "Int(685230)"),
            ("1:75", "Text(\"1:75\")"),
            ("0x1F", "Int(31)"),
            ("0b11", "Int(3)"),
            ("1_000", "Int(1000)"),
            ("+5", "Int(5)"),
            ("-07", "Int(-7)"),
            ("-0", "Int(0)"),
            (".5", "Float(0.5)"),
            ("1.", "Float(1.0)"),
            ("-1.5", "Float(-1.5)"),
            (".", "Text(\".\")"),
            ("127.0.0.1", "Text(\"127.0.0.1\")"),
            ("~", "Null"),
            ("99999999999999999999", "Text(\"99999999999999999999\")"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
