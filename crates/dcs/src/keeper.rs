//! Keeps the picture: a linearizable read, a watch from there, and a small linearizable read
//! every now and then which proves that the watch has delivered everything; seldom where news come
//! through the watch so often that their absence tells. Whatever fails or hangs, the next endpoint is taken.

use crate::Picture;
use crate::call::{Caller, Failure, Fault, Kind, Limits, Reply};
use crate::image::{Change, Image, Proof, Raw};
use crate::terms::Header;
use etcd_client::{Client, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use pgherd_model::{Span, Time};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How soon a probe is repeated when etcd had something that the watch had not delivered.
const GRACE: Span = Span::from_millis(100);
/// Between two rounds over all endpoints, none of which worked.
const BACKOFF: (Span, Span) = (Span::from_millis(100), Span::from_secs(1));
/// A session that ends sooner than this is not followed at once by the next.
const SESSION_MIN: Span = Span::from_millis(100);
/// How often the list of etcd's members is asked for, and how soon again after a failure.
const DISCOVERY: (Span, Span) = (Span::from_secs(300), Span::from_secs(20));

/// The picture and everybody who moves it: the keeper's task, and operations that re-read.
pub(crate) struct Board {
    image: Mutex<Image>,
    picture: watch::Sender<Picture>,
    revision: watch::Sender<u64>,
    /// A watch tells of every change.
    watching: AtomicBool,
}

impl Board {
    pub(crate) fn new() -> (Board, watch::Receiver<Picture>) {
        let (picture, receiver) = watch::channel(Picture::default());
        let board = Board {
            image: Mutex::default(),
            picture,
            revision: watch::channel(0).0,
            watching: AtomicBool::new(false),
        };
        (board, receiver)
    }

    /// Changes the image and publishes what came of it, as one step.
    ///
    /// `fresh`: the picture is proved current for that moment; `heard`: etcd has told something then.
    fn update<T>(
        &self,
        fresh: Option<Time>,
        heard: Option<Time>,
        change: impl FnOnce(&mut Image) -> (bool, T),
    ) -> T {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, result) = change(&mut image);
        let cluster = changed.then(|| Arc::new(image.cluster()));
        self.picture.send_if_modified(|picture| {
            let mut wake = false;
            if let Some(cluster) = cluster {
                picture.cluster = Some(cluster);
                picture.etcd = image.etcd();
                wake = true;
            }
            picture.heard = picture.heard.max(heard.or(fresh).unwrap_or_default());
            if let Some(fresh) = fresh {
                picture.fresh_at = picture.fresh_at.max(fresh);
                wake |= picture.problem.take().is_some();
            }
            wake
        });
        self.revision.send_replace(image.revision());
        result
    }

    /// No endpoint has answered yet.
    pub(crate) fn never_read(&self) -> bool {
        self.picture.borrow().cluster.is_none()
    }

    fn set_problem(&self, problem: String) -> bool {
        self.picture.send_if_modified(|picture| {
            let news = picture.problem.is_none();
            picture.problem = Some(problem);
            news
        })
    }

    /// Takes over a complete read; `gap`: no watch told of the changes before it, as also where there is none.
    pub(crate) fn read(&self, reply: Reply<BTreeMap<String, Raw>>, gap: bool) {
        let gap = gap || !self.watching.load(Ordering::Acquire);
        self.update(Some(reply.sent), None, |image| {
            (
                image.replace(reply.epoch, reply.header, reply.value, gap),
                (),
            )
        });
    }

    fn apply(&self, changes: Vec<Change>, heard: Time) {
        self.update(None, Some(heard), |image| (image.apply(changes), ()));
    }

    fn prove(&self, reply: &Reply<BTreeMap<String, u64>>) -> Proof {
        self.prove_by(reply, reply.header.revision, &reply.value)
    }

    /// Judges the picture by paths and revisions that this reply brought among others.
    pub(crate) fn prove_by<T>(
        &self,
        reply: &Reply<T>,
        revision: u64,
        seen: &BTreeMap<String, u64>,
    ) -> Proof {
        let judge = |image: &mut Image| image.prove(reply.epoch, revision, seen);
        let proof = self.update(None, None, |image| (false, judge(image)));
        if proof == Proof::Current {
            self.update(Some(reply.sent), None, |_| (false, ()));
        }
        proof
    }

    fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until the picture shows `revision`.
    pub(crate) async fn reached(&self, revision: u64, limit: Span) -> bool {
        let mut seen = self.revision.subscribe();
        timeout(limit, seen.wait_for(|seen| *seen >= revision))
            .await
            .is_ok()
    }
}

