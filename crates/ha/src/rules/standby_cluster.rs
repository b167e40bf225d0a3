//! The cluster is a copy of another one (`standby_cluster`): whoever holds the lock is its standby leader, follows the
//! primary over there and is not promoted; all others follow it as they would follow a primary
//! (docs/decisions/0026). A primary that finds itself in such a cluster is stopped in order and comes back as
//! the standby leader.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{ControlFile, Op, Role, Span, StandbyCluster, StopMode};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind, StartAs};
use crate::memory::Memory;
use crate::rules::bootstrap::REMOTE;
use crate::rules::{follow, restart};

/// How long the others go first after a switchover.
const STAND_BACK: Span = Span::from_secs(10);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if ctx.standby_cluster().is_none() {
        return Verdict::pass("this is no standby cluster");
    }
    if !matches!(ctx.lock, Lock::Mine { .. }) {
        return Verdict::pass("the lock is not held");
    }
    if !ctx.view.is_primary() {
        return Verdict::pass("PostgreSQL is no primary");
    }
    if memory.demotion.is_some() {
        return Verdict::pass("a demotion is under way");
    }
    // In order: the other cluster goes on from the last record, if it has followed this one.
    let stop = JobKind::Stop {
        mode: StopMode::Fast,
        checkpoint_first: true,
    };
    let reason = "standby_cluster is configured: demoting myself to be its standby leader";
    Verdict::only(vec![Action::StartJob(stop)], reason)
}

/// PostgreSQL runs in recovery, and this node holds the lock.
pub(crate) fn lead(ctx: &Ctx<'_>, memory: &mut Memory, far: &StandbyCluster) -> Verdict {
    let wanted = far.upstream();
    let leads = format!(
        "no action. I am ({}), the standby leader with the lock",
        ctx.me()
    );
    follow::keep_streaming(ctx, memory, wanted, leads, (REMOTE, None))
}

/// PostgreSQL is down, and this node holds the lock.
pub(crate) fn start(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    control: &ControlFile,
    far: &StandbyCluster,
) -> Verdict {
    if restart::was_primary(ctx, memory, control)
        && let Some(verdict) = follow::recover_first(ctx, memory)
    {
        return verdict;
    }
    let start = StartAs::Standby {
        upstream: far.upstream(),
        follow: None,
    };
    restart::start_as(ctx, memory, start, "starting as the standby leader")
}

/// Somebody else is to lead: nothing need be stopped for that, since nothing is written here.
pub(crate) fn hand_over(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, reason: String) -> Verdict {
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let mut member = ctx.own_member(memory);
    member.role = Some(Role::Replica);
    let release = Op::ReleaseLeader {
        create_revision: term,
        mod_revision: ctx.lock_changed(term),
        status: None,
        member: Some(member),
    };
    Verdict::only(vec![Action::Store(release)], reason)
}
