//! Facts: looks at PostgreSQL, the lock service and what the tasks beside the loop have told.

use std::collections::BTreeSet;
use std::time::Duration;

use pgherd_dcs::Picture;
use pgherd_ha::{Dcs, Job, JobKind, Local, Orders, Tenure, View, beat};
use pgherd_instance::{Error, Glance, OnDisk, Readiness, Stopping};
use pgherd_model::{
    ControlFile, ControlState, HistoryLine, Look, Lsn, MemberName, Postmaster, Time, Timeline,
};

use crate::agent::Agent;
use crate::clock;
use crate::event::Event;
use crate::glance::Kept;

/// How long PostgreSQL may take to answer a look; one that does not is looked at again.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// What came of a look.
enum Said {
    Look(Box<Look>),
    /// It takes no connections yet, or not any more.
    NotReady,
    /// The connection waits for an answer.
    NothingInTime,
    /// There is nobody to ask, or the question did not get there.
    Nothing,
}

/// What observing keeps from look to look.
#[derive(Default)]
pub(crate) struct Observer {
    /// The postmaster whose end is watched.
    watched: Option<u32>,
    silent_since: Option<Time>,
    shutdown_end: Option<(Lsn, Option<Lsn>)>,
    /// By postmaster and timeline.
    own_history: Option<((u32, Timeline), Vec<HistoryLine>)>,
    /// Last moment the picture was current.
    pub(crate) dcs_fresh: Option<Time>,
    /// During a stop: who was there when it began, and is not gone yet.
    leaving: Option<BTreeSet<u32>>,
    /// The glance that belongs to this look; `None`: that gave no answer, or is the one before.
    pub(crate) glance: Option<Glance>,
    /// The look before.
    pub(crate) kept: Kept,
}

impl Observer {
    /// Whether a stop waits for WAL senders alone. Clients who try to connect are turned away all the time, by processes
    /// that come and go: only those that were there from the beginning hold it up.
    fn awaits_senders(&mut self, stop: &Stopping) -> bool {
        if !stop.told {
            self.leaving = None;
            return false;
        }
        let leaving = self.leaving.get_or_insert_with(|| stop.others.clone());
        leaving.retain(|pid| stop.others.contains(pid));
        stop.sends && leaving.is_empty()
    }
}

impl Agent {
    /// Everything the brain may know now.
    pub(crate) async fn observe(&mut self) -> View {
        let (local, peers) = (self.local().await, self.peer_facts.clone());
        let heard = self.picture.borrow().heard;
        let dcs = self.dcs_fact();
        let tenure = self.tenure();
        if let Some(killed) = self.guarding.take_fired() {
            self.journal.noticed("guard_fired", &killed.to_string());
        }
        if let Some(pid) = self.guarding.take_hung() {
            self.journal.noticed("guard_hangs", &pid.to_string());
        }
        View {
            now: clock::now(),
            wall: clock::wall(),
            me: self.node.name.clone(),
            identity: self.identity.clone(),
            dcs,
            heard,
            tenure,
            lease: self.renewal.fact(),
            failsafe: self.failsafe.fact(clock::now()),
            sight: self.sight,
            local,
            peers,
            asking: self.asking > 0,
            history: self.history.clone(),
            settings: self.effective.settings.clone(),
            config: self.config.clone(),
            member_lease: self.store.member_lease_id(),
            orders: self.asked.add_to(Orders {
                shutdown: self.shutdown,
                bootstrap_claim: self.bootstrap_claim,
                bootstrapped: self.bootstrapped,
                ..Orders::default()
            }),
        }
    }

    fn dcs_fact(&mut self) -> Dcs {
        let picture = self.picture.borrow_and_update().clone();
        self.journal.reads(picture.etcd);
        let fresh = self.is_current(&picture, clock::now());
        match picture.cluster {
            Some(cluster) if fresh => {
                self.observer.dcs_fresh = Some(picture.heard);
                Dcs::Fresh(cluster.as_ref().clone())
            }
            cluster => Dcs::Unreachable {
                since: self.observer.dcs_fresh.unwrap_or(self.started),
                last: cluster.map(|cluster| cluster.as_ref().clone()),
            },
        }
    }

