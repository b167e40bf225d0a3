//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn stop(_i: &Instance, _mode: StopMode, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "stop", reason: "not built yet".to_owned() }) }
pub(crate) async fn reload(_i: &Instance) -> Result<()> { Err(Error::Unexpected { what: "reload", reason: "not built yet".to_owned() }) }
