//! The own member key: what this node is and where it stands.

use alloc::string::String;
use alloc::vec;
use pgherd_model::{
    ControlState, DataDir, GuardMode, Lsn, Member, Op, PostgresState, Postmaster, Role, StopMode,
};

use crate::ctx::{Ctx, Lock};
use crate::decision::{Action, JobKind, StartAs};
use crate::memory::Memory;
use crate::rules::restart_order;
use crate::upkeep::{Duty, NOTHING, checkpoint, positions};
use crate::view::Outcome;

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let Some(cluster) = ctx.view.fresh() else {
        return NOTHING;
    };
    let wished = describe(ctx, memory);
    // Under another lease than the one that is kept alive it would go away.
    let published = cluster
        .member(ctx.me())
        .filter(|published| published.lease == ctx.view.member_lease);
    if let Some(published) = published {
        if same(published, &wished, true) {
            return NOTHING;
        }
        // Positions alone change all the time.
        if same(published, &wished, false)
            && let Some(written) = memory.member_written
        {
            let leads = ctx.holding().is_some();
            let pause = positions::pause(&ctx.view.settings, published, &wished, leads);
            if ctx.now() < written + pause {
                return (vec![], Some(written + pause));
            }
        }
    }
    memory.member_written = Some(ctx.now());
    (vec![Action::Store(Op::PutMember(wished))], None)
}

/// The keys say the same, but for the lease that each lives under.
fn same(a: &Member, b: &Member, with_positions: bool) -> bool {
    let Member {
        name,
        conn_url,
        address,
        api_url,
        proxy_url,
        state,
        role,
        version,
        xlog_location,
        receive_lsn,
        replay_lsn,
        timeline,
        replication_state,
        checkpoint_after_promote,
        tags,
        guard_missing,
        pending_restart,
        pending_restart_reason,
        leaves_sync,
        scheduled_restart,
        pause,
        lease: _,
    } = a;
    let stands = (xlog_location, receive_lsn, replay_lsn);
    (!with_positions || stands == (&b.xlog_location, &b.receive_lsn, &b.replay_lsn))
        && (state, role, timeline) == (&b.state, &b.role, &b.timeline)
        && *replication_state == b.replication_state
        && *checkpoint_after_promote == b.checkpoint_after_promote
        && (pending_restart, pending_restart_reason)
            == (&b.pending_restart, &b.pending_restart_reason)
        && (leaves_sync, scheduled_restart) == (&b.leaves_sync, &b.scheduled_restart)
        && (guard_missing, pause, tags) == (&b.guard_missing, &b.pause, &b.tags)
        && (name, conn_url, address) == (&b.name, &b.conn_url, &b.address)
        && (api_url, proxy_url, version) == (&b.api_url, &b.proxy_url, &b.version)
}

/// What this node publishes now.
pub(crate) fn describe(ctx: &Ctx<'_>, memory: &Memory) -> Member {
    let view = ctx.view;
    let identity = &view.identity;
    let pending = match &view.local.look {
        Some(look) => look.pending_restart.clone(),
        None => memory.pending_restart().to_vec(),
    };
    let mut member = Member {
        name: view.me.clone(),
        conn_url: identity.conn_url.clone(),
        address: identity.address.clone(),
        api_url: identity.api_url.clone(),
        proxy_url: identity.proxy_url.clone(),
        state: Some(state(ctx, memory)),
        role: Some(role(ctx, memory)),
        version: Some(identity.version),
        xlog_location: None,
        receive_lsn: None,
        replay_lsn: None,
        timeline: None,
        replication_state: None,
        checkpoint_after_promote: None,
        tags: identity.tags.clone(),
        guard_missing: guard_missing(ctx),
        pending_restart: !pending.is_empty(),
        pending_restart_reason: pending,
        leaves_sync: restart_order::leaves_sync(ctx, memory),
        scheduled_restart: scheduled_restart(ctx, memory),
        pause: view.settings.pause,
        lease: 0,
    };
    let positions = match view.running_job().map(|job| &job.kind) {
        None | Some(JobKind::Promote) => view.local.look.as_ref(),
        Some(_) => None,
    };
    let Some(look) = positions else { return member };
    let present = |lsn: Lsn| (lsn != Lsn(0)).then_some(lsn);
    member.xlog_location = Some(look.wal.position());
    member.timeline = (look.timeline.0 > 0).then_some(look.timeline);
    if look.in_recovery {
        member.receive_lsn = present(look.wal.received);
        member.replay_lsn = present(look.wal.replayed);
        let streaming = look
            .receiver
            .as_ref()
            .is_some_and(|receiver| receiver.streaming);
        member.replication_state = match (streaming, look.restore_command) {
            (true, _) => Some(String::from("streaming")),
            (false, true) => Some(String::from("in archive recovery")),
            (false, false) => None,
        };
    } else if checkpoint::due(ctx) {
        member.checkpoint_after_promote = Some(false);
    }
    member
}

/// What the key shows of a restart that has a time and is not begun.
fn scheduled_restart(ctx: &Ctx<'_>, memory: &Memory) -> Option<String> {
    let order = ctx.view.orders.scheduled_restart.as_ref()?;
    let open = order.number > memory.scheduled_dealt;
    let scheduled = order.scheduled.as_ref().filter(|_| open)?;
    Some(scheduled.document.clone())
}

