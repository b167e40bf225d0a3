//! From the command line to the running loop: everything that can be wrong is said before
//! anything is touched.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pgherd_dcs::{Picture, Store};
use pgherd_instance::Instance;
use pgherd_model::{PostgresState, Postmaster, Role, Settings, Span, Time};
use pgherd_peer::{Peers, endpoint};
use pgherd_wire::patroni::config::{Effective, Loaded, NodeConfig};
use rustix::fs::Access;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::agent::{Agent, End, Parts};
use crate::configured::Configured;
use crate::event::Event;
use crate::failsafe::Failsafe;
use crate::journal::Journal;
use crate::reload::{Reloader, Source};
use crate::renewal::Renewal;
use crate::rest;
use crate::service::Service;
use crate::snapshot::{Attention, Hooks, Order, Snapshot};
use crate::upgrade::{self, Handover, ToldToEnd};
use crate::watchdog::{self, Left, Watchdog};
use crate::{called, clock, jobs, logging, looks, orders, reload, settings};

/// Patroni says this every five seconds until etcd can be read.
const WAITING: Duration = Duration::from_secs(5);
/// How long an agent that is told to end goes on to try to read the cluster, which says how PostgreSQL is to be left.
const ENDS: Span = Span::from_secs(3);
/// How long the last requests of clients and a reload under way may hold up the program that takes over.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How long an agent may take to say who it is.
const EXPLAIN: Duration = Duration::from_secs(3);
/// How long a thread that waits for disks rests before it ends. A node where nothing happens needs none but
/// for a moment, once per `loop_wait`; one where something happens needs one, once a second. Of several
/// each would have its turn, so none would ever end if this were much longer.
const IDLE_WORKER: Duration = Duration::from_millis(1500);

/// Runs the agent in the foreground; `config`: the YAML file or directory, `None`: environment;
/// `handover`: what the program said whose place this one takes.
pub fn run(config: Option<&Path>, handover: Option<&str>) -> ExitCode {
    // While it leads to this program: an upgrade executes what is there then.
    called::path();
    let handover = handover.map(Handover::read);
    let left = handover.as_ref().and_then(|handover| handover.watchdog);
    // First of all: nothing else may have got its number.
    let device = left.and_then(|left| Some((watchdog::inherited(left.number)?, left)));
    if handover.is_some() {
        upgrade::adopt_children();
    }
    let source = source(config);
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = logging::start(&loaded.node.log) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(IDLE_WORKER)
        .build();
    let told = ToldToEnd::default();
    let result = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| {
            // A task, since whatever wakes the future that a runtime itself waits for costs two system calls more.
            let result = runtime.block_on(async {
                let body = tokio::spawn(body(source, loaded, (handover, device), told.clone()));
                body.await.context("the agent has ended unexpectedly")?
            });
            // What still runs beside the loop must not hold up the end.
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        });
    let code = match result {
        Ok((End::Exit(code), _)) => ExitCode::from(code),
        Ok((End::Upgrade(handover, watchdog), sockets)) => {
            tracing::info!("the program that has replaced this one takes over");
            logging::finish();
            drop(upgrade::exec(handover, (sockets, watchdog), &told));
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    };
    logging::finish();
    code
}

