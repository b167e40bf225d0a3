//! Places in the WAL files.
use pgherd_model::{Lsn, Timeline};

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
