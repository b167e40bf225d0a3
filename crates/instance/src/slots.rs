//! (being written)

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn create(_i: &Instance, _name: &str, _kind: &SlotKind) -> Result<()> { Err(Error::Unexpected { what: "create", reason: "not built yet".to_owned() }) }
pub(crate) async fn drop(_i: &Instance, _name: &str) -> Result<bool> { Err(Error::Unexpected { what: "drop", reason: "not built yet".to_owned() }) }
pub(crate) async fn advance(_i: &Instance, _name: &str, _lsn: Lsn) -> Result<bool> { Err(Error::Unexpected { what: "advance", reason: "not built yet".to_owned() }) }
