//! The section `log`.

use super::ConfigError;
use super::log_form::{LINE, LogForm, LogShape, is_attribute, json_shape, names, pieces};
use super::node::{Log, LogDir, LogLevel};
use super::read::narrow;
use super::section::{Section, plain_text};
use super::yaml::{Data, Node};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, ConfigError>;

const LEVELS: &[&str] = &[
    "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL",
];

/// Names and their new keys.
type Names = Vec<(String, String)>;

pub(super) fn log(section: &Section<'_>) -> Result<Log> {
    let dir = section.path("dir")?;
    let log = Log {
        form: form(section)?,
        level: match section.word("level", LEVELS)? {
            Some(word) => level(word),
            None => LogLevel::Info,
        },
        loggers: loggers(&section.child("loggers")?)?,
        dir: dir.map(|path| LogDir {
            path,
            place: section.place_of("dir").to_string(),
        }),
        file_num: narrow(
            section
                .integer("file_num", 0, i64::from(u32::MAX))?
                .unwrap_or(4),
        ),
        file_size: section
            .integer("file_size", 0, i64::MAX)?
            .map_or(25_000_000, i64::unsigned_abs),
        mode: section.integer("mode", 0, 0o777)?.map(narrow),
        max_queue_size: match section.integer("max_queue_size", i64::MIN, i64::MAX)? {
            Some(lines) => usize::try_from(lines).unwrap_or(0),
            None => 1000,
        },
        deduplicate_heartbeat_logs: section.flag("deduplicate_heartbeat_logs")?.unwrap_or(false),
    };
    // Whether Python's tracebacks are shown: there are none.
    section.node("traceback_level");
    section.finish();
    Ok(log)
}

fn level(word: &str) -> LogLevel {
    match word {
        "DEBUG" => LogLevel::Debug,
        "INFO" => LogLevel::Info,
        "WARN" | "WARNING" => LogLevel::Warning,
        "ERROR" => LogLevel::Error,
        _ => LogLevel::Critical,
    }
}

/// Levels by name; Python also takes their numbers. NOTSET is what no entry means.
fn loggers(section: &Section<'_>) -> Result<BTreeMap<String, LogLevel>> {
    const WORDS: &[&str] = &[
        "NOTSET", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL",
    ];
    let mut loggers = BTreeMap::new();
    for name in section.keys() {
        let level = match section.node(name).map(|node| &node.data) {
            None | Some(Data::Int(i64::MIN..=0)) => continue,
            Some(Data::Int(1..=10)) => LogLevel::Debug,
            Some(Data::Int(11..=20)) => LogLevel::Info,
            Some(Data::Int(21..=30)) => LogLevel::Warning,
            Some(Data::Int(31..=40)) => LogLevel::Error,
            Some(Data::Int(_)) => LogLevel::Critical,
            Some(_) => match section.word(name, WORDS)? {
                None | Some("NOTSET") => continue,
                Some(word) => level(word),
            },
        };
        loggers.insert(name.to_owned(), level);
    }
    Ok(loggers)
}

fn form(section: &Section<'_>) -> Result<LogForm> {
    let json = section.word("type", &["plain", "json"])? == Some("json");
    let fields = section.child("static_fields")?;
    let field = |name: &str| Some((name.to_owned(), fields.node(name)?.to_json()));
    let fields: Map<String, Value> = fields.keys().filter_map(field).collect();
    let given = section.node("format");
    let line = |section: &Section<'_>| match section.text("format")? {
        Some(format) => pieces(&format).map_err(|problem| section.error("format", problem)),
        None => Ok(pieces(LINE).unwrap_or_default()),
    };
    let shape = match (json, given.map(|node| &node.data)) {
        (false, Some(Data::List(_))) => {
            section.warn_at(
                "format",
                "a list has no effect without log.type: json, the default format is used",
            );
            LogForm::default().shape
        }
        (false, _) => LogShape::Plain(line(section)?),
        (true, Some(Data::List(items))) => {
            let names = match list(section, items)? {
                names if names.is_empty() => names_of_default(),
                names => names,
            };
            json_shape(names, fields)
        }
        (true, _) => json_shape(names(&line(section)?), fields),
    };
    let dateformat = section.text("dateformat")?;
    Ok(LogForm {
        shape,
        dateformat: dateformat.filter(|format| !format.is_empty()),
    })
}

fn names_of_default() -> Names {
    names(&pieces(LINE).unwrap_or_default())
}

/// Names, or mappings of names to other keys.
fn list(section: &Section<'_>, items: &[Node]) -> Result<Names> {
    let mut names = Names::new();
    let wrong = |node: &Node, what: &str| {
        let key = section.full("format");
        let problem = format!("{key}: expected {what}, found {}", node.kind());
        ConfigError::new(&node.place, problem)
    };
    for item in items {
        match &item.data {
            Data::Text(name) => names.push((name.clone(), name.clone())),
            Data::Map(entries) => {
                for entry in entries {
                    let key = plain_text(&entry.node);
                    let key = key.ok_or_else(|| wrong(&entry.node, "text as another name"))?;
                    names.push((entry.key.clone(), key));
                }
            }
            _ => return Err(wrong(item, "a name, or a mapping of it to another name")),
        }
    }
    for (name, _) in names.iter().filter(|(name, _)| !is_attribute(name)) {
        let what = format!("{name:?} is no attribute of a log line, its value will be null");
        section.warn_at("format", &what);
    }
    Ok(names)
}
