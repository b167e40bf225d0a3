//! What a running PostgreSQL says: one multi-statement query is one round trip, and its answers
//! come as text, the same in versions 13 to 18.

use crate::connection::{QUERY_TIMEOUT, Results, Slot as Kept, connect_local};
use crate::glance::{self, Glance};
use crate::parameters::{self, COMMAND_LINE};
use crate::{Error, Instance, Result, check, conf, recovery, units, wal};
use pgherd_model::{Look, Lsn, Receiver, Slot, SlotKind, Standby, Timeline, WalPositions};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use tokio_postgres::SimpleQueryRow;

/// Positions: recovery, timeline, flushed, received (and flushed), replayed, receiver there.
const POSITIONS: &str = "SELECT r.rec AS rec, \
 CASE WHEN r.rec THEN coalesce((SELECT nullif(w.received_tli, 0) FROM pg_stat_get_wal_receiver() w), \
   greatest((SELECT timeline_id FROM pg_control_checkpoint()), \
            (SELECT min_recovery_end_timeline FROM pg_control_recovery())))::text \
 ELSE (('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int)::text END AS tli, \
 CASE WHEN NOT r.rec THEN pg_current_wal_flush_lsn() END AS flushed, \
 CASE WHEN r.rec THEN pg_last_wal_receive_lsn() END AS received, \
 CASE WHEN r.rec THEN pg_last_wal_replay_lsn() END AS replayed, \
 (SELECT count(pid) FROM pg_stat_get_wal_receiver()) AS receivers \
 FROM (SELECT pg_is_in_recovery() AS rec OFFSET 0) r";

/// Before the positions: when the checkpointer is ready, what is flushed after that goes by what it
/// has told those who commit.
const SERVER: &str = "SELECT to_char(pg_postmaster_start_time(), 'YYYY-MM-DD HH24:MI:SS.USTZH:TZM') AS started, \
 current_setting('server_version_num') AS version, \
 CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused, \
 to_char(pg_last_xact_replay_timestamp(), 'YYYY-MM-DD HH24:MI:SS.USTZH:TZM') AS replayed_at, \
 current_setting('synchronous_standby_names') AS sync_names, \
 (SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'checkpointer') AS checkpointer, \
 current_setting('primary_conninfo') AS conninfo, current_setting('primary_slot_name') AS slot, \
 current_setting('restore_command') <> '' AS restores";

const RECEIVER: &str = "SELECT status, received_tli, sender_host, sender_port, slot_name, latest_end_lsn \
 FROM pg_stat_wal_receiver";

const STANDBYS: &str = "SELECT pid, application_name, usename, client_addr, state, sync_state, sync_priority, \
 write_lsn, flush_lsn, replay_lsn FROM pg_stat_replication";

/// `SELECT *`: columns came with versions; rows are read by name.
const SLOTS: &str = "SELECT * FROM pg_replication_slots";

/// Positions of this very moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Positions {
    /// `pg_is_in_recovery()`.
    pub(crate) in_recovery: bool,
    /// As in `Look`.
    pub(crate) timeline: Timeline,
    /// Flushed, or received and replayed.
    pub(crate) wal: WalPositions,
    /// A WAL receiver is there.
    pub(crate) receiving: bool,
}

const WHAT: &str = "looking at PostgreSQL";

/// With the glance that belongs to it. That comes first: what changes after it makes the next one
/// another one, even where this look shows it already.
pub(crate) async fn look(instance: &Instance) -> Result<(Look, Glance)> {
    let mut answer = ask(instance, &instance.inner.connections.look, &[glance::SQL]).await?;
    let glance = glance::read(&answer).ok_or_else(|| unexpected(WHAT))?;
    answer.remove(0);
    Ok((understand(instance, &answer).await?, glance))
}

pub(crate) async fn look_beside(instance: &Instance) -> Result<Look> {
    let answer = ask(instance, &instance.inner.connections.beside, &[]).await?;
    understand(instance, &answer).await
}

