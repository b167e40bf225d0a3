//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn promote(_i: &Instance, _timeout: Duration) -> Result<Timeline> { Err(Error::Unexpected { what: "promote", reason: "not built yet".to_owned() }) }
pub(crate) async fn stop_receiving(_i: &Instance, _timeout: Duration) -> Result<Lsn> { Err(Error::Unexpected { what: "stop_receiving", reason: "not built yet".to_owned() }) }
