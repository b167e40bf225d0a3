//! What people ask of this node by REST, from the request to its end: a fact for the brain while it is
//! open, an answer for whoever waits when the brain has dealt with it.

use pgherd_ha::{Memory, Orders, Restarted};
use pgherd_model::{ReinitializeOrder, RestartCondition, RestartOrder, ScheduledRestart, Span};
use tokio::sync::oneshot;

/// How a restart ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartEnd {
    /// PostgreSQL runs again.
    Done,
    /// It could not be stopped or started.
    Failed,
    /// The start has taken all of its time, and goes on.
    StillStarting,
    /// It did not begin: something else was under way.
    Dropped,
}

/// A restart as REST asks for it.
#[derive(Debug)]
pub struct RestartRequest {
    /// Only then; judged already for a restart that is to happen now.
    pub condition: RestartCondition,
    /// How long the start may take.
    pub timeout: Option<Span>,
    /// `None`: now.
    pub scheduled: Option<ScheduledRestart>,
}

/// A new copy of the data as REST asks for it.
#[derive(Clone, Copy, Debug)]
pub struct ReinitializeRequest {
    /// Whatever runs is given up.
    pub force: bool,
    /// Copied from the leader.
    pub from_leader: bool,
}

/// Open requests.
#[derive(Default)]
pub(crate) struct Asked {
    last: u64,
    restart: Option<Open>,
    scheduled: Option<RestartOrder>,
    reinitialize: Option<(ReinitializeOrder, oneshot::Sender<Verdict>)>,
    /// Answers that wait until what they say is also shown.
    answers: Vec<(oneshot::Sender<bool>, bool)>,
}

/// A restart for now, and who waits for its end.
struct Open {
    order: RestartOrder,
    answer: oneshot::Sender<Option<RestartEnd>>,
    begun: bool,
}

/// Whether a new copy is made; `Err`: why not.
pub(crate) type Verdict = Result<(), String>;

impl Asked {
    /// A restart now, unless another one is open, which is answered with `None`.
    pub(crate) fn restart(
        &mut self,
        request: RestartRequest,
        answer: oneshot::Sender<Option<RestartEnd>>,
    ) {
        self.forget_abandoned();
        if self.restart.is_some() {
            // Whoever asked may have gone away, here and wherever something is answered.
            answer.send(None).ok();
            return;
        }
        self.restart = Some(Open {
            order: self.order(request),
            answer,
            begun: false,
        });
    }

    /// What has not begun and nobody waits for any more does not happen: a restart out of the blue,
    /// minutes after somebody was told that it failed, would be an outage.
    fn forget_abandoned(&mut self) {
        self.restart
            .take_if(|open| !open.begun && open.answer.is_closed());
        self.reinitialize
            .take_if(|(_, verdict)| verdict.is_closed());
    }

    /// A restart at a time; false: there is one already.
    pub(crate) fn schedule(&mut self, request: RestartRequest, answer: oneshot::Sender<bool>) {
        let first = self.scheduled.is_none();
        if first {
            self.scheduled = Some(self.order(request));
        }
        self.answers.push((answer, first));
    }

    /// Forgets a scheduled restart; false: there is none.
    pub(crate) fn forget(&mut self, answer: oneshot::Sender<bool>) {
        self.answers.push((answer, self.scheduled.take().is_some()));
    }

    /// A new copy; one that is asked for with force takes the place of another that is not decided on.
    pub(crate) fn reinitialize(
        &mut self,
        request: ReinitializeRequest,
        verdict: oneshot::Sender<Verdict>,
    ) {
        self.forget_abandoned();
        let second = || Err("reinitialize already in progress".to_owned());
        if self.reinitialize.is_some() && !request.force {
            verdict.send(second()).ok();
            return;
        }
        self.last += 1;
        let order = ReinitializeOrder {
            number: self.last,
            force: request.force,
            from_leader: request.from_leader,
        };
        if let Some((_, first)) = self.reinitialize.replace((order, verdict)) {
            first.send(second()).ok();
        }
    }

