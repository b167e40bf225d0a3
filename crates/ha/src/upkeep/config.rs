//! The leader puts `config` back when it is missing or no JSON object: what is in force, not what the
//! cluster began with (contract: patroni-ha-rules, section 1; patroni-config, section 1).

use alloc::vec;
use pgherd_model::{Cluster, Op};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let (Lock::Mine { .. }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    match repair(ctx, cluster) {
        Some(put) => (vec![put], None),
        None => NOTHING,
    }
}

/// Writes the configuration in force where there is none that can be used.
pub(crate) fn repair(ctx: &Ctx<'_>, cluster: &Cluster) -> Option<Action> {
    let stored = cluster.config.as_ref();
    if stored.is_some_and(|config| config.value.is_object) || ctx.view.config.is_empty() {
        return None;
    }
    Some(Action::Store(Op::PutConfig {
        text: ctx.view.config.clone(),
        expected: stored.map(|config| config.revision),
    }))
}
