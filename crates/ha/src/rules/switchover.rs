//! The leader gives the lock to somebody else on request, and loses no acknowledged row.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use pgherd_model::{
    ControlState, Failover, Lsn, Member, MemberName, Op, Schedule, Span, StopMode, Time,
};

use crate::ctx::{Ctx, Lock, Verdict};
use crate::decision::{Action, Ask, JobKind, StartAs};
use crate::memory::{Demotion, Memory};
use crate::race;
use crate::rules::{hang, standby_cluster};
use crate::schedule::{self, When};
use crate::upkeep::guard;
use crate::upkeep::request::clean;
use crate::view::PeerFact;

/// While the lock is held for it, the candidate is asked this often.
const ASK_AGAIN: Span = Span::from_millis(10);
/// How soon etcd is asked again whose the lock is.
const PROOF: Span = Span::from_millis(100);
/// While PostgreSQL stops, pg_control is looked at this often.
const LOOK_AGAIN: Span = Span::from_millis(20);
/// How long the candidate may take to have all WAL once PostgreSQL is down here.
const PATIENCE: Span = Span::from_secs(5);
/// Who answers within this is asked once more rather than dropped for an answer that is older than this.
const QUICK: Span = Span::from_millis(200);
/// A request that has to go before the lock may is taken away again after this.
const CLEAN_AGAIN: Span = Span::from_millis(200);
/// How long PostgreSQL rests before it is started again without a new leader.
const REST: Span = Span::from_secs(3);
/// How long the others go first afterwards.
const STAND_BACK: Span = Span::from_secs(10);

pub(crate) fn rule(ctx: &Ctx<'_>, memory: &mut Memory) -> Verdict {
    let Some(term) = ctx.holding() else {
        memory.demotion = None;
        return Verdict::pass("the lock is not held");
    };
    if let Some(demotion) = memory.demotion.clone() {
        return go_on(ctx, memory, term, demotion);
    }
    let Some(cluster) = ctx.view.fresh() else {
        return Verdict::pass("the lock service cannot be read");
    };
    let Some((request, stored)) = cluster.failover_request().zip(cluster.failover.as_ref()) else {
        return Verdict::pass("nothing is asked for");
    };
    if memory.refused_request == Some(stored.revision) {
        return Verdict::act(
            vec![clean(stored.revision)],
            "the request was tried and could not be served",
        );
    }
    if !matches!(ctx.lock, Lock::Mine { .. }) || !leads(ctx) {
        return Verdict::pass("PostgreSQL is not primary");
    }
    if let Some(schedule) = &request.scheduled_at {
        return scheduled(ctx, term, request, schedule, stored.revision);
    }
    if let Some(reason) = not_for_me(ctx, request) {
        return Verdict::pass(reason);
    }
    begin(ctx, memory, request, (stored.revision, term))
}

/// As primary, or as the standby leader of a standby cluster.
pub(crate) fn leads(ctx: &Ctx<'_>) -> bool {
    match ctx.standby_cluster() {
        Some(_) => ctx.view.is_standby(),
        None => ctx.view.is_primary(),
    }
}

/// Waits for its time, and then makes it a request for now: whoever strikes the time out, guarded
/// by the revision, has used it up, so no jump of a clock can bring it back.
fn scheduled(
    ctx: &Ctx<'_>,
    term: u64,
    request: &Failover,
    schedule: &Schedule,
    revision: u64,
) -> Verdict {
    let (word, text) = (word(request), &schedule.text);
    let drop = |reason: String| Verdict::act(vec![clean(revision)], reason).warning();
    // As Patroni, also where the same node took the lock again: a new term begins without requests.
    if term > revision {
        return drop(format!(
            "{word} at {text}: dropped, it was asked before this node took the lock"
        ));
    }
    match schedule::when(ctx, schedule) {
        When::NotBefore(_) => Verdict::pass(format!("awaiting {word} at {text}")),
        When::Stale => drop(format!("Found a stale {word} value, cleaning up: {text}")),
        When::Unreadable => drop(format!("incorrect value of scheduled_at: {text}")),
        When::Due => match not_for_me(ctx, request) {
            Some(reason) => drop(format!("{word} at {text}: dropped, {reason}")),
            None => {
                let failover = Failover {
                    scheduled_at: None,
                    ..request.clone()
                };
                let now = Action::Store(Op::PutFailover {
                    failover,
                    expected: Some(revision),
                });
                Verdict::act(vec![now], format!("{word} scheduled at {text}: it is time"))
            }
        },
    }
}

