//! Where lines come from: events of tracing, and those of libraries that use the crate log.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::filter::{CRITICAL, Filter, level_of};
use super::queue::{Item, Queue};
use super::record::Record;

/// Puts what the filter lets through into the queue.
pub(super) struct Tap {
    filter: Filter,
    queue: &'static Queue,
}

impl Tap {
    pub(super) fn new(filter: Filter, queue: &'static Queue) -> Tap {
        Tap { filter, queue }
    }
}

impl<S: Subscriber> Layer<S> for Tap {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_event() && self.filter.lets(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter.hint())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // Not only a mark of the level, but where nothing is written.
        let name = match metadata.target() {
            CRITICAL => metadata.module_path().unwrap_or(CRITICAL),
            target => target,
        };
        let mut record = Record::simple(level_of(metadata), name, String::new());
        record.path = metadata.file().map(Into::into);
        record.line = metadata.line().unwrap_or(0);
        event.record(&mut Fields(&mut record));
        self.queue.push(Item::Line(record));
    }
}

/// Sentence and fields of an event. Of the crate log, `log.*` say where it came from.
struct Fields<'a>(&'a mut Record);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let record = &mut self.0;
        match field.name() {
            "message" => value.clone_into(&mut record.message),
            "log.target" => record.name = value.to_owned().into(),
            "log.file" => record.path = Some(value.to_owned().into()),
            "log.module_path" => {}
            name => record.fields.push((name.to_owned(), value.to_owned())),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "log.line" => self.0.line = u32::try_from(value).unwrap_or(0),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
