//! The keys as last seen, and how reads and watch events move them forward, never backward.

use crate::terms::Header;
use etcd_client::{Event, EventType, KeyValue};
use pgherd_model::{Cluster, Leader, MemberName, Stored};
use pgherd_wire::patroni::dcs;
use pgherd_wire::patroni::keys::Key;
use std::collections::BTreeMap;

/// Path of the lock.
const LEADER: &str = "leader";

/// One key as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) value: String,
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) lease: i64,
}

impl Raw {
    pub(crate) fn of(kv: &KeyValue) -> Raw {
        let revision = |number: i64| u64::try_from(number).unwrap_or(0);
        Raw {
            value: String::from_utf8_lossy(kv.value()).into_owned(),
            create_revision: revision(kv.create_revision()),
            mod_revision: revision(kv.mod_revision()),
            lease: kv.lease(),
        }
    }
}

/// A change of one key at one revision.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) path: String,
    pub(crate) revision: u64,
    /// `None`: deleted.
    pub(crate) raw: Option<Raw>,
}

impl Change {
    /// From a watch event; `None` for keys outside `prefix`.
    pub(crate) fn of(event: &Event, prefix: &str) -> Option<Change> {
        let kv = event.kv()?;
        let key = String::from_utf8_lossy(kv.key()).into_owned();
        let raw = Raw::of(kv);
        Some(Change {
            path: key.strip_prefix(prefix)?.to_owned(),
            revision: raw.mod_revision,
            raw: (event.event_type() == EventType::Put).then_some(raw),
        })
    }
}

/// What a probe said about the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The image was current when the probe was sent.
    Current,
    /// etcd has something that the watch has not delivered yet.
    Behind,
}

/// Paths (without prefix) and their keys, complete up to `revision` of `epoch`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    epoch: u64,
    /// Cluster id of etcd.
    etcd: u64,
    revision: u64,
    read: bool,
    keys: BTreeMap<String, Raw>,
    /// When `leader` was deleted, or later; `None`: it is there, or was never seen.
    leader_deleted: Option<u64>,
    /// Create revision of the last `leader` key by the order of events, which tell of each; `None`: it is gone, or
    /// not known which was the last.
    holder: Option<u64>,
    /// Create revision of the key whose deletion `leader_deleted` tells.
    leader_ended: Option<u64>,
    /// That of the last one whose deletion the watch has told of after a read had shown that it is gone. What comes after
    /// that read tells that it was the last.
    passed_over: Option<u64>,
}

impl Image {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn etcd(&self) -> u64 {
        self.etcd
    }

    /// Takes over a complete linearizable read. `gap`: changes before it may have been missed.
    /// `true`: a key differs from before, or what is known of the lock that is gone.
    pub(crate) fn replace(
        &mut self,
        epoch: u64,
        header: Header,
        keys: BTreeMap<String, Raw>,
        gap: bool,
    ) -> bool {
        let revision = header.revision;
        if self.read && (epoch, revision) < (self.epoch, self.revision) {
            return false;
        }
        let changed = !self.read || self.keys != keys;
        let vacancy = self.vacancy();
        let leader_deleted = match (keys.contains_key(LEADER), self.keys.contains_key(LEADER)) {
            (true, _) => None,
            // Somewhere between the two pictures: no later than this one.
            (false, true) => Some(revision),
            // Without a watch somebody may have held it in between.
            (false, false) if gap && self.read => Some(revision),
            (false, false) => self.leader_deleted.filter(|_| epoch == self.epoch),
        };
        let same_vacancy = leader_deleted.is_some() && leader_deleted == self.leader_deleted;
        let leader_ended = self.leader_ended.filter(|_| same_vacancy);
        // What happened between two pictures is told by the watch, if there was one.
        let holder = match gap || epoch != self.epoch || !self.read {
            true => keys.get(LEADER).map(|raw| raw.create_revision),
            false => self.holder,
        };
        *self = Image {
            epoch,
            etcd: header.cluster,
            revision,
            read: true,
            keys,
            leader_deleted,
            holder,
            leader_ended,
            passed_over: None,
        };
        changed || vacancy != self.vacancy()
    }

    /// What is known of the lock that is gone.
    fn vacancy(&self) -> (Option<u64>, Option<u64>) {
        (self.leader_deleted, self.leader_ended)
    }

    /// Applies one watch response, which always holds whole revisions; what the image knows
    /// already is skipped, but for who held the lock. `true`: something was new.
    pub(crate) fn apply(&mut self, changes: Vec<Change>) -> bool {
        let known = self.revision;
        let vacancy = self.vacancy();
        let mut news = false;
        for change in changes {
            let missed = change.revision <= known;
            if change.path == LEADER {
                self.note_leader(&change, missed);
            }
            if missed {
                continue;
            }
            if change.path != LEADER && self.leader_deleted.is_some() {
                self.leader_ended = self.leader_ended.or(self.passed_over.take());
            }
            news = true;
            self.revision = self.revision.max(change.revision);
            match change.raw {
                Some(raw) => self.keys.insert(change.path, raw),
                None => self.keys.remove(&change.path),
            };
        }
        news || vacancy != self.vacancy()
    }

