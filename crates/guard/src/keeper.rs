//! The guard's memory as a pure state machine: orders in, answers and the next deadline out.

use crate::message::{Order, Reply};
use pgherd_model::Time;

/// What the guard is to do, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keeper {
    deadline: Option<Time>,
}

impl Keeper {
    /// Applies one order.
    pub(crate) fn apply(&mut self, order: Order) -> Reply {
        match order {
            Order::Arm { deadline, .. } => self.deadline = Some(deadline),
            Order::Extend { deadline } => {
                self.deadline = self.deadline.map(|old| old.max(deadline));
            }
            Order::Disarm => *self = Keeper::default(),
            Order::Ping => {}
        }
        match self.deadline {
            Some(deadline) => Reply::Armed { deadline },
            None => Reply::Disarmed,
        }
    }

    /// When it fires; `None`: disarmed.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Whether to fire now.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// It has fired.
    pub(crate) fn fired(&mut self) {
        *self = Keeper::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `arm 5, extend 7, ...`; gives the deadline in seconds.
    fn after(orders: &str) -> Option<u64> {
        let mut keeper = Keeper::default();
        for order in orders.split(", ").filter(|order| !order.is_empty()) {
            let mut words = order.split(' ');
            let word = words.next();
            let seconds = words.next().and_then(|word| word.parse::<u64>().ok());
            let deadline = Time::from_millis(seconds.unwrap_or(0) * 1000);
            let watched = None;
            let reply = keeper.apply(match word {
                Some("arm") => Order::Arm { watched, deadline },
                Some("extend") => Order::Extend { deadline },
                Some("disarm") => Order::Disarm,
                _ => Order::Ping,
            });
            match keeper.deadline() {
                Some(deadline) => assert_eq!(reply, Reply::Armed { deadline }),
                None => assert_eq!(reply, Reply::Disarmed),
            }
        }
        keeper
            .deadline()
            .map(|deadline| deadline.as_millis() / 1000)
    }

    #[test]
    fn orders() {
        for (orders, deadline) in [
            ("", None),
            ("ping", None),
            ("arm 5", Some(5)),
            ("arm 5, ping", Some(5)),
            ("arm 5, extend 7", Some(7)),
            ("arm 5, extend 3", Some(5)),
            ("arm 5, arm 3", Some(3)),
            ("arm 5, disarm", None),
            ("arm 5, disarm, extend 9", None),
            ("extend 9", None),
            ("extend 9, arm 5", Some(5)),
            ("arm 5, extend 7, disarm, arm 2, extend 4", Some(4)),
        ] {
            assert_eq!(after(orders), deadline, "{orders}");
        }
    }

    #[test]
    fn due_at_the_deadline_and_once() {
        let mut keeper = Keeper::default();
        let deadline = Time(10);
        keeper.apply(Order::Arm {
            watched: None,
            deadline,
        });
        assert!(!keeper.is_due(Time(9)));
        assert!(keeper.is_due(Time(10)));
        keeper.fired();
        assert!(!keeper.is_due(Time(11)));
    }
}
