//! One look, with the questions that every rule asks answered once.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use pgherd_model::{
    Cluster, ControlState, Leader, Member, MemberName, Op, PostgresState, Role, Span,
    StandbyCluster, Time,
};

use crate::decision::{Action, JobKind, Severity, StartAs};
use crate::failsafe::{self, Extension};
use crate::lease::Deadlines;
use crate::memory::Memory;
use crate::view::{LeaseFact, Outcome, View};

/// How long after a promotion that failed PostgreSQL may still carry it out.
const OBEYS: Span = Span::from_secs(10);

/// Who has the lock, as far as this node may act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock<'a> {
    /// This node, under its present lease, in time.
    Mine { term: u64 },
    /// The key has this node's name, but not its present lease (the agent was restarted).
    Detached { term: u64 },
    /// This node has ordered its release, and does not know yet whether that was done.
    GivenUp { term: u64 },
    /// Somebody else.
    Other(&'a Leader),
    /// Nobody.
    Free,
    /// The store cannot be read and this node has no lease in time.
    Unknown,
}

/// Answer of one rule.
pub(crate) enum Verdict {
    /// Not my case, because.
    Pass(Cow<'static, str>),
    /// This is to be done; `duties`: the upkeep runs beside it.
    Do(Order),
}

/// What a rule wants.
pub(crate) struct Order {
    pub actions: Vec<Action>,
    pub reason: Cow<'static, str>,
    pub severity: Severity,
    pub wake_at: Option<Time>,
    pub duties: bool,
}

impl Verdict {
    pub(crate) fn pass(reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::Pass(reason.into())
    }

    /// Wait or stay, with the upkeep.
    pub(crate) fn stay(reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::act(Vec::new(), reason)
    }

    /// Nothing is to be done, and all is as it should be.
    pub(crate) fn routine(reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::stay(reason).severity(Severity::Routine)
    }

    /// Do these, with the upkeep.
    pub(crate) fn act(actions: Vec<Action>, reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::Do(Order {
            actions,
            reason: reason.into(),
            severity: Severity::Info,
            wake_at: None,
            duties: true,
        })
    }

    /// Do these and nothing else.
    pub(crate) fn only(actions: Vec<Action>, reason: impl Into<Cow<'static, str>>) -> Verdict {
        Verdict::Do(Order {
            actions,
            reason: reason.into(),
            severity: Severity::Info,
            wake_at: None,
            duties: false,
        })
    }

    /// It goes on, but not as it should.
    pub(crate) fn warning(self) -> Verdict {
        self.severity(Severity::Warning)
    }

    /// Somebody must act.
    pub(crate) fn error(self) -> Verdict {
        self.severity(Severity::Error)
    }

    pub(crate) fn severity(mut self, severity: Severity) -> Verdict {
        if let Verdict::Do(order) = &mut self {
            order.severity = severity;
        }
        self
    }

    /// Look again at that time.
    pub(crate) fn wake(mut self, at: Time) -> Verdict {
        if let Verdict::Do(order) = &mut self {
            order.wake_at = Some(at);
        }
        self
    }
}

/// A look and what follows from it directly.
pub(crate) struct Ctx<'a> {
    pub view: &'a View,
    pub lock: Lock<'a>,
    /// The lease that the own lock lives under, as far as this node knows.
    pub lease: Option<LeaseFact>,
    /// A round of the failsafe mode that keeps this node in office beyond that.
    pub extension: Option<Extension>,
    /// The deadlines of both.
    pub deadlines: Option<Deadlines>,
    /// The leader that the lock is seen to have is one that this node has made a promise to.
    pub promised: bool,
}