/// Asks for everything that a look shows; `first`: what is asked before.
async fn ask(instance: &Instance, kept: &Kept, first: &[&str]) -> Result<Results> {
    let owned: Vec<String> = COMMAND_LINE.iter().map(|n| crate::literal(n)).collect();
    let refused = check::refusals(instance).into_keys();
    let refused: Vec<String> = refused.map(|name| crate::literal(&name)).collect();
    let refused = match refused.is_empty() {
        true => String::new(),
        // Some have capitals.
        false => format!(" OR lower(s.name) IN ({})", refused.join(", ")),
    };
    let settings = format!(
        "SELECT s.name, s.setting, s.unit, current_setting(s.name) AS shown, \
         s.pending_restart AS pending, CASE WHEN s.pending_restart THEN coalesce((SELECT f.setting FROM pg_file_settings f \
         WHERE f.name = s.name ORDER BY f.seqno DESC LIMIT 1), s.boot_val) END AS wanted \
         FROM pg_settings s WHERE s.pending_restart OR s.name IN ({}){refused}",
        owned.join(", ")
    );
    let look: [&str; 6] = [SERVER, POSITIONS, RECEIVER, STANDBYS, SLOTS, &settings];
    let all: Vec<&str> = first.iter().copied().chain(look).collect();
    // A server that ends meanwhile logs the whole statement: its beginning says whose it is.
    let sql = format!("/* pgherd: look */ {}", all.join("; "));
    kept.run(instance, WHAT, &sql, QUERY_TIMEOUT).await
}

async fn understand(instance: &Instance, answer: &Results) -> Result<Look> {
    let mut look = read(answer).ok_or_else(|| unexpected(WHAT))?;
    if look.in_recovery && look.receiver.is_none() {
        look.timeline = wal::replay_timeline(instance, look.timeline, look.wal.replayed).await;
    }
    pending(instance, answer, &mut look);
    Ok(look)
}

pub(crate) fn unexpected(what: &'static str) -> Error {
    Error::Unexpected {
        what,
        reason: "the answer has another shape than PostgreSQL 13 to 18 give".to_owned(),
    }
}

/// A column's text; None for NULL and for a column that this version does not have.
fn text<'a>(row: &'a SimpleQueryRow, name: &str) -> Option<&'a str> {
    row.try_get(name).ok().flatten()
}

fn owned(row: &SimpleQueryRow, name: &str) -> String {
    text(row, name).unwrap_or_default().to_owned()
}

fn parsed<T: FromStr>(row: &SimpleQueryRow, name: &str) -> Option<T> {
    text(row, name)?.parse().ok()
}

fn lsn(row: &SimpleQueryRow, name: &str) -> Lsn {
    parsed(row, name).unwrap_or_default()
}

fn read_positions(row: &SimpleQueryRow) -> Option<Positions> {
    Some(Positions {
        in_recovery: text(row, "rec")? == "t",
        timeline: Timeline(parsed(row, "tli")?),
        wal: WalPositions {
            flushed: lsn(row, "flushed"),
            received: lsn(row, "received"),
            replayed: lsn(row, "replayed"),
        },
        receiving: parsed::<u32>(row, "receivers")? > 0,
    })
}

fn read(answer: &Results) -> Option<Look> {
    let positions = read_positions(answer.get(1)?.first()?)?;
    let server = answer.first()?.first()?;
    let slot = Some(owned(server, "slot")).filter(|slot| !slot.is_empty());
    Some(Look {
        in_recovery: positions.in_recovery,
        timeline: positions.timeline,
        wal: positions.wal,
        receiver: answer.get(2)?.first().and_then(read_receiver),
        upstream: recovery::upstream_of(text(server, "conninfo").unwrap_or_default(), slot),
        slots: answer.get(4)?.iter().map(read_slot).collect(),
        standbys: answer.get(3)?.iter().map(read_standby).collect(),
        start_time: owned(server, "started"),
        server_version: parsed(server, "version")?,
        replay_paused: text(server, "paused")? == "t",
        replayed_at: text(server, "replayed_at").map(str::to_owned),
        synchronous_standby_names: owned(server, "sync_names"),
        // In both it looks for reloads: idle, or between two writes of a spread checkpoint.
        checkpointer_ready: matches!(
            text(server, "checkpointer"),
            Some("CheckpointerMain" | "CheckpointWriteDelay")
        ),
        restore_command: text(server, "restores")? == "t",
        pending_restart: Vec::new(),
    })
}

fn read_receiver(row: &SimpleQueryRow) -> Option<Receiver> {
    Some(Receiver {
        streaming: text(row, "status")? == "streaming",
        timeline: Timeline(parsed(row, "received_tli").unwrap_or_default()),
        host: owned(row, "sender_host"),
        port: parsed(row, "sender_port").unwrap_or_default(),
        slot: text(row, "slot_name").map(str::to_owned),
        latest_end: lsn(row, "latest_end_lsn"),
    })
}

