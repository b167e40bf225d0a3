//! Handlers without a port: every health check, method, text and error page of the contract, against
//! a snapshot and a stand-in for the loop.

mod failover;
mod health;
mod journal;
mod listener;
mod requests;
mod restart;
mod stalled;
mod words;

use super::{App, Front, router};
use crate::asked::{ReinitializeRequest, RestartEnd};
use crate::failsafe::Failsafe;
use crate::looks::looks;
use crate::snapshot::{Hooks, Order, Snapshot};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use pgherd_dcs::Picture;
use pgherd_model::{
    Answer, Cluster, Config, Failover, Leader, Look, Lsn, Member, MemberName, Op, PostgresState,
    Receiver, Role, Settings, Status, Stored, Tags, Time, Timeline, WalPositions,
};
use pgherd_peer::{PeerOptions, Peers};
use pgherd_wire::patroni::config::{
    Ctl, HostPort, Login, RestApi, Secret, ServerTokens, VerifyClient,
};
use serde_json::{Value, json};
use std::future::ready;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

/// The moment at which all tests happen.
pub(super) const NOW: Time = Time::from_millis(100_000);

pub(super) fn clock() -> Time {
    NOW
}

/// Nothing is promised.
pub(super) fn failsafe() -> Arc<Failsafe> {
    let place = std::env::temp_dir().join(format!("pgherd-failsafe-{}", std::process::id()));
    failsafe_at(place)
}

fn fewer(left: usize) -> Option<usize> {
    left.checked_sub(1)
}

fn failsafe_at(place: std::path::PathBuf) -> Arc<Failsafe> {
    Arc::new(Failsafe::new(place, &Settings::default()))
}

pub(super) fn peers() -> Peers {
    Peers::new(&PeerOptions::new(&Ctl::default(), true, clock)).unwrap()
}

pub(super) fn api(login: bool) -> RestApi {
    let listen = HostPort {
        host: "127.0.0.1".into(),
        port: 0,
    };
    RestApi {
        listen: listen.clone(),
        connect_address: listen,
        authentication: login.then(|| Login {
            username: "admin".into(),
            password: Secret::new("s3cret"),
        }),
        certfile: None,
        keyfile: None,
        keyfile_password: None,
        cafile: None,
        ciphers: None,
        verify_client: VerifyClient::None,
        allowlist: Vec::new(),
        allowlist_include_members: false,
        http_extra_headers: [("X-Extra".to_owned(), "yes".to_owned())].into(),
        https_extra_headers: Default::default(),
        request_queue_size: 5,
        server_tokens: ServerTokens::Minimal,
    }
}

pub(super) fn member(name: &str, api_url: &str) -> Member {
    let text = json!({
        "conn_url": "postgres://127.0.0.1:5432/postgres",
        "api_url": api_url,
        "state": "running",
        "role": if name == "n0" { "primary" } else { "replica" },
        "version": "4.1.5",
        "timeline": 1,
    });
    pgherd_wire::patroni::dcs::member_from_json(name.into(), &text.to_string(), 1)
}

pub(super) fn leader(name: &str) -> Option<Leader> {
    Some(Leader {
        name: name.into(),
        lease: 1,
        create_revision: 5,
        mod_revision: 5,
    })
}

/// n0 leads, n1 and n2 follow.
pub(super) fn cluster() -> Cluster {
    let members = ["n0", "n1", "n2"].map(|name| {
        let value = member(name, "http://127.0.0.1:1/patroni");
        (MemberName::from(name), Stored { value, revision: 3 })
    });
    Cluster {
        revision: 10,
        config: Some(Stored {
            value: Config {
                text: r#"{"ttl":30,"loop_wait":10,"postgresql":{"use_slots":true}}"#.into(),
                is_object: true,
            },
            revision: 4,
        }),
        leader: leader("n0"),
        members: members.into(),
        status: Some(Stored {
            value: Status {
                optime: Lsn(5000),
                ..Status::default()
            },
            revision: 9,
        }),
        failover: Some(Stored {
            value: Failover::default(),
            revision: 8,
        }),
        ..Cluster::default()
    }
}

pub(super) fn look(in_recovery: bool) -> Look {
    let receiver = Receiver {
        streaming: true,
        timeline: Timeline(1),
        host: "127.0.0.1".into(),
        port: 5432,
        slot: None,
        latest_end: Lsn(5000),
    };
    Look {
        in_recovery,
        timeline: Timeline(1),
        wal: match in_recovery {
            false => WalPositions {
                flushed: Lsn(5000),
                ..WalPositions::default()
            },
            true => WalPositions {
                received: Lsn(4000),
                replayed: Lsn(3000),
                ..WalPositions::default()
            },
        },
        receiver: in_recovery.then_some(receiver),
        upstream: None,
        slots: Vec::new(),
        standbys: Vec::new(),
        start_time: "2026-11-21 00:21:11.967788+00:00".into(),
        server_version: 150_018,
        replay_paused: false,
        replayed_at: None,
        synchronous_standby_names: String::new(),
        checkpointer_ready: true,
        restore_command: false,
        pending_restart: Vec::new(),
    }
}

