//! Timelines only grow: no promotion makes one that was there before.

use crate::world::World;

impl World {
    pub(crate) fn check_timeline(&mut self, node: usize, promoted: bool) {
        let timeline = self.nodes[node].pg.disk.timeline;
        let highest = self.oracle.highest;
        if promoted && timeline <= highest {
            self.fail(format!(
                "timelines: {node} makes {timeline} after {highest} was there"
            ));
        }
        if !promoted && timeline < highest {
            self.fail(format!(
                "timelines: {node} starts as primary on {timeline}, {highest} is there"
            ));
        }
        self.oracle.highest = highest.max(timeline);
    }
}
