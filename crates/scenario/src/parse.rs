//! From text to [`Scenario`]: one statement a line, each read word by word (docs/scenarios.md lists them).
//! Steps, expectations and settings have files of their own. It reads no files and knows nothing about whoever will carry them out.

use std::collections::BTreeMap;

use crate::line::{Malformed, Words, either, without_comment};
use crate::settings::add_setting;
use crate::words::{Line, Scenario, Statement, Step, Who};

/// With what a line may begin.
const STATEMENTS: [&str; 24] = [
    "cluster",
    "seed",
    "only",
    "known",
    "start",
    "let",
    "wait",
    "writers",
    "kill",
    "freeze",
    "thaw",
    "fill",
    "clear",
    "cut",
    "heal",
    "switchover",
    "failover",
    "restart",
    "reinitialize",
    "upgrade",
    "pause",
    "resume",
    "set",
    "expect",
];

/// Words that are no names of members.
const TAKEN: [&str; 14] = [
    "a",
    "the",
    "no",
    "not",
    "primary",
    "replica",
    "other",
    "others",
    "etcd",
    "everybody",
    "writes",
    "timeline",
    "pending",
    "packets",
];

/// Reads a scenario; `file` is its name for errors.
///
/// # Errors
/// The first line that is not understood, with what could have stood there.
pub fn parse(file: &str, text: &str) -> Result<Scenario, Malformed> {
    let mut reader = Reader::new(file);
    let mut last = 0;
    for (index, raw) in text.lines().enumerate() {
        last = index + 1;
        let bare = without_comment(raw);
        if bare.is_empty() {
            reader.comment(raw);
            continue;
        }
        let mut words = Words::new(file, last, bare);
        if let Some(statement) = reader.statement(&mut words)? {
            words.end()?;
            reader.add(last, bare, statement);
        }
    }
    reader.finish(last)
}

/// What has been read so far.
pub(crate) struct Reader {
    scenario: Scenario,
    /// The line that named somebody, by name.
    names: BTreeMap<String, usize>,
    started: bool,
    expects: bool,
}

impl Reader {
    fn new(file: &str) -> Reader {
        Reader {
            scenario: Scenario {
                file: file.into(),
                story: String::new(),
                seed: 1,
                only_real: None,
                known_to_fail: None,
                nodes: 0,
                settings: Vec::new(),
                lines: Vec::new(),
            },
            names: BTreeMap::new(),
            started: false,
            expects: false,
        }
    }

    /// What stands above the first statement tells the story.
    fn comment(&mut self, line: &str) {
        let text = line.trim().trim_start_matches('#').trim();
        if self.scenario.nodes == 0 && !text.is_empty() {
            let story = &mut self.scenario.story;
            if !story.is_empty() {
                story.push(' ');
            }
            story.push_str(text);
        }
    }

    fn add(&mut self, number: usize, text: &str, statement: Statement) {
        self.expects |= matches!(statement, Statement::Expect(_));
        self.scenario.lines.push(Line {
            number,
            text: text.into(),
            statement,
        });
    }

    fn finish(self, last: usize) -> Result<Scenario, Malformed> {
        let missing = [
            (self.scenario.nodes == 0, "`cluster`"),
            (!self.started, "`start`"),
            (!self.expects, "`expect`"),
        ];
        match missing.iter().find(|(missing, _)| *missing) {
            Some((_, what)) => Err(Malformed {
                file: self.scenario.file,
                line: last.max(1),
                expected: (*what).into(),
                found: "the end of the file".into(),
            }),
            None => Ok(self.scenario),
        }
    }

    /// `None`: it belongs to the head.
    fn statement(&mut self, words: &mut Words<'_>) -> Result<Option<Statement>, Malformed> {
        let first = words.peek().unwrap_or("");
        if !STATEMENTS.contains(&first) {
            let expected = format!("a statement ({})", either(&STATEMENTS));
            return Err(words.malformed(&expected));
        }
        if self.scenario.nodes == 0 && first != "cluster" {
            return Err(words.malformed("`cluster` in the first statement"));
        }
        if matches!(first, "cluster" | "seed" | "only" | "known") {
            self.head(words)?;
            words.end()?;
            return Ok(None);
        }
        let begins = first == "start" && !self.started;
        if !begins && !self.started {
            return Err(words.malformed("`start` before anything else happens"));
        }
        words.next("a statement")?;
        let statement = match first {
            "let" => self.name(words)?,
            "expect" => Statement::Expect(self.expectation(words)?),
            "start" if begins => {
                self.started = true;
                Statement::Step(Step::Start)
            }
            other => Statement::Step(self.step(other, words)?),
        };
        Ok(Some(statement))
    }

