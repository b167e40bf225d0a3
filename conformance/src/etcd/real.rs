//! Real etcd, met through the product's own hand.

use std::time::Duration;

use etcd_client::{Client, CompactionOptions, DeleteOptions};
use pgherd_dcs::{LeaderLease, Leases, Options, Protocol, RenewError, Store};
use pgherd_model::{Cluster, Failover, MemberName, Op, Span, Time};
use pgherd_tests::{Etcd, Proxy, Traffic};

use super::side::{MEMBERS, Side, Told, settings};
use crate::words::node_name;

/// How long an answer may take.
const BUDGET: Span = Span::from_secs(5);
/// How long the slowest machine may take to show what has happened.
const PATIENCE: Span = Span::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// One member's client.
struct Member {
    store: Store,
    lease: LeaderLease,
    /// Kept for what it cuts.
    proxy: Proxy,
    linked: bool,
}

/// One list's keys on a real etcd. Lists follow each other on one etcd, never beside each other:
/// its revisions are compared.
pub struct Real {
    etcd: Client,
    address: String,
    prefix: String,
    base: u64,
    members: [Option<Member>; MEMBERS],
    lives: [(Span, Span); MEMBERS],
    granted: Vec<i64>,
}

fn clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanoseconds = now.tv_sec * 1_000_000_000 + now.tv_nsec;
    Time(u64::try_from(nanoseconds).unwrap_or(0))
}

impl Real {
    /// Keys of its own on this etcd, which nobody else writes to meanwhile.
    ///
    /// # Panics
    /// When etcd does not answer (all that follows too).
    pub async fn new(etcd: &Etcd, list: &str) -> Real {
        let client = etcd.client(0).await.expect("a client of etcd");
        let settings = settings();
        let mut real = Real {
            etcd: client,
            address: etcd.hosts().swap_remove(0),
            prefix: format!("/service/{list}/"),
            base: 0,
            members: [const { None }; MEMBERS],
            lives: [(settings.ttl, settings.lease_ttl); MEMBERS],
            granted: Vec::new(),
        };
        real.base = real.revision().await;
        real
    }

    /// Removes what the list has left: no lease of it may end while another list is played.
    ///
    /// # Panics
    /// When etcd does not answer.
    pub async fn clear(mut self) {
        for member in 0..MEMBERS {
            self.leave(member).await;
        }
        for lease in std::mem::take(&mut self.granted) {
            // It may have ended by itself.
            let _ = self.etcd.lease_revoke(lease).await;
        }
        let all = DeleteOptions::new().with_prefix();
        let gone = self.etcd.delete(self.prefix.as_str(), Some(all)).await;
        gone.expect("delete the keys of the list");
    }

    async fn revision(&mut self) -> u64 {
        let answer = self.etcd.get("revision", None).await;
        let answer = answer.expect("etcd answers a read");
        let revision = answer.header().map_or(0, |header| header.revision());
        u64::try_from(revision).expect("a revision")
    }

    fn member(&mut self, member: usize) -> &mut Member {
        let joined = self.members[member].as_mut();
        joined.unwrap_or_else(|| panic!("{} has not joined", node_name(member)))
    }

