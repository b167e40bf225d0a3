//! Watches the lease of somebody else's lock, so that its end is known and not guessed. While its holder gives
//! signs of life nobody needs to ask.

use alloc::vec;
use pgherd_model::{Op, Span};

use crate::beat;
use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::race;
use crate::upkeep::{Duty, NOTHING};

/// How often to look once the leader seems to be gone.
const FAST: Span = Span::from_millis(100);
/// etcd tells whole seconds.
const COARSE: Span = Span::from_secs(1);
/// Hundredths of its life: a lease of which less is left was not renewed in time.
const STALE: u32 = 60;
/// And how often once its lock is gone.
const AFTERWARDS: Span = Span::from_secs(1);

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let Some(former) = &memory.former else {
        return NOTHING;
    };
    let (looked, length, lease) = (former.looked, former.length, former.lease);
    if ctx.view.fresh().is_none() || lease == 0 || ctx.promised || ctx.view.identity.tags.nofailover
    {
        return NOTHING;
    }
    let pause = match ctx.lock {
        Lock::Other(_) => {
            note_stale(ctx, memory);
            if let Some(until) = beat::until(ctx, memory).filter(|_| looked.is_some()) {
                return (vec![], Some(until));
            }
            pause(ctx, memory, length)
        }
        // A key that was deleted may have left a living lease behind.
        Lock::Free => AFTERWARDS,
        Lock::Mine { .. } | Lock::Detached { .. } | Lock::GivenUp { .. } | Lock::Unknown => {
            return NOTHING;
        }
    };
    let asked = ctx.view.sight.filter(|sight| sight.lease == lease);
    let due = looked
        .max(asked.map(|sight| sight.asked))
        .map(|at| at + pause);
    match due {
        Some(at) if ctx.now() < at => (vec![], Some(at)),
        _ => (
            vec![Action::Store(Op::LookAtLease { lease })],
            Some(ctx.now() + pause),
        ),
    }
}

/// Until it would be seen that the lease was not renewed since the last look (an eighth of a short one, whose whole
/// seconds are coarse); fast when the stream is broken or renewals stay away.
fn pause(ctx: &Ctx<'_>, memory: &Memory, length: Span) -> Span {
    if race::suspect_since(memory).is_some() {
        return FAST;
    }
    if length < Span::from_secs(4) {
        return length / 8;
    }
    let remaining = ctx.view.sight.map_or(Span::ZERO, |sight| sight.remaining);
    let seen = (remaining + COARSE).saturating_sub(length * STALE / 100);
    seen.clamp(length / 10, length / 2)
}

/// Notes since when the lease has not been renewed as it should be.
fn note_stale(ctx: &Ctx<'_>, memory: &mut Memory) {
    let stale = ctx.view.sight.is_some_and(|sight| {
        !sight.granted.is_zero() && sight.remaining + COARSE < sight.granted * STALE / 100
    });
    if stale {
        memory.lease_stale.get_or_insert(ctx.now());
    } else {
        memory.lease_stale = None;
    }
}
