//! How a log line looks (`log.type`, `format`, `dateformat`, `static_fields`): Python's `%` formats
//! and the JSON of python-json-logger, as Patroni 4.1 uses both.
//!
//! Read and checked here, once; what a line has to say comes from whoever writes it.

use crate::patroni::rest::python_json;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a line may name: the attributes of Python's log records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Python's")]
pub enum LogAttribute {
    Args,
    Asctime,
    Created,
    ExcInfo,
    ExcText,
    Filename,
    FuncName,
    Levelname,
    Levelno,
    Lineno,
    Message,
    Module,
    Msecs,
    Msg,
    Name,
    Pathname,
    Process,
    ProcessName,
    RelativeCreated,
    StackInfo,
    TaskName,
    Thread,
    ThreadName,
}

use LogAttribute as A;

const ATTRIBUTES: &[(&str, LogAttribute)] = &[
    ("asctime", A::Asctime),
    ("created", A::Created),
    ("filename", A::Filename),
    ("funcName", A::FuncName),
    ("levelname", A::Levelname),
    ("levelno", A::Levelno),
    ("lineno", A::Lineno),
    ("message", A::Message),
    ("module", A::Module),
    ("msecs", A::Msecs),
    ("name", A::Name),
    ("pathname", A::Pathname),
    ("process", A::Process),
    ("processName", A::ProcessName),
    ("relativeCreated", A::RelativeCreated),
    ("thread", A::Thread),
    ("threadName", A::ThreadName),
    // Seldom of use, so not offered in errors.
    ("args", A::Args),
    ("exc_info", A::ExcInfo),
    ("exc_text", A::ExcText),
    ("msg", A::Msg),
    ("stack_info", A::StackInfo),
    ("taskName", A::TaskName),
];

const OFFERED: usize = 17;

impl LogAttribute {
    fn named(name: &str) -> Option<LogAttribute> {
        let found = ATTRIBUTES.iter().find(|(known, _)| *known == name);
        found.map(|(_, attribute)| *attribute)
    }

    fn is_number(self) -> bool {
        match self {
            A::Created
            | A::Levelno
            | A::Lineno
            | A::Msecs
            | A::Process
            | A::RelativeCreated
            | A::Thread => true,
            A::Args
            | A::Asctime
            | A::ExcInfo
            | A::ExcText
            | A::Filename
            | A::FuncName
            | A::Levelname
            | A::Message
            | A::Module
            | A::Msg
            | A::Name
            | A::Pathname
            | A::ProcessName
            | A::StackInfo
            | A::TaskName
            | A::ThreadName => false,
        }
    }
}

/// The value of an attribute in one line.
#[derive(Clone, Debug, PartialEq)]
pub enum LogValue {
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A number, in the unit that Python has.
    Float(f64),
    /// Python's None.
    Nothing,
}

impl LogValue {
    fn text(&self) -> String {
        match self {
            LogValue::Text(text) => text.clone(),
            LogValue::Int(number) => number.to_string(),
            LogValue::Float(number) => format!("{number:?}"),
            LogValue::Nothing => "None".to_owned(),
        }
    }

    fn json(self) -> Value {
        match self {
            LogValue::Text(text) => text.into(),
            LogValue::Int(number) => number.into(),
            LogValue::Float(number) => number.into(),
            LogValue::Nothing => Value::Null,
        }
    }
}

/// A part of a plain line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogPiece {
    /// As it is.
    Text(String),
    /// `%(name)...`
    Value {
        /// Whose value.
        attribute: LogAttribute,
        /// In which shape.
        spec: LogSpec,
    },
}

/// What stands between `)` and the end of a `%(name)s`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// `-`: filled up at the right.
    pub left: bool,
    /// `0`: numbers are filled up with zeros.
    pub zero: bool,
    /// `+`, or a blank: what stands before numbers that are not negative.
    pub sign: Option<char>,
    /// `#`: `0x` or `0o` before the number.
    pub prefix: bool,
    /// Least number of characters.
    pub width: usize,
    /// Most characters of text, digits of a fraction.
    pub precision: Option<usize>,
    /// `s`, `r`, `d`, `f`, `x`, `X`, `o`.
    pub conversion: char,
}

