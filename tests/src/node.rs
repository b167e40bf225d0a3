//! One member: its files, its agent, its PostgreSQL, and ways to hurt them.

use crate::net::Network;
use crate::options::Kind;
use crate::process::{self, Process};
use crate::rest::{self, Answer};
use crate::sql::{self, Target};
use crate::wait::wait_for;
use crate::yaml;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// What [`Node`] is made of; filled in by the cluster.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
    pub(crate) host: String,
    pub(crate) pg_port: u16,
    pub(crate) rest_port: u16,
    pub(crate) netns: Option<String>,
    pub(crate) cable: Option<(Network, usize)>,
    pub(crate) rest_auth: Option<(String, String)>,
    pub(crate) superuser: (String, String),
    pub(crate) pgherd: PathBuf,
}

/// One member of a [`crate::TestCluster`].
#[derive(Debug)]
pub struct Node {
    parts: Parts,
    agent: Mutex<Option<Child>>,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Node {
        let node = Node {
            parts,
            agent: Mutex::new(None),
        };
        std::fs::create_dir_all(&node.parts.dir).expect("make the member's directory");
        process::give(&node.parts.dir);
        node.write_config();
        node
    }

    /// Member name.
    pub fn name(&self) -> &str {
        &self.parts.name
    }

    /// Program that keeps it.
    pub fn kind(&self) -> &Kind {
        &self.parts.kind
    }

    /// From the next start on another program keeps it.
    pub fn set_kind(&mut self, kind: Kind) {
        self.parts.kind = kind;
    }

    /// Directory of this member's files.
    pub fn dir(&self) -> &Path {
        &self.parts.dir
    }

    /// PostgreSQL's data directory.
    pub fn data_dir(&self) -> PathBuf {
        let named = self.parts.config["postgresql"]["data_dir"].as_str();
        named.map_or_else(|| self.parts.dir.join("data"), PathBuf::from)
    }

    /// The node file.
    pub fn yaml(&self) -> PathBuf {
        self.parts.dir.join("node.yml")
    }

    /// Content of the node file.
    pub fn config(&self) -> &Value {
        &self.parts.config
    }

    /// Merges `patch` into the node file and writes it; the agent learns of it at its next start.
    pub fn change_config(&mut self, patch: &Value) {
        yaml::merge(&mut self.parts.config, patch);
        self.write_config();
    }

