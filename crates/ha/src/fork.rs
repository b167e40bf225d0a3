//! Do the local data lie on the leader's history (architecture, Safety 7)?

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use pgherd_model::{ControlState, Lsn, Member, MemberName, PostgresState, Role, Span, Timeline};

use crate::ctx::Ctx;
use crate::decision::Action;
use crate::holder;

/// A fetched history that could not be read is asked for again after this.
const AGAIN: Span = Span::from_secs(1);

/// The answer.
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, gone after a moment"
)]
pub(crate) enum Fork {
    /// They do; with the history to install before a start, if the timelines differ.
    Follow(Option<(MemberName, Timeline)>),
    /// They do not.
    Diverged(String),
    /// They do not, and pg_rewind cannot tell: the timelines bear the same number, or the fork lies
    /// before the beginning of a timeline in between.
    Twins(String),
    /// The leader's history must be read first.
    Ask(Action),
    /// Cannot be known yet.
    Wait(String),
    /// The leader's history cannot be asked for: it publishes no address.
    NoAddress(String),
    /// The true end of the local WAL is not known: crash recovery comes first.
    Unclean,
}

/// PostgreSQL is down and was a primary when it last ran.
fn ran_as_primary(ctx: &Ctx<'_>) -> bool {
    let local = &ctx.view.local;
    let state = local.control.map(|control| control.state);
    ctx.view.is_down()
        && !local.backup_label
        && !matches!(
            state,
            None | Some(ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery)
        )
}

/// Where the local data end.
enum End {
    At(Timeline, Lsn),
    Unclean,
    Unknown,
}

pub(crate) fn fork(ctx: &Ctx<'_>, leader: &Member) -> Fork {
    let ready = leader.state == Some(PostgresState::Running)
        && matches!(leader.role, Some(Role::Primary | Role::StandbyLeader));
    let (Some(theirs), true) = (leader.timeline, ready) else {
        return Fork::Wait(format!("waiting for {} to run as primary", leader.name));
    };
    let (own, end) = match end(ctx) {
        End::At(own, end) => (own, end),
        End::Unclean => return Fork::Unclean,
        End::Unknown => return Fork::Wait(String::from("the end of the local WAL is not known")),
    };
    if own == theirs && ran_as_primary(ctx) {
        // Both were promoted to the same number without knowing of each other.
        return Fork::Twins(format!(
            "timeline {own} was made here and, another one of that number, by {}",
            leader.name
        ));
    }
    if own == theirs {
        return Fork::Follow(None);
    }
    if own > theirs {
        return Fork::Diverged(format!(
            "own timeline {own} is not in the history of {} ({theirs})",
            leader.name
        ));
    }
    match fetched(ctx, leader, theirs) {
        Ok(lines) => compare(leader, theirs, lines, own, end),
        Err(fork) => *fork,
    }
}

/// The history of the leader's present timeline.
fn fetched<'a>(
    ctx: &Ctx<'a>,
    leader: &Member,
    theirs: Timeline,
) -> Result<&'a [(Timeline, Lsn)], Box<Fork>> {
    let history = ctx
        .view
        .history
        .as_ref()
        .filter(|history| history.from == leader.name);
    let wait = |reason: String| Err(Box::new(Fork::Wait(reason)));
    match history.map(|history| (&history.lines, history.asked)) {
        Some((Some((timeline, lines)), _)) if *timeline == theirs => Ok(lines),
        Some((None, asked)) if ctx.now().since(asked) < AGAIN => wait(format!(
            "the timeline history of {} cannot be read yet",
            leader.name
        )),
        _ => match &leader.address {
            Some(address) => Err(Box::new(Fork::Ask(Action::AskHistory {
                member: leader.name.clone(),
                address: address.clone(),
                timeline: theirs,
            }))),
            None => Err(Box::new(Fork::NoAddress(holder::no_address(ctx, leader)))),
        },
    }
}

fn compare(
    leader: &Member,
    theirs: Timeline,
    lines: &[(Timeline, Lsn)],
    own: Timeline,
    end: Lsn,
) -> Fork {
    let since_own = lines.iter().skip_while(|(timeline, _)| *timeline != own);
    let Some((_, switch)) = since_own.clone().next() else {
        return Fork::Diverged(format!(
            "timeline {own} is not in the history of {}",
            leader.name
        ));
    };
    // A standby that knew of a timeline and had not received its beginning when it was promoted forks
    // off before that beginning: a later line then ends earlier than the ones before it.
    let forked = since_own.map(|(_, end)| *end).min().unwrap_or(*switch);
    if end <= forked {
        return Fork::Follow(Some((leader.name.clone(), theirs)));
    }
    let reason = format!(
        "local WAL goes to {end} on timeline {own}, but timeline {theirs} forked off at {forked}"
    );
    if forked < *switch {
        // pg_rewind compares the lines one by one and takes the later point for the fork.
        return Fork::Twins(format!("{reason}, where pg_rewind does not see it"));
    }
    Fork::Diverged(reason)
}

fn end(ctx: &Ctx<'_>) -> End {
    let local = &ctx.view.local;
    if let Some(look) = &local.look {
        // What was replayed is what counts: the rest is received again from the new leader.
        return End::At(look.timeline, look.wal.replayed);
    }
    let Some(control) = &local.control else {
        return End::Unknown;
    };
    let recovery = (
        control.timeline.max(control.min_recovery_timeline),
        control.min_recovery_end.max(control.checkpoint),
    );
    match control.state {
        ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery => {
            End::At(recovery.0, recovery.1)
        }
        // A copy that has not been started yet.
        _ if local.backup_label => End::At(recovery.0, recovery.1),
        ControlState::ShutDown => match local.shutdown_end {
            Some(end) => End::At(control.timeline, end),
            None => End::Unclean,
        },
        ControlState::InProduction
        | ControlState::ShuttingDown
        | ControlState::InCrashRecovery
        | ControlState::StartingUp => End::Unclean,
    }
}