/// n0, running as leader.
pub(super) fn primary() -> Snapshot {
    Snapshot {
        name: "n0".into(),
        scope: "demo".into(),
        version: "4.1.5".into(),
        tick: NOW,
        confirmed: Arc::default(),
        looked: NOW,
        cluster: Some(Arc::new(cluster())),
        dcs_unreachable: false,
        dcs_last_seen: 1_795_220_471,
        settings: Settings::default(),
        standby_cluster: false,
        role: Role::Primary,
        state: PostgresState::Running,
        look: Some(look(false)),
        leader_until: Some(Time::from_millis(100_001)),
        failsafe_active: false,
        tags: Tags::default(),
        system_id: None,
        pending_restart: Vec::new(),
        watchdog_failed: false,
        guard_missing: false,
        under_way: None,
        scheduled_restart: None,
        leaves_sync: false,
        explain: json!({"decision": "lock_held: nothing to do", "ladder": []}),
    }
}

/// n1, streaming.
pub(super) fn replica() -> Snapshot {
    Snapshot {
        name: "n1".into(),
        role: Role::Replica,
        look: Some(look(true)),
        leader_until: None,
        ..primary()
    }
}

/// Stands in for the loop and the lock service.
pub(super) struct Node {
    pub(super) cluster: Arc<Mutex<Cluster>>,
    pub(super) picture: Arc<watch::Sender<Picture>>,
    pub(super) reloads: Arc<AtomicUsize>,
    /// How often PostgreSQL gives no answer before it gives one.
    pub(super) silent: Arc<AtomicUsize>,
    /// New copies that were ordered.
    pub(super) reinitialized: Arc<Mutex<Vec<ReinitializeRequest>>>,
    /// Why a new copy is refused; empty: it is not.
    pub(super) refusal: Arc<Mutex<String>>,
    /// The lock service does not answer.
    pub(super) away: Arc<AtomicBool>,
    /// How many writes of `failover` or `config` somebody else is just ahead of.
    pub(super) crossed: Arc<AtomicUsize>,
    /// Its promises.
    pub(super) failsafe: Arc<Failsafe>,
    /// Holds the file `journal`.
    pub(super) dir: tempfile::TempDir,
    router: axum::Router,
}

/// What a request got: status, headers, body.
pub(super) struct Got {
    pub(super) status: u16,
    pub(super) headers: axum::http::HeaderMap,
    pub(super) body: String,
}

impl Got {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Node {
    pub(super) async fn of(snapshot: Snapshot, login: bool) -> Node {
        Node::with(snapshot, &api(login)).await
    }

    pub(super) async fn with(snapshot: Snapshot, api: &RestApi) -> Node {
        Node::ending(snapshot, api, Some(RestartEnd::Done)).await
    }

    /// One whose restarts end like that.
    pub(super) async fn ending(
        snapshot: Snapshot,
        api: &RestApi,
        ends: Option<RestartEnd>,
    ) -> Node {
        let cluster = snapshot.cluster.as_deref().cloned().unwrap_or_default();
        let (picture, picture_seen) = watch::channel(Picture::default());
        let (orders, received) = mpsc::channel(8);
        let stand_in = StandIn::new(ends, cluster, picture);
        let (looks, asked) = looks();
        let (look, left) = (snapshot.look.clone(), stand_in.silent.clone());
        tokio::spawn(asked.serve(move || {
            let silent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer);
            ready(look.clone().filter(|_| silent.is_err()))
        }));
        let (published, snapshot) = watch::channel(Arc::new(snapshot));
        let serving = stand_in.clone();
        tokio::spawn(async move {
            let _published = published;
            serving.serve(received).await;
        });
        let StandIn {
            store,
            picture,
            reloads,
            silent,
            reinitialized,
            refusal,
            away,
            crossed,
            ..
        } = stand_in;
        let dir = tempfile::tempdir().unwrap();
        let failsafe = failsafe_at(dir.path().join("failsafe"));
        let hooks = Hooks {
            failsafe: failsafe.clone(),
            snapshot,
            attention: Arc::default(),
            orders,
            looks,
            instance: None,
            picture: picture_seen,
            journal: Some(dir.path().join("journal")),
            configured: Arc::default(),
        };
        let version = hooks.last().version.clone();
        let front = Front::new(api, &version, peers()).await.unwrap();
        Node {
            cluster: store,
            picture,
            router: router(App::new(front, clock, hooks)),
            reloads,
            silent,
            reinitialized,
            refusal,
            away,
            crossed,
            failsafe,
            dir,
        }
    }

