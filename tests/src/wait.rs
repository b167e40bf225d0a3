//! Waiting for a condition with a deadline; the only way in which a test passes time.

use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Calls `look` every 20 ms until it answers `Ok`; its `Err` says what was seen instead.
///
/// # Panics
/// After `deadline`, naming `what` and the last thing that was seen.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    match try_wait_for(deadline, look).await {
        Ok(value) => value,
        Err(seen) => panic!("not within {deadline:?}: {what}; last seen: {seen}"),
    }
}

/// Like [`wait_for`], but gives back what was seen last instead of panicking.
pub async fn try_wait_for<T>(
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + deadline;
    let mut seen = "nothing: the first look did not return".to_owned();
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(text)) => seen = text,
            Err(_) => return Err(seen),
        }
        if Instant::now() >= end {
            return Err(seen);
        }
        sleep(Duration::from_millis(20)).await;
    }
}
