//! May this node take a free lock: is the former leader known not to be writable, and is nobody
//! better placed (contract: patroni-ha-rules, section 2; architecture, Safety 4).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use pgherd_model::{
    Cluster, HistoryLine, LeaseSight, Lsn, Member, MemberName, PeerStatus, Role, Settings, Span,
    Time, Timeline,
};

use crate::ctx::Ctx;
use crate::decision::Ask;
use crate::failsafe;
use crate::memory::{Former, Memory};
use crate::schedule;
use crate::view::Dcs;
use crate::view::PeerFact;

/// How long a race waits for a former leader whose lease is over.
const FORMER_TIMEOUT: Span = Span::from_millis(200);
/// How long it waits for anybody else.
const PEER_TIMEOUT: Span = Span::from_secs(2);
/// How soon to look again for a read that proves who leads etcd.
const PROOF: Span = Span::from_millis(100);
/// How long a primary that finds the lock free asks whether somebody else was promoted.
const RIVAL: Span = Span::from_millis(300);
/// An answer older than this says nothing about a candidate.
pub(crate) const ANSWER_AGE: Span = Span::from_secs(1);
/// Somebody who did not answer is not asked again within this.
const SILENCE_AGE: Span = Span::from_secs(5);
/// While the leader seems to be gone whoever was silent is asked again after this, so that the race need not wait.
pub(crate) const SILENCE_KEPT: Span = Span::from_secs(3);

/// Whether the former leader can still acknowledge a write.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Safety {
    /// It cannot; for this reason.
    Safe(String),
    /// Not known before then.
    NotBefore(Time, String),
}

/// Keeps what is known about the holder of the lock and its lease.
pub(crate) fn remember_former(ctx: &Ctx<'_>, memory: &mut Memory) {
    let now = ctx.now();
    let cluster = match &ctx.view.dcs {
        Dcs::Fresh(cluster) => cluster,
        // From the last moment that is known, not from when its absence was noticed.
        Dcs::Unreachable { since, .. } => {
            memory.blind_since.get_or_insert(*since);
            return;
        }
    };
    forget_after_gap(ctx, memory);
    forget_unseen(ctx, memory);
    memory.first_fresh.get_or_insert(now);
    if ctx.promised {
        forget_sights(now, cluster.leader.is_none(), memory);
        return;
    }
    match ctx.other_leader() {
        Some(leader) => {
            let known = memory
                .former
                .as_ref()
                .is_some_and(|former| former.name == leader.name && former.lease == leader.lease);
            if !known {
                memory.former = Some(Former {
                    name: leader.name.clone(),
                    term: leader.create_revision,
                    lease: leader.lease,
                    length: ctx.view.settings.ttl.max(ctx.view.settings.lease_ttl),
                    lease_ttl: ctx.view.settings.lease_ttl,
                    raised: false,
                    unsure: false,
                    renewed_before: None,
                    looked: None,
                    copy: false,
                    vanished: None,
                });
            }
            if let Some(former) = &mut memory.former {
                (former.vanished, former.unsure) = (None, false);
                former.term = leader.create_revision;
            }
            memory.free_since = None;
        }
        None if cluster.leader.is_none() => {
            memory.free_since.get_or_insert(now);
            if let Some(former) = &mut memory.former {
                former.vanished.get_or_insert(now);
            }
        }
        None => {
            memory.free_since = None;
            memory.former = None;
        }
    }
    if let Some(former) = &mut memory.former {
        look_at(ctx, cluster, former);
    }
}

/// Keeps what the last look at its lease has shown.
fn look_at(ctx: &Ctx<'_>, cluster: &Cluster, former: &mut Former) {
    let life = ctx.view.settings.lease_ttl;
    if life > former.lease_ttl {
        // It was raised: the lock may have moved to the longer lease unseen before it went.
        (former.lease_ttl, former.raised) = (life, true);
        (former.length, former.renewed_before, former.looked) = (life, None, None);
    }
    let of_before = |sight: &LeaseSight| former.raised && sight.granted < former.lease_ttl;
    if let Some(sight) = ctx.view.sight.filter(|sight| !of_before(sight)) {
        let member = cluster.member(&former.name);
        let copy = ctx.standby_cluster().is_some()
            || member.is_some_and(|member| member.role == Some(Role::StandbyLeader));
        note_sight(former, &sight, copy);
    }
}

