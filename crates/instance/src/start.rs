//! Starting.
use crate::*;

/// A postmaster's command line and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartCommand {
    /// Path of `postgres`.
    pub program: std::path::PathBuf,
    /// Its arguments, without argv[0].
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// Where stdout and stderr go; None: inherited.
    pub log: Option<std::path::PathBuf>,
}

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn start(_i: &Instance, _role: &StartAs, _timeout: Duration) -> Result<PostmasterHandle> { Err(Error::Unexpected { what: "start", reason: "not built yet".to_owned() }) }
pub(crate) async fn prepare(_i: &Instance, _role: &StartAs) -> Result<StartCommand> { Err(Error::Unexpected { what: "prepare", reason: "not built yet".to_owned() }) }
pub(crate) async fn wait_started(_i: &Instance, _timeout: Duration) -> Result<PostmasterHandle> { Err(Error::Unexpected { what: "wait_started", reason: "not built yet".to_owned() }) }
pub(crate) async fn wait_ready(_i: &Instance, _timeout: Duration) -> Result<Readiness> { Err(Error::Unexpected { what: "wait_ready", reason: "not built yet".to_owned() }) }
