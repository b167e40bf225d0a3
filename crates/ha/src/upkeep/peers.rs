//! Asks the others as soon as the leader seems to be gone, not when the lock goes: a race then knows who
//! is silent.

use alloc::vec;
use pgherd_model::Time;

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
    // Those that answered once: a race asks them again. The silent ones so often that it need not.
    let due = |name| match ctx.view.peers.get(name) {
        Some(fact) if fact.asked >= suspect => match fact.answer {
            Some(_) => None,
            None => Some(fact.asked + race::SILENCE_KEPT),
        },
        _ => Some(ctx.now()),
    };
    let mut questions = vec![];
    let mut next: Option<Time> = None;
    for member in ctx.others().filter(|member| !member.api_url.is_empty()) {
        match due(&member.name) {
            Some(at) if at <= ctx.now() => questions.push(race::ask(ctx, memory, member)),
            Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
            None => {}
        }
    }
    if questions.is_empty() {
        (vec![], next)
    } else {
        (vec![Action::AskPeers(questions)], next)
    }
}
