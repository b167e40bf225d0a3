//! The words of a line.

use pgherd_model::Span;

use super::order::{Expected, Term};
use super::side::MEMBERS;

/// How lists call this member.
pub(crate) fn member_name(member: usize) -> String {
    format!("n{}", member + 1)
}

/// What is left of a line.
pub(crate) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn of(line: &'a str) -> Words<'a> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.reverse();
        Words(words)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn next(&mut self, expected: &str) -> Result<&'a str, String> {
        let end = || format!("it ends where {expected} was expected");
        self.0.pop().ok_or_else(end)
    }

    /// Takes this word, if it is the next one.
    pub(crate) fn is_next(&mut self, word: &str) -> bool {
        let is = self.0.last() == Some(&word);
        if is {
            self.0.pop();
        }
        is
    }

    pub(crate) fn end(&mut self) -> Result<(), String> {
        match self.0.pop() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` was not expected")),
        }
    }

    pub(crate) fn member(&mut self) -> Result<usize, String> {
        let word = self.next("a member")?;
        let member = (0..MEMBERS).find(|member| member_name(*member) == word);
        member.ok_or_else(|| format!("`{word}` is no member (n1 to n{MEMBERS})"))
    }

    pub(crate) fn number(&mut self) -> Result<u64, String> {
        let word = self.next("a number")?;
        word.parse().map_err(|_| format!("`{word}` is no number"))
    }

    pub(crate) fn seconds(&mut self) -> Result<Span, String> {
        self.number().map(Span::from_secs)
    }

    pub(crate) fn expected(&mut self) -> Result<Expected, String> {
        match self.next("seen, stale or absent")? {
            "seen" => Ok(Expected::Seen),
            "stale" => Ok(Expected::Stale),
            "absent" => Ok(Expected::Absent),
            other => Err(format!("`{other}` is none of seen, stale, absent")),
        }
    }

    pub(crate) fn term(&mut self) -> Result<Term, String> {
        match self.next("seen or stale")? {
            "seen" => Ok(Term::Seen),
            "stale" => Ok(Term::Stale),
            other => Err(format!("`{other}` is none of seen, stale")),
        }
    }
}
