//! `reload`: members read their configuration again.

use crate::args::MembersArgs;
use crate::error::CtlError;
use crate::members::{Ending, ask, confirmed, meant};
use crate::session::Session;
use pgherd_model::Span;

/// How long a member may take: it only notes the request.
const LIMIT: Span = Span::from_secs(10);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &MembersArgs) -> Result<(), CtlError> {
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let members = meant(&seen, args.role.unwrap_or_default(), &args.members)?;
    confirmed(&members, "reload", args.force)?;
    let peers = session.peers()?;
    let seconds = seen.loop_wait().as_secs();
    let mut ending = Ending::default();
    for member in members {
        let answer = ask(&peers, member, ("POST", "reload"), None, LIMIT).await;
        ending.tell(member, "reload", answer, |status, name| match status {
            200 => Some(format!("No changes to apply on member {name}")),
            202 => Some(format!(
                "Reload request received for member {name} and will be processed within {seconds} seconds"
            )),
            _ => None,
        })?;
    }
    ending.result()
}
