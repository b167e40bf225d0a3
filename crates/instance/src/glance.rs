//! What changes by itself on a running PostgreSQL, in one row: whoever has looked at everything, and then
//! sees the same glance again, knows that a look would show the same. It is compared and not understood, but for
//! positions in the WAL, which move a little on a server that nobody writes to as well.
//!
//! In it, beside positions and who receives from whom: when the server was started, and when it last read
//! its configuration, which every setting that a look shows waits for. Not in it: what the checkpointer
//! does, which is dear to ask for (whoever waits for that has to look), and the timeline of a standby that
//! receives nothing.

use crate::connection::{QUERY_TIMEOUT, Results};
use crate::look::unexpected;
use crate::{Instance, Result};
use pgherd_model::Lsn;

/// What PostgreSQL said at one moment. Between equal ones nothing has changed that a
/// [`Look`](pgherd_model::Look) shows, but for `checkpointer_ready`, and the timeline of a standby without
/// receiver; nor was the configuration read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance(String);

impl Glance {
    /// Whether nothing but positions has changed between the two, and none of them by more than so many bytes.
    pub fn is_near(&self, other: &Glance, bytes: u64) -> bool {
        // No other value has a stroke between two numbers.
        let ends = |c| !may_be_position(c);
        let mut here = self.0.split_inclusive(ends);
        let mut there = other.0.split_inclusive(ends);
        loop {
            match (here.next(), there.next()) {
                (None, None) => return true,
                (Some(one), Some(two)) if one == two || are_near(one, two, bytes) => {}
                _ => return false,
            }
        }
    }
}

/// What a position in the WAL is written with.
fn may_be_position(c: char) -> bool {
    c.is_ascii_hexdigit() || c == '/'
}

/// Two positions, each with what follows it.
fn are_near(one: &str, two: &str, bytes: u64) -> bool {
    match (position(one), position(two)) {
        (Some((one, after)), Some((two, then))) => {
            after == then && one.since(two).max(two.since(one)) <= bytes
        }
        _ => false,
    }
}

fn position(text: &str) -> Option<(Lsn, &str)> {
    let end = text.find(|c| !may_be_position(c)).unwrap_or(text.len());
    let (position, rest) = text.split_at(end);
    Some((position.parse().ok()?, rest))
}

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

#[cfg(test)]
mod tests {
    use super::Glance;

    #[test]
    fn only_positions_may_be_near() {
        let one = "(\"2026-12-01 05:43:01+00\",f,0/4048D00,,\"(7977,streaming,0/4048D00,1/0)\")";
        for (change, near) in [
            (("0/4048D00", "0/404AD00"), true),
            (("0/4048D00", "0/404AD01"), false),
            (("1/0", "0/FFFFFFF0"), true),
            (("1/0", "2/0"), false),
            (("7977", "7978"), false),
            (("43:01", "43:02"), false),
            (("0/4048D00,,", ",,"), false),
            (("0/4048D00,,", "0/4048D00, ,"), false),
            (("streaming", "catchup"), false),
            (("1/0)", "1/0),\"(7978)"), false),
        ] {
            let other = Glance(one.replace(change.0, change.1));
            let glance = Glance(one.to_owned());
            assert_ne!(glance, other);
            assert_eq!(glance.is_near(&other, 8192), near, "{change:?}");
            assert_eq!(other.is_near(&glance, 8192), near, "{change:?}");
            assert!(!glance.is_near(&other, 0), "{change:?}");
            assert!(glance.is_near(&glance.clone(), 0));
        }
    }
}
