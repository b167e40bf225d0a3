//! Timelines only grow: no promotion makes one that was there before.

use crate::world::World;

/// Under this name runs count it.
const TWICE: &str = "TIMELINE MADE TWICE";

impl World {
    pub(crate) fn check_timeline(&mut self, node: usize, promoted: bool) {
        let timeline = self.nodes[node].pg.disk.timeline;
        let made = (timeline, self.nodes[node].pg.disk.history.clone());
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
            // leaves no trace of it. Known, rare, and counted. Whoever made it first acknowledges nothing
            // any more.
            self.say(|| format!("{node} makes timeline {timeline} after {highest} was there"));
            *self.seen.faults.entry(TWICE).or_default() += 1;
            self.oracle.newest = None;
            // Nobody can tell two apart that begin at the same place, and one below the highest number
            // is not looked for: the story ends here.
            self.chaos.over |= timeline < highest || self.oracle.made.contains(&made);
        }
        if promoted {
            self.oracle.made.push(made);
        }
        if !promoted && timeline < highest {
            self.fail(format!(
                "timelines: {node} starts as primary on {timeline}, {highest} is there"
            ));
        }
        self.oracle.highest = highest.max(timeline);
    }
}
