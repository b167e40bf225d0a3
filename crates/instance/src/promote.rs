//! Promotion, and cutting a standby off its upstream.

use crate::conf::{self, StartAs};
use crate::connection::Positions;
use crate::files::blocking;
use crate::{Error, Instance, Result, files, look, process};
use pgherd_model::{ControlState, Lsn, Timeline};
use rustix::process::Signal;
use std::time::Duration;
use tokio::time::Instant;

/// A standby whose upstream has just died can sleep up to wal_retrieve_retry_interval and notice a
/// promotion late; told again this often it never did.
const TELL_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(crate) async fn promote(instance: &Instance, timeout: Duration) -> Result<Timeline> {
    let deadline = Instant::now() + timeout;
    let mut told: Option<Instant> = None;
    let mut last = String::new();
    loop {
        let Some(handle) = process::handle(instance).await else {
            return Err(Error::NotRunning(instance.path().to_owned()));
        };
        let control = instance.control_file().await?;
        // pg_control is cheap; the query only confirms.
        if control.state == ControlState::InProduction {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, look::positions(instance)).await {
                Ok(Ok(Positions {
                    in_recovery: false,
                    timeline,
                    ..
                })) => {
                    forget_request(instance).await;
                    conf::set_role(instance, StartAs::Primary);
                    return Ok(timeline);
                }
                Ok(Err(e)) => last = e.to_string(),
                _ => {}
            }
        } else if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            ask(instance).await?;
            handle.signal(Signal::USR1);
            told = Some(Instant::now());
        }
        if Instant::now() >= deadline {
            // Otherwise it might promote long after we have given up the lock.
            forget_request(instance).await;
            return Err(Error::Timeout {
                what: "promotion".to_owned(),
                after: timeout,
                last,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The file that pg_ctl promote makes.
async fn ask(instance: &Instance) -> Result<()> {
    let path = instance.path().join("promote");
    blocking("asking for promotion", move || {
        std::fs::write(&path, "").map_err(Error::file("write", &path))
    })
    .await
}

/// Takes it away: one that arrives after the end of recovery stays, and would promote the next standby.
async fn forget_request(instance: &Instance) {
    let path = instance.path().join("promote");
    let _ = blocking("removing the request for promotion", move || {
        files::remove(&path)
    })
    .await;
}

pub(crate) async fn stop_receiving(instance: &Instance, timeout: Duration) -> Result<Lsn> {
    let deadline = Instant::now() + timeout;
    conf::set_upstream(instance, None).await?;
    loop {
        let now = look::positions(instance).await?;
        if !now.receiving {
            return Ok(now.wal.position());
        }
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                what: "the end of the WAL receiver".to_owned(),
                after: timeout,
                last: format!("received up to {}", now.wal.received),
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
