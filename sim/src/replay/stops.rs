//! Where one can stop: rules, actions and invariants by name.

use super::Mark;
use crate::RULES;

/// Actions and long jobs by the names that logs and journals show.
pub const ACTIONS: [&str; 44] = [
    "AcquireLeader",
    "ReattachLeader",
    "ReleaseLeader",
    "PutMember",
    "PutInitialize",
    "DeleteInitialize",
    "PutConfig",
    "PutStatus",
    "PutSync",
    "DeleteSync",
    "PutFailover",
    "PutFailsafe",
    "PutHistory",
    "LookAtLease",
    "Refresh",
    "AskPeers",
    "AskHistory",
    "Bootstrap",
    "Clone",
    "StartPrimary",
    "StartStandby",
    "StopFast",
    "StopImmediate",
    "StopKill",
    "Promote",
    "CrashRecovery",
    "Rewind",
    "RemoveData",
    "CopySlots",
    "SetUpstream",
    "StopReceiving",
    "EndSenders",
    "ArmGuard",
    "TryGuard",
    "DisarmGuard",
    "ReserveTimelines",
    "CreateSlot",
    "DropSlot",
    "AdvanceSlot",
    "CreateLogicalSlot",
    "AdvanceLogicalSlot",
    "SetSynchronousStandbys",
    "Checkpoint",
    "Exit",
];

/// Invariants by the words that a failure begins with.
pub const INVARIANTS: [&str; 25] = [
    "config",
    "convergence",
    "diverged copy",
    "failsafe",
    "fence",
    "guard",
    "healthiest",
    "hung",
    "idle",
    "jobs",
    "lag",
    "lease clock",
    "lock outlived",
    "member key",
    "nofailover",
    "one primary",
    "pause",
    "promotion",
    "release",
    "rest",
    "rows",
    "schedule",
    "sync",
    "timelines",
    "it never ends",
];

/// What to stop at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop(Mark);

impl Stop {
    /// What this name means; `broken` is any invariant.
    ///
    /// # Errors
    /// There is nothing of that name: the known ones.
    pub fn named(name: &str) -> Result<Stop, String> {
        let same = |known: &&str| known.eq_ignore_ascii_case(name);
        let find = |known: &[&str]| known.iter().find(|it| same(it)).map(|it| (*it).to_owned());
        let mark = find(&RULES)
            .map(Mark::Rule)
            .or_else(|| find(&ACTIONS).map(Mark::Action))
            .or_else(|| find(&INVARIANTS).map(Mark::Broken))
            .or_else(|| same(&"broken").then(|| Mark::Broken(String::new())));
        mark.map(Stop).ok_or_else(|| {
            format!(
                "there is no rule, action or invariant {name:?}\nrules: {}\nactions: {}\ninvariants: broken (any of \
                 them), {}",
                RULES.join(", "),
                ACTIONS.join(", "),
                INVARIANTS.join(", ")
            )
        })
    }

    /// One of these is what was meant.
    pub(super) fn hits(&self, marks: &[Mark]) -> bool {
        marks.iter().any(|mark| match (&self.0, mark) {
            (Mark::Broken(any), Mark::Broken(_)) if any.is_empty() => true,
            (wanted, mark) => wanted == mark,
        })
    }
}

/// The invariant that a failure names.
pub(super) fn broken(failure: &str) -> Mark {
    let named = INVARIANTS.iter().find(|name| failure.starts_with(**name));
    Mark::Broken(named.map_or_else(String::new, |name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Stop::named("promotes").err().unwrap_or_default();
        assert!(error.starts_with(
            "there is no rule, action or invariant \"promotes\"\nrules: paused, fence"
        ));
        assert!(error.contains("StopKill, Promote, CrashRecovery"));
        assert!(error.contains("one primary, pause, promotion"));
    }

    #[test]
    fn names_mean_what_they_say() {
        let promote = Stop::named("promote").unwrap_or_else(|error| panic!("{error}"));
        assert!(promote.hits(&[Mark::Rule("follow".into()), Mark::Action("Promote".into())]));
        assert!(!promote.hits(&[Mark::Rule("Promote".into())]));
        let any = Stop::named("broken").unwrap_or_else(|error| panic!("{error}"));
        assert!(any.hits(&[broken("lag: a is promoted")]));
        assert!(!any.hits(&[Mark::Rule("fence".into())]));
    }
}