    /// Who came and who went. `missed`: a read was quicker than the watch, and showed what is, not what has been.
    fn note_leader(&mut self, change: &Change, missed: bool) {
        let Some(raw) = &change.raw else {
            let ended = self.holder.take();
            self.passed_over = ended.filter(|_| missed);
            if !missed {
                self.leader_deleted = Some(change.revision);
                self.leader_ended = ended;
            } else if !self.keys.contains_key(LEADER) {
                // More of what the read has passed over may come.
                let deleted = self.leader_deleted.max(Some(change.revision));
                if deleted != self.leader_deleted {
                    (self.leader_deleted, self.leader_ended) = (deleted, None);
                }
            }
            return;
        };
        self.holder = Some(raw.create_revision);
        self.passed_over = None;
        if !missed {
            (self.leader_deleted, self.leader_ended) = (None, None);
        }
    }

    /// Judges the image by a linearizable list of paths and their mod revisions.
    pub(crate) fn prove(
        &mut self,
        epoch: u64,
        revision: u64,
        seen: &BTreeMap<String, u64>,
    ) -> Proof {
        if epoch != self.epoch {
            return Proof::Behind;
        }
        if self.revision >= revision {
            return Proof::Current;
        }
        let same = self.keys.len() == seen.len()
            && self
                .keys
                .iter()
                .zip(seen)
                .all(|((path, raw), (other, at))| path == other && raw.mod_revision == *at);
        if !same {
            return Proof::Behind;
        }
        self.revision = revision;
        Proof::Current
    }

    /// The same in the words of `model`.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster {
            revision: self.revision,
            leader_deleted: self.leader_deleted,
            leader_ended: self.leader_ended,
            ..Cluster::default()
        };
        for (path, raw) in &self.keys {
            if let Some(key) = Key::parse(path) {
                put(&mut cluster, key, raw);
            }
        }
        cluster
    }
}

fn put(cluster: &mut Cluster, key: Key, raw: &Raw) {
    let text = raw.value.as_str();
    match key {
        Key::Initialize => cluster.initialize = stored(raw, dcs::initialize_from_text(text)),
        Key::Config => cluster.config = stored(raw, dcs::config_from_text(text)),
        Key::Leader => {
            cluster.leader = Some(Leader {
                name: MemberName::from(text),
                lease: raw.lease,
                create_revision: raw.create_revision,
                mod_revision: raw.mod_revision,
            });
        }
        Key::Member(name) => {
            let member = dcs::member_from_json(name.clone(), text, raw.lease);
            cluster.members.insert(
                name,
                Stored {
                    value: member,
                    revision: raw.mod_revision,
                },
            );
        }
        Key::Status => cluster.status = stored(raw, dcs::status_from_text(text)),
        // Sorted before `status`, which replaces it where both are there.
        Key::Optime => cluster.status = stored(raw, dcs::status_from_text(text)),
        Key::Sync => cluster.sync = stored(raw, dcs::sync_from_text(text)),
        Key::Failover => cluster.failover = stored(raw, dcs::failover_from_text(text)),
        Key::Failsafe => cluster.failsafe = stored(raw, dcs::failsafe_from_text(text)),
        Key::History => cluster.history = stored(raw, dcs::history_from_text(text)),
    }
}

