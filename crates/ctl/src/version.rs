//! `version`: of this program, and of members as they say themselves.

use crate::args::VersionArgs;
use crate::error::CtlError;
use crate::members::ask;
use crate::output::line;
use crate::session::Session;
use crate::{PATRONI_VERSION, Persona};
use pgherd_model::{Member, Span};
use pgherd_peer::Peers;
use serde_json::Value;

/// How long a member may take.
const LIMIT: Span = Span::from_secs(10);

/// The version of this program: needs no configuration, and is asked for where there is none.
pub(crate) fn own(persona: Persona) -> Result<(), CtlError> {
    line(&match persona {
        Persona::Pgherd => format!("pgherd version {}", env!("CARGO_PKG_VERSION")),
        Persona::Patronictl => format!("patronictl version {PATRONI_VERSION}"),
    })
}

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &VersionArgs) -> Result<(), CtlError> {
    own(session.persona)?;
    let Some(cluster) = &args.cluster else {
        return Ok(());
    };
    line("")?;
    let seen = session.see(&session.scope(Some(cluster))?).await?;
    let peers = session.peers()?;
    let wanted = |member: &&Member| {
        let mut names = args.members.iter();
        args.members.is_empty() || names.any(|name| name == member.name.as_str())
    };
    let members = seen.cluster.members.values().map(|stored| &stored.value);
    let mut failed = false;
    for member in members.filter(wanted) {
        match of(&peers, member).await {
            Ok(text) => line(&format!("{}: {text}", member.name))?,
            Err(cause) => {
                failed = true;
                let name = &member.name;
                line(&format!("{name}: failed to get version: {cause}"))?;
            }
        }
    }
    if failed {
        return Err(CtlError::Refused);
    }
    Ok(())
}

async fn of(peers: &Peers, member: &Member) -> Result<String, String> {
    let answer = ask(peers, member, ("GET", "patroni"), None, LIMIT).await;
    let answer = answer.map_err(|cause| cause.to_string())?;
    let status: Value = serde_json::from_str(&answer.text)
        .map_err(|_| format!("answered {} without a status document", answer.status))?;
    let version = status["patroni"]["version"].as_str().unwrap_or("None");
    Ok(match status["server_version"].as_u64() {
        None => format!("Patroni {version}"),
        Some(number) => format!("Patroni {version} PostgreSQL {}", server_version(number)),
    })
}

/// `150018` is 15.18, `90624` is 9.6.24.
fn server_version(number: u64) -> String {
    match number {
        100_000.. => format!("{}.{}", number / 10_000, number % 10_000),
        _ => {
            let (first, second, third) = (number / 10_000, number / 100 % 100, number % 100);
            format!("{first}.{second}.{third}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::server_version;

    #[test]
    fn numbers_of_servers_old_and_new() {
        assert_eq!(server_version(150_018), "15.18");
        assert_eq!(server_version(100_001), "10.1");
        assert_eq!(server_version(90_624), "9.6.24");
    }
}
