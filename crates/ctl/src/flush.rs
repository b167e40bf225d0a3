//! `flush`: what is scheduled is discarded.

use crate::args::FlushArgs;
use crate::error::CtlError;
use crate::members::{Ending, ask, confirmed, meant};
use crate::output::{line, timestamp};
use crate::pause::leader_first;
use crate::session::{Seen, Session};
use pgherd_model::{Failover, Span};

/// How long a member may take.
const LIMIT: Span = Span::from_secs(10);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &FlushArgs) -> Result<(), CtlError> {
    let (what, names) = args
        .words
        .split_last()
        .map_or(("", &[][..]), |(last, rest)| (last.as_str(), rest));
    let scope = session.scope(Some(&args.cluster))?;
    match what {
        "restart" => restart(session, &session.see(&scope).await?, args, names).await,
        "switchover" => switchover(session, &session.see(&scope).await?).await,
        other => Err(CtlError::Usage(format!(
            "Invalid value for '{{restart|switchover}}': '{other}' is not one of 'restart', 'switchover'."
        ))),
    }
}

async fn restart(
    session: &Session,
    seen: &Seen,
    args: &FlushArgs,
    names: &[String],
) -> Result<(), CtlError> {
    let members = meant(seen, args.role.unwrap_or_default(), names)?;
    confirmed(&members, "flush", args.force)?;
    let peers = session.peers()?;
    let mut ending = Ending::default();
    for member in members {
        if member.scheduled_restart.is_none() {
            line(&format!("No scheduled restart for member {}", member.name))?;
            continue;
        }
        let answer = ask(&peers, member, ("DELETE", "restart"), None, LIMIT).await;
        ending.tell(member, "flush scheduled restart", answer, |_, _| None)?;
    }
    ending.result()
}

/// Any member may take the request; when none does, the key itself is cleaned.
async fn switchover(session: &Session, seen: &Seen) -> Result<(), CtlError> {
    let scheduled = seen.cluster.failover_request();
    if scheduled.is_none_or(|request| request.scheduled_at.is_none()) {
        return line("No pending scheduled switchover");
    }
    let peers = session.peers()?;
    for member in leader_first(seen) {
        let name = &member.name;
        match ask(&peers, member, ("DELETE", "switchover"), None, LIMIT).await {
            Ok(answer) => {
                let text = answer.text.trim_end();
                match answer.status {
                    200 => return line(&format!("Success: {text}")),
                    404 => {
                        line(&format!("Failed: {text}"))?;
                        return Err(CtlError::Refused);
                    }
                    status => line(&format!(
                        "Failed: member={name}, status_code={status}, ({text})"
                    ))?,
                }
            }
            Err(cause) => eprintln!("Member {name} is not accessible: {cause}"),
        }
    }
    eprintln!("Failing over to DCS");
    line(&format!(
        "{} Could not find any accessible member of cluster {}",
        timestamp(5),
        seen.scope
    ))?;
    match seen.write_failover(Failover::default()).await? {
        true => Ok(()),
        false => Err(CtlError::told(
            "somebody else changed the failover key meanwhile: look at the list",
        )),
    }
}
