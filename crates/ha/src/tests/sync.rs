//! `/sync` over several looks: nobody is named before every commit is known to wait for him.

use super::*;
use crate::Action;

/// The orders about synchronous standbys of the next look, `millis` after the last.
fn next(view: &mut View, memory: &mut Memory, millis: u64) -> Vec<String> {
    view.now = view.now + Span::from_millis(millis);
    view.local.probed = Some(view.now);
    if let Some(lease) = &mut view.lease {
        lease.sent = view.now;
    }
    let decision = decide(view, memory);
    *memory = decision.memory;
    let orders = decision.actions.into_iter();
    orders
        .filter_map(|action| match action {
            Action::SetSynchronousStandbys(names) => Some(format!("set {names}")),
            Action::Store(Op::PutSync { sync, .. }) => {
                let names: Vec<&str> = sync.standbys.iter().map(MemberName::as_str).collect();
                let names = names.join(",");
                Some(match sync.quorum {
                    0 => format!("publish {names}"),
                    quorum => format!("publish {names}/{quorum}"),
                })
            }
            _ => None,
        })
        .collect()
}

const NOTHING: [&str; 0] = [];

/// `synchronous_standby_names` as sessions know it.
fn says(view: &mut View, names: &str) {
    view.local.look.as_mut().unwrap().synchronous_standby_names = names.into();
}

fn flushed(view: &mut View, own: u64, standby: u64) {
    let look = view.local.look.as_mut().unwrap();
    look.wal.flushed = Lsn(own);
    for it in &mut look.standbys {
        it.flushed = Lsn(standby);
    }
}

/// The picture shows that `/sync` was written since.
fn is_at(view: &mut View, revision: u64) {
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    cluster.sync.as_mut().unwrap().revision = revision;
}

const TEXT: &str =
    "lock a sync_mode sync a: | a* primary armed waits b | b replica attached synced";

/// `sync`: sessions say so at once; two seconds later, with the checkpointer at rest, all do.
#[test]
fn nobody_is_named_before_all_of_postgresql_waits_for_him() {
    let (mut view, mut memory) = parse(TEXT);
    // An agent that has just come knows nothing of orders that are on their way.
    assert_eq!(next(&mut view, &mut memory, 0), ["set b"]);
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    assert_eq!(next(&mut view, &mut memory, 1900), NOTHING);
    let ready = |view: &mut View, ready| {
        view.local.look.as_mut().unwrap().checkpointer_ready = ready;
    };
    ready(&mut view, false);
    assert_eq!(next(&mut view, &mut memory, 5000), NOTHING);
    // From then on he must have everything.
    ready(&mut view, true);
    flushed(&mut view, 80, 70);
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    flushed(&mut view, 90, 80);
    assert_eq!(next(&mut view, &mut memory, 100), ["publish b"]);
}

/// `sync`: the order before is still on its way when PostgreSQL says what is wished again.
#[test]
fn an_order_on_its_way_is_not_in_force() {
    let (mut view, mut memory) = parse(TEXT);
    next(&mut view, &mut memory, 0);
    next(&mut view, &mut memory, 100);
    assert_eq!(next(&mut view, &mut memory, 2000), ["publish b"]);
    assert!(memory.sync_from.is_some());
    // Etcd has refused that.
    is_at(&mut view, 4);
    // He is gone: nobody is to be waited for. He is back before that is in force.
    let standbys = core::mem::take(&mut view.local.look.as_mut().unwrap().standbys);
    assert_eq!(next(&mut view, &mut memory, 100), ["set "]);
    view.local.look.as_mut().unwrap().standbys = standbys;
    assert_eq!(next(&mut view, &mut memory, 100), ["set b"]);
    says(&mut view, "");
    assert_eq!(next(&mut view, &mut memory, 100), ["set b"]);
    says(&mut view, "b");
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    assert_eq!(next(&mut view, &mut memory, 1900), NOTHING);
    assert_eq!(next(&mut view, &mut memory, 100), ["publish b"]);
}

/// `sync`: the answer to a change of `/sync` was lost. Who may be named there is waited for until that is known.
#[test]
fn nobody_is_let_go_who_may_be_named() {
    let (mut view, mut memory) = parse(TEXT);
    next(&mut view, &mut memory, 0);
    next(&mut view, &mut memory, 100);
    assert_eq!(next(&mut view, &mut memory, 2000), ["publish b"]);
    view.local.look.as_mut().unwrap().standbys.clear();
    // Refused, if it had been made.
    assert_eq!(next(&mut view, &mut memory, 100), ["publish "]);
    assert_eq!(next(&mut view, &mut memory, 100), ["publish "]);
    is_at(&mut view, 4);
    assert_eq!(next(&mut view, &mut memory, 100), ["set "]);
}

