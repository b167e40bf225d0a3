//! What an agent sees: of PostgreSQL, of the keys, and all of it for one decision.

use pgherd_ha::{Dcs, GuardFact, Identity, Local, Orders, Tenure, View, beat};
use pgherd_model::{Cluster, ControlState, DataDir, Look, Postmaster, Tags, Time, Version};

use crate::agent::Agent;
use crate::guard::Guard;
use crate::postgres::Phase;
use crate::world::World;

impl Agent {
    /// The picture with what is known of a lock that is gone.
    fn with_vacancy(&self, mut cluster: Cluster) -> Cluster {
        let free = cluster.leader.is_none();
        cluster.leader_deleted = self.leader_deleted.filter(|_| free);
        cluster.leader_ended = self.leader_ended.filter(|_| free);
        cluster
    }
}

impl World {
    /// What PostgreSQL answers to this agent.
    fn ask_postgres(&mut self, node: usize) -> Option<Look> {
        let pg = &self.nodes[node].pg;
        let known = self.nodes[node].agent.connected == pg.epoch;
        let answers =
            pg.accepts() || (known && pg.postmaster.is_some() && pg.phase == Phase::Running);
        let epoch = pg.epoch;
        if !answers {
            return None;
        }
        self.nodes[node].agent.connected = epoch;
        Some(self.nodes[node].pg.look(&self.names, (0, "host")))
    }

    /// Facts about the own PostgreSQL.
    pub(crate) fn local(&mut self, node: usize) -> Local {
        let truth = self.now;
        self.nodes[node].pg.reap(truth);
        let look = self.ask_postgres(node);
        let guard = self.guard_fact(node);
        let silent = look.is_none() && self.nodes[node].pg.postmaster.is_some();
        let now = self.clock(node);
        let spare = self.nodes[node].agent.spare.as_mut();
        let told = spare.map(|view| std::mem::take(&mut view.local.own_history));
        let since = &mut self.nodes[node].agent.silent_since;
        *since = silent.then(|| since.unwrap_or(now));
        let silent_since = *since;
        let pg = &self.nodes[node].pg;
        let stopping = pg.postmaster.is_some() && pg.phase == Phase::Stopping && !pg.stopped;
        let awaits_senders = stopping && self.waits_for_senders(node);
        let it = &self.nodes[node];
        let (pg, disk) = (&it.pg, &it.pg.disk);
        let postmaster = pg.processes(truth);
        let down = postmaster == Postmaster::Down;
        let control = (disk.data == DataDir::Initialized).then_some(disk.control);
        let written = disk
            .control
            .timeline
            .max(disk.control.min_recovery_timeline);
        let timeline = look.as_ref().map_or(written, |look| look.timeline);
        Local {
            archiving: false,
            awaits_senders,
            hangs: pg.stopped
                && pg.postmaster.is_some()
                && pg.phase == Phase::Running
                && look.is_none(),
            halted: pg.stopped && pg.postmaster.is_some() && look.is_none(),
            data: disk.data.clone(),
            control,
            shutdown_end: disk
                .shutdown_end
                .filter(|_| down && disk.control.state == ControlState::ShutDown),
            standby_signal: disk.standby_signal,
            backup_label: disk.backup_label,
            postmaster,
            own_history: pg.own_history(timeline.0, told.unwrap_or_default()),
            silent_since,
            not_ready: pg.postmaster.is_some() && !pg.stopped && pg.phase != Phase::Running,
            look,
            job: it.agent.job.clone(),
            guard,
            watchdog: pgherd_ha::WatchdogFact::default(),
            probed: it.agent.probed,
        }
    }

    fn guard_fact(&mut self, node: usize) -> GuardFact {
        let now = self.clock(node);
        let it = &mut self.nodes[node];
        let guard = it.agent.guard.and_then(|number| it.guards.get(&number));
        let alive = guard.is_some();
        let life = it.settings.lease_ttl;
        let hangs = guard.is_some_and(|guard| guard.hangs(now, life));
        if guard.is_none_or(Guard::has_fired) {
            it.agent.armed_for = None;
        }
        GuardFact {
            alive,
            hangs,
            armed_for: it.agent.armed_for,
            armed_by: it.agent.armed_by.filter(|_| it.agent.armed_for.is_some()),
            failed: it.agent.guard_failed,
            failures: it.agent.guard_failures,
        }
    }

    /// `before`: as it was at some time, for what of it is the same.
    fn dcs_fact(&mut self, node: usize, now: Time, before: Dcs) -> Dcs {
        let limit = beat::stale_after(&self.nodes[node].settings);
        let before = match before {
            Dcs::Fresh(cluster) => Some(cluster),
            Dcs::Unreachable { last, .. } => last,
        };
        let agent = &self.nodes[node].agent;
        let cluster = agent.picture.as_ref().map(|picture| {
            // Every change of a key has a revision of its own.
            let same = before.filter(|before| before.revision == picture.revision);
            agent.with_vacancy(same.unwrap_or_else(|| Cluster::clone(picture)))
        });
        let agent = &mut self.nodes[node].agent;
        let fresh = !agent.problem && now.since(agent.heard) < limit;
        match cluster {
            Some(cluster) if fresh => {
                agent.dcs_fresh = Some(agent.heard);
                Dcs::Fresh(cluster)
            }
            last => Dcs::Unreachable {
                since: agent.dcs_fresh.unwrap_or(agent.started),
                last,
            },
        }
    }

