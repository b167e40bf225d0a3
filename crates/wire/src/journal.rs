//! The journal of one agent: JSON lines beside the data, written by the agent and read by
//! `pgherd ctl timeline`, perhaps of another version. Nothing but the form of a line: who writes
//! what and when is the agent's business, what follows from it that of `ctl`.
//!
//! Every field may be missing and every unknown one is ignored, so that an old reader understands a
//! new journal. `at` comes first and has a fixed width: whoever wants the lines since a moment
//! compares texts and parses nothing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// What every line begins with; the moment follows.
const BEGIN: &str = "{\"at\":\"";

/// A moment by the wall clock, milliseconds since 1970. Written as `2026-11-21T00:21:27.566Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub i64);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        write!(f, "{}", at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

impl std::str::FromStr for Stamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Stamp, jiff::Error> {
        let at: jiff::Timestamp = text.parse()?;
        Ok(Stamp(at.as_millisecond()))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the wall clock.
    pub at: Stamp,
    /// When, by the boot-time clock: differences within one run of an agent are true whatever
    /// happens to the wall clock.
    #[serde(default)]
    pub boot_ms: u64,
    /// Name of the member.
    pub member: String,
    /// One run of its agent: when it began and its process id.
    #[serde(default)]
    pub agent: String,
    /// Counts the lines of one run.
    #[serde(default)]
    pub seq: u64,
    /// What the agent knew then.
    #[serde(flatten)]
    pub state: State,
    /// What happened.
    #[serde(flatten)]
    pub what: What,
    /// Lines that were lost before this one, because the disk did not keep up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// What an agent knew at the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Cluster id of the etcd that revisions here are of, hexadecimal. One that is built anew counts
    /// from the beginning; where it has got another id, nothing need be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<String>,
    /// Revision of etcd that the agent's picture of the cluster shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Holder of the lock in that picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Its term: the revision at which the lock was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// The agent's own role, as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// State of its PostgreSQL, as published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
    /// Timeline of its PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<u32>,
    /// Its position, `0/3000148`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// This agent's last write to etcd: with the revisions that others see, it tells how clocks
    /// compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrote: Option<Wrote>,
}

/// A write to etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrote {
    /// Revision that it made.
    pub revision: u64,
    /// When it was sent, by the boot-time clock.
    pub boot_ms: u64,
}

/// What happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The agent began.
    Start {
        /// Its version.
        version: String,
    },
    /// Another decision than before.
    Decision {
        /// The rule that answered.
        rule: String,
        /// `routine`, `info`, `warning` or `error`.
        severity: String,
        /// One sentence.
        reason: String,
        /// Names of the orders, without those that are routine.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        actions: Vec<String>,
        /// What it was decided on.
        #[serde(default)]
        view: Box<Seen>,
    },
    /// An order was carried out, or not.
    Action {
        /// Its name.
        name: String,
        /// Upon what: members, an address, a slot.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// `done`, `refused` or `failed`.
        outcome: String,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        error: String,
        /// How long it took.
        took_ms: u64,
    },
    /// A long job began.
    JobBegun {
        /// Its name.
        name: String,
        /// What it does.
        words: String,
    },
    /// A long job ended.
    JobEnded {
        /// Its name.
        name: String,
        /// What it did.
        words: String,
        /// `done` or `failed`.
        outcome: String,
        /// Why it failed.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        error: String,
        /// How long it took.
        took_ms: u64,
    },
    /// Another member answered a question, or did not.
    Answer(Heard),
    /// Something was noticed between two looks.
    Noticed {
        /// `postmaster_gone`, `guard_fired`, `guard_hangs`, `guard_gone`, `probe_failed` or `shutdown`.
        event: String,
        /// More about it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// Written by a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// An answer to `GET /patroni`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Who was asked.
    pub from: String,
    /// It answered.
    pub answered: bool,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub its_role: Option<String>,
    /// State of its PostgreSQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub its_state: Option<String>,
    /// Its timeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub its_timeline: Option<u32>,
    /// Its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub its_lsn: Option<String>,
}

