//! The store as the body uses it.

use crate::call::{Caller, Failure, Kind, Limits, Reply};
use crate::endpoints::{self, Endpoints, Pool};
use crate::image::Raw;
use crate::keeper::{Board, Keeper, read_revisions, refresh};
use crate::lease::{LeaseSlot, keep_alive};
use crate::ops::{Context, Plan, needs_leader_lease, needs_member_lease, plan};
use crate::options::{Held, Leases};
use crate::terms::{Header, Terms};
use crate::{Error, LeaderLease, Options, Picture, RaftStates};
use etcd_client::{Client, DeleteOptions, ResponseHeader, TxnOpResponse};
use pgherd_model::{Answer, LeaseSight, Op, Span, Time, proof_pause};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// How long the watch may take to show our own write before it is read.
const ECHO: Span = Span::from_millis(50);

/// How often a look at a lease is tried where several members answer at one address.
const LOOKS: u32 = 4;

/// Keys of a refused transaction, or that it went through.
type Outcome = Result<(), BTreeMap<String, Raw>>;

/// The cluster's keys in etcd. Cheap to clone; its background task ends with the last clone.
#[derive(Clone)]
pub struct Store {
    caller: Caller,
    endpoints: Arc<Endpoints>,
    board: Arc<Board>,
    picture: watch::Receiver<Picture>,
    member: Arc<LeaseSlot>,
    leader: Arc<LeaseSlot>,
    /// How long the keeper may do without news before it asks.
    rest: Arc<watch::Sender<Option<Span>>>,
    /// Closed with the last clone, which ends the keeper.
    _alive: Arc<watch::Sender<()>>,
}

impl Store {
    /// Starts keeping the picture, on the tokio runtime of the caller (there has to be one).
    /// Does not wait for etcd.
    ///
    /// # Errors
    /// [`Error::Settings`] if the options cannot work.
    pub fn start(options: Options) -> Result<Store, Error> {
        let (ttl, lease_ttl) = (options.ttl, options.lease_ttl);
        let leases = options.leases;
        let prefix = options.prefix.clone();
        let endpoints = Arc::new(Endpoints::new(options)?);
        let terms = Arc::new(Terms::new(ttl.max(Span::from_secs(10))));
        // One pool: what the keeper finds hung, operations do not try first. A connection that
        // an operation gives up lives on as long as the watch holds it.
        let caller = Caller {
            pool: Pool::new(endpoints.clone()),
            terms,
        };
        let (board, picture) = Board::new();
        let board = Arc::new(board);
        let (alive, stop) = watch::channel(());
        let (rest, resting) = watch::channel(None);
        let fifth = lease_ttl / 5;
        let keeper = Keeper {
            caller: caller.clone(),
            board: board.clone(),
            prefix,
            interval: proof_pause(lease_ttl),
            discovery: Arc::default(),
            limit: fifth.clamp(Span::from_secs(1), Span::from_secs(2)),
            rest: resting,
        };
        tokio::spawn(keeper.run(stop));
        Ok(Store {
            caller,
            endpoints,
            board,
            picture,
            member: Arc::new(LeaseSlot::new("member", ttl, leases.member)),
            leader: Arc::new(LeaseSlot::new("leader", lease_ttl, leases.leader)),
            rest: Arc::new(rest),
            _alive: Arc::new(alive),
        })
    }

    /// The picture, now and as it changes. An event in etcd arrives here within milliseconds.
    pub fn picture(&self) -> watch::Receiver<Picture> {
        self.picture.clone()
    }

    /// From now on etcd need not be asked for proofs that the picture is current while the watch has news at
    /// least this often: somebody writes that regularly. `None`: it is asked all the time, as from the start.
    pub fn rest(&self, news_every: Option<Span>) {
        self.rest.send_if_modified(|rest| {
            let before = std::mem::replace(rest, news_every);
            before != news_every
        });
    }

