//! What must be so, and when.

use crate::Span;
use crate::line::{Malformed, Words};
use crate::parse::{Reader, member_number};
use crate::words::{Bound, Condition, Expectation, State, Who};

type MakeBound = fn(Span) -> Bound;

impl Reader {
    pub(crate) fn expectation(&self, words: &mut Words<'_>) -> Result<Expectation, Malformed> {
        let condition = self.condition(words)?;
        let both: [(&str, MakeBound); 2] = [("within", Bound::Within), ("for", Bound::For)];
        let table = match condition {
            Condition::NoRowLost => {
                let bound = Bound::Now;
                return Ok(Expectation { condition, bound });
            }
            Condition::NoGap(_) | Condition::NoWrites => &both[1..],
            Condition::Writes => &both[..1],
            Condition::Primary { .. }
            | Condition::NoPrimary
            | Condition::Is { .. }
            | Condition::Whole
            | Condition::Timeline(_)
            | Condition::PendingRestart { .. } => &both[..],
        };
        let bound = words.one_of(table)?;
        let bound = bound(words.span()?);
        Ok(Expectation { condition, bound })
    }

    fn condition(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        match words.peek() {
            Some("no") => {
                words.next("no")?;
                self.nothing(words)
            }
            Some("a") => {
                words.next("a")?;
                self.one(words)
            }
            Some("writes") => {
                words.next("writes")?;
                Ok(Condition::Writes)
            }
            Some("timeline") => {
                words.next("timeline")?;
                Ok(Condition::Timeline(words.count("a number")?))
            }
            Some("pending") => self.pending(words, true),
            Some(word) if self.is_member(word) => {
                let who = self.who(words)?;
                is(who, words)
            }
            _ => {
                let expected = format!(
                    "a condition (`a primary`, `no primary`, `a whole cluster`, `writes`, `no writes`, `no gap`, `no acknowledged row lost`, `timeline`, `pending restart`) or {}",
                    self.members()
                );
                Err(words.malformed(&expected))
            }
        }
    }

    fn is_member(&self, word: &str) -> bool {
        matches!(word, "primary" | "the") || self.is_name(word) || member_number(word).is_some()
    }

    /// What follows `a`.
    fn one(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        match words.one_of(&[("primary", 0), ("whole", 1), ("replica", 2)])? {
            0 => {
                let mut other_than = None;
                if words.take("other") {
                    words.exactly("than")?;
                    other_than = Some(self.who(words)?);
                }
                Ok(Condition::Primary { other_than })
            }
            1 => {
                words.exactly("cluster")?;
                Ok(Condition::Whole)
            }
            _ => is(Who::Replica, words),
        }
    }

    /// What follows `no`.
    fn nothing(&self, words: &mut Words<'_>) -> Result<Condition, Malformed> {
        let what = [
            ("primary", 0),
            ("writes", 1),
            ("gap", 2),
            ("acknowledged", 3),
            ("pending", 4),
        ];
        if words.peek() == Some("pending") {
            return self.pending(words, false);
        }
        Ok(match words.one_of(&what)? {
            0 => Condition::NoPrimary,
            1 => Condition::NoWrites,
            2 => {
                words.exactly("in writes above")?;
                Condition::NoGap(words.span()?)
            }
            _ => {
                words.exactly("row lost")?;
                Condition::NoRowLost
            }
        })
    }

    fn pending(&self, words: &mut Words<'_>, pending: bool) -> Result<Condition, Malformed> {
        words.exactly("pending restart on")?;
        let who = self.who(words)?;
        Ok(Condition::PendingRestart { who, pending })
    }
}

/// `[not] to be STATE`.
fn is(who: Who, words: &mut Words<'_>) -> Result<Condition, Malformed> {
    let be = !words.take("not");
    words.exactly("to be")?;
    let state = match words.take("a") {
        true => {
            words.exactly("replica")?;
            State::Replica
        }
        // What stands in the second place is for the error only.
        false => words.one_of(&[
            ("primary", State::Primary),
            ("a replica", State::Replica),
            ("read-only", State::ReadOnly),
            ("down", State::Down),
        ])?,
    };
    Ok(Condition::Is { who, be, state })
}
