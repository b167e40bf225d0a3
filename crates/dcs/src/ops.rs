//! Each [`Op`] as one etcd transaction: what it compares, what it writes, and how to tell from
//! the keys afterwards that it has been done (for tries whose answer was lost).

use crate::image::Raw;
use etcd_client::{Compare, CompareOp, DeleteOptions, PutOptions, Txn, TxnOp};
use pgherd_model::{MemberName, Op};
use pgherd_wire::patroni::dcs;
use pgherd_wire::patroni::keys::Key;
use std::collections::BTreeMap;

/// Names and leases that an operation is made with.
#[derive(Clone, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) me: &'a MemberName,
    pub(crate) member_lease: i64,
    pub(crate) leader_lease: i64,
    /// Revision of the own member key in the picture; `None`: it is not there.
    pub(crate) member_revision: Option<u64>,
}

/// What a key has to look like if the operation was done.
#[derive(Clone, Debug)]
enum Evidence {
    Absent(String),
    Value(String, String),
    Lease(String, i64),
    Term(String, u64),
    NotTerm(String, u64),
}

/// A write, ready to be sent as often as needed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// For messages: what is done to which key.
    pub(crate) what: String,
    compares: Vec<Compare>,
    writes: Vec<TxnOp>,
    evidence: Vec<Evidence>,
}

impl Plan {
    /// The transaction. If its guard fails it answers with the keys that tell why.
    pub(crate) fn txn(&self) -> Txn {
        let mut keys: Vec<&str> = self.evidence.iter().map(Evidence::key).collect();
        keys.sort_unstable();
        keys.dedup();
        let looks: Vec<TxnOp> = keys.into_iter().map(|key| TxnOp::get(key, None)).collect();
        Txn::new()
            .when(self.compares.clone())
            .and_then(self.writes.clone())
            .or_else(looks)
    }

    /// Whether a refusal only means that an earlier try had been carried out.
    pub(crate) fn is_done(&self, keys: &BTreeMap<String, Raw>) -> bool {
        !self.evidence.is_empty() && self.evidence.iter().all(|evidence| evidence.holds(keys))
    }

    /// Whether looking at the keys can never tell if an earlier try was carried out.
    pub(crate) fn cannot_tell(&self) -> bool {
        self.evidence.is_empty()
    }
}

impl Evidence {
    fn key(&self) -> &str {
        match self {
            Evidence::Absent(key)
            | Evidence::Value(key, _)
            | Evidence::Lease(key, _)
            | Evidence::Term(key, _)
            | Evidence::NotTerm(key, _) => key,
        }
    }

    fn holds(&self, keys: &BTreeMap<String, Raw>) -> bool {
        let raw = keys.get(self.key());
        match self {
            Evidence::Absent(_) => raw.is_none(),
            Evidence::Value(_, value) => raw.is_some_and(|raw| raw.value == *value),
            Evidence::Lease(_, lease) => raw.is_some_and(|raw| raw.lease == *lease),
            Evidence::Term(_, term) => raw.is_some_and(|raw| raw.create_revision == *term),
            Evidence::NotTerm(_, term) => raw.is_none_or(|raw| raw.create_revision != *term),
        }
    }
}

/// Revisions fit: etcd counts them in an int64 of its own.
fn number(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

/// Collects the parts of a plan.
struct Builder<'a> {
    context: Context<'a>,
    plan: Plan,
}

