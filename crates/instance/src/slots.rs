//! Replication slots. Each order checks again in PostgreSQL what it was decided on, so that a late
//! one does no harm.

use crate::connection::{QUERY_TIMEOUT, connect_local};
use crate::quote::literal;
use crate::{Instance, Result};
use pgherd_model::{Lsn, SlotKind};

/// SQLSTATEs that a race with another order or session gives.
const DUPLICATE_OBJECT: &str = "42710";
const UNDEFINED_OBJECT: &str = "42704";
const OBJECT_IN_USE: &str = "55006";

pub(crate) async fn create(instance: &Instance, name: &str, kind: &SlotKind) -> Result<()> {
    const WHAT: &str = "making a replication slot";
    let free = format!(
        "WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {})",
        literal(name)
    );
    let answer = match kind {
        SlotKind::Physical => {
            let sql = format!(
                "SELECT pg_create_physical_replication_slot({}, true) {free}",
                literal(name)
            );
            let slot = &instance.inner.connections.work;
            slot.run(instance, WHAT, &sql, QUERY_TIMEOUT).await
        }
        SlotKind::Logical { database, plugin } => {
            let sql = format!(
                "SELECT pg_create_logical_replication_slot({}, {}) {free}",
                literal(name),
                literal(plugin)
            );
            let connection =
                connect_local(instance, database, QUERY_TIMEOUT, QUERY_TIMEOUT).await?;
            connection.run(WHAT, &sql, QUERY_TIMEOUT).await
        }
    };
    match answer {
        Err(e) if e.is_state(DUPLICATE_OBJECT) => Ok(()),
        answer => answer.map(|_| ()),
    }
}

/// Runs a query that calls a function for at most one slot: whether it did.
async fn for_one(instance: &Instance, what: &'static str, sql: &str) -> Result<bool> {
    let slot = &instance.inner.connections.work;
    match slot.run(instance, what, sql, QUERY_TIMEOUT).await {
        Ok(rows) => Ok(rows.first().is_some_and(|rows| !rows.is_empty())),
        Err(e) if e.is_state(OBJECT_IN_USE) || e.is_state(UNDEFINED_OBJECT) => Ok(false),
        Err(e) => Err(e),
    }
}

pub(crate) async fn drop(instance: &Instance, name: &str) -> Result<bool> {
    let name = literal(name);
    let sql = format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
         WHERE slot_name = {name} AND NOT active"
    );
    if for_one(instance, "dropping a replication slot", &sql).await? {
        return Ok(true);
    }
    // Nothing dropped: gone already, or in use.
    let sql = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {name}");
    for_one(instance, "looking for a replication slot", &sql)
        .await
        .map(|there| !there)
}

pub(crate) async fn advance(instance: &Instance, name: &str, lsn: Lsn) -> Result<bool> {
    let sql = format!(
        "SELECT pg_replication_slot_advance(slot_name, '{lsn}') FROM pg_replication_slots \
         WHERE slot_name = {} AND slot_type = 'physical' AND NOT active AND restart_lsn < '{lsn}'",
        literal(name)
    );
    for_one(instance, "advancing a replication slot", &sql).await
}
