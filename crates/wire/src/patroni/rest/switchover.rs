//! `POST /switchover` and `POST /failover`: what is asked for, whether it can be done, and the
//! texts of the answers (contract: patroni-rest, section 9; the numbers are its rows).

use super::cluster::{Mode, named_in_sync};
use super::time::parse_schedule;
use jiff::Timestamp;
use pgherd_model::{Cluster, Failover, MemberName, PeerStatus, SynchronousMode};
use serde_json::Value;

/// Which of the two was asked for. A failover that names a leader becomes a switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `POST /switchover`
    Switchover,
    /// `POST /failover`
    Failover,
}

impl Action {
    /// `switchover` or `failover`.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Switchover => "switchover",
            Action::Failover => "failover",
        }
    }
}

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code.
    pub status: u16,
    /// Text; empty: the HTML error page of the status code.
    pub text: String,
}

/// A request that can be granted, if one of `ask` turns out to be a good candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What it is from here on.
    pub action: Action,
    /// To be written to `failover`.
    pub failover: Failover,
    /// Members whose `GET /patroni` decides: one of them has to pass [`no_good_candidate`].
    /// Empty for a scheduled request, which is judged when it is due.
    pub ask: Vec<MemberName>,
}

/// What the body of a request says by itself, before anything is known of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    action: Action,
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<String>,
}

fn no<T>(status: u16, text: &str) -> Result<T, Refusal> {
    let text = text.to_owned();
    Err(Refusal { status, text })
}

impl Wish {
    /// Rows 1 to 3: what is wrong whatever the cluster is like.
    ///
    /// # Errors
    /// The answer of the first row that fails.
    pub fn read(action: Action, body: &[u8]) -> Result<Wish, Refusal> {
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let Some(request) = body.as_object().filter(|request| !request.is_empty()) else {
            return no(400, "");
        };
        let text = |key: &str| request.get(key).and_then(text_of);
        let wish = Wish {
            action,
            leader: text("leader"),
            candidate: text("candidate").or_else(|| text("member")),
            scheduled_at: text("scheduled_at"),
        };
        match action {
            Action::Failover if wish.candidate.is_none() => no(
                400,
                "Failover could be performed only to a specific candidate",
            ),
            Action::Switchover if wish.leader.is_none() => no(
                400,
                "Switchover could be performed only from a specific leader",
            ),
            Action::Failover if wish.scheduled_at.is_some() => {
                no(400, "Failover can't be scheduled")
            }
            Action::Failover | Action::Switchover => Ok(wish),
        }
    }

    /// Rows 4 to 13: whether this cluster can do it. `now` matters for a scheduled one.
    ///
    /// # Errors
    /// The answer of the first row that fails.
    pub fn judge(self, cluster: &Cluster, mode: Mode, now: Timestamp) -> Result<Accepted, Refusal> {
        let schedule = match &self.scheduled_at {
            None => None,
            Some(_) if mode.paused => {
                return no(400, "Can't schedule switchover in the paused state");
            }
            Some(time) => Some(parse_schedule(time, now).map_err(|bad| {
                let (status, text) = bad.answer("switchover");
                Refusal { status, text }
            })?),
        };
        if mode.paused && self.candidate.is_none() {
            let text = "Switchover is possible only to a specific candidate in a paused state";
            return no(400, text);
        }
        let action = match self.leader {
            Some(_) => Action::Switchover,
            None => self.action,
        };
        if self.leader == self.candidate {
            return no(400, "Switchover target and source are the same");
        }
        let failover = Failover {
            leader: self.leader.map(MemberName),
            member: self.candidate.map(MemberName),
            scheduled_at: schedule,
        };
        let ask = match failover.scheduled_at {
            Some(_) => Vec::new(),
            None => candidates(action, &failover, cluster, mode)?,
        };
        Ok(Accepted {
            action,
            failover,
            ask,
        })
    }
}

