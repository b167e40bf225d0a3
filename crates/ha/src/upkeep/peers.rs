//! Asks the others as soon as the leader seems to be gone, not when the lock goes: a race then knows who
//! is silent.

use alloc::vec;

use crate::ctx::Ctx;
use crate::decision::Action;
use crate::memory::Memory;
use crate::race;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let Some(suspect) = race::suspect_since(memory) else {
        return NOTHING;
    };
    if ctx.other_leader().is_none() || ctx.view.asking || ctx.view.identity.tags.nofailover {
        return NOTHING;
    }
    // Once each time: a race asks again those that answered.
    let asked = |name| {
        ctx.view
            .peers
            .get(name)
            .is_some_and(|fact| fact.asked >= suspect)
    };
    let questions: alloc::vec::Vec<_> = ctx
        .others()
        .filter(|member| !member.api_url.is_empty() && !asked(&member.name))
        .map(|member| race::ask(memory, member))
        .collect();
    if questions.is_empty() {
        NOTHING
    } else {
        (vec![Action::AskPeers(questions)], None)
    }
}
