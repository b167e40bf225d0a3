//! `/switchover` and `/failover`: judge the request, ask the candidates, write the key, and answer
//! as soon as the outcome is seen (contract: patroni-rest, section 9).

use super::answer::{self, Answer};
use super::{App, document, refused};
use crate::snapshot::Order;
use axum::body::Bytes;
use pgherd_model::{
    Answer as Stored, Cluster, Failover, MemberName, Op, PeerStatus, PostgresState, Role, Span,
};
use pgherd_wire::patroni::rest::{
    Accepted, Action, Outcome, Wish, failover_outcome, no_good_candidate, scheduled_text,
};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a candidate may take to say how it is.
const CANDIDATE_TIMEOUT: Span = Span::from_secs(2);

/// How often a request is written again when somebody else changed the key in between.
const TRIES: usize = 3;

/// How often the lock service is asked when nothing is told for so long.
const LOOK_AGAIN: Span = Span::from_secs(1);

/// `POST /switchover`, `POST /failover`.
pub(super) async fn post(app: Arc<App>, action: Action, body: Bytes) -> Answer {
    // The work goes on when the client goes away: the key may be written already.
    let work = tokio::spawn(async move { perform(&app, action, &body).await });
    match work.await {
        Ok(Ok(answer) | Err(answer)) => *answer,
        Err(_) => answer::page(503),
    }
}

async fn perform(app: &App, action: Action, body: &[u8]) -> Result<Box<Answer>, Box<Answer>> {
    let snapshot = app.last();
    // Before etcd is asked: a mistake is the client's, also while etcd is away.
    let wish = Wish::read(action, body).map_err(|refusal| refused(&refusal))?;
    let Some(written) = put(app, &wish).await? else {
        let (status, text) = failover_outcome(action, None, &Outcome::NotWritten);
        return Err(Box::new(answer::text(status, text)));
    };
    let Written {
        action,
        failover,
        watch,
    } = written;
    if failover.scheduled_at.is_some() {
        return Ok(Box::new(answer::text(202, scheduled_text(action))));
    }
    let limit = snapshot.settings.loop_wait.max(Span::from_secs(10)) * 2;
    let outcome = watch.outcome(app, limit).await;
    let (status, text) = failover_outcome(action, failover.member.as_ref(), &outcome);
    tracing::info!("REST: {}: {text}", action.as_str());
    Ok(Box::new(answer::text(status, text)))
}

/// A request that was granted, and is in the key now.
struct Written {
    action: Action,
    failover: Failover,
    watch: Watch,
}

/// Grants a request and writes it. Patroni writes whatever is in the key; here a request is written into
/// the cluster for which it was judged, so one that comes between others is judged again. `None`: it
/// could not be written.
async fn put(app: &App, wish: &Wish) -> Result<Option<Written>, Box<Answer>> {
    for _ in 0..TRIES {
        let cluster = app.fresh_cluster().await?;
        let (action, failover) = grant(app, wish, &cluster).await?;
        match write(app, &failover, &cluster).await {
            Some(Stored::Done { revision }) => {
                let watch = Watch {
                    old: cluster.leader_name().cloned(),
                    revision,
                    grace: app.last().settings.loop_wait,
                };
                return Ok(Some(Written {
                    action,
                    failover,
                    watch,
                }));
            }
            Some(_) => tracing::info!("REST: the failover key has changed: judging again"),
            None => break,
        }
    }
    Ok(None)
}

/// Whether this cluster can do it, and somebody is there to take over.
async fn grant(
    app: &App,
    wish: &Wish,
    cluster: &Cluster,
) -> Result<(Action, Failover), Box<Answer>> {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let wish = wish.clone();
    let accepted = wish
        .judge(cluster, document::mode(cluster), now)
        .map_err(|refusal| refused(&refusal))?;
    let Accepted {
        action,
        failover,
        ask,
    } = accepted;
    tracing::info!(
        "REST: {} asked for, leader {}, candidate {}, at {}",
        action.as_str(),
        name(failover.leader.as_ref()),
        name(failover.member.as_ref()),
        failover
            .scheduled_at
            .as_ref()
            .map_or("once", |schedule| schedule.text.as_str()),
    );
    if failover.scheduled_at.is_none() {
        let statuses = ask_candidates(app, cluster, ask, action).await;
        if let Some(refusal) = no_good_candidate(action, statuses.iter().map(Option::as_ref)) {
            return Err(refused(&refusal));
        }
    }
    Ok((action, failover))
}

/// `DELETE /switchover`: forgets a scheduled one.
pub(super) async fn delete(app: &App) -> Answer {
    let cluster = match app.fresh_cluster().await {
        Ok(cluster) => cluster,
        Err(answer) => return *answer,
    };
    let scheduled = cluster
        .failover_request()
        .is_some_and(|request| request.scheduled_at.is_some());
    if !scheduled {
        return answer::text(404, "no switchover is scheduled");
    }
    match write(app, &Failover::default(), &cluster).await {
        Some(Stored::Done { .. }) => answer::text(200, "scheduled switchover deleted"),
        Some(_) | None => answer::page(409),
    }
}

