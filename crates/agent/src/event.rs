//! What wakes the loop, besides the lock service and time.

use pgherd_ha::{Outcome, PeerFact, RemoteHistory};
use pgherd_model::{MemberName, SystemId, Time};

use crate::reload::Reloaded;
use crate::snapshot::Order;
use crate::upgrade::Wish;

/// Something that a task beside the loop has to tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// Look again.
    WakeUp,
    /// PostgreSQL was told to read its configuration again.
    ServerReloaded,
    /// A long job ended.
    JobEnded {
        /// Which one: the counter of jobs.
        number: u64,
        /// How.
        outcome: Outcome,
    },
    /// The bootstrap has produced this cluster.
    Bootstrapped(SystemId),
    /// A peer answered, or did not; in words.
    Peer(MemberName, PeerFact, String),
    /// All peers of one question have answered or not.
    AskingEnded,
    /// A history was read, or not.
    History(RemoteHistory),
    /// This postmaster has ended.
    PostmasterGone(u32),
    /// The guard process has ended.
    GuardGone,
    /// The member lease was kept alive, as was asked then.
    MemberKept(Time),
    /// PostgreSQL committed a probe that was begun then.
    Probed(Time),
    /// PostgreSQL answers the probe by a refusal; when it was asked, and its words.
    ProbeRefused(Time, String),
    /// The probe failed.
    ProbeFailed(String),
    /// The configuration was read again.
    Reloaded(Box<Reloaded>),
    /// Somebody asks for a restart or a new copy.
    Asked(Box<Order>),
    /// Another program is to take over, and was found to run.
    Upgrade(Wish),
    /// SIGTERM or SIGINT.
    Shutdown,
}

impl Event {
    /// Whether the loop looks at once for it; `calm`: where it has found that nothing is to be done.
    pub(crate) fn is_worth_a_look(&self, calm: bool) -> bool {
        match self {
            // One answer of several decides nothing yet.
            Event::Peer(..) | Event::MemberKept(_) => false,
            // As expected.
            Event::Probed(_) => !calm,
            Event::WakeUp
            | Event::ServerReloaded
            | Event::JobEnded { .. }
            | Event::Bootstrapped(_)
            | Event::AskingEnded
            | Event::History(_)
            | Event::PostmasterGone(_)
            | Event::GuardGone
            | Event::ProbeRefused(..)
            | Event::ProbeFailed(_)
            | Event::Reloaded(_)
            | Event::Asked(_)
            | Event::Upgrade(_)
            | Event::Shutdown => true,
        }
    }
}
