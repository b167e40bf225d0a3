//! Timeline history files: who branched off whom, where.
//!
//! PostgreSQL finds the newest timeline by counting upwards from its own until a history file is
//! missing, and a walreceiver fetches every file between its timeline and its upstream's, and fails
//! where one is missing. So pg_wal may have no gap. Where nobody knows the history of a number, a
//! placeholder without ancestors holds its place: it is nobody's child, so that recovery never
//! turns to it.

use crate::files::{self, blocking};
use crate::{Error, Instance, Result};
use pgherd_model::{Lsn, Timeline};
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How a placeholder begins; PostgreSQL skips the line.
const PLACEHOLDER: &str = "# pgherd: this number was used by another member\n";

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

impl TimelineHistory {
    /// Where `timeline` was left on the way to this history's own; None if it is no ancestor.
    pub fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        let found = self.switches.iter().find(|s| s.timeline == timeline);
        found.map(|switch| switch.end)
    }
}

/// A history file of the own pg_wal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalHistory {
    /// Its content.
    pub history: TimelineHistory,
    /// Time of the file.
    pub written: std::time::SystemTime,
}

/// `00000002.history`.
pub(crate) fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

/// Understands a history file: lines of timeline, position, reason, separated by tabs.
pub(crate) fn parse(timeline: Timeline, text: &str) -> Result<TimelineHistory> {
    let mut switches: Vec<TimelineSwitch> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.splitn(3, '\t');
        let mut read = || {
            Some(TimelineSwitch {
                timeline: Timeline(fields.next()?.trim().parse().ok()?),
                end: fields.next()?.trim().parse().ok()?,
                reason: fields.next().unwrap_or_default().trim().to_owned(),
            })
        };
        let switch = read().filter(|s| {
            s.timeline < timeline && switches.last().is_none_or(|l| l.timeline < s.timeline)
        });
        switches.push(switch.ok_or_else(|| Error::Unexpected {
            what: "reading a timeline history",
            reason: format!("{} has a bad line: {line}", file_name(timeline)),
        })?);
    }
    if switches.is_empty() && timeline.0 > 1 {
        return Err(Error::Unexpected {
            what: "reading a timeline history",
            reason: format!("{} is empty", file_name(timeline)),
        });
    }
    Ok(TimelineHistory {
        timeline,
        switches,
        text: text.to_owned(),
    })
}

pub(crate) async fn install(instance: &Instance, history: &TimelineHistory) -> Result<()> {
    if history.timeline.0 <= 1 {
        return Ok(());
    }
    let data_dir = instance.path().to_owned();
    let (timeline, text) = (history.timeline, history.text.clone());
    blocking("writing a timeline history", move || {
        let path = data_dir.join("pg_wal").join(file_name(timeline));
        files::replace(&path, &text, files::mode_like(&data_dir))?;
        fill(&data_dir, Timeline(timeline.0 - 1))
    })
    .await
}

/// The next promotion takes a number above `last`.
pub(crate) async fn reserve(instance: &Instance, last: Timeline) -> Result<()> {
    let data_dir = instance.path().to_owned();
    blocking("reserving timelines", move || fill(&data_dir, last)).await
}

/// Before a start as standby, and when one is told whom to follow: takes away what was reserved for a promotion that did not happen.
/// Recovery begins at the newest timeline that it finds, and a placeholder has no past to begin in.
pub(crate) async fn unreserve(instance: &Instance) -> Result<()> {
    let pg_wal = instance.path().join("pg_wal");
    blocking("looking for reserved timelines", move || {
        let mut files = all(&pg_wal)?;
        files.sort();
        while let Some((_, path)) = files.pop() {
            let text = files::read_text(&path)?;
            // A crash of the machine may have left nothing of it but the name.
            if !text.is_some_and(|text| text.is_empty() || text.starts_with(PLACEHOLDER)) {
                return Ok(());
            }
            files::remove(&path)?;
        }
        Ok(())
    })
    .await
}

/// Puts a placeholder wherever a number up to `last` has no file. There may be thousands: one sync
/// for all of them, since their names are what counts.
pub(crate) fn fill(data_dir: &Path, last: Timeline) -> Result<()> {
    let pg_wal = data_dir.join("pg_wal");
    let files = all(&pg_wal)?.into_iter();
    let present: BTreeSet<u32> = files.map(|(number, _)| number).collect();
    let mode = files::mode_like(data_dir);
    let mut written = None;
    for number in (2..=last.0).filter(|number| !present.contains(number)) {
        let path = pg_wal.join(file_name(Timeline(number)));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&path)
            .and_then(|mut file| file.write_all(PLACEHOLDER.as_bytes()))
            .map_err(Error::file("write", &path))?;
        written = Some(path);
    }
    written.map_or(Ok(()), |path| files::sync_parent(&path))
}

/// History files by number.
fn all(pg_wal: &Path) -> Result<Vec<(u32, PathBuf)>> {
    let entries = std::fs::read_dir(pg_wal).map_err(Error::file("list", pg_wal))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::file("list", pg_wal))?.path();
        let stem = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".history"));
        if let Some(number) = stem.filter(|stem| stem.len() == 8)
            && let Ok(number) = u32::from_str_radix(number, 16)
        {
            found.push((number, path));
        }
    }
    Ok(found)
}

pub(crate) async fn local(instance: &Instance, timeline: Timeline) -> Result<Option<LocalHistory>> {
    if timeline.0 <= 1 {
        return Ok(None);
    }
    let path = instance.path().join("pg_wal").join(file_name(timeline));
    blocking("reading a timeline history", move || {
        let Some(text) = files::read_text(&path)? else {
            return Ok(None);
        };
        let written = std::fs::metadata(&path)
            .and_then(|meta| meta.modified())
            .map_err(Error::file("look at", &path))?;
        Ok(Some(LocalHistory {
            history: parse(timeline, &text)?,
            written,
        }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_postgresql_writes() {
        let text =
            "1\t0/3000158\tno recovery target specified\n\n2\t0/50000A0\tbefore 2026-01-01\n";
        let history = parse(Timeline(3), text).unwrap();
        assert_eq!(history.switches.len(), 2);
        assert_eq!(history.end_of(Timeline(2)), Some(Lsn(0x0500_00A0)));
        assert_eq!(history.end_of(Timeline(4)), None);
        assert_eq!(history.switches[0].reason, "no recovery target specified");
        assert!(parse(Timeline(2), "").is_err());
        assert!(parse(Timeline(2), "2\t0/1\tx").is_err());
        assert!(parse(Timeline(2), "rubbish").is_err());
        assert!(parse(Timeline(1), "").unwrap().switches.is_empty());
    }

    #[test]
    fn gaps_are_filled_and_what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pg_wal = dir.path().join("pg_wal");
        std::fs::create_dir(&pg_wal).unwrap();
        let real = pg_wal.join("0000000B.history");
        std::fs::write(&real, "1\t0/3000158\tx\n").unwrap();
        std::fs::write(pg_wal.join("000000010000000000000001"), "").unwrap();
        fill(dir.path(), Timeline(12)).unwrap();
        let mut numbers: Vec<u32> = all(&pg_wal).unwrap().iter().map(|(n, _)| *n).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (2..=12).collect::<Vec<_>>());
        assert_eq!(std::fs::read_to_string(real).unwrap(), "1\t0/3000158\tx\n");
    }
}