    fn head(&mut self, words: &mut Words<'_>) -> Result<(), Malformed> {
        if self.started {
            return Err(words.malformed("a statement that may follow `start`"));
        }
        match words.next("a statement")? {
            "cluster" if self.scenario.nodes > 0 => {
                Err(words.other("one cluster", "a second `cluster`"))
            }
            "cluster" => {
                words.exactly("of")?;
                let nodes: Option<usize> = words.peek().and_then(|text| text.parse().ok());
                let nodes = nodes.filter(|nodes| (2..=7).contains(nodes));
                let Some(nodes) = nodes else {
                    return Err(words.malformed("a number of members from 2 to 7"));
                };
                words.next("a number")?;
                self.scenario.nodes = nodes;
                while words.take(",") {
                    add_setting(&mut self.scenario.settings, words)?;
                }
                Ok(())
            }
            "seed" => {
                self.scenario.seed = words.count("a whole number")?;
                Ok(())
            }
            "known" => {
                words.exactly("to fail because")?;
                self.scenario.known_to_fail = Some(words.rest("a reason")?);
                Ok(())
            }
            _ => {
                words.exactly("real because")?;
                self.scenario.only_real = Some(words.rest("a reason")?);
                Ok(())
            }
        }
    }

    /// `let NAME be WHO`.
    fn name(&mut self, words: &mut Words<'_>) -> Result<Statement, Malformed> {
        let word = words.peek().unwrap_or("").to_owned();
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let good = word.starts_with(|letter: char| letter.is_ascii_lowercase())
            && word.chars().all(plain)
            && !TAKEN.contains(&word.as_str())
            && member_number(&word).is_none();
        if !good {
            return Err(words.malformed("a name of small letters"));
        }
        if let Some(line) = self.names.get(&word) {
            let found = format!("`{word}`, which line {line} has given");
            return Err(words.other("a new name", &found));
        }
        words.next("a name")?;
        words.exactly("be")?;
        let who = self.who(words)?;
        self.names.insert(word.clone(), words.number);
        Ok(Statement::Let { name: word, who })
    }

    pub(crate) fn who(&self, words: &mut Words<'_>) -> Result<Who, Malformed> {
        if words.take("the") {
            return the(words);
        }
        if words.take("primary") {
            return Ok(Who::Primary);
        }
        if words.take("a") {
            words.exactly("replica")?;
            return Ok(Who::Replica);
        }
        let word = words.peek().unwrap_or("");
        let number = member_number(word).filter(|number| *number < self.scenario.nodes);
        let named = self.is_name(word);
        let who = match number {
            Some(number) => Who::Node(number),
            None if named => Who::Named(word.to_owned()),
            None => return Err(words.malformed(&self.members())),
        };
        words.next("a member")?;
        Ok(who)
    }

    /// A `let` has given it.
    pub(crate) fn is_name(&self, word: &str) -> bool {
        self.names.contains_key(word)
    }

    pub(crate) fn members(&self) -> String {
        let nodes = self.scenario.nodes;
        format!(
            "a member (`primary`, `a replica`, `the other replica`, `n1` to `n{nodes}` or a name given by `let`)"
        )
    }

    /// `of WHO`.
    pub(crate) fn of(&self, words: &mut Words<'_>) -> Result<Who, Malformed> {
        words.exactly("of")?;
        self.who(words)
    }
}

/// What follows `the`.
pub(crate) fn the(words: &mut Words<'_>) -> Result<Who, Malformed> {
    match words.one_of(&[("primary", true), ("other", false)])? {
        true => Ok(Who::Primary),
        false => {
            words.exactly("replica")?;
            Ok(Who::OtherReplica)
        }
    }
}

/// `n1` is 0.
pub(crate) fn member_number(word: &str) -> Option<usize> {
    let digits = word.strip_prefix('n')?;
    let plain = digits.len() == 1 && digits != "0";
    digits
        .parse::<usize>()
        .ok()
        .filter(|_| plain)
        .map(|number| number - 1)
}
