//! Plays a list on one side and notes what the members are told and shown.

use std::collections::BTreeMap;
use std::time::Instant;

use pgherd_model::{
    Answer, Cluster, Failover, HistoryLine, Lsn, Member, MemberName, Op, PostgresState, Role,
    Schedule, Span, Status, Stored, Sync, SystemId, Tags, Timeline, Version, WallTime,
};

use super::order::{Condition, Deed, Expected, Order, Step, Term};
use super::side::{MEMBERS, Side, Told};
use crate::transcript::Transcript;
use crate::words::node_name;

/// Real time in which a condition must be met.
const PATIENCE: Span = Span::from_secs(40);
/// Between two looks.
const PAUSE: Span = Span::from_millis(100);

/// Plays it from the beginning.
pub async fn play(side: &mut impl Side, steps: &[Step]) -> Transcript {
    let mut player = Player::default();
    for step in steps {
        player.transcript.step(step.to_string());
        let answer = player.step(side, *step).await;
        side.settle().await;
        player.transcript.saw(answer);
        player.show(side);
    }
    player.transcript
}

#[derive(Default)]
struct Player {
    transcript: Transcript,
    joined: [bool; MEMBERS],
    /// Every lease seen so far with the name it has in transcripts.
    leases: Vec<(i64, String)>,
    /// The last of each member, leader's and member's.
    last: [(i64, i64); MEMBERS],
    /// Create revision of the last lock that the member saw.
    terms: [u64; MEMBERS],
    shown: [Vec<String>; MEMBERS],
}

impl Player {
    async fn step(&mut self, side: &mut impl Side, step: Step) -> String {
        match step {
            Step::Join(who) => {
                side.join(who).await;
                self.joined[who] = true;
                self.shown[who].clear();
                "reads everything".into()
            }
            Step::Leave(who) => {
                side.leave(who).await;
                self.joined[who] = false;
                "is gone".into()
            }
            Step::Cut(who) => {
                side.link(who, false);
                "cut off".into()
            }
            Step::Mend(who) => {
                side.link(who, true);
                "mended".into()
            }
            Step::Order(who, _) | Step::Await(who, _) if !self.joined[who] => "is not there".into(),
            Step::Order(who, order) => self.order(side, who, order).await,
            Step::Somebody(deed) => self.deed(side, deed).await,
            Step::Await(who, condition) => self.wait(side, who, condition).await,
        }
    }

    async fn order(&mut self, side: &mut impl Side, who: usize, order: Order) -> String {
        let told = match order {
            Order::Renew => side.renew(who).await,
            Order::KeepAlive => side.keep_alive(who).await,
            Order::Lives(ttl, lease_ttl) => {
                side.set_lives(who, ttl, lease_ttl);
                return "noted".into();
            }
            _ => {
                let cluster = side.picture(who).unwrap_or_default();
                let op = self.op(side.base(), who, order, &cluster);
                side.run(who, op).await
            }
        };
        self.note_leases(side);
        self.told(side.base(), &told)
    }

    fn told(&self, base: u64, told: &Told) -> String {
        match told {
            Told::Answer(Answer::Done { revision }) => format!("done {}", at(base, *revision)),
            Told::Answer(Answer::Refused) => "refused".into(),
            Told::Answer(Answer::Lease(sight)) if sight.granted.is_zero() => {
                "there is no such lease".into()
            }
            Told::Answer(Answer::Lease(sight)) => {
                let granted = sight.granted.as_secs();
                let left = match sight.remaining {
                    left if left > sight.granted => "more than was granted",
                    left if left * 2 > sight.granted => "more than half",
                    _ => "less than half",
                };
                format!("granted {granted} s, {left} left")
            }
            Told::Lease(Some((id, life))) => {
                format!("{} of {} s", self.lease(*id), life.as_secs())
            }
            Told::Lease(None) => "no lease".into(),
            Told::Nothing => "no answer".into(),
        }
    }