/// Why this leader has nothing to do for it.
fn not_for_me(ctx: &Ctx<'_>, request: &Failover) -> Option<String> {
    let me = ctx.me();
    match (&request.leader, &request.member) {
        (Some(leader), _) if leader != me => {
            Some(format!("leader name does not match: {leader} != {me}"))
        }
        (_, Some(member)) if member == me => Some(String::from("I am already the leader")),
        _ => None,
    }
}

fn word(request: &Failover) -> &'static str {
    match request.leader {
        Some(_) => "switchover",
        None => "manual failover",
    }
}

/// Is there somebody who can take over?
fn begin(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    request: &Failover,
    (revision, term): (u64, u64),
) -> Verdict {
    // What was answered before, perhaps before this node was promoted, says nothing about now.
    let seen = match memory.request_seen {
        Some((known, at)) if known == revision => at,
        _ => ctx.now(),
    };
    memory.request_seen = Some((revision, seen));
    if ctx.view.asking {
        return Verdict::stay("switchover: waiting for the candidates' answers");
    }
    let questions = questions(ctx, memory, request.member.as_ref(), seen);
    if !questions.is_empty() {
        return Verdict::act(
            vec![Action::AskPeers(questions)],
            "switchover: asking the candidates",
        );
    }
    let good = possible(ctx, request, hang::tolerable(ctx));
    let word = word(request);
    if let Some(name) = good.filter(|_| ctx.standby_cluster().is_some()) {
        let reason = format!("{word}: {name} is to be the standby leader, Leader key released");
        return standby_cluster::hand_over(ctx, memory, term, reason);
    }
    if good.is_none() {
        let blind = blind(ctx, request);
        let patience = match blind {
            Some(_) => PATIENCE.max(ctx.view.settings.loop_wait),
            None => PATIENCE,
        };
        if ctx.now().since(seen) < patience {
            // Much may have been written while somebody else was waited for.
            let questions = outdated(ctx, memory, request.member.as_ref());
            if !questions.is_empty() {
                let reason = format!("{word}: asking once more who was waited with");
                return Verdict::act(vec![Action::AskPeers(questions)], reason);
            }
            if let Some(name) = blind {
                let reason = format!("{word}: {name} does not see the leader's lock yet");
                return Verdict::stay(reason).wake(ctx.now() + QUICK);
            }
        }
        let reason = format!("{word}: no healthy members found, the request is dropped");
        return Verdict::act(vec![clean(revision)], reason);
    }
    let demotion = Demotion {
        since: ctx.now(),
        request: Some(revision),
        candidate: request.member.clone(),
        manual: request.leader.is_none(),
        word: String::from(word),
        down_since: None,
        taking_back: None,
    };
    demote(memory, demotion, format!("{word}: demoting myself"))
}

/// Begins a demotion in order: PostgreSQL is stopped, whoever then has all WAL gets the lock.
pub(crate) fn demote(memory: &mut Memory, demotion: Demotion, reason: String) -> Verdict {
    memory.demotion = Some(demotion);
    memory.rejoins = true;
    let stop = JobKind::Stop {
        mode: StopMode::Fast,
        checkpoint_first: true,
    };
    Verdict::only(vec![Action::StartJob(stop)], reason)
}

