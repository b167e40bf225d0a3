//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn control_file(_i: &Instance) -> Result<ControlFile> { Err(Error::Unexpected { what: "control_file", reason: "not built yet".to_owned() }) }
pub(crate) async fn shutdown_point(_i: &Instance) -> Result<Option<ShutdownPoint>> { Err(Error::Unexpected { what: "shutdown_point", reason: "not built yet".to_owned() }) }
/// x
pub fn parse_control_file(_b: &[u8]) -> std::result::Result<ControlFile, String> { Err(String::new()) }
/// x
pub fn read_control_file(_p: &std::path::Path) -> Result<ControlFile> { Err(Error::NotRunning(PathBuf::new())) }