/// Rows 9 to 13: who could take over.
fn candidates(
    action: Action,
    request: &Failover,
    cluster: &Cluster,
    mode: Mode,
) -> Result<Vec<MemberName>, Refusal> {
    let no = |text: String| Err(Refusal { status: 412, text });
    let impossible = |why: &str| no(format!("{} is not possible: {why}", action.as_str()));
    if request.leader.is_some() && request.leader.as_ref() != cluster.leader_name() {
        return no("leader name does not match".into());
    }
    let priority_mode = mode.active_sync() == SynchronousMode::On;
    if let Some(candidate) = &request.member {
        let synchronous = named_in_sync(cluster, candidate);
        if action == Action::Switchover && priority_mode && !synchronous {
            return no("candidate name does not match with sync_standby".into());
        }
        if !cluster.members.contains_key(candidate) {
            return no("candidate does not exists".into());
        }
        return Ok(vec![candidate.clone()]);
    }
    let names = cluster.members.keys().cloned();
    if priority_mode {
        let standbys: Vec<_> = names.filter(|name| named_in_sync(cluster, name)).collect();
        if standbys.is_empty() {
            return impossible("can not find sync_standby");
        }
        return Ok(standbys);
    }
    let others: Vec<_> = names
        .filter(|name| cluster.leader_name() != Some(name))
        .filter(|name| cluster.member(name).is_some_and(|m| !m.api_url.is_empty()))
        .collect();
    if others.is_empty() {
        return impossible("cluster does not have members except leader");
    }
    Ok(others)
}

/// Row 14, after the members of [`Accepted::ask`] were asked (`None`: no answer): the refusal if
/// none of them could take over.
pub fn no_good_candidate<'a>(
    action: Action,
    answers: impl IntoIterator<Item = Option<&'a PeerStatus>>,
) -> Option<Refusal> {
    let good = |peer: &PeerStatus| peer.reachable && !peer.tags.nofailover && !peer.watchdog_failed;
    if answers.into_iter().flatten().any(good) {
        return None;
    }
    let action = action.as_str();
    Some(Refusal {
        status: 412,
        text: format!("{action} is not possible: no good candidates have been found"),
    })
}

/// How a request that was written to `failover` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody else holds the lock.
    Done {
        /// Who.
        new_leader: MemberName,
    },
    /// The request is gone and the leader unchanged.
    Failed,
    /// Time is over.
    Unknown,
    /// `failover` could not be written.
    NotWritten,
}

/// Status code and text of the answer to a request that was not scheduled.
pub fn failover_outcome(
    action: Action,
    candidate: Option<&MemberName>,
    outcome: &Outcome,
) -> (u16, String) {
    let (title, verb, participle) = match action {
        Action::Switchover => ("Switchover", "Switched", "switched"),
        Action::Failover => ("Failover", "Failed", "failed"),
    };
    match (outcome, candidate) {
        (Outcome::Done { new_leader }, Some(wanted)) if wanted != new_leader => (
            200,
            format!("{verb} over to \"{new_leader}\" instead of \"{wanted}\""),
        ),
        (Outcome::Done { new_leader }, _) => (
            200,
            format!("Successfully {participle} over to \"{new_leader}\""),
        ),
        (Outcome::Failed, _) => (503, format!("{title} failed")),
        (Outcome::Unknown, _) => (503, format!("{title} status unknown")),
        (Outcome::NotWritten, _) => (503, "failed to write failover key into DCS".into()),
    }
}

/// Row 16: text of the 202 to a scheduled request.
pub fn scheduled_text(action: Action) -> &'static str {
    match action {
        Action::Switchover => "Switchover scheduled",
        Action::Failover => "Failover scheduled",
    }
}

/// Python's idea of "given": empty and zero values are not.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::String(_) | Value::Null | Value::Bool(false) => None,
        other => Some(other.to_string()),
    }
}
