//! Somebody else holds the lock, but not as a member of the cluster does, or publishes no address that
//! can be used: what to tell people.
//!
//! Nothing is decided here: such a lock is respected like any other. Nobody may take it away from
//! its holder but etcd (its lease runs out) or a person.

use alloc::format;
use alloc::string::String;
use pgherd_model::{Leader, Member};

use crate::ctx::Ctx;
use crate::decision::Severity;
use crate::memory::Memory;

/// What is wrong with the lock of somebody else, and what to do.
pub(crate) fn trouble(ctx: &Ctx<'_>, memory: &Memory) -> Option<(Severity, String)> {
    let leader = ctx.other_leader().filter(|_| !ctx.promised)?;
    let member = ctx.cluster()?.member(&leader.name).is_some();
    if leader.lease == 0 {
        // A member that lives puts its lock under its lease at once.
        let since = memory.leaseless_since.unwrap_or(ctx.now());
        if member && ctx.now().since(since) < ctx.view.settings.lease_ttl {
            return None;
        }
        return Some((Severity::Error, for_ever(ctx, leader, member)));
    }
    if member {
        return None;
    }
    let (name, key) = (&leader.name, &ctx.view.identity.leader_key);
    let text = format!(
        "{name} holds the lock and is no member of this cluster ({key}, made at revision {}, lease {:x}): \
         waiting until {name} publishes its member key, or the lock ends with its lease; \
         if {name} does not run any more, but its lease lives on, remove the key: etcdctl del {key}",
        leader.create_revision, leader.lease
    );
    Some((Severity::Warning, text))
}

/// The member's key has a `conn_url` that is none.
pub(crate) fn no_address(ctx: &Ctx<'_>, member: &Member) -> String {
    let name = &member.name;
    let path = &ctx.view.identity.leader_key;
    let path = path.strip_suffix("leader").unwrap_or(path);
    format!(
        "{name} cannot be reached: {path}members/{name} has the conn_url {:?}, expected \
         postgres://HOST:PORT/DATABASE: correct postgresql.connect_address of {name} and restart its \
         agent, which writes the key anew",
        member.conn_url
    )
}

fn for_ever(ctx: &Ctx<'_>, leader: &Leader, member: bool) -> String {
    let (name, key) = (&leader.name, &ctx.view.identity.leader_key);
    let who = if member {
        "which does not put it under a lease of its own"
    } else {
        "which is no member of this cluster"
    };
    format!(
        "the lock WITHOUT A LEASE is held by {name}, {who} ({key}, made at revision {}): it never goes \
         away by itself and nobody can take over; once it is certain that no PostgreSQL of {name} is \
         primary, remove it: etcdctl del {key}",
        leader.create_revision
    )
}
