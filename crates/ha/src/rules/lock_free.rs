//! Nobody holds the lock: take it if this node is the healthiest.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Cluster, Failover, Look, Lsn, Span};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, JobKind};
use crate::failsafe::{self, Excluded};
use crate::memory::Memory;
use crate::race::{self, Rival, Safety};
use crate::rules::hang;
use crate::schedule;
use crate::upkeep::request::clean;
use crate::upkeep::{self, guard};

/// How soon a race that was not won is run again.
const AGAIN: Span = Span::from_millis(500);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    if ctx.lock != Lock::Free {
        return Verdict::pass("the lock is not free");
    }
    let (Some(look), Some(cluster)) = (&ctx.view.local.look, ctx.view.fresh()) else {
        return Verdict::pass("PostgreSQL does not answer");
    };
    if !look.in_recovery {
        return running_primary(ctx, memory, cluster, look);
    }
    if ctx.view.identity.tags.nofailover {
        return Verdict::stay("following a different leader because I am not allowed to promote");
    }
    if guard::is_unusable(ctx) {
        let culprit = guard::culprit(ctx);
        let reason = format!(
            "the {culprit} is required and cannot be armed: this node does not take the lock"
        );
        return Verdict::stay(reason).error();
    }
    if let Some(until) = memory.forbidden_until.filter(|until| ctx.now() < *until) {
        return Verdict::stay("pre_promote has forbidden the promotion: the others go first")
            .wake(until);
    }
    if let Some(until) = memory.stand_back_until
        && ctx.now() < until
        && ctx.others().next().is_some()
    {
        return Verdict::stay("the others go first").wake(until);
    }
    race(ctx, memory, cluster, look)
}

/// It lost its key (deleted, restored snapshot), or the agent found it running.
fn running_primary(ctx: &Ctx<'_>, memory: &Memory, cluster: &Cluster, look: &Look) -> Verdict {
    let newest = cluster
        .history
        .as_ref()
        .and_then(|stored| stored.value.last());
    let own = look.timeline;
    if newest.is_some_and(|line| own.0 < line.timeline.0 + 1) {
        return outdated(format!("running as primary on the old timeline {own}"));
    }
    match race::rival(ctx, memory, own) {
        Rival::Ask(questions, until) => {
            let reason = "running as primary without the lock: asking the others";
            return Verdict::act(vec![Action::AskPeers(questions)], reason).wake(until);
        }
        Rival::Awaited(until) => {
            let reason = "running as primary without the lock: waiting for the others' answers";
            return Verdict::stay(reason).wake(until);
        }
        Rival::Newer(name, theirs) => {
            let reason = format!("running as primary on timeline {own}, and {name} on {theirs}");
            return outdated(reason);
        }
        Rival::None => {}
    }
    Verdict::only(
        vec![upkeep::take_lock(ctx)],
        "acquired session lock as a leader",
    )
}

/// Somebody else was promoted since.
fn outdated(reason: String) -> Verdict {
    let stop = JobKind::Stop {
        mode: pgherd_model::StopMode::Kill,
        checkpoint_first: false,
    };
    Verdict::only(vec![Action::StartJob(stop)], format!("{reason}: stopped"))
}

/// What a request for a switchover or failover means for this node.
enum Wish<'a> {
    /// Nothing is asked.
    None,
    /// This node is to take over.
    Me,
    /// Another one is.
    Other(&'a pgherd_model::MemberName),
    /// Anybody but the old leader.
    Anybody,
    /// This node has just given up.
    NotMe,
}

fn wish<'a>(ctx: &Ctx<'_>, request: Option<&'a Failover>) -> Wish<'a> {
    match request {
        None => Wish::None,
        Some(Failover {
            member: Some(member),
            ..
        }) if member == ctx.me() => Wish::Me,
        Some(Failover {
            member: Some(member),
            ..
        }) => Wish::Other(member),
        Some(Failover {
            leader: Some(leader),
            ..
        }) if leader == ctx.me() => Wish::NotMe,
        Some(_) => Wish::Anybody,
    }
}

fn race(ctx: &Ctx<'_>, memory: &mut Memory, cluster: &Cluster, look: &Look) -> Verdict {
    let wish = wish(ctx, schedule::in_force(ctx, memory));
    let safety = race::former_safety(ctx, memory);
    let named = matches!(wish, Wish::Me);
    let own = look.wal.position();
    let votes = race::needs_votes(ctx) && !race::has_everything(ctx, own);
    let votes = votes || failsafe::is_unnamed(ctx);
    if votes || !(named && matches!(safety, Safety::Safe(_))) {
        let since = memory.free_since.unwrap_or(ctx.now());
        let since = since.max(memory.unnamed_since.unwrap_or(since));
        let questions = race::questions(ctx, memory, since);
        if ctx.view.asking {
            return Verdict::stay("the lock is free: waiting for the others' answers");
        }
        if !questions.is_empty() {
            return Verdict::act(
                vec![Action::AskPeers(questions)],
                "the lock is free: asking the others",
            );
        }
    }
    let why_safe = match safety {
        Safety::Safe(reason) => reason,
        Safety::NotBefore(at, reason) => {
            return Verdict::stay(reason).wake(at.min(ctx.now() + AGAIN));
        }
    };
    if let Some(verdict) = unnamed(ctx, memory) {
        return verdict;
    }
    if let Some(verdict) = unfit(ctx, memory, cluster, &wish, own) {
        return verdict;
    }
    if let Some(reason) = kept_back(ctx, memory, cluster, &wish, own) {
        let reason =
            format!("following a different leader because i am not the healthiest node: {reason}");
        return Verdict::stay(reason).wake(ctx.now() + AGAIN);
    }
    if look
        .receiver
        .as_ref()
        .is_some_and(|receiver| receiver.streaming)
    {
        // Positions must stand still while they are compared.
        return Verdict::only(
            vec![Action::StopReceiving],
            "the lock is free: ending the stream",
        );
    }
    let reason = format!("{why_safe}; healthiest of {}", cluster.members.len().max(1));
    let mut actions = vec![upkeep::take_lock(ctx)];
    // In one go: a look in between would only delay the promotion.
    if ctx.standby_cluster().is_none() {
        actions.extend(guard::arm(ctx));
    }
    Verdict::only(actions, reason)
}

