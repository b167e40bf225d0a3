//! The failsafe mode: a leader that cannot reach the lock service stays in office as long as every member that
//! `/failsafe` names lets it (contract: patroni-ha-rules, section 8; architecture, Safety 3 and 5).
//! Pure: whom to ask and when, what a round of answers is worth, and whom the key keeps from the lock.
//!
//! Why that is safe. Whoever answers `Accepted` does not take the lock for as long as the round that it answers can
//! keep the leader in office, and longer. Whoever is not named does not take it either, until somebody who is named
//! says that no such round is in force. Only the leader changes `/failsafe`, under its own lock, and as long as it
//! does not know whether a change was made it asks those of before and those of after (docs/decisions, 0020).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use pgherd_model::{Cluster, Leader, Lsn, MemberName, Postmaster, Role, Settings, Span, Time};
use serde::{Deserialize, Serialize};

use crate::ctx::{Ctx, Lock};
use crate::lease::{Deadlines, Lease};
use crate::memory::Memory;
use crate::upkeep::{guard, status};
use crate::view::{LeaseFact, View};

/// A round in which everybody has accepted. It counts like a renewal of a lease that was sent when its first
/// question was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// When the first question was SENT.
    pub sent: Time,
    /// The life that they were told; all promises last at least as long, from their answers on.
    pub life: Span,
}

impl Extension {
    /// The moments that follow from it.
    pub fn deadlines(&self) -> Deadlines {
        self.lease().deadlines()
    }

    /// The lease that it stands for.
    pub fn lease(&self) -> Lease {
        Lease {
            sent: self.sent,
            life: self.life,
        }
    }
}

/// What this node has answered to a leader that cannot reach the lock service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// To whom, as a holder of the lock. Its lease is not known.
    pub leader: Leader,
    /// When the last question was received.
    pub at: Time,
    /// Not before then does this node take the lock.
    pub until: Time,
    /// Where the leader's slots stand.
    pub slots: BTreeMap<String, Lsn>,
}

impl Promise {
    /// That of a question that was received at `at`. `life`: that of the leader's lease, if it says so (a Patroni
    /// does not): an extension must not outlive it, whatever `ttl` is here by now.
    pub fn new(leader: MemberName, at: Time, life: Option<Span>, settings: &Settings) -> Promise {
        let length = settings
            .ttl
            .max(settings.lease_ttl)
            .max(life.unwrap_or_default());
        Promise {
            leader: Leader {
                name: leader,
                lease: UNKNOWN,
                create_revision: 0,
                mod_revision: 0,
            },
            at,
            until: at + length,
            slots: BTreeMap::new(),
        }
    }
}

/// No lease has this number.
const UNKNOWN: i64 = -1;

/// The failsafe mode as a view shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailsafeFact {
    /// The last round of this node in which everybody has accepted.
    pub extension: Option<Extension>,
    /// The last promise of this node, while it lasts.
    pub promise: Option<Promise>,
}

/// Why a member does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The mode is off.
    Off,
    /// It is primary, or about to be.
    Leads,
    /// As it knows for certain, somebody else holds the lock.
    Led(MemberName),
    /// As it knows for certain, `/failsafe` does not name whoever asks.
    Unnamed,
}

/// Why this member does not accept, if it does not. `on`: the mode is; `leads`: this node does, or is about to;
/// `current`: what the lock service holds, where that is known.
pub fn refusal(
    on: bool,
    leads: bool,
    current: Option<&Cluster>,
    asker: &MemberName,
) -> Option<Refusal> {
    if !on {
        return Some(Refusal::Off);
    }
    if leads {
        return Some(Refusal::Leads);
    }
    let cluster = current?;
    if let Some(holder) = cluster.leader_name().filter(|name| *name != asker) {
        return Some(Refusal::Led(holder.clone()));
    }
    let named = cluster.failsafe.as_ref();
    let unnamed = named.is_none_or(|named| !named.value.contains_key(asker.as_str()));
    unnamed.then_some(Refusal::Unnamed)
}