/// A leader is kept in office without the lock. It may renew its lease again, unseen: what was known of that tells nothing
/// any more.
fn forget_sights(now: Time, free: bool, memory: &mut Memory) {
    if free {
        memory.free_since.get_or_insert(now);
    }
    if let Some(former) = &mut memory.former {
        former.vanished = Some(now);
        (former.renewed_before, former.looked) = (None, None);
    }
}

/// In a gap as long as a lease the lock may have been somebody else's for a while: etcd could not be read,
/// or this agent was stopped and did not notice that.
fn forget_after_gap(ctx: &Ctx<'_>, memory: &mut Memory) {
    let heard = ctx.view.heard;
    let before = memory.heard.replace(heard).unwrap_or(heard);
    let blind = memory.blind_since.take().unwrap_or(ctx.now());
    let gap = ctx.now().since(blind).max(heard.since(before));
    if gap >= longest_gap(memory, &ctx.view.settings) {
        forget_former(memory);
    }
}

/// It is not known any more who held the lock last. Whoever is known to have held it before stays somebody who may
/// write, also when its member key has gone meanwhile.
fn forget_former(memory: &mut Memory) {
    if let Some(former) = memory.former.take() {
        memory.met.insert(former.name);
    }
    memory.first_fresh = None;
    memory.free_since = None;
}

/// Where nobody has looked for that long, somebody may have held the lock unseen.
pub(crate) fn longest_gap(memory: &Memory, settings: &Settings) -> Span {
    let former = memory.former.as_ref();
    let length = former.map_or(settings.lease_ttl, |former| former.length);
    length * 9 / 10
}

/// Somebody held the lock unseen: it was free and is free, but was deleted once more; or the last one that was deleted
/// is not that of the last holder that was seen.
fn forget_unseen(ctx: &Ctx<'_>, memory: &mut Memory) {
    let cluster = ctx.view.fresh();
    let deleted = cluster.and_then(|cluster| cluster.leader_deleted);
    let before = core::mem::replace(&mut memory.leader_deleted, deleted);
    let again = memory.free_since.is_some() && before.is_some() && deleted.is_some();
    let ended = cluster.and_then(|cluster| cluster.leader_ended);
    let former = memory.former.as_ref();
    let free = cluster.is_some_and(|cluster| cluster.leader.is_none());
    let stranger = former.is_some_and(|former| ended.is_some_and(|term| term != former.term));
    if (again && before < deleted) || stranger {
        forget_former(memory);
    }
    // A read passes over what happened before it, and in a moment somebody can be promoted whose lock is deleted by hand:
    // only the end of that very lock, which the watch may tell later, shows that nobody else had it since.
    let vacant = free && memory.free_since.is_none();
    if let Some(former) = &mut memory.former {
        former.unsure = ended.is_none() && (vacant || former.unsure);
    }
}

/// Narrows down when the lease was last renewed. Two looks bound the same renewal if the second
/// shows an age that reaches back before the first: then the tighter bound holds.
fn note_sight(former: &mut Former, sight: &LeaseSight, copy: bool) {
    if sight.lease != former.lease || sight.granted.is_zero() {
        return;
    }
    if former.looked.is_some_and(|looked| sight.asked <= looked) {
        return;
    }
    former.length = sight.granted;
    let bound = sight.renewed_before();
    let age_at_least = sight
        .granted
        .saturating_sub(sight.remaining + Span::from_secs(1));
    let same_renewal = former
        .looked
        .is_some_and(|looked| sight.answered.since(looked) < age_at_least);
    former.renewed_before = match former.renewed_before {
        Some(earlier) if same_renewal => Some(earlier.min(bound)),
        _ => Some(bound),
    };
    (former.looked, former.copy) = (Some(sight.asked), copy);
}

/// Whether a lock that is free now may be taken (Safety 4).
pub(crate) fn former_safety(ctx: &Ctx<'_>, memory: &Memory) -> Safety {
    match memory.former.as_ref().filter(|former| !former.unsure) {
        Some(former) => known_former(ctx, former),
        None => unknown_former(ctx, memory),
    }
}

