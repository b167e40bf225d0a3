//! The fake etcd as three members' agents meet it: orders, leases, and the picture that the keeper
//! and the watch give them. The brains of these agents sleep.

use std::rc::Rc;

use pgherd_model::{Answer, Cluster, Failover, Op, Settings, Span};

use crate::agent::Asked;
use crate::event::{Call, ETCD, NODES, Reply};
use crate::trace::Trace;
use crate::world::World;

/// What a member was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// To an order.
    Answer(Answer),
    /// To a renewal, or to an order that needs a lease: the lease and its life; `None`: there is none.
    Lease(Option<(i64, Span)>),
    /// Nothing in time.
    Nothing,
}

/// How long an answer may take.
const BUDGET: Span = Span::from_secs(2);

/// One etcd and three members.
pub struct FakeEtcd {
    world: World,
}

impl FakeEtcd {
    /// Empty; nobody has joined. The lives of leases are those of `settings`.
    pub fn new(seed: u64, settings: Settings) -> FakeEtcd {
        FakeEtcd {
            world: World::calm(seed, settings, Trace::default()),
        }
    }

    /// How many members there can be.
    pub const MEMBERS: usize = NODES;

    /// This member's name.
    pub fn name(&self, node: usize) -> pgherd_model::MemberName {
        self.world.nodes[node].name.clone()
    }

    /// The member's agent begins a life; its brain does not wake.
    pub fn join(&mut self, node: usize) {
        self.world.start_agent(node);
        self.world.nodes[node].agent.busy = true;
        self.until(Span::from_secs(5), |world| {
            world.nodes[node].agent.picture.is_some()
        });
    }

    /// It is killed.
    pub fn leave(&mut self, node: usize) {
        self.world.end_agent(node);
    }

    /// Carries out one order, as `dcs::Store::run`.
    pub fn run(&mut self, node: usize, op: Op) -> Told {
        let takes = matches!(op, Op::AcquireLeader { .. } | Op::ReattachLeader { .. });
        if takes && self.leases(node).0 == 0 {
            return Told::Lease(None);
        }
        let op = Rc::new(op);
        let call = self.world.order(node, op.clone());
        self.ask(node, call, Asked::Order(op))
    }

    /// Renews the leader lease, or has one granted.
    pub fn renew(&mut self, node: usize) -> Told {
        let now = self.world.clock(node);
        self.world.nodes[node].agent.renewing.in_flight = true;
        self.ask(node, Call::Renew, Asked::Renewal { sent: now })
    }

    /// Keeps the member lease alive.
    pub fn keep_alive(&mut self, node: usize) -> Told {
        if self.leases(node).1 == 0 {
            return Told::Lease(None);
        }
        let sent = self.world.clock(node);
        self.ask(node, Call::Member, Asked::Member { sent })
    }

    /// Other lives from the next grant on.
    pub fn set_lives(&mut self, node: usize, ttl: Span, lease_ttl: Span) {
        let settings = &mut self.world.nodes[node].settings;
        (settings.ttl, settings.lease_ttl) = (ttl, lease_ttl);
    }

    /// The leader's and the member's lease, 0: none.
    pub fn leases(&self, node: usize) -> (i64, i64) {
        let agent = &self.world.nodes[node].agent;
        (agent.leader_lease, self.world.member_lease(node))
    }

    /// The member has noticed that etcd does not answer.
    pub fn is_deaf(&self, node: usize) -> bool {
        self.world.nodes[node].agent.problem
    }

    /// Revision of the store.
    pub fn revision(&self) -> u64 {
        self.world.etcd.picture().revision
    }

    /// What the member's brain would see; `None`: it has read nothing yet.
    pub fn picture(&self, node: usize) -> Option<Cluster> {
        self.world.seen_by(node)
    }

    /// Time passes until all who are connected have heard of everything.
    pub fn settle(&mut self) {
        self.until(Span::from_secs(30), |world| {
            let revision = world.etcd.picture().revision;
            (0..NODES).all(|node| {
                let agent = &world.nodes[node].agent;
                let seen = agent.picture.as_ref().map_or(0, |it| it.revision);
                let sees = seen >= revision && !agent.problem;
                !agent.alive || !world.connected(node, ETCD) || sees
            })
        });
    }

    /// Time passes.
    pub fn wait(&mut self, time: Span) {
        self.until(time, |_| false);
    }

    /// The member reaches etcd no more, or again.
    pub fn link(&mut self, node: usize, up: bool) {
        self.world.links[node][ETCD] = up;
        self.world.links[ETCD][node] = up;
    }

    /// Somebody revokes a lease.
    pub fn revoke(&mut self, lease: i64) {
        self.world.etcd.revoke(lease);
        self.world.announce();
    }

    /// Somebody deletes `leader`.
    pub fn delete_leader(&mut self) {
        self.world.etcd.delete_leader();
        self.world.announce();
    }

    /// Somebody deletes `initialize`.
    pub fn delete_initialize(&mut self) {
        self.world.etcd.forget_initialize();
        self.world.announce();
    }

    /// Somebody deletes `config`.
    pub fn delete_config(&mut self) {
        self.world.etcd.forget_config();
        self.world.announce();
    }

    /// Somebody writes `config`.
    pub fn write_config(&mut self, text: &str) {
        self.world.etcd.configure(text.to_owned());
        self.world.announce();
    }

    /// Somebody writes `failover`.
    pub fn write_failover(&mut self, failover: Failover) {
        self.world.etcd.request(failover);
        self.world.announce();
    }

    /// Sends and waits for what comes of it.
    fn ask(&mut self, node: usize, call: Call, asked: Asked) -> Told {
        self.world.call(node, call, asked, BUDGET);
        let waiting = &self.world.nodes[node].agent.asked;
        let Some(id) = waiting.keys().next_back().copied() else {
            return Told::Nothing;
        };
        let mut told = Told::Nothing;
        let limit = BUDGET + Span::from_secs(1);
        self.until(limit, |world| {
            if let Some(reply) = world.reply_on_its_way(id) {
                told = match reply {
                    Reply::Store(answer) => Told::Answer(answer.clone()),
                    Reply::Lease(lease) => Told::Lease(*lease),
                    Reply::Read => Told::Nothing,
                };
            }
            !world.nodes[node].agent.asked.contains_key(&id)
        });
        // Where the answer was lost on its way it was not told.
        let lost = !self.world.connected(node, ETCD);
        if lost { Told::Nothing } else { told }
    }

    /// Lets things happen until it is so, for at most so long.
    fn until(&mut self, limit: Span, mut done: impl FnMut(&World) -> bool) {
        let end = self.world.now + limit;
        while !done(&self.world) {
            if self.world.next_at().is_none_or(|at| at > end) {
                self.world.now = end;
                return;
            }
            self.world.step();
            // Whoever gives the orders here need not keep the brain's promises.
            self.world.failure = None;
        }
    }
}
