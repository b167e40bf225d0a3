//! `reinit`: replicas are made anew.

mod wait;

use crate::Persona;
use crate::args::{ReinitArgs, RoleArg};
use crate::error::CtlError;
use crate::members::{Ending, ask, confirmed, named, names, say_table, there};
use crate::prompt;
use crate::session::Session;
use pgherd_model::{Member, Span};
use pgherd_peer::{PeerError, Peers, Response};
use serde_json::json;

/// How long a member may take to answer: it only begins.
const LIMIT: Span = Span::from_secs(60);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &ReinitArgs) -> Result<(), CtlError> {
    judge(args, session.persona)?;
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let replicas = there(&seen.cluster, &seen.scope, RoleArg::Replica, &args.members)?;
    say_table(&seen)?;
    let members = choose(replicas, args)?;
    confirmed(&members, "reinitialize", args.force)?;
    let peers = session.peers()?;
    let mut ending = Ending::default();
    let mut begun = Vec::new();
    'members: for member in members {
        let mut force = args.force;
        let mut answer = post(&peers, member, force, args.from_leader).await;
        while !args.force && is_busy(&answer) {
            Ending::default().tell(member, "reinitialize", answer, |_, _| None)?;
            force = prompt::confirm("Do you want to cancel it and reinitialize anyway?")?;
            if !force {
                ending.refuse();
                continue 'members;
            }
            answer = post(&peers, member, force, args.from_leader).await;
        }
        if answer.as_ref().is_ok_and(|answer| answer.status < 400) {
            begun.push(member);
        }
        ending.tell(member, "reinitialize", answer, |_, _| None)?;
    }
    if args.wait {
        wait::all(&peers, begun, &mut ending).await?;
    }
    ending.result()
}

/// Nobody can be asked which member is meant. patronictl does nothing then, and says that all went well.
fn judge(args: &ReinitArgs, persona: Persona) -> Result<(), CtlError> {
    match args.force && args.members.is_empty() && persona == Persona::Pgherd {
        false => Ok(()),
        true => Err(CtlError::Usage(
            "reinit --force asks nothing: name the members whose data are to be made anew"
                .to_owned(),
        )),
    }
}

/// The named ones; without names a person is asked, and with `--force` nobody is.
fn choose<'a>(replicas: Vec<&'a Member>, args: &ReinitArgs) -> Result<Vec<&'a Member>, CtlError> {
    if !args.members.is_empty() {
        return named(replicas, &args.members, "No replica among provided members");
    }
    if args.force {
        return Ok(Vec::new());
    }
    let known = names(&replicas);
    let question = format!("Which member do you want to reinitialize [{known}]?");
    let name = prompt::ask(&question, "")?;
    let found = replicas.into_iter().find(|m| m.name.as_str() == name);
    match found {
        Some(member) => Ok(vec![member]),
        None => Err(CtlError::told(format!("{name} is not a member of cluster"))),
    }
}

fn is_busy(answer: &Result<Response, PeerError>) -> bool {
    answer.as_ref().is_ok_and(|answer| {
        answer.status >= 400 && answer.text.trim_end().ends_with(" already in progress")
    })
}

async fn post(
    peers: &Peers,
    member: &Member,
    force: bool,
    from_leader: bool,
) -> Result<Response, PeerError> {
    let body = json!({"force": force, "from_leader": from_leader}).to_string();
    ask(peers, member, ("POST", "reinitialize"), Some(&body), LIMIT).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn force_asks_nothing() {
        let args = |members: &[&str], force: bool| ReinitArgs {
            cluster: "x".into(),
            members: members.iter().map(|name| (*name).to_owned()).collect(),
            force,
            from_leader: false,
            wait: false,
        };
        let refused = judge(&args(&[], true), Persona::Pgherd);
        assert!(matches!(refused, Err(CtlError::Usage(_))), "{refused:?}");
        assert_eq!(judge(&args(&["n1"], true), Persona::Pgherd), Ok(()));
        assert_eq!(judge(&args(&[], false), Persona::Pgherd), Ok(()));
        assert_eq!(judge(&args(&[], true), Persona::Patronictl), Ok(()));
        assert_eq!(choose(Vec::new(), &args(&[], true)), Ok(Vec::new()));
    }
}
