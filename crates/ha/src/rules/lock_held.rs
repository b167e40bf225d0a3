//! PostgreSQL runs and this node holds the lock: be the primary.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{GuardMode, Op, Postmaster, Span, StopMode, Sync, SynchronousMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::race;
use crate::upkeep::guard;
use crate::upkeep::request::clean;
use crate::view::Outcome;

/// How long the others go first after a failed promotion.
const STAND_BACK: Span = Span::from_secs(5);
/// How often a promotion is ordered that does not begin.
const TRIES: u32 = 5;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let term = match ctx.lock {
        Lock::Mine { term } => term,
        Lock::Detached { .. }
        | Lock::GivenUp { .. }
        | Lock::Other(_)
        | Lock::Free
        | Lock::Unknown => {
            return Verdict::pass("the lock is not held");
        }
    };
    if ctx.view.is_primary() {
        let name = ctx.me();
        return Verdict::routine(format!(
            "no action. I am ({name}), the leader with the lock"
        ));
    }
    if !ctx.view.is_standby() {
        return Verdict::stay("PostgreSQL does not answer").warning();
    }
    promote(ctx, memory, term)
}

fn promote(ctx: &Ctx<'_>, memory: &mut Memory, term: u64) -> Verdict {
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::Promote, Some(Outcome::Failed(reason))) = (&job.kind, &job.outcome)
        && job
            .ended
            .is_some_and(|ended| ctx.now().since(ended) < Span::from_secs(1))
    {
        // The signal was given and may still be obeyed: only a dead PostgreSQL stays a standby.
        memory.give_up = Some(format!("promotion failed: {reason}"));
        let stop = JobKind::Stop {
            mode: StopMode::Kill,
            checkpoint_first: false,
        };
        let reason = format!("promotion failed: {reason}; PostgreSQL is killed");
        return Verdict::only(vec![Action::StartJob(stop)], reason);
    }
    if let Some(reason) = memory.give_up.take() {
        return give_back(ctx, memory, term, format!("released the lock: {reason}")).warning();
    }
    if let Some(arm) = guard::arm(ctx) {
        return Verdict::only(vec![arm], "arming the guard before the promotion");
    }
    let fact = &ctx.view.local.guard;
    let protected = matches!(ctx.view.local.postmaster, Postmaster::Alive { pid }
        if fact.armed_for == Some(pid) && fact.protects());
    if ctx.view.settings.guard == GuardMode::Required && !protected {
        let reason = String::from("the guard is required and cannot be armed");
        return give_back(ctx, memory, term, reason).error();
    }
    if memory.not_begun >= TRIES {
        let reason = "released the lock: the numbers of earlier timelines cannot be reserved";
        return give_back(ctx, memory, term, reason.into()).error();
    }
    // In one list, which ends with the first failure: without the numbers there is no promotion,
    // and no claim in /sync, which would keep everybody else from one.
    let mut actions = Vec::from_iter(used_numbers(ctx));
    match claim_sync(ctx, term) {
        Claim::Made => {}
        Claim::Blind => {
            let reason = "waiting for the lock service, to write /sync before the promotion";
            return Verdict::stay(reason);
        }
        Claim::Make(put) => {
            memory.not_begun += 1;
            actions.push(Action::Store(*put));
            let reason = "naming itself alone in /sync before the promotion";
            return Verdict::only(actions, reason);
        }
    }
    memory.not_begun += 1;
    memory.checkpoint_asked = None;
    actions.push(Action::StartJob(JobKind::Promote));
    // Whoever wins the lock has answered the request, whoever was named in it; not one that was
    // made since then.
    if let Some(cluster) = ctx.view.fresh()
        && cluster.failover_request().is_some()
        && let Some(stored) = &cluster.failover
        && stored.revision < term
    {
        actions.push(clean(stored.revision));
    }
    Verdict::only(actions, "the lock is held: promoting PostgreSQL")
}

/// `history` and the members' keys tell of timelines that were made while this node was away: without their files
/// PostgreSQL would give the same number to another history.
fn used_numbers(ctx: &Ctx<'_>) -> Option<Action> {
    let last = race::highest_timeline(ctx)?;
    let own = ctx.view.local.look.as_ref()?.timeline;
    (last > own).then_some(Action::ReserveTimelines { last })
}

/// In synchronous mode `/sync` must name this node alone before it becomes writable: what it
/// acknowledges then is known to nobody whom `/sync` named before (contract: section 3).
enum Claim {
    /// It does, or the mode is off.
    Made,
    /// The lock service cannot be read.
    Blind,
    /// This makes it so.
    Make(Box<Op>),
}

fn claim_sync(ctx: &Ctx<'_>, term: u64) -> Claim {
    if ctx.view.settings.synchronous_mode == SynchronousMode::Off {
        return Claim::Made;
    }
    let Some(cluster) = ctx.view.fresh() else {
        return Claim::Blind;
    };
    let stored = cluster.sync.as_ref();
    let alone = |sync: &Sync| sync.leader.as_ref() == Some(ctx.me()) && sync.standbys.is_empty();
    if stored.is_some_and(|stored| alone(&stored.value)) {
        return Claim::Made;
    }
    Claim::Make(Box::new(Op::PutSync {
        sync: Sync {
            leader: Some(ctx.me().clone()),
            ..Sync::default()
        },
        expected: stored.map(|stored| stored.revision),
        term,
    }))
}

/// A standby gives the lock back: it never was writable in this term.
fn give_back(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, reason: String) -> Verdict {
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let release = Op::ReleaseLeader {
        create_revision: term,
        mod_revision: ctx.lock_changed(term),
        status: None,
        member: None,
    };
    Verdict::only(vec![Action::Store(release)], reason)
}
