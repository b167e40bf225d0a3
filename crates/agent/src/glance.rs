//! What a look may be spared. A glance is one small query, whose answer is only compared: where PostgreSQL
//! says just what it said at the last look, that look goes on to hold, and a decision is made on it again.
//!
//! And where the last decision has found that nothing is to be done, and nothing waits, there need not even
//! be a decision: as long as each glance is the same, the lock service has told nothing, the guard
//! is as it was and the brain's own moment has not come, only the time moves on for which the last decision
//! and the last snapshot hold. Whatever is another one leads to a decision at once.
//!
//! Files are not glanced at. While PostgreSQL runs and all is routine, what they say is old news, but for
//! what [`may_be_kept`](pgherd_ha::may_be_kept) names; they are read again once per `loop_wait`, with all the rest.

use std::sync::Arc;

use pgherd_ha::{
    Decision, GuardFact, LOOK_PAUSE, LeaseFact, Local, Memory, Pulse, View, WatchdogFact, goes_on,
    is_calm, lease, may_be_kept, quiet_pause, small_step,
};
use pgherd_instance::Glance;
use pgherd_model::{SynchronousMode, Time};

use crate::agent::Agent;
use crate::clock;
use crate::observe::LOOK;
use crate::snapshot::Confirmed;

/// So many looks in a row each of which shows something new: PostgreSQL is at work, and glances between
/// them would be the same and only cost more.
const AT_WORK: u32 = 3;

/// The last look, to be compared and used again.
#[derive(Default)]
pub(crate) struct Kept {
    look: Option<KeptLook>,
    /// What was said when it was last looked, also where that look is not kept.
    said: Option<Glance>,
    /// Looks in a row that showed something new.
    news: u32,
    /// It was seen to hold a moment ago, and nothing was done to PostgreSQL since.
    still: bool,
}

impl Kept {
    /// The last look does not hold any more: nobody need be asked whether it does.
    pub(crate) fn forget(&mut self) {
        self.look = None;
    }

    /// Whether the next decision is made on it at once.
    pub(crate) fn still_holds(&mut self, still: bool) {
        self.still = still;
    }
}

/// A look that goes on to hold as long as PostgreSQL says the same.
struct KeptLook {
    glance: Glance,
    local: Local,
    /// And not longer than until then.
    until: Time,
}

/// What the last decision was made on beside that, where none is needed before something changes.
pub(crate) struct Calm {
    guard: GuardFact,
    watchdog: WatchdogFact,
    /// PostgreSQL need not answer the licence's probe, for a reason that holds as long as all else.
    excused: bool,
    /// A decision is due then, whatever is seen before.
    due: Time,
    /// Of the snapshot that was published.
    confirmed: Arc<Confirmed>,
}

impl Agent {
    /// After a decision: keeps the look that it was made on, or forgets it; and whether the loop is at rest.
    pub(crate) fn calm_after(
        &mut self,
        view: &View,
        decision: &Decision,
        confirmed: Arc<Confirmed>,
    ) -> Option<Calm> {
        let loop_wait = view.settings.loop_wait;
        self.keep_look(view, decision);
        let until = self.observer.kept.look.as_ref()?.until;
        if !is_calm(view, decision) || !self.journal.is_settled() {
            return None;
        }
        let due = until.min(decision.due);
        Some(Calm {
            guard: view.local.guard,
            watchdog: view.local.watchdog,
            excused: lease::excuse(view, &decision.memory).is_some(),
            due: self.notes.next(loop_wait).into_iter().fold(due, Time::min),
            confirmed,
        })
    }

    fn keep_look(&mut self, view: &View, decision: &Decision) {
        let kept = &mut self.observer.kept;
        // None: the decision was made on the look that is kept.
        let anew = self.observer.glance.take();
        if let Some(glance) = &anew {
            let news = kept.said.as_ref() != Some(glance);
            kept.news = if news { kept.news.saturating_add(1) } else { 0 };
            kept.said.clone_from(&anew);
        }
        if !may_be_kept(view, decision) || kept.news > AT_WORK {
            kept.look = None;
        } else if let Some(glance) = anew {
            kept.look = Some(KeptLook {
                glance,
                local: view.local.clone(),
                until: view.now + view.settings.loop_wait,
            });
        }
    }

    /// What the last look showed, if it goes on to hold.
    pub(crate) async fn local_as_before(&mut self) -> Option<Local> {
        let still = std::mem::take(&mut self.observer.kept.still);
        let until = self.observer.kept.look.as_ref()?.until;
        if clock::now() >= until || self.jobs.is_running() {
            return None;
        }
        if !still && !self.says_the_same(0).await {
            return None;
        }
        let guard = self.guarding.fact(self.effective.settings.lease_ttl);
        let watchdog = self.watchdog.fact();
        let local = self.observer.kept.look.as_ref()?.local.clone();
        Some(Local {
            job: self.jobs.last.clone(),
            guard,
            watchdog,
            probed: self.probed,
            ..local
        })
    }

    /// Whether PostgreSQL says just what it said at the last look, but for positions that have moved by no more than so
    /// many bytes; if not, that is forgotten.
    async fn says_the_same(&mut self, bytes: u64) -> bool {
        let said = tokio::time::timeout(LOOK, self.instance.glance()).await;
        let said = said.ok().and_then(Result::ok);
        let near = |glance: &Glance| {
            said.as_ref()
                .is_some_and(|said| said.is_near(glance, bytes))
        };
        let kept = &mut self.observer.kept.look;
        kept.take_if(|kept| !near(&kept.glance));
        let same = kept.is_some();
        if same {
            self.observer.kept.news = 0;
        }
        same
    }

