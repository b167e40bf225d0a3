//! The ladder: rules in order, the first answer wins, at most one disruptive action.

mod bootstrap;
mod copy_slots;
mod detached;
mod failsafe;
mod fence;
mod follow;
mod given_up;
pub(crate) mod hang;
mod identity;
mod lock_free;
mod lock_held;
mod paused;
mod reinitialize;
mod restart;
pub(crate) mod restart_order;
mod rewind;
mod shutdown;
pub(crate) mod standby_cluster;
mod starting;
pub(crate) mod switchover;
mod unguarded;

use crate::ctx::{Ctx, Verdict};
use crate::memory::Memory;

type Rule = fn(&Ctx<'_>, &mut Memory) -> Verdict;

/// Rules by name, first to last.
pub(crate) const LADDER: &[(&str, Rule)] = &[
    ("paused", paused::rule),
    ("fence", fence::rule),
    ("given_up", given_up::rule),
    ("detached", detached::rule),
    ("shutdown", shutdown::rule),
    ("reinitialize", reinitialize::rule),
    ("starting", starting::rule),
    ("bootstrap", bootstrap::rule),
    ("identity", identity::rule),
    ("failsafe", failsafe::rule),
    ("hang", hang::rule),
    ("unguarded", unguarded::rule),
    ("standby_cluster", standby_cluster::rule),
    ("switchover", switchover::rule),
    ("restart_order", restart_order::rule),
    ("restart", restart::rule),
    ("lock_held", lock_held::rule),
    ("lock_free", lock_free::rule),
    ("rewind", rewind::rule),
    ("follow", follow::rule),
];
