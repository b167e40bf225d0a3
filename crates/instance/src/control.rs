//! Reads `global/pg_control` of PostgreSQL 13 to 18 without starting a program. The layout is that
//! of `ControlFileData` in PostgreSQL's `catalog/pg_control.h` on 64-bit little-endian machines;
//! the checksum proves that it was understood. Anything else goes to pg_controldata.

use crate::files::blocking;
use crate::program::{self, Run};
use crate::wal::{self, ShutdownPoint};
use crate::{Error, Instance, Result};
use pgherd_model::{ControlFile, ControlState, Lsn, SystemId, Timeline};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Everything that this crate takes from pg_control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlData {
    pub(crate) file: ControlFile,
    /// `wal_level` and the like in force when it was written: a standby needs at least these.
    pub(crate) max_connections: u32,
    pub(crate) max_worker_processes: u32,
    pub(crate) max_wal_senders: u32,
    pub(crate) max_prepared_transactions: u32,
    pub(crate) max_locks_per_transaction: u32,
    /// WAL block and segment size, bytes.
    pub(crate) wal_block: u64,
    pub(crate) wal_segment: u64,
}

/// Places of the checksum: after the nonce, in 13 to 17 and in 18.
const CRC_AT: [usize; 2] = [288, 292];
/// Torn reads (the server writes while we read) are tried again this often.
const READS: usize = 5;

/// CRC-32C (Castagnoli), as PostgreSQL computes it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut i = 0;
        while i < 256 {
            let mut value = i as u32;
            let mut bit = 0;
            while bit < 8 {
                value = (value >> 1) ^ (if value & 1 == 1 { 0x82F6_3B78 } else { 0 });
                bit += 1;
            }
            table[i] = value;
            i += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |crc, byte| {
        (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xFF) as usize]
    })
}

/// Understands the bytes of a pg_control file. Err says why not.
pub(crate) fn parse(bytes: &[u8]) -> std::result::Result<ControlData, String> {
    if bytes.len() < 512 {
        return Err(format!("too short: {} bytes", bytes.len()));
    }
    let u32_at = |at: usize| {
        let mut raw = [0; 4];
        raw.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(raw)
    };
    let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
    let version = u32_at(8);
    if !(1300..1900).contains(&version) {
        return Err(format!(
            "control version {version} is not one of PostgreSQL 13 to 18"
        ));
    }
    if !CRC_AT.iter().any(|at| crc32c(&bytes[..*at]) == u32_at(*at)) {
        return Err("its checksum is wrong".to_owned());
    }
    let state = match u32_at(16) {
        0 | 1 => ControlState::ShutDown,
        2 => ControlState::ShutDownInRecovery,
        3 => ControlState::ShuttingDown,
        4 => ControlState::InCrashRecovery,
        5 => ControlState::InArchiveRecovery,
        6 => ControlState::InProduction,
        other => return Err(format!("unknown cluster state {other}")),
    };
    // DB_STARTUP (0) is what initdb leaves for an instant; no server ever shows it.
    let state = if u32_at(16) == 0 {
        ControlState::StartingUp
    } else {
        state
    };
    Ok(ControlData {
        file: ControlFile {
            system_id: SystemId(u64_at(0)),
            state,
            timeline: Timeline(u32_at(48)),
            checkpoint: Lsn(u64_at(32)),
            min_recovery_end: Lsn(u64_at(136)),
            min_recovery_timeline: Timeline(u32_at(144)),
            rewindable: bytes[176] != 0 || u32_at(252) != 0,
        },
        max_connections: u32_at(180),
        max_worker_processes: u32_at(184),
        max_wal_senders: u32_at(188),
        max_prepared_transactions: u32_at(192),
        max_locks_per_transaction: u32_at(196),
        wal_block: u64::from(u32_at(224)),
        wal_segment: u64::from(u32_at(228)),
    })
}

/// Understands the bytes of a pg_control file of PostgreSQL 13 to 18.
///
/// # Errors
/// Why it could not: version, checksum, length.
pub fn parse_control_file(bytes: &[u8]) -> std::result::Result<ControlFile, String> {
    parse(bytes).map(|data| data.file)
}

/// Reads pg_control of a data directory, without pg_controldata's help. Blocks as a file read does.
///
/// # Errors
/// [`Error::File`], [`Error::ControlFile`].
pub fn read_control_file(data_dir: &Path) -> Result<ControlFile> {
    read(data_dir).map(|data| data.file)
}