/// The facts of a decision, as far as a post-mortem wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seen {
    /// For how long etcd has not been readable; `None`: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blind_ms: Option<u64>,
    /// `alive`, `down` or `leftovers`.
    pub postmaster: String,
    /// `initialized`, `empty`, `unfinished` or `unusable`.
    pub data: String,
    /// Its WAL receiver streams.
    pub streaming: bool,
    /// From where it is to stream, `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// `armed`, `ready`, `failed` or `none`.
    pub guard: String,
    /// How long the own lease goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_left_ms: Option<u64>,
    /// The last other holder of the lock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former: Option<Former>,
    /// That holder has not renewed its lease as it should.
    #[serde(skip_serializing_if = "is_false")]
    pub stale: bool,
    /// The job that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// What people asked for: `switchover from n1 to n2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The cluster is in a pause.
    #[serde(skip_serializing_if = "is_false")]
    pub pause: bool,
    /// Who is synchronous, in synchronous mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sync: Vec<String>,
    /// Positions of the others, as last answered: `replica, timeline 1, 0/3000148, 12 ms ago`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, String>,
}

/// The last other holder of the lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Former {
    /// Who.
    pub name: String,
    /// Its lease was not renewed later than that, by the boot-time clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewed_boot_ms: Option<u64>,
}

/// First line of the answer to `GET /journal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the member whose journal follows.
    pub journal: String,
    /// Its wall clock when it answered.
    pub now: Stamp,
    /// Older lines were left out to keep the answer short.
    #[serde(default)]
    pub left_out: bool,
}

impl Entry {
    /// The line, with its end.
    ///
    /// # Errors
    /// Those of the serializer; there is no value that has one.
    pub fn to_line(&self) -> serde_json::Result<String> {
        let mut line = serde_json::to_string(self)?;
        line.push('\n');
        Ok(line)
    }
}

/// The lines of a journal, and how many could not be read: torn by a crash, or damaged.
pub fn read(text: &str) -> (Vec<Entry>, usize) {
    let mut entries = Vec::new();
    let mut unreadable = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            Err(_) => unreadable += 1,
        }
    }
    (entries, unreadable)
}

/// Whether a line tells of `since` or later. A line without a moment is none.
pub fn is_since(line: &str, since: Stamp) -> bool {
    line.strip_prefix(BEGIN)
        .and_then(|rest| rest.split_once('"'))
        .is_some_and(|(at, _)| at >= since.to_string().as_str())
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            at: Stamp(1_795_220_487_566),
            boot_ms: 4711,
            member: "n1".into(),
            agent: "run".into(),
            seq: 3,
            state: State {
                term: Some(12),
                leader: Some("n2".into()),
                ..State::default()
            },
            what: What::Action {
                name: "AcquireLeader".into(),
                detail: String::new(),
                outcome: "done".into(),
                error: String::new(),
                took_ms: 2,
            },
            dropped: 0,
        }
    }

    #[test]
    fn a_line_begins_with_its_moment() {
        let line = entry().to_line().unwrap();
        let expected = "{\"at\":\"2026-11-21T00:21:27.566Z\",\"boot_ms\":4711,\"member\":\"n1\",\
                        \"agent\":\"run\",\"seq\":3,\"leader\":\"n2\",\"term\":12,\"kind\":\"action\",\
                        \"name\":\"AcquireLeader\",\"outcome\":\"done\",\"took_ms\":2}\n";
        assert_eq!(line, expected);
        assert!(is_since(&line, Stamp(1_795_220_487_566)));
        assert!(!is_since(&line, Stamp(1_795_220_487_567)));
        assert!(!is_since("{\"at\":\"2026", Stamp(0)));
    }

    #[test]
    fn torn_lines_are_skipped_and_counted() {
        let line = entry().to_line().unwrap();
        let text = format!("{line}{}\n{line}{}", &line[..40], &line[..7]);
        assert_eq!(read(&text), (vec![entry(), entry()], 2));
    }

    #[test]
    fn a_newer_version_is_understood_as_far_as_possible() {
        let line =
            "{\"at\":\"2026-11-21T00:21:27.566Z\",\"member\":\"n1\",\"kind\":\"new\",\"x\":{}}";
        let (entries, unreadable) = read(line);
        assert_eq!((entries.len(), unreadable), (1, 0));
        assert_eq!(entries[0].what, What::Unknown);
        let answer = "{\"at\":\"2026-11-21T00:21:27.566Z\",\"member\":\"n1\",\"role\":\"replica\",\
                      \"kind\":\"answer\",\"from\":\"n2\",\"answered\":false}";
        let heard = Heard {
            from: "n2".into(),
            ..Heard::default()
        };
        assert_eq!(read(answer).0[0].what, What::Answer(heard));
    }
}