/// What a leader asks for as soon as renewals stay away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// Everybody who has to accept, with his `api_url`; not this node itself.
    pub members: BTreeMap<String, String>,
    /// Life of the lease.
    pub life: Span,
    /// Where the slots here stand.
    pub slots: BTreeMap<String, Lsn>,
}

/// What a leader knows of `/failsafe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Term of its lock.
    pub term: u64,
    /// Revision at which the key was first seen under it; `None`: it was not there. Until it is another one nothing
    /// counts: an order of the agent before may still be on its way, and takes effect only on what it has seen.
    pub first: Option<u64>,
    /// Revision of the last picture.
    pub revision: Option<u64>,
    /// Whom it names there.
    pub members: BTreeMap<String, String>,
    /// An order to change it that may have been carried out.
    pub ordered: Option<Ordered>,
}

/// Orders of this agent to change `/failsafe` as it was at one revision: one of them at most is carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// That revision.
    pub expected: Option<u64>,
    /// All who are named by one of them.
    pub members: BTreeMap<String, String>,
    /// One of them names nobody, so that it binds nobody.
    pub emptied: bool,
}

/// Keeps what `/failsafe` says while this node holds the lock.
pub(crate) fn note(ctx: &Ctx<'_>, memory: &mut Memory) {
    if ctx.lock != Lock::Free {
        memory.unnamed_since = None;
    }
    match ctx.lock {
        Lock::Mine { term } => {
            let Some(cluster) = ctx.view.fresh() else {
                return;
            };
            let revision = cluster.failsafe.as_ref().map(|stored| stored.revision);
            if memory.failsafe.as_ref().is_none_or(|it| it.term != term) {
                memory.failsafe_absent.clear();
                memory.failsafe = Some(Standing {
                    term,
                    first: revision,
                    ..Standing::default()
                });
            }
            if let Some(standing) = &mut memory.failsafe {
                standing.revision = revision;
                let stored = cluster.failsafe.as_ref();
                standing.members = stored.map(|it| it.value.clone()).unwrap_or_default();
                standing.ordered.take_if(|it| it.expected != revision);
            }
        }
        // Etcd is back, and the lock has gone meanwhile; nobody of those who were asked can have had it.
        Lock::Free if ctx.is_extended() => {}
        Lock::Unknown | Lock::Detached { .. } => {}
        Lock::GivenUp { .. } | Lock::Other(_) | Lock::Free => memory.failsafe = None,
    }
}

/// Whom this leader asks when its renewals stay away; `None`: nobody, and it demotes then.
pub(crate) fn wish(ctx: &Ctx<'_>, memory: &Memory) -> Option<Wish> {
    let standing = memory.failsafe.as_ref()?;
    let members = in_force(ctx, standing)?;
    let held = match ctx.lock {
        Lock::Mine { term } => term == standing.term,
        Lock::Unknown => memory.term == Some(standing.term),
        Lock::Free => ctx.is_extended(),
        Lock::Detached { .. } | Lock::GivenUp { .. } | Lock::Other(_) => false,
    };
    let gives_up = memory.released.is_some()
        || memory.give_up.is_some()
        || memory.demotion.is_some()
        || memory.restart.is_some()
        || ctx.view.orders.shutdown;
    let alive = matches!(ctx.view.local.postmaster, Postmaster::Alive { .. });
    let primary = ctx.view.is_primary() || (memory.was_primary && alive);
    if !ctx.view.settings.failsafe_mode || !held || gives_up || !primary || guard::is_given_up(ctx)
    {
        return None;
    }
    let life = match (ctx.lease, ctx.extension) {
        (Some(lease), _) => lease.length,
        (None, Some(extension)) => extension.life,
        (None, None) => return None,
    };
    let look = ctx.view.local.look.as_ref();
    Some(Wish {
        members,
        life,
        slots: look
            .map(|look| status::slots(ctx, look))
            .unwrap_or_default(),
    })
}