/// Candidates whose last answer is too old, or older than the request.
fn questions(ctx: &Ctx<'_>, memory: &Memory, named: Option<&MemberName>, seen: Time) -> Vec<Ask> {
    let old = |name: &MemberName, fact: &PeerFact| {
        let age = ctx.now().since(fact.answered);
        fact.asked < seen || (age >= race::ANSWER_AGE && !race::silent(ctx, name))
    };
    ctx.others()
        .filter(|member| {
            named.is_none_or(|named| *named == member.name) && !member.api_url.is_empty()
        })
        .filter(|member| {
            let fact = ctx.view.peers.get(&member.name);
            fact.is_none_or(|fact| old(&member.name, fact))
        })
        .map(|member| race::ask(ctx, memory, member))
        .collect()
}

/// Who could take over if only it saw the lock. A Patroni reads the keys once in its `loop_wait`, and says until then
/// what it has read before.
fn blind<'a>(ctx: &Ctx<'a>, request: &Failover) -> Option<&'a MemberName> {
    let asynchronous = request.leader.is_none() && request.member.is_some();
    let names = race::blind(ctx, hang::tolerable(ctx), asynchronous);
    let wanted = |name: &MemberName| request.member.as_ref().is_none_or(|named| named == name);
    names.into_iter().find(|name| wanted(name))
}

/// Members that answered at once, and by now may have what they lacked then.
fn outdated(ctx: &Ctx<'_>, memory: &Memory, named: Option<&MemberName>) -> Vec<Ask> {
    let quick = |fact: &PeerFact| fact.answer.is_some() && fact.answered.since(fact.asked) < QUICK;
    let outdated = |name: &MemberName| {
        let fact = ctx.view.peers.get(name);
        fact.is_some_and(|fact| quick(fact) && ctx.now().since(fact.answered) >= QUICK)
    };
    ctx.others()
        .filter(|member| named.is_none_or(|named| *named == member.name))
        .filter(|member| outdated(&member.name))
        .map(|member| race::ask(ctx, memory, member))
        .collect()
}

/// Best candidate for the request. A manual failover to a named member may go to one that is not
/// synchronous.
fn possible<'a>(ctx: &Ctx<'a>, request: &Failover, at_least: Lsn) -> Option<&'a MemberName> {
    let asynchronous = request.leader.is_none() && request.member.is_some();
    let good = race::candidates(ctx, at_least, asynchronous);
    match &request.member {
        Some(named) => good
            .iter()
            .map(|(name, _)| *name)
            .find(|name| *name == named),
        None => good.first().map(|(name, _)| *name),
    }
}

/// A demotion is under way.
fn go_on(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, mut demotion: Demotion) -> Verdict {
    let now = ctx.now();
    let word = demotion.word.clone();
    let shut_down = ctx
        .view
        .local
        .control
        .filter(|control| control.state == ControlState::ShutDown);
    let down = ctx.view.is_down();
    let Some(control) = shut_down else {
        return match down {
            // Killed half-way: where the WAL ends is not known, so nobody can be said to have it.
            true => take_back(ctx, memory, term, &demotion),
            false => stopping(ctx, &word),
        };
    };
    let since = *demotion.down_since.get_or_insert(now);
    memory.demotion = Some(demotion.clone());
    // The shutdown checkpoint itself must have arrived, not only what came before it.
    let request = Failover {
        leader: (!demotion.manual).then(|| ctx.me().clone()),
        member: demotion.candidate.clone(),
        scheduled_at: None,
    };
    match possible(ctx, &request, Lsn(control.checkpoint.0 + 1)).cloned() {
        Some(name) if down => {
            let reason = format!("{word}: {name} has all WAL, Leader key released");
            hand_over(ctx, memory, term, Some(&name), reason)
        }
        // What is left to be archived is archived by nobody else. The stop has a limit of its own.
        _ if ctx.view.local.archiving && ctx.view.running_job().is_some() => {
            let reason = format!("{word}: the last WAL is being archived");
            Verdict::only(vec![], reason).wake(now + LOOK_AGAIN)
        }
        // Only senders to other standbys are left, and they may wait for one that hangs.
        Some(name) => kill(
            ctx,
            format!("{word}: {name} has all WAL, ending what is left"),
        ),
        None if down && now.since(since) >= PATIENCE => take_back(ctx, memory, term, &demotion),
        None if now.since(since) >= PATIENCE => kill(
            ctx,
            format!("{word}: nobody received all WAL, ending what is left"),
        ),
        None => ask(ctx, memory, &demotion, since),
    }
}

