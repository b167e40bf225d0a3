//! Which members a command means, and what they answered.

use crate::args::{Format, RoleArg};
use crate::error::CtlError;
use crate::list::show;
use crate::output::{line, say};
use crate::prompt::confirm;
use crate::session::Seen;
use pgherd_model::{Member, Role, Span};
use pgherd_peer::{PeerError, Peers, Response, endpoint};

/// The members with a role, sorted by name; never none.
pub(crate) fn of_role(seen: &Seen, role: RoleArg) -> Result<Vec<&Member>, CtlError> {
    let found = with_role(seen, role);
    match found.is_empty() {
        false => Ok(found),
        true => Err(CtlError::told(format!(
            "{} cluster doesn't have any members",
            seen.scope
        ))),
    }
}

/// As [`of_role`], or none.
pub(crate) fn with_role(seen: &Seen, role: RoleArg) -> Vec<&Member> {
    let leader = seen.cluster.leader_name();
    let fits = |member: &&Member| {
        let leads = leader == Some(&member.name);
        let standby_leader = member.role == Some(Role::StandbyLeader);
        match role {
            RoleArg::Any => true,
            RoleArg::Leader => leads,
            RoleArg::Primary => leads && !standby_leader,
            RoleArg::StandbyLeader => leads && standby_leader,
            RoleArg::Replica | RoleArg::Standby => !leads,
        }
    };
    let members = seen.cluster.members.values().map(|stored| &stored.value);
    members.filter(fits).collect()
}

/// The name of a role as it is typed.
pub(crate) fn role_word(role: RoleArg) -> &'static str {
    match role {
        RoleArg::Leader => "leader",
        RoleArg::Primary => "primary",
        RoleArg::StandbyLeader => "standby-leader",
        RoleArg::Replica => "replica",
        RoleArg::Standby => "standby",
        RoleArg::Any => "any",
    }
}

/// The table of the cluster.
pub(crate) fn say_table(seen: &Seen) -> Result<(), CtlError> {
    say(&show(seen, false, Format::Pretty))
}

/// Those of `members` that are named; all where no name is given. Never none: `none` says so.
pub(crate) fn named<'a>(
    members: Vec<&'a Member>,
    names: &[String],
    none: &str,
) -> Result<Vec<&'a Member>, CtlError> {
    if names.is_empty() {
        return Ok(members);
    }
    let wanted = |member: &&Member| names.iter().any(|name| name == member.name.as_str());
    let found: Vec<&Member> = members.into_iter().filter(wanted).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(CtlError::told(none)),
    }
}

/// `No 'replica' among provided members`.
pub(crate) fn none_of(role: RoleArg) -> String {
    format!("No '{}' among provided members", role_word(role))
}

/// `n1, n2`.
pub(crate) fn names(members: &[&Member]) -> String {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}

/// Asks whether to do `action`; without `force` only.
pub(crate) fn confirmed(
    members: &[&Member],
    action: &str,
    at: Option<&str>,
    force: bool,
) -> Result<(), CtlError> {
    if force {
        return Ok(());
    }
    let names = names(members);
    let (question, aborted) = match at {
        None => (
            format!("Are you sure you want to {action} members {names}?"),
            format!("Aborted {action}"),
        ),
        Some(at) => (
            format!("Are you sure you want to schedule {action} of members {names} at {at}?"),
            format!("Aborted scheduled {action}"),
        ),
    };
    match confirm(&question)? {
        true => Ok(()),
        false => Err(CtlError::Told(aborted)),
    }
}

/// Sends a request to a member's REST API.
pub(crate) async fn ask(
    peers: &Peers,
    member: &Member,
    request: (&str, &str),
    body: Option<&str>,
    limit: Span,
) -> Result<Response, PeerError> {
    let (method, path) = request;
    let url = endpoint(&member.api_url, path)?;
    peers.request(method, &url, body, limit).await
}

/// How a command for several members ended.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    refused: bool,
    unreachable: bool,
}

impl Ending {
    /// Prints what a member said about `action`, unless `other` knows better words for it.
    pub(crate) fn tell(
        &mut self,
        member: &Member,
        action: &str,
        answer: Result<Response, PeerError>,
        other: impl Fn(u16, &str) -> Option<String>,
    ) -> Result<(), CtlError> {
        let name = &member.name;
        let answer = match answer {
            Ok(answer) => answer,
            Err(cause) => {
                self.unreachable = true;
                eprintln!("Failed: {action} for member {name}: {cause}");
                return Ok(());
            }
        };
        let (status, text) = (answer.status, answer.text.trim_end());
        let bad = status >= 400;
        self.refused |= bad;
        line(&other(status, name.as_str()).unwrap_or_else(|| match bad {
            false => format!("Success: {action} for member {name}"),
            true => format!("Failed: {action} for member {name}, status code={status}, ({text})"),
        }))
    }

    /// A failure that was printed already.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The result of the command.
    pub(crate) fn result(self) -> Result<(), CtlError> {
        match self {
            Ending {
                unreachable: true, ..
            } => Err(CtlError::Failed),
            Ending { refused: true, .. } => Err(CtlError::Refused),
            Ending { .. } => Ok(()),
        }
    }
}
