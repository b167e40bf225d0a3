//! What makes a world: a number, and the kind of world that is drawn from it.

use std::fmt;
use std::str::FromStr;

/// How hard the world is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A few faults, each of a kind that is there every day.
    #[default]
    Plain,
    /// Many faults one after the other, and among them packets that get through one way only and walreceivers that stand
    /// still.
    Rough,
    /// As a plain one, with the failsafe mode.
    Failsafe,
    /// Half an hour and more in which something goes wrong again and again, and clients that write all the time.
    Long,
    /// As a plain one, beside another cluster: this one becomes its copy, and one of its own again.
    Standby,
}

/// One world, written `23` or, a rough one, `23r`, one with the failsafe mode, `23f`, a long one, `23l`, one beside another
/// cluster, `23s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// What everything is drawn from.
    pub number: u64,
    /// What kind of world.
    pub kind: Kind,
}

impl From<u64> for Seed {
    fn from(number: u64) -> Seed {
        let kind = Kind::Plain;
        Seed { number, kind }
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Seed, String> {
        let kinds = [
            ('r', Kind::Rough),
            ('f', Kind::Failsafe),
            ('l', Kind::Long),
            ('s', Kind::Standby),
        ];
        let marked = kinds
            .iter()
            .find_map(|(mark, kind)| Some((text.strip_suffix(*mark)?, *kind)));
        let (digits, kind) = marked.unwrap_or((text, Kind::Plain));
        let number = digits.parse();
        let number = number.map_err(|_| {
            format!("{text:?} is no seed: a number, or one with `r`, `f`, `l` or `s`")
        })?;
        Ok(Seed { number, kind })
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Plain => "",
            Kind::Rough => "r",
            Kind::Failsafe => "f",
            Kind::Long => "l",
            Kind::Standby => "s",
        };
        write!(f, "{}{kind}", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_as_it_is_written() {
        for text in [
            "0",
            "23",
            "18446744073709551615",
            "23r",
            "23f",
            "23l",
            "23s",
        ] {
            assert_eq!(
                text.parse::<Seed>().map(|it| it.to_string()),
                Ok(text.into())
            );
        }
        for text in ["", "r", "-1", "23x", "2r3", "23rf"] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }
}
