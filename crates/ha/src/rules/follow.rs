//! Stream from the leader (or from whom `replicatefrom` names); start as a standby.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{
    ControlState, DataDir, Member, MemberName, PostgresState, Span, Timeline, Upstream, slot_name,
};

use crate::ctx::{Ctx, Verdict};
use crate::decision::{Action, JobKind, StartAs};
use crate::fork::{Fork, Unread, fork};
use crate::holder;
use crate::memory::Memory;
use crate::race;
use crate::rules::copy_slots;
use crate::view::Outcome;

/// A standby that does not stream is reminded this often, since PostgreSQL itself sleeps up to
/// wal_retrieve_retry_interval between two tries.
const REMIND: Span = Span::from_millis(250);
/// And for this long; afterwards once per loop_wait.
const REMIND_FOR: Span = Span::from_secs(30);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let trouble = holder::trouble(ctx, memory);
    match (go_on(ctx, memory), trouble) {
        // What is to be done is done all the same.
        (Verdict::Do(mut order), Some((severity, text))) => {
            order.reason = match order.actions.is_empty() {
                true => text.into(),
                false => format!("{text}; {}", order.reason).into(),
            };
            order.severity = order.severity.max(severity);
            Verdict::Do(order)
        }
        (verdict, _) => verdict,
    }
}

fn go_on(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if ctx.view.local.data != DataDir::Initialized {
        return Verdict::stay("there is no database cluster to start");
    }
    let leader = ctx
        .other_leader()
        .and_then(|leader| ctx.cluster()?.member(&leader.name));
    let Some(leader) = leader else {
        return alone(ctx, memory);
    };
    match fork(ctx, leader) {
        Fork::Follow(history) if ctx.view.is_down() => {
            start(ctx, memory, upstream(ctx, leader), history)
        }
        Fork::Follow(_) => stream(ctx, memory, leader),
        Fork::Wait(reason) => Verdict::stay(match race::lost_to(ctx, memory, leader) {
            Some(lost) => format!("{reason}; {lost}"),
            None => reason,
        }),
        Fork::NoAddress(reason) => Verdict::stay(reason).error(),
        Fork::Ask(action) => {
            Verdict::act(vec![action], "reading the timeline history of the leader")
        }
        Fork::Unproven(unread) => unproven(ctx, memory, leader, *unread),
        Fork::Diverged(reason) | Fork::Twins(reason) => Verdict::stay(reason).warning(),
        Fork::Unclean => Verdict::stay("the end of the local WAL is not known").warning(),
    }
}

/// The leader's timeline has the own one's number, and may be another: until that is known nobody else is
/// followed, and what runs goes on as it does.
fn unproven(ctx: &Ctx<'_>, memory: &mut Memory, leader: &Member, unread: Unread) -> Verdict {
    let Unread { ask, reason } = unread;
    let look = ctx.view.local.look.as_ref();
    let wanted = upstream(ctx, leader);
    let follows = look.is_some_and(|look| look.upstream == wanted);
    let elsewhere = wanted
        .as_ref()
        .is_some_and(|wanted| leader.address.as_ref() != Some(&(wanted.host.clone(), wanted.port)));
    let mut verdict = if elsewhere && ask.is_none() {
        // Who is told to follow another member may not be able to reach the leader at all.
        match ctx.view.is_down() {
            true => start(ctx, memory, wanted, None),
            false => stream(ctx, memory, leader),
        }
    } else if follows || (look.is_some() && leader.address.is_none()) {
        stream(ctx, memory, leader)
    } else if ctx.view.is_down() && ask.is_none() {
        // To be read from, and a candidate should the leader be gone: from nobody, so nothing is joined.
        let mut alone = start(ctx, memory, None, None);
        if let Verdict::Do(order) = &mut alone {
            order.reason = format!("{reason}; {}", order.reason).into();
        }
        alone
    } else {
        Verdict::stay(reason)
    };
    if let Verdict::Do(order) = &mut verdict {
        if ask.is_none() {
            let asked = ctx.view.history.as_ref().map(|history| history.asked);
            let again = asked.map(|asked| asked + crate::fork::AGAIN);
            order.wake_at = order.wake_at.into_iter().chain(again).min();
        }
        order.actions.extend(ask);
    }
    verdict
}

/// No leader to follow.
fn alone(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if !ctx.view.is_down() {
        return Verdict::stay("no leader to follow");
    }
    if let Some(until) = memory.rest_until.filter(|until| ctx.now() < *until) {
        return Verdict::stay("gave up the lock: waiting for the new leader").wake(until);
    }
    if let Some(verdict) = recover_first(ctx, memory) {
        return verdict;
    }
    start(ctx, memory, None, None)
}

