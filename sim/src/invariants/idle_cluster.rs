//! A healthy idle cluster does nothing: no job, no change of the lock, few writes to etcd.

use pgherd_model::{Span, Time};

use crate::world::World;

/// How long it is watched, after clients have stopped and the last positions were published.
const SETTLE: Span = Span::from_secs(25);
const WATCH: Span = Span::from_secs(40);

/// Counters when the watch began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    since: Time,
    counted: bool,
    jobs: u64,
    changes: u64,
    writes: u64,
}

impl World {
    pub(crate) fn begin_idle(&mut self) {
        self.chaos.idle = true;
        self.count(false);
    }

    fn count(&mut self, counted: bool) {
        self.oracle.idle = Some(Before {
            since: self.now,
            counted,
            jobs: self.oracle.jobs,
            changes: self.etcd.lock_changes,
            writes: self.etcd.writes,
        });
    }

    pub(crate) fn check_idle(&mut self) {
        let Some(before) = self.oracle.idle else {
            return;
        };
        let passed = self.now.since(before.since);
        if !before.counted {
            if passed > SETTLE {
                self.count(true);
            }
            return;
        }
        let (jobs, changes) = (
            self.oracle.jobs - before.jobs,
            self.etcd.lock_changes - before.changes,
        );
        let writes = self.etcd.writes - before.writes;
        if jobs > 0 || changes > 0 {
            self.fail(format!(
                "idle: {jobs} jobs and {changes} changes of the lock"
            ));
        }
        if passed > WATCH {
            // Each node at most one of each kind per loop_wait.
            let allowed = 4 * (WATCH.as_secs() / self.present().loop_wait.as_secs() + 1);
            if writes > allowed {
                self.fail(format!("idle: {writes} writes to etcd in {WATCH:?}"));
            }
            self.chaos.over = true;
        }
    }
}
