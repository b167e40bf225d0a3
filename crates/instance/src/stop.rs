//! Stopping: signals again and again until no process of the data directory is left. Killing is
//! not done here.

use crate::process::{self, PostmasterHandle};
use crate::{Error, Instance, Result};
use pgherd_model::StopMode;
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

/// How often the signal is repeated, and how often leftovers are looked for.
const SIGNAL_EVERY: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_millis(10);

pub(crate) async fn stop(instance: &Instance, mode: StopMode, timeout: Duration) -> Result<()> {
    let signal = match mode {
        StopMode::Fast => Signal::INT,
        StopMode::Immediate => Signal::QUIT,
        StopMode::Kill => {
            return Err(Error::Unexpected {
                what: "stop",
                reason: "killing is the guard's work".to_owned(),
            });
        }
    };
    let deadline = Instant::now() + timeout;
    while let Some(handle) = process::handle(instance).await {
        handle.signal(signal);
        let turn = (Instant::now() + SIGNAL_EVERY).min(deadline);
        let _ = tokio::time::timeout_at(turn, handle.wait_exit()).await;
        if handle.is_alive() && Instant::now() >= deadline {
            return Err(late(
                format!("postmaster {} still lives", handle.pid),
                timeout,
            ));
        }
    }
    // The postmaster is gone. In order, its children went before it; after a crash they are told
    // to quit, since nothing they do can be of use any more.
    let mut told = Instant::now();
    let mut first = true;
    loop {
        let left = process::leftovers(instance).await?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(late(format!("{} processes are left", left.len()), timeout));
        }
        if first || told.elapsed() >= SIGNAL_EVERY {
            for handle in left.iter().filter_map(|pid| PostmasterHandle::open(*pid)) {
                handle.signal(Signal::QUIT);
            }
            told = Instant::now();
            first = false;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn late(last: String, after: Duration) -> Error {
    Error::Timeout {
        what: "stopping PostgreSQL".to_owned(),
        after,
        last,
    }
}

pub(crate) async fn reload(instance: &Instance) -> Result<()> {
    match process::handle(instance).await {
        Some(handle) => {
            handle.signal(Signal::HUP);
            Ok(())
        }
        None => Err(Error::NotRunning(instance.path().to_owned())),
    }
}