fn known_former(ctx: &Ctx<'_>, former: &Former) -> Safety {
    let vanished = former.vanished.unwrap_or(ctx.now());
    if let Some(words) = last_words(ctx, former) {
        return Safety::Safe(words);
    }
    if answered_not_writable(ctx, &former.name, vanished) {
        return Safety::Safe(format!("{} answers that it is not writable", former.name));
    }
    // At that look its guard had fired; a renewal unseen since then brings nothing back to life,
    // because whoever was overdue gives the lock up. At 0.9 L everything is gone.
    let share = |percent: u32| former.length * percent / 100;
    // With a round of the failsafe mode in between it may have lived on; whoever was asked then knows.
    if let (Some(before), Some(looked)) = (former.renewed_before, former.looked)
        && before + share(75) <= looked
        && !failsafe::is_unnamed(ctx)
        && (!former.copy || ctx.standby_cluster().is_some())
    {
        let gone = before + share(90);
        if gone <= ctx.now() {
            return Safety::Safe(format!("the lease of {} ran out", former.name));
        }
        let reason = format!(
            "the lease of {} has run out, its processes end",
            former.name
        );
        return Safety::NotBefore(gone, reason);
    }
    let from = vanished.max(ctx.view.tenure.since);
    let mut at = from + former.length;
    // A key that was deleted while its lease lives: whoever renews it may still write.
    if let Some(sight) = ctx.view.sight.filter(|sight| {
        sight.lease == former.lease && sight.asked >= vanished && !sight.granted.is_zero()
    }) {
        at = at.max(sight.answered + sight.remaining + Span::from_secs(1));
    }
    if at <= ctx.now() && one_tenure(ctx, from, former.length) {
        return Safety::Safe(format!(
            "a full lease has passed since the lock of {} vanished",
            former.name
        ));
    }
    Safety::NotBefore(
        at.max(ctx.now() + PROOF),
        format!(
            "the lock of {} vanished early and it may still be writable",
            former.name
        ),
    )
}

/// The leader of etcd that is known since `from`, or before, was still in charge three quarters of a lease
/// later. A former holder of the lock may count on an election that took place after `from`
/// (`election`), but only on one that began while its lease lasted: there was none.
fn one_tenure(ctx: &Ctx<'_>, from: Time, length: Span) -> bool {
    ctx.view.tenure.proved >= from + length * 75 / 100
}

/// The former leader has given up the lock by itself: it says so, or its agent lives and answers
/// that PostgreSQL is not writable.
pub(crate) fn was_released(ctx: &Ctx<'_>, memory: &Memory) -> bool {
    let Some(former) = memory.former.as_ref().filter(|former| !former.unsure) else {
        return false;
    };
    let vanished = former.vanished.unwrap_or(ctx.now());
    last_words(ctx, former).is_some() || answered_not_writable(ctx, &former.name, vanished)
}

/// What the former leader wrote when it gave up the lock, or later: whoever holds the lock, or
/// still believes so, calls itself primary.
fn last_words(ctx: &Ctx<'_>, former: &Former) -> Option<String> {
    let cluster = ctx.cluster()?;
    let stored = cluster.members.get(&former.name)?;
    if stored.revision < cluster.leader_deleted? {
        return None;
    }
    let gave_up = matches!(
        stored.value.role,
        Some(Role::Demoted | Role::Replica | Role::Uninitialized)
    );
    gave_up.then(|| format!("{} released the lock", former.name))
}

fn answered_not_writable(ctx: &Ctx<'_>, name: &MemberName, since: Time) -> bool {
    ctx.view.peers.get(name).is_some_and(|fact| {
        fact.asked >= since
            && fact
                .answer
                .as_ref()
                .is_some_and(|answer| answer.not_writable() && !may_be_promoted(ctx, answer))
    })
}

/// It led a standby cluster when it answered, which this is none any more: as long as it does not know that its lock is
/// gone it is about to be promoted. Where this node knows of no end of the standby cluster, whoever learns of that
/// later learns of the lock's end before.
fn may_be_promoted(ctx: &Ctx<'_>, answer: &PeerStatus) -> bool {
    answer.role == Some(Role::StandbyLeader) && ctx.standby_cluster().is_none()
}

