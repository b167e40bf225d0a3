//! `history`: one line per timeline that ended.

use alloc::vec;
use pgherd_model::Op;

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, _memory: &mut Memory) -> Duty {
    let (Lock::Mine { term }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let Some(look) = ctx
        .view
        .local
        .look
        .as_ref()
        .filter(|look| !look.in_recovery)
    else {
        return NOTHING;
    };
    let own = &ctx.view.local.own_history;
    let stored = cluster
        .history
        .as_ref()
        .map(|stored| stored.value.as_slice())
        .unwrap_or_default();
    if look.timeline.0 == 1 && !stored.is_empty() {
        // Of another cluster, which had these keys before.
        let history = vec![];
        return (vec![Action::Store(Op::PutHistory { history, term })], None);
    }
    // Numbers may be left out between the last line and the present timeline.
    let Some(last) = own.last().filter(|line| line.timeline < look.timeline) else {
        return NOTHING;
    };
    let complete =
        |line: &pgherd_model::HistoryLine| line.timestamp.is_some() && line.leader.is_some();
    if stored.last().is_some_and(|line| {
        line.timeline == last.timeline && line.end == last.end && complete(line)
    }) {
        return NOTHING;
    }
    // Lines that are there already know who was promoted; the newest one is this node's own work.
    let mut history: alloc::vec::Vec<_> = own
        .iter()
        .map(|line| {
            let known = stored
                .iter()
                .find(|old| old.timeline == line.timeline && old.end == line.end);
            known.cloned().unwrap_or_else(|| line.clone())
        })
        .collect();
    if let Some(line) = history.last_mut() {
        line.leader.get_or_insert_with(|| ctx.me().clone());
    }
    let keep = ctx.view.settings.max_timelines_history;
    if keep > 0 && history.len() > keep {
        history.drain(..history.len() - keep);
    }
    if history == stored {
        return NOTHING;
    }
    (vec![Action::Store(Op::PutHistory { history, term })], None)
}
