//! `switchover` and `failover`: ask, confirm, let the leader do it over REST, and show the result.
//! When its REST API can not be reached, the request is written to the lock service.

use crate::args::{FailoverArgs, Format, SwitchoverArgs};
use crate::error::CtlError;
use crate::list::{show, timestamp};
use crate::prompt::{ask, confirm};
use crate::session::{Seen, Session};
use jiff::tz::TimeZone;
use pgherd_model::{Failover, MemberName, Schedule, Span};
use pgherd_peer::{PeerError, endpoint};
use pgherd_wire::patroni::rest::{Action, BadSchedule, parse_schedule, stored_schedule};
use serde_json::{Map, Value};
use std::io::Write;

/// What is asked for, once all questions are answered.
#[derive(Debug)]
struct Request {
    action: Action,
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<Schedule>,
}

/// `switchover`.
pub(crate) async fn switchover(session: &Session, args: &SwitchoverArgs) -> Result<(), CtlError> {
    let seen = begin(session, args.cluster.as_deref()).await?;
    let leader = current_leader(&seen, args)?;
    let candidate = choose_candidate(
        &seen,
        Action::Switchover,
        args.candidate.as_deref(),
        args.force,
    )?;
    let asked = match &args.scheduled {
        Some(time) => time.clone(),
        None if args.force => "now".to_owned(),
        None => {
            let hour = jiff::Zoned::now().saturating_add(jiff::Span::new().hours(1));
            let example = hour.strftime("%Y-%m-%dT%H:%M");
            ask(
                &format!("When should the switchover take place (e.g. {example} ) "),
                "now",
            )?
        }
    };
    let scheduled_at = schedule(&asked)?;
    if scheduled_at.is_some() && seen.mode().paused {
        return Err(CtlError::told(
            "Can't schedule switchover in the paused state",
        ));
    }
    let request = Request {
        action: Action::Switchover,
        leader: Some(leader),
        candidate,
        scheduled_at,
    };
    perform(session, seen, request, args.force).await
}

/// `failover`.
pub(crate) async fn failover(session: &Session, args: &FailoverArgs) -> Result<(), CtlError> {
    let seen = begin(session, args.cluster.as_deref()).await?;
    let candidate = choose_candidate(
        &seen,
        Action::Failover,
        args.candidate.as_deref(),
        args.force,
    )?;
    let name = candidate.as_deref().unwrap_or("");
    if !args.force && is_asynchronous(&seen, name) {
        let question =
            format!("Are you sure you want to failover to the asynchronous node {name}?");
        if !confirm(&question)? {
            return Err(CtlError::told("Aborting failover"));
        }
    }
    let request = Request {
        action: Action::Failover,
        leader: None,
        candidate,
        scheduled_at: None,
    };
    perform(session, seen, request, args.force).await
}

async fn begin(session: &Session, cluster: Option<&str>) -> Result<Seen, CtlError> {
    let scope = session.scope(cluster)?;
    let seen = session.see(&scope).await?;
    say(&format!(
        "Current cluster topology\n{}",
        show(&seen, false, Format::Pretty)
    ))?;
    Ok(seen)
}

fn say(text: &str) -> Result<(), CtlError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn leader_name(seen: &Seen) -> Option<&str> {
    seen.cluster.leader_name().map(MemberName::as_str)
}

/// The leader that a switchover starts from.
fn current_leader(seen: &Seen, args: &SwitchoverArgs) -> Result<String, CtlError> {
    let Some(current) = leader_name(seen) else {
        return Err(CtlError::told("This cluster has no leader"));
    };
    let named = match &args.leader {
        Some(leader) => leader.clone(),
        None if args.force => current.to_owned(),
        None if seen.mode().standby_cluster => ask("Standby Leader", current)?,
        None => ask("Primary", current)?,
    };
    if named != current {
        let scope = &seen.scope;
        return Err(CtlError::told(format!(
            "Member {named} is not the leader of cluster {scope}"
        )));
    }
    Ok(named)
}

