//! `demote-cluster` and `promote-cluster`: a whole cluster becomes a copy of another one, or one of its own again
//! (contract: patronictl, section 2).

use crate::args::{DemoteClusterArgs, PromoteClusterArgs};
use crate::clock;
use crate::error::CtlError;
use crate::members::{agreed, ask, say_table};
use crate::output::{line, say, timestamp};
use crate::session::{Seen, Session};
use pgherd_model::{Member, PostgresState, Role, Span};
use serde_json::{Map, Value, json};

/// How long the leader may take to change the configuration.
const LIMIT: Span = Span::from_secs(10);
/// Between two looks.
const LOOK: Span = Span::from_secs(1);
/// Who waits for longer can look for himself: the cluster goes on with what it was told.
const PATIENCE: Span = Span::from_secs(600);

/// Makes it a standby cluster.
pub(crate) async fn demote(session: &Session, args: &DemoteClusterArgs) -> Result<(), CtlError> {
    let section = section(args)?;
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    change(session, seen, Some(section), args.force).await
}

/// Makes it a cluster of its own.
pub(crate) async fn promote(session: &Session, args: &PromoteClusterArgs) -> Result<(), CtlError> {
    let seen = session
        .see(&session.scope(args.cluster.as_deref())?)
        .await?;
    change(session, seen, None, args.force).await
}

/// `standby_cluster` as the command line says.
fn section(args: &DemoteClusterArgs) -> Result<Value, CtlError> {
    let text = |value: &Option<String>| {
        let value = value.as_ref().filter(|value| !value.is_empty());
        value.map(|value| json!(value))
    };
    let port = args.port.filter(|port| *port > 0).map(|port| json!(port));
    let (host, command) = (text(&args.host), text(&args.restore_command));
    if host.is_none() && port.is_none() && command.is_none() {
        return Err(CtlError::told(
            "At least --host, --port or --restore-command should be specified",
        ));
    }
    let pairs = [
        ("host", host),
        ("port", port),
        ("restore_command", command),
        ("primary_slot_name", text(&args.primary_slot_name)),
    ];
    let pairs = pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Value::Object(pairs.collect::<Map<_, _>>()))
}

/// `section`: what is to be in the configuration; `None`: nothing.
async fn change(
    session: &Session,
    seen: Seen,
    section: Option<Value>,
    force: bool,
) -> Result<(), CtlError> {
    let (word, role) = match section {
        Some(_) => ("demot", Role::StandbyLeader),
        None => ("promot", Role::Primary),
    };
    let Some(leader) = leader(&seen) else {
        return Err(CtlError::told(format!(
            "Cluster has no leader, {word}ion is not possible"
        )));
    };
    if leader.role == Some(role) && seen.mode().standby_cluster == section.is_some() {
        return Err(CtlError::told("Cluster is already in the required state"));
    }
    say("Current cluster topology\n")?;
    say_table(&seen)?;
    let question = format!("Are you sure you want to {word}e {} cluster?", seen.scope);
    agreed(&question, &format!("cluster {word}ion"), force)?;
    let peers = session.peers()?;
    let body = json!({"standby_cluster": section}).to_string();
    let answer = ask(&peers, leader, ("PATCH", "config"), Some(&body), LIMIT).await;
    let refused = match answer {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(format!(
            "/config PATCH status code={}, ({})",
            answer.status,
            answer.text.trim_end()
        )),
        Err(cause) => Some(cause.to_string()),
    };
    if let Some(reason) = refused {
        let scope = &seen.scope;
        return Err(CtlError::told(format!(
            "Failed to {word}e {scope} cluster: {reason}"
        )));
    }
    wait(&seen, leader, role, word).await
}

fn leader(seen: &Seen) -> Option<&Member> {
    let name = seen.cluster.leader_name()?;
    seen.cluster.member(name)
}

/// Until whoever leads says that it is what it should be, and whoever led before runs again.
async fn wait(seen: &Seen, old: &Member, role: Role, word: &str) -> Result<(), CtlError> {
    let deadline = clock::now() + PATIENCE;
    loop {
        let now = seen.again().await?;
        let leader = leader(&now);
        let running = |member: &Member| member.state == Some(PostgresState::Running);
        let there = leader.is_some_and(|leader| leader.role == Some(role) && running(leader));
        let old_runs = now.cluster.member(&old.name).is_some_and(running);
        let time = timestamp(0);
        if there && (old_runs || role == Role::Primary) {
            line(&format!("{time} cluster is successfully {word}ed"))?;
            return say_table(&now);
        }
        if clock::now() >= deadline {
            let seconds = PATIENCE.as_secs();
            let text = format!("cluster is not {word}ed after {seconds} s; it goes on with that");
            return Err(CtlError::told(text));
        }
        let shown = |word: Option<&'static str>| word.unwrap_or("unknown");
        line(&format!(
            "{time} cluster is unlocked: {}, leader role: {}, leader state: {}",
            now.cluster.leader.is_none(),
            shown(leader.and_then(|it| it.role).map(Role::as_str)),
            shown(leader.and_then(|it| it.state).map(PostgresState::as_str)),
        ))?;
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_what_is_given_and_needs_something_to_follow() {
        let args = |host: &str, port, command: &str, slot: &str| {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            DemoteClusterArgs {
                cluster: None,
                host: text(host),
                port,
                restore_command: text(command),
                primary_slot_name: text(slot),
                force: true,
            }
        };
        let found = section(&args("db1,db2", Some(5433), "", "site_b")).unwrap();
        let expected = json!({"host": "db1,db2", "port": 5433, "primary_slot_name": "site_b"});
        assert_eq!(found, expected);
        let found = section(&args("", None, "cp /a/%f %p", "")).unwrap();
        assert_eq!(found, json!({"restore_command": "cp /a/%f %p"}));
        let nothing = section(&args("", Some(0), "", "site_b"));
        let words = "At least --host, --port or --restore-command should be specified";
        assert_eq!(nothing, Err(CtlError::told(words)));
    }
}