impl LogSpec {
    fn apply(&self, value: &LogValue) -> String {
        match self.conversion {
            's' => self.pad("", &self.cut(value.text()), ' '),
            'r' => {
                let text = match value {
                    LogValue::Text(text) => repr(text),
                    other => other.text(),
                };
                self.pad("", &self.cut(text), ' ')
            }
            conversion => self.number(conversion, value),
        }
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    fn number(&self, conversion: char, value: &LogValue) -> String {
        #[expect(clippy::cast_precision_loss, reason = "as Python's %f")]
        let float = match value {
            LogValue::Int(number) => *number as f64,
            LogValue::Float(number) => *number,
            LogValue::Text(_) | LogValue::Nothing => 0.0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "as Python's %d")]
        let whole = match value {
            LogValue::Int(number) => *number,
            _ => float as i64,
        };
        let digits = |text: String| match self.precision {
            Some(least) => format!("{text:0>least$}"),
            None => text,
        };
        let size = whole.unsigned_abs();
        let (prefix, body) = match conversion {
            'x' => ("0x", digits(format!("{size:x}"))),
            'X' => ("0X", digits(format!("{size:X}"))),
            'o' => ("0o", digits(format!("{size:o}"))),
            'f' => {
                let precision = self.precision.unwrap_or(6);
                ("", format!("{:.precision$}", float.abs()))
            }
            _ => ("", digits(size.to_string())),
        };
        let mut lead = String::new();
        if float < 0.0 {
            lead.push('-');
        } else {
            lead.extend(self.sign);
        }
        if self.prefix {
            lead.push_str(prefix);
        }
        let fill = if self.zero && !self.left { '0' } else { ' ' };
        self.pad(&lead, &body, fill)
    }

    fn pad(&self, lead: &str, body: &str, fill: char) -> String {
        let missing = (self.width).saturating_sub(lead.chars().count() + body.chars().count());
        let filling: String = std::iter::repeat_n(fill, missing).collect();
        match (self.left, fill) {
            (true, _) => format!("{lead}{body}{filling}"),
            (false, '0') => format!("{lead}{filling}{body}"),
            (false, _) => format!("{filling}{lead}{body}"),
        }
    }
}

/// Text as Python shows it in its sources.
fn repr(text: &str) -> String {
    let quote = match text.contains('\'') && !text.contains('"') {
        true => '"',
        false => '\'',
    };
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// The shape of lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LogShape {
    /// `type: plain`.
    Plain(Vec<LogPiece>),
    /// `type: json`.
    Json {
        /// Keys in their order; an attribute that nobody knows is null.
        fields: Vec<(String, Option<LogAttribute>)>,
        /// `static_fields`.
        more: Map<String, Value>,
        /// For fields beside the message.
        renames: Vec<(String, String)>,
    },
}

/// The shape of lines, and of `asctime` in them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogForm {
    /// What a line consists of.
    pub shape: LogShape,
    /// For strftime; `None`: `2026-11-21 00:21:27,566`.
    pub dateformat: Option<String>,
}

/// Patroni's default.
pub(super) const LINE: &str = "%(asctime)s %(levelname)s: %(message)s";

impl Default for LogForm {
    fn default() -> Self {
        LogForm {
            shape: LogShape::Plain(pieces(LINE).unwrap_or_default()),
            dateformat: None,
        }
    }
}

impl LogForm {
    /// One line, with its end. `extra`: named values beside the message, which a plain line has
    /// behind it and JSON under their names.
    pub fn line(
        &self,
        value: &dyn Fn(LogAttribute) -> LogValue,
        extra: &[(String, String)],
    ) -> String {
        let mut line = match &self.shape {
            LogShape::Plain(pieces) => {
                let part = |piece: &LogPiece| match piece {
                    LogPiece::Text(text) => text.clone(),
                    LogPiece::Value { attribute, spec } => match attribute {
                        A::Message | A::Msg => {
                            let mut text = value(*attribute).text();
                            for (key, what) in extra {
                                text += &format!(" {key}={what}");
                            }
                            spec.apply(&LogValue::Text(text))
                        }
                        other => spec.apply(&value(*other)),
                    },
                };
                pieces.iter().map(part).collect()
            }
            LogShape::Json {
                fields,
                more,
                renames,
            } => {
                let mut document = Map::new();
                for (key, attribute) in fields {
                    let value = attribute.map_or(Value::Null, |it| value(it).json());
                    document.insert(key.clone(), value);
                }
                for (key, value) in more {
                    document.insert(key.clone(), value.clone());
                }
                for (key, value) in extra {
                    document.insert(renamed(renames, key), value.as_str().into());
                }
                python_json(&Value::Object(document))
            }
        };
        line.push('\n');
        line
    }
}

fn renamed(renames: &[(String, String)], key: &str) -> String {
    let new = renames.iter().find(|(old, _)| old == key);
    new.map_or(key, |(_, new)| new).to_owned()
}

