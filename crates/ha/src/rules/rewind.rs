//! Local data that went another way than the leader: pg_rewind, else a new copy, never a start.

use alloc::format;
use alloc::vec;
use pgherd_model::{ControlState, Member, StopMode};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind, StartAs};
use crate::fork::{Fork, fork};
use crate::holder;
use crate::memory::Memory;
use crate::view::Outcome;

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if ctx.other_leader().is_none() {
        return Verdict::pass("there is no other leader");
    }
    let Some(leader) = ctx.cluster().and_then(|cluster| cluster.leader_member()) else {
        return Verdict::pass("whoever holds the lock publishes no member key");
    };
    if !ctx.view.is_down() && !ctx.view.is_standby() {
        return Verdict::pass("PostgreSQL does not answer");
    }
    if let Some(ended) = last_failure(ctx, |kind| matches!(kind, JobKind::RemoveData)) {
        memory.copy.fail(ended);
        if let Some(at) = memory.copy.not_before.filter(|at| ctx.now() < *at) {
            return Verdict::stay(
                "the data directory could not be removed, the next try is due soon",
            )
            .error()
            .wake(at);
        }
    }
    match fork(ctx, leader) {
        Fork::Follow(_) => {
            memory.rewind.clear();
            memory.recovery.clear();
            Verdict::pass("the local data lie on the leader's history")
        }
        Fork::Wait(reason) | Fork::NoAddress(reason) => Verdict::pass(reason),
        // Nothing is stopped for a question.
        Fork::Unproven(unread) => Verdict::pass(unread.reason),
        Fork::Ask(action) => Verdict::act(
            vec![action],
            format!("reading the timeline history of {}", leader.name),
        ),
        Fork::Unclean => recover(ctx, memory, leader),
        Fork::Diverged(reason) | Fork::Twins(reason) if !ctx.view.is_down() => {
            let stop = JobKind::Stop {
                mode: StopMode::Fast,
                checkpoint_first: false,
            };
            Verdict::act(
                vec![Action::StartJob(stop)],
                format!("{reason}: stopping to rewind"),
            )
        }
        Fork::Twins(reason) => mend(ctx, memory, leader, &reason, false),
        Fork::Diverged(reason) => mend(ctx, memory, leader, &reason, true),
    }
}

/// An unclean stop: pg_control proves divergence, never its absence.
fn recover(ctx: &Ctx<'_>, memory: &mut Memory, leader: &Member) -> Verdict {
    if let Some(ended) = last_failure(ctx, |kind| matches!(kind, JobKind::CrashRecovery)) {
        memory.recovery.fail(ended);
    }
    if memory.recovery.failures > 0 && ctx.view.settings.remove_data_directory_on_rewind_failure {
        let reason = format!("crash recovery failed: copying {} anew", leader.name);
        return Verdict::act(vec![Action::StartJob(JobKind::RemoveData)], reason);
    }
    if let Some(at) = memory.recovery.not_before.filter(|at| ctx.now() < *at) {
        let reason = "crash recovery failed and without it the end of the local WAL is unknown: \
                      the next try is due soon";
        return Verdict::stay(reason).warning().wake(at);
    }
    let reason = "crash recovery first, to know where the local WAL ends";
    Verdict::act(vec![Action::StartJob(JobKind::CrashRecovery)], reason)
}

