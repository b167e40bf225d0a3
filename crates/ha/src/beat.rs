//! Signs of life that nobody has to ask for: whoever holds the lock writes `status` every loop_wait, and the
//! watch brings that to everybody. Where a lease lives much longer than loop_wait, what is asked for is asked
//! only when such a sign stays away: whether the picture is current, and the lease of the lock.
//!
//! It is never a proof. What a promotion is decided on is asked for as always (`race`): signs of life only say
//! when nobody needs to ask. A holder without them (genuine Patroni writes `status` only when it has moved) is
//! asked about all the time.

use pgherd_model::{Settings, Span, Time};
use serde::{Deserialize, Serialize};

use crate::ctx::{Ctx, Lock};
use crate::decision::Severity;
use crate::memory::Memory;
use crate::race;

/// How late a sign may come, and how long it takes to find out by asking why it has not.
const LATE: Span = Span::from_secs(1);
const FOUND_OUT: Span = Span::from_secs(3);
/// A picture of which nothing was heard for so long is not current, however short the lease.
const STALE: Span = Span::from_secs(4);

/// The last sign of life of one holder of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Term of the lock.
    pub term: u64,
    /// Revision of `status`.
    pub revision: u64,
    /// When it was seen to move; `None`: it has not moved yet.
    pub at: Option<Time>,
}

/// How long one may do without news before something is asked; `None`: one may not, since the lease is over too
/// soon after that.
pub fn rest(settings: &Settings) -> Option<Span> {
    let rest = settings.loop_wait + LATE;
    // Before a guard fires everybody should be looking.
    (rest + FOUND_OUT <= settings.lease_ttl * 3 / 4).then_some(rest)
}

/// From when on a picture is not current of which nothing was heard since.
pub fn stale_after(settings: &Settings) -> Span {
    let rest = rest(settings).map_or(Span::ZERO, |rest| rest + FOUND_OUT);
    STALE.max(settings.lease_ttl / 2).max(rest)
}

/// How long after its last keepalive the member lease is kept alive again. Failed tries are repeated until it is
/// over, and what is left then is more than `retry_timeout` with Patroni's default times: a synchronous standby
/// whose key goes is one that nobody waits for any more.
pub(crate) fn member_pause(settings: &Settings) -> Span {
    match rest(settings) {
        Some(_) => settings.ttl * 3 / 5,
        None => settings.loop_wait.min(settings.ttl / 3),
    }
}

/// How soon a keepalive of the member lease that was not answered is repeated.
const MEMBER_AGAIN: Span = Span::from_secs(2);

/// What an agent has done to keep its member lease alive. Past times, so that the settings of now say when it is due
/// again: after a shorter `ttl` the pause of the longer one would let the lease run out.
#[derive(Clone, Copy, Debug, Default)]
pub struct MemberCare {
    /// When the last keepalive was sent; `None`: none was. A lease that was handed over may be near its end.
    pub sent: Option<Time>,
    /// When the last one was sent that was answered.
    pub kept: Option<Time>,
    /// The `ttl` of then: whoever stops PostgreSQL puts no key for a while, and so goes on with a lease of that life.
    pub ttl: Span,
}

impl MemberCare {
    /// The keepalive that was sent then was answered; with `ttl` as it is now.
    pub fn answered(&mut self, sent: Time, ttl: Span) {
        self.kept = self.kept.max(Some(sent));
        self.ttl = ttl;
    }

    /// Whether the lease is to be kept alive now.
    pub fn is_due(&self, now: Time, settings: &Settings) -> bool {
        let pause = member_pause(settings);
        let due = match (self.kept, self.sent) {
            (_, None) => Time::ZERO,
            (Some(kept), Some(sent)) if kept >= sent && self.ttl == settings.ttl => kept + pause,
            (_, Some(sent)) => sent + pause.min(MEMBER_AGAIN),
        };
        now >= due
    }
}

/// Keeps when the holder of the lock, somebody else, last gave a sign of life.
pub(crate) fn note(ctx: &Ctx<'_>, memory: &mut Memory) {
    let leader = ctx.other_leader().filter(|_| !ctx.promised);
    let (Some(cluster), Some(leader)) = (ctx.view.fresh(), leader) else {
        memory.beat = None;
        return;
    };
    let revision = cluster.status.as_ref().map_or(0, |status| status.revision);
    let term = leader.create_revision;
    match &mut memory.beat {
        Some(beat) if beat.term == term && beat.revision == revision => {}
        Some(beat) if beat.term == term => (beat.revision, beat.at) = (revision, Some(ctx.now())),
        _ => {
            memory.beat = Some(Beat {
                term,
                revision,
                at: None,
            });
        }
    }
}

/// Until when the holder of the lock need not be asked about; `None`: it is to be.
pub(crate) fn until(ctx: &Ctx<'_>, memory: &Memory) -> Option<Time> {
    let beat = memory.beat.as_ref()?;
    let until = beat.at? + rest(&ctx.view.settings)?;
    (race::suspect_since(memory).is_none() && ctx.now() < until).then_some(until)
}

/// What the lock service is to be asked by itself, after a decision: nothing while there are news at least this
/// often, or all the time.
pub(crate) fn rest_of(ctx: &Ctx<'_>, memory: &Memory, severity: Severity) -> Option<Span> {
    let view = ctx.view;
    let led = matches!(ctx.lock, Lock::Mine { .. } | Lock::Other(_)) && !ctx.promised;
    let calm = led
        && severity == Severity::Routine
        && race::suspect_since(memory).is_none()
        && view.running_job().is_none()
        && !view.orders.shutdown;
    let requested = ctx
        .cluster()
        .is_some_and(|cluster| cluster.failover_request().is_some());
    rest(&view.settings).filter(|_| calm && !requested)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_rest() {
        for (lease, loop_wait, expected) in [
            (20, 10, Some(11)),
            (18, 10, None),
            (5, 10, None),
            (5, 2, None),
            (20, 2, Some(3)),
            (8, 2, Some(3)),
            (7, 2, None),
        ] {
            let settings = Settings {
                lease_ttl: Span::from_secs(lease),
                loop_wait: Span::from_secs(loop_wait),
                ..Settings::default()
            };
            assert_eq!(
                rest(&settings),
                expected.map(Span::from_secs),
                "L {lease}, {loop_wait}"
            );
            // Whoever rests is not taken for cut off, and finds out before the lease is over.
            let stale = stale_after(&settings);
            assert!(rest(&settings).is_none_or(|rest| rest < stale));
            assert!(stale <= settings.lease_ttl || lease < 4, "L {lease}");
        }
    }
}
