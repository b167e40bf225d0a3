//! Timelines only grow: no promotion makes one that was there before.

use crate::world::World;

/// Under this name runs count it.
const TWICE: &str = "TIMELINE MADE TWICE";

impl World {
    pub(crate) fn check_timeline(&mut self, node: usize, promoted: bool) {
        let timeline = self.nodes[node].pg.disk.timeline;
        let highest = self.oracle.highest;
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
