//! A healthy idle cluster does nothing: no job, no change of the lock, few writes to etcd. Before that every standby gets the
//! logical slots that it lacks.

use pgherd_model::{Span, Time};

use crate::event::NODES;
use crate::world::World;

/// How long it is watched, after clients have stopped and the last positions were published.
const SETTLE: Span = Span::from_secs(25);
const WATCH: Span = Span::from_secs(40);
/// How long logical slots may take to be everywhere: after three tries the next one waits for three minutes.
const COPIED: Span = Span::from_secs(300);

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
        self.oracle.idle_since = Some(self.now);
        self.count(false);
    }

    /// For how long nobody has written any more.
    pub(crate) fn idle_for(&self) -> Span {
        let since = self.oracle.idle_since;
        since.map_or(Span::ZERO, |since| self.now.since(since))
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

    /// One that may be promoted and has not all of them, or has just been stopped for them. Without a leader nobody can
    /// have them: where it is lost for good and the others lag too far, that is how it stays. Nor while the cluster is the
    /// copy of another one, which has no primary to make them.
    fn lacks_slots(&self) -> Option<usize> {
        self.etcd.picture().leader.as_ref()?;
        let settings = self.present();
        if settings.standby_cluster.is_some() {
            return None;
        }
        let wanted = || settings.logical_slots.iter();
        let mut nodes = (0..NODES).filter(|node| Some(*node) != self.swarm.nofailover);
        nodes.find(|node| {
            let pg = &self.nodes[*node].pg;
            let lacks = wanted().any(|slot| !pg.disk.logical.contains_key(&slot.name));
            lacks || (wanted().next().is_some() && !pg.accepts())
        })
    }

    pub(crate) fn check_idle(&mut self) {
        let Some(before) = self.oracle.idle else {
            return;
        };
        let passed = self.now.since(before.since);
        if !before.counted {
            match self.lacks_slots() {
                Some(node) if passed > COPIED => {
                    self.fail(format!("idle: node {node} never got its logical slots"));
                }
                None if passed > SETTLE => self.count(true),
                _ => {}
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
