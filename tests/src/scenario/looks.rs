//! What is to be seen of a cluster of real processes, all the time: each member is asked, and written to, over
//! and over by a client of its own, and etcd is read beside it. A story is judged by what was seen after its
//! last step had been done, never by an older look.

use super::trace::Trace;
use crate::sql::{self, Target};
use etcd_client::{Client, ConnectOptions, GetOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Statement;

/// Between two looks at a member.
const PAUSE: Duration = Duration::from_millis(30);
/// Who has not answered for so long does not answer, and is asked on another connection. A machine under load
/// must not look like one.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What a member was at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its machine has no power.
    Dark,
    /// No answer.
    Silent,
    /// No connection, or an error.
    Refused(String),
    /// It is in recovery.
    Standby {
        /// WAL received, as a number.
        received: u64,
        /// `host:port` of whom it streams from.
        upstream: Option<String>,
    },
    /// It is not in recovery.
    Primary {
        /// Its timeline.
        timeline: u32,
        /// Where it writes, as a number.
        written: u64,
        /// Names of members that stream from it.
        senders: Vec<String>,
        /// Why a row could not be written.
        refused: Option<String>,
    },
}

/// A look, and when it began.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) begun: Instant,
    pub(super) seen: Seen,
}

/// What etcd has.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    pub(super) begun: Instant,
    /// Who holds the lock.
    pub(super) leader: Option<String>,
    /// What members publish, by name.
    pub(super) members: BTreeMap<String, Value>,
}

/// The last looks.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks {
    pub(super) members: Vec<Option<Look>>,
    pub(super) picture: Option<Picture>,
}

/// The clients that look; they end with this.
#[derive(Debug)]
pub(super) struct Watch {
    looks: Arc<Mutex<Looks>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watch {
    /// `prefix`: of the cluster's keys, with a slash at its end.
    pub(super) fn begin(
        targets: Vec<Target>,
        etcd: Vec<String>,
        prefix: String,
        trace: &Trace,
    ) -> Watch {
        let looks = Looks {
            members: vec![None; targets.len()],
            picture: None,
        };
        let looks = Arc::new(Mutex::new(looks));
        let mut tasks = Vec::new();
        for (number, target) in targets.into_iter().enumerate() {
            let work = member(number, target, Arc::clone(&looks), trace.clone());
            tasks.push(tokio::spawn(work));
        }
        let work = lock_service(etcd, prefix, Arc::clone(&looks), trace.clone());
        tasks.push(tokio::spawn(work));
        Watch { looks, tasks }
    }

    /// What was seen last.
    pub(super) fn last(&self) -> Looks {
        self.looks.lock().expect("no panic while held").clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn member(number: usize, target: Target, looks: Arc<Mutex<Looks>>, trace: Trace) {
    let mut session = None;
    let mut before = String::new();
    loop {
        let begun = Instant::now();
        let seen = match timeout(PATIENCE, look(&target, &mut session)).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(text)) => {
                session = None;
                Seen::Refused(text)
            }
            Err(_) => {
                session = None;
                Seen::Silent
            }
        };
        let now = seen.to_string();
        if now != before {
            trace.say(&format!("{}: {now}", target.name));
            before = now;
        }
        looks.lock().expect("no panic while held").members[number] = Some(Look { begun, seen });
        sleep(PAUSE).await;
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Dark => f.write_str("without power"),
            Seen::Silent => f.write_str("does not answer"),
            Seen::Refused(text) => write!(f, "down or not to be reached ({text})"),
            Seen::Standby { upstream, .. } => match upstream {
                Some(upstream) => write!(f, "replica, streams from {upstream}"),
                None => f.write_str("read-only, streams from nobody"),
            },
            Seen::Primary {
                timeline,
                senders,
                refused,
                ..
            } => {
                write!(f, "primary on timeline {timeline}")?;
                match refused {
                    Some(text) => write!(f, " that accepts no write ({text})"),
                    None => write!(f, ", streams to {senders:?}"),
                }
            }
        }
    }
}

/// One connection and what is asked on it.
#[derive(Debug)]
struct Session {
    client: tokio_postgres::Client,
    state: Statement,
    write: Option<Statement>,
}

const STATE: &str = "select pg_is_in_recovery(), \
     case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) end, \
     (coalesce(case when pg_is_in_recovery() then pg_last_wal_receive_lsn() \
       else pg_current_wal_insert_lsn() end, '0/0') - '0/0')::bigint, \
     (select string_agg(distinct application_name, ',' order by application_name) \
       from pg_stat_replication where state = 'streaming'), \
     (select sender_host || ':' || sender_port from pg_stat_wal_receiver where status = 'streaming')";

