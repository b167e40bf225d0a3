//! `/sync` and `synchronous_standby_names` (contract: patroni-ha-rules, section 9). In `synchronous_mode: on` PostgreSQL
//! always waits for at least those that `/sync` names. In quorum mode it waits for some of them, and whoever takes over needs so
//! many votes that one of those that voted has every acknowledged row (docs/decisions/0024).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{
    CommitsWait, Look, Lsn, Member, MemberName, Op, Span, Standby, Sync, SynchronousMode,
};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

/// How soon to look whether a change of the GUC is in force.
const SOON: Span = Span::from_millis(100);
/// How long after sessions say so every process of PostgreSQL goes by it (contract: 2 s). The
/// checkpointer tells those who commit whether to wait at all, and may be busy for longer.
const IN_FORCE: Span = Span::from_secs(2);

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    if ctx.holding().is_none() && ctx.lock != Lock::Unknown {
        forget(memory);
    }
    let (Lock::Mine { term }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    let Some(look) = ctx
        .view
        .local
        .look
        .as_ref()
        .filter(|look| !look.in_recovery || ctx.leads_in_recovery())
    else {
        return NOTHING;
    };
    let expected = cluster.sync.as_ref().map(|stored| stored.revision);
    if ctx.view.settings.synchronous_mode == SynchronousMode::Off {
        forget(memory);
        return switch_off(expected, term);
    }
    let published = cluster
        .sync
        .as_ref()
        .map(|stored| &stored.value)
        .filter(|sync| sync.leader.as_ref() == Some(ctx.me()));
    let unsure = memory.sync_put == Some((term, expected));
    let step = match ctx.view.settings.synchronous_mode {
        SynchronousMode::Quorum => step_to_quorum(ctx, memory, look, published),
        SynchronousMode::On | SynchronousMode::Off => {
            // In quorum mode PostgreSQL waited for some of those names only.
            let all = published.filter(|sync| sync.quorum == 0);
            step(ctx, memory, look, all)
        }
    };
    let step = match (step, published) {
        // Who was to be named may be named: before anybody is let go, that is made sure of by a write of what is seen.
        (Step::Set(_), Some(published)) if unsure => {
            forget(memory);
            Step::Publish(published.standbys.clone(), published.quorum)
        }
        (step, _) => step,
    };
    match step {
        Step::Publish(standbys, quorum) => {
            memory.sync_put = Some((term, expected));
            let sync = Sync {
                leader: Some(ctx.me().clone()),
                standbys,
                quorum,
            };
            let put = Action::Store(Op::PutSync {
                sync,
                expected,
                term,
            });
            (vec![put], Some(ctx.now() + SOON))
        }
        Step::Set(text) => (
            vec![Action::SetSynchronousStandbys(text)],
            Some(ctx.now() + SOON),
        ),
        Step::Wait => (Vec::new(), Some(ctx.now() + SOON)),
        Step::Settled => NOTHING,
    }
}

/// In strict mode whoever is about to be promoted waits for somebody, before it could acknowledge anything (contract:
/// section 3, step 4). What is left there from before may be for nobody.
pub(crate) fn wait_for_somebody(ctx: &Ctx<'_>) -> Option<Action> {
    let settings = &ctx.view.settings;
    let text = match settings.synchronous_mode {
        SynchronousMode::On => guc(ctx, &[]),
        SynchronousMode::Quorum => any(ctx, &[], 0),
        SynchronousMode::Off => return None,
    };
    let look = ctx.view.local.look.as_ref()?;
    let differs = settings.synchronous_mode_strict && look.synchronous_standby_names != text;
    differs.then_some(Action::SetSynchronousStandbys(text))
}

/// The next step towards what is wished; each keeps `/sync` within what PostgreSQL waits for.
enum Step {
    /// Write `/sync`: names and quorum.
    Publish(Vec<MemberName>, usize),
    /// Set `synchronous_standby_names`.
    Set(String),
    /// PostgreSQL does not wait for all of them yet.
    Wait,
    /// Nothing is left to do.
    Settled,
}

