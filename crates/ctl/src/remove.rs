//! `remove`: everything about a cluster is deleted from the lock service. Its data stays.

use crate::args::RemoveArgs;
use crate::error::CtlError;
use crate::list::show;
use crate::output::say;
use crate::prompt::ask_for;
use crate::session::Session;

/// What a person has to type.
const AWARE: &str = "Yes I am aware";

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &RemoveArgs) -> Result<(), CtlError> {
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let scope = &seen.scope;
    say(&show(&seen, false, args.format))?;
    if ask_for("Please confirm the cluster name to remove")? != *scope {
        return Err(CtlError::told("Cluster names specified do not match"));
    }
    let question = format!(
        "You are about to remove all information in DCS for {scope}, please type: \"{AWARE}\""
    );
    if ask_for(&question)? != AWARE {
        return Err(CtlError::told(format!(
            "You did not exactly type \"{AWARE}\""
        )));
    }
    if let Some(leader) = seen.cluster.leader_name() {
        let named = ask_for(
            "This cluster currently is healthy. Please specify the leader name to continue",
        )?;
        if named != leader.as_str() {
            return Err(CtlError::told(
                "You did not specify the current leader of the cluster",
            ));
        }
    }
    seen.remove().await
}