/// Reads all keys below `prefix`, linearizably.
pub(crate) async fn read_all(
    client: Client,
    prefix: String,
) -> Result<(BTreeMap<String, Raw>, Header), etcd_client::Error> {
    read(client, &prefix, GetOptions::new(), Raw::of).await
}

/// Reads the keys' names and revisions only.
pub(crate) async fn read_revisions(
    client: Client,
    prefix: String,
) -> Result<(BTreeMap<String, u64>, Header), etcd_client::Error> {
    let options = GetOptions::new().with_keys_only();
    read(client, &prefix, options, |kv| Raw::of(kv).mod_revision).await
}

/// What is wanted of each key below `prefix`.
async fn read<T>(
    client: Client,
    prefix: &str,
    options: GetOptions,
    wanted: fn(&KeyValue) -> T,
) -> Result<(BTreeMap<String, T>, Header), etcd_client::Error> {
    let answer = client
        .kv_client()
        .get(prefix, Some(options.with_prefix()))
        .await?;
    let keys = answer
        .kvs()
        .iter()
        .map(|kv| (path(kv.key(), prefix), wanted(kv)))
        .collect();
    Ok((keys, Header::of(answer.header())))
}

fn path(key: &[u8], prefix: &str) -> String {
    let key = String::from_utf8_lossy(key).into_owned();
    match key.strip_prefix(prefix) {
        Some(path) => path.to_owned(),
        None => key,
    }
}

type Probe = Pin<Box<dyn Future<Output = Result<Reply<BTreeMap<String, u64>>, Fault>> + Send>>;

/// The background task.
pub(crate) struct Keeper {
    pub(crate) caller: Caller,
    pub(crate) board: Arc<Board>,
    pub(crate) prefix: String,
    /// Pause between probes.
    pub(crate) interval: Span,
    /// What one answer may take before the next endpoint is tried.
    pub(crate) limit: Span,
    /// When etcd's members are asked for again.
    pub(crate) discovery: Arc<Due>,
    /// While the watch tells something at least this often, nothing is asked; `None`: it need not.
    pub(crate) rest: watch::Receiver<Option<Span>>,
}

/// While it lives the watch tells of every change.
struct Watching<'a>(&'a AtomicBool);

