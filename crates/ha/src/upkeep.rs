//! Small duties that run beside the ladder. Each orders something only when fact and wish differ.

mod checkpoint;
pub(crate) mod config;
mod failsafe;
pub(crate) mod guard;
mod history;
pub(crate) mod member;
mod peers;
mod positions;
pub(crate) mod request;
mod sight;
mod slots;
pub(crate) mod status;
mod sync;

pub use positions::small_step;

use alloc::vec::Vec;
use pgherd_model::{Op, Time};
#[cfg(test)]
pub(crate) use sync::strict_enough;
pub(crate) use sync::wait_for_somebody;

use crate::ctx::Ctx;
use crate::decision::Action;
use crate::memory::Memory;

/// Orders of a duty, and when it wants to be asked again.
pub(crate) type Duty = (Vec<Action>, Option<Time>);

type Ask = fn(&Ctx<'_>, &mut Memory) -> Duty;

/// Duties by name, in order.
pub(crate) const DUTIES: &[(&str, Ask)] = &[
    ("guard", guard::duty),
    ("member", member::duty),
    ("sight", sight::duty),
    ("peers", peers::duty),
    ("request", request::duty),
    ("slots", slots::duty),
    ("sync", sync::duty),
    ("history", history::duty),
    ("config", config::duty),
    ("checkpoint", checkpoint::duty),
    ("failsafe", failsafe::duty),
    ("status", status::duty),
];

pub(crate) const NOTHING: Duty = (Vec::new(), None);

/// The order to take the lock that this picture shows free.
pub(crate) fn take_lock(ctx: &Ctx<'_>) -> Action {
    let seen = ctx.view.fresh().map_or(0, |cluster| cluster.revision);
    Action::Store(Op::AcquireLeader { seen })
}

/// This order needs the leader lease.
pub(crate) fn takes_lock(action: &Action) -> bool {
    matches!(
        action,
        Action::Store(Op::AcquireLeader { .. } | Op::ReattachLeader { .. })
    )
}

/// The term whose release this order asks for.
pub(crate) fn gives_up_lock(action: &Action) -> Option<u64> {
    match action {
        Action::Store(Op::ReleaseLeader {
            create_revision, ..
        }) => Some(*create_revision),
        _ => None,
    }
}

/// What this node publishes about itself, by this view.
pub fn describe(view: &crate::View, memory: &Memory) -> pgherd_model::Member {
    member::describe(&Ctx::new(view, memory), memory)
}