/// The holder of the lock stops PostgreSQL without a candidate in mind, and only WAL senders are left of it. They
/// wait for every standby that is connected: as soon as one that may take over has everything they are ended, so that
/// another that hangs or is far away does not hold up the lock. Where nobody has, PostgreSQL goes on to wait for as long
/// as a stop may take: rows are at stake.
pub(crate) fn end_senders(ctx: &Ctx<'_>, memory: &Memory, word: &str) -> Option<Verdict> {
    let (since, control) = (memory.senders_since?, ctx.view.local.control?);
    ctx.holding()?;
    let everything = Lsn(control.checkpoint.0 + 1);
    if let Some((name, _)) = race::candidates(ctx, everything, false).first() {
        let reason = format!("{word}: {name} has all WAL, ending what is left");
        return Some(kill(ctx, reason));
    }
    let demotion = Demotion {
        since,
        request: None,
        candidate: None,
        manual: false,
        word: String::from(word),
        down_since: None,
        taking_back: None,
    };
    Some(ask(ctx, memory, &demotion, since))
}

/// The same where PostgreSQL is started again right away: nobody needs to have everything.
pub(crate) fn end_senders_to_restart(ctx: &Ctx<'_>, memory: &Memory) -> Option<Verdict> {
    let until = memory.senders_since? + PATIENCE;
    ctx.holding()?;
    if ctx.now() < until {
        return Some(Verdict::stay("restart: WAL senders wait for standbys").wake(until));
    }
    let reason = String::from("restart: a standby does not receive all WAL, ending what is left");
    Some(kill(ctx, reason))
}

/// PostgreSQL is on its way down.
fn stopping(ctx: &Ctx<'_>, word: &str) -> Verdict {
    let ended = ctx.view.local.job.as_ref();
    match ended.and_then(|job| job.outcome.as_ref()) {
        None => Verdict::stay(format!("{word}: PostgreSQL is being stopped"))
            .wake(ctx.now() + LOOK_AGAIN),
        Some(_) => kill(
            ctx,
            format!("{word}: PostgreSQL could not be stopped in order, killing"),
        ),
    }
}

fn kill(ctx: &Ctx<'_>, reason: String) -> Verdict {
    let stop = JobKind::Stop {
        mode: StopMode::Kill,
        checkpoint_first: false,
    };
    let running = ctx.view.running_job().is_some_and(|job| job.kind == stop);
    let actions = if running {
        vec![]
    } else {
        vec![Action::StartJob(stop)]
    };
    Verdict::only(actions, reason)
}

/// PostgreSQL is down: somebody else goes on, at best whoever has all WAL.
fn hand_over(
    ctx: &Ctx<'_>,
    memory: &mut Memory,
    term: u64,
    to: Option<&MemberName>,
    reason: String,
) -> Verdict {
    // Seen gone before the release: one that was ordered is repeated whatever became of the rest.
    if let Some(clean) = misleading(ctx, to) {
        let reason = format!("{reason}, once the request is gone that names somebody else");
        return Verdict::only(vec![clean], reason).wake(ctx.now() + CLEAN_AGAIN);
    }
    memory.demotion = None;
    memory.was_primary = false;
    memory.demoted = true;
    memory.rest_until = Some(ctx.now() + REST);
    memory.stand_back_until = Some(ctx.now() + STAND_BACK);
    let release = ctx.release(term, memory);
    Verdict::only(vec![release], reason)
}

