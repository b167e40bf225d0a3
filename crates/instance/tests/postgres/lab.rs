//! What every test needs: an unprivileged process, a directory, ports, nodes with fast settings,
//! and conditions with deadlines.

use pgherd_instance::{Credentials, Instance, Options, ProgramOption, Secret, ServerConfig};
use pgherd_instance::{PostmasterHandle, Source, StartAs};
use pgherd_model::{StopMode, Upstream};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Deadline of everything that should take a second or two.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const AGAIN: &str = "PGHERD_TEST_LAB";

/// Runs an async test as an unprivileged user on a current-thread runtime.
pub(crate) fn run<F: AsyncFnOnce(&Lab)>(name: &str, test: F) {
    if let Some(dir) = std::env::var_os(AGAIN) {
        return inside(PathBuf::from(dir), test);
    }
    let home = tempfile::Builder::new()
        .prefix("pgherd-")
        .tempdir()
        .unwrap();
    if !nix::unistd::geteuid().is_root() {
        return inside(home.path().to_owned(), test);
    }
    let user = nix::unistd::User::from_name("postgres")
        .unwrap()
        .expect("a user named postgres (apt-get install postgresql-15 makes it)");
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    chown(home.path(), Some(uid), Some(gid)).unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // The target directory may be closed to that user.
    let me = std::env::current_exe().unwrap();
    let copy = home.path().join("test");
    if std::fs::hard_link(&me, &copy).is_err() {
        std::fs::copy(&me, &copy).unwrap();
    }
    let status = Command::new(&copy)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(AGAIN, home.path())
        .env("HOME", home.path())
        .current_dir(home.path())
        .uid(uid)
        .gid(gid)
        .status();
    end_all_in(home.path());
    assert!(status.unwrap().success(), "{name} failed, see above");
}

/// Ends what a failed test left behind: processes that work in its own directory.
fn end_all_in(home: &Path) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if pid != std::process::id() as i32 && cwd.starts_with(home) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn inside<F: AsyncFnOnce(&Lab)>(home: PathBuf, test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab { home: home.clone() };
    runtime.block_on(test(&lab));
    drop(runtime);
    end_all_in(&home);
}

/// A test's own world.
pub(crate) struct Lab {
    pub(crate) home: PathBuf,
}

/// Directory of PostgreSQL's programs: PGHERD_TEST_BIN, else the newest that Debian has installed.
pub(crate) fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("PGHERD_TEST_BIN") {
        return dir.into();
    }
    let mut versions: Vec<u32> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed (apt-get install postgresql-15)")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    versions.sort();
    Path::new("/usr/lib/postgresql")
        .join(versions.last().unwrap().to_string())
        .join("bin")
}

fn role(name: &str, password: &str) -> Credentials {
    Credentials {
        username: Some(name.to_owned()),
        password: Some(Secret::new(password)),
        ..Credentials::default()
    }
}

impl Lab {
    /// A port that nobody uses now.
    pub(crate) fn port(&self) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    pub(crate) fn options(&self, name: &str) -> Options {
        let mut options = Options::new(
            "lab",
            name,
            self.home.join(name),
            ("127.0.0.1", self.port()),
            role("postgres", "s'uper\\ secret"),
            role("re plicator", "re:pl secret"),
        );
        options.rewind = Some(role("rewinder", "rewind secret"));
        options.bin_dir = Some(bin_dir());
        options.pgpass = self.home.join(format!("pgpass.{name}"));
        options.server_log = Some(self.home.join(format!("{name}.log")));
        options.initdb = vec![
            ProgramOption::Value("encoding".to_owned(), "UTF8".to_owned()),
            ProgramOption::Value("locale".to_owned(), "C".to_owned()),
            ProgramOption::Flag("data-checksums".to_owned()),
            ProgramOption::Value("auth".to_owned(), "scram-sha-256".to_owned()),
        ];
        options.bootstrap_pg_hba = vec!["host all all 127.0.0.1/32 scram-sha-256".to_owned()];
        options
    }

    pub(crate) fn server() -> ServerConfig {
        let parameters = [
            ("unix_socket_directories", ""),
            ("shared_buffers", "16MB"),
            ("log_statement", "all"),
            ("wal_retrieve_retry_interval", "100ms"),
            ("autovacuum", "off"),
        ];
        ServerConfig {
            parameters: parameters
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect::<BTreeMap<_, _>>(),
            ..ServerConfig::default()
        }
    }

    pub(crate) fn node(&self, name: &str) -> Instance {
        Instance::new(self.options(name), Lab::server()).unwrap()
    }

    /// A new running primary with its roles.
    pub(crate) async fn primary(&self, name: &str) -> Instance {
        let node = self.node(name);
        node.initdb(SOON).await.unwrap();
        start(&node, &StartAs::Primary).await;
        node.post_bootstrap(SOON).await.unwrap();
        node
    }

    /// A new replica that streams from `primary`.
    pub(crate) async fn replica(&self, name: &str, primary: &Instance) -> Instance {
        let node = self.node(name);
        node.basebackup(&source(primary), SOON).await.unwrap();
        follow(&node, primary).await;
        node
    }
}

pub(crate) fn source(of: &Instance) -> Source {
    Source {
        host: of.options().connect_host.clone(),
        port: of.options().connect_port,
        database: None,
    }
}

pub(crate) fn upstream(of: &Instance) -> Upstream {
    Upstream {
        host: of.options().connect_host.clone(),
        port: of.options().connect_port,
        slot: None,
        others: vec![],
    }
}

pub(crate) async fn start(node: &Instance, role: &StartAs) -> PostmasterHandle {
    let handle = node.start(role, SOON).await.unwrap();
    node.wait_ready(SOON).await.unwrap();
    handle
}

/// Starts a stopped node as a replica and waits until it streams.
pub(crate) async fn follow(node: &Instance, primary: &Instance) {
    start(node, &StartAs::Standby(Some(upstream(primary)))).await;
    streams_from(node, primary).await;
}

/// Waits until a replica streams from `primary` on its timeline and has replayed what is there now.
pub(crate) async fn streams_from(node: &Instance, primary: &Instance) {
    let target = primary.look().await.unwrap();
    eventually("the replica streams and has caught up", async || {
        let look = node.look().await.ok()?;
        let receiver = look.receiver.as_ref()?;
        let good = receiver.streaming
            && receiver.port == primary.options().connect_port
            && look.timeline == target.timeline
            && look.wal.replayed >= target.wal.flushed;
        good.then_some(())
    })
    .await;
}

/// Asks until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A connection as superuser, from outside the product's code.
pub(crate) async fn client(node: &Instance) -> tokio_postgres::Client {
    let options = node.options();
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(options.port)
        .dbname("postgres")
        .user("postgres")
        .password("s'uper\\ secret");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// One value as text.
pub(crate) async fn value(node: &Instance, sql: &str) -> String {
    let rows = client(node).await.simple_query(sql).await.unwrap();
    rows.iter()
        .find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
            _ => None,
        })
        .unwrap_or_default()
}

/// Lets another configuration hold; whether a file changed.
pub(crate) async fn configure(node: &Instance, server: ServerConfig) -> bool {
    node.want(server);
    node.apply().await.unwrap()
}

pub(crate) async fn stop(node: &Instance) {
    node.stop(StopMode::Fast, SOON).await.unwrap();
}
