//! The fence: kills a primary whose lock has run out, even when the agent hangs or is killed
//! (architecture, "Safety" 1 to 3).
//!
//! Three parts:
//! - [`procs`] finds every process of a data directory;
//! - [`kill`] executes the steps of `pgherd_ha::fence` on them, and blocks until none is left;
//! - the guard process ([`main`], the hidden subcommand `pgherd guard --data-dir=DIR`) does so
//!   when a deadline passes; [`Guard`] is the agent's handle of it.
//!
//! # The guard process
//! It is a child of the agent in a session of its own. Its standard input is one end of a
//! `SOCK_SEQPACKET` pair whose other end the agent keeps; standard error is the agent's. It keeps
//! no file anywhere: data directories are copied, and their files with them.
//!
//! Messages have a fixed size (`message.rs`) and are applied in the order in which they were
//! sent, all of them before a deadline is judged, by a clock that was read before:
//!
//! | agent says | effect | answer |
//! |---|---|---|
//! | `Arm { postmaster, deadline }` | armed with exactly this deadline, earlier or later | `Armed` |
//! | `Extend { deadline }` | moves the deadline later, never earlier; ignored unless armed | `Armed`, else `Disarmed` |
//! | `Disarm` | nothing is due | `Disarmed` |
//! | `Ping` | none | `Armed` or `Disarmed` |
//!
//! A late `Extend` therefore errs on the side of killing. None is lost: a guard that has no room for
//! one is killed ([`Guard::extend`]). At the deadline (absolute, on CLOCK_BOOTTIME, so time spent
//! suspended counts) it kills everything of the data directory, writes one line to standard error and
//! says `Fired`; after that it is disarmed.
//!
//! | event | what it does |
//! |---|---|
//! | the agent's end closes while it is armed | it goes on guarding to the deadline, kills, exits; exits at once when postmaster and children are gone before |
//! | the same while it is disarmed | exits |
//! | SIGTERM (default action: only its own user or root can send it) | exits without killing |
//! | the postmaster dies while the agent lives | stays armed: the next postmaster in that directory is guarded too |
//!
//! A restarted agent starts and arms a guard of its own, then ends the old one with
//! [`Guard::supersede_others`]. Two guards at a time are harmless: the earlier deadline counts.
//!
//! # Traps
//! - Disarm before PostgreSQL may run on without the lock (pause, demotion to a replica).
//! - The agent must treat the death of the guard ([`Guard::pidfd`] becomes readable) like the loss
//!   of the lock's protection, and one that leaves orders unanswered ([`Guard::silent_since`]) like it.
//!   Another one is armed first and the silent one killed then ([`Guard::kill`]): until that it was
//!   sent every extension, so it fires in between only if the lock has run out indeed.
//! - A service manager that signals the whole control group (systemd's default `KillMode`) ends
//!   the guard with the agent: use `KillMode=process`, as for Patroni.
//! - A guard that was ended while it killed can leave a stopped postmaster: whoever finds a
//!   postmaster in state `T` kills it.
#![warn(missing_docs)]

mod handle;
mod harden;
mod keeper;
mod kill;
mod message;
mod options;
mod process;
pub mod procs;
mod supersede;

pub use handle::{Fired, Guard, Said};
pub use kill::{KillError, Killed, kill, kill_as_planned};
pub use options::Options;
pub use process::{Compose, main};

/// The program that runs now, also when its file has been replaced or removed since: what an agent
/// starts its guard from, so that both are of one version.
pub const RUNNING_PROGRAM: &str = "/proc/self/exe";

/// What a guard is called in lists of processes.
pub(crate) const NAME: &std::ffi::CStr = c"pgherd";