/// Whether the agent would start, as far as can be said without a port or the lock service: its version
/// on standard output, or what is wrong.
pub fn would_start(config: Option<&Path>) -> ExitCode {
    let tried = source(config)
        .load()
        .map_err(anyhow::Error::from)
        .and_then(|loaded| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let first = settings::effective(&loaded.node, &settings::kept_config(&loaded.node));
            runtime.block_on(postgres(&loaded.node, &first)).map(drop)
        });
    match tried {
        Ok(()) => {
            println!("pgherd {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The file or directory, and the environment as it is now.
pub(crate) fn source(config: Option<&Path>) -> Source {
    // Others may hold what is no text.
    let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    let env: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| (lossy(name), lossy(value)))
        .collect();
    Source {
        path: config.map(Path::to_owned),
        env,
    }
}

/// What the program of before has told, and the watchdog device that it had open.
type Before = (Option<Handover>, Option<(OwnedFd, Left)>);

/// How the agent ends, and the REST API's sockets where another program takes over.
async fn body(
    source: Source,
    loaded: Loaded,
    (handover, device): Before,
    told: ToldToEnd,
) -> Result<(End, Vec<TcpListener>)> {
    let configured = Arc::new(Configured::new(source.path.as_deref(), &loaded.givens));
    let service = Service::start();
    let ((events, mut received), (reload, reloads), (order, ordered)) = listen(&service, &told)?;
    let node = loaded.node;
    let watchdog = Watchdog::new(node.watchdog.clone(), device, events.clone());
    let (config, first) = first(&node);
    let instance = postgres(&node, &first).await?;
    let peers = settings::peers(&node)?;
    // The port is taken before anything else, so that two agents of one file cannot both go on.
    let handed = handover.clone().unwrap_or_default();
    let inherited = upgrade::adopt_sockets(&handed.sockets);
    let bound = rest::bind(&node.restapi, clock::now, inherited).await?;
    let store = Store::start(settings::store(&node, &first.settings, handed.leases))?;
    let mut picture = store.picture();
    let (publish, snapshot) = watch::channel(Arc::new(blank(&node, &first.settings)));
    let serving = orders::serve(ordered, store.clone(), events.clone(), reload.clone());
    tokio::spawn(serving);
    let (attention, failsafe) = (Arc::new(Attention::default()), failsafe(&node, &first));
    let (looks, asked) = looks::looks();
    let shown = (snapshot, attention.clone(), failsafe.clone());
    let hooks = hooks(&node, &store, &instance, shown, (order, looks), &configured);
    // The REST API answers from now on, also while etcd is being waited for.
    let server = serve(bound, hooks, &node, asked.serve_from(instance.clone())).await?;
    let reloader = Reloader {
        source,
        configured,
        node: node.clone(),
        warnings: loaded.warnings,
        settings: first.settings.clone(),
        server,
        store: store.clone(),
        events: events.clone(),
        service: service.clone(),
    };
    tokio::spawn(reloader.run(reloads));
    service.is_up();
    let ears = (&mut received, &events);
    let who = (&node, &peers, &instance);
    if let Some(code) = ends_early(&mut picture, ears, who, handover.as_ref()).await {
        return Ok((End::Exit(code), Vec::new()));
    }
    let renewal = renewal(&store, &node, (&first.settings, failsafe.clone()), handover).await?;
    let agent = Agent::new(Parts {
        journal: Journal::start(node.journal_path(), &node.name),
        node,
        first,
        config,
        store,
        renewal,
        failsafe,
        instance,
        peers,
        attention,
        events,
        service,
        watchdog,
    });
    let end = agent.run(received, publish).await;
    let sockets = given_up(&end, &reload).await;
    Ok((end, sockets))
}

/// What comes from outside, and from everybody here: events for the loop, wishes for a reload, orders by REST.
type Ears = (
    (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Event>),
    (reload::Requests, mpsc::UnboundedReceiver<reload::Request>),
    (mpsc::Sender<Order>, mpsc::Receiver<Order>),
);

/// Signals are listened to from now on.
fn listen(service: &Service, told: &ToldToEnd) -> Result<Ears> {
    let events = mpsc::unbounded_channel();
    let reloads = mpsc::unbounded_channel();
    let orders = mpsc::channel(64);
    watch_signals(&events.0, &reloads.0, service, orders.0.clone(), told)?;
    Ok((events, reloads, orders))
}

/// What the REST API shows and does.
fn hooks(
    node: &NodeConfig,
    store: &Store,
    instance: &Instance,
    (snapshot, attention, failsafe): (
        watch::Receiver<Arc<Snapshot>>,
        Arc<Attention>,
        Arc<Failsafe>,
    ),
    (orders, looks): (mpsc::Sender<Order>, looks::Looks),
    configured: &Arc<Configured>,
) -> Hooks {
    Hooks {
        snapshot,
        attention,
        picture: store.picture(),
        orders,
        looks,
        instance: Some(instance.clone()),
        failsafe,
        journal: node.journal_path(),
        configured: configured.clone(),
    }
}

/// Waits for the lock service; the exit code where the loop is not to begin.
async fn ends_early(
    picture: &mut watch::Receiver<Picture>,
    (received, events): (
        &mut mpsc::UnboundedReceiver<Event>,
        &mpsc::UnboundedSender<Event>,
    ),
    (node, peers, instance): (&NodeConfig, &Peers, &Instance),
    handover: Option<&Handover>,
) -> Option<u8> {
    let stop_at = handover.and_then(|handover| handover.stop_at);
    let waiting = wait_for_store(picture, received, events);
    if !stopped_in_time(waiting, stop_at, instance).await {
        say_what_is_left(instance).await;
        return Some(0);
    }
    // Whoever was here before is this one.
    let new = handover.is_none();
    (new && is_namesake(node, peers, picture).await).then_some(1)
}

/// Where another program takes over, the REST API's sockets, once its last requests have been answered; none where that
/// takes too long.
async fn given_up(end: &End, reload: &reload::Requests) -> Vec<TcpListener> {
    if let End::Exit(_) = end {
        return Vec::new();
    }
    let (answer, sockets) = oneshot::channel();
    reload.send(reload::Request::GiveUp(answer)).ok();
    let sockets = tokio::time::timeout(GIVE_UP, sockets).await;
    sockets.ok().and_then(Result::ok).unwrap_or_default()
}

/// Whoever has never reached etcd knows neither whose data these are nor whether the cluster is paused, and so stops
/// nothing. Patroni does the same.
async fn say_what_is_left(instance: &Instance) {
    if let Postmaster::Alive { .. } = instance.postmaster().await {
        tracing::warn!(
            "told to end before etcd could be read: PostgreSQL in {} runs on without an agent; to stop it: pg_ctl stop -D {}",
            instance.path().display(),
            instance.path().display()
        );
    }
}

/// The dynamic configuration to begin with, and what holds by it.
fn first(node: &NodeConfig) -> (String, Effective) {
    let config = settings::kept_config(node);
    let first = settings::effective(node, &config);
    first.warnings.iter().for_each(|it| tracing::warn!("{it}"));
    (config, first)
}

/// The REST API, and `looks` on its thread, which drives the connections of both: the loop has others.
async fn serve(
    bound: rest::Bound,
    hooks: Hooks,
    node: &NodeConfig,
    looks: impl Future<Output = ()> + Send + 'static,
) -> Result<rest::Server> {
    let server = bound.serve(hooks, settings::peers(node)?).await?;
    server.beside(looks);
    Ok(server)
}

/// Starts renewing, and goes on where the program of before ended: its lease is renewed before the first
/// look, so that the lock is this node's from there.
async fn renewal(
    store: &Store,
    node: &NodeConfig,
    (settings, failsafe): (&Settings, Arc<Failsafe>),
    handover: Option<Handover>,
) -> Result<Renewal> {
    let states = store.raft_states();
    let renewal = Renewal::start(store.leader_lease(), states, settings.clone(), failsafe)?;
    renewal.peers(settings::peers(node)?);
    let Some(handover) = handover else {
        return Ok(renewal);
    };
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!("took over from the program that ran before, as pgherd {version}");
    if let Some(lease) = handover.leases.leader
        && let Err(error) = renewal.renew_now(lease.life / 5).await
    {
        tracing::warn!("the lease of before is not renewed: {error}");
    }
    Ok(renewal)
}

/// Waits; a primary that the program of before left is killed when its lease is about to end and etcd
/// could not be read before.
async fn stopped_in_time(
    waiting: impl Future<Output = bool>,
    stop_at: Option<Time>,
    instance: &Instance,
) -> bool {
    let mut waiting = std::pin::pin!(waiting);
    let Some(at) = stop_at else {
        return waiting.await;
    };
    tokio::select! {
        biased;
        read = &mut waiting => return read,
        () = clock::sleep_until(at) => {}
    }
    tracing::error!(
        "etcd could not be read since the program of before ended, and its lease ends: PostgreSQL is killed"
    );
    if let Err(error) = jobs::kill(instance.clone()).await {
        tracing::error!("{error:#}");
    }
    waiting.await
}

/// The local PostgreSQL, if it can be run at all.
async fn postgres(node: &NodeConfig, first: &Effective) -> Result<Instance> {
    right_user(&node.postgresql.data_dir)?;
    warn_of_pgpass(node);
    let server = settings::server(node, first, None, settings::feedback(node, first));
    let instance = Instance::new(settings::postgres(node, &first.postgresql), server)?;
    instance
        .check_programs(first.settings.use_pg_rewind)
        .await?;
    Ok(instance)
}

/// PostgreSQL runs neither as root nor on another user's data: said here, before `initialize` is
/// claimed or anything written.
fn right_user(data_dir: &Path) -> Result<()> {
    let me = rustix::process::geteuid();
    if me.is_root() {
        bail!(
            "the agent was started as root, but PostgreSQL refuses to be run by root: start it as \
             the user who owns the data directory (usually postgres)"
        );
    }
    let owner = match std::fs::metadata(data_dir) {
        Ok(directory) => directory.uid(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let place = data_dir.display();
            return Err(error)
                .with_context(|| format!("postgresql.data_dir {place} cannot be looked at"));
        }
    };
    if owner != me.as_raw() {
        bail!(
            "postgresql.data_dir {} belongs to user id {owner}, but the agent runs as user id {}: \
             PostgreSQL wants both to be the same (wrong ownership): start the agent as that user, \
             or give the directory to this one (chown -R)",
            data_dir.display(),
            me.as_raw()
        );
    }
    Ok(())
}

/// A primary does not need the file, so this ends nothing; replicas and rewinds would fail later.
fn warn_of_pgpass(node: &NodeConfig) {
    let Some(pgpass) = &node.postgresql.pgpass else {
        return;
    };
    let parent = pgpass.parent().filter(|parent| *parent != Path::new(""));
    let directory = parent.unwrap_or(Path::new("."));
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    if let Err(error) = rustix::fs::access(directory, wanted) {
        tracing::warn!(
            "postgresql.pgpass: {} cannot be made, directory {}: {error}; no copy of another member and no rewind can be made without it",
            pgpass.display(),
            directory.display()
        );
    } else if pgpass.is_dir() {
        tracing::warn!(
            "postgresql.pgpass: {} is a directory, a file is expected",
            pgpass.display()
        );
    }
}

const CANNOT_WATCH: &str = "cannot watch for signals";

/// SIGUSR2: as `POST /pgherd/upgrade`.
fn watch_upgrades(orders: mpsc::Sender<Order>) -> Result<()> {
    let mut signals = signal(SignalKind::user_defined2()).context(CANNOT_WATCH)?;
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            // What comes of it is in the log.
            let answer = oneshot::channel().0;
            orders.send(Order::Upgrade { answer }).await.ok();
        }
    });
    Ok(())
}

