//! `switchover` and `failover`: ask, confirm, let the leader do it over REST, and show the result.
//! When its REST API can not be reached, the request is written to the lock service.

use crate::args::{FailoverArgs, Format, SwitchoverArgs};
use crate::error::CtlError;
use crate::list::show;
use crate::output::{say, timestamp};
use crate::prompt::{ask, confirm};
use crate::session::{Seen, Session};
use jiff::tz::TimeZone;
use pgherd_model::{Cluster, Failover, MemberName, Schedule, Span};
use pgherd_peer::{PeerError, endpoint};
use pgherd_wire::patroni::rest::{Action, BadSchedule, parse_schedule, stored_schedule};
use serde_json::{Map, Value};

const NO_CANDIDATE: &str = "Failover could be performed only to a specific candidate";

/// What is asked for, once all questions are answered.
#[derive(Debug)]
struct Request {
    action: Action,
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<Schedule>,
}

/// `switchover`. As in patronictl the topology comes first, then each argument is judged or asked for in its turn:
/// whoever reads why it is refused sees beside it what there is.
pub(crate) async fn switchover(session: &Session, args: &SwitchoverArgs) -> Result<(), CtlError> {
    let seen = read(session, args.cluster.as_deref()).await?;
    show_topology(&seen)?;
    let current = judge_leader(&seen.cluster, &seen.scope, None)?;
    let named = match &args.leader {
        Some(named) => named.clone(),
        None if args.force => current,
        None => {
            let word = match seen.mode().standby_cluster {
                true => "Standby Leader",
                false => "Primary",
            };
            ask(word, &current)?
        }
    };
    let leader = judge_leader(&seen.cluster, &seen.scope, Some(&named))?;
    let offered = Offered::new(&seen.cluster, &seen.scope, Action::Switchover)?;
    let candidate = offered.choose(args.candidate.as_deref(), args.force)?;
    let at = match &args.scheduled {
        Some(at) => at.clone(),
        None if args.force => String::new(),
        None => {
            let example = an_hour_from_now();
            let question = format!("When should the switchover take place (e.g. {example} ) ");
            ask(&question, "now")?
        }
    };
    let scheduled_at = schedule(&at)?;
    judge_schedule(scheduled_at.as_ref(), seen.mode().paused)?;
    let request = Request {
        action: Action::Switchover,
        leader: Some(leader),
        candidate,
        scheduled_at,
    };
    perform(session, seen, request, args.force).await
}

/// `failover`. As above.
pub(crate) async fn failover(session: &Session, args: &FailoverArgs) -> Result<(), CtlError> {
    let seen = read(session, args.cluster.as_deref()).await?;
    show_topology(&seen)?;
    let offered = Offered::new(&seen.cluster, &seen.scope, Action::Failover)?;
    let candidate = offered.choose(args.candidate.as_deref(), args.force)?;
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

async fn read(session: &Session, cluster: Option<&str>) -> Result<Seen, CtlError> {
    session.see(&session.scope(cluster)?).await
}

fn show_topology(seen: &Seen) -> Result<(), CtlError> {
    let table = show(seen, false, Format::Pretty);
    say(&format!("Current cluster topology\n{table}"))
}

fn leader_name(cluster: &Cluster) -> Option<&str> {
    cluster.leader_name().map(MemberName::as_str)
}

/// The leader that a switchover starts from; `named` has to be it.
fn judge_leader(cluster: &Cluster, scope: &str, named: Option<&str>) -> Result<String, CtlError> {
    let Some(current) = leader_name(cluster) else {
        return Err(CtlError::told("This cluster has no leader"));
    };
    match named.filter(|named| *named != current) {
        None => Ok(current.to_owned()),
        Some(named) => Err(CtlError::told(format!(
            "Member {named} is not the leader of cluster {scope}"
        ))),
    }
}

fn judge_schedule(at: Option<&Schedule>, paused: bool) -> Result<(), CtlError> {
    match at {
        Some(_) if paused => Err(CtlError::told(
            "Can't schedule switchover in the paused state",
        )),
        _ => Ok(()),
    }
}

/// Who may take over: members with `nofailover` are not offered.
struct Offered<'a> {
    scope: &'a str,
    action: Action,
    leader: Option<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Offered<'a> {
    fn new(cluster: &'a Cluster, scope: &'a str, action: Action) -> Result<Self, CtlError> {
        let leader = leader_name(cluster);
        let members = cluster.members.values().map(|member| &member.value);
        let names: Vec<&str> = members
            .filter(|member| !member.tags.nofailover)
            .map(|member| member.name.as_str())
            .filter(|name| Some(*name) != leader)
            .collect();
        if names.is_empty() {
            let action = action.as_str();
            let text = format!("No candidates found to {action} to");
            return Err(CtlError::told(text));
        }
        Ok(Offered {
            scope,
            action,
            leader,
            names,
        })
    }

    /// Whether a named candidate is one of them.
    fn judge(&self, candidate: Option<&str>) -> Result<(), CtlError> {
        let scope = self.scope;
        match candidate {
            None | Some("") => Ok(()),
            Some(name) if self.names.contains(&name) => Ok(()),
            Some(name) if Some(name) == self.leader => Err(CtlError::told(format!(
                "Member {name} is already the leader of cluster {scope}"
            ))),
            Some(name) => Err(CtlError::told(format!(
                "Member {name} does not exist in cluster {scope} or is tagged as nofailover"
            ))),
        }
    }

    /// The named one, else asks; `None`: the best one.
    fn choose(&self, given: Option<&str>, force: bool) -> Result<Option<String>, CtlError> {
        let candidate = match given {
            Some(candidate) => candidate.to_owned(),
            None if force => String::new(),
            None => {
                let names = self.names.iter().map(|name| format!("'{name}'"));
                let names: Vec<String> = names.collect();
                ask(&format!("Candidate [{}]", names.join(", ")), "")?
            }
        };
        self.judge(Some(&candidate))?;
        match (candidate.is_empty(), self.action) {
            (false, _) => Ok(Some(candidate)),
            (true, Action::Switchover) => Ok(None),
            (true, Action::Failover) => Err(CtlError::told(NO_CANDIDATE)),
        }
    }
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

/// An example of a time, without zone.
pub(crate) fn an_hour_from_now() -> String {
    let hour = jiff::Zoned::now().saturating_add(jiff::Span::new().hours(1));
    hour.strftime("%Y-%m-%dT%H:%M").to_string()
}

/// The time as it is sent; `None`: at once. A time without zone is of this machine's.
pub(crate) fn schedule(text: &str) -> Result<Option<Schedule>, CtlError> {
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
        Err(BadSchedule::NoZone | BadSchedule::Unparsable) => {
            let zone = TimeZone::system();
            let today = jiff::Timestamp::now().to_zoned(zone.clone()).date();
            let local = local_time(text.trim(), today).ok_or_else(refuse)?;
            let zoned = local.to_zoned(zone).map_err(|_| refuse())?;
            let text = zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            Ok(Some(stored_schedule(&text)))
        }
    }
}

