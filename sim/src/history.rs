//! The history files in a pg_wal: which numbers of timelines PostgreSQL finds taken. What they tell
//! is beside the WAL itself, in `Disk::history`.

use std::collections::BTreeMap;

/// What a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum File {
    Ancestors,
    /// Nothing: it holds the number.
    Placeholder,
}

/// The files by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files(BTreeMap<u32, File>);

impl Files {
    /// As PostgreSQL's findNewestTimeLine: upwards to the first number without a file.
    pub(crate) fn newest(&self, own: u32) -> u32 {
        let above = own + 1..;
        above
            .take_while(|number| self.0.contains_key(number))
            .last()
            .unwrap_or(own)
    }

    /// The true history of a timeline.
    pub(crate) fn add(&mut self, timeline: u32) {
        if timeline > 1 {
            self.0.insert(timeline, File::Ancestors);
        }
    }

    /// There is a file of it, and it tells of ancestors.
    pub(crate) fn tells(&self, timeline: u32) -> bool {
        self.0.get(&timeline) == Some(&File::Ancestors)
    }

    /// No number up to `last` is missing.
    pub(crate) fn fill(&mut self, last: u32) {
        for number in 2..=last {
            self.0.entry(number).or_insert(File::Placeholder);
        }
    }

    /// Before a start as standby: placeholders that no history follows go.
    pub(crate) fn unreserve(&mut self) {
        while let Some(last) = self.0.last_entry()
            && *last.get() == File::Placeholder
        {
            last.remove();
        }
    }

    /// The newest of them tells of a timeline: recovery would begin at the end of nothing.
    pub(crate) fn ends_well(&self) -> bool {
        let newest = self.0.values().next_back();
        newest.is_none_or(|file| *file == File::Ancestors)
    }

    /// Nothing is missing after `own` and up to `theirs`.
    pub(crate) fn lead_to(&self, own: u32, theirs: u32) -> bool {
        (own + 1..=theirs).all(|number| self.0.contains_key(&number))
    }

    /// As a walreceiver: what it lacks after `own` and up to `theirs`. False: the upstream lacks it
    /// too, and the stream ends with an error.
    pub(crate) fn fetch(&mut self, upstream: &Files, own: u32, theirs: u32) -> bool {
        for number in own + 1..=theirs {
            if self.0.contains_key(&number) {
                continue;
            }
            let Some(file) = upstream.0.get(&number) else {
                return false;
            };
            self.0.insert(number, *file);
        }
        true
    }

    /// What pg_basebackup copies: the newest history; the agent fills what is below.
    pub(crate) fn of_copy(timeline: u32) -> Files {
        let mut files = Files::default();
        files.add(timeline);
        files.fill(timeline);
        files
    }
}
