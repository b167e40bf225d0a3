//! Proof that never two members acknowledge writes at the same time: one stubborn client per member.

use crate::clock;
use crate::sql::{self, Target};
use crate::writer::Ack;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

#[derive(Debug, Default)]
struct Shared {
    acks: Mutex<Vec<Ack>>,
    next: AtomicI64,
    stop: AtomicBool,
}

/// The clients; they run on a thread of their own until stopped or dropped.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Where it writes.
pub const TABLE: &str = "pgherd_watch";
const INSERT: &str = "insert into pgherd_watch (id) values ($1) \
     returning pg_backend_pid(), left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)";

impl Watcher {
    /// Starts one client per member; the table must be makeable, so one member must be writable.
    ///
    /// # Panics
    /// When nothing is acknowledged within 20 s.
    pub async fn start(targets: Vec<Target>) -> Watcher {
        let watcher = Self::begin(targets);
        crate::wait_for(
            "the watcher's first row",
            Duration::from_secs(20),
            async || {
                if watcher.acks().is_empty() {
                    Err("none".to_owned())
                } else {
                    Ok(())
                }
            },
        )
        .await;
        watcher
    }

    /// Like [`Watcher::start`], before there is anybody to write to.
    ///
    /// # Panics
    /// When there can be no thread.
    pub fn begin(targets: Vec<Target>) -> Watcher {
        let shared = Arc::new(Shared::default());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("watcher".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(async {
                    for target in targets {
                        tokio::spawn(watch(target, Arc::clone(&for_thread)));
                    }
                    while !for_thread.stop.load(Ordering::SeqCst) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            });
        Watcher {
            shared,
            thread: Some(thread.expect("a thread")),
        }
    }

    /// Acknowledgements so far, in the order in which they were read.
    pub fn acks(&self) -> Vec<Ack> {
        self.shared
            .acks
            .lock()
            .expect("no panic while held")
            .clone()
    }

    /// Stops and gives back all acknowledgements.
    pub fn stop(mut self) -> Vec<Ack> {
        self.end();
        self.acks()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// Acknowledgements that break the rule "one writer": on a timeline older than one already
/// acknowledged by somebody, or on the same timeline by two members.
pub fn violations(acks: &[Ack]) -> Vec<String> {
    let mut sorted: Vec<&Ack> = acks.iter().collect();
    sorted.sort_by_key(|a| a.acked);
    let mut newest: Option<&Ack> = None;
    let mut found = Vec::new();
    for ack in sorted {
        match newest {
            Some(first) if ack.timeline < first.timeline => found.push(format!(
                "{} acknowledged on timeline {} {:?} after {} did on {}",
                ack.node,
                ack.timeline,
                ack.acked.saturating_sub(first.acked),
                first.node,
                first.timeline
            )),
            Some(first) if ack.timeline == first.timeline && ack.node != first.node => {
                found.push(format!(
                    "{} and {} both acknowledged on {}",
                    first.node, ack.node, ack.timeline
                ))
            }
            Some(first) if ack.timeline == first.timeline => {}
            _ => newest = Some(ack),
        }
    }
    found
}

async fn watch(target: Target, shared: Arc<Shared>) {
    loop {
        // An unanswered session is left alone, not closed: its late acknowledgement would count.
        let beats = Arc::new(AtomicU64::new(0));
        let work = session(target.clone(), Arc::clone(&shared), Arc::clone(&beats));
        let mut session = tokio::spawn(work);
        let mut before = u64::MAX;
        loop {
            let waited = tokio::time::timeout(Duration::from_secs(1), &mut session).await;
            let now = beats.load(Ordering::SeqCst);
            if waited.is_ok() || now == before {
                break;
            }
            before = now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes on one connection until it breaks.
async fn session(target: Target, shared: Arc<Shared>, beats: Arc<AtomicU64>) -> Option<()> {
    let client = sql::connect(&target, Duration::from_secs(1)).await.ok()?;
    loop {
        let row = client
            .query_one("select pg_is_in_recovery()", &[])
            .await
            .ok()?;
        beats.fetch_add(1, Ordering::SeqCst);
        if row.get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let table = "create table if not exists pgherd_watch (id bigint)";
        client.batch_execute(table).await.ok()?;
        loop {
            let id = shared.next.fetch_add(1, Ordering::SeqCst);
            let sent = clock::now();
            let row = client.query_one(INSERT, &[&id]).await.ok()?;
            let timeline: String = row.get(1);
            let ack = Ack {
                id,
                node: target.name.clone(),
                backend: row.get(0),
                timeline: u32::from_str_radix(&timeline, 16).unwrap_or(0),
                sent,
                acked: clock::now(),
            };
            shared.acks.lock().expect("no panic while held").push(ack);
            beats.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(node: &str, timeline: u32, millis: u64) -> Ack {
        let acked = Duration::from_millis(millis);
        Ack {
            id: 0,
            node: node.to_owned(),
            backend: 0,
            timeline,
            sent: acked,
            acked,
        }
    }

    #[test]
    fn one_member_after_the_other_each_on_a_later_timeline_is_in_order() {
        let acks = [
            ack("n1", 1, 10),
            ack("n1", 1, 20),
            ack("n2", 2, 30),
            ack("n1", 3, 40),
        ];
        assert_eq!(violations(&acks), Vec::<String>::new());
    }

    #[test]
    fn a_row_on_the_old_timeline_after_one_on_the_new_is_not() {
        let acks = [ack("n2", 2, 30), ack("n1", 1, 20), ack("n1", 1, 31)];
        let found = violations(&acks);
        assert_eq!(
            found,
            ["n1 acknowledged on timeline 1 1ms after n2 did on 2"]
        );
    }

    #[test]
    fn two_members_on_one_timeline_are_not() {
        let found = violations(&[ack("n1", 2, 30), ack("n2", 2, 40)]);
        assert_eq!(found, ["n1 and n2 both acknowledged on 2"]);
    }
}
