//! Log lines as Patroni writes them, to standard error or to `DIR/patroni.log`.
//!
//! Whoever has something to say puts it into a bounded queue and goes on; one thread makes lines of
//! it and writes them. So neither a pipe that nobody reads nor a disk that is full or hangs holds up
//! the loop or the renewal of the lease. What the queue has no room for is counted and told.

mod filter;
mod queue;
mod record;
mod tap;
mod target;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::PanicHookInfo;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use filter::Filter;
use pgherd_wire::patroni::config::{Log, LogForm, LogLevel};
use queue::{Item, Queue};
use record::Record;
use tap::Tap;
use target::Target;
use tracing::Level;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};
use writer::{Output, Writer};

pub(crate) use filter::CRITICAL;

/// How long the end of the process waits for its last lines.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The thread that writes.
const THREAD: &str = "log";

struct Logging {
    queue: &'static Queue,
    tap: reload::Handle<Tap, Registry>,
    form: Mutex<LogForm>,
}

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Settings whose file is open.
pub(crate) struct Prepared {
    log: Log,
    output: Output,
}

/// Opens what a log is to be written to, which may take as long as a disk does.
///
/// # Errors
/// One line with file, line and key: the directory is missing or not ours.
pub(crate) fn prepare(log: &Log) -> Result<Prepared, String> {
    let output = Output {
        form: log.form.clone(),
        target: Target::open(log)?,
        // With DEBUG nothing is left out, as in Patroni.
        deduplicate: log.deduplicate_heartbeat_logs && log.level == LogLevel::Info,
    };
    Ok(Prepared {
        log: log.clone(),
        output,
    })
}

/// Starts logging. A second start changes nothing.
///
/// # Errors
/// As from [`prepare`], or there can be no thread.
pub(crate) fn start(log: &Log) -> Result<(), String> {
    let Prepared { log, output } = prepare(log)?;
    let queue: &'static Queue = Box::leak(Box::new(Queue::new(most(&log))));
    let (tap, handle) = reload::Layer::new(Tap::new(Filter::of(&log), queue));
    if tracing_subscriber::registry().with(tap).try_init().is_err() {
        return Ok(());
    }
    let mut writer = Writer::new(output);
    std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || queue.serve(|item| writer.take(item)))
        .map_err(|error| format!("cannot start the thread that writes the log: {error}"))?;
    let logging = Logging {
        queue,
        tap: handle,
        form: Mutex::new(log.form.clone()),
    };
    LOGGING.set(logging).ok();
    std::panic::set_hook(Box::new(panicked));
    tell_of_names(&log);
    Ok(())
}

/// Other settings from the next line on.
pub(crate) fn change(prepared: Prepared) {
    let Some(logging) = LOGGING.get() else {
        return;
    };
    let Prepared {
        log: settings,
        output,
    } = prepared;
    logging.queue.limit(most(&settings));
    logging.queue.push(Item::Change(Box::new(output)));
    logging
        .form
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone_from(&settings.form);
    let filter = Filter::of(&settings);
    let most = filter.hint();
    if let Err(error) = logging.tap.reload(Tap::new(filter, logging.queue)) {
        tracing::warn!("log: the levels cannot be changed: {error}");
    }
    // Libraries that use the crate log ask there; tracing sets it at the start only.
    log::set_max_level(match most.into_level() {
        Some(Level::DEBUG | Level::TRACE) => log::LevelFilter::Debug,
        Some(Level::INFO) => log::LevelFilter::Info,
        Some(Level::WARN) => log::LevelFilter::Warn,
        Some(Level::ERROR) | None => log::LevelFilter::Error,
    });
    tell_of_names(&settings);
}

/// Waits a short while until everything is written: to be called before the process ends.
pub(crate) fn finish() {
    if let Some(logging) = LOGGING.get() {
        logging.queue.wait_empty(LAST_WORDS);
    }
}

/// Lines that wait to be written, and how many there was no room for so far.
pub(crate) fn backlog() -> (usize, u64) {
    LOGGING.get().map_or((0, 0), |it| it.queue.backlog())
}

/// What a guard has to be told of how lines look now; `None`: the default.
pub(crate) fn form_for_guard() -> Option<String> {
    let form = LOGGING.get()?.form.lock();
    let form = form.unwrap_or_else(PoisonError::into_inner);
    let told = serde_json::to_string(&*form).ok();
    told.filter(|_| *form != LogForm::default())
}

/// A line of the guard's, whose `form` is what the agent told it. Needs no file after its first call:
/// it speaks when the disk may hang.
pub fn guard_line(form: Option<&str>, level: &str, message: &str) -> String {
    let form = form.and_then(|text| serde_json::from_str::<LogForm>(text).ok());
    let level = match level {
        "INFO" => LogLevel::Info,
        "WARNING" => LogLevel::Warning,
        _ => LogLevel::Error,
    };
    let record = Record::simple(level, "pgherd_guard", message.to_owned());
    record.line(&form.unwrap_or_default())
}

fn most(log: &Log) -> usize {
    match log.max_queue_size {
        0 => usize::MAX,
        lines => lines,
    }
}

/// Names in `log.loggers` that no line of ours has. Patroni's and those of Python's libraries are
/// right in a file that once was Patroni's, and nothing to warn of.
fn tell_of_names(log: &Log) {
    for name in log.loggers.keys() {
        if !filter::targets(name).is_empty() {
            continue;
        }
        if name.starts_with("pgherd") {
            tracing::warn!(
                "log.loggers.{name}: nothing has this name: expected one of {} or a module of one, as %(name)s shows them",
                filter::OURS.join(", ")
            );
        } else {
            tracing::debug!("log.loggers.{name}: nothing has this name");
        }
    }
}

/// Says why, and waits until that is written: in a release the process ends with it.
fn panicked(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let mut text = format!("an error in pgherd itself, thread {name}: {info}");
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text += &format!("\n{trace}");
    }
    let record = Record::simple(LogLevel::Critical, module_path!(), text);
    match LOGGING.get() {
        Some(logging) if name != THREAD => {
            logging.queue.push(Item::LastWords(record));
            finish();
        }
        // It cannot wait for itself.
        _ => drop(target::to_stderr(
            record.line(&LogForm::default()).as_bytes(),
        )),
    }
}
