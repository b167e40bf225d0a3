//! The lock carries this node's name, but not its present lease: the agent was restarted, or the
//! length of the lease was changed. Nothing renews it, so this comes before everything that takes
//! time.

use alloc::vec;
use pgherd_model::Op;

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::guard;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Lock::Detached { term } = ctx.lock else {
        return Verdict::pass("the lock is not without its lease");
    };
    let reattach = Op::ReattachLeader {
        create_revision: term,
    };
    let mut actions = vec![];
    actions.extend(guard::shorten(ctx));
    actions.push(Action::Store(reattach));
    Verdict::only(actions, reason(memory, term))
}

/// Whose lease it was under.
pub(crate) fn reason(memory: &Memory, term: u64) -> &'static str {
    if memory.attached_term == Some(term) {
        "putting the lock under a new lease: lease_ttl was changed, or the lease before was lost"
    } else {
        "taking the lock over from the agent before"
    }
}
