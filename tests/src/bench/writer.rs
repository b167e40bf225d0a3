//! Clients that write one row after the other and know exactly what was acknowledged, and when.
//! Each runs on a thread of its own, so that no other work of the benchmark delays its clock.

use super::client::{Endpoint, RETRY, Session, becomes_writable, hunt};
use super::clock::Instant;
use super::ledger::{Ack, Ledger};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// A client looks at the other nodes when an answer takes longer than this: it stands for the
/// timeouts that an application or a proxy would have, without adding any of its own.
const PATIENCE: Duration = Duration::from_millis(20);
/// Statements that the pipelining client keeps on the way: so many that the server never waits for
/// the next one, since a backend that waits notices at once that its postmaster is gone.
const DEPTH: usize = 512;
/// How long the slow statement takes, seconds.
const SLOW: u32 = 2;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Writes to whichever node accepts writes; moves as soon as there is another one.
    Roaming,
    /// Knows its first node only: writes whenever that one accepts writes.
    Pinned,
    /// Like pinned, with several statements on the way.
    Pipelining,
    /// Like pinned, with statements of two seconds.
    Slow,
}

/// A running client.
#[derive(Debug)]
pub(crate) struct Writer {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What each client task carries.
#[derive(Clone)]
struct Desk {
    client: i32,
    endpoints: Arc<[Endpoint]>,
    ledger: Ledger,
}

impl Writer {
    /// Starts a client with a number of its own.
    pub(crate) fn start(
        habit: Habit,
        client: i32,
        endpoints: &[Endpoint],
        ledger: &Ledger,
    ) -> std::io::Result<Writer> {
        let (stop, mut stopped) = watch::channel(false);
        let desk = Desk {
            client,
            endpoints: endpoints.into(),
            ledger: ledger.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name(format!("client-{client}"))
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = stopped.wait_for(|s| *s) => {}
                        () = live(habit, desk) => {}
                    }
                });
                // Statements that hang at a dead node must not hold the thread.
                runtime.shutdown_background();
            })?;
        Ok(Writer {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the client; what it was told is in the ledger.
    pub(crate) fn stop(mut self) {
        self.finish();
    }

    fn finish(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

async fn live(habit: Habit, desk: Desk) {
    match habit {
        Habit::Roaming => roam(desk).await,
        Habit::Pinned => pinned(desk).await,
        Habit::Pipelining => pipeline(desk).await,
        Habit::Slow => slow(desk).await,
    }
}

impl Desk {
    /// Notes that row `id`, sent at `sent`, was acknowledged just now.
    fn note(&self, node: usize, id: i64, sent: Instant) {
        self.ledger.note(Ack {
            node,
            client: self.client,
            id,
            sent,
            at: Instant::now(),
        });
    }

    fn others(&self, node: usize) -> Vec<Endpoint> {
        self.endpoints
            .iter()
            .filter(|e| e.node != node)
            .cloned()
            .collect()
    }
}

/// One row at a time, wherever writes are accepted.
async fn roam(desk: Desk) {
    let mut id = 0;
    let mut session = Arc::new(hunt(&desk.endpoints).await);
    loop {
        id += 1;
        let others = desk.others(session.node);
        let mut insert = tokio::spawn(write(desk.clone(), Arc::clone(&session), id));
        let elsewhere = async {
            tokio::time::sleep(PATIENCE).await;
            hunt(&others).await
        };
        tokio::select! {
            answer = &mut insert => {
                if !answer.unwrap_or(false) {
                    session = Arc::new(hunt(&desk.endpoints).await);
                }
            }
            // The unanswered statement lives on: a late acknowledgement is noted.
            found = elsewhere => session = Arc::new(found),
        }
    }
}

/// Inserts one row and notes the acknowledgement; false when there was none.
async fn write(desk: Desk, session: Arc<Session>, id: i64) -> bool {
    let sent = Instant::now();
    let good = session.insert(desk.client, id).await.is_ok();
    if good {
        desk.note(session.node, id, sent);
    }
    good
}

/// One row at a time with a millisecond between, at one node only.
async fn pinned(desk: Desk) {
    let mut id = 0;
    loop {
        let session = Arc::new(becomes_writable(&desk.endpoints[0]).await);
        loop {
            id += 1;
            if !write(desk.clone(), Arc::clone(&session), id).await {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Several rows on the way, over one connection.
async fn pipeline(desk: Desk) {
    let mut id = 0;
    loop {
        let session = Arc::new(becomes_writable(&desk.endpoints[0]).await);
        let free = Arc::new(Semaphore::new(DEPTH));
        // Closed by the first statement that fails.
        while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
            id += 1;
            let (desk, session, free) = (desk.clone(), Arc::clone(&session), Arc::clone(&free));
            tokio::spawn(async move {
                if !write(desk, session, id).await {
                    free.close();
                }
                drop(permit);
            });
        }
    }
}

/// One statement of two seconds after the other.
async fn slow(desk: Desk) {
    let mut id = 0;
    loop {
        let session = becomes_writable(&desk.endpoints[0]).await;
        loop {
            id += 1;
            let sent = Instant::now();
            if session.insert_slowly(desk.client, id, SLOW).await.is_err() {
                break;
            }
            desk.note(session.node, id, sent);
        }
    }
}
