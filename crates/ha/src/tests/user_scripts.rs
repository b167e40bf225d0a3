//! What programs of the user's say: `lock_held`, `lock_free` and `bootstrap`.

use alloc::vec::Vec;
use alloc::{format, vec};

use super::{check_all, decide, parse};
use crate::{Action, Memory};
use pgherd_model::{Op, PostgresState, Span, Sync, Time};

/// `lock_held`, `lock_free`: nothing was done, so nothing has to be killed, and the others go first.
#[test]
fn a_promotion_that_is_forbidden_gives_the_lock_back() {
    check_all(
        r"
        lock a | a* replica armed refused promote | b replica
        => ReleaseLeader, because lock_held: promotion forbidden: it says no; Leader key released

        # The release failed, and something else has run since.
        lock a | a* replica armed forbidden | b replica
        => ReleaseLeader, because lock_held: promotion forbidden: pre_promote has failed before; Leader key released

        lock a | a* replica armed failed promote | b replica
        => StopKill, because lock_held: promotion failed: broken; PostgreSQL is killed

        lock - former b | a* replica forbidden | b mute
        => nothing, because lock_free: pre_promote has forbidden the promotion: the others go first

        # Alone too: it would be asked again and again.
        lock - | a* replica forbidden
        => nothing, because lock_free: pre_promote has forbidden the promotion: the others go first

        # Whoever is a primary already is promoted by nobody.
        lock - | a* primary forbidden | b replica
        => AcquireLeader, because lock_free: acquired session lock as a leader
        ",
    );
}

/// `lock_free`: for `ttl`, whoever leads meanwhile.
#[test]
fn who_was_forbidden_is_a_candidate_again_after_ttl() {
    let (view, memory) = parse("lock a | a* replica armed refused promote | b replica");
    let until = decide(&view, &memory).memory.forbidden_until;
    assert_eq!(until, Some(view.now + view.settings.ttl));
    let (mut view, _) = parse("lock - | a* replica refused promote");
    let memory = Memory {
        forbidden_until: until,
        first_fresh: Some(Time::ZERO),
        ..Memory::default()
    };
    let decision = decide(&view, &memory);
    assert_eq!(decision.why.rule, "lock_free", "{}", decision.why);
    assert!(
        decision.why.reason.contains("pre_promote"),
        "{}",
        decision.why
    );
    view.now = view.now + view.settings.ttl + Span::from_secs(1);
    view.heard = view.now;
    let decision = decide(&view, &memory);
    assert!(
        !decision.why.reason.contains("pre_promote"),
        "{}",
        decision.why
    );
}

fn writes(text: &str, memory: &Memory) -> (Vec<Op>, Memory) {
    let (view, _) = parse(text);
    let decision = decide(&view, memory);
    let ops = decision
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Store(
                op @ (Op::PutSync { .. } | Op::DeleteSync { .. } | Op::ReleaseLeader { .. }),
            ) => Some(op),
            _ => None,
        });
    (ops.collect(), decision.memory)
}

/// `lock_held`: those who had everything may take over; the claim kept them from it.
#[test]
fn a_claim_on_sync_goes_back_with_the_lock() {
    let begin = "lock a sync_mode sync b:a,c | a* replica armed | b replica | c replica";
    let (_, memory) = parse(begin);
    let (claim, memory) = writes(begin, &memory);
    assert!(
        matches!(claim.as_slice(), [Op::PutSync { .. }]),
        "{claim:?}"
    );
    let claimed = "lock a sync_mode sync a: | a* replica armed";
    let (none, memory) = writes(&format!("{claimed} | b replica | c replica"), &memory);
    assert_eq!(none, []);
    let (_, memory) = writes(
        &format!("{claimed} job promote | b replica | c replica"),
        &memory,
    );
    let refused = format!("{claimed} refused promote | b replica | c replica");
    let (back, _) = writes(&refused, &memory);
    let [
        Op::PutSync {
            sync,
            expected: Some(3),
            term: 5,
        },
        Op::ReleaseLeader { .. },
    ] = back.as_slice()
    else {
        panic!("{back:?}");
    };
    let before = Sync {
        leader: Some("b".into()),
        standbys: vec!["a".into(), "c".into()],
        quorum: 0,
    };
    assert_eq!(sync, &before);
    // Whose data are made anew meanwhile has nothing of what was acknowledged.
    let copied = refused.replace("c replica", "c empty copies");
    let (back, _) = writes(&copied, &memory);
    assert!(
        matches!(back.as_slice(), [Op::PutSync { sync, .. }, _] if sync.standbys == ["a".into()]),
        "{back:?}"
    );
    // It went back, the lock did not.
    let (back, _) = writes(&refused.replace("sync a:", "sync b:a,c"), &memory);
    assert!(
        matches!(back.as_slice(), [Op::ReleaseLeader { .. }]),
        "{back:?}"
    );
    // A promotion before this one may have been obeyed.
    let (_, again) = writes(&format!("{claimed} | b replica | c replica"), &memory);
    let (kept, _) = writes(&refused, &again);
    assert!(
        matches!(kept.as_slice(), [Op::ReleaseLeader { .. }]),
        "{kept:?}"
    );
}

/// `lock_held`: where there was no `/sync` there is none again.
#[test]
fn a_claim_on_nothing_goes_back_to_nothing() {
    let begin = "lock a sync_mode | a* replica armed | b replica";
    let (_, memory) = parse(begin);
    let (_, memory) = writes(begin, &memory);
    let refused = "lock a sync_mode sync a: | a* replica armed refused promote | b replica";
    let (back, _) = writes(refused, &memory);
    assert!(
        matches!(
            back.as_slice(),
            [
                Op::DeleteSync {
                    expected: 3,
                    term: 5
                },
                Op::ReleaseLeader { .. }
            ]
        ),
        "{back:?}"
    );
}

/// `bootstrap`.
#[test]
fn a_copy_that_needs_nobody_is_made_without_a_leader() {
    check_all(
        r"
        lock - | a* empty alone | b replica
        => Clone, because bootstrap: trying to bootstrap (without leader)

        lock - initialize none | a* empty poor alone | b empty
        => Clone, because bootstrap: trying to bootstrap (without leader)

        lock - initialize none | a* empty alone | b empty
        => PutInitialize, because bootstrap: trying to bootstrap a new cluster

        lock - initialize underway | a* empty alone | b empty
        => nothing, because bootstrap: another node is creating the cluster

        lock - | a* empty alone failed clone | b replica
        => nothing, because bootstrap: copying failed, the next try is due soon

        lock b | a* empty alone | b primary
        => Clone, because bootstrap: trying to bootstrap from leader 'b'
        ",
    );
}

/// Duty `member`: as Patroni.
#[test]
fn a_custom_bootstrap_is_told_as_one() {
    for (word, state) in [
        ("custom", PostgresState::CustomBootstrap),
        ("", PostgresState::Initdb),
    ] {
        let text = format!("lock - initialize underway | a* empty claimed {word} job bootstrap");
        let (view, memory) = parse(&text);
        assert_eq!(crate::describe(&view, &memory).state, Some(state));
    }
}
