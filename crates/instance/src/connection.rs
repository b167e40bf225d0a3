//! Kept-alive connections to the local server.
use pgherd_model::{Timeline, WalPositions};

/// Positions of this very moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// As in `Look`.
    pub timeline: Timeline,
    /// Flushed, or received and replayed.
    pub wal: WalPositions,
    /// A WAL receiver is there.
    pub receiving: bool,
}

/// Connections of an instance.
#[derive(Debug, Default)]
pub(crate) struct Connections {}
