//! `pause` and `resume`: automatic failover off and on.

use crate::Persona;
use crate::args::PauseArgs;
use crate::clock;
use crate::error::CtlError;
use crate::members::ask;
use crate::output::line;
use crate::session::{Seen, Session};
use pgherd_model::{Cluster, Member, Span, Stored};

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
            true => wait(session.persona, &seen, paused).await?,
            false => Vec::new(),
        };
        if late.is_empty() {
            return line(&format!("Success: cluster management is {word}d"));
        }
        line(&format!(
            "{} members didn't recognized pause state after {} seconds",
            late.join(", "),
            seen.loop_wait().as_secs()
        ))?;
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
async fn wait(persona: Persona, seen: &Seen, paused: bool) -> Result<Vec<String>, CtlError> {
    let word = if paused { "pause" } else { "resume" };
    line(&format!(
        "'{word}' request sent, waiting until it is recognized by all nodes"
    ))?;
    let deadline = clock::now() + seen.loop_wait() + LOOK;
    loop {
        let now = seen.again().await?;
        let late = late(&seen.cluster, &now.cluster, paused);
        if late.is_empty() || clock::now() > deadline {
            return Ok(told(persona, late));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A member that has not noticed, and whether it has written its key since it was asked.
type Late = (String, bool);

/// Those that were there before, have an agent that can be asked, and have not noticed.
fn late(before: &Cluster, now: &Cluster, paused: bool) -> Vec<Late> {
    let late = |stored: &Stored<Member>| {
        let member = &stored.value;
        let known = before.members.get(&member.name)?;
        let waits = !known.value.api_url.is_empty() && member.pause != paused;
        waits.then(|| (member.name.to_string(), stored.revision != known.revision))
    };
    now.members.values().filter_map(late).collect()
}

/// Whom a person is told of. patronictl lets those pass that have written nothing since: they are gone, or hang. For
/// who wants to know that all have noticed, that is no success.
fn told(persona: Persona, late: Vec<Late>) -> Vec<String> {
    let counts = |(_, wrote): &Late| *wrote || persona == Persona::Pgherd;
    let late = late.into_iter().filter(counts);
    late.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgherd_wire::patroni::dcs;

    /// Members as `name revision pause api_url`.
    fn cluster(members: &[(&str, u64, bool, &str)]) -> Cluster {
        let member = |(name, revision, pause, api_url): &(&str, u64, bool, &str)| {
            let text = format!("{{\"pause\": {pause}, \"api_url\": \"{api_url}\"}}");
            let value = dcs::member_from_json((*name).into(), &text, 1);
            let revision = *revision;
            ((*name).into(), Stored { value, revision })
        };
        Cluster {
            members: members.iter().map(member).collect(),
            ..Cluster::default()
        }
    }

    #[test]
    fn who_has_not_noticed_is_told_of_once_all_had_time() {
        let url = "http://x:8008/patroni";
        let before = cluster(&[
            ("n1", 1, false, url),
            ("n2", 1, false, url),
            ("n3", 1, false, url),
            ("n4", 1, false, ""),
        ]);
        let now = cluster(&[
            ("n1", 2, true, url),
            ("n2", 2, false, url),
            ("n3", 1, false, url),
            ("n4", 1, false, ""),
            ("new", 2, false, url),
        ]);
        let late = late(&before, &now, true);
        let hung = [("n2".to_owned(), true), ("n3".to_owned(), false)];
        assert_eq!(late, hung);
        assert_eq!(told(Persona::Pgherd, late.clone()), ["n2", "n3"]);
        assert_eq!(told(Persona::Patronictl, late), ["n2"]);
    }
}
