//! Starts private etcd clusters on ports chosen by the system, and stores on them.

use etcd_client::Client;
use pgherd_dcs::{Options, Picture, Protocol, Store};
use pgherd_model::{Answer, Cluster, MemberName, Op, Span, Time};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Every wait in these tests ends here at the latest.
pub(crate) const PATIENCE: Span = Span::from_secs(20);

/// CLOCK_BOOTTIME, as the agent has it.
pub(crate) fn clock() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Time(u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap())
}

/// A deadline so many milliseconds from now.
pub(crate) fn within(ms: u64) -> Time {
    clock() + Span::from_millis(ms)
}

pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    listeners.iter().map(port).collect()
}

/// One etcd process.
pub(crate) struct Member {
    pub(crate) endpoint: String,
    port: u16,
    command: Vec<String>,
    child: Option<Child>,
    log: std::path::PathBuf,
}

impl Member {
    pub(crate) fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = Command::new("etcd")
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("runs");
        let _ = kill_process(Pid::from_child(child), signal);
    }

    pub(crate) fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An etcd cluster in a directory of its own.
pub(crate) struct Etcd {
    pub(crate) members: Vec<Member>,
    _dir: TempDir,
}

impl Etcd {
    pub(crate) async fn start(count: usize) -> Etcd {
        Etcd::start_with(count, "http", &[]).await
    }

    /// With more arguments; `scheme` is that of the client URLs.
    pub(crate) async fn start_with(count: usize, scheme: &str, more: &[&str]) -> Etcd {
        for _ in 0..3 {
            let mut etcd = Etcd::prepare(count, scheme, more);
            for member in &mut etcd.members {
                member.start();
            }
            if etcd.ready().await {
                return etcd;
            }
        }
        panic!("etcd did not start (is a port taken?)");
    }

    fn prepare(count: usize, scheme: &str, more: &[&str]) -> Etcd {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            TempDir::new_in(memory).unwrap()
        } else {
            TempDir::new().unwrap()
        };
        let ports = free_ports(count * 2);
        let (clients, peers) = ports.split_at(count);
        let initial: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(at, port)| format!("m{at}=http://127.0.0.1:{port}"))
            .collect();
        let member = |at: usize| {
            let client = format!("{scheme}://127.0.0.1:{}", clients[at]);
            let peer = format!("http://127.0.0.1:{}", peers[at]);
            let mut command: Vec<String> = [
                ("name", format!("m{at}")),
                (
                    "data-dir",
                    dir.path().join(format!("m{at}")).display().to_string(),
                ),
                ("listen-client-urls", client.clone()),
                ("advertise-client-urls", client),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", initial.join(",")),
                ("initial-cluster-token", dir.path().display().to_string()),
                ("logger", "zap".to_owned()),
            ]
            .into_iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
            command.extend(more.iter().map(|&argument| argument.to_owned()));
            Member {
                endpoint: format!("127.0.0.1:{}", clients[at]),
                port: clients[at],
                command,
                child: None,
                log: dir.path().join(format!("m{at}.log")),
            }
        };
        let members = (0..count).map(member).collect();
        Etcd { members, _dir: dir }
    }

    /// All listen, none has died.
    async fn ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let dead = |member: &mut Member| {
                let child = member.child.as_mut().expect("started");
                child.try_wait().unwrap().is_some()
            };
            if Instant::now() > deadline || self.members.iter_mut().any(dead) {
                return false;
            }
            let up = |member: &Member| TcpStream::connect((Ipv4Addr::LOCALHOST, member.port));
            if self.members.iter().all(|member| up(member).is_ok()) {
                return true;
            }
            sleep(Span::from_millis(20)).await;
        }
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        let endpoint = |member: &Member| member.endpoint.clone();
        self.members.iter().map(endpoint).collect()
    }

    /// A plain client of one member, for what other people do to the cluster.
    pub(crate) async fn client(&self, at: usize) -> Client {
        Client::connect([&self.members[at].endpoint], None)
            .await
            .unwrap()
    }

    /// Position of etcd's leader, asked from the member `at`.
    pub(crate) async fn leader(&self, at: usize) -> usize {
        let mut client = self.client(at).await;
        let leader = eventually("etcd has a leader", async || {
            let status = client.maintenance_client().status().await.ok()?;
            (status.leader() != 0).then_some(status.leader())
        })
        .await;
        let list = client.member_list().await.unwrap();
        let name = list.members().iter().find(|member| member.id() == leader);
        name.unwrap().name()[1..].parse().unwrap()
    }
}

/// Options as the tests want them: scope `c`, the node `name`, every endpoint given.
pub(crate) fn options(endpoints: Vec<String>, name: &str) -> Options {
    Options {
        endpoints,
        protocol: Protocol::Http,
        cacert: None,
        cert: None,
        key: None,
        username: None,
        password: None,
        discovery: false,
        prefix: "/service/c/".into(),
        me: MemberName::from(name),
        ttl: Span::from_secs(30),
        lease_ttl: Span::from_secs(5),
        leases: pgherd_dcs::Leases::default(),
        clock,
    }
}

/// A store that has read its cluster once.
pub(crate) async fn store(endpoints: Vec<String>, name: &str) -> Store {
    started(options(endpoints, name)).await
}

pub(crate) async fn started(options: Options) -> Store {
    let store = Store::start(options).unwrap();
    shows(&store, "the first read", |picture| {
        picture.cluster.is_some()
    })
    .await;
    store
}

/// Waits until the picture is as wanted, and returns it.
pub(crate) async fn shows(store: &Store, what: &str, wanted: impl Fn(&Picture) -> bool) -> Picture {
    let mut picture = store.picture();
    let seen = timeout(PATIENCE, picture.wait_for(|picture| wanted(picture))).await;
    match seen {
        Ok(seen) => seen.unwrap().clone(),
        Err(_) => panic!("not seen: {what}; last {:?}", store.picture().borrow()),
    }
}

/// The cluster as it is shown now.
pub(crate) fn cluster(store: &Store) -> Cluster {
    let picture = store.picture();
    let picture = picture.borrow();
    picture.cluster.as_deref().unwrap().clone()
}

/// Runs an operation that has to be answered.
pub(crate) async fn run(store: &Store, op: Op) -> Answer {
    match store.run(&op, within(10_000)).await {
        Ok(answer) => answer,
        Err(error) => panic!("{op:?}: {error}"),
    }
}

/// Runs an operation that has to be done.
pub(crate) async fn done(store: &Store, op: Op) -> u64 {
    match run(store, op.clone()).await {
        Answer::Done { revision } => revision,
        other => panic!("{op:?}: {other:?}"),
    }
}

/// The order to take the lock, as of the present picture.
pub(crate) fn take(store: &Store) -> Op {
    let seen = cluster(store).revision;
    Op::AcquireLeader { seen }
}

/// Takes the lock, renewing first; returns the term.
pub(crate) async fn acquire(store: &Store) -> u64 {
    store
        .leader_lease()
        .renew(Span::from_secs(5))
        .await
        .unwrap();
    done(store, take(store)).await;
    cluster(store).leader.unwrap().create_revision
}

/// Waits until `probe` gives something.
pub(crate) async fn eventually<T>(what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Span::from_millis(20)).await;
    }
}
