//! The brain's one entry: asks the ladder, then the upkeep.

use alloc::vec::Vec;

use crate::ctx::{Ctx, Lock, Order, Verdict};
use crate::decision::{Action, Decision, JobKind, Rung, Severity, Why};
use crate::memory::{Answered, Memory};
use crate::view::{LeaseFact, View};
use crate::{beat, failsafe, logical, race, rules, schedule, senders, upkeep};
use pgherd_model::{ControlState, Postmaster, Time};

/// What this node does now. Pure: the same view and memory give the same decision.
pub fn decide(view: &View, memory: &Memory) -> Decision {
    let mut memory = memory.clone();
    let ctx = Ctx::new(view, &memory);
    race::remember_former(&ctx, &mut memory);
    beat::note(&ctx, &mut memory);
    remember(&ctx, &mut memory);
    logical::note(&ctx, &mut memory);
    failsafe::note(&ctx, &mut memory);
    let (rule, order, ladder) = climb(&ctx, &mut memory);
    let mut wake_at = Some((view.now + view.settings.loop_wait, "loop_wait"));
    if let Some(at) = order.wake_at {
        sooner(&mut wake_at, at, rule);
    }
    let mut actions = order.actions;
    if order.duties {
        for (name, duty) in upkeep::DUTIES {
            let (more, wake) = duty(&ctx, &mut memory);
            actions.extend(more);
            if let Some(at) = wake {
                sooner(&mut wake_at, at, name);
            }
        }
    }
    let (more, wake) = senders::duty(&ctx, &mut memory);
    if !actions.iter().any(is_in_its_way) {
        actions.extend(more);
    }
    if let Some(at) = wake {
        sooner(&mut wake_at, at, "senders");
    }
    if let Some(at) = schedule::restart_due(&ctx, &memory) {
        sooner(&mut wake_at, at, "scheduled restart");
    }
    if let Some(at) = rules::hang::due(&ctx, &memory) {
        sooner(&mut wake_at, at, "hang");
    }
    if let Some(promise) = view.failsafe.promise.as_ref().filter(|_| ctx.promised) {
        sooner(&mut wake_at, promise.until, "failsafe");
    }
    let due = wake_at.map_or(view.now, |(at, _)| at);
    if let Some(at) = next_deadline(&ctx, &memory) {
        sooner(&mut wake_at, at, "lease");
    }
    if let Some(term) = actions.iter().find_map(upkeep::gives_up_lock) {
        memory.released = Some(term);
    }
    let keep_lease = (memory.term.is_some() && memory.released.is_none())
        || actions.iter().any(upkeep::takes_lock);
    let rest = beat::rest_of(&ctx, &memory, order.severity);
    let failsafe = failsafe::wish(&ctx, &memory);
    let why = Why {
        rule,
        severity: order.severity.max(Severity::at_least(&actions)),
        reason: order.reason,
    };
    Decision {
        actions,
        memory,
        why,
        keep_lease,
        failsafe,
        rest,
        wake_at,
        due,
        ladder,
    }
}

/// Of the own term in office.
fn next_deadline(ctx: &Ctx<'_>, memory: &Memory) -> Option<Time> {
    let in_office = memory.term.is_some() || ctx.is_extended();
    let deadlines = ctx.deadlines.filter(|_| in_office)?;
    let all = [
        deadlines.demote_fast,
        deadlines.demote_immediate,
        deadlines.guard,
    ];
    all.into_iter().find(|at| *at > ctx.now())
}

/// The stop is not gone on with, or others are asked already.
fn is_in_its_way(action: &Action) -> bool {
    matches!(action, Action::StartJob(_) | Action::AskPeers(_))
}

/// Asks the rules until one answers.
fn climb(ctx: &Ctx<'_>, memory: &mut Memory) -> (&'static str, Order, Vec<Rung>) {
    let mut ladder = Vec::with_capacity(rules::LADDER.len());
    for (rule, ask) in rules::LADDER {
        match ask(ctx, memory) {
            Verdict::Pass(reason) => ladder.push(Rung {
                rule,
                fired: false,
                reason,
            }),
            Verdict::Do(order) => {
                ladder.push(Rung {
                    rule,
                    fired: true,
                    reason: order.reason.clone(),
                });
                return (rule, order, ladder);
            }
        }
    }
    // The last rule always answers; should it ever not, doing nothing is safe.
    let order = Order {
        actions: Vec::new(),
        reason: "no rule answered".into(),
        severity: Severity::Error,
        wake_at: None,
        duties: false,
    };
    ("none", order, ladder)
}

/// Facts about the past that several rules need.
fn remember(ctx: &Ctx<'_>, memory: &mut Memory) {
    let term = match ctx.lock {
        Lock::Mine { term } | Lock::Detached { term } => Some(term),
        Lock::GivenUp { .. } | Lock::Other(_) | Lock::Free => None,
        Lock::Unknown => memory.term,
    };
    let same_term = term.is_some() && memory.term == term;
    memory.term = term;
    note_overdue(ctx, memory, same_term);
    if let Lock::Mine { .. } = ctx.lock {
        memory.attached_term = term;
        memory.held = ctx.lease;
    } else if !(same_term || (ctx.lock == Lock::Free && ctx.is_extended())) {
        // A lease that is granted anew is not one that others count on before the lock lives under it.
        memory.held = None;
    }
    if !same_term {
        // What PostgreSQL waits for is told anew.
        memory.sync_told = None;
    }
    note_lock(ctx, memory);
    note_answer(ctx, memory);
    note_met(ctx, memory);
    note_senders(ctx, memory);
    senders::note(ctx, memory);
    rules::restart_order::note_overlong_start(ctx, memory);
    let view = ctx.view;
    if view.is_primary() {
        memory.was_primary = true;
        memory.crashed_at = None;
        memory.start.clear();
        memory.stand_back_until = None;
        memory.rejoins &= memory.demotion.is_some();
    }
    if view.is_standby() {
        memory.was_primary = false;
        memory.demoted = false;
        memory.rejoins = false;
        memory.start.clear();
    }
    let promoting = view
        .running_job()
        .is_some_and(|job| job.kind == JobKind::Promote);
    if !same_term || promoting || !view.is_standby() {
        memory.not_begun = 0;
    }
    if view.is_down() && ctx.holding().is_none() && memory.was_primary {
        memory.was_primary = false;
        memory.demoted = true;
    }
    note_stream(view, memory);
}

