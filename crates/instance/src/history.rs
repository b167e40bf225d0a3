//! Timeline history files: who branched off whom, where.

use crate::files::{self, blocking};
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
    let (name, text) = (file_name(history.timeline), history.text.clone());
    blocking("writing a timeline history", move || {
        let path = data_dir.join("pg_wal").join(name);
        files::replace(&path, &text, files::mode_like(&data_dir)).map(|_| ())
    })
    .await
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
}
