//! `/failsafe`: everybody with an `api_url`, written by the leader while all is well (contract: patroni-dcs, section 1).
//! Where the mode is off nobody is named: whoever is not named would have to wait for those who are.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use pgherd_model::{Cluster, Op, Time};

use crate::ctx::{Ctx, Lock};
use crate::decision::Action;
use crate::failsafe::Ordered;
use crate::memory::Memory;
use crate::upkeep::{Duty, NOTHING};

pub(crate) fn duty(ctx: &Ctx<'_>, memory: &mut Memory) -> Duty {
    let (Lock::Mine { term }, Some(cluster)) = (ctx.lock, ctx.view.fresh()) else {
        return NOTHING;
    };
    // Nobody is named anew while a round counts in which he was not asked: renewals come first.
    let leads = ctx.view.is_primary() || ctx.leads_in_recovery();
    if !leads || ctx.extension.is_some() {
        return NOTHING;
    }
    let on = ctx.view.settings.failsafe_mode;
    let (members, again) = match on {
        true => wished(ctx, cluster, memory),
        false => {
            memory.failsafe_absent.clear();
            (BTreeMap::new(), None)
        }
    };
    let Some(standing) = &mut memory.failsafe else {
        return NOTHING;
    };
    let untouched = standing.revision == standing.first;
    let stored = &standing.members;
    // A change that may have been made, or not, is settled by a write, whatever is wished by now.
    let settled = standing.ordered.is_none();
    if *stored == members && settled && !(on && untouched) {
        return (vec![], again);
    }
    let ordered = standing.ordered.get_or_insert_with(|| Ordered {
        expected: standing.revision,
        ..Ordered::default()
    });
    ordered.members.extend(members.clone());
    ordered.emptied |= members.is_empty();
    let put = Op::PutFailsafe {
        members,
        expected: standing.revision,
        term,
    };
    (vec![Action::Store(put)], again)
}

/// Who is here; and who was named before and has had no key for less than `ttl`: after an outage of the lock service
/// they all come back one by one, and whoever is not named may not take over from a leader that is lost then.
fn wished(
    ctx: &Ctx<'_>,
    cluster: &Cluster,
    memory: &mut Memory,
) -> (BTreeMap<String, String>, Option<Time>) {
    let ttl = ctx.view.settings.ttl;
    let present = ctx.others().map(|member| (&member.name, &member.api_url));
    let own = (ctx.me(), &ctx.view.identity.api_url);
    let mut members: BTreeMap<String, String> = present
        .chain([own])
        .filter(|(_, url)| !url.is_empty())
        .map(|(name, url)| (String::from(name.as_str()), url.clone()))
        .collect();
    let mut again: Option<Time> = None;
    let absent = core::mem::take(&mut memory.failsafe_absent);
    for (name, url) in cluster.failsafe.iter().flat_map(|stored| &stored.value) {
        if members.contains_key(name) {
            continue;
        }
        let since = absent.get(name).copied().unwrap_or(ctx.now());
        let gone = since + ttl;
        if ctx.now() < gone {
            members.insert(name.clone(), url.clone());
            again = Some(again.map_or(gone, |at| at.min(gone)));
        }
        memory.failsafe_absent.insert(name.clone(), since);
    }
    (members, again)
}
