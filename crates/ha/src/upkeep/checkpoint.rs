//! After a promotion the leader makes a checkpoint: pg_rewind of others must not run before it.

use alloc::vec;
use pgherd_model::Span;

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

/// Its end is seen in pg_control, a file, whose change wakes nobody.
const LOOK_AGAIN: Span = Span::from_secs(1);

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    if !matches!(ctx.lock, Lock::Mine { .. }) || !due(ctx) {
        return NOTHING;
    }
    let (again, wake) = (ctx.view.settings.loop_wait, ctx.now() + LOOK_AGAIN);
    if memory
        .checkpoint_asked
        .is_some_and(|asked| ctx.now() < asked + again)
    {
        return (vec![], Some(wake));
    }
    memory.checkpoint_asked = Some(ctx.now());
    (vec![Action::Checkpoint], Some(wake))
}

/// The latest checkpoint is older than the promotion.
pub(crate) fn due(ctx: &Ctx<'_>) -> bool {
    let local = &ctx.view.local;
    match (&local.look, &local.control) {
        (Some(look), Some(control)) => !look.in_recovery && control.timeline < look.timeline,
        _ => false,
    }
}
