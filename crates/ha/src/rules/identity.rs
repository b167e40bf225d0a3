//! Data and cluster must belong together.

use alloc::format;
use alloc::vec;
use pgherd_model::{Initialize, Op};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::Action;
use crate::memory::Memory;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Some(cluster) = ctx.view.fresh() else {
        return Verdict::pass("the lock service cannot be read");
    };
    let Some(control) = ctx.view.local.control else {
        return Verdict::pass("pg_control cannot be read");
    };
    let own = control.system_id;
    let expected = cluster.initialize.as_ref().map(|stored| stored.revision);
    match cluster.initialize.as_ref().map(|stored| &stored.value) {
        Some(Initialize::Done(id)) if *id == own => Verdict::pass("the system identifier agrees"),
        Some(Initialize::Done(id)) => {
            let message = format!(
                "system ID mismatch, node {} belongs to a different cluster: {id} != {own}",
                ctx.me()
            );
            let mut actions = vec![];
            if let Some(term) = ctx.holding().filter(|_| ctx.view.is_down()) {
                actions.push(ctx.release(term, memory));
            }
            actions.push(Action::Exit {
                code: 1,
                message: message.clone(),
            });
            Verdict::only(actions, message)
        }
        Some(Initialize::UnderWay) if ctx.view.orders.bootstrap_claim == expected => {
            Verdict::pass("this node is creating the cluster")
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None if ctx.holding().is_some() => {
            let put = Op::PutInitialize {
                system_id: Some(own),
                expected,
            };
            Verdict::act(vec![Action::Store(put)], "repaired `initialize`")
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None if ctx.lock == Lock::Free => {
            if ctx.view.is_standby() {
                // Whoever lost its keys together with this node puts them back at once.
                let patience = memory.free_since.unwrap_or(ctx.now()) + ctx.view.settings.ttl;
                if ctx.now() < patience {
                    return Verdict::stay(
                        "neither a leader nor `initialize`: waiting for the leader",
                    )
                    .wake(patience);
                }
                let message = format!(
                    "node {} runs as a replica, but the cluster has neither a leader nor `initialize`",
                    ctx.me()
                );
                let exit = Action::Exit {
                    code: 1,
                    message: message.clone(),
                };
                return Verdict::only(vec![exit], message);
            }
            let put = Op::PutInitialize {
                system_id: Some(own),
                expected,
            };
            Verdict::act(
                vec![Action::Store(put)],
                "claimed the cluster for the data found here",
            )
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None => {
            Verdict::pass("the leader will repair `initialize`")
        }
    }
}
