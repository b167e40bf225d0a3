//! The postmaster as a process: postmaster.pid, pidfd, leftovers.
use crate::Instance;
use pgherd_model::Postmaster;
use rustix::fd::OwnedFd;
use std::sync::Arc;

/// A living postmaster that cannot be mistaken for another process with the same number.
#[derive(Clone, Debug)]
pub struct PostmasterHandle {
    /// Process id.
    pub pid: u32,
    /// Its pidfd.
    pub pidfd: Arc<OwnedFd>,
}

impl PostmasterHandle {
    /// Ends when the process has ended: a zombie counts as ended, and it need not be our child.
    ///
    /// # Errors
    /// When the runtime refuses the descriptor.
    pub async fn wait_exit(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What postmaster.pid says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// No postmaster.
    Down,
    /// Starting, or in crash or archive recovery without being consistent yet.
    Starting,
    /// Accepts connections, read-write.
    Ready,
    /// Accepts read-only connections.
    Standby,
    /// Is being stopped.
    Stopping,
}

/// Cached postmaster.
#[derive(Debug)]
pub(crate) struct Watched {}

#[allow(unused_imports)]
mod stub_use { pub(crate) use crate::*; pub(crate) use pgherd_model::*; pub(crate) use std::path::PathBuf; pub(crate) use std::time::Duration; }
#[allow(unused_imports)]
use stub_use::*;
pub(crate) async fn postmaster(_i: &Instance) -> Postmaster { Postmaster::Down }
pub(crate) async fn handle(_i: &Instance) -> Option<PostmasterHandle> { None }
pub(crate) async fn readiness(_i: &Instance) -> Readiness { Readiness::Down }