    /// It is kept up, and was proved lately.
    pub(crate) fn is_current(&self, picture: &Picture, now: Time) -> bool {
        let longest = beat::stale_after(&self.effective.settings);
        picture.problem.is_none() && now.since(picture.heard) < longest
    }

    /// First the proof, then the term: one that is seen in between only makes the tenure younger.
    fn tenure(&self) -> Tenure {
        let proved = self.picture.borrow().fresh_at;
        Tenure {
            since: self.store.elected_by(),
            proved,
        }
    }

    async fn local(&mut self) -> Local {
        self.observer.glance = None;
        match self.local_as_before().await {
            Some(local) => local,
            None => self.local_anew().await,
        }
    }

    async fn local_anew(&mut self) -> Local {
        let postmaster = self.instance.postmaster().await;
        self.watch_postmaster(postmaster).await;
        let answer = match postmaster {
            Postmaster::Alive { .. } => self.look().await,
            Postmaster::Down | Postmaster::Leftovers(_) => Said::Nothing,
        };
        let hangs = matches!(answer, Said::NothingInTime) && self.has_come_up().await;
        let halted = match answer {
            Said::Look(_) | Said::NotReady => false,
            Said::NothingInTime | Said::Nothing => self.is_halted().await,
        };
        let not_ready = matches!(answer, Said::NotReady);
        let look = match answer {
            Said::Look(look) => Some(*look),
            Said::NotReady | Said::NothingInTime | Said::Nothing => None,
        };
        let silent = look.is_none() && matches!(postmaster, Postmaster::Alive { .. });
        self.observer.silent_since = match (silent, self.observer.silent_since) {
            (true, None) => Some(clock::now()),
            (true, since) => since,
            (false, _) => None,
        };
        let on_disk = self.instance.on_disk(look.is_some()).await;
        let OnDisk {
            marks,
            data,
            control,
        } = on_disk;
        let shutdown_end = match (&control, postmaster) {
            (Some(control), Postmaster::Down) => self.shutdown_end(control).await,
            _ => None,
        };
        let written = |it: &ControlFile| it.timeline.max(it.min_recovery_timeline);
        let timeline = match &look {
            Some(look) => Some(look.timeline),
            None => control.as_ref().map(written),
        };
        let own_history = match timeline {
            Some(timeline) => self.own_history(postmaster, timeline).await,
            None => Vec::new(),
        };
        let stop = match silent && self.stops() {
            true => self.instance.stopping().await,
            false => Stopping::default(),
        };
        let awaits_senders = self.observer.awaits_senders(&stop);
        Local {
            archiving: stop.archives,
            awaits_senders,
            hangs,
            halted,
            data,
            control,
            shutdown_end,
            standby_signal: marks.standby_signal,
            backup_label: marks.backup_label,
            postmaster,
            look,
            silent_since: self.observer.silent_since,
            not_ready,
            job: self.jobs.last.clone(),
            guard: self.guarding.fact(self.effective.settings.lease_ttl),
            watchdog: self.watchdog.fact(),
            own_history,
            probed: self.probed,
        }
    }

    /// It is being stopped by a job.
    fn stops(&self) -> bool {
        let stops = |job: &Job| job.outcome.is_none() && matches!(job.kind, JobKind::Stop { .. });
        self.jobs.last.as_ref().is_some_and(stops)
    }

    /// A signal keeps the postmaster from running.
    async fn is_halted(&self) -> bool {
        let handle = self.instance.postmaster_handle().await;
        handle.is_some_and(|handle| handle.is_halted())
    }

    /// It took connections once: before that nobody answers, which is no hang.
    async fn has_come_up(&self) -> bool {
        let readiness = self.instance.readiness().await;
        matches!(readiness, Readiness::Ready | Readiness::Standby)
    }

