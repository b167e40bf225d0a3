//! `reinit`: replicas are made anew.

use crate::args::{ReinitArgs, RoleArg};
use crate::clock;
use crate::error::CtlError;
use crate::members::{Ending, ask, confirmed, named, names, of_role, say_table};
use crate::output::line;
use crate::prompt;
use crate::session::Session;
use pgherd_model::{Member, Span};
use pgherd_peer::{PeerError, Peers, Response};
use serde_json::{Value, json};

/// How long a member may take to answer: it only begins.
const LIMIT: Span = Span::from_secs(60);
/// How long a status may take.
const STATUS_LIMIT: Span = Span::from_secs(10);
/// Between two looks of `--wait`.
const PAUSE: Span = Span::from_secs(2);
/// How long `--wait` waits: a copy of many terabytes takes hours.
const WAIT_LIMIT: Span = Span::from_secs(7 * 86_400);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &ReinitArgs) -> Result<(), CtlError> {
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let replicas = of_role(&seen, RoleArg::Replica)?;
    say_table(&seen)?;
    let members = choose(replicas, &args.members)?;
    confirmed(&members, "reinitialize", None, args.force)?;
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
        wait(&peers, begun).await?;
    }
    ending.result()
}

/// The named ones; without names a person is asked.
fn choose<'a>(replicas: Vec<&'a Member>, given: &[String]) -> Result<Vec<&'a Member>, CtlError> {
    if !given.is_empty() {
        return named(replicas, given, "No replica among provided members");
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

/// Waits until no member is being made any more.
async fn wait(peers: &Peers, mut members: Vec<&Member>) -> Result<(), CtlError> {
    let deadline = clock::now() + WAIT_LIMIT;
    let announce = |members: &[&Member]| match members {
        [] => Ok(()),
        members => line(&format!(
            "Waiting for reinitialize to complete on: {}",
            names(members)
        )),
    };
    announce(&members)?;
    while !members.is_empty() {
        if clock::now() > deadline {
            return Err(CtlError::told(format!(
                "{} not made within {} s: look at the log there",
                names(&members),
                WAIT_LIMIT.as_secs()
            )));
        }
        tokio::time::sleep(PAUSE).await;
        for member in members.clone() {
            if !is_being_made(peers, member).await {
                line(&format!("Reinitialize is completed on: {}", member.name))?;
                members.retain(|other| other.name != member.name);
                announce(&members)?;
            }
        }
    }
    Ok(())
}

/// A member that does not answer may be at it still.
async fn is_being_made(peers: &Peers, member: &Member) -> bool {
    let answer = ask(peers, member, ("GET", "patroni"), None, STATUS_LIMIT).await;
    let Ok(answer) = answer else {
        return true;
    };
    let status: Value = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
    match status["state"].as_str() {
        None | Some("creating replica") => true,
        Some(_) => false,
    }
}
