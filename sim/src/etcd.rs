//! A fake etcd: linearizable keys with revisions, and leases that are deleted late.

use std::collections::BTreeMap;
use std::rc::Rc;

use pgherd_model::{
    Answer, Cluster, Config, Failover, Initialize, Leader, LeaseSight, MemberName, Op, Span,
    Stored, Time,
};

/// A lease in true time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) granted: Span,
    pub(crate) expires: Time,
}

/// Whose operation it is, with the leases that he puts keys under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By<'a> {
    pub(crate) me: &'a MemberName,
    pub(crate) leader_lease: i64,
    pub(crate) member_lease: i64,
    /// Revision of his own member key as he saw it; `None`: it was absent.
    pub(crate) member: Option<u64>,
}

/// The lock came or went, or was put under another lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) revision: u64,
    /// Create revision of the key; `None`: it was deleted.
    pub(crate) term: Option<u64>,
}

/// The store.
pub(crate) struct Etcd {
    cluster: Rc<Cluster>,
    pub(crate) leases: BTreeMap<i64, Lease>,
    next_lease: i64,
    /// The lease under which `initialize` lives; 0: none.
    claim: i64,
    /// What the watch tells of `leader`.
    pub(crate) turns: Vec<Turn>,
    /// It answers nobody.
    pub(crate) down: bool,
    /// Writes so far.
    pub(crate) writes: u64,
    /// Changes of the holder of the lock so far.
    pub(crate) lock_changes: u64,
}

impl Etcd {
    pub(crate) fn new() -> Etcd {
        let cluster = Cluster {
            revision: 1,
            ..Cluster::default()
        };
        Etcd {
            cluster: Rc::new(cluster),
            leases: BTreeMap::new(),
            next_lease: 100,
            claim: 0,
            turns: Vec::new(),
            down: false,
            writes: 0,
            lock_changes: 0,
        }
    }

    /// What a linearizable read shows now.
    pub(crate) fn picture(&self) -> Rc<Cluster> {
        self.cluster.clone()
    }

    pub(crate) fn grant(&mut self, now: Time, granted: Span) -> i64 {
        self.next_lease += 1;
        let expires = now + granted;
        self.leases
            .insert(self.next_lease, Lease { granted, expires });
        self.next_lease
    }

    /// Renews; `false`: there is no such lease (any more).
    pub(crate) fn renew(&mut self, now: Time, id: i64) -> bool {
        match self.leases.get_mut(&id) {
            Some(lease) if lease.expires > now => {
                lease.expires = now + lease.granted;
                true
            }
            _ => false,
        }
    }

    /// Ends a lease with its keys; `true`: a key went.
    pub(crate) fn revoke(&mut self, id: i64) -> bool {
        self.leases.remove(&id);
        let cluster = &self.cluster;
        let leader = cluster
            .leader
            .as_ref()
            .is_some_and(|leader| leader.lease == id);
        let member = cluster
            .members
            .values()
            .any(|member| member.value.lease == id);
        let claim = self.claim == id;
        if !leader && !member && !claim {
            return false;
        }
        if claim {
            self.claim = 0;
        }
        self.change(|cluster, _| {
            if leader {
                cluster.leader = None;
            }
            if claim {
                cluster.initialize = None;
            }
            cluster.members.retain(|_, member| member.value.lease != id);
        });
        true
    }

    /// Somebody deletes the lock by hand.
    pub(crate) fn delete_leader(&mut self) {
        if self.cluster.leader.is_some() {
            self.change(|cluster, _| cluster.leader = None);
        }
    }

    /// Somebody deletes `initialize` by hand.
    pub(crate) fn forget_initialize(&mut self) {
        if self.cluster.initialize.is_some() {
            self.claim = 0;
            self.change(|cluster, _| cluster.initialize = None);
        }
    }

    /// Somebody deletes `config` by hand.
    pub(crate) fn forget_config(&mut self) {
        if self.cluster.config.is_some() {
            self.change(|cluster, _| cluster.config = None);
        }
    }

