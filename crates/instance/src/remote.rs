//! Questions to another PostgreSQL of the cluster, with the rewind role's or superuser's rights.

use crate::connection::{QUERY_TIMEOUT, STATEMENT_TIMEOUT, Target, reason};
use crate::history::{self, TimelineHistory};
use crate::libpq::{self, Secrets};
use crate::look::within;
use crate::program::{self, Run};
use crate::{Error, Instance, Result};
use pgherd_model::{Lsn, SystemId, Timeline};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

/// Another PostgreSQL to copy or rewind from, or to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Its database for our own connections; None: `postgresql.database`.
    pub database: Option<String>,
}

/// What another server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFacts {
    /// Its system identifier.
    pub system_id: SystemId,
    /// `pg_is_in_recovery()`.
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: Timeline,
    /// Timeline of its last checkpoint: pg_rewind works only once it equals `timeline`.
    pub checkpoint_timeline: Timeline,
    /// Flushed (primary) or replayed (standby).
    pub position: Lsn,
    /// `server_version_num`.
    pub server_version: u32,
}

const FACTS: &str = "SELECT (SELECT system_identifier FROM pg_control_system()) AS id, r.rec, \
 c.timeline_id AS checkpoint, \
 CASE WHEN r.rec THEN greatest(c.timeline_id, (SELECT min_recovery_end_timeline FROM pg_control_recovery())) \
 ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS tli, \
 CASE WHEN r.rec THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END AS lsn, \
 current_setting('server_version_num') AS version \
 FROM pg_control_checkpoint() c, (SELECT pg_is_in_recovery() AS rec OFFSET 0) r";

/// Runs one query that gives one row.
async fn row(
    instance: &Instance,
    source: &Source,
    what: &'static str,
    sql: &str,
) -> Result<SimpleQueryRow> {
    let rows = rows(instance, source, what, sql).await?;
    rows.into_iter().next().ok_or_else(|| Error::Unexpected {
        what,
        reason: format!("{}:{} gave no row", source.host, source.port),
    })
}

/// Runs one query.
pub(crate) async fn rows(
    instance: &Instance,
    source: &Source,
    what: &'static str,
    sql: &str,
) -> Result<Vec<SimpleQueryRow>> {
    let options = &instance.options();
    let target = Target {
        host: &source.host,
        port: source.port,
        database: source.database.as_ref().unwrap_or(&options.database),
        role: options.rewind.as_ref().unwrap_or(&options.superuser),
        application: "Patroni heartbeat",
        statement_timeout: STATEMENT_TIMEOUT,
    };
    let work = async {
        let client = target.connect(QUERY_TIMEOUT).await?;
        let messages = client.simple_query(sql).await.map_err(|e| Error::Query {
            what,
            place: target.place(),
            reason: reason(&e),
        })?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.collect())
    };
    within(what, QUERY_TIMEOUT, work).await
}

pub(crate) async fn ask(instance: &Instance, source: &Source) -> Result<RemoteFacts> {
    const WHAT: &str = "asking another server";
    let row = row(instance, source, WHAT, FACTS).await?;
    let text = |name: &str| row.try_get(name).ok().flatten();
    let facts = || {
        Some(RemoteFacts {
            system_id: SystemId(text("id")?.parse().ok()?),
            in_recovery: text("rec")? == "t",
            timeline: Timeline(text("tli")?.parse().ok()?),
            checkpoint_timeline: Timeline(text("checkpoint")?.parse().ok()?),
            position: text("lsn")?.parse().ok()?,
            server_version: text("version")?.parse().ok()?,
        })
    };
    facts().ok_or_else(|| Error::Unexpected {
        what: WHAT,
        reason: "the answer has another shape than PostgreSQL 13 to 18 give".to_owned(),
    })
}

pub(crate) async fn history(
    instance: &Instance,
    source: &Source,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    if timeline.0 <= 1 {
        return history::parse(timeline, "");
    }
    let error = match by_sql(instance, source, timeline).await {
        Ok(history) => return Ok(history),
        // Who is not there answers nobody.
        Err(error) if !error.is_refusal() => return Err(error),
        Err(error) => error,
    };
    // pg_hba may let nobody in between the members but for replication, and Patroni needs no more.
    let streamed = by_replication(instance, source, timeline).await;
    streamed.map_err(|other| {
        tracing::debug!("nor by a replication connection: {other}");
        error
    })
}

/// As a standby asks for it, by psql: tokio-postgres knows no replication connections.
async fn by_replication(
    instance: &Instance,
    source: &Source,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    let options = &instance.options();
    let role = &libpq::role(instance, &options.replication).await?;
    let secrets = Secrets::of(options, role, &source.host, source.port)?;
    let place = libpq::source_of(options, source, role);
    let run = Run::new(instance, program::path(instance, "psql")?)
        .args(["-X", "-A", "-t", "-q", "-w"])
        .arg(format!("--dbname={place} replication=1"))
        .arg(format!("--command=TIMELINE_HISTORY {}", timeline.0));
    let answer = secrets.name_to(run).output(QUERY_TIMEOUT).await?;
    // Its name, and what is in it.
    let (_, text) = answer.split_once('|').ok_or_else(|| Error::Unexpected {
        what: "reading a timeline history",
        reason: format!("psql said {answer:?}"),
    })?;
    history::parse(timeline, text)
}

async fn by_sql(
    instance: &Instance,
    source: &Source,
    timeline: Timeline,
) -> Result<TimelineHistory> {
    const WHAT: &str = "reading a timeline history";
    let sql = format!(
        "SELECT encode(pg_read_binary_file({}), 'hex') AS file",
        crate::literal(&format!("pg_wal/{}", history::file_name(timeline)))
    );
    let row = row(instance, source, WHAT, &sql).await?;
    let bytes: Option<Vec<u8>> = row.try_get("file").ok().flatten().and_then(unhex);
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    history::parse(timeline, &text.unwrap_or_default())
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
