//! A switchover loses no acknowledged row; in synchronous mode nothing does, but for a failover to
//! a member that an operator named.

use pgherd_model::Span;

use crate::world::World;

impl World {
    /// Rows that this node does not have, of those that it must have.
    pub(crate) fn missing_rows(&self, node: usize, all: bool) -> Vec<u64> {
        // Rows are written in the order of their numbers.
        let mut have = self.nodes[node].pg.disk.wal.rows().peekable();
        let mut has = |row: u64| {
            while have.next_if(|it| *it < row).is_some() {}
            have.peek() == Some(&row)
        };
        let rows = self.oracle.rows.iter();
        rows.filter(|(row, it)| (all || it.synchronous) && !has(**row))
            .map(|(row, _)| *row)
            .collect()
    }

    pub(crate) fn check_rows(&mut self, node: usize) {
        let named = self.is_named(node);
        let missing = self.missing_rows(node, false);
        if let Some(first) = missing.first().filter(|_| !named) {
            let count = missing.len();
            self.fail(format!(
                "rows: {node} lacks {count} synchronous rows, the first is {first}"
            ));
        }
        let calm =
            self.chaos.open == 0 && self.now.since(self.chaos.disturbed) > Span::from_secs(20);
        if std::mem::take(&mut self.oracle.released) && calm {
            let missing = self.missing_rows(node, true);
            if let Some(first) = missing.first() {
                let count = missing.len();
                self.fail(format!(
                    "rows: a switchover to {node} lost {count}, the first is {first}"
                ));
            }
        }
        // What a failover lost is lost; it is not held against the next one.
        let lost = self.missing_rows(node, true);
        for row in lost {
            self.oracle.rows.remove(&row);
        }
    }
}