    fn note(&mut self, member: usize) {
        let (leader, other) = self.leases(member);
        for lease in [leader, other] {
            if lease != 0 && !self.granted.contains(&lease) {
                self.granted.push(lease);
            }
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Waits until this member sees this revision or a later one, or has asked since and found nothing
    /// that is otherwise than it sees.
    async fn sees(&mut self, member: usize, revision: u64) {
        let mut pictures = self.member(member).store.picture();
        let since = clock();
        loop {
            let picture = pictures.borrow_and_update().clone();
            let seen = picture.cluster.map_or(0, |cluster| cluster.revision);
            // Who was cut off reads anew first.
            let connected = picture.problem.is_none() && seen > 0;
            if connected && (seen >= revision || picture.fresh_at >= since) {
                return;
            }
            assert!(
                clock().since(since) < PATIENCE,
                "{} sees revision {seen}, not {revision}",
                node_name(member)
            );
            // Not every proof is told.
            let _ = tokio::time::timeout(PAUSE, pictures.changed()).await;
        }
    }
}

impl Side for Real {
    async fn join(&mut self, member: usize) {
        let proxy = Proxy::start(&self.address).await;
        let (ttl, lease_ttl) = self.lives[member];
        let options = Options {
            endpoints: vec![proxy.address().to_owned()],
            protocol: Protocol::Http,
            cacert: None,
            cert: None,
            key: None,
            username: None,
            password: None,
            discovery: false,
            prefix: self.prefix.clone(),
            me: MemberName(node_name(member)),
            ttl,
            lease_ttl,
            leases: Leases::default(),
            clock,
        };
        let store = Store::start(options).expect("options that can work");
        let lease = store.leader_lease();
        self.members[member] = Some(Member {
            store,
            lease,
            proxy,
            linked: true,
        });
        self.sees(member, 0).await;
    }

    async fn leave(&mut self, member: usize) {
        self.members[member] = None;
    }

    async fn run(&mut self, member: usize, op: Op) -> Told {
        let store = self.member(member).store.clone();
        let answer = store.run(&op, clock() + BUDGET).await;
        self.note(member);
        match answer {
            Ok(answer) => Told::Answer(answer),
            Err(pgherd_dcs::Error::NoLease { .. }) => Told::Lease(None),
            Err(pgherd_dcs::Error::Unavailable { .. } | pgherd_dcs::Error::Ambiguous { .. }) => {
                Told::Nothing
            }
            Err(error) => panic!("{op:?}: {error}"),
        }
    }

    async fn renew(&mut self, member: usize) -> Told {
        let renewed = self.member(member).lease.renew(BUDGET).await;
        self.note(member);
        match renewed {
            Ok(renewed) => Told::Lease(Some((renewed.lease, renewed.ttl))),
            Err(RenewError::Lost { .. }) => Told::Lease(None),
            Err(RenewError::NoAnswer(_)) => Told::Nothing,
        }
    }

    async fn keep_alive(&mut self, member: usize) -> Told {
        let (ttl, _) = self.lives[member];
        let store = &self.member(member).store;
        match store.keep_alive_member(clock() + BUDGET).await {
            Ok(true) => Told::Lease(Some((store.member_lease_id(), ttl))),
            Ok(false) => Told::Lease(None),
            Err(_) => Told::Nothing,
        }
    }

    fn set_lives(&mut self, member: usize, ttl: Span, lease_ttl: Span) {
        self.lives[member] = (ttl, lease_ttl);
        self.member(member).store.set_lives(ttl, lease_ttl);
    }

    fn leases(&self, member: usize) -> (i64, i64) {
        let store = self.members[member].as_ref().map(|member| &member.store);
        store.map_or((0, 0), |store| {
            (store.leader_lease_id(), store.member_lease_id())
        })
    }

    fn picture(&self, member: usize) -> Option<Cluster> {
        let picture = self.members[member].as_ref()?.store.picture();
        let cluster = picture.borrow().cluster.clone()?;
        Some(cluster.as_ref().clone())
    }

    fn is_deaf(&self, member: usize) -> bool {
        let member = self.members[member].as_ref();
        member.is_some_and(|member| member.store.picture().borrow().problem.is_some())
    }

    fn link(&mut self, member: usize, up: bool) {
        let member = self.member(member);
        member.linked = up;
        member.proxy.set(match up {
            true => Traffic::Passes,
            false => Traffic::Cut,
        });
    }

    fn base(&self) -> u64 {
        self.base
    }

    async fn settle(&mut self) {
        let revision = self.revision().await;
        for member in 0..MEMBERS {
            if self.members[member].as_ref().is_some_and(|it| it.linked) {
                self.sees(member, revision).await;
            }
        }
    }

    async fn wait(&mut self, time: Span) {
        tokio::time::sleep(time).await;
    }

    async fn revoke(&mut self, lease: i64) {
        // It may be gone already.
        let _ = self.etcd.lease_revoke(lease).await;
    }

    async fn delete(&mut self, key: &str) {
        let key = self.key(key);
        let gone = self.etcd.delete(key, None).await;
        gone.expect("delete a key");
    }

    async fn write_config(&mut self, text: &str) {
        let key = self.key("config");
        self.etcd.put(key, text, None).await.expect("write config");
    }

    async fn write_failover(&mut self, failover: Failover) {
        let key = self.key("failover");
        let member = failover.member.map(|it| it.to_string()).unwrap_or_default();
        let text = format!("{{\"member\":\"{member}\"}}");
        let put = self.etcd.put(key, text, None).await;
        put.expect("write failover");
    }

    async fn compact(&mut self) {
        let revision = self.revision().await;
        let revision = i64::try_from(revision).expect("a revision");
        let physical = CompactionOptions::new().with_physical();
        let done = self.etcd.compact(revision, Some(physical)).await;
        done.expect("compact");
    }
}
