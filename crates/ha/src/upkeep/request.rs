//! The leader cleans up `failover` once it was served or makes no sense, and looks again at the
//! moment a scheduled one is due.

use alloc::vec;
use pgherd_model::{Failover, Op};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::rules::switchover;
use crate::schedule::{self, When};
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let (Lock::Mine { .. }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let (Some(request), Some(stored)) = (cluster.failover_request(), &cluster.failover) else {
        return NOTHING;
    };
    if memory.demotion.is_some() || !switchover::leads(ctx) {
        return NOTHING;
    }
    if let Some(schedule) = &request.scheduled_at {
        // The rule judges it; here is said only when to look.
        return match schedule::when(ctx, schedule) {
            When::NotBefore(at) => (vec![], Some(at)),
            When::Due | When::Stale | When::Unreadable => NOTHING,
        };
    }
    let served = request.member.as_ref() == Some(ctx.me());
    let names_another = request
        .leader
        .as_ref()
        .is_some_and(|leader| leader != ctx.me());
    if !served && !names_another {
        return NOTHING;
    }
    (vec![clean(stored.revision)], None)
}

/// `{}`: the key is never deleted.
pub(crate) fn clean(revision: u64) -> Action {
    Action::Store(Op::PutFailover {
        failover: Failover::default(),
        expected: Some(revision),
    })
}
