//! Private etcds of one or three members, in memory where possible.

use crate::janitor::Janitor;
use crate::net::Network;
use crate::tls::Pki;
use crate::wait::{try_wait_for, wait_for};
use crate::{ports, process};
use etcd_client::{
    Certificate, Client, ConnectOptions, GetOptions, Identity, Permission, TlsOptions,
};
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What kind of etcd.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// 1 or 3.
    pub members: usize,
    /// Address to listen on.
    pub host: String,
    /// Members live in network namespaces of their own on this bridge; `host` has no meaning then.
    pub network: Option<Network>,
    /// Authentication: a user who may read and write below `/service/`, and the password.
    pub auth: Option<(String, String)>,
    /// TLS towards clients, whose certificates are demanded.
    pub tls: bool,
    /// More arguments for every member (`--quota-backend-bytes=...`).
    pub args: Vec<String>,
}

impl EtcdOptions {
    /// On the loopback, open to everybody.
    pub fn new(members: usize) -> Self {
        EtcdOptions {
            members,
            host: "127.0.0.1".to_owned(),
            network: None,
            auth: None,
            tls: false,
            args: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct Member {
    host: String,
    netns: Option<String>,
    client_port: u16,
    peer_port: u16,
    dir: PathBuf,
    child: Mutex<Option<Child>>,
}

/// A running etcd; everything ends when it is dropped.
#[derive(Debug)]
pub struct Etcd {
    options: EtcdOptions,
    members: Vec<Member>,
    pki: Option<Pki>,
    janitor: Janitor,
}

/// Cables of the network from this one on are those of etcd.
pub(crate) const CABLES: usize = 20;
const ROOT: (&str, &str) = ("root", "harness-root");

impl Etcd {
    /// `members` members on the loopback, healthy when this returns.
    ///
    /// # Panics
    /// When etcd is not installed or does not become healthy within 20 s.
    pub async fn start(members: usize) -> Etcd {
        Self::start_with(EtcdOptions::new(members)).await
    }

    /// Like [`Etcd::start`], with options.
    ///
    /// # Panics
    /// As [`Etcd::start`].
    pub async fn start_with(options: EtcdOptions) -> Etcd {
        let janitor = Janitor::new(&process::scratch_dir(), "pgherd-etcd-");
        let members = (0..options.members)
            .map(|i| {
                let plugged = options.network.as_ref().map(|n| n.plug(CABLES + i));
                let (netns, host) = plugged.unzip();
                // The address of a plugged member exists in its namespace only; nobody else is there.
                let probe = match host {
                    Some(_) => "127.0.0.1",
                    None => &options.host,
                };
                Member {
                    client_port: ports::free_port(probe),
                    peer_port: ports::free_port(probe),
                    host: host.unwrap_or_else(|| options.host.clone()),
                    netns,
                    dir: janitor.dir().join(format!("e{i}")),
                    child: Mutex::new(None),
                }
            })
            .collect();
        let pki = options.tls.then(|| Pki::new(&janitor.dir().join("tls")));
        let etcd = Etcd {
            options,
            members,
            pki,
            janitor,
        };
        for i in 0..etcd.members.len() {
            etcd.restart(i);
        }
        etcd.wait_healthy().await;
        if etcd.options.auth.is_some() {
            etcd.enable_auth().await;
        }
        etcd
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// `host:port` of every member's client port.
    pub fn hosts(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|m| format!("{}:{}", m.host, m.client_port))
            .collect()
    }

    /// User and password for agents, when authentication is on.
    pub fn auth(&self) -> Option<&(String, String)> {
        self.options.auth.as_ref()
    }

    /// Certificates, when TLS is on.
    pub fn pki(&self) -> Option<&Pki> {
        self.pki.as_ref()
    }

    fn protocol(&self) -> &'static str {
        if self.options.tls { "https" } else { "http" }
    }

    /// The directory of logs and data.
    pub fn dir(&self) -> &Path {
        self.janitor.dir()
    }

    /// Starts a member that is not running, with its old data.
    ///
    /// # Panics
    /// When etcd can not be started.
    pub fn restart(&self, index: usize) {
        let member = &self.members[index];
        let host = &member.host;
        let cluster: Vec<String> = (0..self.members.len())
            .map(|i| (i, &self.members[i]))
            .map(|(i, m)| format!("e{i}=http://{}:{}", m.host, m.peer_port))
            .collect();
        let log = self.janitor.dir().join(format!("e{index}.log"));
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log);
        let log = log.expect("open the log of etcd");
        let client = format!("{}://{host}:{}", self.protocol(), member.client_port);
        let peer = format!("http://{host}:{}", member.peer_port);
        let mut command = match &member.netns {
            Some(netns) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, "etcd"]);
                command
            }
            None => Command::new("etcd"),
        };
        command
            .arg(format!("--name=e{index}"))
            .arg(format!("--data-dir={}", member.dir.display()))
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &cluster.join(","),
                "--initial-cluster-state=new",
            ])
            .args(["--logger=zap", "--log-level=warn", "--enable-v2=false"])
            .args(&self.options.args)
            .args(self.pki.iter().flat_map(|p| {
                [
                    "--client-cert-auth".to_owned(),
                    format!("--trusted-ca-file={}", p.ca.display()),
                    format!("--cert-file={}", p.cert.display()),
                    format!("--key-file={}", p.key.display()),
                ]
            }))
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate a log file"))
            .stderr(log);
        let child = process::spawn(&mut command).expect("start etcd: is etcd-server installed?");
        *member.child.lock().expect("no panic while held") = Some(child);
    }

    /// Process id of a member.
    ///
    /// # Panics
    /// When it was never started.
    pub fn pid(&self, index: usize) -> i32 {
        let child = self.members[index]
            .child
            .lock()
            .expect("no panic while held");
        let id = child.as_ref().expect("a started member").id();
        i32::try_from(id).expect("a process id")
    }

    /// Whether a member runs.
    pub fn runs(&self, index: usize) -> bool {
        process::alive(self.pid(index))
    }

    /// Sends a signal to a member.
    pub fn signal(&self, index: usize, signal: Signal) {
        process::signal(self.pid(index), signal);
    }

    /// Kills a member and waits until it is gone.
    pub fn kill(&self, index: usize) {
        self.signal(index, Signal::KILL);
        let mut child = self.members[index]
            .child
            .lock()
            .expect("no panic while held");
        if let Some(child) = child.as_mut() {
            let _ = child.wait();
        }
    }

    /// Freezes a member (SIGSTOP): it accepts connections and never answers.
    pub fn stop(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    /// Wakes a frozen member.
    pub fn cont(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    /// Cuts a member off from the other members, both ways, silently. Clients reach it all the same.
    ///
    /// # Panics
    /// When etcd has no network of its own.
    pub fn part(&self, index: usize) {
        let network = self.options.network.as_ref().expect("a network");
        for other in (0..self.members.len()).filter(|other| *other != index) {
            network.part(CABLES + index, CABLES + other);
        }
    }

    /// Ends [`Etcd::part`].
    ///
    /// # Panics
    /// As [`Etcd::part`].
    pub fn join(&self, index: usize) {
        let network = self.options.network.as_ref().expect("a network");
        for other in (0..self.members.len()).filter(|other| *other != index) {
            network.join(CABLES + index, CABLES + other);
        }
    }

    /// A client of one member, authenticated as root where authentication is on.
    ///
    /// # Errors
    /// A text; after 2 s at the latest.
    pub async fn client(&self, index: usize) -> Result<Client, String> {
        self.client_as(index, self.options.auth.as_ref().map(|_| ROOT))
            .await
    }

    async fn client_as(&self, index: usize, auth: Option<(&str, &str)>) -> Result<Client, String> {
        let limit = Duration::from_secs(2);
        let mut options = ConnectOptions::new()
            .with_connect_timeout(limit)
            .with_timeout(limit);
        if let Some((user, password)) = auth {
            options = options.with_user(user, password);
        }
        if let Some(pki) = &self.pki {
            let read = |path: &Path| std::fs::read(path).map_err(|e| e.to_string());
            let identity = Identity::from_pem(read(&pki.cert)?, read(&pki.key)?);
            let ca = Certificate::from_pem(read(&pki.ca)?);
            options = options.with_tls(TlsOptions::new().ca_certificate(ca).identity(identity));
        }
        let endpoint = format!("{}://{}", self.protocol(), self.hosts().swap_remove(index));
        let work = Client::connect([endpoint], Some(options));
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| "etcd: no connection".to_owned())?
            .map_err(|e| format!("etcd: {e}"))
    }

    /// Waits until every running member answers a linearizable read.
    ///
    /// # Panics
    /// After 20 s.
    pub async fn wait_healthy(&self) {
        wait_for("etcd healthy", Duration::from_secs(20), async || {
            for i in 0..self.members.len() {
                if !process::alive(self.pid(i)) {
                    continue;
                }
                let mut client = self.client_as(i, None).await?;
                match client.get("health", None).await {
                    Ok(_) => {}
                    // An etcd that asks who we are is healthy too.
                    Err(e) if e.to_string().contains("user name is empty") => {}
                    Err(e) => return Err(format!("member {i}: {e}")),
                }
            }
            Ok(())
        })
        .await;
    }

    async fn enable_auth(&self) {
        let (user, password) = self
            .options
            .auth
            .clone()
            .expect("called with authentication");
        let mut c = self.client_as(0, None).await.expect("etcd answers");
        c.role_add("root").await.expect("role root");
        c.user_add(ROOT.0, ROOT.1, None).await.expect("user root");
        c.user_grant_role(ROOT.0, "root").await.expect("grant root");
        c.role_add("agents").await.expect("role agents");
        let all = Permission::read_write("/service/").with_prefix();
        c.role_grant_permission("agents", all)
            .await
            .expect("grant the prefix");
        c.user_add(user.as_str(), password.as_str(), None)
            .await
            .expect("user of the agents");
        c.user_grant_role(user, "agents")
            .await
            .expect("grant agents");
        c.auth_enable().await.expect("auth enable");
    }

    /// Runs `work` with a client of the first member that answers, within 10 s.
    async fn with<T>(&self, work: impl AsyncFn(&mut Client) -> Result<T, etcd_client::Error>) -> T {
        let result = try_wait_for(Duration::from_secs(10), async || {
            let mut seen = "no member runs".to_owned();
            for i in 0..self.members.len() {
                let state = process::of(self.pid(i)).map(|p| p.state);
                if matches!(state, None | Some('T' | 'Z')) {
                    continue;
                }
                match self.client(i).await {
                    Ok(mut client) => match work(&mut client).await {
                        Ok(value) => return Ok(value),
                        Err(e) => seen = format!("member {i}: {e}"),
                    },
                    Err(e) => seen = e,
                }
            }
            Err(seen)
        })
        .await;
        result.unwrap_or_else(|seen| panic!("etcd does not answer: {seen}"))
    }

    /// Value of a key.
    ///
    /// # Panics
    /// When etcd does not answer within 10 s (all following calls too).
    pub async fn get(&self, key: &str) -> Option<String> {
        let answer = self.with(async |c| c.get(key, None).await).await;
        answer
            .kvs()
            .first()
            .map(|kv| String::from_utf8_lossy(kv.value()).into_owned())
    }

    /// Lease of a key; 0: none.
    pub async fn lease_of(&self, key: &str) -> Option<i64> {
        let answer = self.with(async |c| c.get(key, None).await).await;
        answer.kvs().first().map(etcd_client::KeyValue::lease)
    }

    /// Revisions of the creation and of the last change of a key.
    pub async fn revisions(&self, key: &str) -> Option<(i64, i64)> {
        let answer = self.with(async |c| c.get(key, None).await).await;
        let kv = answer.kvs().first();
        kv.map(|kv| (kv.create_revision(), kv.mod_revision()))
    }

    /// Revision at which a key was made; 0: there is none.
    pub async fn created(&self, key: &str) -> i64 {
        let answer = self.with(async |c| c.get(key, None).await).await;
        answer
            .kvs()
            .first()
            .map_or(0, etcd_client::KeyValue::create_revision)
    }

    /// Raft term of a member, as it tells itself, with or without a leader.
    ///
    /// # Errors
    /// A text; after 1 s at the latest.
    pub async fn term(&self, index: usize) -> Result<u64, String> {
        let host = self.hosts().swap_remove(index);
        let work = async {
            let mut stream = tokio::net::TcpStream::connect(&host).await?;
            let request = format!("GET /debug/vars HTTP/1.0\r\nHost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(1), work)
            .await
            .map_err(|_| format!("{host}: no answer"))?
            .map_err(|e| format!("{host}: {e}"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let vars: serde_json::Value = serde_json::from_str(body).map_err(|e| e.to_string())?;
        let term = vars["raft.status"]["term"].as_u64();
        term.ok_or_else(|| format!("{host}: no term"))
    }

    /// Keys and values below a prefix.
    pub async fn list(&self, prefix: &str) -> Vec<(String, String)> {
        let answer = self
            .with(async |c| c.get(prefix, Some(GetOptions::new().with_prefix())).await)
            .await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        answer
            .kvs()
            .iter()
            .map(|kv| (text(kv.key()), text(kv.value())))
            .collect()
    }

    /// Writes a key without a lease.
    pub async fn put(&self, key: &str, value: &str) {
        self.with(async |c| c.put(key, value, None).await).await;
    }

    /// Writes a key under a lease.
    pub async fn put_under(&self, key: &str, value: &str, lease: i64) {
        let options = || Some(etcd_client::PutOptions::new().with_lease(lease));
        self.with(async |c| c.put(key, value, options()).await)
            .await;
    }

    /// Deletes a key.
    pub async fn delete(&self, key: &str) {
        self.with(async |c| c.delete(key, None).await).await;
    }

    /// Index of the raft leader.
    ///
    /// # Panics
    /// When no member knows one within 10 s.
    pub async fn leader(&self) -> usize {
        wait_for("an etcd leader", Duration::from_secs(10), async || {
            for i in 0..self.members.len() {
                if process::of(self.pid(i)).is_none_or(|p| matches!(p.state, 'T' | 'Z')) {
                    continue;
                }
                let Ok(mut client) = self.client(i).await else {
                    continue;
                };
                let Ok(status) = client.status().await else {
                    continue;
                };
                if status
                    .header()
                    .is_some_and(|h| h.member_id() == status.leader())
                {
                    return Ok(i);
                }
            }
            Err("no member says that it leads".to_owned())
        })
        .await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            self.kill(index);
        }
    }
}
