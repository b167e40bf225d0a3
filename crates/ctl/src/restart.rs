//! `restart`: PostgreSQL of members is restarted, one after the other in an order that keeps standbys going, now or at
//! a time, with conditions.

use crate::args::RestartArgs;
use crate::error::CtlError;
use crate::failover::{an_hour_from_now, schedule};
use crate::members::{Ending, agreed, ask, meant, names};
use crate::not_lower::Turns;
use crate::prompt;
use crate::session::Session;
use pgherd_model::{Member, Schedule, Span};
use pgherd_peer::Peers;
use serde_json::{Map, Value};

/// How long a restart may take: a shutdown checkpoint and recovery are a matter of minutes.
const LIMIT: Span = Span::from_secs(3600);
/// How long a member may take that only notes something.
const NOTE_LIMIT: Span = Span::from_secs(10);

/// Runs the command.
pub(crate) async fn run(session: &Session, args: &RestartArgs) -> Result<(), CtlError> {
    let seen = session.see(&session.scope(Some(&args.cluster))?).await?;
    let members = meant(&seen, args.role.unwrap_or_default(), &args.members)?;
    let at = when(args)?;
    let members = chosen(members, args, at.is_some());
    if members.is_empty() {
        eprintln!("No restart is pending on any of these members: nothing is restarted");
        return Ok(());
    }
    let (question, action) = question(&members, args.pending, at.as_ref());
    agreed(&question, action, args.force)?;
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
    let asked = Asked {
        peers: &session.peers()?,
        body: &body,
        // What is scheduled already stands in the way.
        flush: args.force && at.is_some(),
        limit: if at.is_some() { NOTE_LIMIT } else { LIMIT },
    };
    let mut ending = Ending::default();
    match at {
        // Those that only note something all begin at the same time.
        Some(_) => {
            for member in members {
                asked.ask(member, &mut ending).await?;
            }
        }
        None => {
            let turns = Turns::of(members, seen.cluster.leader_name());
            one_after_the_other(&turns, &asked, &mut ending).await?;
        }
    }
    ending.result()
}

/// Whoever must not come before one that has failed is left alone.
async fn one_after_the_other(
    turns: &Turns<'_>,
    asked: &Asked<'_>,
    ending: &mut Ending,
) -> Result<(), CtlError> {
    let (mut failed, mut left): (Vec<&Member>, Vec<&Member>) = (Vec::new(), Vec::new());
    for member in turns.members.iter().copied() {
        if failed.iter().any(|earlier| turns.waits(member, earlier)) {
            left.push(member);
        } else if !asked.ask(member, ending).await? {
            failed.push(member);
        }
    }
    if !left.is_empty() {
        eprintln!(
            "Left as they are: {} (a standby must not have less than its primary: {} first)",
            names(&left),
            names(&failed)
        );
    }
    Ok(())
}

/// What every member is asked.
struct Asked<'a> {
    peers: &'a Peers,
    body: &'a str,
    /// A restart that is scheduled is taken back before.
    flush: bool,
    limit: Span,
}

impl Asked<'_> {
    /// Asks one, and prints what it said; `false`: it is not restarted.
    async fn ask(&self, member: &Member, ending: &mut Ending) -> Result<bool, CtlError> {
        if self.flush && member.scheduled_restart.is_some() {
            let gone = ask(self.peers, member, ("DELETE", "restart"), None, NOTE_LIMIT).await;
            if !gone.as_ref().is_ok_and(|answer| answer.status < 400) {
                ending.tell(member, "flush scheduled restart", gone, |_, _| None)?;
            }
        }
        let request = ("POST", "restart");
        let answer = ask(self.peers, member, request, Some(self.body), self.limit).await;
        let taken = answer.as_ref().is_ok_and(|answer| answer.status < 400);
        ending.tell(member, "restart", answer, |status, name| match status {
            200 => Some(format!("Success: restart on member {name}")),
            202 => Some(format!("Success: restart scheduled on member {name}")),
            409 => Some(format!(
                "Failed: another restart is already scheduled on member {name}"
            )),
            _ => None,
        })?;
        Ok(taken)
    }
}

/// Those of `members` that are asked, and asked about. At a time each member judges for itself whether a restart
/// is pending then: nobody is left out before.
fn chosen<'a>(
    mut members: Vec<&'a Member>,
    args: &RestartArgs,
    scheduled: bool,
) -> Vec<&'a Member> {
    if args.pending && !scheduled {
        members.retain(|member| member.pending_restart);
    }
    match args.any {
        true => one_of(members),
        false => members,
    }
}

/// What is asked before anything is done, and what was given up if the answer is no.
fn question(members: &[&Member], pending: bool, at: Option<&Schedule>) -> (String, &'static str) {
    let names = names(members);
    match at {
        None => (
            format!("Are you sure you want to restart members {names}?"),
            "restart",
        ),
        Some(_) if pending => (
            "The nodes needing a restart will be identified at the scheduled time, and might be different \
             from the ones showing pending restart right now. Is this fine?"
                .to_owned(),
            "scheduled restart",
        ),
        Some(at) => {
            let at = at.text.replacen('T', " ", 1);
            let question =
                format!("Are you sure you want to schedule restart of members {names} at {at}?");
            (question, "scheduled restart")
        }
    }
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
    use pgherd_wire::patroni::dcs;

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

    /// `n2` waits for a restart, the others do not.
    fn three() -> Vec<Member> {
        ["{}", "{\"pending_restart\": true}", "{}"]
            .into_iter()
            .zip(["n1", "n2", "n3"])
            .map(|(text, name)| dcs::member_from_json(name.into(), text, 1))
            .collect()
    }

    fn args(words: &[&str]) -> RestartArgs {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RestartArgs,
        }
        let words = ["restart", "x"].iter().chain(words);
        <Line as clap::Parser>::try_parse_from(words).unwrap().args
    }

    #[test]
    fn who_waits_for_a_restart_is_judged_when_it_is_due() {
        let three = three();
        let members = || three.iter().collect::<Vec<_>>();
        let of = |words: &[&str], scheduled| names(&chosen(members(), &args(words), scheduled));
        assert_eq!(of(&["--pending"], false), "n2");
        assert_eq!(of(&["--pending"], true), "n1, n2, n3");
        assert_eq!(of(&["--pending", "--any"], false), "n2");
        assert_eq!(of(&[], false), "n1, n2, n3");
        let at = schedule("2130-01-01T00:00Z").unwrap();
        let (text, action) = question(&members(), true, at.as_ref());
        assert!(
            text.starts_with("The nodes needing a restart will be"),
            "{text}"
        );
        assert_eq!(action, "scheduled restart");
    }

    #[test]
    fn one_is_drawn_before_the_question_names_it() {
        let three = three();
        let drawn = chosen(three.iter().collect(), &args(&["--any"]), false);
        assert_eq!(drawn.len(), 1);
        let (text, _) = question(&drawn, false, None);
        let name = &drawn[0].name;
        assert_eq!(
            text,
            format!("Are you sure you want to restart members {name}?")
        );
    }
}