    /// Somebody writes `config`.
    pub(crate) fn configure(&mut self, text: String) {
        self.change(|cluster, revision| {
            let value = Config {
                text,
                is_object: true,
            };
            cluster.config = Some(Stored { value, revision });
        });
    }

    /// Somebody writes `failover`.
    pub(crate) fn request(&mut self, failover: Failover) {
        self.change(|cluster, revision| {
            cluster.failover = Some(Stored {
                value: failover,
                revision,
            });
        });
    }

    /// After a new leader of etcd was elected every lease has its full life again, and so much more.
    pub(crate) fn prolong(&mut self, now: Time, more: Span) -> Vec<(i64, Time)> {
        let mut all = Vec::new();
        for (id, lease) in &mut self.leases {
            lease.expires = now + lease.granted + more;
            all.push((*id, lease.expires));
        }
        all
    }

    fn change(&mut self, change: impl FnOnce(&mut Cluster, u64)) -> u64 {
        let mut cluster = Cluster::clone(&self.cluster);
        cluster.revision += 1;
        let revision = cluster.revision;
        let before = cluster.leader.clone();
        change(&mut cluster, revision);
        if before != cluster.leader {
            let term = cluster.leader.as_ref().map(|it| it.create_revision);
            self.turns.push(Turn { revision, term });
        }
        if before.map(|leader| leader.name) != cluster.leader.as_ref().map(|it| it.name.clone()) {
            self.lock_changes += 1;
        }
        self.writes += 1;
        self.cluster = Rc::new(cluster);
        revision
    }

    /// Carries out an operation, as `dcs::ops` plans it.
    pub(crate) fn run(&mut self, now: Time, by: &By<'_>, op: &Op) -> Answer {
        match op {
            Op::LookAtLease { lease } => return Answer::Lease(self.look_at(now, *lease)),
            Op::Refresh => {
                let revision = self.cluster.revision;
                return Answer::Done { revision };
            }
            _ => {}
        }
        if !self.allows(by, op) {
            return Answer::Refused;
        }
        match op {
            Op::PutInitialize {
                system_id: None, ..
            } => self.claim = by.member_lease,
            Op::PutInitialize { .. } | Op::DeleteInitialize { .. } => self.claim = 0,
            _ => {}
        }
        let revision = self.change(|cluster, revision| write(cluster, revision, by, op));
        Answer::Done { revision }
    }

    fn look_at(&self, now: Time, lease: i64) -> LeaseSight {
        let found = self.leases.get(&lease);
        let granted = found.map_or(Span::ZERO, |lease| lease.granted);
        let rest = found.map_or(Span::ZERO, |lease| lease.expires.since(now));
        LeaseSight {
            lease,
            granted,
            // After an election it may live longer: no lease was renewed in the future.
            remaining: Span::from_secs(rest.as_secs()).min(granted),
            asked: now,
            answered: now,
        }
    }

