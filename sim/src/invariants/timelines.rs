//! Timelines only grow: no promotion makes one that was there before.

use crate::world::World;

/// Under this name runs count it.
const TWICE: &str = "TIMELINE MADE TWICE";

impl World {
    pub(crate) fn check_timeline(&mut self, node: usize, promoted: bool) {
        let timeline = self.nodes[node].pg.disk.timeline;
        let highest = self.oracle.highest;
        let picture = self.etcd.picture();
        let told = picture.history.as_ref().and_then(|it| it.value.last());
        if promoted && told.is_some_and(|last| timeline <= last.timeline.0 + 1) {
            self.fail(format!(
                "timelines: {node} makes {timeline}, which `history` tells of"
            ));
        }
        if promoted && timeline <= highest {
            // PostgreSQL picks the number, and a leader that was lost before anybody saw its timeline
            // leaves no trace of it. Known, rare, and counted: the story ends here.
            self.say(|| format!("{node} makes timeline {timeline} after {highest} was there"));
            *self.seen.faults.entry(TWICE).or_default() += 1;
            self.chaos.over = true;
        }
        if !promoted && timeline < highest {
            self.fail(format!(
                "timelines: {node} starts as primary on {timeline}, {highest} is there"
            ));
        }
        self.oracle.highest = highest.max(timeline);
    }
}
