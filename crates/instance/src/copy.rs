//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn basebackup(_i: &Instance, _source: &Source, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "basebackup", reason: "not built yet".to_owned() }) }
pub(crate) async fn rewind(_i: &Instance, _source: &Source, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "rewind", reason: "not built yet".to_owned() }) }
pub(crate) async fn crash_recovery(_i: &Instance, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "crash_recovery", reason: "not built yet".to_owned() }) }