impl<'a> Ctx<'a> {
    pub(crate) fn new(view: &'a View, memory: &Memory) -> Ctx<'a> {
        let attached = attached(view);
        let lease = lease_of_lock(view, memory, attached);
        let extension = extension(view, lease);
        let mut deadlines = deadlines_of_lock(view, lease, attached);
        if let Some(extension) = extension {
            let extended = extension.deadlines();
            deadlines = Some(deadlines.map_or(extended, |lease| lease.later(extended)));
        }
        let in_time = deadlines.is_some_and(|deadlines| view.now < deadlines.demote_fast);
        let lock = match (view.fresh().map(|cluster| &cluster.leader), memory.term) {
            (Some(Some(leader)), _) if leader.name == view.me => {
                let term = leader.create_revision;
                let released = memory.released == Some(term);
                match (attached, in_time) {
                    _ if released => Lock::GivenUp { term },
                    (true, true) => Lock::Mine { term },
                    (false, _) => Lock::Detached { term },
                    (true, false) => Lock::Unknown,
                }
            }
            (Some(Some(leader)), _) => Lock::Other(leader),
            (Some(None), _) => Lock::Free,
            // A lease granted anew after an outage is not the one that the lock lives under, and a
            // release that was ordered may have been carried out.
            (None, Some(term))
                if in_time && last_seen_under(view, term) && memory.released != Some(term) =>
            {
                Lock::Mine { term }
            }
            (None, _) => Lock::Unknown,
        };
        // Whoever was told that he may stay in office leads, whatever has become of his lock.
        let promise =
            failsafe::promise(view, memory).filter(|_| matches!(lock, Lock::Free | Lock::Unknown));
        Ctx {
            view,
            lock: promise.map_or(lock, |promise| Lock::Other(&promise.leader)),
            lease,
            extension,
            deadlines,
            promised: promise.is_some(),
        }
    }

    /// A round of the failsafe mode keeps this node in office.
    pub(crate) fn is_extended(&self) -> bool {
        self.extension
            .is_some_and(|it| self.now() < it.deadlines().demote_fast)
    }

    /// And nothing else does: its lease alone is overdue, or gone.
    pub(crate) fn is_in_failsafe(&self) -> bool {
        let overdue = |lease: LeaseFact| self.now() >= lease.deadlines().demote_fast;
        self.is_extended() && self.lease.is_none_or(overdue)
    }

    pub(crate) fn now(&self) -> Time {
        self.view.now
    }

    pub(crate) fn me(&self) -> &MemberName {
        &self.view.me
    }

    /// Held, by name at least.
    pub(crate) fn holding(&self) -> Option<u64> {
        match self.lock {
            Lock::Mine { term } | Lock::Detached { term } => Some(term),
            Lock::GivenUp { .. } | Lock::Other(_) | Lock::Free | Lock::Unknown => None,
        }
    }

    /// Somebody else who has the lock.
    pub(crate) fn other_leader(&self) -> Option<&'a Leader> {
        match self.lock {
            Lock::Other(leader) => Some(leader),
            Lock::Mine { .. }
            | Lock::Detached { .. }
            | Lock::GivenUp { .. }
            | Lock::Free
            | Lock::Unknown => None,
        }
    }

    /// The cluster is a copy of another one.
    pub(crate) fn standby_cluster(&self) -> Option<&'a StandbyCluster> {
        self.view.settings.standby_cluster.as_ref()
    }

    /// Nothing can be written here, and nothing is about to be: whoever leads a standby cluster needs no guard.
    pub(crate) fn leads_in_recovery(&self) -> bool {
        self.standby_cluster().is_some() && self.holding().is_some() && self.cannot_write()
    }

    /// Everybody but this node, by the last picture.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        let me = &self.view.me;
        self.view
            .cluster()
            .into_iter()
            .flat_map(|cluster| cluster.members.values())
            .map(|stored| &stored.value)
            .filter(move |member| member.name != *me)
    }

    /// Its key is there.
    pub(crate) fn is_member(&self, name: &MemberName) -> bool {
        self.cluster()
            .is_some_and(|cluster| cluster.members.contains_key(name))
    }

    pub(crate) fn cluster(&self) -> Option<&'a Cluster> {
        self.view.cluster()
    }

    /// PostgreSQL does not say what it is, and it was a primary when it last ran or still runs as
    /// one by its pg_control: an agent that has just come back remembers nothing.
    pub(crate) fn may_be_primary(&self, memory: &Memory) -> bool {
        let local = &self.view.local;
        // pg_rewind and recovery in single-user mode serve nobody.
        let offline = self.view.running_job().is_some_and(|job| {
            matches!(
                job.kind,
                JobKind::CrashRecovery
                    | JobKind::Rewind { .. }
                    | JobKind::Clone { .. }
                    | JobKind::Bootstrap
            )
        });
        let runs = !self.view.is_down() && !local.standby_signal && !offline;
        let written = local.control.is_some_and(|control| {
            !matches!(
                control.state,
                ControlState::InArchiveRecovery | ControlState::ShutDownInRecovery
            )
        });
        local.look.is_none() && (memory.was_primary || (runs && written))
    }

    /// A job is making it primary, or has failed to do so just now: PostgreSQL may still obey. One that was refused has told
    /// it nothing.
    pub(crate) fn is_becoming_primary(&self) -> bool {
        let view = self.view;
        view.local.job.as_ref().is_some_and(|job| match &job.kind {
            JobKind::Start(StartAs::Primary) => job.outcome.is_none(),
            JobKind::Promote if matches!(job.outcome, Some(Outcome::Refused(_))) => false,
            JobKind::Promote => {
                let lately = |ended| view.now.since(ended) < OBEYS;
                job.ended.is_none_or(|at| view.is_standby() && lately(at))
            }
            _ => false,
        })
    }

    /// PostgreSQL is down or in recovery, and nothing is making it a primary.
    pub(crate) fn cannot_write(&self) -> bool {
        !self.is_becoming_primary() && (self.view.is_down() || self.view.is_standby())
    }

    /// What this node publishes now.
    pub(crate) fn own_member(&self, memory: &Memory) -> Member {
        crate::upkeep::member::describe(self, memory)
    }

    /// Give up the lock, with last words. PostgreSQL must be down, or in recovery.
    pub(crate) fn release(&self, term: u64, memory: &Memory) -> Action {
        let mut member = self.own_member(memory);
        if self.standby_cluster().is_some() && self.view.is_standby() {
            member.role = Some(Role::Replica);
        } else {
            member.role = Some(Role::Demoted);
            member.state = Some(PostgresState::Stopped);
        }
        let status = self.view.local.shutdown_end.and_then(|end| {
            let mut status = self.cluster()?.status.as_ref()?.value.clone();
            status.optime = self
                .view
                .local
                .control
                .map_or(end, |control| control.checkpoint);
            Some(status)
        });
        Action::Store(Op::ReleaseLeader {
            create_revision: term,
            mod_revision: self.lock_changed(term),
            status,
            member: Some(member),
        })
    }

    /// Revision of the last change of the own lock, as last seen.
    pub(crate) fn lock_changed(&self, term: u64) -> u64 {
        let leader = self.cluster().and_then(|cluster| cluster.leader.as_ref());
        let own = leader.filter(|leader| leader.create_revision == term);
        own.map_or(term, |leader| leader.mod_revision)
    }
}

