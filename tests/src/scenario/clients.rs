//! Clients that write, and what came of their rows: those whom a story lets run, which go to whichever member
//! accepts a row, and those who write through every node directly, all the time.

use crate::sql::Target;
use crate::watcher::{self, Watcher};
use crate::writer::{self, Ack, Writer};
use crate::{Node, clock};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two rows of the clients of a story.
const PAUSE: Duration = Duration::from_millis(2);
/// No client writes so many.
const EACH: i64 = 1 << 32;

/// All of them.
#[derive(Debug)]
pub(super) struct Clients {
    targets: Vec<Target>,
    everywhere: Watcher,
    writer: Option<Writer>,
    /// How many writers have begun.
    begun: i64,
    /// Rows that writers were told are there.
    acks: Vec<Ack>,
    /// Of those, the ones of the present writer.
    pulled: usize,
    /// The last one, or the last step.
    last: Duration,
    /// Since the last step.
    longest: Duration,
}

impl Clients {
    /// Those who write everywhere begin at once.
    pub(super) fn begin(targets: Vec<Target>) -> Clients {
        Clients {
            everywhere: Watcher::begin(targets.clone()),
            targets,
            writer: None,
            begun: 0,
            acks: Vec::new(),
            pulled: 0,
            last: clock::now(),
            longest: Duration::ZERO,
        }
    }

    /// `writers run`, `writers stop`.
    pub(super) fn run(&mut self, run: bool) {
        if !run {
            self.pull();
            let last = self.writer.take().map(Writer::stop);
            let acks = last.map_or_else(Vec::new, |report| report.acks);
            self.take(acks.get(self.pulled..).unwrap_or_default().to_vec());
        } else if self.writer.is_none() {
            let first = self.begun * EACH + 1;
            self.writer = Some(Writer::begin(self.targets.clone(), PAUSE, first));
            self.begun += 1;
            self.pulled = 0;
        }
    }

    /// Gaps are looked for from now on.
    pub(super) fn mark(&mut self) {
        self.pull();
        self.last = clock::now();
        self.longest = Duration::ZERO;
    }

    /// Rows of writers that were acknowledged.
    pub(super) fn acknowledged(&mut self) -> usize {
        self.pull();
        self.acks.len()
    }

    /// The longest time without a row of a writer, up to now.
    pub(super) fn gap(&mut self) -> Duration {
        self.pull();
        let now = clock::now().saturating_sub(self.last);
        self.longest.max(now)
    }

    fn pull(&mut self) {
        let writer = self.writer.as_ref();
        let new = writer.map_or_else(Vec::new, |writer| writer.acks_from(self.pulled));
        self.pulled += new.len();
        self.take(new);
    }

    fn take(&mut self, new: Vec<Ack>) {
        for ack in &new {
            self.longest = self.longest.max(ack.acked.saturating_sub(self.last));
            self.last = self.last.max(ack.acked);
        }
        self.acks.extend(new);
    }

    /// How many rows were acknowledged before this question, and which of them this member does not have.
    pub(super) async fn lost(&mut self, primary: &Target) -> Result<(usize, Vec<Ack>), String> {
        self.pull();
        lost(&self.everywhere.acks(), &self.acks, primary).await
    }

    /// At the end of a story: nothing was acknowledged that may not have been. `synchronous`: nothing at all may
    /// be lost. Gives back a line to be shown.
    pub(super) async fn verdict(
        mut self,
        primary: &Node,
        synchronous: bool,
    ) -> Result<String, String> {
        self.run(false);
        let everywhere = self.everywhere.stop();
        let (rows, lost) = lost(&everywhere, &self.acks, &primary.target()).await?;
        let mut wrong = watcher::violations(&everywhere);
        wrong.extend(watcher::violations(&self.acks));
        if everywhere.is_empty() {
            wrong.push(
                "no client that writes through a node directly was acknowledged a row".into(),
            );
        }
        if synchronous && let Some(first) = lost.first() {
            let count = lost.len();
            wrong.push(format!(
                "{count} acknowledged rows are lost in a synchronous mode, the first: {first:?}"
            ));
        }
        let mut by: BTreeMap<&str, usize> = BTreeMap::new();
        for ack in everywhere.iter().chain(&self.acks) {
            *by.entry(&ack.node).or_default() += 1;
        }
        let told = format!(
            "{rows} rows acknowledged, {} of them lost; by member {by:?}",
            lost.len()
        );
        match wrong.is_empty() {
            true => Ok(told),
            // The first of them tell what happened; there may be thousands.
            false => {
                wrong.truncate(10);
                Err(format!("{told}\n  {}", wrong.join("\n  ")))
            }
        }
    }
}

async fn lost(
    everywhere: &[Ack],
    writers: &[Ack],
    primary: &Target,
) -> Result<(usize, Vec<Ack>), String> {
    let mut lost = Vec::new();
    // Without a row there may be no table either.
    for (acks, table) in [(everywhere, watcher::TABLE), (writers, writer::TABLE)] {
        if !acks.is_empty() {
            lost.extend(writer::missing(acks, table, primary).await?);
        }
    }
    Ok((everywhere.len() + writers.len(), lost))
}