fn watch_signals(
    events: &mpsc::UnboundedSender<Event>,
    reload: &reload::Requests,
    service: &Service,
    orders: mpsc::Sender<Order>,
    told: &ToldToEnd,
) -> Result<()> {
    let cannot = CANNOT_WATCH;
    let mut hangups = signal(SignalKind::hangup()).context(cannot)?;
    let reload = reload.clone();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            reload.send(reload::Request::Reload).ok();
        }
    });
    watch_upgrades(orders)?;
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context(cannot)?;
        let (events, service) = (events.clone(), service.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                service.stopping();
                events.send(Event::Shutdown).ok();
            }
        });
    }
    told.watch().context(cannot)?;
    upgrade::listens().context(cannot)?;
    Ok(())
}

/// Until the cluster could be read once; false: the agent was told to end, and it could not be read for a moment more.
async fn wait_for_store(
    picture: &mut watch::Receiver<Picture>,
    events: &mut mpsc::UnboundedReceiver<Event>,
    again: &mpsc::UnboundedSender<Event>,
) -> bool {
    let mut reloaded = None;
    let mut upgrade = None;
    let mut ends = None;
    loop {
        if picture.borrow_and_update().cluster.is_some() {
            // For the loop, which begins with the configuration of the start.
            if let Some(event) = reloaded {
                again.send(event).ok();
            }
            if let Some(wish) = upgrade {
                again.send(Event::Upgrade(wish)).ok();
            }
            if ends.is_some() {
                again.send(Event::Shutdown).ok();
            }
            return true;
        }
        let told = ends.map(|at: Time| at + ENDS);
        tokio::select! {
            () = clock::sleep_until(told.unwrap_or(Time::ZERO)), if told.is_some() => return false,
            _ = picture.changed() => {}
            event = events.recv() => match event {
                None => return false,
                Some(Event::Shutdown) => ends = ends.or(Some(clock::now())),
                Some(event @ Event::Reloaded(_)) => reloaded = Some(event),
                Some(Event::Upgrade(wish)) => upgrade = Some(wish),
                Some(_) => {}
            },
            () = tokio::time::sleep(WAITING) => {
                let problem = picture.borrow().problem.clone();
                let problem = problem.as_deref().unwrap_or("nothing was answered yet");
                tracing::warn!(
                    "waiting on etcd: {problem}; check etcd3.hosts (and protocol, username, password), \
                     that etcd runs there, and that this machine reaches it"
                );
            }
        }
    }
}