/// This agent never saw a holder: any member might have been it, also one whose key has gone meanwhile: PostgreSQL and
/// the guard outlive an agent, and the lock may have been deleted by hand.
fn unknown_former(ctx: &Ctx<'_>, memory: &Memory) -> Safety {
    let since = memory.free_since.unwrap_or(ctx.now());
    let present = ctx.others().map(|member| member.name.clone());
    let former = memory.former.as_ref().map(|former| &former.name);
    let gone = memory.met.iter().chain(former);
    let open = present
        .chain(gone.filter(|name| !ctx.is_member(name)).cloned())
        .chain(failsafe::strangers(ctx).map(|(name, _)| name))
        .find(|name| !answered_not_writable(ctx, name, since));
    let Some(open) = open else {
        return Safety::Safe(String::from("no other member is writable"));
    };
    let longest = ctx.view.settings.ttl.max(ctx.view.settings.lease_ttl);
    let first = memory.first_fresh.unwrap_or(ctx.now());
    // Who held it until then is known, and has to be waited for since then.
    let free = memory.former.as_ref().map_or(first, |_| since);
    let from = first.max(free).max(ctx.view.tenure.since);
    let at = from + longest;
    if at <= ctx.now() && one_tenure(ctx, from, longest) {
        return Safety::Safe(String::from("a full lease has passed without a lock"));
    }
    Safety::NotBefore(
        at.max(ctx.now() + PROOF),
        format!("{open} may have held the lock before this agent started"),
    )
}

/// Whom to ask before a race: everybody else; what is known well enough is not asked again.
pub(crate) fn questions(ctx: &Ctx<'_>, memory: &Memory, since: Time) -> Vec<Ask> {
    let members = ctx
        .others()
        .map(|member| (member.name.clone(), &member.api_url));
    members
        .chain(failsafe::strangers(ctx))
        .filter(|(name, url)| !url.is_empty() && !known_well(ctx, memory, name, since))
        .map(|(name, url)| ask_at(ctx, memory, name, url))
        .collect()
}

pub(crate) fn ask(ctx: &Ctx<'_>, memory: &Memory, member: &Member) -> Ask {
    ask_at(ctx, memory, member.name.clone(), &member.api_url)
}

fn ask_at(ctx: &Ctx<'_>, memory: &Memory, name: MemberName, url: &str) -> Ask {
    let is_former = memory
        .former
        .as_ref()
        .is_some_and(|former| former.name == name);
    // Once more only to make sure: it may be back.
    let timeout = if is_former || silent(ctx, &name) {
        FORMER_TIMEOUT
    } else {
        PEER_TIMEOUT
    };
    Ask {
        member: name,
        url: url.into(),
        timeout,
    }
}

/// It was asked lately and did not answer: waiting for it again would hold up everybody else.
pub(crate) fn silent(ctx: &Ctx<'_>, name: &MemberName) -> bool {
    ctx.view
        .peers
        .get(name)
        .is_some_and(|fact| fact.answer.is_none() && ctx.now().since(fact.asked) < SILENCE_AGE)
}

fn known_well(ctx: &Ctx<'_>, memory: &Memory, name: &MemberName, since: Time) -> bool {
    let Some(fact) = ctx.view.peers.get(name) else {
        return false;
    };
    let age = ctx.now().since(fact.asked);
    match &fact.answer {
        Some(_) => fact.asked >= since && ctx.now().since(fact.answered) < ANSWER_AGE,
        None => {
            // Of the former leader silence that was noticed while it already seemed to be gone counts for the race.
            // Whoever else is back by now may have more WAL.
            let former = memory.former.as_ref().map(|former| &former.name);
            let suspect = suspect_since(memory).filter(|_| former == Some(name));
            let from = suspect.map_or(since, |suspect| suspect.min(since));
            fact.asked >= from && age < SILENCE_AGE
        }
    }
}

