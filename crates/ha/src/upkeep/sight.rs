//! Watches the lease of somebody else's lock, so that its end is known and not guessed.

use alloc::vec;
use pgherd_model::{Op, Span};

use crate::ctx::Ctx;
use crate::decision::Action;
use crate::memory::Memory;
use crate::race;
use crate::upkeep::{Duty, NOTHING};

/// How often to look once the leader seems to be gone.
const FAST: Span = Span::from_millis(100);

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let (Some(leader), Some(former)) = (ctx.other_leader(), &memory.former) else {
        return NOTHING;
    };
    if ctx.view.fresh().is_none() || leader.lease == 0 || ctx.view.identity.tags.nofailover {
        return NOTHING;
    }
    let (looked, length) = (former.looked, former.length);
    note_stale(ctx, memory);
    let pause = pause(memory, length);
    let due = looked.map(|looked| looked + pause);
    match due {
        Some(at) if ctx.now() < at => (vec![], Some(at)),
        _ => (
            vec![Action::Store(Op::LookAtLease {
                lease: leader.lease,
            })],
            Some(ctx.now() + pause),
        ),
    }
}

/// A quarter of the lease while it is renewed (an eighth of a short one, whose whole seconds are
/// coarse); fast when the stream is broken or renewals stay away.
fn pause(memory: &Memory, length: Span) -> Span {
    if race::suspect_since(memory).is_some() {
        FAST
    } else if length < Span::from_secs(4) {
        length / 8
    } else {
        length / 4
    }
}

/// Notes since when the lease has not been renewed as it should be.
fn note_stale(ctx: &Ctx<'_>, memory: &mut Memory) {
    let stale = ctx.view.sight.is_some_and(|sight| {
        !sight.granted.is_zero() && sight.remaining + Span::from_secs(1) < sight.granted * 6 / 10
    });
    if stale {
        memory.lease_stale.get_or_insert(ctx.now());
    } else {
        memory.lease_stale = None;
    }
}
