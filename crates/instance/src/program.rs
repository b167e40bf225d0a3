//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn major_version(_i: &Instance) -> Result<u32> { Err(Error::Unexpected { what: "major_version", reason: "not built yet".to_owned() }) }
pub(crate) async fn check(_i: &Instance, _rewind: bool) -> Result<()> { Err(Error::Unexpected { what: "check", reason: "not built yet".to_owned() }) }
