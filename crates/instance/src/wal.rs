//! Places in the WAL files: file names, and the end of the shutdown checkpoint record.

use crate::control::{self, ControlData};
use crate::{Error, Instance, Result, files};
use pgherd_model::{Lsn, Timeline};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The shutdown checkpoint of a cleanly stopped server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownPoint {
    /// Timeline on which it was written.
    pub timeline: Timeline,
    /// Start of the record, as pg_control has it.
    pub start: Lsn,
    /// End of the record: where the next record would begin.
    pub end: Lsn,
}

/// `XLogPageHeaderData` and, on the first page of a file, `XLogLongPageHeaderData`.
const SHORT_HEADER: u64 = 24;
const LONG_HEADER: u64 = 40;
/// `SizeOfXLogRecord`; a shutdown checkpoint is that, two bytes, and the CheckPoint structure.
const RECORD_HEADER: u32 = 24;
/// Resource manager "XLOG" and its XLOG_CHECKPOINT_SHUTDOWN.
const RM_XLOG: u8 = 0;
const CHECKPOINT_SHUTDOWN: u8 = 0;

/// Timeline that a standby without a WAL receiver is on. No function tells it, and pg_control
/// knows it only from the last restartpoint on: the newest timeline of which there is the WAL file
/// that was replayed last.
pub(crate) async fn replay_timeline(
    instance: &Instance,
    known: Timeline,
    replayed: Lsn,
) -> Timeline {
    let data_dir = instance.path().to_owned();
    let newest = files::blocking("reading pg_wal", move || {
        let segment = control::read(&data_dir)?.wal_segment;
        let last = file_name(known, Lsn(replayed.0.saturating_sub(1)), segment.max(1));
        let pg_wal = data_dir.join("pg_wal");
        let entries = std::fs::read_dir(&pg_wal).map_err(Error::file("read", &pg_wal))?;
        let same_place = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let same = name.len() == last.len() && name.get(8..) == last.get(8..);
            u32::from_str_radix(name.get(..8).filter(|_| same)?, 16).ok()
        });
        Ok(same_place.max())
    });
    Timeline(newest.await.ok().flatten().unwrap_or(0).max(known.0))
}

/// Name of the WAL file that holds `lsn`, for a segment size in bytes.
pub(crate) fn file_name(timeline: Timeline, lsn: Lsn, segment: u64) -> String {
    let number = lsn.0 / segment;
    let per_id = 0x1_0000_0000 / segment;
    format!(
        "{:08X}{:08X}{:08X}",
        timeline.0,
        number / per_id,
        number % per_id
    )
}

/// End of a record of `length` bytes that begins at `start`: it jumps over the page headers in
/// between and is rounded up to 8 bytes, as PostgreSQL's reader does.
pub(crate) fn record_end(start: Lsn, length: u32, page: u64, segment: u64) -> Lsn {
    let mut at = start.0;
    let mut left = u64::from(length);
    loop {
        let room = page - at % page;
        if left <= room {
            return Lsn((at + left).next_multiple_of(8));
        }
        left -= room;
        at += room;
        at += if at.is_multiple_of(segment) {
            LONG_HEADER
        } else {
            SHORT_HEADER
        };
    }
}

/// Reads the record that pg_control names as the latest checkpoint.
pub(crate) fn shutdown_checkpoint(data_dir: &Path, control: &ControlData) -> Result<ShutdownPoint> {
    let (start, timeline) = (control.file.checkpoint, control.file.timeline);
    let (page, segment) = (control.wal_block, control.wal_segment);
    let wrong = |reason: &str| Error::Unexpected {
        what: "reading the shutdown checkpoint record",
        reason: format!("{reason} at {start} on timeline {timeline}"),
    };
    if page == 0 || segment == 0 || !segment.is_multiple_of(page) {
        return Err(wrong("pg_control has no usable WAL sizes"));
    }
    let path = data_dir
        .join("pg_wal")
        .join(file_name(timeline, start, segment));
    let file = File::open(&path).map_err(Error::file("open", &path))?;
    let mut header = [0u8; RECORD_HEADER as usize];
    // The length never crosses a page, the rest of the header may: it is checked where it does not.
    let room = (page - start.0 % page).min(u64::from(RECORD_HEADER)) as usize;
    file.read_exact_at(&mut header[..room], start.0 % segment)
        .map_err(Error::file("read", &path))?;
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if !(RECORD_HEADER + 2..1024).contains(&length) {
        return Err(wrong("the record's length is not that of a checkpoint"));
    }
    if room >= 18 && (header[17] != RM_XLOG || header[16] & 0xF0 != CHECKPOINT_SHUTDOWN) {
        return Err(wrong("the record is not a shutdown checkpoint"));
    }
    Ok(ShutdownPoint {
        timeline,
        start,
        end: record_end(start, length, page, segment),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ends() {
        let mb16 = 16 << 20;
        assert_eq!(
            file_name(Timeline(3), Lsn(0x1_FF00_0028), mb16),
            "0000000300000001000000FF"
        );
        let end = |start: u64, length| record_end(Lsn(start), length, 8192, mb16).0;
        assert_eq!(end(0x28, 114), 0x28 + 120);
        // Crosses into the next page, and into the next file.
        assert_eq!(end(8192 - 16, 114), 8192 + 24 + 104);
        assert_eq!(end(mb16 - 8, 114), mb16 + 40 + 112);
        // Ends exactly with its page.
        assert_eq!(end(8192 - 120, 114), 8192);
        assert_eq!(end(8192 - 114 - 6, 120), 8192);
    }
}
