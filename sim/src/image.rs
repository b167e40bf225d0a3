//! What an agent knows of the keys, and how reads and events of the watch move it forward: as
//! `dcs::image` and `dcs::keeper` do.

use std::rc::Rc;

use pgherd_model::Cluster;

use crate::agent::Agent;
use crate::etcd::Turn;

impl Agent {
    /// Takes over a complete read; `gap`: changes before it may have been missed. `true`: it is news.
    pub(crate) fn take_read(&mut self, picture: &Rc<Cluster>, gap: bool) -> bool {
        let first = self.picture.is_none();
        let known = self.picture.as_ref().map_or(0, |known| known.revision);
        if picture.revision < known {
            return false;
        }
        let had = self.picture.as_ref().is_some_and(|it| it.leader.is_some());
        let deleted = match (picture.leader.is_some(), had) {
            (true, _) => None,
            // Somewhere between the two pictures: no later than this one.
            (false, true) => Some(picture.revision),
            // Without a watch somebody may have held it in between.
            (false, false) if gap && !first => Some(picture.revision),
            (false, false) => self.leader_deleted,
        };
        let vacancy = (self.leader_deleted, self.leader_ended);
        let same = deleted.is_some() && deleted == self.leader_deleted;
        self.leader_deleted = deleted;
        self.leader_ended = self.leader_ended.filter(|_| same);
        self.passed_over = None;
        if gap || first {
            let leader = picture.leader.as_ref();
            self.holder = leader.map(|leader| leader.create_revision);
            self.told = picture.revision;
        }
        self.picture = Some(picture.clone());
        first || picture.revision > known || vacancy != (self.leader_deleted, self.leader_ended)
    }

    /// The watch has told everything up to this picture. `true`: it is news.
    pub(crate) fn take_events(&mut self, picture: &Rc<Cluster>, turns: &[Turn]) -> bool {
        let Some(old) = self.picture.clone() else {
            return false;
        };
        let vacancy = (self.leader_deleted, self.leader_ended);
        let new = |turn: &&Turn| turn.revision > self.told && turn.revision <= picture.revision;
        let new: Vec<Turn> = turns.iter().filter(new).copied().collect();
        for turn in new {
            self.note_turn(turn, turn.revision <= old.revision);
        }
        self.told = self.told.max(picture.revision);
        let news = picture.revision > old.revision;
        if news && self.leader_deleted.is_some() {
            // What came after that read tells that no other lock ended before it.
            self.leader_ended = self.leader_ended.or(self.passed_over.take());
        }
        if news {
            self.picture = Some(picture.clone());
        }
        news || vacancy != (self.leader_deleted, self.leader_ended)
    }

    /// Who came and who went. `missed`: a read was quicker, and showed what is, not what has been.
    fn note_turn(&mut self, turn: Turn, missed: bool) {
        let Some(term) = turn.term else {
            let ended = self.holder.take();
            self.passed_over = ended.filter(|_| missed);
            if !missed {
                self.leader_deleted = Some(turn.revision);
                self.leader_ended = ended;
            } else if self.picture.as_ref().is_some_and(|it| it.leader.is_none()) {
                let deleted = self.leader_deleted.max(Some(turn.revision));
                if deleted != self.leader_deleted {
                    (self.leader_deleted, self.leader_ended) = (deleted, None);
                }
            }
            return;
        };
        self.holder = Some(term);
        self.passed_over = None;
        if !missed {
            (self.leader_deleted, self.leader_ended) = (None, None);
        }
    }
}
