//! Hands that do something else than they were told, and answers that are not so.

use pgherd_ha::LeaseFact;
use pgherd_ha::fence::Facts;
use pgherd_ha::lease::Licence;
use pgherd_model::{Lsn, PeerStatus, Role, Time};

use crate::bugs::Bug;
use crate::world::World;

impl World {
    /// A renewal of this node is on its way.
    pub(crate) fn missend(&mut self, node: usize) {
        if !self.wrong.is(Bug::RenewAfterDeadline) {
            return;
        }
        let sent = self.clock(node);
        let renewing = &mut self.nodes[node].agent.renewing;
        let Some(fact) = renewing.fact else {
            return;
        };
        let later = LeaseFact { sent, ..fact };
        renewing.fact = Some(later);
        if renewing.attached == fact.lease {
            self.extend_guard(node, later.deadlines().guard);
        }
    }

    /// From when on a lease counts whose renewal was sent then and is answered now.
    pub(crate) fn miscount(&self, node: usize, sent: Time) -> Time {
        match self.wrong.is(Bug::DeadlineFromAnswer) {
            true => self.clock(node),
            false => sent,
        }
    }

    /// What allows the renewal thread to go on.
    pub(crate) fn mislicense(&self, now: Time, licence: &mut Licence) {
        if self.wrong.is(Bug::IgnoreHang) {
            licence.tick_finished = now;
            licence.probe_sent = Some(now);
        }
    }

    /// What a look at the processes shows to whoever kills.
    pub(crate) fn overlook(&self, facts: &mut Facts) {
        if self.wrong.is(Bug::KillOnlyPostmaster) {
            facts.others.clear();
        }
    }

    /// What a node answers to others.
    pub(crate) fn misanswer(&self, status: &mut PeerStatus) {
        if self.wrong.is(Bug::DenyBeingPrimary) && status.writable_at.is_some() {
            status.role = Some(Role::Replica);
            status.writable_at = None;
            status.replayed = Lsn(1);
        }
    }
}
