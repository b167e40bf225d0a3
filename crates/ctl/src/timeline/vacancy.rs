//! A lock that nobody holds as far as the journals know: a failover under way, or one that does not
//! come.

use super::merge::Moment;
use super::phases::{cause, is_action, noticed, terms};

/// No leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Vacancy {
    /// Who led before.
    pub(super) former: String,
    /// When its story begins, milliseconds since 1970.
    pub(super) begun: i64,
    /// When the lock was first seen free, or was released.
    pub(super) since: i64,
}

/// What a moment tells of the lock: at which revision, and who held it then.
struct Sight<'a> {
    place: (usize, u64),
    holder: Option<&'a str>,
    at: i64,
}

/// The newest revision that any journal knows decides.
pub(super) fn vacancy(moments: &[Moment]) -> Option<Vacancy> {
    let sights: Vec<Sight<'_>> = moments.iter().filter_map(sight).collect();
    let held = sights.iter().filter(|sight| sight.holder.is_some());
    let held = held.max_by_key(|sight| sight.place)?;
    let free = |sight: &&Sight<'_>| sight.holder.is_none() && sight.place > held.place;
    let since = sights.iter().find(free)?.at;
    let former = held.holder?;
    let begin = terms(moments).last().map_or(0, |term| term.index);
    let before = moments.get(begin..).unwrap_or_default();
    let reasons = [
        cause(before, former).map(|moment| moment.at),
        noticed(before, former, since).map(|mark| mark.at),
    ];
    let begun = reasons.into_iter().flatten().min();
    Some(Vacancy {
        former: former.to_owned(),
        begun: begun.unwrap_or(since).min(since),
        since,
    })
}

fn sight(moment: &Moment) -> Option<Sight<'_>> {
    let state = &moment.entry.state;
    let wrote = state.wrote.map(|wrote| wrote.revision);
    let (revision, holder) = if is_action(moment, "AcquireLeader", "done") {
        (wrote, Some(moment.entry.member.as_str()))
    } else if is_action(moment, "ReleaseLeader", "done") {
        (wrote, None)
    } else {
        (state.revision, state.leader.as_deref())
    };
    Some(Sight {
        place: (moment.life, revision?),
        holder,
        at: moment.at,
    })
}
