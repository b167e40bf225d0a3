//! A client that writes without pause, remembers every acknowledgement and follows the primary.

use crate::clock;
use crate::sql::{self, Target};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// One acknowledged row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Its number.
    pub id: i64,
    /// Member that acknowledged.
    pub node: String,
    /// Process id of the backend.
    pub backend: i32,
    /// Timeline on which it was written.
    pub timeline: u32,
    /// Boot time when it was sent.
    pub sent: Duration,
    /// Boot time when the acknowledgement was read.
    pub acked: Duration,
}

/// A gap between two acknowledgements.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Length.
    pub length: Duration,
    /// The last acknowledgement before it.
    pub before: Ack,
    /// The first after it.
    pub after: Ack,
}

/// What a [`Writer`] saw.
#[derive(Clone, Debug)]
pub struct WriterReport {
    /// Acknowledgements in the order in which they were read.
    pub acks: Vec<Ack>,
    /// Errors of statements and lost connections, in order, with their boot time.
    pub errors: Vec<(Duration, String)>,
}

impl WriterReport {
    /// The longest time between two acknowledgements.
    pub fn longest_gap(&self) -> Option<Gap> {
        self.longest_gap_after(Duration::ZERO)
    }

    /// The longest gap that ended after boot time `from`.
    pub fn longest_gap_after(&self, from: Duration) -> Option<Gap> {
        self.acks
            .windows(2)
            .filter(|w| w[1].acked >= from)
            .map(|w| Gap {
                length: w[1].acked.saturating_sub(w[0].acked),
                before: w[0].clone(),
                after: w[1].clone(),
            })
            .max_by_key(|g| g.length)
    }

    /// Acknowledged rows that this member does not have.
    ///
    /// # Errors
    /// Those of the query.
    pub async fn missing(&self, target: &Target) -> Result<Vec<Ack>, String> {
        missing(&self.acks, TABLE, target).await
    }
}

/// Those of these rows that the table of this member does not have.
///
/// # Errors
/// Those of the query.
pub async fn missing(acks: &[Ack], table: &str, target: &Target) -> Result<Vec<Ack>, String> {
    let client = sql::connect(target, Duration::from_secs(5)).await?;
    let rows = client.query(&format!("select id from {table}"), &[]).await;
    let rows = rows.map_err(|e| sql::text(&e))?;
    let present: HashSet<i64> = rows.iter().map(|r| r.get(0)).collect();
    let missing = acks.iter().filter(|a| !present.contains(&a.id));
    Ok(missing.cloned().collect())
}

#[derive(Debug, Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    errors: Mutex<Vec<(Duration, String)>>,
    stop: AtomicBool,
}

/// The client; it runs on a thread of its own until it is stopped or dropped.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where [`Writer`] writes.
pub const TABLE: &str = "pgherd_writes";
/// A statement this late makes the writer look for another primary beside waiting on.
const PATIENCE: Duration = Duration::from_millis(50);
const INSERT: &str = "insert into pgherd_writes (id) values ($1) \
     returning pg_backend_pid(), left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";

impl Writer {
    /// Starts writing, one row per millisecond at most, and returns after the first acknowledgement.
    ///
    /// # Panics
    /// When there is none within 20 s.
    pub async fn start(targets: Vec<Target>) -> Writer {
        Self::start_with(targets, Duration::from_millis(1)).await
    }

    /// Like [`Writer::start`], with a pause between two rows.
    ///
    /// # Panics
    /// As [`Writer::start`].
    pub async fn start_with(targets: Vec<Target>, pause: Duration) -> Writer {
        let writer = Self::begin(targets, pause, 1);
        writer.wait_acks(1, Duration::from_secs(20)).await;
        writer
    }

