//! The section `log`, from files and from variables.

use super::{LogLevel, SAMPLE, container, load_environment, problem, read};
use crate::patroni::config::{Log, LogForm, LogShape};
use std::collections::BTreeMap;
use std::path::Path;

/// The sample with this section, and what was said of it.
fn log(section: &str) -> (Log, Vec<String>) {
    let loaded = read(&format!("{SAMPLE}log: {section}\n")).unwrap();
    (loaded.node.log, loaded.warnings)
}

fn keys(log: &Log) -> Vec<&str> {
    match &log.form.shape {
        LogShape::Json { fields, .. } => fields.iter().map(|(key, _)| key.as_str()).collect(),
        LogShape::Plain(_) => Vec::new(),
    }
}

#[test]
fn defaults_are_patronis() {
    let (log, _) = log("{}");
    assert_eq!(log.form, LogForm::default());
    assert_eq!((log.level, log.dir), (LogLevel::Info, None));
    assert_eq!((log.file_num, log.file_size), (4, 25_000_000));
    assert_eq!((log.mode, log.max_queue_size), (None, 1000));
    assert_eq!(
        (log.loggers, log.deduplicate_heartbeat_logs),
        (BTreeMap::new(), false)
    );
}

#[test]
fn every_key_is_taken_and_nothing_is_said() {
    let before = read(SAMPLE).unwrap().warnings;
    let (log, told) = log(
        "{type: json, level: warn, traceback_level: DEBUG, format: [asctime, {message: msg}, \
         {levelname: level}], dateformat: '%H', static_fields: {app: x}, max_queue_size: 7, \
         dir: /l, file_num: 0, file_size: 0, mode: 0600, \
         loggers: {patroni: DEBUG, urllib3: 30, a: notset, b: fatal}, \
         deduplicate_heartbeat_logs: on}",
    );
    assert_eq!(told, before);
    assert_eq!(keys(&log), ["asctime", "msg", "level"]);
    assert_eq!(log.form.dateformat.as_deref(), Some("%H"));
    assert_eq!(
        (log.level, log.mode, log.max_queue_size),
        (LogLevel::Warning, Some(0o600), 7)
    );
    assert_eq!((log.file_num, log.file_size), (0, 0));
    assert_eq!(log.dir.as_ref().unwrap().path, Path::new("/l"));
    assert!(log.deduplicate_heartbeat_logs);
    let levels = [
        ("b".to_owned(), LogLevel::Critical),
        ("patroni".to_owned(), LogLevel::Debug),
        ("urllib3".to_owned(), LogLevel::Warning),
    ];
    assert_eq!(log.loggers, BTreeMap::from(levels));
}

#[test]
fn variables_say_the_same() {
    let mut variables = container();
    for (name, value) in [
        ("TYPE", "json"),
        ("LEVEL", "DEBUG"),
        ("TRACEBACK_LEVEL", "DEBUG"),
        ("FORMAT", "message, {levelname: level}"),
        ("DATEFORMAT", "%H:%M"),
        ("STATIC_FIELDS", "app: x"),
        ("MAX_QUEUE_SIZE", "7"),
        ("DIR", "/l"),
        ("MODE", "0640"),
        ("FILE_SIZE", "1000"),
        ("FILE_NUM", "2"),
        ("LOGGERS", "patroni: DEBUG"),
        ("DEDUPLICATE_HEARTBEAT_LOGS", "true"),
    ] {
        variables.insert(format!("PATRONI_LOG_{name}"), value.into());
    }
    let loaded = load_environment(&variables).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let log = loaded.node.log;
    assert_eq!(keys(&log), ["message", "level"]);
    assert_eq!(log.form.dateformat.as_deref(), Some("%H:%M"));
    assert_eq!(
        (log.mode, log.file_size, log.file_num),
        (Some(0o640), 1000, 2)
    );
    assert_eq!((log.max_queue_size, log.level), (7, LogLevel::Debug));
    assert_eq!(log.loggers["patroni"], LogLevel::Debug);
    assert!(log.deduplicate_heartbeat_logs);
    let place = log.dir.unwrap().place;
    assert_eq!(place, "environment variable PATRONI_LOG_DIR");
}

#[test]
fn a_format_for_the_other_type() {
    let (plain, told) = log("{format: [message], static_fields: {a: 1}}");
    assert_eq!(plain.form, LogForm::default());
    let said =
        "log.format: a list has no effect without log.type: json, the default format is used";
    assert!(told.iter().any(|line| line.ends_with(said)), "{told:?}");
    let (json, _) = log("{type: json, format: '%(levelname)-8s %(message)s'}");
    assert_eq!(keys(&json), ["levelname", "message"]);
    for section in ["{type: json}", "{type: json, format: []}"] {
        assert_eq!(keys(&log(section).0), ["asctime", "levelname", "message"]);
    }
    let (_, told) = log("{type: json, format: [message, trace]}");
    let said = "log.format: \"trace\" is no attribute of a log line, its value will be null";
    assert!(told.iter().any(|line| line.ends_with(said)), "{told:?}");
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (section, expected) in [
        (
            "{format: 'x'}",
            "log.format: expected at least one name such as %(message)s",
        ),
        (
            "{format: '%(massage)s'}",
            "log.format: \"massage\" is no attribute of a log line",
        ),
        (
            "{type: json, format: '%(x)s'}",
            "log.format: \"x\" is no attribute of a log line",
        ),
        (
            "{type: json, format: [7]}",
            "log.format: expected a name, or a mapping of it",
        ),
        (
            "{type: json, format: [{a: [b]}]}",
            "log.format: expected text as another name, found a list",
        ),
        (
            "{format: {a: b}}",
            "log.format: expected text, found a mapping",
        ),
        (
            "{dateformat: [a]}",
            "log.dateformat: expected text, found a list",
        ),
        (
            "{loggers: [a]}",
            "log.loggers: expected a mapping, found a list",
        ),
        (
            "{loggers: {a: LOUD}}",
            "log.loggers.a: expected one of NOTSET, DEBUG",
        ),
        (
            "{static_fields: x}",
            "log.static_fields: expected a mapping, found text",
        ),
        ("{mode: 0o9}", "log.mode: expected "),
        ("{mode: 01000}", "log.mode: expected "),
        ("{file_num: -1}", "log.file_num: expected "),
        (
            "{max_queue_size: many}",
            "log.max_queue_size: expected an integer",
        ),
        (
            "{type: xml}",
            "log.type: expected one of plain, json, found \"xml\"",
        ),
    ] {
        let found = problem(&format!("{SAMPLE}log: {section}\n"));
        let line = SAMPLE.lines().count() + 1;
        assert!(
            found.starts_with(&format!("n.yml:{line}: {expected}")),
            "{section}: {found}"
        );
    }
}
