//! WAL senders that hold up an ordered stop.
//!
//! Before PostgreSQL writes its shutdown checkpoint it waits, once all sessions have ended, until each of its WAL senders
//! has noticed the stop, and one whose socket is full does not: its standby has lost its power or its network, or hangs.
//! That lasts until `wal_sender_timeout` (60 s), in which pg_control goes on to say "in production". Such a sender is told to
//! end, by SIGTERM, and again: the first one's farewell gets stuck in the same socket. Never killed: PostgreSQL would take
//! that for a crash, and write no shutdown checkpoint.
//!
//! Which senders wait and which have noticed cannot be seen from outside. Those that nobody needs are ended first.

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
/// A sender that is at work notices the stop within milliseconds. A logical one sends everything first.
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
    let waits = local.awaits_senders
        && local.look.is_none()
        && local
            .control
            .is_some_and(|control| before_its_end(control.state));
    if waits {
        memory.stopping_since.get_or_insert(ctx.now());
    } else {
        (memory.stopping_since, memory.senders_told) = (None, None);
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
    let again = memory.senders_told.map_or(now, |told| told + AGAIN);
    if now < again {
        return (vec![], Some(again));
    }
    let spared = spared(ctx, memory, since);
    let ended: Vec<u32> = memory
        .senders
        .iter()
        .filter(|(_, name)| match &spared {
            None => true,
            Some(names) => is_member(ctx, name) && !names.iter().any(|it| it.as_str() == *name),
        })
        .map(|(pid, _)| *pid)
        .collect();
    if ended.is_empty() {
        return (vec![], Some(now + AGAIN));
    }
    memory.senders_told = Some(now);
    (vec![Action::EndSenders(ended)], Some(now + AGAIN))
}

/// PostgreSQL is stopped in order.
fn is_stopping(ctx: &Ctx<'_>) -> bool {
    let orderly =
        |kind: &JobKind| matches!(kind, JobKind::Stop { mode, .. } if *mode == StopMode::Fast);
    ctx.view.running_job().is_some_and(|job| orderly(&job.kind))
}

/// Not of a member: a backup, or a subscriber, which may be behind and catches up if it is let.
fn is_member(ctx: &Ctx<'_>, name: &str) -> bool {
    ctx.others().any(|member| member.name.as_str() == name)
}

/// Somebody takes over and is to receive the shutdown checkpoint: who that may be, and from whom these stream. `None`: nobody
/// is spared any more.
fn spared<'a>(ctx: &Ctx<'a>, memory: &'a Memory, since: Time) -> Option<Vec<&'a MemberName>> {
    if ctx.now() >= since + SPARING {
        return None;
    }
    let mut names = Vec::new();
    if ctx.holding().is_some() && memory.restart.is_none() {
        let demotion = memory.demotion.as_ref();
        match demotion.and_then(|it| it.candidate.as_ref()) {
            Some(candidate) => names.push(candidate),
            None => {
                // Whatever their age: nobody is asked twice, since one that is silent would hold up the other answers.
                let asked = |fact: &crate::PeerFact| fact.asked >= since;
                let able = race::candidates_by(ctx, hang::tolerable(ctx), false, asked);
                names.extend(able.into_iter().map(|(name, _)| name));
            }
        }
    }
    let mut next = 0;
    while let Some(name) = names.get(next).copied() {
        let member = ctx.others().find(|member| member.name == *name);
        let from = member.and_then(|member| member.tags.replicatefrom.as_ref());
        if let Some(from) = from.filter(|from| !names.contains(from)) {
            names.push(from);
        }
        next += 1;
    }
    Some(names)
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
        .map(|member| race::ask(ctx, memory, member))
        .collect()
}
