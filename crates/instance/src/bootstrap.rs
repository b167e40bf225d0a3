//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn initdb(_i: &Instance, _timeout: Duration) -> Result<SystemId> { Err(Error::Unexpected { what: "initdb", reason: "not built yet".to_owned() }) }
pub(crate) async fn post_bootstrap(_i: &Instance, _timeout: Duration) -> Result<()> { Err(Error::Unexpected { what: "post_bootstrap", reason: "not built yet".to_owned() }) }
