//! Values as PyYAML's `safe_dump` writes them: keys sorted, scalars plain where they stay what
//! they are, texts without escapes folded behind column 200 as `patronictl` has it.

use serde_json::Value;

/// Texts are folded at the first single space behind it.
const WIDTH: usize = 200;

/// Block style, with a line break at the end.
pub(crate) fn block(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) if !object.is_empty() => push_block(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => push_block(&mut out, value, 0),
        other => out.push_str(&(inline(other, 0) + "\n")),
    }
    out
}

/// On one line, as a cell of tab-separated values: texts as they are, the rest in flow style.
pub(crate) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => inline(other, 0),
    }
}

/// As a cell of the table: texts as they are, objects in block style.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => block(other).trim().to_owned(),
    }
}

fn push_block(out: &mut String, value: &Value, indent: usize) {
    let space = " ".repeat(indent);
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|left, right| left.0.cmp(right.0));
            for (at, (key, value)) in entries.into_iter().enumerate() {
                // The first key of an object in a list stands behind the dash.
                let begin = if at == 0 && ends_with_dash(out) {
                    ""
                } else {
                    space.as_str()
                };
                let key = scalar(key, indent + 2, false);
                out.push_str(&format!("{begin}{key}:"));
                match value {
                    // PyYAML does not indent a list below its key.
                    Value::Array(items) if !items.is_empty() => {
                        out.push('\n');
                        push_block(out, value, indent);
                    }
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        push_block(out, value, indent + 2);
                    }
                    other => {
                        out.push(' ');
                        push_scalar(out, other, indent + 2);
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let begin = if ends_with_dash(out) {
                    ""
                } else {
                    space.as_str()
                };
                out.push_str(&format!("{begin}- "));
                match item {
                    Value::Array(inner) if !inner.is_empty() => push_block(out, item, indent + 2),
                    Value::Object(inner) if !inner.is_empty() => push_block(out, item, indent + 2),
                    other => push_scalar(out, other, indent + 2),
                }
            }
        }
        other => out.push_str(&format!("{}\n", inline(other, indent))),
    }
}

/// Behind a key or dash, to the end of the line, and further lines where it is long.
fn push_scalar(out: &mut String, value: &Value, indent: usize) {
    let written = inline(value, indent);
    let column = out.rsplit('\n').next().unwrap_or_default().chars().count();
    match value {
        Value::String(_) if !written.contains('\n') && !written.starts_with('"') => {
            fold(out, &written, column, indent);
        }
        _ => out.push_str(&written),
    }
    out.push('\n');
}

fn fold(out: &mut String, written: &str, mut column: usize, indent: usize) {
    let quoted = written.starts_with('\'');
    let letters: Vec<char> = written.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let blank = |at: Option<usize>| at.and_then(|at| letters.get(at)) == Some(&' ');
        let single = *letter == ' ' && !blank(at.checked_sub(1)) && !blank(Some(at + 1));
        // A blank behind or before the quote has to stay what it is.
        let edge = quoted && (at == 1 || at + 2 == letters.len());
        if single && !edge && column > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(*letter);
            column += 1;
        }
    }
}

fn ends_with_dash(out: &str) -> bool {
    out.ends_with("- ")
}

/// Flow style; scalars as in block style at the outermost level.
fn inline(value: &Value, indent: usize) -> String {
    match value {
        Value::String(text) => scalar(text, indent, false),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(nested).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by(|left, right| left.0.cmp(right.0));
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{}: {}", scalar(key, 2, true), nested(value)))
                .collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null => "null".to_owned(),
        other => other.to_string(),
    }
}

fn nested(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text, 2, true),
        other => inline(other, 2),
    }
}

