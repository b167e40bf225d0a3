//! Times as people write them and `date` prints them, beside ISO 8601: months and zones by name, am and pm,
//! in any order. Only what has one meaning: no `01/02/2030`, no year of two digits, no `UTC+3` (which
//! Patroni's parser takes for `-03:00`), no date that is left out.

use jiff::civil::DateTime;
use jiff::tz::Offset;

/// A date, a time and an offset; midnight where no time is given. No offset also for a zone that is named
/// by a word other than UTC's: nobody knows which one is meant.
pub(super) fn read(text: &str) -> Option<(DateTime, Option<Offset>)> {
    let tokens = split(text)?;
    let mut moment = Moment::default();
    let mut rest = tokens.as_slice();
    while !rest.is_empty() {
        rest = moment.take(rest)?;
    }
    let Moment {
        year,
        month,
        day,
        clock,
        zone,
    } = moment;
    let (hour, minute, second, nanos) = clock.unwrap_or_default();
    let local = DateTime::new(year?, month?, day?, hour, minute, second, nanos).ok()?;
    Some((local, zone.flatten()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// Letters.
    Word(&'a str),
    /// Digits, perhaps with points between them.
    Number(&'a str),
    /// Digits with colons between them.
    Clock(&'a str),
    /// `+`, `-` or `/`.
    Mark(char),
    Space,
}

fn split(text: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = |wanted: fn(char) -> bool| rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        let (token, length) = match first {
            'a'..='z' | 'A'..='Z' => {
                let length = run(|c| c.is_ascii_alphabetic());
                (Token::Word(&rest[..length]), length)
            }
            '0'..='9' => {
                let length = run(|c| c.is_ascii_digit() || matches!(c, ':' | '.'));
                // A point at its end ends a sentence.
                let digits = rest[..length].trim_end_matches('.');
                match digits.contains(':') {
                    true => (Token::Clock(digits), digits.len()),
                    false => (Token::Number(digits), digits.len()),
                }
            }
            '+' | '-' | '/' => (Token::Mark(first), 1),
            ' ' | '\t' | ',' | ';' | '.' => (Token::Space, 1),
            _ => return None,
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

/// What has been read so far; each part at most once.
#[derive(Default)]
struct Moment {
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    /// Hour, minute, second, nanosecond.
    clock: Option<(i8, i8, i8, i32)>,
    /// `Some(None)`: one that is not known.
    zone: Option<Option<Offset>>,
}

impl Moment {
    /// Reads what comes next; what is left over. `None`: it means nothing, or more than one thing.
    fn take<'a, 't>(&mut self, tokens: &'a [Token<'t>]) -> Option<&'a [Token<'t>]> {
        use Token::{Clock, Mark, Number, Space, Word};
        match tokens {
            [Space, rest @ ..] => Some(rest),
            [
                first @ (Number(_) | Word(_)),
                Mark(mark @ ('-' | '/')),
                second,
                Mark(again),
                third,
                rest @ ..,
            ] if mark == again => self.date([*first, *second, *third]).map(|()| rest),
            [
                Mark(sign @ ('+' | '-')),
                Number(digits) | Clock(digits),
                rest @ ..,
            ] if self.clock.is_some() => {
                let offset = offset(*sign, digits)?;
                put(&mut self.zone, Some(offset)).map(|()| rest)
            }
            [Clock(digits), rest @ ..] => put(&mut self.clock, clock(digits)?).map(|()| rest),
            [Number(hour), Word(half), rest @ ..]
            | [Number(hour), Space, Word(half), rest @ ..]
                if self.clock.is_none()
                    && matches!(half.to_ascii_lowercase().as_str(), "am" | "pm") =>
            {
                self.clock = Some((hour.parse().ok()?, 0, 0, 0));
                self.half(half).map(|()| rest)
            }
            [Word(_), Mark('+' | '-'), ..] if self.clock.is_some() => None,
            [Word(word), rest @ ..] => self.word(word).map(|()| rest),
            [Number(digits), rest @ ..] => self.number(digits).map(|()| rest),
            [Mark(_), ..] | [] => None,
        }
    }

    /// `2030-01-31`, `31-Jan-2030`, and with slashes.
    fn date(&mut self, parts: [Token<'_>; 3]) -> Option<()> {
        let number = |token| match token {
            Token::Number(digits) => Some(digits),
            Token::Word(_) | Token::Clock(_) | Token::Mark(_) | Token::Space => None,
        };
        match parts.map(number) {
            [Some(year), Some(month), Some(day)] if year.len() == 4 => {
                self.ymd(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
            }
            [Some(a), Some(b), Some(year)] if year.len() == 4 => {
                let (a, b): (i8, i8) = (a.parse().ok()?, b.parse().ok()?);
                let (month, day) = match (a > 12, b > 12) {
                    (true, false) => (b, a),
                    (false, true) => (a, b),
                    _ if a == b => (a, b),
                    _ => return None,
                };
                self.ymd(year.parse().ok()?, month, day)
            }
            [Some(_), Some(_), Some(_)] => None,
            _ => parts.into_iter().try_for_each(|part| match part {
                Token::Number(digits) => self.number(digits),
                Token::Word(word) => put(&mut self.month, month(word)?),
                Token::Clock(_) | Token::Mark(_) | Token::Space => None,
            }),
        }
    }

    fn ymd(&mut self, year: i16, month: i8, day: i8) -> Option<()> {
        put(&mut self.year, year)?;
        put(&mut self.month, month)?;
        put(&mut self.day, day)
    }

    fn number(&mut self, digits: &str) -> Option<()> {
        if digits.contains('.') {
            let mut parts = digits.split('.').map(Token::Number);
            let parts = [parts.next()?, parts.next()?, parts.next()?];
            return self.date(parts);
        }
        match digits.len() {
            1 | 2 => put(&mut self.day, digits.parse().ok()?),
            4 => put(&mut self.year, digits.parse().ok()?),
            8 => self.ymd(
                digits[..4].parse().ok()?,
                digits[4..6].parse().ok()?,
                digits[6..].parse().ok()?,
            ),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let lower = word.to_ascii_lowercase();
        if let Some(month) = month(word) {
            return put(&mut self.month, month);
        }
        match lower.as_str() {
            "am" | "pm" => self.half(word),
            "utc" | "gmt" | "z" if self.clock.is_some() => put(&mut self.zone, Some(Offset::UTC)),
            "t" | "at" | "on" | "of" | "st" | "nd" | "rd" | "th" => Some(()),
            day if is_weekday(day) => Some(()),
            _ if self.clock.is_some()
                && word.len() <= 5
                && word.chars().all(|c| c.is_ascii_uppercase()) =>
            {
                put(&mut self.zone, None)
            }
            _ => None,
        }
    }

    fn half(&mut self, word: &str) -> Option<()> {
        let (hour, ..) = self.clock.as_mut()?;
        *hour = match (*hour, word.eq_ignore_ascii_case("pm")) {
            (12, false) => 0,
            (1..=11, true) => *hour + 12,
            (1..=12, _) => *hour,
            _ => return None,
        };
        Some(())
    }
}

fn put<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// By its name, or the first three letters of it.
fn month(word: &str) -> Option<i8> {
    let word = word.to_ascii_lowercase();
    let is_it = |name: &&str| {
        word == **name || word == name[..3] || (word == "sept" && name.starts_with("sept"))
    };
    let at = MONTHS.iter().position(is_it)?;
    i8::try_from(at + 1).ok()
}

fn is_weekday(word: &str) -> bool {
    let days = [
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    days.iter().any(|day| word == *day || word == &day[..3])
}

/// `10:00`, `10:00:00`, `10:00:00.5`.
fn clock(digits: &str) -> Option<(i8, i8, i8, i32)> {
    let mut parts = digits.split(':');
    let (hour, minute) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let second = parts.next().unwrap_or("0");
    let (second, fraction) = second.split_once('.').unwrap_or((second, ""));
    if parts.next().is_some() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some((hour, minute, second.parse().ok()?, nanos))
}

/// `01`, `0100`, `01:00`.
fn offset(sign: char, digits: &str) -> Option<Offset> {
    let (hours, minutes) = match (digits.split_once(':'), digits.len()) {
        (Some(parts), 5) => parts,
        (None, 1 | 2) => (digits, "0"),
        (None, 4) => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    let seconds = if sign == '-' { -seconds } else { seconds };
    Offset::from_seconds(seconds).ok().filter(|_| minutes < 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Option<String> {
        let (local, offset) = read(text)?;
        let offset = offset.map_or("?".to_owned(), |offset| offset.to_string());
        Some(format!("{local}{offset}"))
    }

    #[test]
    fn what_has_one_meaning_is_read() {
        for (text, expected) in [
            ("Tue Jan  1 10:00:00 UTC 2030", "2030-01-01T10:00:00+00"),
            ("Tue Jan  1 12:30:00 AM UTC 2030", "2030-01-01T00:30:00+00"),
            ("Tue Jan 1 10:00:00 2030 +0100", "2030-01-01T10:00:00+01"),
            ("1 January 2030 10:00 -03:30", "2030-01-01T10:00:00-03:30"),
            ("January 1st, 2030 at 10 pm GMT", "2030-01-01T22:00:00+00"),
            ("Sept. 3 2030 10:00Z", "2030-09-03T10:00:00+00"),
            ("10:00 UTC, 31-Jan-2030", "2030-01-31T10:00:00+00"),
            ("2030-Jan-31 10:00:00.25+01", "2030-01-31T10:00:00.25+01"),
            ("2030/01/31 10:00 UTC", "2030-01-31T10:00:00+00"),
            ("2030.01.31 10:00 UTC", "2030-01-31T10:00:00+00"),
            ("31.01.2030 10:00 UTC", "2030-01-31T10:00:00+00"),
            ("01/31/2030 10:00 UTC", "2030-01-31T10:00:00+00"),
            ("05/05/2030 10pm UTC", "2030-05-05T22:00:00+00"),
            ("20300131 10:00 UTC", "2030-01-31T10:00:00+00"),
            // No zone, or one that is anybody's guess.
            ("2030-01-31 10:00 CET", "2030-01-31T10:00:00?"),
            ("2030-01-31T10:00:00 EST", "2030-01-31T10:00:00?"),
            ("31 Jan 2030 10:00", "2030-01-31T10:00:00?"),
            ("31 Jan 2030", "2030-01-31T00:00:00?"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn the_rest_is_not_guessed_at() {
        for text in [
            "01/02/2030 10:00 UTC",
            "01.02.2030 10:00 UTC",
            "1 Jan 30 10:00 UTC",
            "1 Jan 2030 10:00 UTC+3",
            "1 Jan 2030 10:00 EST-5",
            "10:00 UTC",
            "Jan 2030",
            "1 Jan 2030 10:00 11:00 UTC",
            "1 Jan 2030 10:00 UTC CET",
            "1 Jan 2030 13 pm UTC",
            "30 Feb 2030 10:00 UTC",
            "1 Jan 2030 25:00 UTC",
            "1 Jan 2030 10:00 +99:00",
            "1 Jan 2030 10:00 tomorrow",
            "1 Jan 2030 pm",
            "1 Jan 2030 10:00:00:00",
            "1 J\u{e4}n 2030",
            "1-2",
            "--",
        ] {
            assert_eq!(shown(text), None, "{text}");
        }
    }
}
