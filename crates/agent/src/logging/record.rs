//! What there is to say, before it is a line.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use jiff::fmt::strtime::{BrokenDownTime, Config, PosixCustom};
use jiff::tz::TimeZone;
use pgherd_wire::patroni::config::{LogAttribute, LogForm, LogLevel, LogValue};

/// One entry of the log.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) level: LogLevel,
    /// The module that says it, as Rust names it.
    pub(super) name: Cow<'static, str>,
    pub(super) path: Option<Cow<'static, str>>,
    pub(super) line: u32,
    pub(super) thread_name: String,
    pub(super) thread: i64,
    pub(super) message: String,
    /// Named values beside the message.
    pub(super) fields: Vec<(String, String)>,
}

impl Record {
    /// A sentence of this thread, now.
    pub(super) fn simple(level: LogLevel, name: &'static str, message: String) -> Record {
        // Before anything else, so that Python's relativeCreated counts from the first.
        first();
        Record {
            at: Timestamp::now(),
            level,
            name: name.into(),
            path: None,
            line: 0,
            thread_name: thread_name(),
            thread: rustix::thread::gettid().as_raw_nonzero().get().into(),
            message,
            fields: Vec::new(),
        }
    }

    /// As a line of the log.
    pub(super) fn line(&self, form: &LogForm) -> String {
        let dateformat = form.dateformat.as_deref();
        form.line(&|attribute| self.value(attribute, dateformat), &self.fields)
    }

    fn value(&self, attribute: LogAttribute, dateformat: Option<&str>) -> LogValue {
        use LogAttribute as A;
        let text = |text: &str| LogValue::Text(text.to_owned());
        match attribute {
            A::Asctime => LogValue::Text(asctime(self.at, dateformat)),
            A::Created => LogValue::Float(self.at.as_duration().as_secs_f64()),
            A::Filename => text(self.file().map_or(UNKNOWN, |(file, _)| file)),
            // Rust does not tell; so Python calls what it cannot tell.
            A::FuncName => text("(unknown function)"),
            A::Levelname => text(match self.level {
                LogLevel::Debug => "DEBUG",
                LogLevel::Info => "INFO",
                LogLevel::Warning => "WARNING",
                LogLevel::Error => "ERROR",
                LogLevel::Critical => "CRITICAL",
            }),
            A::Levelno => LogValue::Int(match self.level {
                LogLevel::Debug => 10,
                LogLevel::Info => 20,
                LogLevel::Warning => 30,
                LogLevel::Error => 40,
                LogLevel::Critical => 50,
            }),
            A::Lineno => LogValue::Int(self.line.into()),
            A::Message | A::Msg => text(&self.message),
            A::Module => {
                let last = self.name.rsplit("::").next();
                text(
                    self.file()
                        .map_or(last.unwrap_or_default(), |(_, stem)| stem),
                )
            }
            A::Msecs => LogValue::Float(f64::from(self.at.subsec_millisecond())),
            A::Name => text(&self.name),
            A::Pathname => text(self.path.as_deref().unwrap_or(UNKNOWN)),
            A::Process => LogValue::Int(std::process::id().into()),
            A::ProcessName => text("MainProcess"),
            A::RelativeCreated => {
                let since = self.at.duration_since(first());
                LogValue::Float(since.as_secs_f64() * 1000.0)
            }
            A::Thread => LogValue::Int(self.thread),
            A::ThreadName => text(&self.thread_name),
            A::Args | A::ExcInfo | A::ExcText | A::StackInfo | A::TaskName => LogValue::Nothing,
        }
    }

    /// Name of the source file, with and without what it ends with.
    fn file(&self) -> Option<(&str, &str)> {
        let path = Path::new(self.path.as_deref()?);
        Some((path.file_name()?.to_str()?, path.file_stem()?.to_str()?))
    }
}

/// So Python calls what it cannot tell.
const UNKNOWN: &str = "(unknown file)";

fn first() -> Timestamp {
    static FIRST: OnceLock<Timestamp> = OnceLock::new();
    *FIRST.get_or_init(Timestamp::now)
}