/// A text: plain if it would be read as this very text, else quoted.
fn scalar(text: &str, indent: usize, in_flow: bool) -> String {
    let special =
        |c: char| c.is_control() && c != '\n' || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}');
    let space_at_break = text.contains(" \n") || text.contains("\n ");
    if text.chars().any(special) || space_at_break {
        return double_quoted(text);
    }
    if text.contains('\n') {
        // Each break is doubled, or it would be read as a space.
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| line.replace('\'', "''"))
            .collect();
        return format!("'{}'", lines.join(&format!("\n\n{}", " ".repeat(indent))));
    }
    if text.is_empty() || !plain(text, in_flow) || is_other_type(text) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    text.to_owned()
}

fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out + "\""
}

/// Holds nothing that means something in YAML at its place.
fn plain(text: &str, in_flow: bool) -> bool {
    let first = text.chars().next().unwrap_or(' ');
    let second_blank = text.chars().nth(1).is_none_or(|c| c == ' ');
    let bad_first = "#,[]{}&*!|>'\"%@`".contains(first)
        || (first == '-' && second_blank)
        || (matches!(first, '?' | ':') && (second_blank || in_flow));
    let bad_inside = text.contains(": ") || text.contains(" #") || text.ends_with(':');
    let bad_in_flow = in_flow && text.contains([',', '?', '[', ']', '{', '}', ':']);
    let blank_edge = text.starts_with(' ') || text.ends_with(' ');
    let document_mark = text.starts_with("---") || text.starts_with("...");
    !(bad_first || bad_inside || bad_in_flow || blank_edge || document_mark)
}

/// Would be read as something else than text by YAML 1.1.
fn is_other_type(text: &str) -> bool {
    let word = matches!(
        text.to_lowercase().as_str(),
        "yes" | "no" | "true" | "false" | "on" | "off" | "null" | "~" | "<<" | "="
    );
    word || is_integer(text) || is_float(text) || is_timestamp(text)
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, digits: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|c| c == b'_' || digits(c))
}

fn is_integer(text: &str) -> bool {
    let text = unsigned(text);
    let decimal = |c: u8| c.is_ascii_digit();
    if let Some(bits) = text.strip_prefix("0b") {
        return all(bits, |c| matches!(c, b'0' | b'1'));
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return all(hex, |c| c.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix('0') {
        return octal.is_empty() || all(octal, |c| matches!(c, b'0'..=b'7'));
    }
    let mut parts = text.split(':');
    let first = parts
        .next()
        .is_some_and(|part| all(part, decimal) && !part.starts_with('_'));
    first && parts.all(sixty)
}

/// One place of a sexagesimal number.
fn sixty(part: &str) -> bool {
    part.len() <= 2 && part.parse::<u8>().is_ok_and(|value| value < 60)
}

fn is_float(text: &str) -> bool {
    let text = unsigned(text);
    if matches!(text.to_lowercase().as_str(), ".inf" | ".nan") {
        return true;
    }
    let Some((whole, rest)) = text.split_once('.') else {
        return false;
    };
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        None => (rest, None),
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
    };
    let decimal = |c: u8| c.is_ascii_digit();
    let whole_good = match whole {
        "" => fraction.starts_with(|c: char| c.is_ascii_digit()),
        whole => {
            let mut parts = whole.split(':');
            parts
                .next()
                .is_some_and(|part| all(part, decimal) && !part.starts_with('_'))
                && parts.all(sixty)
        }
    };
    let fraction_good = fraction.is_empty() || all(fraction, decimal);
    let exponent_good = exponent.is_none_or(|exponent| {
        exponent.starts_with(['-', '+']) && all(unsigned(exponent), decimal)
    });
    whole_good && fraction_good && exponent_good
}

/// Close to YAML's pattern: a date, or a date with a time. Quoting one too many harms nobody.
fn is_timestamp(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let date = (0..4).all(digit) && bytes.get(4) == Some(&b'-') && digit(5);
    let rest = text.get(8..).unwrap_or("x");
    date && rest
        .bytes()
        .all(|c| c.is_ascii_digit() || b"-+:. TtZ".contains(&c))
}
