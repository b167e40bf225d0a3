//! The net holds: each deliberate bug is found within a bounded number of seeds, by an invariant that says
//! what it broke, and the same story without the bug is clean. The bounds are some five times what was
//! measured.

use pgherd_sim::{Bug, Kind, Seed, run, run_with};

/// Looks for the bug from seed 1 on; `by`: the invariants that may find it.
fn is_found(bug: Bug, kind: Kind, within: u64, by: &[&str]) {
    let mut others = Vec::new();
    for number in 1..=within {
        let seed = Seed { number, kind };
        let Some(failure) = run_with(seed, Some(bug), false).failure else {
            continue;
        };
        if by
            .iter()
            .any(|what| failure.contains(&format!("s: {what}:")))
        {
            let clean = run(seed, false);
            assert_eq!(clean.failure, None, "seed {seed} fails without {bug:?}");
            return;
        }
        others.push(format!("seed {seed}: {failure}"));
    }
    panic!("{within} seeds do not show {bug:?} by {by:?}; other failures: {others:?}");
}

macro_rules! found {
    ($($test:ident: $bug:ident within $seeds:literal $kind:ident by $($what:literal),+;)+) => {
        $(#[test]
        fn $test() {
            is_found(Bug::$bug, Kind::$kind, $seeds, &[$($what),+]);
        })+

        #[test]
        fn every_bug_is_looked_for() {
            let tested = [$(Bug::$bug),+];
            assert_eq!(tested, Bug::ALL);
        }
    };
}

found! {
    promote_without_lock: PromoteWithoutLock within 10 Plain by "promotion";
    renew_after_deadline: RenewAfterDeadline within 10 Plain by "lease clock", "lock outlived", "one primary";
    deadline_from_answer: DeadlineFromAnswer within 5 Plain by "lease clock";
    kill_only_postmaster: KillOnlyPostmaster within 1000 Plain by "lock outlived", "one primary";
    forget_to_fence: ForgetToFence within 50 Plain by "promotion", "lock outlived", "one primary";
    ignore_lag: IgnoreLag within 4000 Plain by "lag";
    start_diverged_copy: StartDivergedCopy within 20 Plain by "diverged copy";
    release_before_shutdown: ReleaseBeforeShutdown within 20 Plain by "release";
    act_on_stale_view: ActOnStaleView within 3000 Plain by "schedule", "one primary", "promotion";
    ask_one_vote_less: AskOneVoteLess within 60 Rough by "sync";
    lose_member_lease: LoseMemberLease within 5 Plain by "member key";
    old_positions: OldPositions within 4000 Plain by "healthiest";
    deny_being_primary: DenyBeingPrimary within 40 Plain by "one primary";
    take_lock_early: TakeLockEarly within 200 Plain by "one primary";
    name_sync_early: NameSyncEarly within 60 Plain by "sync";
    act_in_pause: ActInPause within 1000 Plain by "pause";
    ignore_nofailover: IgnoreNofailover within 80 Plain by "nofailover";
    hand_to_left_behind: HandToLeftBehind within 3500 Plain by "promotion";
    job_without_end: JobWithoutEnd within 80 Plain by "jobs", "convergence";
    ignore_hang: IgnoreHang within 2500 Plain by "hung";
    accept_and_race: AcceptAndRace within 250 Failsafe by "one primary", "failsafe";
}