/// Whether a second node of the same name runs; said at once.
async fn is_namesake(node: &NodeConfig, peers: &Peers, picture: &watch::Receiver<Picture>) -> bool {
    let Some(place) = namesake(node, peers, picture).await else {
        return false;
    };
    tracing::error!(
        target: logging::CRITICAL,
        "Can't start; there is already a node named '{}' running (it answers at {place}); give this node another name",
        node.name,
    );
    true
}

/// Where a second node of the same name answers: it would share the lock.
async fn namesake(
    node: &NodeConfig,
    peers: &Peers,
    picture: &watch::Receiver<Picture>,
) -> Option<String> {
    let cluster = picture.borrow().cluster.clone()?;
    let place = cluster.member(&node.name)?.api_url.clone();
    let there = !place.is_empty() && peers.liveness(&place).await;
    // It is our own place, or one from where requests are passed on to us.
    (there && !is_this_agent(peers, &place).await).then_some(place)
}

/// Whether this very process answers there.
async fn is_this_agent(peers: &Peers, place: &str) -> bool {
    let Ok(url) = endpoint(place, "pgherd/explain") else {
        return false;
    };
    let answer = peers.request("GET", &url, None, EXPLAIN).await;
    let text = answer.map(|answer| answer.text).unwrap_or_default();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    document["agent"]["id"] == rest::this_process()
}

