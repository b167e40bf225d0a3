//! `pause` and `resume`: automatic failover off and on.

use crate::args::PauseArgs;
use crate::clock;
use crate::error::CtlError;
use crate::members::ask;
use crate::output::line;
use crate::session::{Seen, Session};
use pgherd_model::{Member, Span};

/// How long a member may take.
const LIMIT: Span = Span::from_secs(10);
/// Between two looks of `--wait`.
const LOOK: Span = Span::from_secs(1);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &PauseArgs, paused: bool) -> Result<(), CtlError> {
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    if seen.mode().paused == paused {
        return Err(CtlError::told(match paused {
            true => "Cluster is already paused",
            false => "Cluster is not paused",
        }));
    }
    let peers = session.peers()?;
    let body = match paused {
        true => "{\"pause\": true}",
        false => "{\"pause\": null}",
    };
    let word = if paused { "pause" } else { "resume" };
    for member in leader_first(&seen) {
        let answer = ask(&peers, member, ("PATCH", "config"), Some(body), LIMIT).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(cause) => {
                eprintln!("Member {} is not accessible: {cause}", member.name);
                continue;
            }
        };
        if answer.status != 200 {
            line(&format!(
                "Failed: {word} cluster management status code={}, ({})",
                answer.status,
                answer.text.trim_end()
            ))?;
            return Err(CtlError::Refused);
        }
        let late = match args.wait {
            true => wait(&seen, paused).await?,
            false => Vec::new(),
        };
        line(&format!("Success: cluster management is {word}d"))?;
        if late.is_empty() {
            return Ok(());
        }
        eprintln!("Not noticed yet by: {}", late.join(", "));
        return Err(CtlError::Refused);
    }
    Err(CtlError::told("Can not find accessible cluster member"))
}

/// All members, the leader first.
pub(crate) fn leader_first(seen: &Seen) -> Vec<&Member> {
    let leader = seen.cluster.leader_name();
    let members = seen.cluster.members.values().map(|stored| &stored.value);
    let (mut first, others): (Vec<&Member>, Vec<&Member>) =
        members.partition(|member| leader == Some(&member.name));
    first.extend(others);
    first
}

/// Waits until every member says so in its key; returns those that have not within one loop.
async fn wait(seen: &Seen, paused: bool) -> Result<Vec<String>, CtlError> {
    let word = if paused { "pause" } else { "resume" };
    line(&format!(
        "'{word}' request sent, waiting until it is recognized by all nodes"
    ))?;
    let deadline = clock::now() + seen.loop_wait() + LOOK;
    loop {
        let now = seen.again().await?;
        let members = now.cluster.members.values().map(|stored| &stored.value);
        let late = members.filter(|member| member.pause != paused);
        let late: Vec<String> = late.map(|member| member.name.to_string()).collect();
        if late.is_empty() || clock::now() > deadline {
            return Ok(late);
        }
        tokio::time::sleep(LOOK).await;
    }
}