/// A primary that crashed recovers by itself before it starts as a standby: that keeps what
/// pg_control knows about its end for whoever becomes leader. Where recovery fails, the start as a
/// standby is another try.
pub(crate) fn recover_first(ctx: &Ctx<'_>, memory: &mut Memory) -> Option<Verdict> {
    let local = &ctx.view.local;
    let unclean = matches!(
        local.control.map(|control| control.state),
        Some(
            ControlState::InProduction | ControlState::ShuttingDown | ControlState::InCrashRecovery
        )
    );
    if let Some(job) = &local.job
        && let (JobKind::CrashRecovery, Some(Outcome::Failed(_)), Some(ended)) =
            (&job.kind, &job.outcome, job.ended)
    {
        memory.recovery.fail(ended);
    }
    if !unclean || local.backup_label || memory.recovery.failures > 0 {
        return None;
    }
    let actions = vec![Action::StartJob(JobKind::CrashRecovery)];
    Some(Verdict::act(
        actions,
        "crash recovery before the start as a secondary",
    ))
}

fn start(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    upstream: Option<Upstream>,
    follow: Option<(MemberName, Timeline)>,
) -> Verdict {
    if let Some(job) = &ctx.view.local.job
        && let (JobKind::Start(_), Some(Outcome::Failed(_)), Some(ended)) =
            (&job.kind, &job.outcome, job.ended)
    {
        memory.start.fail(ended);
    }
    if let Some(at) = memory.start.not_before.filter(|at| ctx.now() < *at) {
        return Verdict::stay("failed to start postgres, the next try is due soon")
            .warning()
            .wake(at);
    }
    let start = JobKind::Start(StartAs::Standby { upstream, follow });
    let reason = match copied_from(ctx) {
        Some(source) => format!("bootstrapped from {source}: starting as a secondary"),
        None => String::from("starting as a secondary"),
    };
    Verdict::act(vec![Action::StartJob(start)], reason)
}

/// Whose copy the data are, if they have just been made.
fn copied_from(ctx: &Ctx<'_>) -> Option<String> {
    let job = ctx.view.local.job.as_ref()?;
    let (
        JobKind::Clone {
            from: Some(origin), ..
        },
        Some(Outcome::Done),
    ) = (&job.kind, &job.outcome)
    else {
        return None;
    };
    let leader = ctx.other_leader().map(|leader| &leader.name);
    let kind = if leader == Some(&origin.name) {
        "leader"
    } else {
        "replica"
    };
    Some(format!("{kind} '{}'", origin.name))
}

fn stream(ctx: &Ctx<'_>, memory: &mut Memory, leader: &Member) -> Verdict {
    if ctx.view.local.look.is_none() {
        return Verdict::stay("PostgreSQL does not answer").warning();
    }
    if leader.address.is_none() && !ctx.view.identity.tags.nostream {
        // Whoever it streams from now is better than nobody.
        return Verdict::stay(holder::no_address(ctx, leader)).error();
    }
    let following = format!(
        "no action. I am ({}), a secondary, and following a leader ({})",
        ctx.me(),
        leader.name
    );
    keep_streaming(
        ctx,
        memory,
        upstream(ctx, leader),
        following,
        (leader.name.as_str(), Some(leader)),
    )
}

/// Told whom to follow where that is somebody else, and again while nothing is streamed. `following`: what to say where
/// all is well; `whom`: its name, and the member if it is one, whose logical slots are copied.
pub(crate) fn keep_streaming(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    wanted: Option<Upstream>,
    following: String,
    (whom, leader): (&str, Option<&Member>),
) -> Verdict {
    let look = ctx.view.local.look.as_ref();
    if look.is_some_and(|look| look.upstream != wanted) {
        memory.reminded = Some(ctx.now());
        let from = wanted.as_ref().map_or(String::from("nobody"), |up| {
            format!("{}:{}", up.host, up.port)
        });
        return Verdict::act(
            vec![Action::SetUpstream(wanted)],
            format!("following {whom} from {from}"),
        );
    }
    let Some(broken) = memory.stream_broken.filter(|_| wanted.is_some()) else {
        let copies = look.zip(leader);
        let copy = copies.and_then(|(look, leader)| copy_slots::ask(ctx, memory, look, leader));
        return copy.unwrap_or_else(|| Verdict::routine(following));
    };
    if ctx.now().since(broken) > REMIND_FOR {
        return Verdict::stay(format!("{following}, but not streaming")).warning();
    }
    let last = memory.reminded.unwrap_or(broken);
    let reason = format!("{following}, not streaming yet");
    if ctx.now().since(last) < REMIND {
        return Verdict::stay(reason).wake(last + REMIND);
    }
    memory.reminded = Some(ctx.now());
    Verdict::act(vec![Action::SetUpstream(wanted)], reason).wake(ctx.now() + REMIND)
}

/// From whom this node is to stream.
fn upstream(ctx: &Ctx<'_>, leader: &Member) -> Option<Upstream> {
    let tags = &ctx.view.identity.tags;
    if tags.nostream {
        return None;
    }
    let named = tags
        .replicatefrom
        .as_ref()
        .and_then(|name| ctx.cluster()?.member(name));
    let from = named
        .filter(|member| member.name != *ctx.me() && member.state == Some(PostgresState::Running))
        .filter(|member| member.address.is_some())
        .unwrap_or(leader);
    let (host, port) = from.address.clone()?;
    let slot = ctx.view.settings.use_slots.then(|| slot_name(ctx.me()));
    Some(Upstream {
        host,
        port,
        slot,
        others: vec![],
    })
}
