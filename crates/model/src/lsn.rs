//! Positions in the write-ahead log, timelines and system identifiers.

use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A position in the WAL, in bytes. Shown and parsed as PostgreSQL does: `0/404B898`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Bytes from `other` up to `self`; 0 if `other` is ahead.
    pub fn since(self, other: Lsn) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// Not of the form `X/X` in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLsn;

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let (high, low) = text.trim().split_once('/').ok_or(BadLsn)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| BadLsn)?;
        let low = u32::from_str_radix(low, 16).map_err(|_| BadLsn)?;
        Ok(Lsn((u64::from(high) << 32) | u64::from(low)))
    }
}

/// A PostgreSQL timeline, 1 or more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `Database system identifier` of a cluster: every copy of one cluster has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SystemId(pub u64);

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn lsn_reads_and_shows_as_postgresql() {
        for text in ["0/0", "0/404B898", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for bad in ["", "0", "/", "0/G", "1/2/3", "100000000/0"] {
            assert_eq!(bad.parse::<Lsn>(), Err(BadLsn), "{bad}");
        }
    }
}