fn read_slot(row: &SimpleQueryRow) -> Slot {
    Slot {
        name: owned(row, "slot_name"),
        kind: match text(row, "slot_type") {
            Some("logical") => SlotKind::Logical {
                database: owned(row, "database"),
                plugin: owned(row, "plugin"),
            },
            _ => SlotKind::Physical,
        },
        active: text(row, "active") == Some("t"),
        temporary: text(row, "temporary") == Some("t"),
        restart: parsed(row, "restart_lsn"),
        confirmed_flush: parsed(row, "confirmed_flush_lsn"),
        holds_xmin: text(row, "xmin").is_some() || text(row, "catalog_xmin").is_some(),
        lost: text(row, "wal_status") == Some("lost"),
        failover: text(row, "failover") == Some("t"),
    }
}

fn read_standby(row: &SimpleQueryRow) -> Standby {
    Standby {
        pid: parsed(row, "pid").unwrap_or_default(),
        name: owned(row, "application_name"),
        user: owned(row, "usename"),
        address: text(row, "client_addr").map(str::to_owned),
        state: owned(row, "state"),
        sync_state: owned(row, "sync_state"),
        sync_priority: parsed(row, "sync_priority").unwrap_or_default(),
        written: lsn(row, "write_lsn"),
        flushed: lsn(row, "flush_lsn"),
        replayed: lsn(row, "replay_lsn"),
    }
}

/// Settings that wait for a restart: those PostgreSQL says, and ours, which it cannot know because
/// the command line hides the file's value. A standby that had to start with more than is wanted,
/// because its primary had more, waits as well (contract: patroni-config, section 2). The recovery
/// part means nothing to a primary.
fn pending(instance: &Instance, answer: &Results, look: &mut Look) {
    let wanted = conf::effective(instance).values;
    let refusals = check::refusals(instance);
    let mut in_force = BTreeMap::new();
    for row in answer.get(5).into_iter().flatten() {
        let (name, now) = (owned(row, "name"), owned(row, "setting"));
        let lower = name.to_ascii_lowercase();
        if refusals.contains_key(&lower) {
            in_force.insert(lower, owned(row, "shown"));
        }
        let waits = text(row, "pending") == Some("t");
        if !waits && !COMMAND_LINE.contains(&name.as_str()) {
            continue;
        }
        if parameters::is_recovery(&name) && !look.in_recovery {
            continue;
        }
        let file = if COMMAND_LINE.contains(&name.as_str()) {
            wanted.get(&name).cloned().unwrap_or_default()
        } else {
            owned(row, "wanted")
        };
        let same = match (parameters::switch(&file), parameters::switch(&now)) {
            (Some(a), Some(b)) => a == b,
            _ => file == now,
        };
        if !same {
            let file = units::shown(&file, text(row, "unit").unwrap_or_default());
            let now = owned(row, "shown");
            look.pending_restart.push((name, now, file));
        }
    }
    look.pending_restart.sort();
    check::found(instance, in_force);
}

/// For whoever waits for one fact; never behind a slow look.
pub(crate) async fn positions(instance: &Instance) -> Result<Positions> {
    let slot = &instance.inner.connections.positions;
    let answer = slot
        .run(instance, "reading positions", POSITIONS, QUERY_TIMEOUT)
        .await?;
    let mut now = answer
        .first()
        .and_then(|rows| rows.first())
        .and_then(read_positions)
        .ok_or_else(|| unexpected("reading positions"))?;
    if now.in_recovery && !now.receiving {
        now.timeline = wal::replay_timeline(instance, now.timeline, now.wal.replayed).await;
    }
    Ok(now)
}

/// A limit around several steps.
pub(crate) async fn within<T>(
    what: &str,
    timeout: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(timeout, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Timeout {
            what: what.to_owned(),
            after: timeout,
            last: String::new(),
        }),
    }
}

pub(crate) async fn checkpoint(instance: &Instance, timeout: Duration) -> Result<()> {
    let database = &instance.options().database;
    let work = async {
        let connection = connect_local(instance, database, timeout, timeout).await?;
        connection
            .run("CHECKPOINT", "CHECKPOINT", timeout)
            .await
            .map(|_| ())
    };
    within("CHECKPOINT", timeout, work).await
}

pub(crate) async fn terminate_backends(instance: &Instance) -> Result<u64> {
    const SQL: &str = "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) AS n \
     FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() \
     AND application_name NOT LIKE 'Patroni %'";
    let slot = &instance.inner.connections.work;
    let answer = slot
        .run(instance, "ending client sessions", SQL, QUERY_TIMEOUT)
        .await?;
    answer
        .first()
        .and_then(|rows| rows.first())
        .and_then(|row| parsed(row, "n"))
        .ok_or_else(|| unexpected("ending client sessions"))
}