    async fn deed(&mut self, side: &mut impl Side, deed: Deed) -> String {
        match deed {
            Deed::Delete(key) => side.delete(key).await,
            Deed::Config(ttl) => side.write_config(&config(ttl)).await,
            Deed::Failover(to) => side.write_failover(failover(Some(to), None)).await,
            Deed::RevokeLeader(of) if self.last[of].0 == 0 => return "there is none".into(),
            Deed::RevokeLeader(of) => side.revoke(self.last[of].0).await,
            Deed::RevokeMember(of) if self.last[of].1 == 0 => return "there is none".into(),
            Deed::RevokeMember(of) => side.revoke(self.last[of].1).await,
            Deed::Compact => side.compact().await,
        }
        "so be it".into()
    }

    async fn wait(&mut self, side: &mut impl Side, who: usize, condition: Condition) -> String {
        let end = Instant::now() + PATIENCE;
        // The fake's time passes in looks.
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if self.is_so(side, who, condition).await {
                return "so it is".into();
            }
            if Instant::now() > end {
                break;
            }
            side.wait(PAUSE).await;
        }
        "never".into()
    }

    async fn is_so(&mut self, side: &mut impl Side, who: usize, condition: Condition) -> bool {
        let Some(cluster) = side.picture(who) else {
            return false;
        };
        match condition {
            Condition::NoLeader => cluster.leader.is_none(),
            Condition::NoMember(of) => cluster.member(&name(of)).is_none(),
            Condition::NoClaim => cluster.initialize.is_none(),
            Condition::Deaf => side.is_deaf(who),
            Condition::Half => {
                let op = self.op(side.base(), who, Order::Look, &cluster);
                let told = side.run(who, op).await;
                matches!(told, Told::Answer(Answer::Lease(sight))
                    if sight.remaining * 2 <= sight.granted)
            }
        }
    }

    /// The order as the member's brain would give it on what it sees.
    fn op(&mut self, base: u64, who: usize, order: Order, cluster: &Cluster) -> Op {
        if let Some(leader) = &cluster.leader {
            self.terms[who] = leader.create_revision;
        }
        let known = self.terms[who].max(base);
        let term = |term: Term| match term {
            Term::Seen => known,
            Term::Stale => known - 1,
        };
        let sure = |seen: Option<u64>, expected: Expected| revision(seen, expected).unwrap_or(base);
        let lock = cluster.leader.as_ref().map(|leader| leader.mod_revision);
        match order {
            Order::Acquire { stale } => Op::AcquireLeader {
                seen: match of(&cluster.status) {
                    Some(status) if stale => status - 1,
                    _ => cluster.revision,
                },
            },
            Order::Reattach(of) => Op::ReattachLeader {
                create_revision: term(of),
            },
            Order::Release {
                term: of,
                expected,
                words,
            } => Op::ReleaseLeader {
                create_revision: term(of),
                mod_revision: sure(lock, expected),
                status: words.then(|| status(known - base)),
                member: words.then(|| member(who, known - base)),
            },
            Order::Status(position, of) => Op::PutStatus {
                status: status(position),
                term: term(of),
            },
            Order::Sync(with, expected, held) => Op::PutSync {
                sync: Sync {
                    leader: Some(name(who)),
                    standbys: vec![name(with)],
                    quorum: 0,
                },
                expected: revision(of(&cluster.sync), expected),
                term: term(held),
            },
            Order::Unsync(expected, held) => Op::DeleteSync {
                expected: sure(of(&cluster.sync), expected),
                term: term(held),
            },
            Order::Failsafe(expected, held) => Op::PutFailsafe {
                members: BTreeMap::from([(node_name(who), "http://host:8008/patroni".into())]),
                expected: revision(of(&cluster.failsafe), expected),
                term: term(held),
            },
            Order::History(lines, of) => Op::PutHistory {
                history: history(lines),
                term: term(of),
            },
            Order::Unclaim(expected) => Op::DeleteInitialize {
                expected: sure(of(&cluster.initialize), expected),
            },
            // A lease that nobody was granted where there is no lock.
            Order::Look => Op::LookAtLease {
                lease: cluster.leader.as_ref().map_or(4711, |leader| leader.lease),
            },
            other => anybodys(who, other, cluster),
        }
    }

    fn note_leases(&mut self, side: &impl Side) {
        for who in (0..MEMBERS).filter(|who| self.joined[*who]) {
            let (leader, member) = side.leases(who);
            for (id, kind) in [(leader, "leader"), (member, "member")] {
                if id == 0 || self.leases.iter().any(|(known, _)| *known == id) {
                    continue;
                }
                let so_far = format!("{}.{kind}", node_name(who));
                let number = self.leases.iter().filter(|(_, it)| it.starts_with(&so_far));
                let label = format!("{so_far}.{}", number.count() + 1);
                self.leases.push((id, label));
            }
            let (last_leader, last_member) = &mut self.last[who];
            *last_leader = if leader == 0 { *last_leader } else { leader };
            *last_member = if member == 0 { *last_member } else { member };
        }
    }

    fn lease(&self, id: i64) -> String {
        let known = self.leases.iter().find(|(known, _)| *known == id);
        match known {
            Some((_, label)) => label.clone(),
            None if id == 0 => "no lease".into(),
            None => "an unknown lease".into(),
        }
    }

    /// Everything that has changed for somebody since it was last shown.
    fn show(&mut self, side: &impl Side) {
        self.note_leases(side);
        for who in (0..MEMBERS).filter(|who| self.joined[*who]) {
            let (leader, member) = side.leases(who);
            let held = format!("holds {}, {}", self.lease(leader), self.lease(member));
            let mut lines = vec![held];
            match side.picture(who) {
                Some(cluster) => lines.extend(self.lines(side.base(), &cluster)),
                None => lines.push("sees nothing".into()),
            }
            let before = std::mem::replace(&mut self.shown[who], lines.clone());
            for line in lines.iter().filter(|line| !before.contains(line)) {
                self.transcript.saw(format!("{}: {line}", node_name(who)));
            }
            for line in before.iter().filter(|line| !lines.contains(line)) {
                self.transcript
                    .saw(format!("{}: no more {line}", node_name(who)));
            }
        }
    }

    /// The picture, every key a line.
    fn lines(&self, base: u64, cluster: &Cluster) -> Vec<String> {
        fn key<T: std::fmt::Debug>(
            name: &str,
            base: u64,
            key: &Option<Stored<T>>,
        ) -> Option<String> {
            let key = key.as_ref()?;
            Some(format!("{name} {} {:?}", at(base, key.revision), key.value))
        }
        let leader = cluster.leader.as_ref().map(|leader| {
            let lease = self.lease(leader.lease);
            let (term, last) = (
                at(base, leader.create_revision),
                at(base, leader.mod_revision),
            );
            format!(
                "leader {} under {lease} since {term}, changed {last}",
                leader.name
            )
        });
        let deleted = cluster.leader_deleted.map(|revision| {
            let ended = cluster.leader_ended.map(|term| at(base, term));
            format!("lock gone {}, that of term {ended:?}", at(base, revision))
        });
        let members = cluster.members.iter().map(|(name, stored)| {
            let lease = self.lease(stored.value.lease);
            let value = Member {
                lease: 0,
                ..stored.value.clone()
            };
            format!(
                "member {name} under {lease} {} {value:?}",
                at(base, stored.revision)
            )
        });
        let keys = [
            leader,
            deleted,
            key("initialize", base, &cluster.initialize),
            key("config", base, &cluster.config),
            key("status", base, &cluster.status),
            key("sync", base, &cluster.sync),
            key("failover", base, &cluster.failover),
            key("failsafe", base, &cluster.failsafe),
            key("history", base, &cluster.history),
        ];
        keys.into_iter().flatten().chain(members).collect()
    }
}