fn mend(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    leader: &Member,
    reason: &str,
    tellable: bool,
) -> Verdict {
    let settings = &ctx.view.settings;
    let copy_anew = |why: &str| {
        let actions = vec![Action::StartJob(JobKind::RemoveData)];
        Verdict::act(actions, format!("{why}: copying {} anew", leader.name))
    };
    if let Some(why) = not_by_rewind(ctx, tellable) {
        if settings.remove_data_directory_on_diverged_timelines {
            return copy_anew(reason);
        }
        let data_dir = &ctx.view.identity.data_dir;
        return Verdict::stay(format!(
            "{reason}; pg_rewind is not possible ({why}) and \
             remove_data_directory_on_diverged_timelines is off: these data stay as they are; for a copy of {} stop the agent, empty {data_dir} and start it, or set \
             postgresql.remove_data_directory_on_diverged_timelines",
            leader.name
        ))
        .error();
    }
    if let Some(ended) = last_failure(ctx, |kind| matches!(kind, JobKind::Rewind { .. })) {
        if settings.remove_data_directory_on_rewind_failure {
            return copy_anew("pg_rewind failed");
        }
        memory.rewind.fail(ended);
    }
    if let Some(at) = memory.rewind.not_before.filter(|at| ctx.now() < *at) {
        return Verdict::stay("pg_rewind failed, the next try is due soon")
            .warning()
            .wake(at);
    }
    if let Some(verdict) = shut_down_first(ctx, memory, leader, reason) {
        return verdict;
    }
    if leader.checkpoint_after_promote == Some(false) {
        let reason = format!(
            "waiting for the checkpoint of {} after its promotion",
            leader.name
        );
        return Verdict::stay(reason);
    }
    let Some(address) = leader.address.clone() else {
        return Verdict::stay(holder::no_address(ctx, leader)).error();
    };
    let job = JobKind::Rewind {
        from: leader.name.clone(),
        address,
    };
    let reason = format!("{reason}: running pg_rewind from {}", leader.name);
    Verdict::act(vec![Action::StartJob(job)], reason)
}

/// Why pg_rewind is out of the question; `None`: it is not. `tellable`: it can see where the two parted.
fn not_by_rewind(ctx: &Ctx<'_>, tellable: bool) -> Option<&'static str> {
    let rewindable = match ctx.view.local.control {
        Some(control) => control.rewindable,
        None => return Some("pg_control of these data cannot be read"),
    };
    match (tellable, ctx.view.settings.use_pg_rewind, rewindable) {
        (true, true, true) => None,
        // Whatever is set: it finds the fork by the numbers of timelines.
        (false, ..) => {
            Some("by the numbers of their timelines it cannot tell where the two parted")
        }
        (true, false, true) => Some("use_pg_rewind is off"),
        (true, false, false) => Some(
            "use_pg_rewind is off, and these data have neither data checksums nor wal_log_hints",
        ),
        (true, true, false) => Some("these data have neither data checksums nor wal_log_hints"),
    }
}

/// A standby that was killed: pg_rewind wants data that were shut down. Recovery in single-user mode would write to a timeline
/// that is another node's; so it is started as what it was, from nobody, to be stopped again.
fn shut_down_first(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    leader: &Member,
    reason: &str,
) -> Option<Verdict> {
    let state = ctx.view.local.control.map(|control| control.state);
    let clean = matches!(
        state,
        Some(ControlState::ShutDown | ControlState::ShutDownInRecovery)
    );
    if clean || ctx.view.local.backup_label {
        return None;
    }
    let start = StartAs::Standby {
        upstream: None,
        follow: None,
    };
    // From an archive PostgreSQL may know of the leader's timeline, and refuses to start.
    let failed = last_failure(ctx, |kind| {
        matches!(kind, JobKind::Start(_) | JobKind::CrashRecovery)
    });
    if failed.is_some() || memory.recovery.failures > 0 {
        return Some(recover(ctx, memory, leader));
    }
    let start = vec![Action::StartJob(JobKind::Start(start))];
    let reason = format!("{reason}: starting as a standby first, to be shut down for pg_rewind");
    Some(Verdict::act(start, reason))
}

/// When the last job was of this kind and failed: its end.
fn last_failure(ctx: &Ctx<'_>, of_kind: fn(&JobKind) -> bool) -> Option<pgherd_model::Time> {
    let job = ctx.view.local.job.as_ref()?;
    match (&job.outcome, job.ended) {
        (Some(Outcome::Failed(_)), Some(ended)) if of_kind(&job.kind) => Some(ended),
        _ => None,
    }
}