fn stored<T>(raw: &Raw, value: T) -> Option<Stored<T>> {
    Some(Stored {
        value,
        revision: raw.mod_revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(value: &str, create_revision: u64, mod_revision: u64) -> Raw {
        Raw {
            value: value.into(),
            create_revision,
            mod_revision,
            lease: 0,
        }
    }

    fn put(path: &str, value: &str, revision: u64) -> Change {
        Change {
            path: path.into(),
            revision,
            raw: Some(raw(value, revision, revision)),
        }
    }

    fn gone(path: &str, revision: u64) -> Change {
        Change {
            path: path.into(),
            revision,
            raw: None,
        }
    }

    fn at(revision: u64) -> Header {
        Header {
            cluster: 7,
            term: 1,
            revision,
            member: 1,
        }
    }

    fn image(revision: u64) -> Image {
        let mut image = Image::default();
        let keys = BTreeMap::from([("leader".to_owned(), raw("a", 3, 3))]);
        assert!(image.replace(0, at(revision), keys, true));
        image
    }

    #[test]
    fn events_that_are_known_already_do_not_move_it_back() {
        let mut image = image(10);
        assert!(!image.apply(vec![gone("leader", 9), put("leader", "b", 10)]));
        assert_eq!(image.cluster().leader_name(), Some(&"a".into()));
        assert!(image.apply(vec![gone("leader", 11), put("status", "17", 11)]));
        assert_eq!(image.cluster().leader_name(), None);
        assert_eq!(image.cluster().leader_deleted, Some(11));
        assert_eq!(image.revision(), 11);
    }

    #[test]
    fn whose_lock_ended_is_known_from_events_and_not_from_reads() {
        let ended = |image: &Image| image.cluster().leader_ended;
        let mut watched = image(10);
        watched.apply(vec![gone("leader", 11)]);
        assert_eq!(ended(&watched), Some(3));
        watched.apply(vec![put("leader", "b", 12), put("status", "17", 13)]);
        assert_eq!(ended(&watched), None);
        watched.apply(vec![
            gone("leader", 14),
            put("leader", "c", 15),
            gone("leader", 16),
        ]);
        assert_eq!(ended(&watched), Some(15), "c came and went in one look");

        let mut read = image(10);
        assert!(read.replace(0, at(16), BTreeMap::new(), false));
        assert_eq!(ended(&read), None, "a read does not tell");
        read.apply(vec![gone("leader", 14)]);
        assert_eq!(ended(&read), None, "more may come");
        let mut passed = read.clone();
        passed.apply(vec![put("status", "17", 17)]);
        assert_eq!(ended(&passed), Some(3), "no more came");
        read.apply(vec![put("leader", "c", 17), gone("leader", 18)]);
        assert_eq!(ended(&read), Some(17));

        let mut blind = image(10);
        assert!(blind.replace(0, at(16), BTreeMap::new(), true));
        blind.apply(vec![put("status", "17", 17)]);
        assert_eq!(ended(&blind), None);
    }

    #[test]
    fn another_vacancy_is_news_where_every_key_is_as_before() {
        let mut blind = image(10);
        assert!(blind.apply(vec![gone("leader", 11)]));
        let vacancy =
            |image: &Image| (image.cluster().leader_deleted, image.cluster().leader_ended);
        assert_eq!(vacancy(&blind), (Some(11), Some(3)));
        // Somebody took it and lost it while nothing was heard of etcd.
        assert!(blind.replace(0, at(13), BTreeMap::new(), true));
        assert_eq!(vacancy(&blind), (Some(13), None));

        let mut overtaken = image(10);
        overtaken.apply(vec![gone("leader", 11)]);
        // A read with the watch alive, which tells of the same only after it.
        assert!(!overtaken.replace(0, at(13), BTreeMap::new(), false));
        assert!(overtaken.apply(vec![put("leader", "b", 12), gone("leader", 13)]));
        assert_eq!(vacancy(&overtaken), (Some(13), None));

        // So does a proof by keys that are as they were.
        let mut proved = image(10);
        proved.apply(vec![gone("leader", 11)]);
        assert_eq!(proved.prove(0, 13, &BTreeMap::new()), Proof::Current);
        assert!(proved.apply(vec![put("leader", "b", 12), gone("leader", 13)]));
        assert_eq!(vacancy(&proved), (Some(13), None));
    }

    #[test]
    fn an_older_read_changes_nothing_and_a_newer_one_everything() {
        let mut image = image(10);
        assert!(!image.replace(0, at(9), BTreeMap::new(), false));
        assert!(image.cluster().leader.is_some());
        assert!(image.replace(0, at(12), BTreeMap::new(), false));
        assert!(image.cluster().leader.is_none());
        assert_eq!(image.etcd(), 7);
        let rebuilt = Header {
            cluster: 8,
            ..at(2)
        };
        let keys = BTreeMap::from([("leader".into(), raw("b", 2, 2))]);
        assert!(
            image.replace(1, rebuilt, keys, true),
            "a new epoch starts at any revision"
        );
        assert_eq!((image.revision(), image.etcd()), (2, 8));
    }

    #[test]
    fn proof_needs_the_same_keys_at_the_same_revisions() {
        let mut image = image(10);
        let seen = |at: u64| BTreeMap::from([("leader".to_owned(), at)]);
        assert_eq!(
            image.prove(0, 10, &seen(99)),
            Proof::Current,
            "image is newer"
        );
        assert_eq!(image.prove(0, 15, &seen(3)), Proof::Current);
        assert_eq!(image.revision(), 15);
        assert_eq!(image.prove(0, 16, &seen(16)), Proof::Behind);
        assert_eq!(image.prove(0, 16, &BTreeMap::new()), Proof::Behind);
        assert_eq!(image.prove(1, 16, &seen(3)), Proof::Behind);
    }

    #[test]
    fn status_wins_over_the_older_key_and_unknown_keys_are_left_alone() {
        let mut image = Image::default();
        image.apply(vec![
            put("optime/leader", "5", 2),
            put("status", r#"{"optime":7}"#, 3),
            put("0/leader", "x", 4),
        ]);
        let cluster = image.cluster();
        assert_eq!(cluster.optime().map(|lsn| lsn.0), Some(7));
        assert!(cluster.leader.is_none());
    }
}
