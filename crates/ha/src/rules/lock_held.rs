//! PostgreSQL runs and this node holds the lock: be the primary.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{MemberName, Op, PostgresState, Span, StopMode, Sync, SynchronousMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::{Memory, SyncClaim};
use crate::race;
use crate::rules::standby_cluster;
use crate::upkeep::request::clean;
use crate::upkeep::{self, guard};
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
    if let Some(far) = ctx.standby_cluster() {
        return standby_cluster::lead(ctx, memory, far);
    }
    promote(ctx, memory, term)
}

fn promote(ctx: &Ctx<'_>, memory: &mut Memory, term: u64) -> Verdict {
    if let Some(reason) = forbidden(ctx, memory) {
        let reason = format!("promotion forbidden: {reason}; Leader key released");
        return give_back(ctx, memory, term, reason).warning();
    }
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::Promote, Some(Outcome::Failed(reason))) = (&job.kind, &job.outcome)
        && job
            .ended
            .is_some_and(|ended| ctx.now().since(ended) < Span::from_secs(1))
    {
        // The signal was given and may still be obeyed: only a dead PostgreSQL stays a standby.
        memory.sync_claim = None;
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
    if let Some(missing) = guard::missing(ctx) {
        let reason = format!("the {missing} is required and cannot be armed");
        return give_back(ctx, memory, term, reason).error();
    }
    if memory.not_begun >= TRIES {
        let reason = "released the lock: what comes before a promotion failed again and again";
        return give_back(ctx, memory, term, reason.into()).error();
    }
    // In one list, which ends with the first failure: without the numbers there is no promotion,
    // and no claim in /sync, which would keep everybody else from one.
    let mut actions = Vec::from_iter(used_numbers(ctx));
    actions.extend(upkeep::wait_for_somebody(ctx));
    match claim_sync(ctx, term) {
        Claim::Made => {}
        Claim::Blind => {
            let reason = "waiting for the lock service, to write /sync before the promotion";
            return Verdict::stay(reason);
        }
        Claim::Make(put) => {
            note_claim(ctx, memory, term);
            memory.not_begun += 1;
            actions.push(Action::Store(*put));
            let reason = "naming itself alone in /sync before the promotion";
            return Verdict::only(actions, reason);
        }
    }
    note_use(memory);
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

/// `pre_promote` has said no, not longer than `ttl` ago (contract: section 2).
fn forbidden(ctx: &Ctx<'_>, memory: &mut Memory) -> Option<String> {
    let job = ctx.view.local.job.as_ref();
    let refused = job.and_then(|job| match (&job.kind, &job.outcome, job.ended) {
        (JobKind::Promote, Some(Outcome::Refused(reason)), Some(ended)) => Some((reason, ended)),
        _ => None,
    });
    if let Some((_, ended)) = refused {
        let until = ended + ctx.view.settings.ttl;
        memory.forbidden_until = memory.forbidden_until.max(Some(until));
        if let Some(claim) = &mut memory.sync_claim {
            claim.used = false;
        }
    }
    memory.forbidden_until.filter(|until| ctx.now() < *until)?;
    let reason = refused.map(|(reason, _)| reason.clone());
    Some(reason.unwrap_or_else(|| String::from("pre_promote has failed before")))
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

/// It names this node and nobody else.
fn is_alone(ctx: &Ctx<'_>, sync: &Sync) -> bool {
    sync.leader.as_ref() == Some(ctx.me()) && sync.standbys.is_empty()
}

fn claim_sync(ctx: &Ctx<'_>, term: u64) -> Claim {
    if ctx.view.settings.synchronous_mode == SynchronousMode::Off {
        return Claim::Made;
    }
    let Some(cluster) = ctx.view.fresh() else {
        return Claim::Blind;
    };
    let stored = cluster.sync.as_ref();
    if stored.is_some_and(|stored| is_alone(ctx, &stored.value)) {
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

/// What `/sync` says before the claim.
fn note_claim(ctx: &Ctx<'_>, memory: &mut Memory, term: u64) {
    let stored = ctx.view.fresh().and_then(|cluster| cluster.sync.as_ref());
    memory.sync_claim = Some(SyncClaim {
        term,
        before: stored.map(|stored| stored.value.clone()),
        used: false,
    });
}

/// A promotion is ordered: unless it is refused, PostgreSQL may have been told to become a primary, and the claim stays.
/// Where one had begun before and was not refused, it stays whatever becomes of this one.
fn note_use(memory: &mut Memory) {
    let begun = memory.not_begun == 0;
    memory.sync_claim.take_if(|claim| claim.used && begun);
    if let Some(claim) = &mut memory.sync_claim {
        claim.used = true;
    }
}

/// `/sync` as it was before this node claimed it, so that those may take over who had everything; but for members that
/// make their data anew by now, which lets nobody take over who could not before. `Err`: not seen now.
fn unclaim(ctx: &Ctx<'_>, memory: &Memory, term: u64) -> Result<Option<Op>, ()> {
    let unused = |claim: &&SyncClaim| claim.term == term && !claim.used;
    let Some(claim) = memory.sync_claim.as_ref().filter(unused) else {
        return Ok(None);
    };
    let cluster = ctx.view.fresh().ok_or(())?;
    let Some(stored) = cluster.sync.as_ref().filter(|it| is_alone(ctx, &it.value)) else {
        return Ok(None);
    };
    let expected = stored.revision;
    let copies = |name: &MemberName| {
        let state = cluster.member(name).and_then(|member| member.state);
        state == Some(PostgresState::CreatingReplica)
    };
    Ok(Some(match &claim.before {
        Some(before) => {
            let mut sync = before.clone();
            sync.standbys.retain(|name| !copies(name));
            Op::PutSync {
                sync,
                expected: Some(expected),
                term,
            }
        }
        None => Op::DeleteSync { expected, term },
    }))
}

/// A standby gives the lock back: it never was writable in this term.
fn give_back(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, reason: String) -> Verdict {
    let Ok(unclaim) = unclaim(ctx, memory, term) else {
        memory.give_up = Some(reason);
        let reason = "waiting for the lock service, to give /sync back with the lock";
        return Verdict::stay(reason);
    };
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let release = Op::ReleaseLeader {
        create_revision: term,
        mod_revision: ctx.lock_changed(term),
        status: None,
        member: None,
    };
    // In one list, which ends with the first failure: the claim goes first, under the lock that vouches for it.
    let actions = unclaim.into_iter().chain([release]).map(Action::Store);
    Verdict::only(actions.collect(), reason)
}