/// Whether the stream from upstream flows.
fn note_stream(view: &View, memory: &mut Memory) {
    let streaming = view
        .local
        .look
        .as_ref()
        .and_then(|look| look.receiver.as_ref())
        .is_some_and(|receiver| receiver.streaming);
    if streaming {
        // What failed on the way here has been made good.
        memory.copy.clear();
        memory.rewind.clear();
        memory.recovery.clear();
    }
    if streaming || !view.is_standby() {
        memory.stream_broken = None;
    } else {
        memory.stream_broken.get_or_insert(view.now);
    }
}

/// Whoever is seen before the first holder of the lock may have been the one before that.
fn note_met(ctx: &Ctx<'_>, memory: &mut Memory) {
    if memory.former.is_some() || (ctx.other_leader().is_some() && !ctx.promised) {
        memory.met.clear();
        return;
    }
    let unknown = ctx.others().filter(|it| !memory.met.contains(&it.name));
    let unknown: Vec<_> = unknown.map(|member| member.name.clone()).collect();
    memory.met.extend(unknown);
}

/// PostgreSQL is being stopped and has written its last checkpoint.
fn note_senders(ctx: &Ctx<'_>, memory: &mut Memory) {
    let view = ctx.view;
    let control = view.local.control;
    let shut_down = control.is_some_and(|control| control.state == ControlState::ShutDown);
    let stopping = view
        .running_job()
        .is_some_and(|job| matches!(job.kind, JobKind::Stop { .. }));
    if shut_down && stopping && !view.is_down() && !view.local.archiving {
        memory.senders_since.get_or_insert(view.now);
    } else {
        memory.senders_since = None;
    }
}

/// Which postmaster has answered: one that does not any more is no starting one.
fn note_answer(ctx: &Ctx<'_>, memory: &mut Memory) {
    let local = &ctx.view.local;
    let Postmaster::Alive { pid } = local.postmaster else {
        memory.answered = None;
        return;
    };
    match &local.look {
        Some(look) => {
            let pending_restart = look.pending_restart.clone();
            memory.answered = Some(Answered {
                pid,
                pending_restart,
            });
        }
        None => drop(memory.answered.take_if(|it| it.pid != pid)),
    }
}

/// What happened to the lock that no single look shows.
fn note_lock(ctx: &Ctx<'_>, memory: &mut Memory) {
    let now = ctx.now();
    match ctx.lock {
        Lock::Detached { .. } => {
            memory.detached_since.get_or_insert(now);
        }
        Lock::Other(_) => {
            // Somebody took over: whoever stood back for that is a candidate like any other again.
            memory.detached_since = None;
            memory.stand_back_until = None;
            memory.rest_until = None;
        }
        _ => memory.detached_since = None,
    }
    match ctx.lock {
        Lock::Other(leader) if leader.lease == 0 => {
            memory.leaseless_since.get_or_insert(now);
        }
        Lock::Unknown => {}
        _ => memory.leaseless_since = None,
    }
    match ctx.view.fresh() {
        Some(_) if !matches!(ctx.lock, Lock::GivenUp { .. }) => memory.released = None,
        _ => {}
    }
}

/// A leader whose renewals stayed away for so long that it had to demote gives the lock up even
/// if a renewal came through at last: others count on it that it does not write again.
fn note_overdue(ctx: &Ctx<'_>, memory: &mut Memory, same_term: bool) {
    if !same_term {
        memory.give_up = None;
        return;
    }
    let Some(lease) = ctx.lease else { return };
    let overdue = |lease: LeaseFact, at: Time| at >= lease.deadlines().demote_fast;
    let extension = ctx.view.failsafe.extension;
    let kept = extension.is_some_and(|it| lease.sent < it.deadlines().demote_fast);
    let late = memory
        .held
        .is_some_and(|before| overdue(before, lease.sent) && !kept);
    if late || ctx.deadlines.is_some_and(|it| ctx.now() >= it.demote_fast) {
        memory.give_up = Some("renewals of its lease stayed away too long".into());
    } else if leads(ctx) && ctx.view.running_job().is_none() {
        memory.give_up = None;
    }
}

/// As a primary, or in recovery as the standby leader, which writes nothing that anybody has to count on.
fn leads(ctx: &Ctx<'_>) -> bool {
    ctx.view.is_primary() || (ctx.leads_in_recovery() && ctx.view.is_standby())
}

fn sooner(wake_at: &mut Option<(Time, &'static str)>, at: Time, who: &'static str) {
    if wake_at.is_none_or(|(present, _)| at < present) {
        *wake_at = Some((at, who));
    }
}
