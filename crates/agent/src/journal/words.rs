//! From the brain's facts and orders to the words of the journal.

use pgherd_ha::{Action, Dcs, Decision, StartAs, View};
use pgherd_model::{DataDir, GuardMode, MemberName, Op, PeerStatus, Postmaster, Span, Time};
use pgherd_wire::journal::{Former, Heard, Seen};

/// Answers older than that are no ground of a decision.
const ANSWER: Span = Span::from_secs(10);
/// Longest sentence: what programs have said may be long, and is in the log.
const TEXT: usize = 500;

/// Shortened to what a line may hold.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What a decision was made on.
pub(super) fn seen(view: &View, decision: &Decision) -> Seen {
    let memory = &decision.memory;
    let local = &view.local;
    let look = local.look.as_ref();
    let cluster = view.cluster();
    let sync = cluster.and_then(|cluster| cluster.sync.as_ref());
    Seen {
        blind_ms: match view.dcs {
            Dcs::Fresh(_) => None,
            Dcs::Unreachable { since, .. } => Some(millis(view.now.since(since))),
        },
        postmaster: match local.postmaster {
            Postmaster::Down => "down",
            Postmaster::Leftovers(_) => "leftovers",
            Postmaster::Alive { .. } => "alive",
        }
        .to_owned(),
        data: match local.data {
            DataDir::Empty => "empty",
            DataDir::Initialized => "initialized",
            DataDir::Unfinished => "unfinished",
            DataDir::Unusable(_) => "unusable",
        }
        .to_owned(),
        streaming: streams(view),
        upstream: look
            .and_then(|look| look.upstream.as_ref())
            .map(|upstream| format!("{}:{}", upstream.host, upstream.port)),
        guard: guard(view).to_owned(),
        lease_left_ms: view
            .lease
            .map(|lease| millis(lease.deadlines().expires.since(view.now))),
        former: memory.former.as_ref().map(|former| Former {
            name: former.name.to_string(),
            renewed_boot_ms: former.renewed_before.map(Time::as_millis),
        }),
        stale: memory.lease_stale.is_some(),
        job: view.running_job().map(|job| job.kind.name().to_owned()),
        request: cluster
            .and_then(|cluster| cluster.failover_request())
            .map(|request| asked_for(request.leader.as_ref(), request.member.as_ref())),
        pause: view.settings.pause,
        sync: sync
            .map(|sync| sync.value.standbys.iter().map(MemberName::to_string))
            .into_iter()
            .flatten()
            .collect(),
        peers: peers(view),
    }
}

/// Its WAL receiver streams.
pub(super) fn streams(view: &View) -> bool {
    let look = view.local.look.as_ref();
    look.and_then(|look| look.receiver.as_ref())
        .is_some_and(|receiver| receiver.streaming)
}

/// The guard in one word.
pub(super) fn guard(view: &View) -> &'static str {
    let guard = &view.local.guard;
    match (guard.armed_for, guard.failed) {
        (Some(_), _) if guard.hangs => "hangs",
        (Some(_), _) => "armed",
        (None, Some(_)) => "failed",
        (None, None) if view.settings.guard == GuardMode::Off || !guard.alive => "none",
        (None, None) => "ready",
    }
}

fn asked_for(leader: Option<&MemberName>, member: Option<&MemberName>) -> String {
    match (leader, member) {
        (Some(leader), Some(member)) => format!("switchover from {leader} to {member}"),
        (Some(leader), None) => format!("switchover from {leader}"),
        (None, Some(member)) => format!("failover to {member}"),
        (None, None) => String::new(),
    }
}

fn peers(view: &View) -> std::collections::BTreeMap<String, String> {
    let fresh = view
        .peers
        .iter()
        .filter(|(_, fact)| view.now.since(fact.asked) < ANSWER);
    fresh
        .map(|(name, fact)| {
            let age = millis(view.now.since(fact.asked));
            let words = match &fact.answer {
                None => format!("no answer, asked {age} ms ago"),
                Some(answer) => {
                    let role = answer.role.map_or("unknown", |role| role.as_str());
                    let timeline = answer.timeline.map_or(0, |timeline| timeline.0);
                    let lsn = answer.position();
                    format!("{role}, timeline {timeline}, {lsn}, {age} ms ago")
                }
            };
            (name.to_string(), words)
        })
        .collect()
}