fn step(ctx: &Ctx<'_>, memory: &mut Memory, look: &Look, published: Option<&Sync>) -> Step {
    // A new leader vouches for nobody until PostgreSQL waits for them.
    let Some(published) = published else {
        return Step::Publish(Vec::new(), 0);
    };
    let count = ctx.view.settings.synchronous_node_count;
    let wished = named(eligible(ctx, look).take(count));
    let kept: Vec<MemberName> = published
        .standbys
        .iter()
        .filter(|name| wished.contains(name))
        .cloned()
        .collect();
    if kept.len() < published.standbys.len() {
        return Step::Publish(kept, 0);
    }
    if let Some(set) = tell(ctx, memory, look, guc(ctx, &wished)) {
        return set;
    }
    // What was acknowledged before PostgreSQL waited for it a new one must have as well.
    let from = |name| match published.standbys.contains(name) {
        true => Some(Lsn(0)),
        false => memory.sync_from,
    };
    let in_force: Vec<MemberName> = wished
        .iter()
        .filter(|name| from(name).is_some_and(|from| waits_for(look, name, from)))
        .cloned()
        .collect();
    if in_force != published.standbys && in_force.len() >= published.standbys.len() {
        return Step::Publish(in_force, 0);
    }
    if in_force.len() < wished.len() {
        Step::Wait
    } else {
        Step::Settled
    }
}

/// Tells PostgreSQL whom to wait for; `None`: it was told, and it is noted from when on all of it goes by that.
fn tell(ctx: &Ctx<'_>, memory: &mut Memory, look: &Look, text: String) -> Option<Step> {
    // What was told before may still be on its way, whatever PostgreSQL says now.
    if memory.sync_told.as_ref() != Some(&text) || look.synchronous_standby_names != text {
        forget(memory);
        memory.sync_told = Some(text.clone());
        return Some(Step::Set(text));
    }
    let seen = *memory.sync_seen.get_or_insert(ctx.now());
    if ctx.now() >= seen + IN_FORCE && look.checkpointer_ready {
        memory.sync_from.get_or_insert(look.wal.flushed);
    }
    None
}

/// In quorum mode: `/sync` is made so strict that what PostgreSQL waits for now will do, and what it is to wait for;
/// then PostgreSQL is told; when all of it goes by that, and so many have what was acknowledged before, `/sync` is made as
/// loose as that allows.
fn step_to_quorum(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    look: &Look,
    published: Option<&Sync>,
) -> Step {
    let Some(published) = published else {
        return Step::Publish(Vec::new(), 0);
    };
    let wanted = ctx.view.settings.synchronous_node_count;
    // Who is never promoted votes only where there are not enough others.
    let mut candidates = 0;
    let wished = named(eligible(ctx, look).filter(|member| {
        candidates += usize::from(!member.tags.nofailover);
        !member.tags.nofailover || candidates < wanted
    }));
    let count = wanted.min(wished.len());
    let (voters, quorum) = strict_enough(published, &wished, count);
    if (&voters, quorum) != (&published.standbys, published.quorum) {
        return Step::Publish(voters, quorum);
    }
    if let Some(set) = tell(ctx, memory, look, any(ctx, &wished, count)) {
        return set;
    }
    let loose = wished.len() - count;
    if wished == published.standbys && loose == published.quorum {
        return Step::Settled;
    }
    let from = memory.sync_from;
    let has = |name: &&MemberName| from.is_some_and(|from| waits_for(look, name, from));
    let copies = wished.iter().filter(has).count();
    if from.is_some() && copies >= count {
        Step::Publish(wished, loose)
    } else {
        Step::Wait
    }
}

/// The least strict `/sync` that is as strict as the published one, so that it holds for whatever PostgreSQL was told before, and
/// that holds also where commits wait for `count` of `wished`. It holds if among any of its voters that are one more than
/// its quorum there is one with every acknowledged row: whoever is added may lack them all. Where nobody could win,
/// nobody is named.
pub(crate) fn strict_enough(
    published: &Sync,
    wished: &[MemberName],
    count: usize,
) -> (Vec<MemberName>, usize) {
    let known = &published.standbys;
    let new = wished.iter().filter(|name| !known.contains(name));
    let mut voters: Vec<MemberName> = known.iter().chain(new).cloned().collect();
    voters.sort();
    let added = voters.len() - known.len();
    let quorum = (published.quorum + added).max(voters.len() - count);
    if known.is_empty() || quorum >= voters.len() {
        return (Vec::new(), 0);
    }
    (voters, quorum)
}

