//! Deliberate bugs, to prove that the simulator would find them: each breaks one sentence of
//! `docs/safety.md`, in what the shipped brain sees (`misread`), in what it decided (`misdecide`), or in
//! what the hands do with that (`mishandle`). The brain itself has no hook, and no program but the
//! simulator's tests ever switches one on.

mod misdecide;
mod mishandle;
mod misread;

/// One of them; none is switched on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Whoever should take the free lock promotes instead.
    PromoteWithoutLock,
    /// A renewal that was sent counts, whether it is ever answered or not.
    RenewAfterDeadline,
    /// Deadlines count from the answer to a renewal instead of its sending.
    DeadlineFromAnswer,
    /// Agent and guard kill the postmaster and leave its children alone.
    KillOnlyPostmaster,
    /// The guard is taken for armed, and is not.
    ForgetToFence,
    /// `maximum_lag_on_failover` does not bind.
    IgnoreLag,
    /// Data that went another way are started instead of rewound or copied anew.
    StartDivergedCopy,
    /// A switchover releases the lock before PostgreSQL is down.
    ReleaseBeforeShutdown,
    /// The last picture of etcd counts as current, however old it is.
    ActOnStaleView,
    /// In quorum mode one vote less than is needed will do.
    AskOneVoteLess,
    /// Nobody keeps the member lease alive.
    LoseMemberLease,
    /// The race compares the positions that members published some time ago.
    OldPositions,
    /// A primary answers that it is a replica.
    DenyBeingPrimary,
    /// A free lock is taken although the former leader may still write.
    TakeLockEarly,
    /// `/sync` names a standby as soon as it streams.
    NameSyncEarly,
    /// A paused cluster is looked after.
    ActInPause,
    /// The tag `nofailover` is not seen by its own node.
    IgnoreNofailover,
    /// A member whose data the cluster left behind counts as one that has them.
    HandToLeftBehind,
    /// A long job that fails never ends.
    JobWithoutEnd,
    /// The lock is renewed also for a PostgreSQL that answers nothing.
    IgnoreHang,
    /// Whoever lets a leader stay in office takes the lock from it all the same.
    AcceptAndRace,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 21] = [
        Bug::PromoteWithoutLock,
        Bug::RenewAfterDeadline,
        Bug::DeadlineFromAnswer,
        Bug::KillOnlyPostmaster,
        Bug::ForgetToFence,
        Bug::IgnoreLag,
        Bug::StartDivergedCopy,
        Bug::ReleaseBeforeShutdown,
        Bug::ActOnStaleView,
        Bug::AskOneVoteLess,
        Bug::LoseMemberLease,
        Bug::OldPositions,
        Bug::DenyBeingPrimary,
        Bug::TakeLockEarly,
        Bug::NameSyncEarly,
        Bug::ActInPause,
        Bug::IgnoreNofailover,
        Bug::HandToLeftBehind,
        Bug::JobWithoutEnd,
        Bug::IgnoreHang,
        Bug::AcceptAndRace,
    ];

    /// The one of this name, as it is written above.
    pub fn named(name: &str) -> Option<Bug> {
        Bug::ALL
            .into_iter()
            .find(|bug| format!("{bug:?}").eq_ignore_ascii_case(name))
    }
}

/// What a world does wrong, if anything.
#[derive(Clone, Copy, Default)]
pub(crate) struct Wrong(pub(crate) Option<Bug>);

impl Wrong {
    pub(crate) fn is(self, bug: Bug) -> bool {
        self.0 == Some(bug)
    }

    /// Nothing.
    pub(crate) fn none(self) -> bool {
        self.0.is_none()
    }
}
