//! No data yet: create the cluster, or copy a member.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{
    Cluster, DataDir, Initialize, Member, MemberName, Op, PostgresState, Role, SystemId,
};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind, Origin};
use crate::holder;
use crate::memory::Memory;
use crate::upkeep::{self, config};
use crate::view::Outcome;

/// What the other cluster's primary is called where members have their names.
pub(crate) const REMOTE: &str = "the remote primary";

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(id) = ctx.view.orders.bootstrapped
        && let Some(verdict) = finish(ctx, id)
    {
        return verdict;
    }
    match &ctx.view.local.data {
        DataDir::Initialized => {
            begun_far(ctx).unwrap_or_else(|| Verdict::pass("there is a database cluster"))
        }
        DataDir::Unusable(reason) => {
            let actions = ctx.holding().map(|term| ctx.release(term, memory));
            Verdict::act(
                actions.into_iter().collect(),
                format!("data directory unusable: {reason}"),
            )
            .error()
        }
        DataDir::Empty | DataDir::Unfinished => empty(ctx, memory),
    }
}

fn empty(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(term) = ctx.holding() {
        let release = ctx.release(term, memory);
        let reason = "released the lock: there is no data here";
        return Verdict::act(vec![release], reason).warning();
    }
    let Some(cluster) = ctx.view.fresh() else {
        return Verdict::stay("no data, and the lock service cannot be read");
    };
    match ctx.lock {
        Lock::Other(leader) => copy(ctx, memory, &leader.name),
        _ => create(ctx, memory, cluster),
    }
}

/// This node created the cluster: publish it and take the lock.
fn finish(ctx: &Ctx<'_>, id: SystemId) -> Option<Verdict> {
    let cluster = ctx.view.fresh()?;
    let claim = ctx.view.orders.bootstrap_claim;
    match cluster
        .initialize
        .as_ref()
        .map(|stored| (&stored.value, stored.revision))
    {
        Some((Initialize::UnderWay, revision)) if Some(revision) == claim => {
            let mut actions = vec![Action::Store(Op::PutInitialize {
                system_id: Some(id),
                expected: Some(revision),
            })];
            // Somebody may have stored one before: it is in force already.
            actions.extend(config::repair(ctx, cluster));
            actions.push(upkeep::take_lock(ctx));
            Some(Verdict::only(actions, "initialized a new cluster"))
        }
        Some((Initialize::Done(published), _)) if *published == id => None,
        _ => {
            let message =
                String::from("`initialize` was changed while this node created the cluster");
            let exit = Action::Exit {
                code: 1,
                message: message.clone(),
            };
            Some(Verdict::only(vec![exit], message))
        }
    }
}

fn create(ctx: &Ctx<'_>, memory: &mut Memory, cluster: &Cluster) -> Verdict {
    let claim = ctx.view.orders.bootstrap_claim;
    let Some(stored) = &cluster.initialize else {
        if ctx.view.identity.tags.nofailover || !ctx.view.identity.may_bootstrap {
            return copy_alone(ctx, memory);
        }
        let put = Op::PutInitialize {
            system_id: None,
            expected: None,
        };
        return Verdict::act(
            vec![Action::Store(put)],
            "trying to bootstrap a new cluster",
        );
    };
    let mine = Some(stored.revision) == claim;
    match &stored.value {
        Initialize::UnderWay if mine && ctx.standby_cluster().is_some() => copy_far(ctx, memory),
        Initialize::UnderWay if mine && failed_bootstrap(ctx).is_some() => {
            let reason = failed_bootstrap(ctx).unwrap_or_default();
            let message = format!("failed to bootstrap the cluster: {reason}");
            let delete = Op::DeleteInitialize {
                expected: stored.revision,
            };
            let exit = Action::Exit {
                code: 1,
                message: message.clone(),
            };
            Verdict::only(vec![Action::Store(delete), exit], message)
        }
        Initialize::UnderWay if mine => Verdict::act(
            vec![Action::StartJob(JobKind::Bootstrap)],
            "bootstrap in progress",
        ),
        Initialize::UnderWay => Verdict::stay("another node is creating the cluster"),
        Initialize::Done(_) | Initialize::Invalid(_) => copy_alone(ctx, memory),
    }
}

/// Nobody leads: a method that needs nobody makes the copy.
fn copy_alone(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.view.identity.copies_alone {
        return Verdict::stay("waiting for leader to bootstrap");
    }
    if let Some(verdict) = not_yet(ctx, memory) {
        return verdict;
    }
    let job = JobKind::Clone {
        from: None,
        far: false,
    };
    let reason = "trying to bootstrap (without leader)";
    Verdict::act(vec![Action::StartJob(job)], reason)
}