/// Everybody whom the key names, or may name by now, but this node.
fn in_force(ctx: &Ctx<'_>, standing: &Standing) -> Option<BTreeMap<String, String>> {
    let me = ctx.me().as_str();
    let ordered = standing.ordered.as_ref();
    let named = standing.revision != standing.first && standing.members.contains_key(me);
    if !named || ordered.is_some_and(|it| it.emptied) {
        return None;
    }
    let mut members = standing.members.clone();
    members.extend(ordered.into_iter().flat_map(|it| it.members.clone()));
    members.remove(me);
    Some(members)
}

/// This node is primary, or becomes one: it lets nobody else stay in office.
pub fn is_primary(view: &View, memory: &Memory) -> bool {
    view.is_primary() || Ctx::new(view, memory).is_becoming_primary()
}

/// Until when this node may call itself leader by the word of the others, where its lease alone does not say so.
pub fn leads_until(view: &View, memory: &Memory) -> Option<Time> {
    let ctx = Ctx::new(view, memory);
    let leads = match ctx.lock {
        Lock::Mine { .. } | Lock::Free => true,
        Lock::Unknown => memory.term.is_some(),
        Lock::Detached { .. } | Lock::GivenUp { .. } | Lock::Other(_) => false,
    };
    let extension = ctx.extension.filter(|_| leads && ctx.is_in_failsafe())?;
    Some(extension.deadlines().expires)
}

/// The promise that is in force: not any more once that leader is known not to be writable.
pub(crate) fn promise<'a>(view: &'a View, memory: &Memory) -> Option<&'a Promise> {
    let promise = view.failsafe.promise.as_ref()?;
    let in_time = view.now < promise.until && memory.term.is_none();
    let fact = view.peers.get(&promise.leader.name);
    let answer = fact
        .filter(|fact| fact.asked >= promise.at)
        .and_then(|fact| fact.answer.as_ref());
    let stepped_down = answer.is_some_and(|it| it.not_writable() && !it.failsafe);
    let over = stepped_down || has_released(view, &promise.leader.name);
    (in_time && !over).then_some(promise)
}

/// Its last words: it gave up the lock that is gone, and writes no more under it.
fn has_released(view: &View, leader: &MemberName) -> bool {
    view.fresh().is_some_and(|cluster| {
        let stored = cluster.members.get(leader);
        let last = stored.filter(|it| cluster.leader_deleted.is_some_and(|at| it.revision >= at));
        let role = last.and_then(|it| it.value.role);
        cluster.leader.is_none()
            && matches!(
                role,
                Some(Role::Demoted | Role::Replica | Role::Uninitialized)
            )
    })
}

/// `/failsafe` names somebody, and not this node.
pub(crate) fn is_unnamed(ctx: &Ctx<'_>) -> bool {
    let named = ctx.cluster().and_then(|cluster| cluster.failsafe.as_ref());
    named.is_some_and(|it| !it.value.is_empty() && !it.value.contains_key(ctx.me().as_str()))
}