/// A date and time, or a time of `today`.
fn local_time(text: &str, today: jiff::civil::Date) -> Option<jiff::civil::DateTime> {
    // Digits alone may be a year as well, and whatever else there is says of which zone it is.
    let plain = |c: char| c.is_ascii_digit() || matches!(c, ':' | '.');
    let is_time = text.contains(':') && text.chars().all(plain);
    let time = || is_time.then(|| text.parse().ok()).flatten();
    let whole = text.parse().ok().filter(|_| !text.contains(['[', '+']));
    whole.or_else(|| Some(today.to_datetime(time()?)))
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
        let demoting = leader_name(&seen.cluster)
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
    fn times_without_a_zone() {
        let today = jiff::civil::date(2030, 1, 31);
        for (text, expected) in [
            ("2030-02-01T10:30", Some("2030-02-01T10:30:00")),
            ("2030-02-01 10:30:05", Some("2030-02-01T10:30:05")),
            ("2030-02-01", Some("2030-02-01T00:00:00")),
            ("23:00", Some("2030-01-31T23:00:00")),
            ("7:5", None),
            ("23:00+05:00", None),
            ("T23:00-08", None),
            ("2030-02-01T10:30[Europe/Berlin]", None),
            ("2330", None),
            ("soon", None),
        ] {
            let found = local_time(text, today).map(|time| time.to_string());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
    use pgherd_model::{Leader, Stored};
    use pgherd_wire::patroni::dcs;

    /// A leader, a replica, and one with `nofailover`.
    fn three() -> Cluster {
        let member = |name: &str, tags: &str| {
            let text = format!("{{\"tags\": {tags}}}");
            let value = dcs::member_from_json(name.into(), &text, 1);
            (name.into(), Stored { value, revision: 1 })
        };
        Cluster {
            leader: Some(Leader {
                name: "n1".into(),
                lease: 0,
                create_revision: 1,
                mod_revision: 1,
            }),
            members: [
                member("n1", "{}"),
                member("n2", "{}"),
                member("n3", "{\"nofailover\": true}"),
            ]
            .into(),
            ..Cluster::default()
        }
    }

    fn told<T: std::fmt::Debug>(outcome: Result<T, CtlError>) -> String {
        match outcome {
            Err(CtlError::Told(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn leaders_are_judged() {
        let mut cluster = three();
        assert_eq!(judge_leader(&cluster, "x", None), Ok("n1".to_owned()));
        assert_eq!(judge_leader(&cluster, "x", Some("n1")), Ok("n1".to_owned()));
        let error = told(judge_leader(&cluster, "x", Some("n2")));
        assert_eq!(error, "Member n2 is not the leader of cluster x");
        cluster.leader = None;
        let error = told(judge_leader(&cluster, "x", None));
        assert_eq!(error, "This cluster has no leader");
    }

    #[test]
    fn candidates_are_judged() {
        let cluster = three();
        let offered = Offered::new(&cluster, "x", Action::Switchover).unwrap();
        assert_eq!(offered.judge(Some("n2")), Ok(()));
        assert_eq!(offered.choose(None, true), Ok(None));
        assert_eq!(offered.choose(Some("n2"), false), Ok(Some("n2".to_owned())));
        for name in ["n3", "n9", "N2"] {
            let error = told(offered.judge(Some(name)));
            assert_eq!(
                error,
                format!("Member {name} does not exist in cluster x or is tagged as nofailover")
            );
        }
        let error = told(offered.judge(Some("n1")));
        assert_eq!(error, "Member n1 is already the leader of cluster x");
        let offered = Offered::new(&cluster, "x", Action::Failover).unwrap();
        assert_eq!(told(offered.choose(None, true)), NO_CANDIDATE);
        let mut alone = three();
        alone.members.remove(&"n2".into());
        let none = Offered::new(&alone, "x", Action::Failover).map(|offered| offered.names);
        assert_eq!(told(none), "No candidates found to failover to");
    }

    #[test]
    fn nothing_is_scheduled_in_pause() {
        let later = schedule("2130-01-01T00:00Z").unwrap();
        let error = told(judge_schedule(later.as_ref(), true));
        assert_eq!(error, "Can't schedule switchover in the paused state");
        assert_eq!(judge_schedule(later.as_ref(), false), Ok(()));
        assert_eq!(judge_schedule(None, true), Ok(()));
    }

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
