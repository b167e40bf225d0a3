//! Configuration files.
use crate::{Error, Instance, Options, Result, ServerConfig};
use pgherd_model::Upstream;

/// As what the server is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// Without standby.signal: crash recovery in place, then read-write, same timeline.
    Primary,
    /// With standby.signal, streaming from the upstream if there is one.
    Standby(Option<Upstream>),
}

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn configure(_i: &Instance, _server: ServerConfig) -> Result<bool> { Err(Error::Unexpected { what: "configure", reason: "not built yet".to_owned() }) }
pub(crate) fn warnings(_i: &Instance) -> Vec<String> { Vec::new() }
pub(crate) async fn set_synchronous_standby_names(_i: &Instance, _names: Option<String>) -> Result<bool> { Err(Error::Unexpected { what: "set_synchronous_standby_names", reason: "not built yet".to_owned() }) }
pub(crate) async fn set_upstream(_i: &Instance, _upstream: Option<Upstream>) -> Result<bool> { Err(Error::Unexpected { what: "set_upstream", reason: "not built yet".to_owned() }) }
pub(crate) async fn write_dynamic_json(_i: &Instance, _text: String) -> Result<()> { Err(Error::Unexpected { what: "write_dynamic_json", reason: "not built yet".to_owned() }) }
pub(crate) fn check_options(_o: &Options) -> Result<()> { Ok(()) }
