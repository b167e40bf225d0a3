//! What changes by itself on a running PostgreSQL, in one row: whoever has looked at everything, and then
//! sees the same glance again, knows that a look would show the same. It is compared and not understood.
//!
//! In it, beside positions and who receives from whom: when the server was started, and when it last read
//! its configuration, which every setting that a look shows waits for. Not in it: what the checkpointer
//! does, which is dear to ask for (whoever waits for that has to look), and the timeline of a standby that
//! receives nothing.

use crate::connection::{QUERY_TIMEOUT, Results};
use crate::look::unexpected;
use crate::{Instance, Result};

/// What PostgreSQL said at one moment. Between equal ones nothing has changed that a
/// [`Look`](pgherd_model::Look) shows, but for `checkpointer_ready`, and the timeline of a standby without
/// receiver; nor was the configuration read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance(String);

/// Functions rather than views, which join what is not needed. A `ROW` keeps NULLs in their places, and
/// of slots it has whatever columns this version has. A walsender's process stands for its standby: name,
/// user and address come with the connection.
pub(crate) const SQL: &str = "SELECT ROW(pg_postmaster_start_time(), pg_conf_load_time(), r.rec, \
 CASE WHEN r.rec THEN ROW(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn(), pg_is_wal_replay_paused())::text \
 ELSE pg_current_wal_flush_lsn()::text END, \
 (SELECT ROW(w.pid, w.status, w.received_tli, w.latest_end_lsn, w.slot_name, w.sender_host, w.sender_port)::text \
 FROM pg_stat_get_wal_receiver() w), \
 (SELECT string_agg(ROW(s.pid, s.state, s.sync_state, s.sync_priority, s.write_lsn, s.flush_lsn, s.replay_lsn)::text, \
 ' ' ORDER BY s.pid) FROM pg_stat_get_wal_senders() s), \
 (SELECT string_agg(ROW(p.*)::text, ' ' ORDER BY p.slot_name) FROM pg_get_replication_slots() p))::text AS glance \
 FROM (SELECT pg_is_in_recovery() AS rec OFFSET 0) r";

const WHAT: &str = "glancing at PostgreSQL";

pub(crate) async fn glance(instance: &Instance) -> Result<Glance> {
    let sql = format!("/* pgherd: glance */ {SQL}");
    let slot = &instance.inner.connections.look;
    let answer = slot.run(instance, WHAT, &sql, QUERY_TIMEOUT).await?;
    read(&answer).ok_or_else(|| unexpected(WHAT))
}

/// The first of these answers.
pub(crate) fn read(answer: &Results) -> Option<Glance> {
    let row = answer.first()?.first()?;
    let text = row.try_get("glance").ok().flatten()?;
    Some(Glance(text.to_owned()))
}