/// `/failsafe` does not name this node: whoever was the leader did not have to ask it, and may live on by the word of
/// the others. Each of these knows; those that answer are asked once no lease can be what keeps him.
fn unnamed(ctx: &Ctx<'_>, memory: &mut Memory) -> Option<Verdict> {
    if !failsafe::is_unnamed(ctx) {
        memory.unnamed_since = None;
        return None;
    }
    let since = *memory.unnamed_since.get_or_insert(ctx.now());
    let verdict = match failsafe::excludes(ctx, since)? {
        Excluded::Kept(reason) => Verdict::stay(reason),
        Excluded::Unknown(reason) => Verdict::stay(reason).error(),
    };
    Some(verdict.wake(ctx.now() + AGAIN))
}

/// A switchover names this node, whose data will not do. Whoever hands over in order has made sure of more; one that was
/// lost before has not. The request goes: others, Patroni among them, would wait for this node as long as it answers.
fn unfit(
    ctx: &Ctx<'_>,
    memory: &Memory,
    cluster: &Cluster,
    wish: &Wish<'_>,
    own: Lsn,
) -> Option<Verdict> {
    schedule::in_force(ctx, memory)
        .filter(|request| matches!(wish, Wish::Me) && request.leader.is_some())?;
    let reason = lagging(ctx, cluster, own).or_else(|| left_behind(ctx, own))?;
    let clean = clean(cluster.failover.as_ref()?.revision);
    let reason = format!("switchover to this node: dropped, its leader is lost: {reason}");
    Some(
        Verdict::only(vec![clean], reason)
            .warning()
            .wake(ctx.now() + AGAIN),
    )
}

/// Why this node leaves the lock to somebody else.
fn kept_back(
    ctx: &Ctx<'_>,
    memory: &Memory,
    cluster: &Cluster,
    wish: &Wish<'_>,
    own: Lsn,
) -> Option<String> {
    let request = schedule::in_force(ctx, memory);
    let manual = request.is_some_and(|request| request.leader.is_none());
    // A person gives up rows by naming this node, not by naming somebody who is gone.
    let obeyed = manual && matches!(wish, Wish::Me);
    if let Some(names) = race::sync_standbys(ctx)
        && !names.contains(&ctx.me())
        && !obeyed
    {
        return Some(String::from(
            "not in /sync: a synchronous standby takes over",
        ));
    }
    if !obeyed && let Some(reason) = race::outvoted(ctx, memory, own) {
        return Some(reason);
    }
    // Nobody is waited for any longer: it may be cut off from the lock service.
    let waits = memory
        .free_since
        .is_none_or(|since| ctx.now().since(since) < ctx.view.settings.lease_ttl);
    match wish {
        Wish::Me => return None,
        Wish::Other(member) => {
            let least = if manual { Lsn(0) } else { hang::tolerable(ctx) };
            let possible = race::candidates(ctx, least, manual)
                .iter()
                .any(|(name, _)| name == member);
            // In a pause people decide who leads.
            if (possible && waits) || ctx.view.settings.pause {
                return Some(format!("{member} was named to take over"));
            }
        }
        Wish::NotMe => {
            // Only for those who do not wait for this node's longer WAL in turn.
            if waits && !race::candidates(ctx, own, false).is_empty() {
                return Some(String::from("this node gave up the lock for another one"));
            }
        }
        Wish::None | Wish::Anybody => {}
    }
    if let Some(reason) = lagging(ctx, cluster, own) {
        return Some(reason);
    }
    let own_timeline = ctx.view.local.look.as_ref().map(|look| look.timeline);
    if ctx.view.settings.check_timeline && race::cluster_timeline(ctx) > own_timeline {
        return Some(String::from("My timeline is behind the cluster's"));
    }
    left_behind(ctx, own).or_else(|| race::better_placed(ctx, memory, own))
}

/// Too much of what the last leader had published is missing.
fn lagging(ctx: &Ctx<'_>, cluster: &Cluster, own: Lsn) -> Option<String> {
    let optime = cluster.optime().unwrap_or_default();
    (optime.since(own) > ctx.view.settings.maximum_lag_on_failover)
        .then(|| String::from("My wal position exceeds maximum replication lag"))
}

/// These data went another way than the cluster did.
fn left_behind(ctx: &Ctx<'_>, own: Lsn) -> Option<String> {
    let own_timeline = ctx.view.local.look.as_ref()?.timeline;
    let end = race::left_at(ctx, own_timeline, own)?;
    Some(format!(
        "these data go to {own} on timeline {own_timeline}, which the cluster left at {end}: only a \
         failover that names this node gives up what was acknowledged since then"
    ))
}