/// `sync`: what was known ends with the lock.
#[test]
fn another_term_begins_anew() {
    let (mut view, mut memory) = parse(TEXT);
    next(&mut view, &mut memory, 0);
    next(&mut view, &mut memory, 100);
    assert!(memory.sync_seen.is_some());
    let (standby, _) = parse("lock b sync_mode sync b: | a* replica from b | b primary");
    let memory = decide(&standby, &memory).memory;
    assert_eq!(
        (memory.sync_told, memory.sync_seen, memory.sync_from),
        (None, None, None)
    );
}

/// The picture shows this in `/sync`.
fn published(view: &mut View, names: &[&str], quorum: usize) {
    let Dcs::Fresh(cluster) = &mut view.dcs else {
        panic!("{:?}", view.dcs)
    };
    let sync = cluster.sync.as_mut().unwrap();
    sync.value.standbys = names.iter().map(|name| MemberName::from(*name)).collect();
    sync.value.quorum = quorum;
    sync.revision += 1;
}

/// `sync` in quorum mode: PostgreSQL waits for one of two before `/sync` asks for the vote of the other.
#[test]
fn votes_are_asked_for_once_postgresql_waits_for_copies() {
    let text = "lock a quorum_mode sync a: | a* primary armed | b replica attached synced | c replica attached synced";
    let (mut view, mut memory) = parse(text);
    assert_eq!(next(&mut view, &mut memory, 0), ["set ANY 1 (b,c)"]);
    says(&mut view, "ANY 1 (b,c)");
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    // One of them has what was acknowledged before, which is enough.
    flushed(&mut view, 80, 70);
    view.local.look.as_mut().unwrap().standbys[0].flushed = Lsn(80);
    assert_eq!(next(&mut view, &mut memory, 2000), ["publish b,c/1"]);
    published(&mut view, &["b", "c"], 1);
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    // One is lost: both votes go on to be needed until PostgreSQL waits for the other.
    view.local.look.as_mut().unwrap().standbys.truncate(1);
    assert_eq!(next(&mut view, &mut memory, 100), ["set ANY 1 (b)"]);
    says(&mut view, "ANY 1 (b)");
    assert_eq!(next(&mut view, &mut memory, 100), NOTHING);
    assert_eq!(next(&mut view, &mut memory, 2000), ["publish b"]);
    published(&mut view, &["b"], 0);
    // The last one too: nobody may take over before commits wait for nobody.
    view.local.look.as_mut().unwrap().standbys.clear();
    assert_eq!(next(&mut view, &mut memory, 100), ["publish "]);
    published(&mut view, &[], 0);
    assert_eq!(next(&mut view, &mut memory, 100), ["set "]);
}

/// Of the priority list all had every row: who is added asks for a vote first.
#[test]
fn a_list_becomes_a_quorum() {
    let text = "lock a quorum_mode sync a:b | a* primary armed waits b | b replica attached synced | c replica attached";
    let (mut view, mut memory) = parse(text);
    assert_eq!(next(&mut view, &mut memory, 0), ["publish b,c/1"]);
    published(&mut view, &["b", "c"], 1);
    assert_eq!(next(&mut view, &mut memory, 100), ["set ANY 1 (b,c)"]);
}

/// Every `/sync` on the way holds for what PostgreSQL may have been told before, and for what it is told: counted through
/// for up to four standbys.
#[test]
fn any_votes_meet_a_copy() {
    let name = |index: usize| MemberName(format!("n{index}"));
    let set = |bits: usize| {
        (0..4)
            .filter(|it| bits >> it & 1 == 1)
            .map(name)
            .collect::<Vec<_>>()
    };
    let holds = |sync: &Sync, waited: &[MemberName], count: usize| {
        let more = waited.iter().filter(|it| !sync.standbys.contains(it));
        let all = sync.standbys.len() + more.count();
        sync.standbys.is_empty() || sync.quorum + count >= all
    };
    for (old, new) in (0..16).flat_map(|old| (0..16).map(move |new| (old, new))) {
        let (old, new) = (set(old), set(new));
        for (before, after) in
            (0..=old.len()).flat_map(|it| (0..=new.len()).map(move |to| (it, to)))
        {
            let published = Sync {
                leader: Some("a".into()),
                standbys: old.clone(),
                quorum: old.len() - before,
            };
            let (standbys, quorum) = crate::upkeep::strict_enough(&published, &new, after);
            let sync = Sync {
                standbys,
                quorum,
                ..published
            };
            assert!(holds(&sync, &old, before), "{sync:?} {old:?} {before}");
            assert!(holds(&sync, &new, after), "{sync:?} {new:?} {after}");
        }
    }
}