/// Checks or asks who is to take over; members with `nofailover` are not offered.
fn choose_candidate(
    seen: &Seen,
    action: Action,
    given: Option<&str>,
    force: bool,
) -> Result<Option<String>, CtlError> {
    let leader = leader_name(seen);
    let names: Vec<&str> = seen
        .cluster
        .members
        .values()
        .filter(|member| !member.value.tags.nofailover)
        .map(|member| member.value.name.as_str())
        .filter(|name| Some(*name) != leader)
        .collect();
    if names.is_empty() {
        return Err(CtlError::told(format!(
            "No candidates found to {} to",
            action.as_str()
        )));
    }
    let candidate = match given {
        Some(candidate) => candidate.to_owned(),
        None if force => String::new(),
        None => {
            let list: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
            ask(&format!("Candidate [{}]", list.join(", ")), "")?
        }
    };
    if candidate.is_empty() {
        return match action {
            Action::Switchover => Ok(None),
            Action::Failover => Err(CtlError::told(
                "Failover could be performed only to a specific candidate",
            )),
        };
    }
    if names.contains(&candidate.as_str()) {
        return Ok(Some(candidate));
    }
    let scope = &seen.scope;
    Err(CtlError::told(match Some(candidate.as_str()) == leader {
        true => format!("Member {candidate} is already the leader of cluster {scope}"),
        false => format!(
            "Member {candidate} does not exist in cluster {scope} or is tagged as nofailover"
        ),
    }))
}

/// In a synchronous mode, and not one of those that `/sync` names.
fn is_asynchronous(seen: &Seen, candidate: &str) -> bool {
    let active = seen.mode().active_sync() != pgherd_model::SynchronousMode::Off;
    let sync = seen.cluster.sync.as_ref().map(|stored| &stored.value);
    active
        && sync.is_some_and(|sync| {
            let mut named = sync.standbys.iter().chain(&sync.leader);
            sync.leader.is_some()
                && !named.any(|name| name.as_str().eq_ignore_ascii_case(candidate))
        })
}

/// The time as it is sent; `None`: at once. A time without zone is of this machine's.
fn schedule(text: &str) -> Result<Option<Schedule>, CtlError> {
    if text.is_empty() || text == "now" {
        return Ok(None);
    }
    let refuse = || {
        CtlError::told(format!(
            "Unable to parse scheduled timestamp ({text}). It should be in an unambiguous format (e.g. ISO 8601)"
        ))
    };
    match parse_schedule(text, jiff::Timestamp::now()) {
        Ok(schedule) => Ok(Some(schedule)),
        // The cluster's clock decides, and has the words.
        Err(BadSchedule::Past) => Ok(Some(stored_schedule(text))),
        Err(BadSchedule::NoZone) => {
            let local: jiff::civil::DateTime = text.trim().parse().map_err(|_| refuse())?;
            let zoned = local.to_zoned(TimeZone::system()).map_err(|_| refuse())?;
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            Ok(Some(stored_schedule(&text)))
        }
        Err(BadSchedule::Unparsable) => Err(refuse()),
    }
}

/// Confirms, sends, shows.
async fn perform(
    session: &Session,
    seen: Seen,
    request: Request,
    force: bool,
) -> Result<(), CtlError> {
    let action = request.action.as_str();
    let scope = &seen.scope;
    if !force {
        let demoting = leader_name(&seen)
            .map(|leader| format!(", demoting current leader {leader}"))
            .unwrap_or_default();
        let (question, aborting) = match &request.scheduled_at {
            Some(schedule) => (
                format!(
                    "Are you sure you want to schedule switchover of cluster {scope} at {}{demoting}?",
                    schedule.text
                ),
                format!("Aborting scheduled {action}"),
            ),
            None => (
                format!("Are you sure you want to {action} cluster {scope}{demoting}?"),
                format!("Aborting {action}"),
            ),
        };
        if !confirm(&question)? {
            return Err(CtlError::Told(aborting));
        }
    }
    match post(session, &seen, &request).await {
        Ok((200 | 202, text)) => say(&format!("{} {text}\n", timestamp(5)))?,
        Ok((status, text)) => {
            let title = match request.action {
                Action::Switchover => "Switchover",
                Action::Failover => "Failover",
            };
            say(&format!("{title} failed, details: {status}, {text}\n"))?;
            return Err(CtlError::Refused);
        }
        Err(PeerError::Timeout { url, limit }) => {
            // It may still be under way: writing the request again would start a second one.
            return Err(CtlError::told(format!(
                "{url} did not say within {} s how the {action} ended: look at the list",
                limit.as_secs()
            )));
        }
        Err(cause) => fall_back(&seen, &request, &cause).await?,
    }
    say(&show(&seen.again().await?, false, Format::Pretty))
}

