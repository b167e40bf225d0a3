//! What the service manager is told (sd_notify(3)): that the agent is ready, reads its configuration
//! again, ends, is alive, and what it does. Without `NOTIFY_SOCKET` nobody is told anything.
//!
//! A thread of its own speaks, because its socket has no deadline: a service manager that hangs must
//! hold up neither the loop nor a renewal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::clock;

/// Messages that wait for a slow service manager; more are dropped.
const WAITING: usize = 16;

/// The loop has not begun.
const NOT_YET: u64 = u64::MAX;

/// Something to tell.
enum Message {
    Ready,
    Reloading,
    Stopping,
    Alive,
    Status(String),
}

/// The service manager, if there is one.
#[derive(Clone)]
pub(crate) struct Service {
    thread: Option<SyncSender<Message>>,
    /// When the loop has last looked.
    looked: Arc<AtomicU64>,
}

impl Service {
    /// Finds it in the environment.
    pub(crate) fn start() -> Service {
        let looked = Arc::new(AtomicU64::new(NOT_YET));
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            let thread = None;
            return Service { thread, looked };
        }
        let (thread, messages) = sync_channel(WAITING);
        std::thread::spawn(move || {
            for message in messages {
                if let Err(error) = send(&message) {
                    tracing::debug!("the service manager was not told: {error}");
                }
            }
        });
        let thread = Some(thread);
        Service { thread, looked }
    }

    /// The REST API answers: the start is over, also when etcd is still being waited for.
    pub(crate) fn is_up(&self) {
        self.ready();
        self.status("waiting for etcd");
        self.feed_watchdog();
    }

    /// What was begun is over: the start, or a reload.
    pub(crate) fn ready(&self) {
        self.tell(Message::Ready);
    }

    /// The configuration is read again, until [`Service::ready`].
    pub(crate) fn reloading(&self) {
        self.tell(Message::Reloading);
    }

    /// The agent was told to end.
    pub(crate) fn stopping(&self) {
        self.tell(Message::Stopping);
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&self, line: &str) {
        if self.thread.is_some() {
            self.tell(Message::Status(line.replace('\n', " ")));
        }
    }

    /// The loop looks.
    pub(crate) fn looks(&self) {
        self.looked.store(clock::now().0, Ordering::Relaxed);
    }

    /// Feeds the watchdog (`WatchdogSec`), as long as this runtime turns and the loop looks.
    fn feed_watchdog(&self) {
        let Some(limit) = sd_notify::watchdog_enabled().filter(|_| self.thread.is_some()) else {
            return;
        };
        tokio::spawn(self.clone().feed(limit));
    }

    /// A loop that has looked since a third of the limit lives: one that hangs is found after the limit and a third of
    /// it at most, not after twice the limit.
    async fn feed(self, limit: Duration) {
        let third = limit / 3;
        loop {
            if self.has_looked_since(third) {
                self.tell(Message::Alive);
            }
            // Twice per third, so that what was not fed for a busy moment is fed soon after it.
            tokio::time::sleep(third / 2).await;
        }
    }

    /// Before the loop begins nothing can be said against it.
    fn has_looked_since(&self, before: Duration) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        looked == NOT_YET || clock::now().since(pgherd_model::Time(looked)) <= before
    }

    fn tell(&self, message: Message) {
        if let Some(thread) = &self.thread {
            // Full: the service manager does not read, and will draw its own conclusions.
            thread.try_send(message).ok();
        }
    }
}

fn send(message: &Message) -> std::io::Result<()> {
    match message {
        Message::Ready => sd_notify::notify(&[NotifyState::Ready]),
        // The time tells a reload that was asked for from one that is over.
        Message::Reloading => {
            let now = NotifyState::monotonic_usec_now()?;
            sd_notify::notify(&[NotifyState::Reloading, now])
        }
        Message::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        Message::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Message::Status(line) => sd_notify::notify(&[NotifyState::Status(line)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;
    use std::time::Instant;

    /// Until nothing has been told for `limit`.
    async fn silence(messages: &Receiver<Message>, limit: Duration) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut last = Instant::now();
        while last.elapsed() < limit {
            assert!(Instant::now() < end, "fed for ever");
            if messages.try_recv().is_ok() {
                last = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn the_watchdog_is_fed_while_the_loop_looks_and_not_longer() {
        let (thread, messages) = sync_channel(WAITING);
        let service = Service {
            thread: Some(thread),
            looked: Arc::new(AtomicU64::new(NOT_YET)),
        };
        let limit = Duration::from_millis(600);
        let feeding = tokio::spawn(service.clone().feed(limit));
        let fed = async |times: usize| {
            let end = Instant::now() + Duration::from_secs(10);
            let mut told = 0;
            while told < times {
                assert!(Instant::now() < end, "fed {told} times only");
                told += usize::from(matches!(messages.try_recv(), Ok(Message::Alive)));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // It has not begun.
        fed(3).await;
        for _ in 0..2 {
            service.looks();
            fed(1).await;
            silence(&messages, limit).await;
        }
        feeding.abort();
    }
}
