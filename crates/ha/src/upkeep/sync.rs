//! `/sync` and `synchronous_standby_names` in `synchronous_mode: on`: PostgreSQL always waits for
//! at least those that `/sync` names (contract: patroni-ha-rules, section 9).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{Look, MemberName, Op, Span, Sync, SynchronousMode};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

/// How soon to look whether a change of the GUC is in force.
const SOON: Span = Span::from_millis(100);

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
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
    let stored = cluster.sync.as_ref();
    if ctx.view.settings.synchronous_mode == SynchronousMode::Off {
        return switch_off(look, stored.map(|stored| stored.revision), term);
    }
    let expected = stored.map(|stored| stored.revision);
    let published = stored
        .map(|stored| &stored.value)
        .filter(|sync| sync.leader.as_ref() == Some(ctx.me()));
    let put = |standbys: Vec<MemberName>| {
        let sync = Sync {
            leader: Some(ctx.me().clone()),
            standbys,
            quorum: 0,
        };
        (
            vec![Action::Store(Op::PutSync {
                sync,
                expected,
                term,
            })],
            Some(ctx.now() + SOON),
        )
    };
    // A new leader vouches for nobody until PostgreSQL waits for them.
    let Some(published) = published else {
        return put(Vec::new());
    };
    let wished = wished(ctx, look);
    let kept: Vec<MemberName> = published
        .standbys
        .iter()
        .filter(|name| wished.contains(name))
        .cloned()
        .collect();
    // Removing: `/sync` first.
    if kept.len() < published.standbys.len() {
        return put(kept);
    }
    // Adding: the GUC first.
    let text = guc(ctx, &wished);
    if look.synchronous_standby_names != text {
        memory.sync_changed = Some(ctx.now());
        return (
            vec![Action::SetSynchronousStandbys(text)],
            Some(ctx.now() + SOON),
        );
    }
    let in_force: Vec<MemberName> = wished
        .iter()
        .filter(|name| waits_for(look, name))
        .cloned()
        .collect();
    if in_force != published.standbys && in_force.len() >= published.standbys.len() {
        return put(in_force);
    }
    let pending = in_force.len() < wished.len();
    (Vec::new(), pending.then(|| ctx.now() + SOON))
}

/// `/sync` goes first, then PostgreSQL waits for nobody.
fn switch_off(look: &Look, sync: Option<u64>, term: u64) -> Duty {
    if let Some(expected) = sync {
        let delete = Action::Store(Op::DeleteSync { expected, term });
        return (
            vec![delete, Action::SetSynchronousStandbys(String::new())],
            None,
        );
    }
    let _ = look;
    NOTHING
}

/// PostgreSQL counts it as synchronous.
fn waits_for(look: &Look, name: &MemberName) -> bool {
    look.standbys.iter().any(|standby| {
        standby.name.eq_ignore_ascii_case(&name.0)
            && matches!(standby.sync_state.as_str(), "sync" | "quorum")
    })
}

/// Streaming members that may be synchronous, present ones first, then by position.
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
            .then_with(|| y.flushed.cmp(&x.flushed))
            .then_with(|| a.name.cmp(&b.name))
    });
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
