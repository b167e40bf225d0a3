//! Which action is next: in order, stop at the first failure.

use alloc::vec::Vec;

use crate::decision::Action;

/// A list of orders on its way.
#[derive(Clone, Debug)]
pub struct Sequence {
    left: alloc::vec::IntoIter<Action>,
    changed: bool,
    failed: bool,
}

impl Sequence {
    /// Begins a list.
    pub fn new(actions: Vec<Action>) -> Sequence {
        Sequence {
            left: actions.into_iter(),
            changed: false,
            failed: false,
        }
    }

    /// The next order; `None`: the list is done, or one failed.
    pub fn next_action(&mut self) -> Option<Action> {
        if self.failed { None } else { self.left.next() }
    }

    /// The last order was carried out; `changed`: the world is another one now.
    pub fn done(&mut self, changed: bool) {
        self.changed |= changed;
    }

    /// The last order failed or was refused: what follows was decided on a world that is not.
    pub fn failed(&mut self) {
        self.failed = true;
    }

    /// Something was changed: look again at once.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// One order failed.
    pub fn is_failed(&self) -> bool {
        self.failed
    }
}
