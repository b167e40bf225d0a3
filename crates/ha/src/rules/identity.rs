//! Data and cluster must belong together.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Initialize, Op};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::Action;
use crate::memory::Memory;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Some(control) = ctx.view.local.control else {
        return Verdict::pass("pg_control cannot be read");
    };
    let own = control.system_id;
    if let Some(message) = mismatch(ctx) {
        return wrong_cluster(ctx, memory, message);
    }
    let Some(cluster) = ctx.view.fresh() else {
        return Verdict::pass("the lock service cannot be read");
    };
    let expected = cluster.initialize.as_ref().map(|stored| stored.revision);
    match cluster.initialize.as_ref().map(|stored| &stored.value) {
        Some(Initialize::Done(_)) => Verdict::pass("the system identifier agrees"),
        Some(Initialize::UnderWay) if ctx.view.orders.bootstrap_claim == expected => {
            Verdict::pass("this node is creating the cluster")
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None if ctx.holding().is_some() => {
            Verdict::act(repair(ctx).into_iter().collect(), "repaired `initialize`").warning()
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None if ctx.lock == Lock::Free => {
            // A standby cluster has no primary that could.
            if ctx.view.is_standby() && ctx.standby_cluster().is_none() {
                // Whoever lost its keys together with this node puts them back at once.
                let patience = memory.free_since.unwrap_or(ctx.now()) + ctx.view.settings.ttl;
                if ctx.now() < patience {
                    return Verdict::stay(
                        "neither a leader nor `initialize`: waiting for the leader",
                    )
                    .warning()
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
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None
            if ctx.view.is_down() && ctx.other_leader().is_some() =>
        {
            // The data may be another cluster's: neither started, nor rewound, nor removed.
            Verdict::stay("PostgreSQL stays down until the leader has repaired `initialize`")
                .warning()
        }
        Some(Initialize::UnderWay | Initialize::Invalid(_)) | None => {
            Verdict::pass("the leader will repair `initialize`")
        }
    }
}

/// The holder of the lock writes `initialize` where it is missing or invalid.
pub(crate) fn repair(ctx: &Ctx<'_>) -> Option<Action> {
    let own = ctx.view.local.control?.system_id;
    let stored = ctx.view.fresh()?.initialize.as_ref();
    if stored.is_some_and(|stored| matches!(stored.value, Initialize::Done(_))) {
        return None;
    }
    Some(Action::Store(Op::PutInitialize {
        system_id: Some(own),
        expected: stored.map(|stored| stored.revision),
    }))
}

/// Somebody pointed this agent at data of another cluster: whatever runs there is left alone. An agent that has led
/// with these data, or made them, minds its own primary, whatever `initialize` says by now.
pub(crate) fn is_foreign(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let orders = &ctx.view.orders;
    let made_here = orders.bootstrap_claim.is_some() || orders.bootstrapped.is_some();
    memory.attached_term.is_none() && !made_here && mismatch(ctx).is_some()
}

/// What to say if the data are those of another cluster. An identifier never changes: an old
/// picture is as good as a new one.
pub(crate) fn mismatch(ctx: &Ctx<'_>) -> Option<String> {
    let own = ctx.view.local.control?.system_id;
    let id = ctx.cluster()?.system_id().filter(|id| *id != own)?;
    Some(format!(
        "system ID mismatch, node {} belongs to a different cluster: {id} != {own}: \
         {id} is the identifier of the cluster in etcd, {own} that of the data in {}. Nothing there \
         was changed. Set postgresql.data_dir to data of this cluster or to an empty directory, or \
         scope and namespace to the cluster that the data belong to",
        ctx.me(),
        ctx.view.identity.data_dir
    ))
}

/// Data of another cluster: neither may take harm from the other.
fn wrong_cluster(ctx: &Ctx<'_>, memory: &Memory, message: String) -> Verdict {
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
