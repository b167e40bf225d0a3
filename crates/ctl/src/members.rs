//! Which members a command means, and what they answered.

use crate::args::{Format, RoleArg};
use crate::error::CtlError;
use crate::list::show;
use crate::output::{line, say};
use crate::prompt::confirm;
use crate::session::Seen;
use pgherd_model::{Cluster, Member, Role, Span};
use pgherd_peer::{PeerError, Peers, Response, endpoint};

/// The members that a command for several is about, sorted by name: those with the role, of these the named
/// ones where names are given; never none. The table of the cluster is shown first, unless nobody is named
/// and there is nobody.
pub(crate) fn meant<'a>(
    seen: &'a Seen,
    role: RoleArg,
    names: &[String],
) -> Result<Vec<&'a Member>, CtlError> {
    let found = there(&seen.cluster, &seen.scope, role, names)?;
    say_table(seen)?;
    named(found, names, &none_of(role))
}

/// The members with a role. None is an error only where none is named: who names some learns more from the
/// table and from what is wrong with the names.
pub(crate) fn there<'a>(
    cluster: &'a Cluster,
    scope: &str,
    role: RoleArg,
    names: &[String],
) -> Result<Vec<&'a Member>, CtlError> {
    let found = with_role(cluster, role);
    if found.is_empty() && names.is_empty() {
        let text = format!("{scope} cluster doesn't have any members");
        return Err(CtlError::Told(text));
    }
    Ok(found)
}

/// All members with a role, or none.
pub(crate) fn with_role(cluster: &Cluster, role: RoleArg) -> Vec<&Member> {
    let leader = cluster.leader_name();
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
    let members = cluster.members.values().map(|stored| &stored.value);
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

/// `No 'replica' among provided members`: in quotes, as patronictl shows what was typed. Only its `reinit`,
/// where no role is typed, has none.
pub(crate) fn none_of(role: RoleArg) -> String {
    format!("No '{}' among provided members", role_word(role))
}

/// `n1, n2`.
pub(crate) fn names(members: &[&Member]) -> String {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.join(", ")
}

/// Asks whether to do `action`; without `force` only.
pub(crate) fn confirmed(members: &[&Member], action: &str, force: bool) -> Result<(), CtlError> {
    let names = names(members);
    let question = format!("Are you sure you want to {action} members {names}?");
    agreed(&question, action, force)
}

/// Asks a question of its own about `action`; without `force` only.
pub(crate) fn agreed(question: &str, action: &str, force: bool) -> Result<(), CtlError> {
    match force || confirm(question)? {
        true => Ok(()),
        false => Err(CtlError::Told(format!("Aborted {action}"))),
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

    /// A refusal that was printed already.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// A failure that was printed already.
    pub(crate) fn fail(&mut self) {
        self.unreachable = true;
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

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_model::{Leader, Stored};
    use pgherd_wire::patroni::dcs;

    /// `n1` leads.
    fn cluster(names: &[&str]) -> Cluster {
        let member = |name: &&str| {
            let value = dcs::member_from_json((*name).into(), "{}", 1);
            ((*name).into(), Stored { value, revision: 1 })
        };
        Cluster {
            leader: Some(Leader {
                name: "n1".into(),
                lease: 0,
                create_revision: 1,
                mod_revision: 1,
            }),
            members: names.iter().map(member).collect(),
            ..Cluster::default()
        }
    }

    /// The names of those who are meant, or the error.
    fn choice(members: &[&str], role: RoleArg, given: &[&str]) -> String {
        let cluster = cluster(members);
        let given: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
        let found = there(&cluster, "x", role, &given);
        match found.and_then(|found| named(found, &given, &none_of(role))) {
            Ok(found) => names(&found),
            Err(CtlError::Told(text)) => text,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_names_somebody_learns_that_nobody_of_them_fits() {
        let nobody = "x cluster doesn't have any members";
        assert_eq!(choice(&["n1"], RoleArg::Replica, &[]), nobody);
        assert_eq!(choice(&[], RoleArg::Any, &[]), nobody);
        let none = "No 'replica' among provided members";
        assert_eq!(choice(&["n1"], RoleArg::Replica, &["n1"]), none);
        assert_eq!(choice(&["n1", "n2"], RoleArg::Replica, &["n1", "n9"]), none);
        let none = "No 'any' among provided members";
        assert_eq!(choice(&[], RoleArg::Any, &["n1"]), none);
    }

    #[test]
    fn names_and_roles_choose_together() {
        let two = ["n1", "n2"];
        assert_eq!(choice(&two, RoleArg::Any, &[]), "n1, n2");
        assert_eq!(choice(&two, RoleArg::Any, &["n9", "n2", "n1"]), "n1, n2");
        assert_eq!(choice(&two, RoleArg::Replica, &[]), "n2");
        assert_eq!(choice(&two, RoleArg::Primary, &["n1", "n2"]), "n1");
    }
}
