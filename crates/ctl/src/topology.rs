//! `topology`: who replicates from whom.

use crate::args::TopologyArgs;
use crate::error::CtlError;
use crate::list::{Shape, looks, render};
use crate::session::{Seen, Session};
use crate::watch::Watch;
use serde_json::{Map, Value};

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &TopologyArgs) -> Result<(), CtlError> {
    let watch = Watch::new(session.persona, args.watch2, args.watch)?;
    let shown = |seen: &Seen| render(&seen.cluster, &seen.scope, seen.mode(), Shape::Tree);
    looks(session, &args.clusters, &watch, false, shown).await
}

type Member = Map<String, Value>;

/// Members in the order in which they are drawn, each with what stands before its name. Whoever
/// names no upstream that is there hangs below the leader.
pub(crate) fn tree<'a>(members: &[&'a Member]) -> Vec<(String, &'a Member)> {
    let mut drawn = Vec::new();
    let leads = |member: &&&Member| matches!(text(member, "role"), "leader" | "standby_leader");
    let leader = members.iter().find(leads).map(|member| name(member));
    if let Some(leader) = leader {
        let found = members.iter().find(|member| name(member) == leader);
        drawn.extend(found.map(|member| (String::new(), *member)));
    }
    let below = |upstream: Option<&str>| -> Vec<&'a Member> {
        let others = members.iter().filter(|member| Some(name(member)) != leader);
        others
            .filter(|member| parent(members, leader, member) == upstream)
            .copied()
            .collect()
    };
    for member in below(leader) {
        push(&mut drawn, member, 0, &below);
    }
    // Two that name each other hang nowhere; patronictl leaves them out.
    for member in members {
        push(&mut drawn, member, 0, &below);
    }
    drawn
}

fn push<'a>(
    drawn: &mut Vec<(String, &'a Member)>,
    member: &'a Member,
    depth: usize,
    below: &dyn Fn(Option<&str>) -> Vec<&'a Member>,
) {
    if drawn.iter().any(|(_, known)| name(known) == name(member)) {
        return;
    }
    drawn.push((format!("{}+ ", "  ".repeat(depth)), member));
    for next in below(Some(name(member))) {
        push(drawn, next, depth + 1, below);
    }
}

fn parent<'a>(
    members: &[&'a Member],
    leader: Option<&'a str>,
    member: &'a Member,
) -> Option<&'a str> {
    let named = member
        .get("tags")
        .and_then(|tags| tags.get("replicatefrom"));
    let named = named.and_then(Value::as_str);
    let there = |wanted: &&str| members.iter().any(|other| name(other) == *wanted);
    named
        .filter(|wanted| *wanted != name(member))
        .filter(there)
        .or(leader)
}

fn name(member: &Member) -> &str {
    text(member, "name")
}

fn text<'a>(member: &'a Member, key: &str) -> &'a str {
    member.get(key).and_then(Value::as_str).unwrap_or_default()
}