/// The lease that the own lock lives under. A lease under which it does not live says nothing about
/// it: while the lock is to be put under another one (`lease_ttl` was changed, the lease was lost)
/// nothing renews the one before, and etcd deletes the lock when that is over.
fn lease_of_lock(view: &View, memory: &Memory, attached: bool) -> Option<LeaseFact> {
    let leader = view.cluster().and_then(|cluster| cluster.leader.as_ref());
    match leader.filter(|leader| leader.name == view.me) {
        Some(_) if attached => view.lease,
        Some(leader) => memory
            .held
            .filter(|_| memory.term == Some(leader.create_revision)),
        None => {
            let same = |held: &LeaseFact| view.lease.is_some_and(|it| it.lease == held.lease);
            memory.held.filter(|held| !same(held)).or(view.lease)
        }
    }
}

/// An order to put the lock under the present lease may have been carried out without an answer: as long as the picture shows
/// it under another one, what is due sooner by either of them counts.
fn deadlines_of_lock(view: &View, lease: Option<LeaseFact>, attached: bool) -> Option<Deadlines> {
    let by = |lease: LeaseFact| lease.deadlines();
    match (lease.map(by), view.lease.map(by).filter(|_| !attached)) {
        (Some(one), Some(other)) => Some(one.sooner(other)),
        (one, other) => one.or(other),
    }
}

/// The last round of the failsafe mode, unless the lease was renewed since: then only that counts, which others count on.
fn extension(view: &View, lease: Option<LeaseFact>) -> Option<Extension> {
    let extension = view.failsafe.extension?;
    lease
        .is_none_or(|lease| lease.sent < extension.sent)
        .then_some(extension)
}

/// The own lease is that of the lock, as far as the last picture tells; a lock that is gone is not
/// held against it.
fn attached(view: &View) -> bool {
    let leader = view.cluster().and_then(|cluster| cluster.leader.as_ref());
    match leader {
        // Without a lease of its own (the agent has just come back) nothing renews the lock.
        Some(leader) if leader.name == view.me => {
            view.lease.is_some_and(|lease| lease.lease == leader.lease)
        }
        _ => true,
    }
}

/// In the last picture the lock of this term lives under the lease that is renewed now.
fn last_seen_under(view: &View, term: u64) -> bool {
    let leader = view.cluster().and_then(|cluster| cluster.leader.as_ref());
    leader.is_some_and(|leader| {
        leader.name == view.me
            && leader.create_revision == term
            && view.lease.is_some_and(|lease| lease.lease == leader.lease)
    })
}
