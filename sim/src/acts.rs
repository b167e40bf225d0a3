//! What people do to a cluster: requests, pause, another configuration, a key deleted by hand.

use pgherd_model::{
    Failover, PostgresState, ReinitializeOrder, RestartCondition, RestartOrder, Schedule,
    ScheduledRestart, Settings, Span, WallTime,
};

use crate::world::World;

/// One deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    DeleteLeader,
    Switchover(Option<usize>),
    Failover(usize),
    EndAgent(usize),
    /// A restart of PostgreSQL, now or soon.
    Restart(usize),
    RestartNow(usize),
    /// A new copy of the data; whatever runs is given up for it.
    Reinitialize(usize, bool),
    Pause(bool),
    /// Other lives of leases and another pause between looks.
    Configure,
    /// The cluster becomes a copy of the other one, or one of its own.
    ChangePlaces,
}

impl Act {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Act::DeleteLeader => "lock deleted",
            Act::Switchover(_) => "switchover asked for",
            Act::Failover(_) => "failover asked for",
            Act::EndAgent(_) => "agent told to end",
            Act::Restart(_) | Act::RestartNow(_) => "restart asked for",
            Act::Reinitialize(..) => "new copy asked for",
            Act::Pause(true) => "paused",
            Act::Pause(false) => "resumed from pause",
            Act::Configure => "configuration changed",
            Act::ChangePlaces => "places changed",
        }
    }
}

impl World {
    pub(crate) fn on_act(&mut self, act: Act) {
        match act {
            Act::DeleteLeader => {
                self.etcd.delete_leader();
                self.chaos.vanished = Some(self.now);
                self.announce();
            }
            Act::Switchover(to) => self.ask_switchover(to),
            Act::Failover(to) => {
                self.chaos.failover_to = Some(to);
                let member = Some(self.nodes[to].name.clone());
                self.request(None, member);
            }
            Act::EndAgent(node) => {
                self.nodes[node].agent.shutdown = true;
                self.poke(node);
            }
            Act::Restart(node) => {
                let seconds = self.rng.below(8);
                self.order_restart(node, seconds);
            }
            Act::RestartNow(node) => self.order_restart(node, 0),
            Act::Reinitialize(node, force) => {
                let number = self.number();
                let orders = &mut self.nodes[node].agent.orders;
                orders.reinitialize = Some(ReinitializeOrder {
                    number,
                    force,
                    from_leader: force,
                });
                self.poke(node);
            }
            Act::Pause(true) => {
                self.paused();
                self.change(|settings| settings.pause = true);
            }
            Act::Pause(false) => self.resume(),
            Act::ChangePlaces => self.change_places(),
            Act::Configure => {
                let life = self.rng.pick(&[2, 5, 20]);
                let ttl = self.rng.pick(&[20, 30, 60]);
                let wait = self.rng.pick(&[2, 10]);
                let toggles = self.swarm.toggles > 0 && self.failsafe.chance(self.swarm.toggles);
                self.change(|settings| {
                    settings.failsafe_mode ^= toggles;
                    settings.lease_ttl = Span::from_secs(life);
                    settings.ttl = Span::from_secs(ttl);
                    settings.loop_wait = Span::from_secs(wait);
                });
            }
        }
    }

    fn order_restart(&mut self, node: usize, seconds: u64) {
        let number = self.number();
        let at = WallTime(self.wall(node).0 + i64::try_from(seconds).unwrap_or(0) * 1_000_000);
        let scheduled = ScheduledRestart {
            schedule: Schedule {
                text: format!("{seconds} s later"),
                at: Some(at),
            },
            start_time: String::new(),
            document: "{}".into(),
        };
        let mut order = RestartOrder {
            number,
            condition: RestartCondition::default(),
            timeout: None,
            scheduled: None,
        };
        let orders = &mut self.nodes[node].agent.orders;
        if seconds > 4 {
            order.scheduled = Some(scheduled);
            orders.scheduled_restart = Some(order);
        } else {
            orders.restart = Some(order);
        }
        self.poke(node);
    }

    pub(crate) fn resume(&mut self) {
        if self.present().pause {
            self.change(|settings| settings.pause = false);
        }
    }

    /// The configuration that `config` names.
    pub(crate) fn present(&self) -> &Settings {
        let picture = self.etcd.picture();
        let named = picture.config.as_ref();
        let number = named.map_or(0, |config| config.value.text.parse().unwrap_or(0));
        &self.configs[number]
    }

    /// As `PATCH /config`.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.present().clone();
        change(&mut settings);
        self.configs.push(settings);
        self.etcd.configure((self.configs.len() - 1).to_string());
        self.announce();
    }

    /// The same with a parameter of PostgreSQL that needs a restart.
    pub(crate) fn change_parameter(&mut self, name: &str, value: &str) {
        let last = self.parameters.values().next_back().cloned();
        let mut parameters = last.unwrap_or_default();
        parameters.insert(name.into(), value.into());
        self.parameters.insert(self.configs.len(), parameters);
        self.change(|_| {});
    }

    /// A changed configuration takes effect on this node.
    pub(crate) fn configure(&mut self, node: usize) {
        let agent = &mut self.nodes[node].agent;
        let Some(config) = agent.picture.as_ref().and_then(|it| it.config.clone()) else {
            return;
        };
        if agent.config_revision.replace(config.revision) != Some(config.revision) {
            let number: usize = config.value.text.parse().unwrap_or(0);
            self.nodes[node].settings = self.configs[number].clone();
            self.nodes[node].config = config.value.text;
            if let Some((_, parameters)) = self.parameters.range(..=number).next_back() {
                self.nodes[node].pg.written.clone_from(parameters);
            }
        }
    }

    /// In some worlds somebody deletes `config`: the leader puts back what is in force.
    pub(crate) fn forget_config(&mut self) {
        let picture = self.etcd.picture();
        let Some(config) = &picture.config else {
            return;
        };
        let text = &config.value.text;
        let taken = self.nodes.iter().all(|node| node.config == *text);
        if self.swarm.quiet_ms.is_multiple_of(3) && taken {
            self.chaos.forgotten = Some(text.clone());
            self.etcd.forget_config();
            self.announce();
        }
    }

    /// Somebody is named to take over, now or a moment ago.
    pub(crate) fn operator_asked(&self) -> bool {
        self.chaos
            .asked
            .is_some_and(|at| self.now.since(at) < Span::from_secs(120))
    }

    fn request(
        &mut self,
        leader: Option<pgherd_model::MemberName>,
        member: Option<pgherd_model::MemberName>,
    ) {
        if member.is_some() {
            self.chaos.asked = Some(self.now);
        }
        self.etcd.request(Failover {
            leader,
            member,
            scheduled_at: None,
        });
        self.announce();
    }

    /// As `POST /switchover` checks it.
    fn ask_switchover(&mut self, to: Option<usize>) {
        let picture = self.etcd.picture();
        let Some(leader) = picture.leader_name().cloned() else {
            return;
        };
        let member = to
            .map(|to| self.nodes[to].name.clone())
            .filter(|name| *name != leader);
        let known = member.as_ref().is_none_or(|name| {
            let member = picture.member(name);
            member.is_some_and(|it| it.state == Some(PostgresState::Running))
        });
        if known && (member.is_some() || !self.present().pause) {
            self.request(Some(leader), member);
        }
    }
}
