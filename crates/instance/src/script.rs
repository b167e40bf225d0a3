//! Commands of the user's: one way to run them all. As Patroni: words as a shell splits them, in the agent's working
//! directory and environment, what they write goes where the agent's own output goes, and their exit status is
//! the answer. Beyond Patroni: each has a deadline, and its whole process group ends with whoever waits for it.

use crate::program::Run;
use crate::{Error, Instance, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tells which data directory a process fills, also when it has left its group: an agent that comes back finds what the
/// one before it has left at work.
const MARK: &str = "PGHERD_FILLS";

/// A command line of the user's about to be run.
pub(crate) struct Script {
    run: Run,
}

impl Script {
    /// `key`: where it stands in the configuration; `name`: what errors call it.
    pub(crate) fn new(instance: &Instance, key: &str, name: &str, line: &str) -> Result<Script> {
        let words = split_words(line).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| Error::Config {
            key: key.to_owned(),
            reason: "is empty or has an open quote".to_owned(),
        })?;
        let run = Run::new(instance, PathBuf::from(&words[0]))
            .anywhere()
            .own_messages()
            .own_output()
            .named(name)
            .args(&words[1..]);
        Ok(Script { run })
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = String>) -> Script {
        self.run = self.run.args(args);
        self
    }

    /// It makes the data directory.
    pub(crate) fn fills(mut self, instance: &Instance) -> Script {
        self.run = self.run.env(MARK, instance.path());
        self
    }

    pub(crate) fn with(mut self, more: impl FnOnce(Run) -> Run) -> Script {
        self.run = more(self.run);
        self
    }

    /// Runs it to its end.
    pub(crate) async fn run(self, timeout: Duration) -> Result<()> {
        self.run.output(timeout).await.map(|_| ())
    }
}

/// Processes of commands that some agent has run to fill this data directory.
pub(crate) fn left_at_work(data_dir: &Path) -> Vec<u32> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut mark = format!("{MARK}=").into_bytes();
    mark.extend(data_dir.as_os_str().as_bytes());
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|it| it == mark)
        })
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id())
        .collect()
}

/// Splits a command line into words as a POSIX shell does, without expansions. None: open quote.
pub fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command() {
        let words = split_words(r#"/bin/x --a='b c' "d \"e" f\ g ''"#).unwrap();
        assert_eq!(words, ["/bin/x", "--a=b c", "d \"e", "f g", ""]);
        assert_eq!(split_words("a 'b"), None);
    }
}
