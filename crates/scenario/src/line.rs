//! The words of one line, taken one after the other; whoever wants another one says what was expected.

use std::fmt;
use std::iter::Peekable;
use std::vec::IntoIter;

use crate::Span;

/// A scenario that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The file.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// What could have stood there.
    pub expected: String,
    /// What does.
    pub found: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Malformed {
            file,
            line,
            expected,
            found,
        } = self;
        write!(f, "{file}:{line}: expected {expected}, found {found}")
    }
}

impl std::error::Error for Malformed {}

/// What is left of a line.
pub(super) struct Words<'a> {
    file: &'a str,
    pub(super) number: usize,
    left: Peekable<IntoIter<&'a str>>,
}

/// The line without its comment.
pub(super) fn without_comment(line: &str) -> &str {
    let begins = |at: &usize| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    let at = line.match_indices('#').map(|(at, _)| at).find(begins);
    line[..at.unwrap_or(line.len())].trim()
}

impl<'a> Words<'a> {
    pub(super) fn new(file: &'a str, number: usize, text: &'a str) -> Words<'a> {
        let mut words = Vec::new();
        for word in text.split_whitespace() {
            let bare = word.trim_end_matches(',');
            if !bare.is_empty() {
                words.push(bare);
            }
            words.extend((bare.len()..word.len()).map(|_| ","));
        }
        Words {
            file,
            number,
            left: words.into_iter().peekable(),
        }
    }

    pub(super) fn peek(&mut self) -> Option<&'a str> {
        self.left.peek().copied()
    }

    /// Takes the next word if it is this one.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let same = self.peek() == Some(word);
        if same {
            self.left.next();
        }
        same
    }

    pub(super) fn next(&mut self, expected: &str) -> Result<&'a str, Malformed> {
        match self.peek() {
            Some(word) => {
                self.left.next();
                Ok(word)
            }
            None => Err(self.malformed(expected)),
        }
    }

    /// These words and no other ones.
    pub(super) fn exactly(&mut self, words: &str) -> Result<(), Malformed> {
        for word in words.split(' ') {
            if !self.take(word) {
                return Err(self.malformed(&format!("`{word}`")));
            }
        }
        Ok(())
    }

    /// What the next word means, by a table.
    pub(super) fn one_of<T: Copy>(&mut self, table: &[(&str, T)]) -> Result<T, Malformed> {
        let word = self.peek();
        let found = table.iter().find(|(name, _)| Some(*name) == word);
        match found {
            Some((_, meaning)) => {
                self.left.next();
                Ok(*meaning)
            }
            None => {
                let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
                Err(self.malformed(&either(&names)))
            }
        }
    }

    /// `500ms`, `7s`, `2m`.
    pub(super) fn span(&mut self) -> Result<Span, Malformed> {
        let text = self.peek().unwrap_or("");
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => 0,
        };
        let number: Option<u64> = digits.parse().ok().filter(|_| unit > 0);
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(millis) => {
                self.left.next();
                Ok(Span::from_millis(millis))
            }
            None => Err(self.malformed("a time such as 500ms, 7s or 2m")),
        }
    }

    /// A time in whole seconds.
    pub(super) fn seconds(&mut self) -> Result<Span, Malformed> {
        let text = self.peek().unwrap_or("");
        let whole = text.ends_with('s') && !text.ends_with("ms");
        match whole {
            true => self.span(),
            false => Err(self.malformed("whole seconds such as 5s")),
        }
    }

    /// `64kB`, `1MB`.
    pub(super) fn bytes(&mut self) -> Result<u64, Malformed> {
        let text = self.peek().unwrap_or("");
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "kB" => 1 << 10,
            "MB" => 1 << 20,
            _ => 0_u64,
        };
        let number: Option<u64> = digits.parse().ok().filter(|_| unit > 0);
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(bytes) => {
                self.left.next();
                Ok(bytes)
            }
            None => Err(self.malformed("a size such as 64kB or 1MB")),
        }
    }

    pub(super) fn count<T: std::str::FromStr>(&mut self, expected: &str) -> Result<T, Malformed> {
        let number = self.peek().and_then(|text| text.parse().ok());
        match number {
            Some(number) => {
                self.left.next();
                Ok(number)
            }
            None => Err(self.malformed(expected)),
        }
    }

    /// All that is left, as one text.
    pub(super) fn rest(&mut self, expected: &str) -> Result<String, Malformed> {
        let mut text = self.next(expected)?.to_owned();
        for word in self.left.by_ref() {
            if word != "," {
                text.push(' ');
            }
            text.push_str(word);
        }
        Ok(text)
    }

    /// Nothing is left.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("the end of the line")),
        }
    }

    /// Something else stands here, or nothing.
    pub(super) fn malformed(&mut self, expected: &str) -> Malformed {
        let found = self.peek().map(|word| format!("`{word}`"));
        self.other(expected, &found.unwrap_or("the end of the line".into()))
    }

    /// Something is wrong with what was taken already.
    pub(super) fn other(&self, expected: &str, found: &str) -> Malformed {
        Malformed {
            file: self.file.into(),
            line: self.number,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

/// `a`, `b` or `c`.
pub(super) fn either(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}