impl Builder<'_> {
    fn key(&self, key: &Key) -> String {
        format!("{}{}", self.context.prefix, key.path())
    }

    /// `expected`: revision the key was seen at, `None`: it was absent.
    fn guard_key(&mut self, key: &Key, expected: Option<u64>) {
        let name = self.key(key);
        self.plan.compares.push(match expected {
            Some(seen) => Compare::mod_revision(name, CompareOp::Equal, number(seen)),
            None => Compare::create_revision(name, CompareOp::Equal, 0),
        });
    }

    /// Nobody has put it since this revision of the store.
    fn guard_age(&mut self, key: &Key, seen: u64) {
        let (name, later) = (self.key(key), number(seen.saturating_add(1)));
        let compare = Compare::mod_revision(name, CompareOp::Less, later);
        self.plan.compares.push(compare);
    }

    /// Only while this term of our leadership lasts.
    fn guard_term(&mut self, term: u64) {
        let leader = self.key(&Key::Leader);
        let me = self.context.me.as_str();
        self.plan.compares.extend([
            Compare::value(leader.as_str(), CompareOp::Equal, me),
            Compare::create_revision(leader, CompareOp::Equal, number(term)),
        ]);
    }

    fn term_as_evidence(&mut self, term: u64) {
        let leader = self.key(&Key::Leader);
        self.plan.evidence.push(Evidence::Term(leader, term));
    }

    fn put(&mut self, key: &Key, value: String, lease: i64) {
        let name = self.key(key);
        let options = (lease != 0).then(|| PutOptions::new().with_lease(lease));
        self.plan
            .writes
            .push(TxnOp::put(name.as_str(), value.as_str(), options));
        self.plan.evidence.push(Evidence::Value(name, value));
    }

    fn delete(&mut self, key: &Key) {
        let name = self.key(key);
        let options: Option<DeleteOptions> = None;
        self.plan.writes.push(TxnOp::delete(name, options));
    }
}

/// The plan of a write; `None` for operations that only read.
pub(crate) fn plan(op: &Op, context: Context<'_>) -> Option<Plan> {
    let (verb, key) = headline(op, context.me)?;
    let mut build = Builder {
        plan: Plan {
            what: format!("{verb} {}{}", context.prefix, key.path()),
            compares: Vec::new(),
            writes: Vec::new(),
            evidence: Vec::new(),
        },
        context,
    };
    match op {
        Op::AcquireLeader { .. } | Op::ReattachLeader { .. } | Op::ReleaseLeader { .. } => {
            leader(&mut build, op, &key);
        }
        Op::PutMember(member) => {
            // A late try must not put an old story in the place of a newer one: others judge by this
            // key whether a former leader may still write.
            let (lease, seen) = (build.context.member_lease, build.context.member_revision);
            build.guard_key(&key, seen);
            build.put(&key, dcs::member_to_json(member), lease);
        }
        Op::PutInitialize {
            system_id,
            expected,
        } => {
            build.guard_key(&key, *expected);
            // A bootstrap under way ends with whoever does it: the key dies with its member lease.
            let lease = match system_id {
                None => build.context.member_lease,
                Some(_) => 0,
            };
            build.put(&key, dcs::initialize_to_text(*system_id), lease);
            if system_id.is_none() {
                // Everybody writes the same: a lost answer can never be resolved by looking.
                build.plan.evidence.clear();
            }
        }
        Op::DeleteInitialize { expected } => {
            let name = build.key(&key);
            build.guard_key(&key, Some(*expected));
            build.delete(&key);
            build.plan.evidence.push(Evidence::Absent(name));
        }
        Op::PutConfig { text, expected } => {
            build.guard_key(&key, *expected);
            build.put(&key, text.clone(), 0);
        }
        Op::PutFailover { failover, expected } => {
            build.guard_key(&key, *expected);
            build.put(&key, dcs::failover_to_json(failover), 0);
        }
        Op::PutSync { .. }
        | Op::DeleteSync { .. }
        | Op::PutStatus { .. }
        | Op::PutFailsafe { .. }
        | Op::PutHistory { .. } => leaders_word(&mut build, op, &key),
        Op::LookAtLease { .. } | Op::Refresh => return None,
    }
    Some(build.plan)
}