/// A format of plain lines.
///
/// # Errors
/// What is wrong with it.
pub(super) fn pieces(format: &str) -> Result<Vec<LogPiece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let named = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'));
        let Some((name, after)) = named else {
            return Err(
                "expected a name such as %(message)s after each %, or %% for a percent sign".into(),
            );
        };
        let attribute = LogAttribute::named(name).ok_or_else(|| unknown(name))?;
        let (spec, after) = spec(name, attribute, after)?;
        if !text.is_empty() {
            pieces.push(LogPiece::Text(std::mem::take(&mut text)));
        }
        pieces.push(LogPiece::Value { attribute, spec });
        rest = after;
    }
    if pieces.is_empty() {
        return Err("expected at least one name such as %(message)s".into());
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(LogPiece::Text(text));
    }
    Ok(pieces)
}

fn unknown(name: &str) -> String {
    let offered: Vec<&str> = ATTRIBUTES[..OFFERED]
        .iter()
        .map(|(name, _)| *name)
        .collect();
    format!(
        "{name:?} is no attribute of a log line: expected one of {}",
        offered.join(", ")
    )
}

/// Flags, width, precision and conversion at the beginning of `text`, and what follows.
fn spec<'a>(
    name: &str,
    attribute: LogAttribute,
    text: &'a str,
) -> Result<(LogSpec, &'a str), String> {
    let mut spec = LogSpec::default();
    let mut rest = text;
    while let Some(flag) = rest.chars().next().filter(|c| "-+ 0#".contains(*c)) {
        match flag {
            '-' => spec.left = true,
            '0' => spec.zero = true,
            '#' => spec.prefix = true,
            '+' => spec.sign = Some('+'),
            _ => spec.sign = spec.sign.or(Some(' ')),
        }
        rest = &rest[1..];
    }
    let number = |rest: &mut &'a str| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        *rest = after;
        // More than a line ever has would only be a way to fill memory.
        digits
            .parse::<usize>()
            .ok()
            .filter(|number| *number <= 1000)
    };
    let wide = rest.starts_with(|c: char| c.is_ascii_digit());
    let width = number(&mut rest);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let given = rest.starts_with(|c: char| c.is_ascii_digit());
        let precision = number(&mut rest);
        spec.precision = if given { precision } else { Some(0) };
        if spec.precision.is_none() {
            return Err(format!("%({name}): expected a precision of at most 1000"));
        }
    }
    if wide && width.is_none() {
        return Err(format!("%({name}): expected a width of at most 1000"));
    }
    spec.width = width.unwrap_or(0);
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let conversion = rest.chars().next();
    spec.conversion = match conversion {
        Some('s') => 's',
        Some('r' | 'a') => 'r',
        Some('d' | 'i' | 'u') => 'd',
        Some('f' | 'F') => 'f',
        Some(c @ ('x' | 'X' | 'o')) => c,
        _ => {
            return Err(format!(
                "expected one of s, r, d, f, x, X and o at the end of %({name})..., as in %({name})s"
            ));
        }
    };
    if !matches!(spec.conversion, 's' | 'r') && !attribute.is_number() {
        let given = conversion.unwrap_or_default();
        return Err(format!(
            "%({name}){given} wants a number: expected %({name})s"
        ));
    }
    Ok((spec, &rest[1..]))
}

/// JSON of these attributes, (name, key).
pub(super) fn json_shape(
    names: Vec<(String, String)>,
    static_fields: Map<String, Value>,
) -> LogShape {
    let renames: Vec<(String, String)> = names
        .iter()
        .filter(|(name, key)| name != key)
        .cloned()
        .collect();
    let more = static_fields.into_iter();
    LogShape::Json {
        more: more
            .map(|(key, value)| (renamed(&renames, &key), value))
            .collect(),
        fields: names
            .into_iter()
            .map(|(name, key)| (key, LogAttribute::named(&name)))
            .collect(),
        renames,
    }
}

/// Every name in a format, for JSON, which wants no more of it.
pub(super) fn names(pieces: &[LogPiece]) -> Vec<(String, String)> {
    let name = |piece: &LogPiece| match piece {
        LogPiece::Text(_) => None,
        LogPiece::Value { attribute, .. } => {
            let found = ATTRIBUTES.iter().find(|(_, known)| known == attribute)?;
            Some((found.0.to_owned(), found.0.to_owned()))
        }
    };
    pieces.iter().filter_map(name).collect()
}

