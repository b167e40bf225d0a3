//! What a brain sees and remembers that is not so.

use pgherd_ha::{Dcs, Memory, View};
use pgherd_model::{Lsn, Time};

use crate::bugs::Bug;
use crate::world::World;

impl World {
    /// The view and the memory that this node's brain decides on.
    pub(crate) fn misread(&self, view: &View, memory: &Memory) -> (View, Memory) {
        let (mut view, mut memory) = (view.clone(), memory.clone());
        match self.wrong.0 {
            Some(Bug::IgnoreLag) => view.settings.maximum_lag_on_failover = u64::MAX,
            Some(Bug::ActInPause) => view.settings.pause = false,
            Some(Bug::IgnoreNofailover) => view.identity.tags.nofailover = false,
            Some(Bug::IgnoreHang) => view.local.probed = Some(view.now),
            Some(Bug::AcceptAndRace) => view.failsafe.promise = None,
            Some(Bug::ActOnStaleView) => call_current(&mut view),
            Some(Bug::OldPositions) => read_published(&mut view),
            Some(Bug::HandToLeftBehind) => take_for_own(&mut view, &memory),
            Some(Bug::TakeLockEarly) => {
                // Its guard fired long ago, and somebody has looked since.
                if let Some(former) = &mut memory.former {
                    former.renewed_before = Some(Time::ZERO);
                    former.looked = Some(view.now);
                }
                view.sight = None;
            }
            Some(Bug::NameSyncEarly) => {
                memory.sync_from = Some(Lsn(0));
            }
            _ => {}
        }
        (view, memory)
    }
}

/// Whatever was read last is what etcd holds, and somebody has just proved it.
fn call_current(view: &mut View) {
    if let Dcs::Unreachable {
        last: Some(last), ..
    } = &view.dcs
    {
        view.dcs = Dcs::Fresh(last.clone());
    }
    view.heard = view.now;
    view.tenure.proved = view.now;
}

/// Others are as far as their member keys say.
fn read_published(view: &mut View) {
    let Some(cluster) = view.cluster().cloned() else {
        return;
    };
    for (name, fact) in &mut view.peers {
        if let (Some(answer), Some(member)) = (&mut fact.answer, cluster.member(name)) {
            let published = member.xlog_location.or(member.receive_lsn);
            answer.received = published.unwrap_or_default();
            answer.replayed = member.replay_lsn.unwrap_or_default();
        }
    }
}

/// Whatever somebody has belongs to the cluster's history, wherever that left his timeline.
fn take_for_own(view: &mut View, memory: &Memory) {
    let own = view.local.control.map(|control| control.timeline);
    if view.is_primary() || memory.demotion.is_some() {
        let answers = view.peers.values_mut();
        for answer in answers.filter_map(|fact| fact.answer.as_mut()) {
            answer.timeline = answer.timeline.and(own);
        }
    } else if let Dcs::Fresh(cluster) = &mut view.dcs {
        let history = cluster.history.iter_mut();
        for line in history.flat_map(|stored| &mut stored.value) {
            line.end = Lsn(u64::MAX);
        }
    }
}
