//! Pause: hands off. PostgreSQL is neither started, stopped nor promoted; a running primary keeps
//! or takes the lock, a standby follows its holder (contract: patroni-ha-rules, section 13). A
//! switchover to a named member is carried out all the same, to the end: whoever gave up the lock
//! comes back as a standby.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Failover, Op, Timeline};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::race::{self, Rival};
use crate::rules::{
    bootstrap, detached, follow, identity, lock_held, reinitialize, restart, restart_order,
    starting,
};
use crate::upkeep::{self, request::clean};

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
    if is_ordered(ctx, memory) {
        return ordered(ctx, memory);
    }
    if ctx.view.running_job().is_some() {
        return Verdict::stay("PAUSE: the job that runs is brought to its end");
    }
    if let Some(verdict) = of_another_cluster(ctx) {
        return verdict;
    }
    if copied_slots(ctx) {
        return Verdict::pass("PostgreSQL was stopped to place logical slots, and comes back");
    }
    if memory.demotion.is_some() || memory.rejoins {
        return Verdict::pass("a switchover is brought to its end");
    }
    if let Some(verdict) = asked(ctx) {
        return verdict;
    }
    hands_off(ctx, memory)
}

/// The pause came in the middle of it.
fn copied_slots(ctx: &Ctx<'_>) -> bool {
    let job = ctx.view.local.job.as_ref();
    ctx.view.is_down() && job.is_some_and(|job| matches!(job.kind, JobKind::CopySlots { .. }))
}

/// What people ask of this node is done in a pause too, once begun to its end; not what they asked for
/// at a time.
fn is_ordered(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let copy = ctx.view.orders.reinitialize;
    restart_order::open(ctx, memory).is_some()
        || copy.is_some_and(|order| order.number > memory.dealt_with)
        || memory.restart.is_some()
        || memory.reinitialize.is_some()
}

/// By those rules that carry it out, and no other: nobody is demoted, promoted or rewound for it, and a
/// primary comes back as one.
fn ordered(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let local = &ctx.view.local;
    let primary = local
        .control
        .filter(|it| restart::was_primary(ctx, memory, it) && !local.standby_signal);
    if let Some(control) = primary.filter(|_| ctx.view.is_down() && memory.restart.is_some()) {
        match ctx.lock {
            Lock::Unknown => {
                let reason = "PAUSE: the restart of a primary waits for the lock service";
                return Verdict::stay(reason).warning();
            }
            Lock::Free => {
                let taken = "PAUSE: taking the lock back before the restart";
                return take_lock(ctx, memory, control.timeline, taken);
            }
            _ => {}
        }
    }
    let rules = [
        detached::rule,
        reinitialize::rule,
        starting::rule,
        bootstrap::rule,
        restart_order::rule,
        restart::rule,
        follow::rule,
    ];
    for rule in rules {
        if let Verdict::Do(mut order) = rule(ctx, memory) {
            order.reason = format!("PAUSE: {}", order.reason).into();
            return Verdict::Do(order);
        }
    }
    Verdict::stay("PAUSE: waiting for PostgreSQL")
}

/// The lock is for members of this cluster.
fn of_another_cluster(ctx: &Ctx<'_>) -> Option<Verdict> {
    let reason = identity::mismatch(ctx)?;
    let mut actions = vec![];
    if let Some(term) = ctx.holding() {
        // Without last words: PostgreSQL goes on as it is.
        actions.push(Action::Store(Op::ReleaseLeader {
            create_revision: term,
            mod_revision: ctx.lock_changed(term),
            status: None,
            member: None,
        }));
    }
    Some(Verdict::only(actions, format!("PAUSE: {reason}")).error())
}