/// [`read_control_file`] with everything.
pub(crate) fn read(data_dir: &Path) -> Result<ControlData> {
    let path = data_dir.join("global/pg_control");
    let mut reason = String::new();
    for _ in 0..READS {
        let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
        match parse(&bytes) {
            Ok(data) => return Ok(data),
            Err(why) => reason = why,
        }
    }
    Err(Error::ControlFile { path, reason })
}

/// Reads pg_control; where we do not understand it, pg_controldata may.
pub(crate) async fn control_data(instance: &Instance) -> Result<ControlData> {
    let data_dir = instance.path().to_owned();
    match blocking("reading pg_control", move || read(&data_dir)).await {
        Err(Error::ControlFile { path, reason }) => {
            let tool = match program::path(instance, "pg_controldata") {
                Ok(tool) => tool,
                Err(_) => return Err(Error::ControlFile { path, reason }),
            };
            let run = Run::new(instance, tool)
                .arg("-D")
                .arg(instance.path())
                .env("LC_ALL", "C")
                .env("LANG", "C");
            let output = run.output(Duration::from_secs(10)).await?;
            parse_text(&output).ok_or(Error::ControlFile { path, reason })
        }
        other => other,
    }
}

pub(crate) async fn control_file(instance: &Instance) -> Result<ControlFile> {
    control_data(instance).await.map(|data| data.file)
}

/// Understands what pg_controldata prints with LC_ALL=C.
pub(crate) fn parse_text(text: &str) -> Option<ControlData> {
    if text.contains("WARNING: Calculated CRC checksum") {
        return None;
    }
    let values: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let number = |key: &str| values.get(key)?.parse::<u32>().ok();
    let lsn = |key: &str| values.get(key)?.parse::<Lsn>().ok();
    let state = match *values.get("Database cluster state")? {
        "starting up" => ControlState::StartingUp,
        "shut down" => ControlState::ShutDown,
        "shut down in recovery" => ControlState::ShutDownInRecovery,
        "shutting down" => ControlState::ShuttingDown,
        "in crash recovery" => ControlState::InCrashRecovery,
        "in archive recovery" => ControlState::InArchiveRecovery,
        "in production" => ControlState::InProduction,
        _ => return None,
    };
    Some(ControlData {
        file: ControlFile {
            system_id: SystemId(values.get("Database system identifier")?.parse().ok()?),
            state,
            timeline: Timeline(number("Latest checkpoint's TimeLineID")?),
            checkpoint: lsn("Latest checkpoint location")?,
            min_recovery_end: lsn("Minimum recovery ending location")?,
            min_recovery_timeline: Timeline(number("Min recovery ending loc's timeline")?),
            rewindable: values.get("wal_log_hints setting") == Some(&"on")
                || number("Data page checksum version")? != 0,
        },
        max_connections: number("max_connections setting")?,
        max_worker_processes: number("max_worker_processes setting")?,
        max_wal_senders: number("max_wal_senders setting")?,
        max_prepared_transactions: number("max_prepared_xacts setting")?,
        max_locks_per_transaction: number("max_locks_per_xact setting")?,
        wal_block: u64::from(number("WAL block size")?),
        wal_segment: u64::from(number("Bytes per WAL segment")?),
    })
}

pub(crate) async fn shutdown_point(instance: &Instance) -> Result<Option<ShutdownPoint>> {
    let data = control_data(instance).await?;
    if data.file.state != ControlState::ShutDown {
        return Ok(None);
    }
    let data_dir = instance.path().to_owned();
    blocking("reading the shutdown checkpoint", move || {
        wal::shutdown_checkpoint(&data_dir, &data).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standard_check_text() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        assert!(parse(&[0; 100]).unwrap_err().contains("too short"));
        assert!(parse(&[0; 8192]).unwrap_err().contains("version 0"));
        let mut bytes = vec![0; 8192];
        bytes[8..12].copy_from_slice(&1300u32.to_le_bytes());
        assert!(parse(&bytes).unwrap_err().contains("checksum"));
        let crc = crc32c(&bytes[..288]);
        bytes[288..292].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(parse(&bytes).unwrap().file.state, ControlState::StartingUp);
    }
}
