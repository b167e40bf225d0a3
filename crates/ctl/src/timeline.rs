//! `timeline`: the journals of all members as one story of a failover, with the time each part took.
//!
//! Nothing here reads a log: a journal is asked of every member that lives (`GET /journal`), and
//! read from a file for those that do not.

mod lives;
mod merge;
mod phases;
mod show;
mod story;
mod vacancy;

#[cfg(test)]
mod tests;

use crate::args::{TimelineArgs, TimelineFormat};
use crate::error::CtlError;
use crate::session::Session;
use merge::Merged;
use pgherd_model::Span;
use pgherd_peer::{PeerError, Peers, endpoint};
use pgherd_wire::journal::{Entry, Header, Stamp, read};
use pgherd_wire::patroni::rest::python_json;
use phases::Handover;
use serde::Serialize;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use story::Line;
use vacancy::Vacancy;

/// How long a member may take.
const TIMEOUT: Span = Span::from_secs(10);
/// A clock that differs from the own by more is worth a word.
const CLOCK_MS: u64 = 2000;
/// Members whose clocks run behind are asked for that much more.
const MARGIN_MS: i64 = 60_000;
/// What follows the last part of a handover belongs to it for that long.
const AFTER_MS: i64 = 1000;

/// Where entries came from.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Source {
    /// Member or file.
    name: String,
    /// How many.
    entries: usize,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What is shown.
#[derive(Debug, Default)]
struct Told {
    handovers: Vec<Handover>,
    /// Nobody leads: what that came of, or will.
    vacancy: Option<Vacancy>,
    lines: Vec<Line>,
    journals: Vec<Source>,
    notes: Vec<String>,
}

/// All journals, as far as they can be had.
#[derive(Default)]
struct Collected {
    entries: Vec<Entry>,
    journals: Vec<Source>,
    notes: Vec<String>,
}

/// Runs the command; `session`: why there may be none. With files that is no end.
pub(crate) async fn run(
    session: Result<Session, CtlError>,
    args: &TimelineArgs,
) -> Result<(), CtlError> {
    let since = args.since.as_deref().map(moment).transpose()?;
    let mut collected = Collected::default();
    for path in &args.files {
        collected.file(path);
    }
    match ask_members(session, args, since, &mut collected).await {
        Ok(()) => {}
        Err(error) if args.files.is_empty() => return Err(error),
        Err(CtlError::Told(text)) => collected
            .notes
            .push(format!("no member was asked, only files were read: {text}")),
        Err(error) => return Err(error),
    }
    if collected.entries.is_empty() {
        let errors = collected.journals.iter().map(|source| {
            let error = source.error.as_deref().unwrap_or("it is empty");
            format!("{}: {error}", source.name)
        });
        let errors: Vec<String> = errors.collect();
        return Err(CtlError::told(format!(
            "no journal could be read ({})",
            errors.join("; ")
        )));
    }
    let told = tell(collected, since, args.last);
    let out = match args.format {
        TimelineFormat::Pretty => show::pretty(&told),
        TimelineFormat::Json => python_json(&show::json(&told)) + "\n",
    };
    std::io::stdout().lock().write_all(out.as_bytes())?;
    Ok(())
}

async fn ask_members(
    session: Result<Session, CtlError>,
    args: &TimelineArgs,
    since: Option<Stamp>,
    collected: &mut Collected,
) -> Result<(), CtlError> {
    let session = session?;
    let scope = session.scope(args.cluster.as_deref())?;
    let seen = session.see(&scope).await?;
    let peers = session.peers()?;
    for member in seen.cluster.members.values().map(|stored| &stored.value) {
        let name = member.name.as_str();
        match ask(&peers, &member.api_url, since).await {
            Ok(text) => collected.answer(name, &text),
            Err(cause) => {
                collected.notes.push(format!(
                    "{name}: {cause}; what it knew is missing here (its file can be given with --file)"
                ));
                collected.failed(name, cause);
            }
        }
    }
    Ok(())
}

async fn ask(peers: &Peers, api_url: &str, since: Option<Stamp>) -> Result<String, String> {
    let text = |cause: PeerError| cause.to_string();
    let mut url = endpoint(api_url, "journal").map_err(text)?;
    if let Some(since) = since {
        url.push_str(&format!("?since={}", Stamp(since.0 - MARGIN_MS)));
    }
    let answer = peers
        .request("GET", &url, None, TIMEOUT)
        .await
        .map_err(text)?;
    if answer.status == 200 && answer.text.starts_with("{\"journal\"") {
        return Ok(answer.text);
    }
    // Patroni takes the path for a health check and answers with its status document.
    let document: serde_json::Value = serde_json::from_str(&answer.text).unwrap_or_default();
    Err(match document["patroni"]["version"].as_str() {
        Some(version) => format!("runs Patroni {version}, which keeps no journal"),
        None => {
            let said: String = answer.text.chars().take(200).collect();
            format!("answered {}: {}", answer.status, said.trim())
        }
    })
}

