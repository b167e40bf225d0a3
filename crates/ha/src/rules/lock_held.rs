//! PostgreSQL runs and this node holds the lock: be the primary.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{GuardMode, Op, Postmaster, Span, Sync, SynchronousMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::memory::Memory;
use crate::view::Outcome;

/// How long the others go first after a failed promotion.
const STAND_BACK: Span = Span::from_secs(5);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let term = match ctx.lock {
        Lock::Mine { term } => term,
        Lock::Detached { term } => {
            let reattach = Op::ReattachLeader {
                create_revision: term,
            };
            return Verdict::only(
                vec![Action::Store(reattach)],
                "took the lock over from the agent before",
            );
        }
        Lock::Other(_) | Lock::Free | Lock::Unknown => {
            return Verdict::pass("the lock is not held");
        }
    };
    if ctx.view.is_primary() {
        let name = ctx.me();
        return Verdict::stay(format!(
            "no action. I am ({name}), the leader with the lock"
        ));
    }
    if !ctx.view.is_standby() {
        return Verdict::stay("PostgreSQL does not answer");
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
        return give_back(ctx, memory, term, format!("promotion failed: {reason}"));
    }
    if let Some(reason) = memory.give_up.take() {
        return give_back(ctx, memory, term, format!("released the lock: {reason}"));
    }
    if let Some(verdict) = claim_sync(ctx, term) {
        return verdict;
    }
    let guard = &ctx.view.local.guard;
    if let Postmaster::Alive { pid } = ctx.view.local.postmaster
        && ctx.view.settings.guard != GuardMode::Off
        && guard.armed_for != Some(pid)
    {
        if !guard.failed {
            return Verdict::only(
                vec![Action::ArmGuard { pid }],
                "arming the guard before the promotion",
            );
        }
        if ctx.view.settings.guard == GuardMode::Required {
            let reason = String::from("the guard is required and cannot be armed");
            return give_back(ctx, memory, term, reason);
        }
    }
    memory.checkpoint_asked = None;
    Verdict::only(
        vec![Action::StartJob(JobKind::Promote)],
        "promoted self to leader by acquiring session lock",
    )
}

/// In synchronous mode `/sync` must name this node alone before it becomes writable: what it
/// acknowledges then is known to nobody whom `/sync` named before (contract: section 3).
fn claim_sync(ctx: &Ctx<'_>, term: u64) -> Option<Verdict> {
    if ctx.view.settings.synchronous_mode == SynchronousMode::Off {
        return None;
    }
    let Some(cluster) = ctx.view.fresh() else {
        let reason = "waiting for the lock service, to write /sync before the promotion";
        return Some(Verdict::stay(reason));
    };
    let stored = cluster.sync.as_ref();
    let alone = |sync: &Sync| sync.leader.as_ref() == Some(ctx.me()) && sync.standbys.is_empty();
    if stored.is_some_and(|stored| alone(&stored.value)) {
        return None;
    }
    let put = Op::PutSync {
        sync: Sync {
            leader: Some(ctx.me().clone()),
            ..Sync::default()
        },
        expected: stored.map(|stored| stored.revision),
        term,
    };
    let reason = "naming itself alone in /sync before the promotion";
    Some(Verdict::only(vec![Action::Store(put)], reason))
}

/// A standby gives the lock back: it never was writable in this term.
fn give_back(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, reason: String) -> Verdict {
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let release = Op::ReleaseLeader {
        create_revision: term,
        status: None,
        member: None,
    };
    Verdict::only(vec![Action::Store(release)], reason)
}
