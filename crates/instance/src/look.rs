//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn look(_i: &Instance) -> Result<Look> { Err(Error::Unexpected { what: "look", reason: "not built yet".to_owned() }) }
pub(crate) async fn positions(_i: &Instance) -> Result<Positions> { Err(Error::Unexpected { what: "positions", reason: "not built yet".to_owned() }) }
pub(crate) async fn probe_commit(_i: &Instance, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "probe_commit", reason: "not built yet".to_owned() }) }
pub(crate) async fn checkpoint(_i: &Instance, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "checkpoint", reason: "not built yet".to_owned() }) }
pub(crate) async fn terminate_backends(_i: &Instance) -> Result<u64> { Err(Error::Unexpected { what: "terminate_backends", reason: "not built yet".to_owned() }) }