/// Whether a line can have it.
pub(super) fn is_attribute(name: &str) -> bool {
    LogAttribute::named(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(attribute: LogAttribute) -> LogValue {
        match attribute {
            A::Asctime => LogValue::Text("2026-11-21 00:21:27,566".into()),
            A::Levelname => LogValue::Text("INFO".into()),
            A::Levelno => LogValue::Int(20),
            A::Created => LogValue::Float(1_795_220_487.566),
            A::Msecs => LogValue::Float(566.0),
            A::Lineno => LogValue::Int(42),
            A::Process => LogValue::Int(4711),
            A::Message | A::Msg => LogValue::Text("it's \u{e4} \"word\"".into()),
            A::TaskName => LogValue::Nothing,
            _ => LogValue::Text("text".into()),
        }
    }

    fn plain(format: &str) -> String {
        let form = LogForm {
            shape: LogShape::Plain(pieces(format).unwrap()),
            dateformat: None,
        };
        form.line(&value, &[])
    }

    /// The right side is what Python 3.11 answered.
    #[test]
    fn formats_are_pythons() {
        for (format, expected) in [
            (LINE, "2026-11-21 00:21:27,566 INFO: it's ä \"word\""),
            ("[%(levelname)-8s]", "[INFO    ]"),
            ("[%(levelname)8s]", "[    INFO]"),
            ("[%(levelname)08s]", "[    INFO]"),
            ("[%(levelname)-.2s] 100%%", "[IN] 100%"),
            ("[%(levelname).0s]", "[]"),
            ("%(levelname)r %(message)r", "'INFO' 'it\\'s ä \"word\"'"),
            (
                "%(process)d %(process)s %(process)8d|",
                "4711 4711     4711|",
            ),
            ("%(process)+08d %(process) d", "+0004711  4711"),
            ("%(process).6d %(process)8.6d|", "004711   004711|"),
            ("%(process)x %(process)#X %(process)o", "1267 0X1267 11147"),
            (
                "%(created)f %(created).1f",
                "1795220487.566000 1795220487.6",
            ),
            ("%(created)s %(created)d", "1795220487.566 1795220487"),
            ("%(msecs)d %(msecs)03d %(msecs)s", "566 566 566.0"),
            ("%(levelno)s %(lineno)5ld|", "20    42|"),
            ("%(taskName)s", "None"),
        ] {
            assert_eq!(plain(format), format!("{expected}\n"), "{format}");
        }
        let extra = [("key".to_owned(), "7".to_owned())];
        let line = LogForm::default().line(&value, &extra);
        assert!(line.ends_with(" INFO: it's ä \"word\" key=7\n"), "{line}");
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for (format, expected) in [
            ("", "expected at least one name"),
            ("100%%", "expected at least one name"),
            (
                "%(message)s 100%",
                "expected a name such as %(message)s after each %",
            ),
            ("%s", "expected a name such as %(message)s after each %"),
            ("%(message", "expected a name such as"),
            (
                "%(massage)s",
                "\"massage\" is no attribute of a log line: expected one of asctime, ",
            ),
            (
                "%(message)d",
                "%(message)d wants a number: expected %(message)s",
            ),
            ("%(message)", "expected one of s, r, d, f"),
            ("%(message)*s", "expected one of s, r, d, f"),
            ("%(message)y", "expected one of s, r, d, f"),
            (
                "%(message)99999s",
                "%(message): expected a width of at most 1000",
            ),
            (
                "%(message).99999s",
                "%(message): expected a precision of at most 1000",
            ),
        ] {
            let problem = pieces(format).unwrap_err();
            assert!(problem.starts_with(expected), "{format}: {problem}");
        }
    }

    /// The right side is what python-json-logger answered, as Patroni calls it.
    #[test]
    fn json_has_pythons_keys() {
        let pairs = |names: &[(&str, &str)]| {
            let pairs = names.iter();
            pairs
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect()
        };
        let form = |shape| LogForm {
            shape,
            dateformat: None,
        };
        let default = form(json_shape(names(&pieces(LINE).unwrap()), Map::new()));
        assert_eq!(
            default.line(&value, &[]),
            "{\"asctime\": \"2026-11-21 00:21:27,566\", \"levelname\": \"INFO\", \
             \"message\": \"it's \\u00e4 \\\"word\\\"\"}\n"
        );
        let fields = json!({"app": "pg", "levelname": 7, "n": {"a": [1, null]}});
        let Value::Object(fields) = fields else {
            panic!()
        };
        let own = pairs(&[
            ("message", "msg"),
            ("levelname", "level"),
            ("lineno", "lineno"),
            ("msecs", "msecs"),
            ("what", "what"),
        ]);
        let own = form(json_shape(own, fields));
        let extra = [("message".to_owned(), "other".to_owned())];
        let line = own.line(&value, &extra[..0]);
        assert_eq!(
            line,
            "{\"msg\": \"it's \\u00e4 \\\"word\\\"\", \"level\": 7, \"lineno\": 42, \
             \"msecs\": 566.0, \"what\": null, \"app\": \"pg\", \"n\": {\"a\": [1, null]}}\n"
        );
        assert!(own.line(&value, &extra).contains("\"msg\": \"other\""));
        // A guard gets it on its command line.
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<LogForm>(&text).unwrap(), own);
    }
}
