//! Decisions that are carried out as something else.

use pgherd_ha::{Action, Decision, JobKind, StartAs, View};
use pgherd_model::{Op, Upstream};

use crate::bugs::Bug;
use crate::world::World;

impl World {
    /// What becomes of a decision.
    pub(crate) fn misdecide(&self, node: usize, view: &View, decision: &mut Decision) {
        match self.wrong.0 {
            Some(Bug::PromoteWithoutLock) => {
                let takes =
                    |action: &Action| matches!(action, Action::Store(Op::AcquireLeader { .. }));
                if view.is_standby() && decision.actions.iter().any(takes) {
                    decision.actions = vec![Action::StartJob(JobKind::Promote)];
                }
            }
            Some(Bug::StartDivergedCopy) => {
                let upstream = self.upstream_now(node);
                for action in &mut decision.actions {
                    let mends = matches!(
                        action,
                        Action::StartJob(JobKind::Rewind { .. } | JobKind::RemoveData)
                    );
                    if mends {
                        let upstream = upstream.clone();
                        let follow = None;
                        let standby = StartAs::Standby { upstream, follow };
                        *action = Action::StartJob(JobKind::Start(standby));
                    }
                }
            }
            Some(Bug::ReleaseBeforeShutdown) => release_first(view, decision),
            Some(Bug::AskOneVoteLess) => {
                for action in &mut decision.actions {
                    if let Action::Store(Op::PutSync { sync, .. }) = action {
                        sync.quorum = sync.quorum.saturating_sub(1);
                    }
                }
            }
            _ => {}
        }
    }

    /// The primary that holds the lock.
    fn upstream_now(&self, node: usize) -> Option<Upstream> {
        let picture = self.etcd.picture();
        let leader = picture.leader_name().and_then(|name| self.node_of(name))?;
        (leader != node).then(|| Upstream {
            host: "host".into(),
            port: 5000 + u16::try_from(leader).unwrap_or(0),
            slot: None,
            others: vec![],
        })
    }
}

/// The lock goes as soon as a demotion in order begins.
fn release_first(view: &View, decision: &mut Decision) {
    let stops = |action: &Action| {
        matches!(
            action,
            Action::StartJob(JobKind::Stop {
                checkpoint_first: true,
                ..
            })
        )
    };
    let leader = view.fresh().and_then(|cluster| cluster.leader.as_ref());
    let own = leader.filter(|leader| leader.name == view.me);
    if let Some(own) = own.filter(|_| decision.actions.iter().any(stops)) {
        let release = Op::ReleaseLeader {
            create_revision: own.create_revision,
            mod_revision: own.mod_revision,
            status: None,
            member: None,
        };
        decision.actions.insert(0, Action::Store(release));
    }
}