/// Since when the leader seems to be gone: its stream broke, or it does not renew its lease.
pub(crate) fn suspect_since(memory: &Memory) -> Option<Time> {
    match (memory.stream_broken, memory.lease_stale) {
        (Some(broken), Some(stale)) => Some(broken.min(stale)),
        (broken, stale) => broken.or(stale),
    }
}

/// The timeline that the last promotion made, if `history` tells.
pub(crate) fn cluster_timeline(ctx: &Ctx<'_>) -> Option<Timeline> {
    let history = own_history(ctx)?;
    let newest = history.last()?;
    Some(Timeline(newest.timeline.0 + 1))
}

/// What `history` says of the promotions in this cluster: in a standby cluster those of another time, since its timelines
/// are the other cluster's.
fn own_history<'a>(ctx: &Ctx<'a>) -> Option<&'a [HistoryLine]> {
    if ctx.standby_cluster().is_some() {
        return None;
    }
    Some(&ctx.cluster()?.history.as_ref()?.value)
}

/// The highest number that somebody is known to have given to a timeline.
pub(crate) fn highest_timeline(ctx: &Ctx<'_>) -> Option<Timeline> {
    let members = ctx.cluster()?.members.values();
    let published = members.filter_map(|stored| stored.value.timeline).max();
    cluster_timeline(ctx).max(published)
}

/// Where the cluster left this timeline, if WAL up to `position` goes beyond that: whoever was promoted
/// there has acknowledged what these data do not have.
pub(crate) fn left_at(ctx: &Ctx<'_>, timeline: Timeline, position: Lsn) -> Option<Lsn> {
    // A later timeline that was left further back took what lies beyond that with it.
    let lines = own_history(ctx)?
        .iter()
        .filter(|line| line.timeline >= timeline);
    let end = lines.map(|line| line.end).min()?;
    (position > end).then_some(end)
}

fn went_another_way(ctx: &Ctx<'_>, answer: &PeerStatus) -> bool {
    let left = |timeline| left_at(ctx, timeline, answer.position());
    answer.timeline.and_then(left).is_some()
}

/// What a primary that finds the lock free has to do before it takes it.
pub(crate) enum Rival<'a> {
    /// The others are to be asked; what is known then will do.
    Ask(Vec<Ask>, Time),
    /// They are being asked, likewise.
    Awaited(Time),
    /// This one was promoted later, and is primary.
    Newer(&'a MemberName, Timeline),
    /// Nobody who answers.
    None,
}

/// Whether somebody else was promoted while the lock was not this node's, by what the others say.
pub(crate) fn rival<'a>(ctx: &Ctx<'a>, memory: &Memory, own: Timeline) -> Rival<'a> {
    let since = memory.free_since.unwrap_or(ctx.now());
    let until = since + RIVAL;
    // Nothing renews the lease meanwhile: whoever is silent is not waited for.
    if ctx.now() < until {
        let mut questions = questions(ctx, memory, since);
        if ctx.view.asking {
            return Rival::Awaited(until);
        }
        if !questions.is_empty() {
            for ask in &mut questions {
                ask.timeout = FORMER_TIMEOUT;
            }
            return Rival::Ask(questions, until);
        }
    }
    let newer = ctx.others().find_map(|member| {
        let answer = ctx.view.peers.get(&member.name)?.answer.as_ref()?;
        let theirs = answer.timeline.filter(|theirs| *theirs > own)?;
        answer.writable_at.map(|_| (&member.name, theirs))
    });
    newer.map_or(Rival::None, |(name, theirs)| Rival::Newer(name, theirs))
}

/// Who keeps this node from being the healthiest, if anybody.
pub(crate) fn better_placed(ctx: &Ctx<'_>, memory: &Memory, own: Lsn) -> Option<String> {
    let former = memory.former.as_ref().map(|former| &former.name);
    let found = ctx.others().find_map(|member| {
        let second = former == Some(&member.name);
        goes_before(ctx, memory, own, (member, second))
    });
    // The leader of before whose key is gone.
    found.or_else(|| {
        failsafe::strangers(ctx).find_map(|(name, _)| {
            let answer = ctx.view.peers.get(&name)?.answer.as_ref()?;
            let alive = answer.reachable && answer.writable_at.is_some();
            alive.then(|| format!("Primary ({name}) is still alive"))
        })
    })
}