    /// Like [`Writer::start_with`], without waiting for anything, and with the number of the first row: two
    /// writers of a cluster must not write the same ones.
    ///
    /// # Panics
    /// When there can be no thread.
    pub fn begin(targets: Vec<Target>, pause: Duration, first: i64) -> Writer {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime
                    .expect("a runtime")
                    .block_on(write(&targets, pause, first, &for_thread));
            });
        Writer {
            shared,
            thread: Some(thread.expect("a thread")),
        }
    }

    /// Acknowledged rows so far.
    pub fn acked(&self) -> usize {
        self.shared.acks.lock().expect("no panic while held").len()
    }

    /// Acknowledged rows so far but for the first `skipped`.
    pub fn acks_from(&self, skipped: usize) -> Vec<Ack> {
        let acks = self.shared.acks.lock().expect("no panic while held");
        acks.get(skipped..).unwrap_or_default().to_vec()
    }

    /// The last acknowledgement.
    pub fn last(&self) -> Option<Ack> {
        self.shared
            .acks
            .lock()
            .expect("no panic while held")
            .last()
            .cloned()
    }

    /// Waits for `more` further acknowledgements.
    ///
    /// # Panics
    /// After `deadline`.
    pub async fn wait_acks(&self, more: usize, deadline: Duration) {
        let goal = self.acked() + more;
        crate::wait_for(
            &format!("{more} more acknowledged rows"),
            deadline,
            async || {
                let errors = self.shared.errors.lock().expect("no panic while held");
                let seen = format!("{} of {goal}, last error {:?}", self.acked(), errors.last());
                if self.acked() >= goal {
                    Ok(())
                } else {
                    Err(seen)
                }
            },
        )
        .await;
    }

    /// Waits for an acknowledgement by another member than `old`.
    ///
    /// # Panics
    /// After `deadline`.
    pub async fn wait_moved(&self, old: &str, deadline: Duration) -> Ack {
        crate::wait_for(
            &format!("a row acknowledged not by {old}"),
            deadline,
            async || {
                let last = self.last().ok_or("no row at all")?;
                if last.node == old {
                    Err(format!("last by {old}"))
                } else {
                    Ok(last)
                }
            },
        )
        .await
    }

    /// Stops writing.
    pub fn stop(mut self) -> WriterReport {
        self.end();
        let acks = std::mem::take(&mut *self.shared.acks.lock().expect("no panic while held"));
        let errors = std::mem::take(&mut *self.shared.errors.lock().expect("no panic while held"));
        WriterReport { acks, errors }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

async fn write(targets: &[Target], pause: Duration, first: i64, shared: &Shared) {
    let stopped = async {
        while !shared.stop.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = stopped => {}
        () = write_for_ever(targets, pause, first, shared) => {}
    }
}

async fn write_for_ever(targets: &[Target], pause: Duration, first: i64, shared: &Shared) {
    let mut id = first - 1;
    let (mut client, mut node) = find_primary(targets, "").await;
    let table = "create table if not exists pgherd_writes (id bigint primary key)";
    while let Err(e) = client.batch_execute(table).await {
        note(shared, format!("{node}: {}", sql::text(&e)));
        (client, node) = find_primary(targets, "").await;
    }
    loop {
        id += 1;
        let sent = clock::now();
        let late = async {
            tokio::time::sleep(PATIENCE).await;
            find_primary(targets, &node).await
        };
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&id];
        let outcome = tokio::select! {
            biased;
            row = client.query_one(INSERT, &parameters) => Ok(row),
            other = late => Err(other),
        };
        match outcome {
            Ok(Ok(row)) => {
                let timeline: String = row.get(1);
                let timeline = u32::from_str_radix(&timeline, 16).unwrap_or(0);
                let ack = Ack {
                    id,
                    node: node.clone(),
                    backend: row.get(0),
                    timeline,
                    sent,
                    acked: clock::now(),
                };
                shared.acks.lock().expect("no panic while held").push(ack);
                tokio::time::sleep(pause).await;
            }
            Ok(Err(e)) => {
                note(shared, format!("{node}: {}", sql::text(&e)));
                (client, node) = find_primary(targets, "").await;
            }
            Err(other) => {
                note(
                    shared,
                    format!("{node}: no answer, but {} is writable", other.1),
                );
                (client, node) = other;
            }
        }
    }
}

fn note(shared: &Shared, text: String) {
    shared
        .errors
        .lock()
        .expect("no panic while held")
        .push((clock::now(), text));
}

/// Tries all members but `except` at once until one is writable.
async fn find_primary(targets: &[Target], except: &str) -> (Client, String) {
    let mut tries = JoinSet::new();
    for target in targets.iter().filter(|t| t.name != except).cloned() {
        tries.spawn(async move {
            loop {
                if let Some(client) = writable(&target).await {
                    return (client, target.name);
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        });
    }
    match tries.join_next().await {
        Some(Ok(found)) => found,
        _ => std::future::pending().await,
    }
}

async fn writable(target: &Target) -> Option<Client> {
    let work = async {
        let client = sql::connect(target, Duration::from_secs(1)).await.ok()?;
        let row = client
            .query_one("select pg_is_in_recovery()", &[])
            .await
            .ok()?;
        (!row.get::<_, bool>(0)).then_some(client)
    };
    tokio::time::timeout(Duration::from_secs(1), work)
        .await
        .ok()
        .flatten()
}