    fn order(&mut self, request: RestartRequest) -> RestartOrder {
        self.last += 1;
        RestartOrder {
            number: self.last,
            condition: request.condition,
            timeout: request.timeout,
            scheduled: request.scheduled,
        }
    }

    /// Whether somebody waits for what the loop does next. A restart that has its time waits for that.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.restart.is_some() || self.reinitialize.is_some() || !self.answers.is_empty()
    }

    /// What is open, beside what else the view's orders say.
    pub(crate) fn add_to(&mut self, orders: Orders) -> Orders {
        self.forget_abandoned();
        Orders {
            restart: self.restart.as_ref().map(|open| open.order.clone()),
            scheduled_restart: self.scheduled.clone(),
            reinitialize: self.reinitialize.as_ref().map(|(order, _)| *order),
            ..orders
        }
    }

    /// Answers and forgets what the brain has dealt with, once that is shown to whoever asks.
    pub(crate) fn settle(&mut self, memory: &Memory) {
        for (answer, value) in self.answers.drain(..) {
            answer.send(value).ok();
        }
        let dealt = |number: u64| number <= memory.dealt_with;
        let under_way = memory.restart.as_ref().map(|restart| restart.number);
        if let Some(open) = &mut self.restart {
            open.begun |= dealt(open.order.number);
        }
        let end = |open: &Open| {
            let known = memory
                .restarted
                .filter(|(number, _)| *number == open.order.number);
            match known {
                Some((_, Restarted::Runs)) => Some(RestartEnd::Done),
                Some((_, Restarted::Failed)) => Some(RestartEnd::Failed),
                Some((_, Restarted::Starting)) => Some(RestartEnd::StillStarting),
                None if under_way == Some(open.order.number) => None,
                None => open.begun.then_some(RestartEnd::Dropped),
            }
        };
        if let Some(how) = self.restart.as_ref().and_then(end)
            && let Some(open) = self.restart.take()
        {
            open.answer.send(Some(how)).ok();
        }
        self.scheduled
            .take_if(|order| order.number <= memory.scheduled_dealt);
        let copy = self.reinitialize.take_if(|(order, _)| dealt(order.number));
        if let Some((order, verdict)) = copy {
            let refused = memory.copy_refused.as_ref();
            let refused = refused.filter(|(number, _)| *number == order.number);
            verdict
                .send(refused.map_or(Ok(()), |(_, reason)| Err(reason.clone())))
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_ha::Restarting;
    use pgherd_model::Time;

    fn request() -> RestartRequest {
        RestartRequest {
            condition: RestartCondition::default(),
            timeout: None,
            scheduled: None,
        }
    }

    /// Asks for a restart; where its end is told.
    fn restart(asked: &mut Asked) -> oneshot::Receiver<Option<RestartEnd>> {
        let (answer, answered) = oneshot::channel();
        asked.restart(request(), answer);
        answered
    }

    fn under_way(number: u64) -> Memory {
        Memory {
            dealt_with: number,
            restart: Some(Restarting {
                number,
                since: Time::ZERO,
                timeout: None,
                stopping: true,
                down_since: None,
            }),
            ..Memory::default()
        }
    }

    #[test]
    fn a_restart_is_answered_when_it_is_over() {
        let mut asked = Asked::default();
        let mut ended = restart(&mut asked);
        assert_eq!(restart(&mut asked).try_recv(), Ok(None));
        asked.settle(&Memory::default());
        assert!(asked.add_to(Orders::default()).restart.is_some());
        let mut memory = under_way(1);
        asked.settle(&memory);
        assert!(ended.try_recv().is_err());
        memory.restart = None;
        memory.restarted = Some((1, Restarted::Runs));
        asked.settle(&memory);
        assert_eq!(ended.try_recv(), Ok(Some(RestartEnd::Done)));
        assert_eq!(asked.add_to(Orders::default()), Orders::default());
    }

    #[test]
    fn a_start_that_has_taken_its_time_is_told_while_it_goes_on() {
        let mut asked = Asked::default();
        let mut ended = restart(&mut asked);
        let mut memory = under_way(1);
        // That of another one says nothing.
        memory.restarted = Some((0, Restarted::Starting));
        asked.settle(&memory);
        assert!(ended.try_recv().is_err());
        memory.restarted = Some((1, Restarted::Starting));
        asked.settle(&memory);
        assert_eq!(ended.try_recv(), Ok(Some(RestartEnd::StillStarting)));
    }

    #[test]
    fn one_that_never_began_says_so() {
        let mut asked = Asked::default();
        let mut ended = restart(&mut asked);
        let memory = Memory {
            dealt_with: 1,
            ..Memory::default()
        };
        asked.settle(&memory);
        assert_eq!(ended.try_recv(), Ok(Some(RestartEnd::Dropped)));
    }

    /// It waits for a race, say: whoever asked was told that it failed, and tries again or does not.
    #[test]
    fn a_restart_that_nobody_waits_for_does_not_begin() {
        let mut asked = Asked::default();
        drop(restart(&mut asked));
        assert_eq!(asked.add_to(Orders::default()).restart, None);
        drop(restart(&mut asked));
        let second = restart(&mut asked);
        let order = asked.add_to(Orders::default()).restart;
        assert_eq!(order.map(|order| order.number), Some(3));
        // Once begun it is brought to its end.
        asked.settle(&under_way(3));
        drop(second);
        assert!(asked.add_to(Orders::default()).restart.is_some());
        assert_eq!(restart(&mut asked).try_recv(), Ok(None));
    }

    #[test]
    fn there_is_one_scheduled_restart_and_it_can_be_forgotten() {
        let mut asked = Asked::default();
        let mut answers = Vec::new();
        for step in ["forget", "schedule", "schedule", "forget", "schedule"] {
            let (answer, answered) = oneshot::channel();
            match step {
                "forget" => asked.forget(answer),
                _ => asked.schedule(request(), answer),
            }
            answers.push(answered);
        }
        // Whoever is told that it is gone does not find it any more.
        assert!(answers.iter_mut().all(|it| it.try_recv().is_err()));
        let order = asked.add_to(Orders::default()).scheduled_restart.unwrap();
        assert_eq!(order.number, 2);
        asked.settle(&Memory::default());
        let told: Vec<bool> = answers
            .iter_mut()
            .filter_map(|it| it.try_recv().ok())
            .collect();
        assert_eq!(told, [false, true, false, true, true]);
    }

    #[test]
    fn a_scheduled_restart_outlives_one_for_now() {
        let mut asked = Asked::default();
        asked.schedule(request(), oneshot::channel().0);
        let _ended = restart(&mut asked);
        asked.settle(&under_way(2));
        let memory = Memory {
            dealt_with: 2,
            scheduled_dealt: 1,
            ..Memory::default()
        };
        assert!(asked.add_to(Orders::default()).scheduled_restart.is_some());
        asked.settle(&memory);
        assert_eq!(asked.add_to(Orders::default()), Orders::default());
    }

    #[test]
    fn a_new_copy_is_answered_when_it_is_decided_on() {
        let mut asked = Asked::default();
        let ask = |asked: &mut Asked, force: bool| {
            let (verdict, told) = oneshot::channel();
            let request = ReinitializeRequest {
                force,
                from_leader: false,
            };
            asked.reinitialize(request, verdict);
            told
        };
        let busy = || Err("reinitialize already in progress".to_owned());
        let mut first = ask(&mut asked, false);
        asked.settle(&Memory::default());
        assert!(first.try_recv().is_err());
        assert_eq!(ask(&mut asked, false).try_recv(), Ok(busy()));
        let mut forced = ask(&mut asked, true);
        assert_eq!(first.try_recv(), Ok(busy()));
        let mut memory = Memory {
            dealt_with: 2,
            copy_refused: Some((1, "another".into())),
            ..Memory::default()
        };
        asked.settle(&memory);
        assert_eq!(forced.try_recv(), Ok(Ok(())));
        let mut refused = ask(&mut asked, false);
        memory.dealt_with = 3;
        memory.copy_refused = Some((3, "nobody leads".into()));
        asked.settle(&memory);
        assert_eq!(refused.try_recv(), Ok(Err("nobody leads".into())));
        drop(ask(&mut asked, false));
        assert_eq!(asked.add_to(Orders::default()), Orders::default());
    }
}
