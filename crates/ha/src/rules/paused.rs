//! Pause: hands off. PostgreSQL is neither started, stopped nor promoted; a running primary keeps
//! or takes the lock (contract: patroni-ha-rules, section 13).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::Op;

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::Action;
use crate::memory::Memory;
use crate::rules::detached;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.view.settings.pause {
        return Verdict::pass("the cluster is not paused");
    }
    if ctx.view.orders.shutdown {
        let message = String::from("PAUSE: PostgreSQL and the lock are left as they are");
        return Verdict::only(
            vec![Action::Exit { code: 0, message }],
            "PAUSE: the agent ends",
        );
    }
    if ctx.view.running_job().is_some() {
        return Verdict::stay("PAUSE: the job that runs is brought to its end");
    }
    // A scheduled one waits for the end of the pause, or becomes stale in it.
    let asked = ctx
        .view
        .fresh()
        .and_then(|cluster| cluster.failover_request())
        .filter(|request| request.scheduled_at.is_none());
    // Whoever is named has taken the lock, and is promoted now.
    let named = asked.is_some_and(|request| request.member.as_ref() == Some(ctx.me()));
    let taken = named && matches!(ctx.lock, Lock::Mine { .. }) && ctx.view.is_standby();
    let going_on = memory.demotion.is_some() || ctx.lock == Lock::Free || taken;
    if asked.is_some_and(|request| request.member.is_some()) && (going_on || ctx.view.is_primary())
    {
        return Verdict::pass("a switchover to a named member is asked for");
    }
    let name = ctx.me();
    match ctx.lock {
        Lock::Detached { term } => {
            let reattach = Op::ReattachLeader {
                create_revision: term,
            };
            let reason = format!("PAUSE: {}", detached::reason(memory, term));
            Verdict::only(vec![Action::Store(reattach)], reason)
        }
        Lock::Mine { .. } if ctx.view.is_primary() => Verdict::routine(format!(
            "PAUSE: no action. I am ({name}), the leader with the lock"
        )),
        Lock::Mine { term } if ctx.view.is_down() || ctx.view.is_standby() => {
            let release = ctx.release(term, memory);
            Verdict::act(
                vec![release],
                "PAUSE: removed leader lock because postgres is not running as primary",
            )
            .warning()
        }
        Lock::Free if ctx.view.is_primary() => Verdict::only(
            vec![Action::Store(Op::AcquireLeader)],
            "PAUSE: acquired session lock as a leader",
        ),
        _ => Verdict::routine(format!("PAUSE: no action. I am ({name})")),
    }
}