/// An answer, or that there was none.
pub(super) fn heard(from: &MemberName, answer: Option<&PeerStatus>) -> Heard {
    Heard {
        from: from.to_string(),
        answered: answer.is_some(),
        its_role: answer.and_then(|answer| Some(answer.role?.as_str().to_owned())),
        its_state: answer.and_then(|answer| Some(answer.state?.as_str().to_owned())),
        its_timeline: answer.and_then(|answer| Some(answer.timeline?.0)),
        its_lsn: answer
            .filter(|answer| answer.reachable)
            .map(|answer| answer.position().to_string()),
    }
}

/// Comes with every look or every few seconds, and changes nothing that a story is about.
pub(crate) fn is_routine(action: &Action) -> bool {
    match action {
        Action::Store(op) => matches!(
            op,
            Op::PutMember(_) | Op::PutStatus { .. } | Op::LookAtLease { .. } | Op::Refresh
        ),
        // Making one takes a while: it is asked for until it is there.
        Action::AdvanceSlot(..) | Action::CreateLogicalSlot(_) | Action::AdvanceLogicalSlot(..) => {
            true
        }
        Action::AskPeers(_)
        | Action::AskHistory { .. }
        | Action::StartJob(_)
        | Action::SetUpstream(_)
        | Action::StopReceiving
        | Action::EndSenders(_)
        | Action::ArmGuard { .. }
        | Action::TryGuard { .. }
        | Action::DisarmGuard
        | Action::ReserveTimelines { .. }
        | Action::CreateSlot(_)
        | Action::DropSlot(_)
        | Action::SetSynchronousStandbys(_)
        | Action::Checkpoint
        | Action::Exit { .. } => false,
    }
}

/// Upon what an order works. Never a value that a person has configured: it may be a secret.
pub(crate) fn detail(action: &Action) -> String {
    match action {
        Action::Store(op) => store_detail(op),
        Action::AskPeers(asks) => {
            let names: Vec<&str> = asks.iter().map(|ask| ask.member.as_str()).collect();
            names.join(", ")
        }
        Action::AskHistory { member, .. } => member.to_string(),
        Action::StartJob(pgherd_ha::JobKind::Start(StartAs::Standby {
            upstream: Some(upstream),
            ..
        }))
        | Action::SetUpstream(Some(upstream)) => format!("{}:{}", upstream.host, upstream.port),
        Action::SetUpstream(None) => "nobody".to_owned(),
        Action::ArmGuard { pid, .. } | Action::TryGuard { pid } => format!("postmaster {pid}"),
        Action::EndSenders(pids) => format!("{pids:?}"),
        Action::ReserveTimelines { last } => format!("up to {last}"),
        Action::CreateSlot(slot) | Action::DropSlot(slot) | Action::AdvanceSlot(slot, _) => {
            slot.clone()
        }
        Action::CreateLogicalSlot(slot) | Action::AdvanceLogicalSlot(slot, _) => slot.name.clone(),
        Action::SetSynchronousStandbys(names) => names.clone(),
        Action::Exit { code, .. } => format!("exit status {code}"),
        Action::StartJob(_) | Action::StopReceiving | Action::DisarmGuard | Action::Checkpoint => {
            String::new()
        }
    }
}

fn store_detail(op: &Op) -> String {
    match op {
        Op::PutSync { sync, .. } => {
            let names: Vec<&str> = sync.standbys.iter().map(MemberName::as_str).collect();
            let leader = sync.leader.as_ref().map_or("nobody", MemberName::as_str);
            format!("leader {leader}, standbys: {}", names.join(", "))
        }
        Op::PutFailover { failover, .. } => {
            asked_for(failover.leader.as_ref(), failover.member.as_ref())
        }
        Op::AcquireLeader { .. }
        | Op::ReattachLeader { .. }
        | Op::ReleaseLeader { .. }
        | Op::PutMember(_)
        | Op::PutInitialize { .. }
        | Op::DeleteInitialize { .. }
        | Op::PutConfig { .. }
        | Op::PutStatus { .. }
        | Op::DeleteSync { .. }
        | Op::PutFailsafe { .. }
        | Op::PutHistory { .. }
        | Op::LookAtLease { .. }
        | Op::Refresh => String::new(),
    }
}

pub(super) fn millis(span: Span) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