/// Whom `/failsafe` names without a key in the lock service: the leader of before may be among them.
pub(crate) fn strangers<'a>(
    ctx: &Ctx<'a>,
) -> impl Iterator<Item = (MemberName, &'a String)> + use<'a> {
    let cluster = ctx.cluster();
    let me = ctx.view.me.as_str();
    let named = cluster.and_then(|cluster| cluster.failsafe.as_ref());
    named
        .into_iter()
        .flat_map(|stored| &stored.value)
        .filter(move |(name, _)| name.as_str() != me)
        .map(|(name, url)| (MemberName::from(name.as_str()), url))
        .filter(move |(name, _)| cluster.is_none_or(|it| !it.members.contains_key(name)))
}

/// Why a node that is not named leaves a free lock alone.
pub(crate) enum Excluded {
    /// Somebody who is named keeps a leader in office, or is it.
    Kept(String),
    /// Nobody who is named says anything: a person has to tell.
    Unknown(String),
}

/// Whether a node that is not named has to leave a free lock alone: until somebody who is named says (since `since`,
/// when every lease was over) that he keeps nobody in office.
pub(crate) fn excludes(ctx: &Ctx<'_>, since: Time) -> Option<Excluded> {
    let named = &ctx.cluster()?.failsafe.as_ref()?.value;
    let answers = named.keys().filter_map(|name| {
        let fact = ctx.view.peers.get(&MemberName::from(name.as_str()));
        let answer = fact
            .filter(|fact| fact.asked >= since)
            .and_then(|fact| fact.answer.as_ref());
        answer.map(|answer| (name, answer.failsafe || answer.writable_at.is_some()))
    });
    let mut keeps = None;
    for (name, kept) in answers {
        if !kept {
            return None;
        }
        keeps = Some(name);
    }
    if let Some(name) = keeps {
        let text = alloc::format!("{name} says that a leader without the lock stays in office");
        return Some(Excluded::Kept(text));
    }
    let path = &ctx.view.identity.leader_key;
    let path = path.strip_suffix("leader").unwrap_or(path);
    Some(Excluded::Unknown(alloc::format!(
        "{path}failsafe does not name {}, and nobody whom it names answers: a leader may be in office by their word; \
         once it is certain that none of them is primary, remove the key: etcdctl del {path}failsafe",
        ctx.me()
    )))
}

/// A round under way.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    /// Before the first question was sent.
    sent: Time,
    life: Span,
    asked: BTreeSet<String>,
    /// Who has not answered yet.
    open: BTreeSet<String>,
}

/// The rounds of one leader.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    begun: u64,
    last: Option<Time>,
    under_way: Option<Round>,
    /// The last round in which everybody accepted.
    pub extension: Option<Extension>,
}

/// What to do about rounds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Ask everybody.
    Begin,
    /// Not before then.
    At(Time),
}

/// How long a member may take to answer; each is asked again in the next round.
pub fn patience(life: Span) -> Span {
    (life / 5).min(Span::from_secs(2))
}

impl Rounds {
    /// When the next round begins. `lease`: that of the lock, if it is known; `confirmed`: when its last confirmed
    /// renewal was sent. `None`: there is no use in one, since nothing is in force that it could go on from.
    pub fn due(
        &self,
        now: Time,
        wish: &Wish,
        lease: Option<LeaseFact>,
        confirmed: Time,
    ) -> Option<Due> {
        if now >= self.in_time(lease)? {
            return None;
        }
        let life = wish.life;
        // Every other way to learn that the lease lives on has a moment to succeed.
        let first = lease.map(|lease| {
            let renewed = Lease {
                sent: confirmed,
                life: lease.length,
            };
            (renewed.renewal_due() + lease.length / 20).max(lease.sent + lease.length * 3 / 10)
        });
        let extension = self.extension.map(|it| it.sent + life / 5);
        let mut at = first.max(extension).unwrap_or(now);
        if let Some(last) = self.last {
            at = at.max(last + life / 10);
        }
        if let Some(round) = &self.under_way {
            at = at.max(round.sent + patience(life));
        }
        Some(if now >= at { Due::Begin } else { Due::At(at) })
    }

    /// Until when the leader is in office: by its lease, or by the last round.
    fn in_time(&self, lease: Option<LeaseFact>) -> Option<Time> {
        let lease = lease.map(|it| it.deadlines().demote_fast);
        lease.max(self.extension.map(|it| it.deadlines().demote_fast))
    }

