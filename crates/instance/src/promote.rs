//! Promotion, and cutting a standby off its upstream.

use crate::conf::{self, StartAs};
use crate::files::blocking;
use crate::look::{self, Positions};
use crate::{Error, Instance, Result, process};
use pgherd_model::{ControlState, Lsn, Timeline};
use rustix::process::Signal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A standby whose upstream has just died can sleep up to wal_retrieve_retry_interval and notice a
/// promotion late; told again this often it never did.
const TELL_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What was received is replayed before recovery ends, which takes as long as it takes: how far that is, is asked
/// this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

pub(crate) async fn promote(instance: &Instance, timeout: Duration) -> Result<Timeline> {
    let mut replay = Replay::new(timeout);
    let request = Request::new(instance);
    let mut told: Option<Instant> = None;
    let mut last = String::new();
    loop {
        let Some(handle) = process::handle(instance).await else {
            return Err(Error::NotRunning(instance.path().to_owned()));
        };
        let control = instance.control_file().await?;
        // pg_control is cheap; the query only confirms.
        if control.state == ControlState::InProduction {
            let left = replay.deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, look::positions(instance)).await {
                Ok(Ok(Positions {
                    in_recovery: false,
                    timeline,
                    ..
                })) => {
                    conf::set_role(instance, StartAs::Primary);
                    return Ok(timeline);
                }
                Ok(Err(e)) => last = e.to_string(),
                _ => {}
            }
        } else if told.is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            request.make().await?;
            handle.signal(Signal::USR1);
            told = Some(Instant::now());
        }
        replay.look(instance).await;
        if Instant::now() >= replay.deadline {
            return Err(Error::Timeout {
                what: "promotion".to_owned(),
                after: timeout,
                last,
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// How far the replay of a standby is that is being promoted.
struct Replay {
    timeout: Duration,
    /// Nothing may stand still for longer.
    deadline: Instant,
    next: Instant,
    replayed: Lsn,
}

impl Replay {
    fn new(timeout: Duration) -> Replay {
        let now = Instant::now();
        Replay {
            timeout,
            deadline: now + timeout,
            next: now + PROGRESS_EVERY,
            replayed: Lsn(0),
        }
    }

    /// Puts the deadline off as long as the replay gets on.
    async fn look(&mut self, instance: &Instance) {
        if Instant::now() < self.next {
            return;
        }
        let asked = tokio::time::timeout(PROGRESS_EVERY, look::positions(instance)).await;
        self.next = Instant::now() + PROGRESS_EVERY;
        if let Ok(Ok(now)) = asked
            && now.wal.replayed > self.replayed
        {
            self.replayed = now.wal.replayed;
            self.deadline = self.next + self.timeout;
        }
    }
}

/// The file that pg_ctl promote makes, for as long as somebody waits for the promotion. It goes
/// when the wait ends, also when the waiting future is dropped: PostgreSQL obeys it whenever it
/// comes to look, perhaps long after the lock has been given up. One that arrives after the end of
/// recovery stays as well.
struct Request {
    path: PathBuf,
    withdrawn: Arc<AtomicBool>,
}

impl Request {
    fn new(instance: &Instance) -> Request {
        Request {
            path: instance.path().join("promote"),
            withdrawn: Arc::default(),
        }
    }

    async fn make(&self) -> Result<()> {
        let (path, withdrawn) = (self.path.clone(), self.withdrawn.clone());
        blocking("asking for promotion", move || {
            std::fs::write(&path, "").map_err(Error::file("write", &path))?;
            // This thread may outlive the wait. Either we see it, or the removal saw the file.
            if withdrawn.load(Ordering::SeqCst) {
                let _ = std::fs::remove_file(&path);
            }
            Ok(())
        })
        .await
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.withdrawn.store(true, Ordering::SeqCst);
        // Not synced: PostgreSQL removes it at its start, and so do we.
        if let Err(e) = std::fs::remove_file(&self.path)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), error = %e, "the request for promotion stays");
        }
    }
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
