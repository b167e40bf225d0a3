//! Between those who have something to say and the thread that writes it. Nobody waits for room.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::Record;
use super::writer::Output;

/// What the writing thread gets, in order.
pub(super) enum Item {
    /// One line.
    Line(Record),
    /// A line that there is always room for.
    LastWords(Record),
    /// So many lines found no room here.
    Lost(u64),
    /// From here on.
    Change(Box<Output>),
}

/// A queue with room for so many lines.
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    idle: Condvar,
}

struct State {
    items: VecDeque<Item>,
    /// How many of them are lines.
    lines: usize,
    most: usize,
    /// Since it was last told.
    lost: u64,
    lost_ever: u64,
    /// The thread has something in its hands.
    busy: bool,
}

impl Queue {
    pub(super) fn new(most: usize) -> Queue {
        Queue {
            state: Mutex::new(State {
                items: VecDeque::new(),
                lines: 0,
                most,
                lost: 0,
                lost_ever: 0,
                busy: false,
            }),
            filled: Condvar::new(),
            idle: Condvar::new(),
        }
    }

    /// Held only for what is done in memory.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for so many lines from now on.
    pub(super) fn limit(&self, most: usize) {
        self.state().most = most;
    }

    /// Puts it in; a line that finds no room is counted instead.
    pub(super) fn push(&self, item: Item) {
        let mut state = self.state();
        if matches!(item, Item::Line(_)) {
            if state.lines >= state.most {
                state.lost += 1;
                state.lost_ever += 1;
                return;
            }
            state.lines += 1;
            if state.lost > 0 {
                let lost = std::mem::take(&mut state.lost);
                state.items.push_back(Item::Lost(lost));
            }
        }
        state.items.push_back(item);
        drop(state);
        self.filled.notify_one();
    }

    /// Lines that wait, and how many were lost ever.
    pub(super) fn backlog(&self) -> (usize, u64) {
        let state = self.state();
        (state.lines, state.lost_ever)
    }

    /// The life of the writing thread.
    pub(super) fn serve(&self, mut take: impl FnMut(Item)) {
        loop {
            let item = self.next();
            take(item);
        }
    }

    /// Waits for the next item; what was taken before counts as done.
    fn next(&self) -> Item {
        let mut state = self.state();
        state.busy = false;
        loop {
            if let Some(item) = state.items.pop_front() {
                if matches!(item, Item::Line(_)) {
                    state.lines -= 1;
                }
                state.busy = true;
                return item;
            }
            if state.lost > 0 {
                state.busy = true;
                return Item::Lost(std::mem::take(&mut state.lost));
            }
            self.idle.notify_all();
            let waited = self.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Until everything is written, but no longer than that.
    pub(super) fn wait_empty(&self, longest: Duration) {
        let end = Instant::now() + longest;
        let mut state = self.state();
        while state.busy || !state.items.is_empty() || state.lost > 0 {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.idle.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_wire::patroni::config::LogLevel;

    fn line(text: &str) -> Item {
        Item::Line(Record::simple(LogLevel::Info, "test", text.to_owned()))
    }

    fn next(queue: &Queue) -> String {
        match queue.next() {
            Item::Line(record) => record.message,
            Item::LastWords(record) => format!("last: {}", record.message),
            Item::Lost(lines) => format!("lost {lines}"),
            Item::Change(_) => "change".to_owned(),
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_is_missing() {
        let queue = Queue::new(2);
        for text in ["1", "2", "3", "4"] {
            queue.push(line(text));
        }
        assert_eq!(queue.backlog(), (2, 2));
        queue.push(Item::LastWords(Record::simple(
            LogLevel::Critical,
            "test",
            "x".to_owned(),
        )));
        assert_eq!(next(&queue), "1");
        queue.push(line("5"));
        queue.push(line("6"));
        for expected in ["2", "last: x", "lost 2", "5", "lost 1"] {
            assert_eq!(next(&queue), expected);
        }
        assert_eq!(queue.backlog(), (0, 3));
    }

    #[test]
    fn the_end_waits_for_what_is_being_written_but_not_for_ever() {
        let queue = Queue::new(2);
        let short = Duration::from_millis(20);
        queue.wait_empty(Duration::from_secs(60));
        queue.push(line("1"));
        let begun = Instant::now();
        queue.wait_empty(short);
        assert!(begun.elapsed() >= short);
        assert_eq!(next(&queue), "1");
        let begun = Instant::now();
        queue.wait_empty(short);
        assert!(begun.elapsed() >= short, "it is not written yet");
        std::thread::scope(|scope| {
            let (send, written) = std::sync::mpsc::channel();
            let queue = &queue;
            scope.spawn(move || {
                // What is in its hands counts as written when it asks for more.
                send.send(next(queue)).unwrap();
            });
            queue.wait_empty(Duration::from_secs(60));
            queue.push(line("2"));
            assert_eq!(written.recv().unwrap(), "2");
        });
    }
}
