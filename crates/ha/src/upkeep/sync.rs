//! `/sync` and `synchronous_standby_names` in `synchronous_mode: on`: PostgreSQL always waits for
//! at least those that `/sync` names (contract: patroni-ha-rules, section 9).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{CommitsWait, Look, Lsn, MemberName, Op, Span, Standby, Sync, SynchronousMode};

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
        .filter(|look| !look.in_recovery)
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
        // Of a leader in quorum mode, which waited for some of those names only.
        .filter(|sync| sync.leader.as_ref() == Some(ctx.me()) && sync.quorum == 0);
    let wished = wished(ctx, look);
    let unsure = memory.sync_put == Some((term, expected));
    let step = match (step(ctx, memory, look, published, &wished), published) {
        // Who was to be named may be named: before anybody is let go, that is made sure of by a write of what is seen.
        (Step::Set(_), Some(published)) if unsure => {
            forget(memory);
            Step::Publish(published.standbys.clone())
        }
        (step, _) => step,
    };
    match step {
        Step::Publish(standbys) => {
            memory.sync_put = Some((term, expected));
            let sync = Sync {
                leader: Some(ctx.me().clone()),
                standbys,
                quorum: 0,
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

/// The next step towards what is wished; each keeps `/sync` within what PostgreSQL waits for.
enum Step {
    /// Write `/sync`.
    Publish(Vec<MemberName>),
    /// Set `synchronous_standby_names`.
    Set(String),
    /// PostgreSQL does not wait for all of them yet.
    Wait,
    /// Nothing is left to do.
    Settled,
}

fn step(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    look: &Look,
    published: Option<&Sync>,
    wished: &[MemberName],
) -> Step {
    // A new leader vouches for nobody until PostgreSQL waits for them.
    let Some(published) = published else {
        return Step::Publish(Vec::new());
    };
    let kept: Vec<MemberName> = published
        .standbys
        .iter()
        .filter(|name| wished.contains(name))
        .cloned()
        .collect();
    if kept.len() < published.standbys.len() {
        return Step::Publish(kept);
    }
    let text = guc(ctx, wished);
    // What was told before may still be on its way, whatever PostgreSQL says now.
    if memory.sync_told.as_ref() != Some(&text) || look.synchronous_standby_names != text {
        forget(memory);
        memory.sync_told = Some(text.clone());
        return Step::Set(text);
    }
    let seen = *memory.sync_seen.get_or_insert(ctx.now());
    if ctx.now() >= seen + IN_FORCE && look.checkpointer_ready {
        memory.sync_from.get_or_insert(look.wal.flushed);
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
        return Step::Publish(in_force);
    }
    if in_force.len() < wished.len() {
        Step::Wait
    } else {
        Step::Settled
    }
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
fn wished(ctx: &Ctx<'_>, look: &Look) -> Vec<MemberName> {
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
    let count = ctx.view.settings.synchronous_node_count;
    let mut names: Vec<MemberName> = eligible
        .into_iter()
        .take(count)
        .map(|(member, ..)| member.name.clone())
        .collect();
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
