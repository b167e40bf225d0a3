//! Do the local data lie on the leader's history (architecture, Safety 7)?

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use pgherd_model::{
    ControlState, HistoryLine, Lsn, Member, MemberName, PostgresState, Role, Span, Timeline,
};

use crate::ctx::Ctx;
use crate::decision::Action;
use crate::holder;

/// A fetched history that could not be read is asked for again after this.
pub(crate) const AGAIN: Span = Span::from_secs(1);

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
    /// The timelines bear the same number, and only the leader's history tells whether they are one.
    Unproven(Box<Unread>),
    /// Cannot be known yet.
    Wait(String),
    /// The leader's history cannot be asked for: it publishes no address.
    NoAddress(String),
    /// The true end of the local WAL is not known: crash recovery comes first.
    Unclean,
}

/// The leader's history is not at hand.
pub(crate) struct Unread {
    /// This reads it; `None`: it cannot be read now.
    pub(crate) ask: Option<Action>,
    /// Why not, or that it is being read.
    pub(crate) reason: String,
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
    // Of a standby leader the timeline is another cluster's, and it does not write on it.
    if own == theirs && ran_as_primary(ctx) && leader.role == Some(Role::Primary) {
        // Both were promoted to the same number without knowing of each other.
        return Fork::Twins(format!(
            "timeline {own} was made here and, another one of that number, by {}",
            leader.name
        ));
    }
    if own == theirs {
        return same_number(ctx, leader, own);
    }
    if own > theirs {
        return Fork::Diverged(format!(
            "own timeline {own} is not in the history of {} ({theirs})",
            leader.name
        ));
    }
    match fetched(ctx, leader, theirs) {
        Ok(lines) => compare(ctx, leader, theirs, lines, (own, end)),
        Err(unread) => {
            let Unread { ask, reason } = *unread;
            match ask {
                Some(action) => Fork::Ask(action),
                None if leader.address.is_none() => Fork::NoAddress(reason),
                None => Fork::Wait(reason),
            }
        }
    }
}

/// The own timeline bears the number of the leader's. Where a node was promoted, and was lost before
/// anybody knew that, the next one that is promoted gives the same number again: what followed the first
/// one must not follow the second. The view keeps the history that was read, so the leader is asked once.
fn same_number(ctx: &Ctx<'_>, leader: &Member, own: Timeline) -> Fork {
    let past = &ctx.view.local.own_history;
    if past.is_empty() {
        // Timeline 1 has none. Elsewhere its file is missing, and that proves nothing.
        return Fork::Follow(None);
    }
    let lines = match fetched(ctx, leader, own) {
        Ok(lines) => lines,
        Err(unread) => return Fork::Unproven(unread),
    };
    match difference(past, lines) {
        Some(difference) => Fork::Twins(format!(
            "timeline {own} is not that of {}: {difference}",
            leader.name
        )),
        None => Fork::Follow(None),
    }
}

/// Where two pasts part, in words.
fn difference(own: &[HistoryLine], theirs: &[(Timeline, Lsn)]) -> Option<String> {
    let line = |index: usize| {
        let own = own.get(index).map(|line| (line.timeline, line.end));
        (own, theirs.get(index).copied())
    };
    let (here, there) = (0..own.len().max(theirs.len()))
        .map(line)
        .find(|(here, there)| here != there)?;
    let words = |line: Option<(Timeline, Lsn)>| match line {
        Some((timeline, end)) => format!("timeline {timeline} ended at {end}"),
        None => String::from("no other timeline ended"),
    };
    Some(format!("{} here, {} there", words(here), words(there)))
}

/// The history of the leader's present timeline.
fn fetched<'a>(
    ctx: &Ctx<'a>,
    leader: &Member,
    theirs: Timeline,
) -> Result<&'a [(Timeline, Lsn)], Box<Unread>> {
    let history = ctx
        .view
        .history
        .as_ref()
        .filter(|history| history.from == leader.name);
    let unread = |ask, reason| Err(Box::new(Unread { ask, reason }));
    match history.map(|history| (&history.lines, history.asked)) {
        Some((Some((timeline, lines)), _)) if *timeline == theirs => Ok(lines),
        Some((None, asked)) if leader.address.is_some() && ctx.now().since(asked) < AGAIN => {
            let name = &leader.name;
            let reason = format!("the timeline history of {name} cannot be read yet");
            unread(None, reason)
        }
        _ => match &leader.address {
            Some(address) => {
                let ask = Action::AskHistory {
                    member: leader.name.clone(),
                    address: address.clone(),
                    timeline: theirs,
                };
                let reason = format!("reading the timeline history of {}", leader.name);
                unread(Some(ask), reason)
            }
            None => unread(None, holder::no_address(ctx, leader)),
        },
    }
}

/// `own` and `end`: timeline and position that the local data reach.
fn compare(
    ctx: &Ctx<'_>,
    leader: &Member,
    theirs: Timeline,
    lines: &[(Timeline, Lsn)],
    (own, end): (Timeline, Lsn),
) -> Fork {
    let older = lines.iter().take_while(|(timeline, _)| *timeline != own);
    let (older, since_own) = lines.split_at(older.count());
    let Some((_, switch)) = since_own.first() else {
        return Fork::Diverged(format!(
            "timeline {own} is not in the history of {}",
            leader.name
        ));
    };
    // The leader may descend from another timeline of the own one's number: pg_rewind sees that, since
    // it compares where timelines begin. A past without any line proves nothing.
    let past = &ctx.view.local.own_history;
    if !past.is_empty()
        && !older.is_empty()
        && let Some(difference) = difference(past, older)
    {
        return Fork::Diverged(format!(
            "timeline {own} is not that in the history of {}: {difference}",
            leader.name
        ));
    }
    // A standby that knew of a timeline and had not received its beginning when it was promoted forks
    // off before that beginning: a later line then ends earlier than the ones before it.
    let ends = since_own.iter().map(|(_, end)| *end);
    let forked = ends.min().unwrap_or(*switch);
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
    // A checkpoint that begins where the leader's timeline forked off is none of the leader's: PostgreSQL
    // does not start from it.
    let checkpoint = Lsn(control.checkpoint.0 + 1);
    let recovery = (
        control.timeline.max(control.min_recovery_timeline),
        control.min_recovery_end.max(checkpoint),
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
