//! Parameters of which a standby needs at least what its primary has: where it has less, it stops
//! to replay at the record that tells so, and cannot be promoted, until it is started with more.

use std::collections::BTreeMap;

/// Values by name, as text.
pub(crate) type Parameters = BTreeMap<String, String>;

/// Those of which WAL tells, with the values of who sets none.
const TRACKED: [(&str, u64); 5] = [
    ("max_connections", 100),
    ("max_locks_per_transaction", 64),
    ("max_prepared_transactions", 0),
    ("max_wal_senders", 10),
    ("max_worker_processes", 8),
];

fn value(of: &Parameters, name: &str, default: u64) -> u64 {
    let text = of.get(name);
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A standby with these cannot replay what a primary with those has done.
pub(crate) fn lacks(own: &Parameters, required: &Parameters) -> bool {
    let lacks = |(name, default): &(&str, u64)| {
        value(own, name, *default) < value(required, name, *default)
    };
    TRACKED.iter().any(lacks)
}

/// What a standby is started with: no less than its primary had.
pub(crate) fn at_least(written: &Parameters, required: &Parameters) -> Parameters {
    let mut all = written.clone();
    for (name, default) in TRACKED {
        if value(written, name, default) < value(required, name, default)
            && let Some(more) = required.get(name)
        {
            all.insert(name.into(), more.clone());
        }
    }
    all
}
