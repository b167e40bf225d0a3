//! Points in time as the REST API reads and shows them (contract: patroni-rest, sections 1
//! and 10).

use super::spoken_time;
use jiff::civil::{DateTime, Time};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use jiff::tz::Offset;
use jiff::{Timestamp, Zoned};
use pgherd_model::{Schedule, WallTime};

/// Why a time was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSchedule {
    /// No zone given.
    NoZone,
    /// It is over.
    Past,
    /// Not understood.
    Unparsable,
}

impl BadSchedule {
    /// Status code and text of the answer; `action` is `switchover` or `restart`.
    pub fn answer(self, action: &str) -> (u16, String) {
        match self {
            BadSchedule::NoZone => (
                400,
                format!("Timezone information is mandatory for the scheduled {action}"),
            ),
            BadSchedule::Past => (422, format!("Cannot schedule {action} in the past")),
            BadSchedule::Unparsable => (
                422,
                "Unable to parse scheduled timestamp. It should be in an unambiguous format, \
                 e.g. ISO 8601"
                    .into(),
            ),
        }
    }
}

/// Reads a time: ISO 8601 with `T` or a space, seconds optional, offset as `Z`, `UTC`, `GMT`,
/// `+01`, `+0100` or `+01:00`; RFC 2822; or as people write it and `date` prints it.
///
/// # Errors
/// What is wrong with it, given that it is `now`.
pub fn parse_schedule(text: &str, now: Timestamp) -> Result<Schedule, BadSchedule> {
    let (local, offset, at) = moment(text)?;
    if at < now {
        return Err(BadSchedule::Past);
    }
    Ok(Schedule {
        at: Some(WallTime(at.as_microsecond())),
        text: shown(local, offset, 'T'),
    })
}

/// Reads the time of a request that is stored already: any member or program may have written it.
pub fn stored_schedule(text: &str) -> Schedule {
    Schedule {
        at: moment(text)
            .ok()
            .map(|(_, _, at)| WallTime(at.as_microsecond())),
        text: text.to_owned(),
    }
}

fn moment(text: &str) -> Result<(DateTime, Offset, Timestamp), BadSchedule> {
    let (local, offset) = parse(text)?;
    let offset = offset.ok_or(BadSchedule::NoZone)?;
    let at = offset
        .to_timestamp(local)
        .map_err(|_| BadSchedule::Unparsable)?;
    Ok((local, offset, at))
}

/// `2026-11-21T00:21:11.967788+00:00`: in keys and in documents about the future.
pub fn iso_timestamp(at: Timestamp) -> String {
    shown(Offset::UTC.to_datetime(at), Offset::UTC, 'T')
}

/// `2026-11-21 00:21:11.967788+00:00`: inside status documents.
pub fn status_timestamp(at: Timestamp) -> String {
    shown(Offset::UTC.to_datetime(at), Offset::UTC, ' ')
}

fn parse(text: &str) -> Result<(DateTime, Option<Offset>), BadSchedule> {
    if let Ok(zoned) = jiff::fmt::rfc2822::parse(text.trim()) {
        let zoned: Zoned = zoned;
        return Ok((zoned.datetime(), Some(zoned.offset())));
    }
    let compact = compact(text);
    let Ok(pieces) = Pieces::parse(&compact) else {
        return spoken_time::read(text).ok_or(BadSchedule::Unparsable);
    };
    let local = pieces
        .date()
        .to_datetime(pieces.time().unwrap_or(Time::midnight()));
    let offset = match pieces.offset() {
        None => None,
        Some(PiecesOffset::Zulu) => Some(Offset::UTC),
        Some(PiecesOffset::Numeric(numeric)) => Some(numeric.offset()),
        Some(_) => return Err(BadSchedule::Unparsable),
    };
    Ok((local, offset))
}

/// `2030-01-01 00:00 UTC` and `2030-01-01 00:00 +0100` without the space before the zone.
fn compact(text: &str) -> String {
    let text = text.trim();
    for zone in ["UTC", "GMT", "utc", "Z"] {
        if let Some(rest) = text.strip_suffix(zone) {
            return format!("{}Z", rest.trim_end());
        }
    }
    match text.rsplit_once(' ') {
        Some((rest, zone)) if zone.starts_with(['+', '-']) => {
            format!("{}{zone}", rest.trim_end())
        }
        _ => text.to_owned(),
    }
}

/// Python's `isoformat`: microseconds only when there are some.
fn shown(local: DateTime, offset: Offset, separator: char) -> String {
    let fraction = match local.subsec_nanosecond() / 1000 {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    let seconds = offset.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    format!(
        "{}{separator}{:02}:{:02}:{:02}{fraction}{sign}{:02}:{:02}",
        local.date(),
        local.hour(),
        local.minute(),
        local.second(),
        minutes / 60,
        minutes % 60,
    )
}
