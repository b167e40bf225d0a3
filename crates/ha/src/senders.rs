//! WAL senders that hold up an ordered stop.
//!
//! Before PostgreSQL writes its shutdown checkpoint it waits until each of its WAL senders has noticed the stop, and one
//! whose socket is full does not: its standby has lost its power or its network, or hangs. That lasts until
//! `wal_sender_timeout` (60 s), in which pg_control still says "in production" while postmaster.pid says "stopping". Such a sender
//! is told to end, by SIGTERM, and again: the first one's farewell gets stuck in the same socket. Never killed: PostgreSQL would
//! take that for a crash, and write no shutdown checkpoint.

use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{ControlState, MemberName, Span, StopMode, Time};

use crate::ctx::Ctx;
use crate::decision::{Action, Ask, JobKind};
use crate::memory::Memory;
use crate::race;
use crate::rules::hang;
use crate::upkeep::{Duty, NOTHING};

/// A stop that takes this long may be held up: where anybody may take over it is asked who still could.
const SUSPICION: Span = Span::from_millis(200);
/// A sender that is at work notices the stop within milliseconds.
const PATIENCE: Span = Span::from_secs(1);
/// After this nobody is spared: that a switchover may fail is better than no primary.
const SPARING: Span = Span::from_secs(5);
/// How soon it is told again.
const AGAIN: Span = Span::from_millis(100);

/// Notes whose the senders are, and since when a stop has waited for them.
pub(crate) fn note(ctx: &Ctx<'_>, memory: &mut Memory) {
    let local = &ctx.view.local;
    if let Some(look) = &local.look {
        let senders = look.standbys.iter().map(|it| (it.pid, it.name.clone()));
        memory.senders = senders.collect();
    }
    let before_its_end = |state| {
        matches!(
            state,
            ControlState::InProduction | ControlState::InArchiveRecovery
        )
    };
    let waits = local.stopping
        && local.look.is_none()
        && local
            .control
            .is_some_and(|control| before_its_end(control.state));
    if waits {
        memory.stopping_since.get_or_insert(ctx.now());
    } else {
        memory.stopping_since = None;
    }
}

/// Ends those that hold up the stop, whatever it is for.
pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let Some(since) = memory.stopping_since.filter(|_| is_stopping(ctx)) else {
        return NOTHING;
    };
    let now = ctx.now();
    if now < since + SUSPICION {
        return (vec![], Some(since + SUSPICION));
    }
    if now < since + PATIENCE {
        let questions = questions(ctx, memory, since);
        let actions = match questions.is_empty() {
            true => vec![],
            false => vec![Action::AskPeers(questions)],
        };
        return (actions, Some(since + PATIENCE));
    }
    let ended: Vec<u32> = memory
        .senders
        .iter()
        .filter(|(_, name)| !is_spared(ctx, memory, name, since))
        .map(|(pid, _)| *pid)
        .collect();
    let actions = match ended.is_empty() {
        true => vec![],
        false => vec![Action::EndSenders(ended)],
    };
    (actions, Some(now + AGAIN))
}

/// PostgreSQL is stopped in order.
fn is_stopping(ctx: &Ctx<'_>) -> bool {
    let orderly =
        |kind: &JobKind| matches!(kind, JobKind::Stop { mode, .. } if *mode == StopMode::Fast);
    ctx.view.running_job().is_some_and(|job| orderly(&job.kind))
}

/// Somebody takes over, and this standby may be the one: it is to receive the shutdown checkpoint.
fn is_spared(ctx: &Ctx<'_>, memory: &Memory, name: &str, since: Time) -> bool {
    if ctx.now() >= since + SPARING || ctx.holding().is_none() || memory.restart.is_some() {
        return false;
    }
    let named = memory
        .demotion
        .as_ref()
        .and_then(|it| it.candidate.as_ref());
    match named {
        Some(candidate) => candidate.as_str() == name,
        None => race::candidates(ctx, hang::tolerable(ctx), false)
            .iter()
            .any(|(candidate, _)| candidate.as_str() == name),
    }
}

/// Where anybody may take over: who still could?
fn questions(ctx: &Ctx<'_>, memory: &Memory, since: Time) -> Vec<Ask> {
    let named = memory
        .demotion
        .as_ref()
        .is_some_and(|it| it.candidate.is_some());
    if named || ctx.holding().is_none() || memory.restart.is_some() || ctx.view.asking {
        return vec![];
    }
    let unasked = |name: &MemberName| {
        let fact = ctx.view.peers.get(name);
        fact.is_none_or(|fact| fact.asked < since) && !race::silent(ctx, name)
    };
    ctx.others()
        .filter(|member| unasked(&member.name) && !member.api_url.is_empty())
        .map(|member| race::ask(memory, member))
        .collect()
}
