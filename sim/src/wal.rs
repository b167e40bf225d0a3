//! The write-ahead log as a list of records, so that two logs can be compared exactly.

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A client's row.
    Row(u64),
    /// A checkpoint, also one at shutdown or at the end of recovery.
    Checkpoint,
    /// The first record of a timeline.
    EndOfRecovery,
}

/// One record. `id` is unique in the world: equal ids mean the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) timeline: u32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) what: What,
}

/// Where the WAL of a new cluster begins.
pub(crate) const FIRST: u64 = 0x100_0000;

/// Records without a gap, from [`FIRST`] on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wal {
    pub(crate) records: Vec<Record>,
}

impl Wal {
    pub(crate) fn end(&self) -> u64 {
        self.records.last().map_or(FIRST, |record| record.end)
    }

    /// Timeline of its last record.
    pub(crate) fn timeline(&self) -> u32 {
        self.records.last().map_or(1, |record| record.timeline)
    }

    pub(crate) fn append(&mut self, id: u64, timeline: u32, length: u64, what: What) -> Record {
        let start = self.end();
        let record = Record {
            id,
            timeline,
            start,
            end: start + length,
            what,
        };
        self.records.push(record);
        record
    }

    fn index(&self, lsn: u64) -> usize {
        self.records.partition_point(|record| record.end <= lsn)
    }

    /// Records that begin at `lsn` or later.
    pub(crate) fn since(&self, lsn: u64) -> &[Record] {
        &self.records[self.index(lsn)..]
    }

    /// Removes what begins at `lsn` or later.
    pub(crate) fn cut(&mut self, lsn: u64) {
        let index = self.index(lsn);
        self.records.truncate(index);
    }

    /// Timeline of the record that ends at `lsn`.
    pub(crate) fn timeline_at(&self, lsn: u64) -> u32 {
        match self.index(lsn) {
            0 => 1,
            index => self.records[index - 1].timeline,
        }
    }

    /// Up to where both are the same.
    pub(crate) fn common(&self, other: &Wal) -> u64 {
        let same = |index: &usize| self.records[*index].id == other.records[*index].id;
        let most = self.records.len().min(other.records.len());
        // Ids at equal places agree up to one point and nowhere after it.
        let (mut low, mut high) = (0, most);
        while low < high {
            let middle = usize::midpoint(low, high);
            if same(&middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        match low {
            0 => FIRST,
            index => self.records[index - 1].end,
        }
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = u64> + '_ {
        self.records.iter().filter_map(|record| match record.what {
            What::Row(row) => Some(row),
            What::Checkpoint | What::EndOfRecovery => None,
        })
    }
}
