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
        let service = self.clone();
        tokio::spawn(async move {
            loop {
                if service.is_alive(limit) {
                    service.tell(Message::Alive);
                }
                tokio::time::sleep(limit / 3).await;
            }
        });
    }

    /// Before the loop begins nothing can be said against it.
    fn is_alive(&self, limit: Duration) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        looked == NOT_YET || clock::now().since(pgherd_model::Time(looked)) <= limit
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

    #[test]
    fn a_loop_that_does_not_look_is_not_alive() {
        let service = Service {
            thread: None,
            looked: Arc::new(AtomicU64::new(NOT_YET)),
        };
        let limit = Duration::from_millis(50);
        assert!(service.is_alive(limit), "it has not begun");
        service.looks();
        assert!(service.is_alive(limit));
        let end = clock::now() + Duration::from_secs(10);
        while service.is_alive(limit) {
            assert!(clock::now() < end, "still alive");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