    fn write_config(&self) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.yaml();
        std::fs::write(&file, yaml::to_yaml(&self.parts.config)).expect("write the node file");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&file, mode).expect("chmod the node file");
        process::give(&file);
    }

    /// Address and port of PostgreSQL.
    pub fn pg_address(&self) -> (String, u16) {
        (self.parts.host.clone(), self.parts.pg_port)
    }

    /// Address and port of the REST API.
    pub fn rest_address(&self) -> (String, u16) {
        (self.parts.host.clone(), self.parts.rest_port)
    }

    /// How a superuser connects.
    pub fn target(&self) -> Target {
        let (user, password) = self.parts.superuser.clone();
        let (host, port) = self.pg_address();
        Target {
            name: self.parts.name.clone(),
            host,
            port,
            user,
            password,
        }
    }

    // ---- agent -------------------------------------------------------------------------------

    /// A command of this member's program and user; arguments are the caller's business.
    pub fn command(&self, program: &Path) -> std::process::Command {
        let mut command = process::command(program, self.parts.netns.as_deref());
        command
            .current_dir(&self.parts.dir)
            .env("HOME", &self.parts.dir);
        command
    }

    /// The command that keeps this member.
    ///
    /// # Panics
    /// When it is genuine Patroni and there is none.
    pub fn agent_command(&self) -> std::process::Command {
        match &self.parts.kind {
            Kind::Pgherd => {
                let mut c = self.command(&self.parts.pgherd);
                c.arg("agent").arg(self.yaml());
                c
            }
            Kind::Patroni => {
                let patroni = crate::oracle::patroni().expect("genuine Patroni");
                let mut c = self.command(&patroni);
                c.arg(self.yaml());
                c
            }
            Kind::Command(words) => {
                let mut c = self.command(Path::new(&words[0]));
                c.args(&words[1..]).arg(self.yaml());
                c
            }
        }
    }

    /// Starts the agent; its output goes to [`Node::log`].
    ///
    /// # Panics
    /// When it runs already or can not be started.
    pub fn start(&self) {
        assert!(
            !self.agent_alive(),
            "the agent of {} runs already",
            self.name()
        );
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file());
        let log = log.expect("open the member's log");
        let mut command = self.agent_command();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("duplicate a log file"))
            .stderr(log);
        let child = process::spawn(&mut command);
        let child = child.unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        *self.agent.lock().expect("no panic while held") = Some(child);
    }

    /// Process id of the agent, if it was started and not collected.
    pub fn agent_pid(&self) -> Option<i32> {
        let agent = self.agent.lock().expect("no panic while held");
        agent.as_ref().and_then(|c| i32::try_from(c.id()).ok())
    }

    /// Whether the agent runs (a frozen one does).
    pub fn agent_alive(&self) -> bool {
        let mut agent = self.agent.lock().expect("no panic while held");
        agent
            .as_mut()
            .is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Waits until the agent has ended by itself.
    ///
    /// # Panics
    /// After `deadline`.
    pub async fn agent_exit(&self, deadline: Duration) -> ExitStatus {
        wait_for(
            &format!("the agent of {} ends", self.name()),
            deadline,
            async || {
                let mut agent = self.agent.lock().expect("no panic while held");
                let child = agent.as_mut().ok_or("it was never started")?;
                match child.try_wait() {
                    Ok(Some(status)) => Ok(status),
                    Ok(None) => Err(format!("it runs; log: {}", self.log_tail(5))),
                    Err(e) => Err(e.to_string()),
                }
            },
        )
        .await
    }

    /// Signals the agent.
    pub fn signal_agent(&self, signal: Signal) {
        if let Some(pid) = self.agent_pid() {
            process::signal(pid, signal);
        }
    }

    /// SIGKILL to the agent alone; returns when it is gone.
    pub fn kill_agent(&self) {
        let mut agent = self.agent.lock().expect("no panic while held");
        if let Some(child) = agent.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM to the agent (which stops PostgreSQL) and wait.
    ///
    /// # Panics
    /// When it has not ended after 30 s.
    pub async fn stop(&self) -> ExitStatus {
        self.signal_agent(Signal::TERM);
        self.agent_exit(Duration::from_secs(30)).await
    }

    /// Process ids of all guards of this member: after a change of agents there are two for a while.
    pub fn guards(&self) -> Vec<i32> {
        // The whole argument: another node's may begin alike, and a configuration may name no directory at all.
        let dir = format!("--data-dir={}", self.data_dir().display());
        let of_dir = |p: &Process| p.cmdline.split(' ').any(|it| it == dir);
        let guard = |p: &Process| p.state != 'Z' && p.cmdline.contains(" guard ") && of_dir(p);
        let all = process::all().into_iter().filter(guard);
        all.map(|p| p.pid).collect()
    }

    /// Process id of this member's guard.
    pub fn guard_pid(&self) -> Option<i32> {
        self.guards().first().copied()
    }

    /// Signals the guard; `false` when there is none.
    pub fn signal_guard(&self, signal: Signal) -> bool {
        self.guard_pid()
            .is_some_and(|pid| process::signal(pid, signal))
    }

    // ---- PostgreSQL --------------------------------------------------------------------------

    /// Every live process of PostgreSQL, found by its working directory; the postmaster too.
    pub fn postgres(&self) -> Vec<Process> {
        let dir = self.data_dir();
        process::all()
            .into_iter()
            .filter(|_| !dir.as_os_str().is_empty())
            .filter(|p| p.state != 'Z' && p.comm == "postgres" && p.cwd == dir)
            .collect()
    }

    /// Process id of the postmaster: the one among them whose parent is not.
    pub fn postmaster_pid(&self) -> Option<i32> {
        let processes = self.postgres();
        let child = |p: &Process| processes.iter().any(|q| q.pid == p.ppid);
        let file = std::fs::read_to_string(self.data_dir().join("postmaster.pid")).ok();
        let noted = file.and_then(|f| f.lines().next().and_then(|l| l.trim().parse().ok()));
        processes
            .iter()
            .find(|p| Some(p.pid) == noted)
            .or_else(|| processes.iter().find(|p| !child(p)))
            .map(|p| p.pid)
    }

    /// Signals the postmaster alone; `false` when there is none.
    pub fn signal_postmaster(&self, signal: Signal) -> bool {
        self.postmaster_pid()
            .is_some_and(|pid| process::signal(pid, signal))
    }

    /// SIGKILL to the postmaster and all its children.
    pub fn kill_postgres(&self) {
        let postmaster = self.postmaster_pid();
        if let Some(pid) = postmaster {
            process::signal(pid, Signal::STOP);
        }
        for p in self.postgres().iter().filter(|p| Some(p.pid) != postmaster) {
            process::signal(p.pid, Signal::KILL);
        }
        if let Some(pid) = postmaster {
            process::signal(pid, Signal::KILL);
        }
    }

    /// Kills agent, guard and PostgreSQL at once, as a power cut does.
    pub fn kill_node(&self) {
        // The agent first: it must not see its PostgreSQL die and act on it.
        self.signal_agent(Signal::KILL);
        self.signal_guard(Signal::KILL);
        self.kill_postgres();
        process::kill_of_dir(&self.parts.dir);
        self.kill_agent();
    }

    /// Removes the small System V segment that a killed postmaster leaves in the kernel (there are
    /// 4096 of them at most); only when nothing of this PostgreSQL runs any more.
    pub(crate) fn remove_shared_memory(&self) {
        let file = std::fs::read_to_string(self.data_dir().join("postmaster.pid"));
        let file = file.unwrap_or_default();
        // Seventh line: key and identifier.
        let id = file
            .lines()
            .nth(6)
            .and_then(|l| l.split_whitespace().nth(1).map(str::to_owned));
        if let Some(id) = id.filter(|_| self.postgres().is_empty()) {
            let _ = std::process::Command::new("ipcrm")
                .args(["-m", &id])
                .output();
        }
    }

    /// First column of the first row, as text, by a connection of its own.
    ///
    /// # Errors
    /// A text with the reason.
    pub async fn sql(&self, sql: &str) -> Result<String, String> {
        sql::value(&self.target(), sql).await
    }

    /// Whether PostgreSQL here is out of recovery and would accept a write.
    pub async fn writable(&self) -> bool {
        let sql = "select (not pg_is_in_recovery())::text";
        self.sql(sql).await.is_ok_and(|v| v == "true")
    }

    // ---- network -----------------------------------------------------------------------------

    /// Cuts this member off, both ways, silently.
    ///
    /// # Panics
    /// When the cluster has no network of its own.
    pub fn cut_network(&self) {
        let (network, index) = self.parts.cable.as_ref().expect("a cluster with a network");
        network.cut(*index);
    }

    /// The machine loses its power: from one moment to the next nothing of it is sent any more, not even
    /// that its connections have ended.
    ///
    /// # Panics
    /// When the cluster has no network of its own.
    pub fn lose_power(&self) {
        let (network, index) = self.parts.cable.as_ref().expect("a cluster with a network");
        network.unplug(*index);
        self.kill_node();
    }

    /// The machine has power again, and its agent starts with it.
    ///
    /// # Panics
    /// As [`Node::lose_power`].
    pub fn regain_power(&self) {
        let (network, index) = self.parts.cable.as_ref().expect("a cluster with a network");
        network.plug(*index);
        self.start();
    }

    /// Ends [`Node::cut_network`].
    ///
    /// # Panics
    /// As [`Node::cut_network`].
    pub fn mend_network(&self) {
        let (network, index) = self.parts.cable.as_ref().expect("a cluster with a network");
        network.mend(*index);
    }

    // ---- REST and log ------------------------------------------------------------------------

    /// `http://host:port` + path; `https` where the node file names a certificate.
    pub fn url(&self, path: &str) -> String {
        let tls = self.parts.config["restapi"]["certfile"].is_string();
        let scheme = if tls { "https" } else { "http" };
        format!(
            "{scheme}://{}:{}{path}",
            self.parts.host, self.parts.rest_port
        )
    }

    /// GET.
    ///
    /// # Errors
    /// A text when no answer came.
    pub async fn get(&self, path: &str) -> Result<Answer, String> {
        rest::request("GET", &self.url(path), None, None).await
    }

    /// Any request, with the cluster's REST user if there is one.
    ///
    /// # Errors
    /// A text when no answer came.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> Result<Answer, String> {
        let auth = self.parts.rest_auth.as_ref();
        rest::request(method, &self.url(path), auth, Some(body)).await
    }

    /// File of the agent's output.
    pub fn log_file(&self) -> PathBuf {
        self.parts.dir.join("agent.log")
    }

    /// The agent's output so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of it.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(lines);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }
}
