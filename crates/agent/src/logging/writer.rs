//! The thread that makes lines and writes them, in the form and to the place that hold now.

use std::io;

use pgherd_wire::patroni::config::{LogForm, LogLevel};

use super::queue::Item;
use super::record::Record;
use super::target::{Target, to_stderr};

/// Form and place of lines.
pub(super) struct Output {
    pub(super) form: LogForm,
    pub(super) target: Target,
    /// Leaves out signs of life that say the same again.
    pub(super) deduplicate: bool,
}

pub(super) struct Writer {
    output: Output,
    beats: Beats,
    /// Lines that the file did not take, since it last took one.
    refused: u64,
    /// Of all, those that nobody took.
    unheard: u64,
    stderr: fn(&[u8]) -> io::Result<()>,
}

impl Writer {
    pub(super) fn new(output: Output) -> Writer {
        Writer {
            output,
            beats: Beats::default(),
            refused: 0,
            unheard: 0,
            stderr: to_stderr,
        }
    }

    pub(super) fn take(&mut self, item: Item) {
        match item {
            Item::Line(record) => {
                let again = self.beats.again(&record.message);
                if !(again && self.output.deduplicate) {
                    self.write(&record);
                }
            }
            Item::LastWords(record) => self.write(&record),
            Item::Lost(lines) => self.write(&note(
                LogLevel::Warning,
                format!(
                    "the log has lost {lines} records: they came faster than they could be written \
                     (log.max_queue_size)"
                ),
            )),
            Item::Change(output) => {
                self.output = *output;
                self.refused = 0;
            }
        }
    }

    fn write(&mut self, record: &Record) {
        let line = record.line(&self.output.form);
        let Target::File(file) = &mut self.output.target else {
            self.say(&line);
            return;
        };
        let path = file.path.display().to_string();
        match file.write(line.as_bytes()) {
            Ok(trouble) => {
                let refused = std::mem::take(&mut self.refused);
                if refused > 0 {
                    let text = format!(
                        "{refused} lines before the last could not be written to {path}, they went \
                         to standard error"
                    );
                    self.write(&note(LogLevel::Warning, text));
                }
                if let Some(error) = trouble {
                    let text = format!(
                        "log.file_num: no other file can be begun for {path}: {error}; it goes on \
                         growing"
                    );
                    self.write(&note(LogLevel::Error, text));
                }
            }
            Err(error) => {
                self.refused += 1;
                if self.refused == 1 {
                    let text = format!(
                        "log.dir: {path} cannot be written: {error}; until it can, lines go to \
                         standard error"
                    );
                    let first = note(LogLevel::Error, text).line(&self.output.form);
                    self.say(&first);
                }
                self.say(&line);
            }
        }
    }

    /// To standard error.
    fn say(&mut self, line: &str) {
        if (self.stderr)(line.as_bytes()).is_err() {
            self.unheard += 1;
            return;
        }
        let unheard = std::mem::take(&mut self.unheard);
        if unheard > 0 {
            let text = format!("{unheard} lines could not be written to standard error");
            let line = note(LogLevel::Warning, text).line(&self.output.form);
            if (self.stderr)(line.as_bytes()).is_err() {
                self.unheard = unheard;
            }
        }
    }
}

fn note(level: LogLevel, text: String) -> Record {
    Record::simple(level, module_path!(), text)
}

/// The two lines of each `loop_wait`, as long as nothing else is said.
#[derive(Default)]
struct Beats {
    owner: Option<String>,
    action: Option<String>,
}