impl Collected {
    fn failed(&mut self, name: &str, error: String) {
        self.journals.push(Source {
            name: name.to_owned(),
            entries: 0,
            error: Some(error),
        });
    }

    /// Of a member: a header, then the lines.
    fn answer(&mut self, name: &str, text: &str) {
        let (header, lines) = text.split_once('\n').unwrap_or((text, ""));
        let header: Header = serde_json::from_str(header).unwrap_or_default();
        let now = jiff::Timestamp::now().as_millisecond();
        if header.now.0.abs_diff(now) > CLOCK_MS {
            self.notes.push(format!(
                "the clock of {name} says {} while the one here says {}",
                header.now,
                Stamp(now)
            ));
        }
        if header.left_out {
            self.notes.push(format!(
                "{name} has older entries than it can show at once: ask with --since, or read its file"
            ));
        }
        self.lines(name, lines);
    }

    /// A file and the segment before it.
    fn file(&mut self, path: &Path) {
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        let name = path.display().to_string();
        let text =
            |path: &Path| std::fs::read(path).map(|it| String::from_utf8_lossy(&it).into_owned());
        let earlier = match text(&PathBuf::from(before)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                self.notes.push(format!("{name}.1: {error}"));
                String::new()
            }
        };
        match text(path) {
            // The first segment may end within a line.
            Ok(text) => self.lines(&name, &format!("{earlier}\n{text}")),
            Err(error) => {
                self.notes.push(format!("{name}: {error}"));
                self.failed(&name, error.to_string());
            }
        }
    }

    fn lines(&mut self, name: &str, text: &str) {
        let (entries, unreadable) = read(text);
        if unreadable > 0 {
            let lines = if unreadable == 1 { "line" } else { "lines" };
            self.notes.push(format!(
                "{name}: {unreadable} {lines} cannot be read (torn by a crash, or no journal)"
            ));
        }
        self.journals.push(Source {
            name: name.to_owned(),
            entries: entries.len(),
            error: None,
        });
        self.entries.extend(entries);
    }
}

/// The whole story since a moment, or that of the last handover; where nobody leads now, that of the
/// one that is under way.
fn tell(collected: Collected, since: Option<Stamp>, last: Option<usize>) -> Told {
    let Collected {
        entries,
        journals,
        mut notes,
    } = collected;
    let Merged { moments, clocks } = merge::merge(entries);
    notes.extend(clocks);
    let mut handovers = phases::handovers(&moments);
    let vacancy = vacancy::vacancy(&moments);
    let mut lines = story::lines(&moments);
    match (since, &vacancy, handovers.last().cloned()) {
        (Some(since), ..) => {
            lines.retain(|line| line.at >= since.0);
            handovers.retain(|handover| handover.ended >= since.0);
        }
        (None, Some(vacancy), before) => {
            lines.retain(|line| line.at >= vacancy.begun);
            notes.extend(before.map(|before| earlier(&before)));
            handovers.clear();
        }
        (None, None, Some(handover)) => {
            let until = handover.ended + AFTER_MS;
            let later = lines.iter().filter(|line| line.at > until).count();
            if later > 0 {
                notes.push(format!(
                    "{later} later events are not shown: --since {} shows them too",
                    merge::text(handover.begun)
                ));
            }
            lines.retain(|line| (handover.begun..=until).contains(&line.at));
            handovers = vec![handover];
        }
        (None, None, None) => {}
    }
    if let Some(last) = last {
        lines.drain(..lines.len().saturating_sub(last));
    }
    Told {
        handovers,
        vacancy,
        lines,
        journals,
        notes,
    }
}

/// Where to find the handover before.
fn earlier(handover: &Handover) -> String {
    let begun = merge::text(handover.begun);
    format!(
        "the {} {} ({begun}) is not shown: --since {begun} shows it too",
        handover.kind, handover.to
    )
}

/// `--since`: `10m` ago, or a time; without a zone it is that of this machine.
fn moment(text: &str) -> Result<Stamp, CtlError> {
    if let Ok(stamp) = text.parse() {
        return Ok(stamp);
    }
    let local = text.parse::<jiff::civil::DateTime>().ok();
    if let Some(at) = local.and_then(|at| at.to_zoned(jiff::tz::TimeZone::system()).ok()) {
        return Ok(Stamp(at.timestamp().as_millisecond()));
    }
    let ago = text.parse::<jiff::SignedDuration>().ok();
    let now = jiff::Timestamp::now();
    match ago.and_then(|ago| now.checked_sub(ago.abs()).ok()) {
        Some(at) => Ok(Stamp(at.as_millisecond())),
        None => Err(CtlError::told(format!(
            "--since {text}: expected how long ago (10m, 2h) or a time (2026-11-21T00:21:27Z)"
        ))),
    }
}