    /// A round begins; the one before is given up. Its number, and whether it has ended already: who is alone needs
    /// nobody's answer.
    pub fn begin(&mut self, now: Time, wish: &Wish, lease: Option<LeaseFact>) -> (u64, bool) {
        self.begun += 1;
        self.last = Some(now);
        let asked: BTreeSet<String> = wish.members.keys().cloned().collect();
        self.under_way = Some(Round {
            number: self.begun,
            sent: now,
            life: wish.life,
            open: asked.clone(),
            asked,
        });
        (self.begun, self.close(now, Some(wish), lease))
    }

    /// A member has answered; `true`: everybody has accepted, and the leader stays in office. `wish`: what holds now.
    pub fn answered(
        &mut self,
        now: Time,
        (number, member, accepted): (u64, &str, bool),
        wish: Option<&Wish>,
        lease: Option<LeaseFact>,
    ) -> bool {
        let Some(round) = self.under_way.as_mut().filter(|it| it.number == number) else {
            return false;
        };
        if !accepted {
            self.under_way = None;
            return false;
        }
        round.open.remove(member);
        self.close(now, wish, lease)
    }

    /// Ends the round if nothing is open. It counts only if everybody was asked whom the key names by now, and if the
    /// leader was in office all the time.
    fn close(&mut self, now: Time, wish: Option<&Wish>, lease: Option<LeaseFact>) -> bool {
        let Some(round) = self.under_way.take_if(|it| it.open.is_empty()) else {
            return false;
        };
        let all = wish.is_some_and(|wish| wish.members.keys().all(|it| round.asked.contains(it)));
        let in_office = self.in_time(lease).is_some_and(|until| now < until);
        if !all || !in_office {
            return false;
        }
        self.extension = Some(Extension {
            sent: round.sent,
            life: round.life,
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_millis(millis)
    }

    /// L of 5 s, renewed at 100 s.
    fn lease() -> Option<LeaseFact> {
        Some(LeaseFact {
            lease: 7,
            sent: at(100_000),
            length: Span::from_secs(5),
        })
    }

    fn wish(names: &str) -> Wish {
        let names = names.split(',').filter(|name| !name.is_empty());
        Wish {
            members: names.map(|name| (name.into(), String::new())).collect(),
            life: Span::from_secs(5),
            slots: BTreeMap::new(),
        }
    }

    fn sent(rounds: &Rounds) -> Option<u64> {
        let extension = rounds.extension?;
        u64::try_from(extension.sent.since(Time::ZERO).as_millis()).ok()
    }

    #[test]
    fn everybody_has_to_accept() {
        let (mut rounds, both) = (Rounds::default(), wish("b,c"));
        let (round, kept) = rounds.begin(at(101_500), &both, lease());
        assert!(!kept);
        let mut say = |now, number, who, yes| {
            rounds.answered(at(now), (number, who, yes), Some(&both), lease())
        };
        assert!(!say(101_510, round, "b", true));
        // Twice is once, and of another round is of another round.
        assert!(!say(101_520, round, "b", true) && !say(101_520, round + 1, "c", true));
        assert!(say(101_600, round, "c", true));
        assert_eq!(sent(&rounds), Some(101_500));
        let guard = rounds.extension.map(|it| it.deadlines().guard);
        assert_eq!(guard, Some(at(105_250)));
    }

    #[test]
    fn one_refusal_or_an_answer_too_late_is_no_round() {
        for (now, accepted) in [(101_600, false), (103_000, true)] {
            let (mut rounds, alone) = (Rounds::default(), wish("b"));
            let (round, _) = rounds.begin(at(101_500), &alone, lease());
            let answer = (round, "b", accepted);
            assert!(!rounds.answered(at(now), answer, Some(&alone), lease()));
            assert_eq!(rounds.extension, None);
        }
    }

    #[test]
    fn whoever_is_named_meanwhile_was_not_asked() {
        for (now_named, counts) in [("b", true), ("b,c", false), ("", true)] {
            let (mut rounds, before) = (Rounds::default(), wish("b"));
            let (round, _) = rounds.begin(at(101_500), &before, lease());
            let now = wish(now_named);
            let answer = (round, "b", true);
            assert_eq!(
                rounds.answered(at(101_600), answer, Some(&now), lease()),
                counts
            );
        }
        let (mut rounds, before) = (Rounds::default(), wish("b"));
        let (round, _) = rounds.begin(at(101_500), &before, lease());
        assert!(!rounds.answered(at(101_600), (round, "b", true), None, lease()));
    }

    #[test]
    fn whoever_is_alone_asks_nobody() {
        let mut rounds = Rounds::default();
        assert!(rounds.begin(at(101_500), &wish(""), lease()).1);
        assert_eq!(sent(&rounds), Some(101_500));
        // Not any more once it was not in office for a moment.
        assert!(!rounds.begin(at(104_500), &wish(""), lease()).1);
    }

    #[test]
    fn rounds_begin_when_a_renewal_stays_away_and_follow_each_other() {
        let (mut rounds, both) = (Rounds::default(), wish("b"));
        let due = |rounds: &Rounds, now| rounds.due(at(now), &both, lease(), at(100_000));
        assert_eq!(due(&rounds, 100_600), Some(Due::At(at(101_500))));
        assert_eq!(due(&rounds, 101_500), Some(Due::Begin));
        let (round, _) = rounds.begin(at(101_500), &both, lease());
        // Silence is waited for.
        assert_eq!(due(&rounds, 101_600), Some(Due::At(at(102_500))));
        assert!(!rounds.answered(at(101_700), (round, "b", false), Some(&both), lease()));
        assert_eq!(due(&rounds, 101_800), Some(Due::At(at(102_000))));
        let (round, _) = rounds.begin(at(102_000), &both, lease());
        assert!(rounds.answered(at(102_100), (round, "b", true), Some(&both), lease()));
        assert_eq!(due(&rounds, 102_200), Some(Due::At(at(103_000))));
        assert_eq!(due(&rounds, 104_900), Some(Due::Begin));
        // Overdue.
        assert_eq!(due(&rounds, 105_000), None);
        assert_eq!(
            Rounds::default().due(at(103_000), &both, lease(), at(100_000)),
            None
        );
    }

    #[test]
    fn a_promise_lasts_as_long_as_whoever_asks_may_count_on_it() {
        let settings = Settings::default();
        let until = |life: Option<u64>| {
            let life = life.map(Span::from_secs);
            Promise::new("a".into(), at(100_000), life, &settings).until
        };
        assert_eq!(until(None), at(130_000));
        assert_eq!(until(Some(5)), at(130_000));
        assert_eq!(until(Some(50)), at(150_000));
    }

    #[test]
    fn who_is_refused() {
        let led = |leader: Option<&str>, named: &str| {
            let members = named.split(',').map(|name| (name.into(), String::new()));
            Cluster {
                leader: leader.map(|name| Leader {
                    name: name.into(),
                    lease: 1,
                    create_revision: 1,
                    mod_revision: 1,
                }),
                failsafe: Some(pgherd_model::Stored {
                    value: members.collect(),
                    revision: 2,
                }),
                ..Cluster::default()
            }
        };
        let asker = MemberName::from("a");
        let own = led(Some("a"), "a,b");
        assert_eq!(refusal(true, false, Some(&own), &asker), None);
        assert_eq!(refusal(true, false, Some(&led(None, "a,b")), &asker), None);
        assert_eq!(refusal(true, false, None, &asker), None);
        assert_eq!(
            refusal(false, false, Some(&own), &asker),
            Some(Refusal::Off)
        );
        assert_eq!(
            refusal(true, true, Some(&own), &asker),
            Some(Refusal::Leads)
        );
        let other = led(Some("c"), "a,b");
        let why = Some(Refusal::Led("c".into()));
        assert_eq!(refusal(true, false, Some(&other), &asker), why);
        let why = Some(Refusal::Unnamed);
        assert_eq!(refusal(true, false, Some(&led(None, "b,c")), &asker), why);
    }
}