fn name(member: Option<&MemberName>) -> &str {
    member.map_or("any", MemberName::as_str)
}

/// Asks all at once and stops at the first that would do.
async fn ask_candidates(
    app: &App,
    cluster: &Cluster,
    names: Vec<MemberName>,
    action: Action,
) -> Vec<Option<PeerStatus>> {
    let mut asking = JoinSet::new();
    for name in names {
        let Some(member) = cluster.member(&name) else {
            continue;
        };
        let (peers, url) = (app.front().peers.clone(), member.api_url.clone());
        asking.spawn(async move {
            let answer = peers.status(&url, CANDIDATE_TIMEOUT).await;
            if let Err(cause) = &answer {
                tracing::info!("REST: candidate {name} can not be asked: {cause}");
            }
            answer.ok()
        });
    }
    let mut statuses = Vec::new();
    while let Some(answer) = asking.join_next().await {
        statuses.push(answer.ok().flatten());
        if no_good_candidate(action, statuses.iter().map(Option::as_ref)).is_none() {
            break;
        }
    }
    statuses
}

/// Writes the key, unless it has changed. `None`: the lock service did not answer.
async fn write(app: &App, failover: &Failover, cluster: &Cluster) -> Option<Stored> {
    let op = Box::new(Op::PutFailover {
        failover: failover.clone(),
        expected: cluster.failover.as_ref().map(|stored| stored.revision),
    });
    let limit = app.last().settings.retry_timeout;
    let writing = app.ask(|answer| Order::Write { op, answer });
    match timeout(limit, writing).await.ok()?? {
        Ok(stored) => Some(stored),
        Err(cause) => {
            tracing::warn!("REST: the failover key can not be written: {cause}");
            None
        }
    }
}

/// What to look for in the cluster after the key was written.
pub(super) struct Watch {
    /// Who held the lock before.
    pub(super) old: Option<MemberName>,
    /// Revision of the written key: older pictures say nothing.
    pub(super) revision: u64,
    /// How long a new leader may take to show that it runs as primary, before having the lock
    /// alone counts: a genuine Patroni publishes its role late.
    pub(super) grace: Span,
}

impl Watch {
    /// Waits for the outcome, told by the watch of the lock service.
    async fn outcome(&self, app: &App, limit: Span) -> Outcome {
        let deadline = Instant::now() + limit;
        let mut picture = app.hooks.picture.clone();
        let mut locked_since: Option<Instant> = None;
        loop {
            let cluster = picture.borrow_and_update().cluster.clone();
            let now = Instant::now();
            if let Some(cluster) = cluster {
                let settled = locked_since.is_some_and(|since| now >= since + self.grace);
                match self.judge(&cluster) {
                    Sight::Over(outcome) => return outcome,
                    Sight::Taken(new_leader) if settled => return Outcome::Done { new_leader },
                    Sight::Taken(_) => {
                        locked_since.get_or_insert(now);
                    }
                    Sight::Nothing => {}
                }
            }
            let wake = deadline.min(now + LOOK_AGAIN);
            match timeout_at(wake, picture.changed()).await {
                Ok(Ok(())) => {}
                // Nothing told, or nobody left to tell: ask. The picture shows the answer.
                Ok(Err(_)) => tokio::time::sleep_until(wake).await,
                Err(_) => {
                    let _ = timeout_at(deadline, app.fresh_cluster()).await;
                }
            }
            if Instant::now() >= deadline {
                return match self.judge_last(&picture.borrow().cluster) {
                    Some(new_leader) => Outcome::Done { new_leader },
                    None => Outcome::Unknown,
                };
            }
        }
    }

    fn judge_last(&self, cluster: &Option<Arc<Cluster>>) -> Option<MemberName> {
        match self.judge(cluster.as_ref()?) {
            Sight::Taken(new_leader) | Sight::Over(Outcome::Done { new_leader }) => {
                Some(new_leader)
            }
            _ => None,
        }
    }

    /// What one picture says.
    pub(super) fn judge(&self, cluster: &Cluster) -> Sight {
        if cluster.revision < self.revision {
            return Sight::Nothing;
        }
        match cluster.leader_name() {
            Some(leader) if Some(leader) != self.old.as_ref() => {
                let member = cluster.member(leader);
                let running = member.is_some_and(|member| {
                    member.state == Some(PostgresState::Running)
                        && matches!(member.role, Some(Role::Primary | Role::StandbyLeader))
                });
                match running {
                    true => Sight::Over(Outcome::Done {
                        new_leader: leader.clone(),
                    }),
                    false => Sight::Taken(leader.clone()),
                }
            }
            leader if leader == self.old.as_ref() && cluster.failover_request().is_none() => {
                Sight::Over(Outcome::Failed)
            }
            _ => Sight::Nothing,
        }
    }
}

/// What one picture of the cluster says about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not decided.
    Nothing,
    /// Somebody else has the lock, but does not run as primary yet.
    Taken(MemberName),
    /// Decided.
    Over(Outcome),
}