    async fn look(&mut self) -> Said {
        match tokio::time::timeout(LOOK, self.instance.look_and_glance()).await {
            Ok(Ok((look, glance))) => {
                self.observer.glance = Some(glance);
                Said::Look(Box::new(look))
            }
            Ok(Err(error)) => {
                tracing::debug!("PostgreSQL does not answer: {error}");
                match error {
                    Error::NotReady(_) => Said::NotReady,
                    Error::Timeout { .. } => Said::NothingInTime,
                    _ => Said::Nothing,
                }
            }
            Err(_) => {
                let text = format!("PostgreSQL did not answer within {} ms", LOOK.as_millis());
                // Once per outage: it is looked at all the time.
                match self.observer.silent_since {
                    None => tracing::warn!("{text}"),
                    Some(_) => tracing::debug!("{text}"),
                }
                Said::NothingInTime
            }
        }
    }

    /// Its end wakes the loop at once.
    async fn watch_postmaster(&mut self, postmaster: Postmaster) {
        let Postmaster::Alive { pid } = postmaster else {
            return;
        };
        if self.observer.watched == Some(pid) {
            return;
        }
        let Some(handle) = self.instance.postmaster_handle().await else {
            return;
        };
        self.observer.watched = Some(handle.pid);
        let events = self.events.clone();
        tokio::spawn(async move {
            if handle.wait_exit().await.is_ok() {
                events.send(Event::PostmasterGone(handle.pid)).ok();
            }
        });
    }

    async fn shutdown_end(&mut self, control: &ControlFile) -> Option<Lsn> {
        if control.state != ControlState::ShutDown {
            return None;
        }
        if let Some((checkpoint, end)) = self.observer.shutdown_end
            && checkpoint == control.checkpoint
        {
            return end;
        }
        let end = match self.instance.shutdown_point().await {
            Ok(point) => point.map(|point| point.end),
            Err(error) => {
                tracing::warn!("the end of the WAL cannot be read: {error}");
                None
            }
        };
        self.observer.shutdown_end = Some((control.checkpoint, end));
        end
    }

    /// While a postmaster lives the file of its timeline stays what it is. A new copy may be on another
    /// timeline of the same number, so nothing outlives the end of PostgreSQL.
    async fn own_history(
        &mut self,
        postmaster: Postmaster,
        timeline: Timeline,
    ) -> Vec<HistoryLine> {
        if timeline.0 <= 1 {
            return Vec::new();
        }
        let key = match postmaster {
            Postmaster::Alive { pid } => Some((pid, timeline)),
            Postmaster::Down | Postmaster::Leftovers(_) => None,
        };
        let kept = self.observer.own_history.take();
        if let Some((known, lines)) = kept.filter(|(known, _)| Some(*known) == key) {
            self.observer.own_history = Some((known, lines.clone()));
            return lines;
        }
        let Ok(Some(local)) = self.instance.local_history(timeline).await else {
            return Vec::new();
        };
        let written = jiff::Timestamp::try_from(local.written).ok().map(iso);
        let last = local.history.switches.len().saturating_sub(1);
        let lines: Vec<HistoryLine> = local
            .history
            .switches
            .into_iter()
            .enumerate()
            .map(|(index, switch)| HistoryLine {
                timeline: switch.timeline,
                end: switch.end,
                reason: switch.reason,
                timestamp: written.clone().filter(|_| index == last),
                leader: None::<MemberName>,
            })
            .collect();
        self.observer.own_history = key.map(|key| (key, lines.clone()));
        lines
    }
}

fn iso(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_turned_away_does_not_hold_up_a_stop() {
        let mut observer = Observer::default();
        let stop = |told: bool, sends: bool, others: &[u32]| Stopping {
            told,
            sends,
            others: others.iter().copied().collect(),
            ..Stopping::default()
        };
        for (seen, expected) in [
            (stop(false, true, &[]), false),
            // A session (7), and somebody who was turned away (8).
            (stop(true, true, &[7, 8]), false),
            (stop(true, true, &[7, 9]), false),
            (stop(true, true, &[10]), true),
            (stop(true, true, &[11, 12]), true),
            (stop(true, false, &[13]), false),
            // The next stop.
            (Stopping::default(), false),
            (stop(true, true, &[14]), false),
        ] {
            assert_eq!(observer.awaits_senders(&seen), expected, "{seen:?}");
        }
    }
}