impl Beats {
    /// Whether this is such a line, and what was said before was the same.
    fn again(&mut self, message: &str) -> bool {
        let last = if message.starts_with("Lock owner: ") {
            if self.owner.as_deref() != Some(message) {
                self.action = None;
            }
            &mut self.owner
        } else if message.starts_with("no action. ") || message.starts_with("PAUSE: no action") {
            &mut self.action
        } else {
            *self = Beats::default();
            return false;
        };
        let again = last.as_deref() == Some(message);
        *last = Some(message.to_owned());
        again
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::log_of;
    use super::super::target::tests::file;
    use super::*;
    use std::cell::RefCell;
    use std::path::Path;

    thread_local! {
        static SAID: RefCell<String> = const { RefCell::new(String::new()) };
    }

    /// A reader of standard error that goes away at the word `closed`.
    fn hear(bytes: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(bytes);
        if text.contains("closed") {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        SAID.with_borrow_mut(|said| said.push_str(&text));
        Ok(())
    }

    fn said() -> String {
        SAID.take()
    }

    fn writer(target: Target, deduplicate: bool) -> Writer {
        let form = log_of("{format: '%(levelname)s %(message)s'}").form;
        let output = Output {
            form,
            target,
            deduplicate,
        };
        Writer {
            stderr: hear,
            ..Writer::new(output)
        }
    }

    fn tell(writer: &mut Writer, lines: &[&str]) {
        for line in lines {
            writer.take(Item::Line(note(LogLevel::Info, (*line).to_owned())));
        }
    }

    #[test]
    fn the_same_signs_of_life_come_once() {
        let script = [
            "Lock owner: a; I am b",
            "no action. I am (b)",
            "Lock owner: a; I am b",
            "no action. I am (b)",
            "something else",
            "something else",
            "Lock owner: a; I am b",
            "no action. I am (b)",
            "Lock owner: c; I am b",
            "no action. I am (b)",
        ];
        tell(&mut writer(Target::Stderr, false), &script);
        assert_eq!(said().lines().count(), 10);
        tell(&mut writer(Target::Stderr, true), &script);
        let expected = [&script[..2], &script[4..]].concat();
        let expected: Vec<String> = expected.iter().map(|it| format!("INFO {it}")).collect();
        assert_eq!(said().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_a_full_disk_refuses_goes_to_standard_error() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("patroni.log");
        std::os::unix::fs::symlink("/dev/full", &name).unwrap();
        let mut writer = writer(Target::File(file(dir.path(), "{}").unwrap()), false);
        tell(&mut writer, &["one", "two"]);
        let path = name.display();
        assert_eq!(
            said(),
            format!(
                "ERROR log.dir: {path} cannot be written: No space left on device (os error 28); \
                 until it can, lines go to standard error\nINFO one\nINFO two\n"
            )
        );
        // There is room again, seen by the open file.
        std::fs::remove_file(&name).unwrap();
        let roomy = file(dir.path(), "{}").unwrap();
        writer.output.target = Target::File(roomy);
        tell(&mut writer, &["three", "four"]);
        assert_eq!(said(), "");
        assert_eq!(
            read(&name),
            format!(
                "INFO three\nWARNING 2 lines before the last could not be written to {path}, they \
                 went to standard error\nINFO four\n"
            )
        );
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_is_missing_is_counted() {
        let mut writer = writer(Target::Stderr, false);
        writer.take(Item::Lost(3));
        tell(&mut writer, &["closed", "closed", "open"]);
        assert_eq!(
            said(),
            "WARNING the log has lost 3 records: they came faster than they could be written \
             (log.max_queue_size)\nINFO open\nWARNING 2 lines could not be written to standard \
             error\n"
        );
    }

    #[test]
    fn another_form_and_place_hold_from_there_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = writer(Target::Stderr, false);
        tell(&mut writer, &["one"]);
        writer.take(Item::Change(Box::new(Output {
            form: log_of("{type: json, format: [message]}").form,
            target: Target::File(file(dir.path(), "{}").unwrap()),
            deduplicate: true,
        })));
        tell(&mut writer, &["two"]);
        assert_eq!(said(), "INFO one\n");
        let text = read(&dir.path().join("patroni.log"));
        assert_eq!(text, "{\"message\": \"two\"}\n");
    }
}