    /// Glances at PostgreSQL; when to do so again, or `None`: a decision is due now.
    pub(crate) async fn glance(&mut self, memory: &mut Memory) -> Option<Time> {
        let calm = self.calm.take()?;
        let now = clock::now();
        if !self.is_as_before(&calm, memory, now) {
            return None;
        }
        self.service.looks();
        // What an idle server's WAL moves by itself is no reason to decide anything, nor to look where nobody asks
        // for positions. A decision that is made for another reason is made on a look at those of then.
        let bytes = match self.attention.is_paid(now) {
            true => 0,
            false => small_step(&self.effective.settings),
        };
        // The answer takes its time, in which something else may have changed.
        let same = self.says_the_same(bytes).await;
        let after = clock::now();
        if !same || !self.is_as_before(&calm, memory, after) || !self.guard_is_as_before(&calm) {
            return None;
        }
        self.confirm(&calm, memory, now);
        let due = calm.due;
        self.calm = Some(calm);
        Some(next(self.next_look(now), due, memory.held))
    }

    /// When PostgreSQL is looked at again, at the latest.
    pub(crate) fn next_look(&self, now: Time) -> Time {
        let Some(calm) = &self.calm else {
            return now + LOOK_PAUSE;
        };
        let pause = match self.attention.is_paid(now) {
            true => LOOK_PAUSE,
            false => quiet_pause(&self.effective.settings),
        };
        // The licence's probe does not wait for that.
        let probe = (!calm.excused && !self.probing).then_some(self.next_probe);
        probe.map_or(now + pause, |probe| probe.min(now + pause))
    }

    /// Nothing that can be seen without asking anybody calls for a decision.
    fn is_as_before(&mut self, calm: &Calm, memory: &mut Memory, now: Time) -> bool {
        if now >= calm.due || self.has_more_to_do() {
            return false;
        }
        let picture = self.picture.borrow().clone();
        if picture.cluster.is_none() || !self.is_current(&picture, now) {
            return false;
        }
        let pulse = Pulse {
            now,
            lease: self.renewal.fact(),
            heard: picture.heard,
        };
        if !goes_on(memory, pulse, &self.effective.settings) {
            return false;
        }
        // What is lost later was there until now.
        self.observer.dcs_fresh = Some(picture.heard);
        self.held = memory.held;
        true
    }

    /// That it hangs or has fired can be heard of at the end of a glance as well as before; its end wakes the loop.
    fn guard_is_as_before(&mut self, calm: &Calm) -> bool {
        let guard = self.guarding.fact(self.effective.settings.lease_ttl);
        guard == calm.guard && self.watchdog.fact() == calm.watchdog
    }

    /// Something waits for the loop to turn again, or is under way beside it.
    fn has_more_to_do(&self) -> bool {
        let told = self.shutdown
            || self.upgrade.is_some()
            || self.exit.is_some()
            || self.is_to_configure();
        let asks = self.asking > 0 || self.asking_history || self.asked.is_waited_for();
        let writing = self.writing.as_ref().is_some_and(|it| !it.is_finished());
        let writes = self.reloaded
            || self.reread
            || self.unwritten.is_some()
            || self.instance.is_wanted()
            || writing;
        told || asks || writes || self.jobs.is_running() || self.gives_sync_names_back()
    }

    /// The picture shows another dynamic configuration than the one in force.
    fn is_to_configure(&self) -> bool {
        let picture = self.picture.borrow();
        let stored = picture.cluster.as_ref().and_then(|it| it.config.as_ref());
        stored.is_some_and(|it| Some(it.revision) != self.config_revision)
    }

    /// `synchronous_standby_names` is not yet what the user's parameters say, and is to be.
    fn gives_sync_names_back(&self) -> bool {
        let picture = self.picture.borrow();
        let vouched = picture.cluster.as_ref().is_none_or(|it| it.sync.is_some());
        let off = self.effective.settings.synchronous_mode == SynchronousMode::Off;
        off && !vouched && !self.sync_names_given_back
    }

    /// The last look goes on to hold, as of `now`: what each look does beside the decision.
    fn confirm(&mut self, calm: &Calm, memory: &Memory, now: Time) {
        if calm.excused {
            self.renewal.primary_since(now);
            self.probed = self.probed.max(Some(now));
        } else {
            self.probe(now);
        }
        self.dcs_last_seen = jiff::Timestamp::now().as_second();
        self.keep_member_alive(now);
        let leader_until = memory.held.map(|lease| lease.deadlines().expires);
        calm.confirmed.set(now, self.dcs_last_seen, leader_until);
        self.renewal.tick_finished();
    }
}

/// The next glance; sooner than the next look where something is due, or the holder of the lock has to give it up
/// unless its lease is renewed until then.
fn next(look: Time, due: Time, held: Option<LeaseFact>) -> Time {
    let overdue = held.map(|lease| lease.deadlines().demote_fast);
    let soonest = look.min(due);
    overdue.map_or(soonest, |overdue| soonest.min(overdue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_model::Span;

    #[test]
    fn the_next_glance_comes_after_a_pause_or_when_something_is_due() {
        let at = |ms: u64| Time::from_millis(100_000 + ms);
        let sent = |ms: u64| LeaseFact {
            lease: 7,
            sent: Time::from_millis(ms),
            length: Span::from_secs(20),
        };
        for (due, held, expected) in [
            (at(9000), None, at(1000)),
            (at(300), None, at(300)),
            (at(9000), Some(sent(99_000)), at(1000)),
            // 0.6 of its life is over then.
            (at(9000), Some(sent(88_400)), at(400)),
        ] {
            assert_eq!(next(at(1000), due, held), expected, "{due:?} {held:?}");
        }
    }
}