/// From a failure to arm the guard until it is armed; what lasts for moments is not told.
fn guard_missing(ctx: &Ctx<'_>) -> bool {
    let (settings, guard) = (&ctx.view.settings, &ctx.view.local.guard);
    let wanted = settings.guard != GuardMode::Off && !settings.pause;
    let leads = matches!(ctx.lock, Lock::Mine { .. }) && !ctx.leads_in_recovery();
    wanted && leads && !guard.protects() && guard.failed.is_some()
}

fn state(ctx: &Ctx<'_>, memory: &Memory) -> PostgresState {
    let local = &ctx.view.local;
    let made_anew = is_made_anew(ctx, memory);
    if let Some(job) = ctx.view.running_job() {
        match &job.kind {
            JobKind::Stop { .. } | JobKind::RemoveData if made_anew => {
                return PostgresState::CreatingReplica;
            }
            JobKind::Bootstrap if ctx.view.identity.custom_bootstrap => {
                return PostgresState::CustomBootstrap;
            }
            JobKind::Bootstrap => return PostgresState::Initdb,
            JobKind::Clone { .. } => return PostgresState::CreatingReplica,
            JobKind::Start(_) | JobKind::Stop { .. } if memory.restart.is_some() => {
                return PostgresState::Restarting;
            }
            JobKind::Start(_) => return PostgresState::Starting,
            JobKind::Stop {
                mode: StopMode::Kill,
                ..
            } => return PostgresState::Crashed,
            JobKind::Stop { .. } => return PostgresState::Stopping,
            // Most of the time it has not been stopped yet.
            JobKind::CopySlots { .. } if local.look.is_some() => return PostgresState::Running,
            JobKind::CopySlots { .. } => return PostgresState::Restarting,
            JobKind::CrashRecovery | JobKind::Rewind { .. } | JobKind::RemoveData => {
                return PostgresState::Stopped;
            }
            JobKind::Promote => {}
        }
    } else if made_anew {
        return PostgresState::CreatingReplica;
    }
    match local.postmaster {
        // As Patroni: one that has come up runs, also when it cannot be asked. To a reader of the status
        // it is `unknown` then.
        Postmaster::Alive { pid }
            if local.look.is_some() || memory.was_primary || memory.has_answered(pid) =>
        {
            PostgresState::Running
        }
        Postmaster::Alive { .. } => PostgresState::Starting,
        Postmaster::Leftovers(_) => PostgresState::Crashed,
        Postmaster::Down if memory.restart.is_some() => PostgresState::Restarting,
        // Nobody may rely any more on that it acknowledges nothing.
        Postmaster::Down if takes_back(memory) => PostgresState::Starting,
        Postmaster::Down => down(ctx),
    }
}

/// A demotion has failed: this node is about to go on as primary.
fn takes_back(memory: &Memory) -> bool {
    let demotion = memory.demotion.as_ref();
    demotion.is_some_and(|demotion| demotion.taking_back.is_some())
}

/// The copy that somebody asked for is under way, from the stop of PostgreSQL on: whoever waits for its end
/// would take the stop for that. Others take this state for one that acknowledges no write, so it is not
/// that of what may still do so.
fn is_made_anew(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let view = ctx.view;
    let gone = matches!(view.local.data, DataDir::Empty | DataDir::Unfinished);
    memory.reinitialize.is_some_and(|copy| {
        let harmless = copy.cannot_write || view.is_down();
        gone || (!copy.removed && harmless)
    })
}

fn down(ctx: &Ctx<'_>) -> PostgresState {
    let local = &ctx.view.local;
    if ctx.view.settings.pause {
        // As Patroni: it is nobody's business why.
        return PostgresState::Stopped;
    }
    if let Some(job) = &local.job
        && let (JobKind::Start(_), Some(Outcome::Failed(_))) = (&job.kind, &job.outcome)
    {
        return PostgresState::StartFailed;
    }
    let clean = local.backup_label
        || matches!(
            local.control.map(|control| control.state),
            None | Some(ControlState::ShutDown | ControlState::ShutDownInRecovery)
        );
    if clean {
        PostgresState::Stopped
    } else {
        PostgresState::Crashed
    }
}

fn role(ctx: &Ctx<'_>, memory: &Memory) -> Role {
    let view = ctx.view;
    if matches!(view.local.data, DataDir::Empty | DataDir::Unfinished) {
        return Role::Uninitialized;
    }
    let becoming = view
        .running_job()
        .is_some_and(|job| job.kind == JobKind::Start(StartAs::Primary));
    match &view.local.look {
        Some(look) if !look.in_recovery => Role::Primary,
        Some(_) if ctx.leads_in_recovery() => Role::StandbyLeader,
        // Whoever holds the lock is about to be.
        Some(_) if ctx.is_becoming_primary() || ctx.holding().is_some() => Role::Promoted,
        Some(_) => Role::Replica,
        None if ctx.leads_in_recovery() && !ctx.may_be_primary(memory) => Role::StandbyLeader,
        // Whoever holds the lock and does not run in recovery is primary, or about to be: others
        // rely on it that nobody who may still write calls itself anything else.
        None if ctx.holding().is_some() || becoming || ctx.may_be_primary(memory) => Role::Primary,
        None if memory.demoted => Role::Demoted,
        None => Role::Replica,
    }
}