/// What a request for now makes of this node. A scheduled one waits for the end of the pause, or
/// becomes stale in it.
fn asked(ctx: &Ctx<'_>) -> Option<Verdict> {
    let cluster = ctx.view.fresh()?;
    let request = cluster
        .failover_request()
        .filter(|request| request.scheduled_at.is_none())?;
    let leads = matches!(ctx.lock, Lock::Mine { .. }) && ctx.view.is_primary();
    if let Failover {
        leader: Some(leader),
        member: None,
        ..
    } = request
    {
        let revision = cluster.failover.as_ref()?.revision;
        let reason = "PAUSE: switchover is possible only to a specific candidate in a paused state";
        return (leads && leader == ctx.me())
            .then(|| Verdict::act(vec![clean(revision)], reason).warning());
    }
    // Whoever is named has taken the lock, and is promoted now.
    let named = request.member.as_ref() == Some(ctx.me());
    let taken = named && matches!(ctx.lock, Lock::Mine { .. }) && ctx.view.is_standby();
    let races = ctx.lock == Lock::Free && ctx.view.is_standby();
    (leads || taken || races).then(|| Verdict::pass("a switchover to a named member is asked for"))
}

/// A primary takes a free lock, unless somebody else was promoted since: then it is left to that one.
fn take_lock(ctx: &Ctx<'_>, memory: &Memory, own: Timeline, taken: &'static str) -> Verdict {
    if race::cluster_timeline(ctx) > Some(own) {
        let reason = format!(
            "PAUSE: primary on the old timeline {own}, which the cluster has left: the lock is not taken; \
             to let it lead all the same remove the key {}history",
            ctx.view.identity.leader_key.trim_end_matches("leader")
        );
        return Verdict::stay(reason).warning();
    }
    match race::rival(ctx, memory, own) {
        Rival::Ask(questions, until) => Verdict::act(
            vec![Action::AskPeers(questions)],
            "PAUSE: primary without the lock: asking the others",
        )
        .wake(until),
        Rival::Awaited(until) => {
            Verdict::stay("PAUSE: waiting for the others' answers").wake(until)
        }
        Rival::Newer(name, theirs) => Verdict::stay(format!(
            "PAUSE: the lock is left to {name}, which is primary on timeline {theirs}"
        ))
        .warning(),
        Rival::None => Verdict::only(vec![upkeep::take_lock(ctx)], taken),
    }
}

fn hands_off(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let name = ctx.me();
    match ctx.lock {
        Lock::Detached { term } => {
            let reattach = Op::ReattachLeader {
                create_revision: term,
            };
            let reason = format!("PAUSE: {}", detached::reason(memory, term));
            Verdict::only(vec![Action::Store(reattach)], reason)
        }
        Lock::Mine { .. } if ctx.view.is_primary() => match identity::repair(ctx) {
            Some(put) => Verdict::act(vec![put], "PAUSE: repaired `initialize`").warning(),
            None => Verdict::routine(format!(
                "PAUSE: no action. I am ({name}), the leader with the lock"
            )),
        },
        Lock::Mine { .. } if ctx.leads_in_recovery() && ctx.view.is_standby() => {
            match lock_held::rule(ctx, memory) {
                Verdict::Do(mut order) => {
                    order.reason = format!("PAUSE: {}", order.reason).into();
                    Verdict::Do(order)
                }
                pass @ Verdict::Pass(_) => pass,
            }
        }
        Lock::Mine { term } if ctx.view.is_down() || ctx.view.is_standby() => {
            let release = ctx.release(term, memory);
            Verdict::act(
                vec![release],
                "PAUSE: removed leader lock because postgres is not running as primary",
            )
            .warning()
        }
        Lock::Free if ctx.view.is_primary() => {
            let own = ctx.view.local.look.as_ref().map(|look| look.timeline);
            let taken = "PAUSE: acquired session lock as a leader";
            take_lock(ctx, memory, own.unwrap_or_default(), taken)
        }
        // A standby follows whoever leads; that neither starts nor stops anything.
        Lock::Other(_) if ctx.view.is_standby() => match follow::rule(ctx, memory) {
            Verdict::Do(mut order) => {
                order.reason = format!("PAUSE: {}", order.reason).into();
                Verdict::Do(order)
            }
            pass @ Verdict::Pass(_) => pass,
        },
        _ => Verdict::routine(format!("PAUSE: no action. I am ({name})")),
    }
}