/// What is not bound to a term of leadership.
fn anybodys(who: usize, order: Order, cluster: &Cluster) -> Op {
    match order {
        Order::Member(position) => Op::PutMember(member(who, position)),
        Order::Claim(expected) => Op::PutInitialize {
            system_id: None,
            expected: revision(of(&cluster.initialize), expected),
        },
        Order::Initialize(expected) => Op::PutInitialize {
            system_id: Some(SystemId(7_710_413_211_832_022_599)),
            expected: revision(of(&cluster.initialize), expected),
        },
        Order::Config(ttl, expected) => Op::PutConfig {
            text: config(ttl),
            expected: revision(of(&cluster.config), expected),
        },
        Order::Failover(to, expected) => Op::PutFailover {
            failover: failover(to, None),
            expected: revision(of(&cluster.failover), expected),
        },
        Order::Scheduled(to, expected) => Op::PutFailover {
            failover: failover(Some(to), Some(who)),
            expected: revision(of(&cluster.failover), expected),
        },
        _ => Op::Refresh,
    }
}

/// A revision, counted from the beginning of the list.
fn at(base: u64, revision: u64) -> String {
    match revision.checked_sub(base) {
        Some(after) => format!("+{after}"),
        None => format!("-{}", base - revision),
    }
}

fn of<T>(key: &Option<Stored<T>>) -> Option<u64> {
    key.as_ref().map(|key| key.revision)
}

