//! Questions to another PostgreSQL of the cluster.
use crate::{Error, Instance, Result, TimelineHistory};
use pgherd_model::{Lsn, SystemId, Timeline};

/// Another PostgreSQL to copy or rewind from, or to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its database for our own connections; None: `postgresql.database`.
    pub database: Option<String>,
}

/// What another server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFacts {
    /// Its system identifier.
    pub system_id: SystemId,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: Timeline,
    /// Timeline of its last checkpoint: pg_rewind works only once it equals `timeline`.
    pub checkpoint_timeline: Timeline,
    /// Flushed (primary) or replayed (standby).
    pub position: Lsn,
    /// `server_version_num`.
    pub server_version: u32,
}

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn ask(_i: &Instance, _source: &Source) -> Result<RemoteFacts> { Err(Error::Unexpected { what: "ask", reason: "not built yet".to_owned() }) }
pub(crate) async fn history(_i: &Instance, _source: &Source, _timeline: Timeline) -> Result<TimelineHistory> { Err(Error::Unexpected { what: "history", reason: "not built yet".to_owned() }) }