async fn look(target: &Target, session: &mut Option<Session>) -> Result<Seen, String> {
    let session = match session {
        Some(session) => session,
        none => none.insert(connect(target).await?),
    };
    let row = session.client.query_one(&session.state, &[]).await;
    let row = row.map_err(|e| sql::text(&e))?;
    let position = u64::try_from(row.get::<_, i64>(2)).unwrap_or(0);
    if row.get::<_, bool>(0) {
        return Ok(Seen::Standby {
            received: position,
            upstream: row.get(4),
        });
    }
    let timeline: String = row.get(1);
    let senders: Option<String> = row.get(3);
    let senders = senders.unwrap_or_default();
    let written = session.write().await;
    // A connection that ends while it writes is no member that refuses a row.
    if let Err(error) = &written
        && error.as_db_error().is_none()
    {
        return Err(sql::text(error));
    }
    Ok(Seen::Primary {
        timeline: u32::from_str_radix(&timeline, 16).unwrap_or(0),
        written: position,
        senders: senders
            .split(',')
            .filter(|name| !name.is_empty())
            .map(Into::into)
            .collect(),
        refused: written.err().map(|e| sql::text(&e)),
    })
}

async fn connect(target: &Target) -> Result<Session, String> {
    let client = sql::connect(target, PATIENCE).await?;
    let state = client.prepare(STATE).await.map_err(|e| sql::text(&e))?;
    Ok(Session {
        client,
        state,
        write: None,
    })
}

impl Session {
    /// Whether this member writes a row is the question here, not whether a synchronous standby has it.
    async fn write(&mut self) -> Result<(), tokio_postgres::Error> {
        let write = match &self.write {
            Some(write) => write.clone(),
            None => {
                let first = "set synchronous_commit = local; create table if not exists pgherd_looks \
                     (at timestamptz default clock_timestamp())";
                self.client.batch_execute(first).await?;
                let insert = "insert into pgherd_looks default values";
                self.write
                    .insert(self.client.prepare(insert).await?)
                    .clone()
            }
        };
        self.client.execute(&write, &[]).await.map(|_| ())
    }
}

/// Any member that answers is believed: what is written is everywhere within milliseconds, and there must be
/// something to see while etcd has no leader.
async fn lock_service(
    endpoints: Vec<String>,
    prefix: String,
    looks: Arc<Mutex<Looks>>,
    trace: Trace,
) {
    let mut client = None;
    let mut turn = 0;
    let mut before = None;
    loop {
        let begun = Instant::now();
        match timeout(PATIENCE / 3, read(&endpoints[turn], &prefix, &mut client)).await {
            Ok(Ok((leader, members))) => {
                if before.as_ref() != Some(&leader) {
                    trace.say(&format!(
                        "the lock: {}",
                        leader.as_deref().unwrap_or("nobody's")
                    ));
                    before = Some(leader.clone());
                }
                let picture = Picture {
                    begun,
                    leader,
                    members,
                };
                looks.lock().expect("no panic while held").picture = Some(picture);
            }
            Ok(Err(_)) | Err(_) => {
                client = None;
                turn = (turn + 1) % endpoints.len();
            }
        }
        sleep(PAUSE).await;
    }
}

type Keys = (Option<String>, BTreeMap<String, Value>);

async fn read(
    endpoint: &str,
    prefix: &str,
    client: &mut Option<Client>,
) -> Result<Keys, etcd_client::Error> {
    let client = match client {
        Some(client) => client,
        none => {
            let options = ConnectOptions::new().with_connect_timeout(PATIENCE / 3);
            none.insert(Client::connect([endpoint], Some(options)).await?)
        }
    };
    let options = GetOptions::new().with_prefix().with_serializable();
    let answer = client.get(prefix, Some(options)).await?;
    let (mut leader, mut members) = (None, BTreeMap::new());
    for pair in answer.kvs() {
        let key = String::from_utf8_lossy(pair.key());
        let key = key.strip_prefix(prefix).unwrap_or_default();
        if key == "leader" {
            leader = Some(String::from_utf8_lossy(pair.value()).into_owned());
        } else if let Some(name) = key.strip_prefix("members/") {
            let value = serde_json::from_slice(pair.value()).unwrap_or_default();
            members.insert(name.to_owned(), value);
        }
    }
    Ok((leader, members))
}
