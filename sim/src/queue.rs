//! What is going to happen, by its time: at the same moment whatever was said first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use pgherd_model::Time;

use crate::event::Event;

/// Events stay where they are put, and only their times are sorted.
#[derive(Default)]
pub(crate) struct Queue {
    /// Times with the number of each event and its place.
    times: BinaryHeap<Reverse<(Time, u64, usize)>>,
    places: Vec<Option<Event>>,
    free: Vec<usize>,
}

impl Queue {
    /// `number`: which of several at the same moment is the first.
    pub(crate) fn push(&mut self, at: Time, number: u64, event: Event) {
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(event);
                place
            }
            None => {
                self.places.push(Some(event));
                self.places.len() - 1
            }
        };
        self.times.push(Reverse((at, number, place)));
    }

    /// The next one.
    pub(crate) fn pop(&mut self) -> Option<(Time, Event)> {
        let Reverse((at, _, place)) = self.times.pop()?;
        let event = self.places[place].take()?;
        self.free.push(place);
        Some((at, event))
    }

    /// When that is.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.times.peek().map(|Reverse((at, ..))| *at)
    }

    /// All that waits, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Event> {
        self.places.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_moment_the_first_comes_first_wherever_it_lies() {
        let mut queue = Queue::default();
        let at = Time::from_millis;
        queue.push(at(5), 1, Event::Chaos);
        queue.push(at(3), 2, Event::Look);
        assert!(matches!(queue.pop(), Some((_, Event::Look))));
        queue.push(at(5), 3, Event::Calendar);
        assert_eq!((queue.iter().count(), queue.next_at()), (2, Some(at(5))));
        assert!(matches!(queue.pop(), Some((_, Event::Chaos))));
        assert!(matches!(queue.pop(), Some((_, Event::Calendar))));
        assert!(queue.pop().is_none());
    }
}
