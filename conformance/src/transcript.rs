//! What came of a list, step by step, and where two of them part.

use std::path::{Path, PathBuf};

/// One step: as it is written, and what was seen after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    step: String,
    seen: Vec<String>,
}

/// All steps of one list on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    entries: Vec<Entry>,
}

impl Transcript {
    /// The next step begins.
    pub fn step(&mut self, step: impl Into<String>) {
        self.entries.push(Entry {
            step: step.into(),
            seen: Vec::new(),
        });
    }

    /// Something was seen after it.
    pub fn saw(&mut self, line: impl Into<String>) {
        if let Some(entry) = self.entries.last_mut() {
            entry.seen.push(line.into());
        }
    }

    /// What was seen after this step.
    pub fn seen(&self, step: usize) -> Option<&Vec<String>> {
        self.entries.get(step).map(|entry| &entry.seen)
    }

    /// All that was seen, for whoever looks what a run has exercised.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.entries.iter();
        entries.flat_map(|it| it.seen.iter().map(|seen| (it.step.as_str(), seen.as_str())))
    }

    /// Where the fake's differs from the real one's: the steps up to there and both answers.
    pub fn difference(&self, real: &Transcript) -> Option<String> {
        let longest = self.entries.len().max(real.entries.len());
        let at = (0..longest).find(|at| self.entries.get(*at) != real.entries.get(*at))?;
        let mut text = String::new();
        for entry in self.entries.iter().take(at) {
            text += &format!("    {}\n", entry.step);
        }
        let nothing = Entry::default();
        let pair = [self, real].map(|it| it.entries.get(at).unwrap_or(&nothing));
        text += &format!("--> {}\n", pair[1].step);
        for (who, mine, other) in [("fake", pair[0], pair[1]), ("real", pair[1], pair[0])] {
            let own = mine.seen.iter().filter(|line| !other.seen.contains(line));
            for line in own {
                text += &format!("  {who}: {line}\n");
            }
        }
        if pair[0].seen.iter().all(|line| pair[1].seen.contains(line)) {
            text += &format!("  fake: {:?}\n  real: {:?}\n", pair[0].seen, pair[1].seen);
        }
        Some(text)
    }
}

/// The lists in this directory below `lists`, by name, with their text.
///
/// # Panics
/// When they cannot be read: the crate is not where it was built.
pub fn lists(directory: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("lists")
        .join(directory);
    let entries = std::fs::read_dir(&path);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let files = entries.map(|entry| entry.expect("an entry of the directory").path());
    let mut files: Vec<PathBuf> = files
        .filter(|it| it.extension().is_some_and(|it| it == "txt"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path);
        (
            name,
            text.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        )
    };
    files.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(answers: &[(&str, &str)]) -> Transcript {
        let mut transcript = Transcript::default();
        for (step, seen) in answers {
            transcript.step(*step);
            transcript.saw(*seen);
        }
        transcript
    }

    #[test]
    fn the_first_difference_is_shown_with_the_way_there() {
        let fake = transcript(&[("n1 join", "ok"), ("n1 acquire", "done +1")]);
        assert_eq!(fake.difference(&fake.clone()), None);
        let real = transcript(&[("n1 join", "ok"), ("n1 acquire", "refused")]);
        assert_eq!(
            fake.difference(&real).as_deref(),
            Some("    n1 join\n--> n1 acquire\n  fake: done +1\n  real: refused\n")
        );
        let shorter = transcript(&[("n1 join", "ok")]);
        assert!(fake.difference(&shorter).is_some());
    }

    #[test]
    fn what_is_only_there_twice_is_a_difference_too() {
        let once = transcript(&[("x", "a")]);
        let mut twice = once.clone();
        twice.saw("a");
        let text = once.difference(&twice);
        assert!(text.is_some_and(|text| text.contains("real: [\"a\", \"a\"]")));
    }
}
