//! The duties beside the ladder, each asked alone.

use alloc::format;
use alloc::string::{String, ToString};

use super::parse;
use crate::ctx::Ctx;
use crate::upkeep::DUTIES;

/// What one duty orders.
fn of(duty: &str, view: &str) -> String {
    let (view, mut memory) = parse(view);
    crate::race::remember_former(&Ctx::new(&view, &memory), &mut memory);
    let ctx = Ctx::new(&view, &memory);
    let (_, ask) = DUTIES.iter().find(|(name, _)| *name == duty).unwrap();
    let (actions, _) = ask(&ctx, &mut memory);
    let names: alloc::vec::Vec<String> = actions
        .iter()
        .map(|action| match action {
            crate::Action::Store(_) | crate::Action::AskPeers(_) => action.name().to_string(),
            _ => format!("{action:?}"),
        })
        .collect();
    if names.is_empty() {
        "nothing".to_string()
    } else {
        names.join(" + ")
    }
}

#[test]
fn each_orders_something_only_when_fact_and_wish_differ() {
    for (duty, view, expected) in [
        (
            "guard",
            "lock a optime 50 | a* primary | b replica",
            "ArmGuard { pid: 4711 }",
        ),
        (
            "guard",
            "lock b | a* replica from b armed | b primary",
            "DisarmGuard",
        ),
        (
            "guard",
            "lock - | a* crashed armed job start_primary | b replica",
            "nothing",
        ),
        (
            "member",
            "lock b | a* replica tl2 from b | b primary",
            "PutMember",
        ),
        (
            "member",
            "unreachable lock b | a* replica tl2 from b | b primary",
            "nothing",
        ),
        (
            "sight",
            "lock b | a* replica from b | b primary",
            "LookAtLease",
        ),
        (
            "sight",
            "lock b | a* replica from b nofailover | b primary",
            "nothing",
        ),
        (
            "peers",
            "lock b | a* replica from b broken | b primary unasked | c replica unasked",
            "AskPeers",
        ),
        (
            "peers",
            "lock b | a* replica from b | b primary unasked | c replica unasked",
            "nothing",
        ),
        (
            "request",
            "lock a failover c>b | a* primary armed | b replica",
            "PutFailover",
        ),
        (
            "request",
            "lock a failover >b | a* primary armed | b replica mute",
            "nothing",
        ),
        (
            "slots",
            "lock a | a* primary armed | b replica",
            r#"CreateSlot("b")"#,
        ),
        (
            "slots",
            "lock a | a* primary armed slot old | b replica",
            r#"CreateSlot("b") + DropSlot("old")"#,
        ),
        (
            "slots",
            "lock - | a* replica slot old | b replica mute",
            "nothing",
        ),
        (
            "sync",
            "lock a sync_mode | a* primary armed | b replica attached",
            "PutSync",
        ),
        (
            "sync",
            "lock a sync_mode sync b:a | a* primary armed | b replica attached",
            "PutSync",
        ),
        (
            "sync",
            "lock a sync_mode sync a: | a* primary armed | b replica attached",
            r#"SetSynchronousStandbys("b")"#,
        ),
        (
            "sync",
            "lock a sync_mode sync a: | a* primary armed waits b | b replica attached synced",
            "PutSync",
        ),
        (
            "sync",
            "lock a sync_mode sync a:b | a* primary armed waits b | b replica",
            "PutSync",
        ),
        (
            "sync",
            "lock a sync a:b | a* primary armed waits b | b replica attached synced",
            r#"DeleteSync + SetSynchronousStandbys("")"#,
        ),
        (
            "history",
            "lock a | a* primary tl2 armed | b replica",
            "PutHistory",
        ),
        (
            "config",
            "lock a noconfig | a* primary armed | b replica",
            "PutConfig",
        ),
        (
            "checkpoint",
            "lock a | a* primary tl2 control 1 armed | b replica",
            "Checkpoint",
        ),
        (
            "status",
            "lock a optime 10 | a* primary armed | b replica",
            "PutStatus",
        ),
    ] {
        assert_eq!(of(duty, view), expected, "{duty}: {view}");
    }
}