    /// When an answer of etcd's present raft term, the highest seen, first came: its leader had been
    /// elected by then.
    pub fn elected_by(&self) -> Time {
        self.caller.terms.since()
    }

    /// Carries out one operation; each is one etcd transaction with the guard its documentation
    /// names. Returns when the picture shows its outcome (after `Done`: the write; after
    /// `Refused`: what stood in the way), or at `deadline`.
    ///
    /// `AcquireLeader` and `ReattachLeader` use the present leader lease: renew it before. An
    /// answer that got lost is resolved where the keys can tell (by our name and lease, or by
    /// the value that was to be written), otherwise it is [`Error::Ambiguous`]. So is always a
    /// lost answer to the race for an empty `initialize`, which everybody writes alike.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Ambiguous`] may have changed something.
    pub async fn run(&self, op: &Op, deadline: Time) -> Result<Answer, Error> {
        match op {
            Op::Refresh => {
                let options = self.endpoints.options();
                let done = refresh(&self.caller, &self.board, &options.prefix, deadline).await;
                let mut failure = match done {
                    Ok(revision) => return Ok(Answer::Done { revision }),
                    Err(failure) => failure,
                };
                if self.board.never_read() {
                    failure.last = self.caller.explained(failure.last).await;
                }
                Err(failure.error(format!("read {}", options.prefix)))
            }
            Op::LookAtLease { lease } => self.look_at_lease(*lease, deadline).await,
            _ => self.write(op, deadline).await,
        }
    }