/// The first thread is called as Python calls it.
fn thread_name() -> String {
    match std::thread::current().name() {
        None | Some("main") => "MainThread".to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// A time in local time. The time zone is read once, so that no line ever waits for a disk.
fn asctime(at: Timestamp, dateformat: Option<&str>) -> String {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let at = at.to_zoned(ZONE.get_or_init(TimeZone::system).clone());
    let Some(format) = dateformat else {
        let milliseconds = at.millisecond();
        return format!("{},{milliseconds:03}", at.strftime("%Y-%m-%d %H:%M:%S"));
    };
    // As in C, where what it does not know stays as it is.
    let config = Config::new().custom(PosixCustom::new()).lenient(true);
    let format = microseconds(format);
    let time = BrokenDownTime::from(&at).to_string_with_config(&config, &format);
    time.unwrap_or(format)
}

/// `%f` as Python's datetime has it: six digits.
fn microseconds(format: &str) -> String {
    let mut out = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        out.push(c);
        if c == '%' {
            match rest.next() {
                Some('f') => out.push_str("6f"),
                other => out.extend(other),
            }
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use pgherd_wire::patroni::config::{Log, load_environment};
    use std::collections::BTreeMap;

    /// The section `log` of a node that says nothing of it.
    pub(in crate::logging) fn log() -> Log {
        log_of("{}")
    }

    pub(in crate::logging) fn log_of(section: &str) -> Log {
        let text =
            "{scope: s, name: n, restapi: {listen: '127.0.0.1:8008'}, etcd3: {hosts: 'h:1'}, \
             postgresql: {listen: '127.0.0.1:5432', data_dir: /d, authentication: {superuser: \
             {username: u}, replication: {username: r}}}, log: "
                .to_owned();
        let text = text + section + "}";
        let env = BTreeMap::from([("PATRONI_CONFIGURATION".to_owned(), text)]);
        load_environment(&env).unwrap().node.log
    }

    fn record() -> Record {
        Record {
            at: "2026-11-20T23:21:27.566123Z".parse().unwrap(),
            path: Some("crates/agent/src/renewal.rs".into()),
            line: 7,
            ..Record::simple(
                LogLevel::Warning,
                "pgherd_agent::renewal",
                "said".to_owned(),
            )
        }
    }

    fn shown(format: &str) -> String {
        record().line(&log_of(&format!("{{format: '{format}'}}")).form)
    }

    #[test]
    fn attributes_are_named_as_in_python() {
        let pid = std::process::id();
        for (format, expected) in [
            (
                "%(levelname)s:%(name)s: %(message)s",
                "WARNING:pgherd_agent::renewal: said".to_owned(),
            ),
            ("%(levelno)s %(lineno)d %(msecs)03d", "30 7 566".to_owned()),
            ("%(pathname)s", "crates/agent/src/renewal.rs".to_owned()),
            ("%(filename)s %(module)s", "renewal.rs renewal".to_owned()),
            ("%(created).6f", "1795216887.566123".to_owned()),
            ("%(process)d %(processName)s", format!("{pid} MainProcess")),
            ("%(funcName)s", "(unknown function)".to_owned()),
            ("%(taskName)s", "None".to_owned()),
        ] {
            assert_eq!(shown(format), expected + "\n", "{format}");
        }
        let sentence = Record::simple(LogLevel::Critical, "pgherd_guard", "said".to_owned());
        let form = log_of("{format: '%(levelname)s %(module)s %(filename)s'}").form;
        assert_eq!(
            sentence.line(&form),
            "CRITICAL pgherd_guard (unknown file)\n"
        );
    }

    /// Without a zone: these run anywhere.
    #[test]
    fn dates_are_those_of_c() {
        let at: Timestamp = "2026-11-20T23:21:27.056123Z".parse().unwrap();
        let local = at.to_zoned(TimeZone::system());
        let default = asctime(at, None);
        assert_eq!(default.len(), "2026-11-21 00:21:27,056".len());
        assert!(default.ends_with(":27,056"), "{default}");
        for (format, expected) in [
            ("%M:%S.%f %%f", "21:27.056123 %f".to_owned()),
            ("%s", "1795216887".to_owned()),
            (
                "%Y-%m-%dT%H:%M:%S%z",
                local.strftime("%Y-%m-%dT%H:%M:%S%z").to_string(),
            ),
            ("%c", local.strftime("%a %b %e %H:%M:%S %Y").to_string()),
            ("%! %", "%! %".to_owned()),
        ] {
            assert_eq!(asctime(at, Some(format)), expected, "{format}");
        }
    }

    #[test]
    fn a_guard_speaks_in_the_same_form() {
        let form = log_of("{type: json, format: [levelname, message]}").form;
        let told = serde_json::to_string(&form).unwrap();
        let line = crate::logging::guard_line(Some(&told), "WARNING", "fired");
        assert_eq!(
            line,
            "{\"levelname\": \"WARNING\", \"message\": \"fired\"}\n"
        );
        let line = crate::logging::guard_line(None, "INFO", "fired");
        assert!(line.ends_with(" INFO: fired\n"), "{line}");
    }
}