    /// The keys as this agent last saw them.
    pub(crate) fn seen_by(&self, node: usize) -> Option<Cluster> {
        let agent = &self.nodes[node].agent;
        let picture = agent.picture.as_ref()?;
        Some(agent.with_vacancy(Cluster::clone(picture)))
    }

    /// What the next decision is made on.
    pub(crate) fn view(&mut self, node: usize) -> Option<Box<View>> {
        let now = self.clock(node);
        // A job that has ended since the look is one that still runs: the agent takes its end only when it rests.
        let mut local = self.nodes[node].agent.local.take()?;
        local.probed = self.nodes[node].agent.probed;
        let Some(mut view) = self.nodes[node].agent.spare.take() else {
            let dcs = Dcs::Unreachable {
                since: now,
                last: None,
            };
            return Some(Box::new(View {
                now,
                wall: self.wall(node),
                me: self.nodes[node].name.clone(),
                identity: self.identity(node),
                dcs: self.dcs_fact(node, now, dcs),
                heard: self.nodes[node].agent.heard,
                tenure: self.tenure(node),
                lease: self.nodes[node].agent.renewing.fact,
                failsafe: self.failsafe_fact(node),
                sight: self.nodes[node].agent.sight,
                local,
                peers: self.nodes[node].agent.peers.clone(),
                asking: !self.nodes[node].agent.questions.is_empty(),
                history: self.nodes[node].agent.history.clone(),
                settings: self.nodes[node].settings.clone(),
                config: self.nodes[node].config.clone(),
                member_lease: self.member_lease(node),
                orders: self.orders(node),
            }));
        };
        self.renew_view(node, &mut view, local);
        Some(view)
    }

    /// The same, made of what was seen before.
    fn renew_view(&mut self, node: usize, view: &mut View, seen: Local) {
        let at = self.clock(node);
        let View {
            now,
            wall,
            me: _,
            identity: _,
            dcs,
            heard,
            tenure,
            lease,
            failsafe,
            sight,
            local,
            peers,
            asking,
            history,
            settings,
            config,
            member_lease,
            orders,
        } = view;
        (*now, *wall, *local) = (at, self.wall(node), seen);
        let before = std::mem::replace(
            dcs,
            Dcs::Unreachable {
                since: at,
                last: None,
            },
        );
        *dcs = self.dcs_fact(node, at, before);
        *failsafe = self.failsafe_fact(node);
        (*tenure, *orders) = (self.tenure(node), self.orders(node));
        *member_lease = self.member_lease(node);
        let it = &self.nodes[node];
        let agent = &it.agent;
        (*heard, *lease, *sight) = (agent.heard, agent.renewing.fact, agent.sight);
        *asking = !agent.questions.is_empty();
        renew(peers, &agent.peers);
        renew(history, &agent.history);
        renew(settings, &it.settings);
        renew(config, &it.config);
    }

    fn tenure(&self, node: usize) -> Tenure {
        Tenure {
            since: self.nodes[node].agent.elected_by,
            proved: self.nodes[node].agent.fresh_at,
        }
    }

    fn orders(&self, node: usize) -> Orders {
        Orders {
            shutdown: self.nodes[node].agent.shutdown,
            bootstrap_claim: self.nodes[node].agent.claim,
            bootstrapped: self.nodes[node].agent.bootstrapped,
            ..self.nodes[node].agent.orders.clone()
        }
    }

    /// The member lease, unless it was granted for another life than is wanted now; 0: none.
    pub(crate) fn member_lease(&self, node: usize) -> i64 {
        let (agent, settings) = (&self.nodes[node].agent, &self.nodes[node].settings);
        match agent.member_life == settings.ttl {
            true => agent.member_lease,
            false => 0,
        }
    }

    fn identity(&self, node: usize) -> Identity {
        let port = 5000 + u16::try_from(node).unwrap_or(0);
        Identity {
            conn_url: format!("postgres://host:{port}/postgres"),
            address: Some(("host".into(), port)),
            api_url: format!("http://{node}/patroni"),
            proxy_url: None,
            version: Version(4, 1, 5),
            tags: Tags {
                nofailover: self.swarm.nofailover == Some(node),
                failover_priority: self.swarm.priorities[node],
                ..Tags::default()
            },
            may_bootstrap: true,
            custom_bootstrap: false,
            copies_alone: false,
            leader_key: "/service/sim/leader".into(),
            data_dir: "/data".into(),
        }
    }
}

/// Most is as it was: to see that is cheaper than to copy it.
fn renew<T: Clone + PartialEq>(kept: &mut T, now: &T) {
    if kept != now {
        kept.clone_from(now);
    }
}
