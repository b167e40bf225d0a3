//! Timeline history files.
use crate::{Error, Instance, Result};
use pgherd_model::{Lsn, Timeline};

/// One line of a history file: `timeline` ended at `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineSwitch {
    /// The timeline that ended.
    pub timeline: Timeline,
    /// Where it was left.
    pub end: Lsn,
    /// Reason, as PostgreSQL wrote it: `no recovery target specified`.
    pub reason: String,
}

/// A whole history file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    /// The timeline whose file it is.
    pub timeline: Timeline,
    /// Its ancestors, oldest first.
    pub switches: Vec<TimelineSwitch>,
    /// The text, unchanged.
    pub text: String,
}

/// A history file of the own pg_wal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalHistory {
    /// Its content.
    pub history: TimelineHistory,
    /// Time of the file, seconds since 1970.
    pub written: std::time::SystemTime,
}

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn install(_i: &Instance, _history: &TimelineHistory) -> Result<()> { Err(Error::Unexpected { what: "install", reason: "not built yet".to_owned() }) }
pub(crate) async fn local(_i: &Instance, _timeline: Timeline) -> Result<Option<LocalHistory>> { Err(Error::Unexpected { what: "local", reason: "not built yet".to_owned() }) }