/// The leader is asked, without one the candidate.
async fn post(
    session: &Session,
    seen: &Seen,
    request: &Request,
) -> Result<(u16, String), PeerError> {
    let candidate = request.candidate.as_deref().map(MemberName::from);
    let member = seen
        .cluster
        .leader_member()
        .or_else(|| seen.cluster.member(candidate.as_ref()?));
    let api_url = member
        .map(|member| member.api_url.as_str())
        .unwrap_or_default();
    let peers = session
        .peers()
        .map_err(|error| PeerError::Options(format!("{error:?}")))?;
    let limit = seen.loop_wait().max(Span::from_secs(10)) * 2 + Span::from_secs(15);
    let mut body = Map::new();
    body.insert(
        "candidate".into(),
        request.candidate.clone().map_or(Value::Null, Value::from),
    );
    if let Some(leader) = &request.leader {
        body.insert("leader".into(), leader.as_str().into());
    }
    if let Some(schedule) = &request.scheduled_at {
        body.insert("scheduled_at".into(), schedule.text.as_str().into());
    }
    let body = Value::Object(body).to_string();
    let url = endpoint(api_url, request.action.as_str())?;
    let mut answer = peers.request("POST", &url, Some(&body), limit).await?;
    let unknown = answer
        .text
        .contains("Server does not support this operation");
    if answer.status == 501 && request.action == Action::Switchover && unknown {
        let url = endpoint(api_url, Action::Failover.as_str())?;
        answer = peers.request("POST", &url, Some(&body), limit).await?;
    }
    Ok((answer.status, answer.text))
}

/// Writes the request itself, guarded: it can not be repeated by mistake.
async fn fall_back(seen: &Seen, request: &Request, cause: &PeerError) -> Result<(), CtlError> {
    let action = request.action.as_str();
    eprintln!("{cause}");
    say(&format!(
        "{} Could not {action} using Patroni api, falling back to DCS\n",
        timestamp(5)
    ))?;
    let written = seen
        .write_failover(Failover {
            leader: request.leader.as_deref().map(MemberName::from),
            member: request.candidate.as_deref().map(MemberName::from),
            scheduled_at: request.scheduled_at.clone(),
        })
        .await?;
    match written {
        true => Ok(()),
        false => Err(CtlError::told(format!(
            "somebody else changed the failover key meanwhile: look at the list before you {action} again"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_get_this_machines_zone() {
        assert_eq!(schedule("now"), Ok(None));
        assert_eq!(schedule(""), Ok(None));
        let sent = |text: &str| schedule(text).unwrap().unwrap().text;
        assert_eq!(sent("2130-01-01T00:00+02:00"), "2130-01-01T00:00:00+02:00");
        let local = sent("2130-01-01T10:30");
        assert!(local.starts_with("2130-01-01T10:30:00"), "{local}");
        assert!(matches!(local.as_bytes()[19], b'+' | b'-'), "{local}");
        assert_eq!(sent("2001-01-01T00:00Z"), "2001-01-01T00:00Z");
        let error = schedule("tomorrow-ish").unwrap_err();
        assert!(matches!(error, CtlError::Told(text) if text.contains("(tomorrow-ish)")));
    }
}