/// Nothing is known of what PostgreSQL waits for.
fn forget(memory: &mut Memory) {
    memory.sync_told = None;
    memory.sync_seen = None;
    memory.sync_from = None;
}

/// `/sync` goes first, then PostgreSQL waits for nobody.
fn switch_off(sync: Option<u64>, term: u64) -> Duty {
    let Some(expected) = sync else { return NOTHING };
    let delete = Action::Store(Op::DeleteSync { expected, term });
    (
        vec![delete, Action::SetSynchronousStandbys(String::new())],
        None,
    )
}

/// PostgreSQL counts it as synchronous, and it has everything up to there.
fn waits_for(look: &Look, name: &MemberName, from: Lsn) -> bool {
    look.standbys.iter().any(|standby| {
        standby.name.eq_ignore_ascii_case(&name.0)
            && matches!(standby.sync_state.as_str(), "sync" | "quorum")
            && standby.flushed >= from
    })
}

/// How far it is, of what a commit waits for.
fn position(ctx: &Ctx<'_>, standby: &Standby) -> Lsn {
    match ctx.view.settings.commits_wait {
        CommitsWait::Written => standby.written,
        CommitsWait::Flushed => standby.flushed,
        CommitsWait::Replayed => standby.replayed,
    }
}

/// Streaming members that may be synchronous, present ones first, then by position; nobody who lags by more than
/// `maximum_lag_on_syncnode` behind the foremost, or behind this node where there is no other.
fn eligible<'a>(ctx: &Ctx<'a>, look: &Look) -> impl Iterator<Item = &'a Member> {
    let mut eligible: Vec<_> = ctx
        .others()
        .filter(|member| !member.tags.nosync)
        .filter_map(|member| {
            let standby = look.standbys.iter().find(|standby| {
                standby.name.eq_ignore_ascii_case(&member.name.0) && standby.state == "streaming"
            })?;
            let present = matches!(standby.sync_state.as_str(), "sync" | "quorum");
            Some((member, standby, present))
        })
        .collect();
    eligible.sort_by(|(a, x, a_in), (b, y, b_in)| {
        a.tags
            .nofailover
            .cmp(&b.tags.nofailover)
            .then_with(|| b.tags.sync_priority.cmp(&a.tags.sync_priority))
            .then_with(|| b_in.cmp(a_in))
            .then_with(|| position(ctx, y).cmp(&position(ctx, x)))
            .then_with(|| a.name.cmp(&b.name))
    });
    let positions = eligible
        .iter()
        .map(|(_, standby, _)| position(ctx, standby));
    let foremost = match eligible.len() {
        1 => look.wal.flushed,
        _ => positions.max().unwrap_or_default(),
    };
    if let Some(longest) = ctx.view.settings.maximum_lag_on_syncnode {
        eligible.retain(|(_, standby, _)| foremost.since(position(ctx, standby)) <= longest);
    }
    let members: Vec<&Member> = eligible.into_iter().map(|(member, ..)| member).collect();
    members.into_iter()
}

/// Their names, sorted.
fn named<'a>(members: impl Iterator<Item = &'a Member>) -> Vec<MemberName> {
    let mut names: Vec<MemberName> = members.map(|member| member.name.clone()).collect();
    names.sort();
    names
}

/// `synchronous_standby_names`: one name, or `2 (a,b)`.
fn guc(ctx: &Ctx<'_>, names: &[MemberName]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name.as_str())).collect();
    match quoted.as_slice() {
        [] if ctx.view.settings.synchronous_mode_strict => String::from("*"),
        [] => String::new(),
        [one] => one.clone(),
        several => format!("{} ({})", several.len(), several.join(",")),
    }
}

/// The same in quorum mode: `ANY 1 (a,b)`.
fn any(ctx: &Ctx<'_>, names: &[MemberName], count: usize) -> String {
    let quoted: Vec<String> = names.iter().map(|name| quote(name.as_str())).collect();
    match quoted.as_slice() {
        [] if ctx.view.settings.synchronous_mode_strict => String::from("ANY 1 (*)"),
        [] => String::new(),
        names => format!("ANY {count} ({})", names.join(",")),
    }
}

/// Plain identifiers stay as they are; `first` and `any` are words of the syntax.
fn quote(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$')
        && !matches!(name, "first" | "any");
    if plain {
        String::from(name)
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}