/// This node begins a standby cluster: by a copy of the other cluster's primary.
fn copy_far(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if let Some(verdict) = not_yet(ctx, memory) {
        return verdict;
    }
    let far = ctx.standby_cluster();
    let places = far.map_or(&[][..], |far| &far.places);
    // One after the other, as often as it takes.
    let tried = usize::try_from(memory.copy.failures).unwrap_or(0);
    let place = places.get(tried % places.len().max(1));
    if place.is_none() && !far.is_some_and(|far| far.copies_alone) {
        let reason = "standby_cluster names no host, and none of its create_replica_methods works without: \
                      there is nothing to copy";
        return Verdict::stay(reason).error();
    }
    let reason = match place {
        Some((host, port)) => format!("trying to bootstrap from the remote primary {host}:{port}"),
        None => String::from("trying to bootstrap (without the remote primary)"),
    };
    let from = place.map(|address| Origin {
        name: MemberName(String::from(REMOTE)),
        address: address.clone(),
    });
    let job = JobKind::Clone { from, far: true };
    Verdict::act(vec![Action::StartJob(job)], reason)
}

/// The copy is made: it is the new standby cluster.
fn begun_far(ctx: &Ctx<'_>) -> Option<Verdict> {
    ctx.standby_cluster()?;
    let cluster = ctx.view.fresh()?;
    let stored = cluster.initialize.as_ref()?;
    let mine = Some(stored.revision) == ctx.view.orders.bootstrap_claim;
    if !mine || stored.value != Initialize::UnderWay || ctx.view.running_job().is_some() {
        return None;
    }
    let mut actions = vec![Action::Store(Op::PutInitialize {
        system_id: Some(ctx.view.local.control?.system_id),
        expected: Some(stored.revision),
    })];
    actions.extend(config::repair(ctx, cluster));
    if ctx.lock == Lock::Free {
        actions.push(upkeep::take_lock(ctx));
    }
    let reason = "initialized a new standby cluster";
    Some(Verdict::only(actions, reason))
}

fn failed_bootstrap(ctx: &Ctx<'_>) -> Option<String> {
    let job = ctx.view.local.job.as_ref()?;
    match (&job.kind, &job.outcome) {
        (JobKind::Bootstrap, Some(Outcome::Failed(reason))) => Some(reason.clone()),
        _ => None,
    }
}

/// A copy has failed, and the next try is not due.
fn not_yet(ctx: &Ctx<'_>, memory: &mut Memory) -> Option<Verdict> {
    // A copy begins with the removal of what is left, so it makes up for one that failed half-way.
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::Clone { .. } | JobKind::RemoveData, Some(Outcome::Failed(_)), Some(ended)) =
            (&job.kind, &job.outcome, job.ended)
    {
        memory.copy.fail(ended);
    }
    let at = memory.copy.not_before.filter(|at| ctx.now() < *at)?;
    let verdict = Verdict::stay("copying failed, the next try is due soon").warning();
    Some(verdict.wake(at))
}

fn copy(ctx: &Ctx<'_>, memory: &mut Memory, leader: &MemberName) -> Verdict {
    if let Some(verdict) = not_yet(ctx, memory) {
        return verdict;
    }
    let only = memory.reinitialize.is_some_and(|copy| copy.from_leader);
    let Some(source) = source(ctx, leader, only) else {
        if let Some((severity, text)) = holder::trouble(ctx, memory) {
            return Verdict::stay(text).severity(severity);
        }
        return Verdict::stay(format!("waiting for {leader} to run before copying it"));
    };
    let Some(address) = source.address.clone() else {
        return Verdict::stay(holder::no_address(ctx, source)).error();
    };
    let job = JobKind::Clone {
        from: Some(Origin {
            name: source.name.clone(),
            address,
        }),
        far: false,
    };
    let kind = if source.name == *leader {
        "leader"
    } else {
        "replica"
    };
    let reason = format!("trying to bootstrap from {kind} '{}'", source.name);
    Verdict::act(vec![Action::StartJob(job)], reason)
}

/// A running member tagged `clonefrom` (spread over them by time), else the leader; `only`: the leader.
/// In any case the leader runs as primary.
pub(crate) fn source<'a>(ctx: &Ctx<'a>, leader: &MemberName, only: bool) -> Option<&'a Member> {
    let running = |member: &&Member| member.state == Some(PostgresState::Running);
    let primary = ctx.others().filter(running).find(|member| {
        member.name == *leader && matches!(member.role, Some(Role::Primary | Role::StandbyLeader))
    })?;
    let tagged: Vec<&Member> = ctx
        .others()
        .filter(running)
        .filter(|member| member.tags.clonefrom && member.name != *leader)
        .filter(|member| member.address.is_some())
        .collect();
    if tagged.is_empty() || only {
        return Some(primary);
    }
    let pick = usize::try_from(ctx.now().as_millis()).unwrap_or(0) % tagged.len();
    tagged.get(pick).copied()
}