/// Before the first look. What PostgreSQL does is not known: others would take `stopped` for a proof that nothing is
/// acknowledged here.
fn blank(node: &NodeConfig, settings: &Settings) -> Snapshot {
    Snapshot {
        name: node.name.clone(),
        scope: node.scope.clone(),
        version: settings::patroni_version(),
        tick: clock::now(),
        confirmed: Arc::default(),
        cluster: None,
        dcs_unreachable: true,
        dcs_last_seen: 0,
        settings: settings.clone(),
        standby_cluster: false,
        role: Role::Uninitialized,
        state: PostgresState::Starting,
        look: None,
        looked: clock::now(),
        leader_until: None,
        failsafe_active: false,
        tags: node.tags.clone(),
        system_id: None,
        pending_restart: Vec::new(),
        watchdog_failed: false,
        guard_missing: false,
        under_way: None,
        scheduled_restart: None,
        leaves_sync: false,
        explain: serde_json::Value::Null,
    }
}

/// What the agent before has promised, which it keeps beside the data, and whom others are told of.
fn failsafe(node: &NodeConfig, first: &Effective) -> Arc<Failsafe> {
    // Without a slash at its end: beside it, not in it.
    let data_dir: std::path::PathBuf = node.postgresql.data_dir.components().collect();
    let mut path = data_dir.into_os_string();
    path.push(".pgherd-failsafe");
    let failsafe = Arc::new(Failsafe::new(path.into(), &first.settings));
    let identity = settings::identity(node, &first.postgresql);
    failsafe.identity(&node.name, &identity);
    failsafe
}
