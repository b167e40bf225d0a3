//! What people ask of this node by REST, from the request to its end: a fact for the brain while it is
//! open, an answer for whoever waits when the brain has dealt with it.

use pgherd_ha::{Memory, Orders};
use pgherd_model::{ReinitializeOrder, RestartCondition, RestartOrder, ScheduledRestart, Span};
use tokio::sync::oneshot;

/// How a restart ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartEnd {
    /// PostgreSQL runs again.
    Done,
    /// It could not be stopped or started.
    Failed,
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
    restart: Option<(RestartOrder, oneshot::Sender<RestartEnd>)>,
    scheduled: Option<RestartOrder>,
    reinitialize: Option<ReinitializeOrder>,
}

impl Asked {
    /// A restart now; false: another one is under way.
    pub(crate) fn restart(
        &mut self,
        request: RestartRequest,
        end: oneshot::Sender<RestartEnd>,
    ) -> bool {
        if self.restart.is_some() {
            return false;
        }
        let order = self.order(request);
        self.restart = Some((order, end));
        true
    }

    /// A restart at a time; false: there is one already.
    pub(crate) fn schedule(&mut self, request: RestartRequest) -> bool {
        if self.scheduled.is_some() {
            return false;
        }
        self.scheduled = Some(self.order(request));
        true
    }

    /// Forgets a scheduled restart; false: there is none.
    pub(crate) fn forget(&mut self) -> bool {
        self.scheduled.take().is_some()
    }

    pub(crate) fn reinitialize(&mut self, request: ReinitializeRequest) {
        self.last += 1;
        self.reinitialize = Some(ReinitializeOrder {
            number: self.last,
            force: request.force,
            from_leader: request.from_leader,
        });
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

    /// What is open, beside what else the view's orders say.
    pub(crate) fn add_to(&self, orders: Orders) -> Orders {
        Orders {
            restart: self.restart.as_ref().map(|(order, _)| order.clone()),
            scheduled_restart: self.scheduled.clone(),
            reinitialize: self.reinitialize,
            ..orders
        }
    }

    /// Answers and forgets what the brain has dealt with.
    pub(crate) fn settle(&mut self, memory: &Memory) {
        let dealt = |number: u64| number <= memory.dealt_with;
        let under_way = memory.restart.as_ref().map(|restart| restart.number);
        let over = |(order, _): &mut (RestartOrder, _)| {
            dealt(order.number) && under_way != Some(order.number)
        };
        if let Some((order, end)) = self.restart.take_if(over) {
            let how = match memory.restarted {
                Some((number, true)) if number == order.number => RestartEnd::Done,
                Some((number, false)) if number == order.number => RestartEnd::Failed,
                Some(_) | None => RestartEnd::Dropped,
            };
            // Whoever asked may have gone away.
            end.send(how).ok();
        }
        self.scheduled.take_if(|order| dealt(order.number));
        self.reinitialize.take_if(|order| dealt(order.number));
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

    #[test]
    fn a_restart_is_answered_when_it_is_over() {
        let mut asked = Asked::default();
        let (end, mut ended) = oneshot::channel();
        assert!(asked.restart(request(), end));
        assert!(!asked.restart(request(), oneshot::channel().0));
        let mut memory = Memory::default();
        asked.settle(&memory);
        assert!(asked.add_to(Orders::default()).restart.is_some());
        memory.dealt_with = 1;
        memory.restart = Some(Restarting {
            number: 1,
            since: Time::ZERO,
            timeout: None,
            stopping: true,
            down_since: None,
        });
        asked.settle(&memory);
        assert!(ended.try_recv().is_err());
        memory.restart = None;
        memory.restarted = Some((1, true));
        asked.settle(&memory);
        assert_eq!(ended.try_recv(), Ok(RestartEnd::Done));
        assert_eq!(asked.add_to(Orders::default()), Orders::default());
    }

    #[test]
    fn one_that_never_began_says_so() {
        let mut asked = Asked::default();
        let (end, mut ended) = oneshot::channel();
        asked.restart(request(), end);
        let memory = Memory {
            dealt_with: 1,
            ..Memory::default()
        };
        asked.settle(&memory);
        assert_eq!(ended.try_recv(), Ok(RestartEnd::Dropped));
    }

    #[test]
    fn there_is_one_scheduled_restart_and_it_can_be_forgotten() {
        let mut asked = Asked::default();
        assert!(!asked.forget());
        assert!(asked.schedule(request()));
        assert!(!asked.schedule(request()));
        assert!(asked.forget() && asked.schedule(request()));
        let number = asked.add_to(Orders::default()).scheduled_restart.unwrap();
        assert_eq!(number.number, 2);
    }
}
