//! `dsn`: where a member's PostgreSQL is.

use crate::args::{DsnArgs, RoleArg};
use crate::error::CtlError;
use crate::members::with_role;
use crate::output::line;
use crate::session::{Seen, Session};
use pgherd_model::Member;

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &DsnArgs) -> Result<(), CtlError> {
    exclusive(args.role, args.member.as_deref())?;
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    let found = member(&seen, args.role, args.member.as_deref());
    let address = found.and_then(|member| member.address.as_ref());
    let Some((host, port)) = address else {
        return Err(CtlError::told("Can not find a suitable member"));
    };
    line(&format!("host={host} port={port}"))
}

/// A role and a name at once are too many.
pub(crate) fn exclusive(role: Option<RoleArg>, member: Option<&str>) -> Result<(), CtlError> {
    match (role, member) {
        (Some(_), Some(_)) => Err(CtlError::told(
            "--role and --member are mutually exclusive options",
        )),
        (_, _) => Ok(()),
    }
}

/// The named one, else the first with this role, which is leader where none is given.
pub(crate) fn member<'a>(
    seen: &'a Seen,
    role: Option<RoleArg>,
    name: Option<&str>,
) -> Option<&'a Member> {
    match name {
        Some(name) => seen.cluster.member(&name.into()),
        None => {
            let role = role.unwrap_or(RoleArg::Leader);
            with_role(&seen.cluster, role).into_iter().next()
        }
    }
}