/// Takes away a request under which somebody else than `to` would take a free lock whatever WAL it
/// lacks: whoever is named does not compare. By the last picture, since the write is refused where
/// the request is another one by now.
fn misleading(ctx: &Ctx<'_>, to: Option<&MemberName>) -> Option<Action> {
    let cluster = ctx.cluster()?;
    let request = cluster.failover_request()?;
    let named = request.member.as_ref();
    let helps = to.is_some() && (named.is_none() || named == to);
    let counts = match &request.scheduled_at {
        None => true,
        Some(schedule) => schedule::has_begun(ctx, schedule),
    };
    (counts && !helps).then_some(clean(cluster.failover.as_ref()?.revision))
}

/// Has all WAL arrived?
fn ask(ctx: &Ctx<'_>, memory: &Memory, demotion: &Demotion, since: Time) -> Verdict {
    let now = ctx.now();
    let reason = format!("{}: asking whether all WAL has arrived", demotion.word);
    if ctx.view.asking {
        return Verdict::only(vec![], reason);
    }
    let answering = |member: &&Member| !race::silent(ctx, &member.name);
    let all_silent = !ctx.others().any(|member| answering(&member));
    let questions: Vec<Ask> = ctx
        .others()
        .filter(|member| match &demotion.candidate {
            Some(named) => *named == member.name,
            None => all_silent || answering(member),
        })
        .filter(|member| {
            let fact = ctx.view.peers.get(&member.name);
            fact.is_none_or(|fact| fact.asked < since || now.since(fact.asked) >= ASK_AGAIN)
        })
        .map(|member| race::ask(ctx, memory, member))
        .collect();
    let actions = if questions.is_empty() {
        vec![]
    } else {
        vec![Action::AskPeers(questions)]
    };
    Verdict::only(actions, reason).wake(now + ASK_AGAIN)
}

/// Nobody has all WAL: a switchover must not lose rows, so this node goes on as primary, unless it
/// may not be one.
fn take_back(ctx: &Ctx<'_>, memory: &mut Memory, term: u64, demotion: &Demotion) -> Verdict {
    if ctx.standby_cluster().is_some() {
        // It has become a copy of another cluster meanwhile: there is no primary any more to go on as.
        memory.demotion = None;
        return Verdict::pass("nobody received all WAL, and this is a standby cluster now");
    }
    // In a pause nothing is guarded.
    if guard::is_unusable(ctx) && !ctx.view.settings.pause {
        let word = &demotion.word;
        let reason = format!(
            "{word}: nobody received all WAL, and no primary may run here without {}; Leader key released",
            guard::culprit(ctx)
        );
        return hand_over(ctx, memory, term, None, reason).error();
    }
    let word = &demotion.word;
    // Others have been told that PostgreSQL is stopped, and may have taken a lock for that which has vanished
    // without this node's noticing. From now on they are told something else; then etcd is asked whose it is.
    let since = demotion.taking_back.unwrap_or(ctx.now());
    if ctx.view.fresh().is_none() || ctx.view.tenure.proved <= since {
        memory.demotion = Some(Demotion {
            taking_back: Some(since),
            ..demotion.clone()
        });
        let first = demotion.taking_back.is_none();
        let asks = if first {
            vec![]
        } else {
            vec![Action::Store(Op::Refresh)]
        };
        let again = if first { ctx.now() } else { ctx.now() + PROOF };
        let reason = format!("{word}: no candidate received all WAL, making sure of the lock");
        return Verdict::only(asks, reason).wake(again);
    }
    memory.demotion = None;
    memory.refused_request = demotion.request.or(memory.refused_request);
    let mut actions = vec![];
    // What was asked for meanwhile is another request.
    let stored = ctx.view.fresh().and_then(|it| it.failover.as_ref());
    if let Some(stored) = stored.filter(|stored| Some(stored.revision) == demotion.request) {
        actions.push(clean(stored.revision));
    }
    actions.push(Action::StartJob(JobKind::Start(StartAs::Primary)));
    Verdict::only(
        actions,
        format!("{word}: no candidate received all WAL, going on as primary"),
    )
}
