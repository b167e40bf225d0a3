//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn remove(_i: &Instance) -> Result<()> { Err(Error::Unexpected { what: "remove", reason: "not built yet".to_owned() }) }
pub(crate) async fn set_aside(_i: &Instance) -> Result<PathBuf> { Err(Error::Unexpected { what: "set_aside", reason: "not built yet".to_owned() }) }
pub(crate) async fn inspect_async(_i: &Instance) -> DataDir { DataDir::Empty }
