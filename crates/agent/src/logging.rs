//! Log lines as Patroni writes them: `2026-11-21 00:21:27,566 INFO: message`.

use jiff::tz::TimeZone;
use pgherd_wire::patroni::config::{Log, LogLevel};
use std::fmt;
use std::sync::OnceLock;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

type Form = Box<dyn Layer<Filtered> + Send + Sync>;
type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// Target of an error that Patroni tells as CRITICAL: tracing has no level above ERROR.
pub(crate) const CRITICAL: &str = "pgherd_agent::critical";

/// What a reload of the configuration changes.
struct Handles {
    level: reload::Handle<EnvFilter, Registry>,
    form: reload::Handle<Form, Filtered>,
}

static HANDLES: OnceLock<Handles> = OnceLock::new();

/// Starts logging to standard error. A second start changes nothing.
pub(crate) fn start(log: &Log) {
    let (level_layer, level) = reload::Layer::new(filter(log.level));
    let (form_layer, form) = reload::Layer::new(form(log));
    let started = tracing_subscriber::registry()
        .with(level_layer)
        .with(form_layer)
        .try_init();
    if started.is_ok() {
        HANDLES.set(Handles { level, form }).ok();
    }
}

/// Other settings from the next line on.
pub(crate) fn change(log: &Log) {
    let Some(handles) = HANDLES.get() else {
        return;
    };
    let level = handles.level.reload(filter(log.level));
    if let Err(error) = level.and_then(|()| handles.form.reload(form(log))) {
        tracing::warn!("log: the settings cannot be changed: {error}");
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warn",
        LogLevel::Error | LogLevel::Critical => "error",
    };
    // Libraries speak up only when something is wrong.
    EnvFilter::new(format!(
        "warn,pgherd={level},pgherd_agent={level},pgherd_dcs={level},pgherd_instance={level},pgherd_peer={level},pgherd_guard={level}"
    ))
}

fn form(log: &Log) -> Form {
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(std::io::stderr);
    if log.json {
        layer.json().boxed()
    } else {
        layer.event_format(Lines).boxed()
    }
}

/// Now, as a log line begins: local time with milliseconds. The time zone is read once, so that
/// neither a log line nor the guard's last words ever wait for a disk.
pub fn stamp() -> String {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(TimeZone::system).clone();
    let now = jiff::Timestamp::now().to_zoned(zone);
    format!(
        "{},{:03}",
        now.strftime("%Y-%m-%d %H:%M:%S"),
        now.millisecond()
    )
}

/// Now, as a JSON line has it: UTC with microseconds.
pub fn json_stamp() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = match *event.metadata().level() {
            Level::ERROR if event.metadata().target() == CRITICAL => "CRITICAL",
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            Level::DEBUG | Level::TRACE => "DEBUG",
        };
        write!(writer, "{} {level}: ", stamp())?;
        for span in ctx.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                write!(writer, "{fields} ")?;
            }
        }
        ctx.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