/// Why this one has taken the lock and not this node, if it was asked in the race for it.
pub(crate) fn lost_to(ctx: &Ctx<'_>, memory: &Memory, winner: &Member) -> Option<String> {
    let own = ctx.view.local.look.as_ref()?.wal.position();
    let fact = ctx.view.peers.get(&winner.name)?;
    let raced =
        fact.answer.as_ref()?.writable_at.is_none() && ctx.now().since(fact.answered) < SILENCE_AGE;
    goes_before(ctx, memory, own, (winner, false)).filter(|_| raced)
}

/// Whether this member keeps this node from being the healthiest; `second`: not if both are as good.
fn goes_before(
    ctx: &Ctx<'_>,
    memory: &Memory,
    own: Lsn,
    (member, second): (&Member, bool),
) -> Option<String> {
    let answer = ctx.view.peers.get(&member.name)?.answer.as_ref()?;
    if !answer.reachable || answer.tags.nofailover || answer.watchdog_failed {
        return None;
    }
    if answer.writable_at.is_some() {
        return Some(format!("Primary ({}) is still alive", member.name));
    }
    // Who may not take over must not keep anybody else from it.
    if went_another_way(ctx, answer) {
        return None;
    }
    if ctx.view.settings.check_timeline && answer.timeline < cluster_timeline(ctx) {
        return None;
    }
    if sync_standbys(ctx).is_some_and(|names| !names.contains(&&member.name)) {
        return None;
    }
    let sync = ctx.cluster().and_then(|cluster| cluster.sync.as_ref());
    let named_leader = sync.is_some_and(|sync| sync.value.leader.as_ref() == Some(&member.name));
    if answer.position() > own && !named_leader {
        return Some(format!(
            "Wal position of {} is ahead of my wal position",
            member.name
        ));
    }
    // Whoever a switchover is to take the lock from waits for the others.
    let request = schedule::in_force(ctx, memory);
    let giving_up = request.and_then(|request| request.leader.as_ref());
    let priority = ctx.view.identity.tags.failover_priority;
    let equal = answer.position() == own && answer.tags.failover_priority > priority;
    (equal && !second && giving_up != Some(&member.name)).then(|| {
        format!(
            "{} has equally tolerable WAL position and priority {}, while this node has priority {priority}",
            member.name, answer.tags.failover_priority
        )
    })
}

/// Members that could take over now, best first, by answers not older than a second;
/// `asynchronous`: also those that `/sync` does not name.
pub(crate) fn candidates<'a>(
    ctx: &Ctx<'a>,
    at_least: Lsn,
    asynchronous: bool,
) -> Vec<(&'a MemberName, Lsn)> {
    let fresh = |fact: &PeerFact| ctx.now().since(fact.answered) < ANSWER_AGE;
    candidates_by(ctx, at_least, asynchronous, fresh)
}

/// The same by those answers that will do.
pub(crate) fn candidates_by<'a>(
    ctx: &Ctx<'a>,
    at_least: Lsn,
    asynchronous: bool,
    will_do: impl Fn(&PeerFact) -> bool,
) -> Vec<(&'a MemberName, Lsn)> {
    let sees = |fact: &PeerFact| will_do(fact) && !is_blind(ctx, fact);
    able(ctx, at_least, asynchronous, sees)
}

/// Members that could take over now if only they saw this node's lock.
pub(crate) fn blind<'a>(ctx: &Ctx<'a>, at_least: Lsn, asynchronous: bool) -> Vec<&'a MemberName> {
    let fresh = |fact: &PeerFact| ctx.now().since(fact.answered) < ANSWER_AGE;
    let blind = able(ctx, at_least, asynchronous, |fact| {
        fresh(fact) && is_blind(ctx, fact)
    });
    blind.into_iter().map(|(name, _)| name).collect()
}

/// Whoever does not see this node's lock is cut off from the lock service and could not take it, or has not yet read
/// what is there.
fn is_blind(ctx: &Ctx<'_>, fact: &PeerFact) -> bool {
    ctx.holding().is_some() && fact.answer.as_ref().is_some_and(|it| it.unlocked)
}