/// What only the leader writes, while its term lasts.
fn leaders_word(build: &mut Builder<'_>, op: &Op, key: &Key) {
    match op {
        Op::PutSync {
            sync,
            expected,
            term,
        } => {
            build.guard_term(*term);
            build.guard_key(key, *expected);
            build.put(key, dcs::sync_to_json(sync), 0);
            build.term_as_evidence(*term);
        }
        Op::DeleteSync { expected, term } => {
            let name = build.key(key);
            build.guard_term(*term);
            build.guard_key(key, Some(*expected));
            build.delete(key);
            build.plan.evidence.push(Evidence::Absent(name));
            build.term_as_evidence(*term);
        }
        Op::PutStatus { status, term } => {
            build.guard_term(*term);
            build.put(key, dcs::status_to_json(status), 0);
            build.term_as_evidence(*term);
        }
        Op::PutFailsafe {
            members,
            expected,
            term,
        } => {
            build.guard_term(*term);
            build.guard_key(key, *expected);
            build.put(key, dcs::failsafe_to_json(members), 0);
            build.term_as_evidence(*term);
        }
        Op::PutHistory { history, term } => {
            build.guard_term(*term);
            build.put(key, dcs::history_to_json(history), 0);
            build.term_as_evidence(*term);
        }
        _ => {}
    }
}

/// What is done, and the key it is mainly done to.
fn headline(op: &Op, me: &MemberName) -> Option<(&'static str, Key)> {
    Some(match op {
        Op::AcquireLeader { .. } => ("create", Key::Leader),
        Op::ReattachLeader { .. } => ("re-attach", Key::Leader),
        Op::ReleaseLeader { .. } => ("release", Key::Leader),
        Op::PutMember(_) => ("put", Key::Member(me.clone())),
        Op::PutInitialize { .. } => ("put", Key::Initialize),
        Op::DeleteInitialize { .. } => ("delete", Key::Initialize),
        Op::PutConfig { .. } => ("put", Key::Config),
        Op::PutStatus { .. } => ("put", Key::Status),
        Op::PutSync { .. } => ("put", Key::Sync),
        Op::DeleteSync { .. } => ("delete", Key::Sync),
        Op::PutFailover { .. } => ("put", Key::Failover),
        Op::PutFailsafe { .. } => ("put", Key::Failsafe),
        Op::PutHistory { .. } => ("put", Key::History),
        Op::LookAtLease { .. } | Op::Refresh => return None,
    })
}

fn leader(build: &mut Builder<'_>, op: &Op, key: &Key) {
    let name = build.key(key);
    let me = build.context.me.to_string();
    let lease = build.context.leader_lease;
    match op {
        Op::AcquireLeader { seen } => {
            build.guard_key(key, None);
            build.guard_age(&Key::Status, *seen);
            build.guard_age(&Key::Optime, *seen);
            build.guard_age(&Key::Failover, *seen);
            build.put(key, me, lease);
            build.plan.evidence.push(Evidence::Lease(name, lease));
        }
        Op::ReattachLeader { create_revision } => {
            build.guard_term(*create_revision);
            build.put(key, me, lease);
            build.term_as_evidence(*create_revision);
            build.plan.evidence.push(Evidence::Lease(name, lease));
        }
        Op::ReleaseLeader {
            create_revision,
            mod_revision,
            status,
            member,
        } => {
            build.guard_term(*create_revision);
            build.guard_key(key, Some(*mod_revision));
            if let Some(status) = status {
                let text = dcs::status_to_json(status);
                build.put(&Key::Status, text, 0);
                // The next leader may have written another one by then.
                build.plan.evidence.clear();
            }
            if let Some(member) = member {
                let own = Key::Member(build.context.me.clone());
                let lease = build.context.member_lease;
                build.put(&own, dcs::member_to_json(member), lease);
            }
            build.delete(key);
            let gone = Evidence::NotTerm(name, *create_revision);
            build.plan.evidence.push(gone);
        }
        _ => {}
    }
}

/// Whether the operation puts something under the member lease.
pub(crate) fn needs_member_lease(op: &Op) -> bool {
    matches!(
        op,
        Op::PutMember(_)
            | Op::PutInitialize {
                system_id: None,
                ..
            }
            | Op::ReleaseLeader {
                member: Some(_),
                ..
            }
    )
}

/// Whether the operation puts something under the leader lease.
pub(crate) fn needs_leader_lease(op: &Op) -> bool {
    matches!(op, Op::AcquireLeader { .. } | Op::ReattachLeader { .. })
}