fn revision(seen: Option<u64>, expected: Expected) -> Option<u64> {
    match expected {
        Expected::Seen => seen,
        Expected::Stale => seen.map(|revision| revision - 1),
        Expected::Absent => None,
    }
}

fn name(member: usize) -> MemberName {
    MemberName(node_name(member))
}

fn config(ttl: u64) -> String {
    format!("{{\"ttl\":{ttl}}}")
}

fn failover(to: Option<usize>, from: Option<usize>) -> Failover {
    let scheduled_at = from.map(|_| Schedule {
        text: "2030-01-01T00:00:00+00:00".into(),
        at: Some(WallTime(1_893_456_000_000_000)),
    });
    Failover {
        leader: from.map(name),
        member: to.map(name),
        scheduled_at,
    }
}

fn status(position: u64) -> Status {
    Status {
        optime: Lsn(position),
        slots: BTreeMap::from([("n2".to_owned(), Lsn(position))]),
        ..Status::default()
    }
}

fn history(lines: u64) -> Vec<HistoryLine> {
    let line = |number: u32| HistoryLine {
        timeline: Timeline(number),
        end: Lsn(u64::from(number) * 0x100_0000),
        reason: "no recovery target specified".into(),
        timestamp: Some("2026-11-21T00:00:00+00:00".into()),
        leader: Some(name(0)),
    };
    (1..=u32::try_from(lines).unwrap_or(1)).map(line).collect()
}

fn member(who: usize, position: u64) -> Member {
    let port = 5000 + u16::try_from(who).unwrap_or(0);
    Member {
        name: name(who),
        conn_url: format!("postgres://host:{port}/postgres"),
        address: Some(("host".into(), port)),
        api_url: format!("http://host:{port}/patroni"),
        proxy_url: None,
        state: Some(PostgresState::Running),
        role: Some(Role::Replica),
        version: Some(Version(4, 1, 5)),
        xlog_location: Some(Lsn(position)),
        receive_lsn: Some(Lsn(position)),
        replay_lsn: Some(Lsn(position)),
        timeline: Some(Timeline(1)),
        replication_state: Some("streaming".into()),
        checkpoint_after_promote: None,
        tags: Tags::default(),
        guard_missing: false,
        pending_restart: false,
        pending_restart_reason: Vec::new(),
        leaves_sync: false,
        scheduled_restart: None,
        pause: false,
        lease: 0,
    }
}
