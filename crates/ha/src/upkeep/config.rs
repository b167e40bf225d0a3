//! The leader restores `config` when it is missing.

use alloc::vec;
use pgherd_model::Op;

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let (Lock::Mine { .. }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let missing = cluster
        .config
        .as_ref()
        .is_none_or(|config| config.value.text.trim().is_empty());
    if !missing || ctx.view.identity.bootstrap_config.is_empty() {
        return NOTHING;
    }
    let expected = cluster.config.as_ref().map(|config| config.revision);
    let text = ctx.view.identity.bootstrap_config.clone();
    (vec![Action::Store(Op::PutConfig { text, expected })], None)
}