fn able<'a>(
    ctx: &Ctx<'a>,
    at_least: Lsn,
    asynchronous: bool,
    will_do: impl Fn(&PeerFact) -> bool,
) -> Vec<(&'a MemberName, Lsn)> {
    let sync = sync_standbys(ctx).filter(|_| !asynchronous);
    // A leader hands over to nobody on an older timeline: positions there say nothing about its WAL.
    let check_timeline = ctx.view.settings.check_timeline || ctx.holding().is_some();
    let own_timeline = ctx.view.local.control.map(|control| control.timeline);
    let mut good: Vec<(&MemberName, Lsn)> = ctx
        .others()
        .filter(|member| !member.tags.nofailover)
        .filter(|member| {
            sync.as_ref()
                .is_none_or(|names| names.contains(&&member.name))
        })
        .filter_map(|member| {
            let fact = ctx.view.peers.get(&member.name)?;
            let answer = fact.answer.as_ref()?;
            let usable = answer.reachable
                && answer.writable_at.is_none()
                && !answer.tags.nofailover
                && !answer.watchdog_failed
                && answer.position() >= at_least
                && !went_another_way(ctx, answer)
                && (!check_timeline || answer.timeline >= own_timeline);
            (will_do(fact) && usable).then_some((&member.name, answer.position()))
        })
        .collect();
    good.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    good
}

/// Standbys named in `/sync` where that binds: `None` outside synchronous mode.
pub(crate) fn sync_standbys<'a>(ctx: &Ctx<'a>) -> Option<Vec<&'a MemberName>> {
    use pgherd_model::SynchronousMode::Off;
    if ctx.view.settings.synchronous_mode == Off {
        return None;
    }
    let sync = &ctx.cluster()?.sync.as_ref()?.value;
    sync.leader.as_ref()?;
    Some(sync.standbys.iter().chain(sync.leader.iter()).collect())
}

/// The leader has released the lock after its shutdown checkpoint, which it published with that, and this node has it.
pub(crate) fn has_everything(ctx: &Ctx<'_>, own: Lsn) -> bool {
    let words = ctx.cluster().and_then(|cluster| {
        let status = cluster.status.as_ref()?;
        let last = status.revision == cluster.leader_deleted?;
        last.then_some(status.value.optime)
    });
    words.is_some_and(|checkpoint| own > checkpoint)
}

/// Votes are needed to take the lock.
pub(crate) fn needs_votes(ctx: &Ctx<'_>) -> bool {
    let sync = ctx.cluster().and_then(|cluster| cluster.sync.as_ref());
    sync_standbys(ctx).is_some() && sync.is_some_and(|sync| sync.value.quorum > 0)
}

/// A leader in quorum mode waited for some of the voters in `/sync` only: this node has every acknowledged row if so many
/// of them that answer have no more than it has (contract: patroni-ha-rules, section 3).
pub(crate) fn outvoted(ctx: &Ctx<'_>, memory: &Memory, own: Lsn) -> Option<String> {
    let voters = sync_standbys(ctx)?;
    let sync = &ctx.cluster()?.sync.as_ref()?.value;
    if sync.leader.as_ref() == Some(ctx.me()) || has_everything(ctx, own) {
        return None;
    }
    let quorum = sync.quorum;
    // Nobody votes by what it had while the lock was held: it may have received more since.
    let since = memory.free_since.unwrap_or(ctx.now());
    let counts =
        |fact: &&PeerFact| fact.asked >= since && ctx.now().since(fact.answered) < ANSWER_AGE;
    let mine = |name: &&&MemberName| {
        let fact = ctx.view.peers.get(**name).filter(counts);
        let answer = fact.and_then(|fact| fact.answer.as_ref());
        answer.is_some_and(|it| it.reachable && it.position() > Lsn(0) && it.position() <= own)
    };
    let votes = voters
        .iter()
        .filter(|name| **name != ctx.me())
        .filter(mine)
        .count();
    (votes < quorum).then(|| {
        format!(
            "{votes} of the voters in /sync have no more WAL than this node, {quorum} are needed"
        )
    })
}