    /// What the operation was decided on holds.
    pub(crate) fn allows(&self, by: &By<'_>, op: &Op) -> bool {
        let me = by.me;
        let now = &self.cluster;
        let held = |term: u64| {
            let leader = now.leader.as_ref();
            leader.is_some_and(|leader| leader.name == *me && leader.create_revision == term)
        };
        let seen = |present: Option<u64>, expected: Option<u64>| present == expected;
        match op {
            Op::AcquireLeader { seen } => {
                let led = now.status.as_ref().map(|it| it.revision);
                let asked = now.failover.as_ref().map(|it| it.revision);
                now.leader.is_none() && led.max(asked).is_none_or(|newest| newest <= *seen)
            }
            Op::ReattachLeader { create_revision } => held(*create_revision),
            Op::ReleaseLeader {
                create_revision,
                mod_revision,
                ..
            } => {
                let leader = now.leader.as_ref();
                let same = leader.is_some_and(|leader| leader.mod_revision == *mod_revision);
                same && held(*create_revision)
            }
            Op::PutInitialize { expected, .. } => {
                seen(now.initialize.as_ref().map(|it| it.revision), *expected)
            }
            Op::DeleteInitialize { expected } => seen(
                now.initialize.as_ref().map(|it| it.revision),
                Some(*expected),
            ),
            Op::PutConfig { expected, .. } => {
                seen(now.config.as_ref().map(|it| it.revision), *expected)
            }
            Op::PutFailover { expected, .. } => {
                seen(now.failover.as_ref().map(|it| it.revision), *expected)
            }
            Op::PutSync { expected, term, .. } => {
                held(*term) && seen(now.sync.as_ref().map(|it| it.revision), *expected)
            }
            Op::DeleteSync { expected, term } => {
                held(*term) && seen(now.sync.as_ref().map(|it| it.revision), Some(*expected))
            }
            Op::PutFailsafe { expected, term, .. } => {
                held(*term) && seen(now.failsafe.as_ref().map(|it| it.revision), *expected)
            }
            Op::PutStatus { term, .. } | Op::PutHistory { term, .. } => held(*term),
            // It was decided on the own key as it was seen: a late one must not replace a newer one.
            Op::PutMember(_) => seen(now.members.get(me).map(|it| it.revision), by.member),
            Op::LookAtLease { .. } | Op::Refresh => true,
        }
    }
}

fn write(cluster: &mut Cluster, revision: u64, by: &By<'_>, op: &Op) {
    let By {
        me,
        leader_lease,
        member_lease,
        ..
    } = *by;
    match op {
        Op::AcquireLeader { .. } => {
            cluster.leader = Some(Leader {
                name: me.clone(),
                lease: leader_lease,
                create_revision: revision,
                mod_revision: revision,
            });
        }
        Op::ReattachLeader { .. } => {
            if let Some(leader) = &mut cluster.leader {
                leader.lease = leader_lease;
                leader.mod_revision = revision;
            }
        }
        Op::ReleaseLeader { status, member, .. } => {
            cluster.leader = None;
            let status = status.clone().map(|value| Stored { value, revision });
            cluster.status = status.or_else(|| cluster.status.take());
            if let Some(member) = member {
                put_member(cluster, revision, me, member_lease, member);
            }
        }
        Op::PutMember(member) => put_member(cluster, revision, me, member_lease, member),
        other => write_key(cluster, revision, other),
    }
}

fn put_member(
    cluster: &mut Cluster,
    revision: u64,
    me: &MemberName,
    lease: i64,
    member: &pgherd_model::Member,
) {
    let mut value = member.clone();
    value.lease = lease;
    cluster
        .members
        .insert(me.clone(), Stored { value, revision });
}

/// Keys that live under no lease.
fn write_key(cluster: &mut Cluster, revision: u64, op: &Op) {
    fn put<T: Clone>(slot: &mut Option<Stored<T>>, revision: u64, value: &T) {
        let value = value.clone();
        *slot = Some(Stored { value, revision });
    }
    match op {
        Op::PutInitialize { system_id, .. } => {
            let value = system_id.map_or(Initialize::UnderWay, Initialize::Done);
            put(&mut cluster.initialize, revision, &value);
        }
        Op::DeleteInitialize { .. } => cluster.initialize = None,
        Op::PutConfig { text, .. } => {
            let value = Config {
                text: text.clone(),
                is_object: true,
            };
            put(&mut cluster.config, revision, &value);
        }
        Op::PutStatus { status, .. } => put(&mut cluster.status, revision, status),
        Op::PutSync { sync, .. } => put(&mut cluster.sync, revision, sync),
        Op::DeleteSync { .. } => cluster.sync = None,
        Op::PutFailover { failover, .. } => put(&mut cluster.failover, revision, failover),
        Op::PutFailsafe { members, .. } => put(&mut cluster.failsafe, revision, members),
        Op::PutHistory { history, .. } => put(&mut cluster.history, revision, history),
        Op::AcquireLeader { .. }
        | Op::ReattachLeader { .. }
        | Op::ReleaseLeader { .. }
        | Op::PutMember(_)
        | Op::LookAtLease { .. }
        | Op::Refresh => {}
    }
}
