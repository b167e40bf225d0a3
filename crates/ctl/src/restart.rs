//! `restart`: PostgreSQL of members is restarted, now or at a time, with conditions.

use crate::args::RestartArgs;
use crate::error::CtlError;
use crate::failover::{an_hour_from_now, schedule};
use crate::members::{Ending, ask, confirmed, named, none_of, of_role, say_table};
use crate::prompt;
use crate::session::Session;
use pgherd_model::{Member, Schedule, Span};
use serde_json::{Map, Value};

/// How long a restart may take: a shutdown checkpoint and recovery are a matter of minutes.
const LIMIT: Span = Span::from_secs(3600);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &RestartArgs) -> Result<(), CtlError> {
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let role = args.role.unwrap_or_default();
    let members = of_role(&seen, role)?;
    say_table(&seen)?;
    let mut members = named(members, &args.members, &none_of(role))?;
    let at = when(args)?;
    if args.pending {
        members.retain(|member| member.pending_restart);
    }
    if members.is_empty() {
        return Ok(());
    }
    let shown = at.as_ref().map(|at| at.text.replacen('T', " ", 1));
    confirmed(&members, "restart", shown.as_deref(), args.force)?;
    if args.any {
        members = one_of(members);
    }
    let version = match &args.pg_version {
        Some(version) => version.clone(),
        None if args.force => String::new(),
        None => prompt::ask(
            "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ",
            "",
        )?,
    };
    judge_version(&version)?;
    if at.is_some() && seen.mode().paused {
        let text = "Can't schedule restart in the paused state";
        return Err(CtlError::told(text));
    }
    let body = body(args, &version, at.as_ref());
    let peers = session.peers()?;
    let mut ending = Ending::default();
    for member in members {
        if args.force && at.is_some() && member.scheduled_restart.is_some() {
            // What is scheduled stands in the way.
            let gone = ask(&peers, member, ("DELETE", "restart"), None, LIMIT).await;
            if !gone.as_ref().is_ok_and(|answer| answer.status < 400) {
                ending.tell(member, "flush scheduled restart", gone, |_, _| None)?;
            }
        }
        let answer = ask(&peers, member, ("POST", "restart"), Some(&body), LIMIT).await;
        ending.tell(member, "restart", answer, |status, name| match status {
            200 => Some(format!("Success: restart on member {name}")),
            202 => Some(format!("Success: restart scheduled on member {name}")),
            409 => Some(format!(
                "Failed: another restart is already scheduled on member {name}"
            )),
            _ => None,
        })?;
    }
    ending.result()
}

/// `None`: now.
fn when(args: &RestartArgs) -> Result<Option<Schedule>, CtlError> {
    match (&args.scheduled, args.force) {
        (Some(text), _) => schedule(text),
        (None, true) => Ok(None),
        (None, false) => {
            let example = an_hour_from_now();
            let question = format!("When should the restart take place (e.g. {example}) ");
            schedule(&prompt::ask(&question, "now")?)
        }
    }
}

/// Any one of them, not always the first: the part of this second decides.
fn one_of(members: Vec<&Member>) -> Vec<&Member> {
    let part = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() / 1000;
    let at = part as usize % members.len().max(1);
    members.into_iter().skip(at).take(1).collect()
}

fn judge_version(version: &str) -> Result<(), CtlError> {
    if version.is_empty() {
        return Ok(());
    }
    let parts: Vec<&str> = version.split('.').collect();
    if parts.iter().any(|part| part.parse::<u32>().is_err()) {
        return Err(CtlError::told(format!(
            "Invalid PostgreSQL version: {version}"
        )));
    }
    // Up to 9.6 the first two parts together were the major version.
    let old = parts.first().is_some_and(|first| first.len() == 1);
    match parts.len() {
        2 if !old => Ok(()),
        3 => Ok(()),
        _ => Err(CtlError::told(format!(
            "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {version}"
        ))),
    }
}

fn body(args: &RestartArgs, version: &str, at: Option<&Schedule>) -> String {
    let mut body = Map::new();
    if args.pending {
        body.insert("restart_pending".into(), Value::Bool(true));
    }
    if !version.is_empty() {
        body.insert("postgres_version".into(), version.into());
    }
    if let Some(timeout) = &args.timeout {
        body.insert("timeout".into(), timeout.as_str().into());
    }
    if let Some(at) = at {
        body.insert("schedule".into(), at.text.as_str().into());
    }
    Value::Object(body).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_two_or_three_parts() {
        for good in ["", "9.5.2", "15.1", "16.0"] {
            assert_eq!(judge_version(good), Ok(()));
        }
        assert_eq!(
            judge_version("abc"),
            Err(CtlError::told("Invalid PostgreSQL version: abc"))
        );
        assert!(judge_version("9.5").is_err());
        let format = "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 15";
        assert_eq!(judge_version("15"), Err(CtlError::told(format)));
    }
}