impl<'a> Watching<'a> {
    fn new(watching: &'a AtomicBool) -> Watching<'a> {
        watching.store(true, Ordering::Release);
        Watching(watching)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// When one session with an endpoint last heard what.
struct Heard {
    /// A linearizable read was answered.
    read: Instant,
    /// The watch told something.
    news: Instant,
    /// From the answer to the next read, as long as nobody may rest.
    pause: Span,
    /// A read showed what the watch had not delivered, with the picture at this revision.
    behind: Option<u64>,
}

impl Heard {
    fn probe_due(&self, rest: Option<Span>) -> Instant {
        let due = self.read + self.pause;
        match rest.filter(|_| self.behind.is_none()) {
            Some(rest) => due.max(self.news + rest),
            None => due,
        }
    }
}

impl Keeper {
    /// Runs until `stop` is closed.
    pub(crate) async fn run(self, mut stop: watch::Receiver<()>) {
        tokio::select! {
            () = self.keep() => {}
            _ = stop.changed() => {}
        }
    }

    async fn keep(&self) {
        let mut failed = 0usize;
        let mut pause = BACKOFF.0;
        let mut changes = self.caller.pool.endpoints().changes();
        loop {
            let order = self.caller.pool.order();
            let Some(endpoint) = order.first() else {
                return;
            };
            let mut worked = false;
            let began = Instant::now();
            let fault = tokio::select! {
                fault = self.session(endpoint, &mut worked) => fault,
                Ok(()) = changes.changed() => {
                    failed = 0;
                    pause = BACKOFF.0;
                    *lock(&self.discovery) = None;
                    continue;
                }
            };
            if worked {
                failed = 0;
                pause = BACKOFF.0;
                sleep_until(began + SESSION_MIN).await;
            }
            if fault.kind == Kind::Compacted {
                // The same endpoint is as good as any.
                continue;
            }
            failed += 1;
            self.caller.pool.demote(endpoint);
            discover_soon(&self.discovery);
            if worked {
                tracing::info!(
                    endpoint,
                    "etcd watch ended, taking the next endpoint: {}",
                    fault.text
                );
            } else {
                tracing::debug!(endpoint, "no watch: {}", fault.text);
            }
            // A single endpoint may just have cut the connection: it gets a second try.
            if failed < order.len().max(2) {
                continue;
            }
            let fault = match self.board.never_read() {
                true => self.caller.explained(fault).await,
                false => fault,
            };
            let problem = format!("no etcd endpoint works, last {}", fault.line());
            if self.board.set_problem(problem.clone()) {
                tracing::error!("{problem}; trying on");
            }
            sleep(pause).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Watches through one endpoint until that fails; says why it did. `worked` tells that it
    /// did work before.
    async fn session(&self, endpoint: &str, worked: &mut bool) -> Fault {
        match self.try_session(endpoint, worked).await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn try_session(
        &self,
        endpoint: &str,
        worked: &mut bool,
    ) -> Result<std::convert::Infallible, Fault> {
        discover(&self.caller, endpoint, self.limit, &self.discovery).await;
        let prefix = &self.prefix;
        let request = |client| read_all(client, prefix.clone());
        let reply = self.caller.once(endpoint, self.limit, &request).await?;
        let epoch = reply.epoch;
        let had_problem = self.board.picture.borrow().problem.is_some();
        // From there: what somebody else reads meanwhile may have passed over something.
        let from = reply.header.revision + 1;
        self.board.read(reply, true);
        let mut stream = self.watch(endpoint, from).await?;
        let _watching = Watching::new(&self.board.watching);
        *worked = true;
        if had_problem {
            tracing::info!(endpoint, "etcd answers again");
        } else {
            tracing::debug!(endpoint, "watching");
        }
        let mut probe: Option<Probe> = None;
        let mut rest = self.rest.clone();
        let mut heard = Heard {
            read: Instant::now(),
            news: Instant::now(),
            pause: self.interval,
            behind: None,
        };
        loop {
            let due = heard.probe_due(*rest.borrow_and_update());
            tokio::select! {
                message = stream.message() => {
                    if self.take(endpoint, message)? {
                        heard.news = Instant::now();
                    }
                }
                outcome = async { match probe.as_mut() {
                    Some(probe) => probe.await,
                    None => std::future::pending().await,
                }} => {
                    probe = None;
                    heard.read = Instant::now();
                    heard.pause = self.judge(outcome?, epoch, &mut heard.behind)?;
                }
                () = sleep_until(due), if probe.is_none() => {
                    // Whoever looked at a lease meanwhile has read as well.
                    let age = self.caller.now().since(self.board.picture.borrow().fresh_at);
                    if heard.behind.is_none() && age < heard.pause {
                        heard.read = Instant::now() - age;
                    } else {
                        probe = Some(self.probe(endpoint.to_owned()));
                    }
                }
                // Whoever may rest lives as long as this.
                Ok(()) = rest.changed() => {}
            }
        }
    }

    async fn watch(&self, endpoint: &str, from: u64) -> Result<WatchStream, Fault> {
        let client = self.caller.pool.client(endpoint).await?;
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let mut watcher = client.watch_client();
        match timeout(
            self.limit,
            watcher.watch(self.prefix.as_str(), Some(options)),
        )
        .await
        {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Fault::of(endpoint, &error)),
            Err(_) => {
                let text = format!("no watch within {} ms", self.limit.as_millis());
                Err(Fault::new(endpoint, Kind::Unsent, text))
            }
        }
    }

    /// One message of the watch; whether it had news.
    fn take(
        &self,
        endpoint: &str,
        message: Result<Option<WatchResponse>, etcd_client::Error>,
    ) -> Result<bool, Fault> {
        let fault = |text: String| Err(Fault::new(endpoint, Kind::Unsent, text));
        let response = match message {
            Ok(Some(response)) => response,
            Ok(None) => return fault("the watch was closed".into()),
            Err(error) => return Err(Fault::of(endpoint, &error)),
        };
        if response.compact_revision() > 0 {
            let text = format!("compacted up to {}", response.compact_revision());
            return Err(Fault::new(endpoint, Kind::Compacted, text));
        }
        if response.canceled() {
            return fault(format!("watch cancelled: {}", response.cancel_reason()));
        }
        let changes: Vec<Change> = response
            .events()
            .iter()
            .filter_map(|event| Change::of(event, &self.prefix))
            .collect();
        let news = !changes.is_empty();
        if news {
            self.board.apply(changes, self.caller.now());
        }
        Ok(news)
    }

    fn probe(&self, endpoint: String) -> Probe {
        let caller = self.caller.clone();
        let prefix = self.prefix.clone();
        let limit = self.limit;
        let discovery = self.discovery.clone();
        Box::pin(async move {
            discover(&caller, &endpoint, limit, &discovery).await;
            let request = |client| read_revisions(client, prefix.clone());
            caller.once(&endpoint, limit, &request).await
        })
    }

    /// When the next probe is due, or that this watch does not deliver.
    fn judge(
        &self,
        reply: Reply<BTreeMap<String, u64>>,
        epoch: u64,
        behind_at: &mut Option<u64>,
    ) -> Result<Span, Fault> {
        if reply.epoch != epoch {
            let text = "etcd was restored, everything is read anew";
            return Err(Fault::new(&reply.endpoint, Kind::Unsent, text));
        }
        if self.board.prove(&reply) == Proof::Current {
            *behind_at = None;
            return Ok(self.interval);
        }
        let revision = self.board.revision();
        if behind_at.replace(revision) == Some(revision) {
            let text = "its watch does not deliver what its reads show";
            return Err(Fault::new(&reply.endpoint, Kind::Unsent, text));
        }
        Ok(GRACE)
    }
}

type Due = Mutex<Option<Instant>>;

fn lock(due: &Due) -> MutexGuard<'_, Option<Instant>> {
    due.lock().unwrap_or_else(PoisonError::into_inner)
}

fn discover_soon(due: &Due) {
    let soon = Instant::now() + DISCOVERY.1;
    let mut due = lock(due);
    *due = due.map(|due| due.min(soon));
}

/// Asks for etcd's members if that is due. That it fails is no reason to do without the member
/// that was asked.
async fn discover(caller: &Caller, endpoint: &str, limit: Span, due: &Due) {
    if !caller.pool.endpoints().options().discovery {
        return;
    }
    {
        let now = Instant::now();
        let mut due = lock(due);
        if due.is_some_and(|due| due > now) {
            return;
        }
        *due = Some(now + DISCOVERY.0);
    }
    let request = async |client: Client| {
        let list = client.cluster_client().member_list().await?;
        let urls: Vec<Vec<String>> = list
            .members()
            .iter()
            .map(|member| member.client_urls().to_vec())
            .collect();
        Ok((urls, Header::of(list.header())))
    };
    match caller.once(endpoint, limit, &request).await {
        Ok(reply) => {
            // A member that has just joined has not told its addresses yet.
            if reply.value.iter().any(Vec::is_empty) {
                discover_soon(due);
            }
            caller.pool.endpoints().learn(&reply.value.concat());
        }
        Err(fault) => {
            tracing::debug!("members of etcd not learnt: {}", fault.line());
            discover_soon(due);
        }
    }
}

/// Reads everything through whatever endpoint answers and shows it.
pub(crate) async fn refresh(
    caller: &Caller,
    board: &Board,
    prefix: &str,
    deadline: Time,
) -> Result<u64, Failure> {
    let limits = Limits {
        deadline,
        per_try: None,
        read_only: true,
    };
    let reply = caller
        .ask(limits, |client| read_all(client, prefix.to_owned()))
        .await?;
    let revision = reply.header.revision;
    board.read(reply, false);
    Ok(revision)
}