    /// Changes keys and tells of it, as another member would.
    pub(super) fn change(&self, change: impl FnOnce(&mut Cluster)) {
        let mut cluster = self.cluster.lock().unwrap();
        cluster.revision += 1;
        change(&mut cluster);
        let shown = Some(Arc::new(cluster.clone()));
        self.picture.send_modify(|picture| picture.cluster = shown);
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Got {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Got {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    /// With a body, its length, and the right credentials.
    pub(super) async fn call(&self, method: &str, path: &str, body: &str) -> Got {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-length", body.len())
            .header("authorization", "Basic YWRtaW46czNjcmV0")
            .body(Body::from(body.to_owned()));
        self.send(request.unwrap()).await
    }
}

/// The loop, as far as REST sees it.
#[derive(Clone)]
struct StandIn {
    ends: Option<RestartEnd>,
    store: Arc<Mutex<Cluster>>,
    picture: Arc<watch::Sender<Picture>>,
    reloads: Arc<AtomicUsize>,
    silent: Arc<AtomicUsize>,
    reinitialized: Arc<Mutex<Vec<ReinitializeRequest>>>,
    refusal: Arc<Mutex<String>>,
    away: Arc<AtomicBool>,
    crossed: Arc<AtomicUsize>,
}

impl StandIn {
    fn new(ends: Option<RestartEnd>, cluster: Cluster, picture: watch::Sender<Picture>) -> StandIn {
        StandIn {
            ends,
            store: Arc::new(Mutex::new(cluster)),
            picture: Arc::new(picture),
            reloads: Arc::default(),
            silent: Arc::default(),
            reinitialized: Arc::default(),
            refusal: Arc::default(),
            away: Arc::default(),
            crossed: Arc::default(),
        }
    }

    async fn serve(self, mut received: mpsc::Receiver<Order>) {
        let mut scheduled = None;
        while let Some(order) = received.recv().await {
            match order {
                Order::WakeUp => {}
                Order::Reload => drop(self.reloads.fetch_add(1, Ordering::SeqCst)),
                Order::FreshCluster { answer } => {
                    let cluster = self.store.lock().unwrap().clone();
                    let away = self.away.load(Ordering::SeqCst);
                    let cluster = match away {
                        true => Err("nobody answers".into()),
                        false => Ok(cluster),
                    };
                    drop(answer.send(cluster));
                }
                Order::Restart { answer, .. } => drop(answer.send(self.ends)),
                Order::ScheduleRestart { request, answer } => {
                    let fresh = scheduled.is_none();
                    scheduled.get_or_insert(request);
                    answer.send(fresh).ok();
                }
                Order::ForgetRestart { answer } => {
                    answer.send(scheduled.take().is_some()).ok();
                }
                Order::Upgrade { answer } => {
                    answer.send(Ok("pgherd 9".into())).ok();
                }
                Order::Reinitialize { request, answer } => {
                    let refusal = self.refusal.lock().unwrap().clone();
                    if refusal.is_empty() {
                        self.reinitialized.lock().unwrap().push(request);
                        answer.send(Ok(())).ok();
                    } else {
                        answer.send(Err(refusal)).ok();
                    }
                }
                Order::Write { op, answer } => {
                    let mut keys = self.store.lock().unwrap();
                    let fewer = |left: usize| left.checked_sub(1);
                    let order = Ordering::SeqCst;
                    if self.crossed.fetch_update(order, order, fewer).is_ok() {
                        keys.revision += 1;
                        let revision = keys.revision;
                        keys.failover.as_mut().unwrap().revision = revision;
                        keys.config.as_mut().unwrap().revision = revision;
                    }
                    let outcome = apply(&mut keys, *op);
                    let cluster = Some(Arc::new(keys.clone()));
                    drop(keys);
                    self.picture
                        .send_modify(|picture| picture.cluster = cluster);
                    drop(answer.send(Ok(outcome)));
                }
            }
        }
    }
}

fn apply(cluster: &mut Cluster, op: Op) -> Answer {
    let revision = cluster.revision + 1;
    let guard = match &op {
        Op::PutConfig { expected, .. } => {
            *expected == cluster.config.as_ref().map(|key| key.revision)
        }
        Op::PutFailover { expected, .. } => {
            *expected == cluster.failover.as_ref().map(|key| key.revision)
        }
        other => panic!("the REST server may not ask for {other:?}"),
    };
    if !guard {
        return Answer::Refused;
    }
    cluster.revision = revision;
    match op {
        Op::PutConfig { text, .. } => {
            cluster.config = Some(Stored {
                value: Config {
                    text,
                    is_object: true,
                },
                revision,
            });
        }
        Op::PutFailover { failover, .. } => {
            cluster.failover = Some(Stored {
                value: failover,
                revision,
            });
        }
        _ => {}
    }
    Answer::Done { revision }
}
