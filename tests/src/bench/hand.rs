//! The floor: the same cluster without an agent. It does what any agent must do, by the plain
//! programs and signals of PostgreSQL, and nothing else: nobody has to notice, agree or be asked.

use super::client::{Endpoint, RETRY, Session, Target};
use super::procs;
use anyhow::{Context as _, Result, bail};
use pgherd_tests::{Signal, ports, process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long any single step may take.
const STEP: Duration = Duration::from_secs(60);
/// How often the request to promote is repeated: a standby whose upstream has just died can
/// sleep through a single one.
const REPEAT: Duration = Duration::from_millis(20);
const HOST: &str = "127.0.0.1";

/// One server.
#[derive(Debug)]
struct Server {
    data: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// A primary, number 0 at first, and two streaming standbys.
#[derive(Debug)]
pub(crate) struct Hand {
    dir: TempDir,
    bin: PathBuf,
    /// Adds `recovery_init_sync_method=syncfs`.
    syncfs: bool,
    servers: Vec<Server>,
}

impl Hand {
    /// Three empty places below `base`; [`Hand::form`] makes a cluster of them.
    pub(crate) fn prepare(base: &Path, syncfs: bool) -> Result<Hand> {
        let dir = tempfile::Builder::new().prefix("hand-").tempdir_in(base)?;
        process::give(dir.path());
        let servers = (0..3)
            .map(|n| Server {
                data: dir.path().join(format!("data{n}")),
                port: ports::free_port(HOST),
                child: None,
            })
            .collect();
        Ok(Hand {
            dir,
            bin: process::pg_bin(),
            syncfs,
            servers,
        })
    }

    /// Where the clients find the servers.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        (0..self.servers.len()).map(|n| self.endpoint(n)).collect()
    }

    fn endpoint(&self, node: usize) -> Endpoint {
        Endpoint {
            node,
            target: Target::Tcp(HOST.to_owned(), self.servers[node].port),
            user: "postgres".to_owned(),
            password: None,
        }
    }

    /// From empty directories until both standbys stream.
    pub(crate) async fn form(&mut self) -> Result<()> {
        let first = self.servers[0].data.display().to_string();
        let options = [
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-k",
        ];
        let mut initdb = self.tool("initdb");
        let initdb = process::spawn(initdb.args(options).args(["-D", &first]))?;
        self.finish(initdb, "initdb")?;
        self.configure()?;
        self.start(0)?;
        let primary = self.session(0).await?;
        for node in 1..3 {
            let sql = format!("SELECT pg_create_physical_replication_slot('node{node}', true)");
            primary.run(&sql).await?;
        }
        let copies = [self.copy(1)?, self.copy(2)?];
        for copy in copies {
            self.finish(copy, "pg_basebackup")?;
        }
        self.start(1)?;
        self.start(2)?;
        wait_streaming(&primary, 2).await
    }

    /// Planned change: checkpoint, fast stop, promote.
    pub(crate) async fn switchover(&mut self) -> Result<()> {
        let (old, new) = (self.session(0).await?, self.session(1).await?);
        old.run("CHECKPOINT").await?;
        drop(old);
        let mut child = self.servers[0]
            .child
            .take()
            .context("primary is not running")?;
        process::signal(i32::try_from(child.id())?, Signal::INT);
        // The walsenders go last: what the old primary wrote is with the standbys now.
        child.wait()?;
        self.promote(1, &new).await
    }

    /// The primary's processes die; the standby that received more takes over.
    pub(crate) async fn crash_handover(&mut self, standbys: &[Session; 2]) -> Result<()> {
        self.crash()?;
        self.promote_best(standbys).await
    }

    /// Connections to both standbys, for [`Hand::promote_best`].
    pub(crate) async fn standbys(&self) -> Result<[Session; 2]> {
        Ok([self.session(1).await?, self.session(2).await?])
    }

    /// Promotes the standby that received more.
    pub(crate) async fn promote_best(&self, standbys: &[Session; 2]) -> Result<()> {
        let mut received = Vec::new();
        for standby in standbys {
            let sql = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint";
            let rows = standby.rows(sql).await?;
            let cell = rows.first().and_then(|r| r.first());
            received.push(cell.and_then(|c| c.parse::<i64>().ok()).unwrap_or(0));
        }
        let best = usize::from(received[1] > received[0]);
        self.promote(best + 1, &standbys[best]).await
    }

    /// The primary's processes die; it is started again in place.
    pub(crate) fn crash_restart(&mut self) -> Result<()> {
        self.crash()?;
        self.start(0)
    }

    /// Kills the primary and waits until the last of its processes is gone.
    pub(crate) fn crash(&mut self) -> Result<()> {
        procs::kill_postgres(&self.servers[0].data)?;
        procs::wait_down(&self.servers[0].data, STEP)?;
        if let Some(mut child) = self.servers[0].child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Repeats the request until the server accepts writes.
    async fn promote(&self, node: usize, session: &Session) -> Result<()> {
        let server = &self.servers[node];
        let pid = server
            .child
            .as_ref()
            .map(Child::id)
            .context("standby is not running")?;
        let end = Instant::now() + STEP;
        let mut repeat = Instant::now();
        while !session.writable().await? {
            let now = Instant::now();
            if now >= repeat {
                std::fs::write(server.data.join("promote"), "")?;
                process::signal(i32::try_from(pid)?, Signal::USR1);
                repeat = now + REPEAT;
            }
            if now > end {
                bail!("server {node} did not promote in {STEP:?}");
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// A connection, as soon as there can be one.
    async fn session(&self, node: usize) -> Result<Session> {
        let end = Instant::now() + STEP;
        loop {
            match Session::open(&self.endpoint(node)).await {
                Ok(session) => return Ok(session),
                Err(e) if Instant::now() > end => {
                    let log = self.dir.path().join(format!("log{node}"));
                    let log = std::fs::read_to_string(log).unwrap_or_default();
                    bail!("server {node} does not answer ({e:?}); its log:\n{log}");
                }
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// The settings that agents give, too.
    fn configure(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(self.servers[0].data.join("postgresql.conf"))?;
        let sockets = self.dir.path().display();
        writeln!(
            file,
            "listen_addresses = '{HOST}'\nunix_socket_directories = '{sockets}'\n\
             wal_level = replica\nhot_standby = on\nwal_log_hints = on\nmax_connections = 60\n\
             max_wal_senders = 10\nmax_replication_slots = 10\nwal_keep_size = 128MB\n\
             shared_buffers = 16MB\nmax_wal_size = 128MB"
        )?;
        if self.syncfs {
            writeln!(file, "recovery_init_sync_method = syncfs")?;
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<()> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("log{node}")))?;
        let mut command = self.tool("postgres");
        let server = &mut self.servers[node];
        command
            .arg("-D")
            .arg(&server.data)
            .args(["-p", &server.port.to_string()])
            .stdout(log.try_clone()?)
            .stderr(log);
        server.child = Some(process::spawn(&mut command)?);
        Ok(())
    }

    /// Starts the copying of server 0 to `node`.
    fn copy(&self, node: usize) -> Result<Child> {
        let mut command = self.tool("pg_basebackup");
        command
            .args(["-h", HOST, "-p", &self.servers[0].port.to_string()])
            .args(["-U", "postgres", "-X", "stream", "-c", "fast", "-R"])
            .args(["-S", &format!("node{node}")])
            .arg("-D")
            .arg(&self.servers[node].data);
        Ok(process::spawn(&mut command)?)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = process::command(&self.bin.join(name), None);
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn finish(&self, mut child: Child, what: &str) -> Result<()> {
        let status = child.wait()?;
        if !status.success() {
            bail!(
                "{what} by hand failed in {}: {status}",
                self.dir.path().display()
            );
        }
        Ok(())
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        process::kill_of_dir(self.dir.path());
        for server in &mut self.servers {
            if let Some(mut child) = server.child.take() {
                let _ = child.wait();
            }
        }
    }
}

/// Waits until `count` standbys stream.
pub(crate) async fn wait_streaming(primary: &Session, count: usize) -> Result<()> {
    let end = Instant::now() + STEP;
    let sql = "SELECT 1 FROM pg_catalog.pg_stat_replication \
               WHERE state = 'streaming' AND application_name <> 'pg_basebackup'";
    while primary.rows(sql).await?.len() < count {
        if Instant::now() > end {
            bail!("{count} standbys do not stream after {STEP:?}");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
