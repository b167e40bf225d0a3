//! `upgrade-agent`: the program that has replaced the file of a member's agent takes over from it, one member
//! after the other, the leader last. PostgreSQL, the lock and clients do not notice.

use crate::args::UpgradeArgs;
use crate::error::CtlError;
use crate::explain;
use crate::members::{Ending, agreed, ask, meant, names};
use crate::output::line;
use crate::session::{Seen, Session};
use pgherd_model::{Member, Span};
use pgherd_peer::Peers;
use serde_json::Value;
use std::time::Instant;

/// How long a member may take to try the new program: longer than it allows that program itself.
const LIMIT: Span = Span::from_secs(20);
/// How often a member is asked whether the new program answers.
const LOOK_EVERY: Span = Span::from_millis(50);

/// Runs the command. A member that fails ends it: a program that one agent cannot run should not reach
/// the next.
pub(crate) async fn run(session: &Session, args: &UpgradeArgs) -> Result<(), CtlError> {
    let of = &args.of;
    let patience = patience(args.wait)?;
    let seen = session.see(&session.scope(Some(&of.cluster))?).await?;
    let members = meant(&seen, of.role.unwrap_or_default(), &of.members)?;
    let members = leader_last(&seen, members);
    let names = names(&members);
    let question = format!("Are you sure you want to upgrade the agents of members {names}?");
    agreed(&question, "upgrade", of.force)?;
    let peers = session.peers()?;
    let mut rest = members.iter();
    for member in rest.by_ref() {
        if let Err(error) = upgrade(&peers, member, patience).await {
            let left: Vec<&str> = rest.map(|member| member.name.as_str()).collect();
            if !left.is_empty() {
                eprintln!("Left as they are: {}", left.join(", "));
            }
            return Err(error);
        }
    }
    Ok(())
}

fn patience(seconds: f64) -> Result<Span, CtlError> {
    match Span::try_from_secs_f64(seconds) {
        Ok(span) if !span.is_zero() => Ok(span),
        _ => Err(CtlError::Usage(format!(
            "--wait: expected a number of seconds above 0, found {seconds}"
        ))),
    }
}

/// The leader's turn comes when the program has shown on others that it runs.
fn leader_last<'a>(seen: &Seen, mut members: Vec<&'a Member>) -> Vec<&'a Member> {
    let leader = seen.cluster.leader_name();
    members.sort_by_key(|member| leader == Some(&member.name));
    members
}

async fn upgrade(peers: &Peers, member: &Member, patience: Span) -> Result<(), CtlError> {
    let name = &member.name;
    let failed = |cause: String| {
        eprintln!("Failed: upgrade for member {name}: {cause}");
        CtlError::Failed
    };
    let before = explain::ask(peers, member).await.map_err(failed)?;
    // Whether another program answers could not be told from it.
    if began(&before).is_null() {
        let text = "its agent is too old to be upgraded in place: restart its service once";
        return Err(failed(text.to_owned()));
    }
    let answer = ask(peers, member, ("POST", "pgherd/upgrade"), None, LIMIT).await;
    if !matches!(&answer, Ok(answer) if answer.status == 202) {
        let mut ending = Ending::default();
        ending.tell(member, "upgrade", answer, |_, _| None)?;
        // Whatever else was said, the program was not taken.
        return Err(ending.result().err().unwrap_or(CtlError::Refused));
    }
    let begun = Instant::now();
    let mut last = String::from("the program of before still answers: something long runs there");
    while begun.elapsed() < patience {
        match explain::ask(peers, member).await {
            Ok(now) if began(&now) != began(&before) => {
                let took = begun.elapsed().as_secs_f64();
                return line(&format!(
                    "Success: upgrade for member {name}: pgherd {} instead of {}, after {took:.1} s",
                    version(&now),
                    version(&before)
                ));
            }
            Ok(_) => {}
            Err(cause) => last = cause,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let seconds = patience.as_secs_f64();
    Err(failed(format!("not done after {seconds} s: {last}")))
}

/// When the program that answers began, as its own clock has it.
fn began(document: &Value) -> &Value {
    &document["agent"]["started_ms"]
}

fn version(document: &Value) -> &str {
    document["agent"]["version"].as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_some_time() {
        assert_eq!(patience(0.5), Ok(Span::from_millis(500)));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(patience(bad), Err(CtlError::Usage(_))), "{bad}");
        }
    }
}