    /// Deletes every key of the cluster: for a person who gives it up. No agent does this. Can be
    /// repeated.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answered; the keys may be gone or not.
    pub async fn remove_cluster(&self, deadline: Time) -> Result<(), Error> {
        let prefix = self.endpoints.options().prefix.clone();
        let limits = Limits {
            deadline,
            per_try: None,
            read_only: false,
        };
        let request = async |client: Client| {
            let all = DeleteOptions::new().with_prefix();
            let answer = client
                .kv_client()
                .delete(prefix.as_str(), Some(all))
                .await?;
            Ok(((), Header::of(answer.header())))
        };
        match self.caller.ask(limits, request).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(failure.error(format!("delete {prefix}"))),
        }
    }

    /// Keeps the member lease alive; call it well within `ttl`. `false`: etcd does not know
    /// the lease any more, there was none, or it is of another life than is wanted now (it is kept alive all the same: whoever
    /// stops PostgreSQL puts no key for a while); the next `PutMember` grants one and is needed now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no endpoint answered.
    pub async fn keep_alive_member(&self, deadline: Time) -> Result<bool, Error> {
        let Some(lease) = self.member.present() else {
            return Ok(false);
        };
        let limits = reading(deadline);
        match keep_alive(&self.caller, limits, lease.id).await {
            Ok(_) => Ok(self.member.fitting() == Some(lease)),
            Err(failure) if failure.last.kind == Kind::LeaseGone => {
                self.member.forget(lease.id);
                Ok(false)
            }
            Err(failure) => Err(failure.error("keep the member lease alive".into())),
        }
    }

    /// The handle that renews the leader lease, with connections of its own, made on the runtime
    /// where it is used. One is enough; all share the lease.
    pub fn leader_lease(&self) -> LeaderLease {
        LeaderLease::new(
            self.endpoints.clone(),
            self.caller.terms.clone(),
            self.leader.clone(),
        )
    }

    /// Asks etcd's members for their raft states, with connections of its own as [`Store::leader_lease`].
    pub fn raft_states(&self) -> RaftStates {
        RaftStates::new(self.endpoints.clone(), self.caller.terms.clone())
    }

    /// Our present leader lease, 0 if there is none: to compare with the `leader` key's.
    pub fn leader_lease_id(&self) -> i64 {
        self.leader.present().map_or(0, |lease| lease.id)
    }

    /// Both leases, for a program that takes this one's place.
    pub fn leases(&self) -> Leases {
        let held = |slot: &LeaseSlot| {
            slot.fitting().map(|lease| Held {
                id: lease.id,
                life: lease.asked,
            })
        };
        Leases {
            leader: held(&self.leader),
            member: held(&self.member),
        }
    }

    /// Our present member lease, 0 if there is none: to compare with our member key's.
    pub fn member_lease_id(&self) -> i64 {
        self.member.fitting().map_or(0, |lease| lease.id)
    }

    /// New settings. A changed `ttl` drops the member lease, the next `PutMember` takes a new one;
    /// a changed `lease_ttl` makes the next renewal grant a new leader lease, after which the
    /// `leader` key is to be re-attached at once: the old lease is not renewed any more.
    pub fn set_lives(&self, ttl: Span, lease_ttl: Span) {
        self.member.set_ttl(ttl);
        self.leader.set_ttl(lease_ttl);
    }

    /// Whether [`Store::change`] can work with these options.
    ///
    /// # Errors
    /// [`Error::Settings`] names what cannot work.
    pub fn check(options: &Options) -> Result<(), Error> {
        endpoints::check(options)
    }

    /// From now on etcd is spoken to at these endpoints, with these credentials and certificates,
    /// over new connections; leases and picture stay. Prefix, name, lives and clock stay as well.
    ///
    /// # Errors
    /// As [`Store::check`]; nothing was changed then.
    pub fn change(&self, options: Options) -> Result<(), Error> {
        endpoints::check(&options)?;
        let present = self.endpoints.options();
        self.endpoints.change(Options {
            prefix: present.prefix.clone(),
            me: present.me.clone(),
            ttl: present.ttl,
            lease_ttl: present.lease_ttl,
            leases: present.leases,
            clock: present.clock,
            ..options
        });
        Ok(())
    }

    async fn write(&self, op: &Op, deadline: Time) -> Result<Answer, Error> {
        let mut granted_anew = false;
        loop {
            let Some(plan) = self.plan(op, deadline).await? else {
                return Ok(Answer::Refused);
            };
            let failure = match self.send(&plan, deadline).await {
                Ok(reply) => return self.settle(&plan, reply, deadline).await,
                Err(failure) => failure,
            };
            if failure.last.kind != Kind::LeaseGone {
                return Err(failure.error(plan.what));
            }
            if needs_leader_lease(op) {
                self.leader.forget(self.leader_lease_id());
                return Err(failure.error(plan.what));
            }
            if granted_anew {
                return Err(failure.error(plan.what));
            }
            granted_anew = true;
            self.member.forget(self.member_lease_id());
        }
    }

    /// The operation with the leases that it needs; `None`: it is none that writes.
    async fn plan(&self, op: &Op, deadline: Time) -> Result<Option<Plan>, Error> {
        let options = self.endpoints.options();
        let mut context = Context {
            prefix: &options.prefix,
            me: &options.me,
            member_lease: 0,
            leader_lease: self.leader_lease_id(),
            member_revision: self.member_revision(),
        };
        if needs_leader_lease(op) && context.leader_lease == 0 {
            let what = format!("take {}leader", options.prefix);
            return Err(Error::NoLease { what });
        }
        if needs_member_lease(op) {
            let (lease, _) = self
                .member
                .ensure(&self.caller, reading(deadline))
                .await
                .map_err(|failure| failure.error("grant the member lease".into()))?;
            context.member_lease = lease.id;
        }
        Ok(plan(op, context))
    }

    /// Revision of the own member key, by the picture.
    fn member_revision(&self) -> Option<u64> {
        let picture = self.picture.borrow();
        let members = &picture.cluster.as_ref()?.members;
        Some(members.get(&self.endpoints.options().me)?.revision)
    }

    async fn send(&self, plan: &Plan, deadline: Time) -> Result<Reply<Outcome>, Failure> {
        let limits = Limits {
            deadline,
            per_try: None,
            read_only: false,
        };
        let request = async |client: Client| {
            let answer = client.kv_client().txn(plan.txn()).await?;
            let header = Header::of(answer.header());
            if answer.succeeded() {
                return Ok((Ok(()), header));
            }
            let mut keys = BTreeMap::new();
            for look in answer.op_responses() {
                if let TxnOpResponse::Get(found) = look {
                    for kv in found.kvs() {
                        let key = String::from_utf8_lossy(kv.key()).into_owned();
                        keys.insert(key, Raw::of(kv));
                    }
                }
            }
            Ok((Err(keys), header))
        };
        self.caller.ask(limits, request).await
    }

    /// Judges the answer to a transaction and waits until the picture shows it.
    async fn settle(
        &self,
        plan: &Plan,
        reply: Reply<Outcome>,
        deadline: Time,
    ) -> Result<Answer, Error> {
        let revision = reply.header.revision;
        let answer = match &reply.value {
            Ok(()) => Answer::Done { revision },
            Err(keys) if reply.doubtful && plan.is_done(keys) => Answer::Done { revision },
            Err(_) if reply.doubtful && plan.cannot_tell() => {
                let text = "refused after an earlier try whose answer was lost";
                let last = format!("{}: {text}", reply.endpoint);
                let what = plan.what.clone();
                return Err(Error::Ambiguous { what, last });
            }
            Err(_) => Answer::Refused,
        };
        let echo = ECHO.min(deadline.since(self.caller.now()));
        let shown = reply.value.is_ok() && self.board.reached(revision, echo).await;
        if !shown {
            let options = self.endpoints.options();
            let prefix = &options.prefix;
            if let Err(failure) = refresh(&self.caller, &self.board, prefix, deadline).await {
                tracing::debug!("outcome not read: {}", failure.last.line());
            }
        }
        Ok(answer)
    }

    /// The life of a lease, as etcd's leader counts it, and never one that was no leader any more when
    /// the question was sent: it may not know that its successor has given the lease more life. So
    /// the member that is asked first answers a linearizable read: it knows of the leader who
    /// answered that one, and passes the question on to that one or a later one.
    async fn look_at_lease(&self, lease: i64, deadline: Time) -> Result<Answer, Error> {
        let prefix = self.endpoints.options().prefix.clone();
        let member = |header: Option<&ResponseHeader>| header.map_or(0, ResponseHeader::member_id);
        let request = async |client: Client| {
            let (keys, read) = read_revisions(client.clone(), prefix.clone()).await?;
            let answer = client.lease_client().time_to_live(lease, None).await?;
            let life = (answer.granted_ttl(), answer.ttl());
            // Behind one address there may be several members.
            let one = read.member == member(answer.header());
            let header = Header::of(answer.header());
            Ok(((one.then_some(life), keys, read.revision), header))
        };
        let what = || format!("look at lease {lease:x}");
        let mut answers = 0;
        let (reply, life) = loop {
            let asked = self.caller.ask(reading(deadline), request).await;
            let reply = asked.map_err(|failure| failure.error(what()))?;
            answers += 1;
            let (life, keys, revision) = &reply.value;
            // The keeper need not read now as well.
            self.board.prove_by(&reply, *revision, keys);
            match *life {
                Some(life) => break (reply, life),
                None if answers < LOOKS => {}
                None => {
                    let last = format!("{}: two members answer there", reply.endpoint);
                    return Err(Error::Unavailable { what: what(), last });
                }
            }
        };
        let seconds = |count: i64| Span::from_secs(u64::try_from(count).unwrap_or(0));
        let granted = seconds(life.0);
        Ok(Answer::Lease(LeaseSight {
            lease,
            granted,
            // A leader that just took over may say more: no lease was renewed in the future.
            remaining: seconds(life.1).min(granted),
            asked: reply.sent,
            answered: reply.answered,
        }))
    }
}

fn reading(deadline: Time) -> Limits {
    Limits {
        deadline,
        per_try: None,
        read_only: true,
    }
}
