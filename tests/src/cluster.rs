//! A whole cluster: files, members, common questions to it.

use crate::etcd::Etcd;
use crate::janitor::Janitor;
use crate::node::{Node, Parts};
use crate::options::{ClusterOptions, Kind, NodeOptions};
use crate::sql::Target;
use crate::{binary, oracle, ports, process, yaml};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use std::time::Duration;

/// A cluster of its own scope below one directory; everything ends when it is dropped.
#[derive(Debug)]
pub struct TestCluster {
    scope: String,
    nodes: Vec<Node>,
    quiet: bool,
    // Last: its drop kills what is left and removes the directory.
    janitor: Janitor,
}

impl TestCluster {
    /// Writes the files of all members and starts nothing.
    ///
    /// # Panics
    /// When files can not be written or `pgherd` does not build.
    pub fn new(etcd: &Etcd, options: &ClusterOptions) -> TestCluster {
        let base = options
            .base_dir
            .clone()
            .unwrap_or_else(process::scratch_dir);
        let janitor = Janitor::new(&base, "pgherd-");
        let suffix = janitor
            .dir()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        let scope = suffix.trim_start_matches("pgherd-").to_ascii_lowercase();
        let scope = format!("t-{scope}");
        let secret = options.secrets.as_ref().unwrap_or(&scope);
        let password = |of: &str| format!("{of} pass'\\word {secret}");
        let mut pgherd = options.pgherd.clone().unwrap_or_default();
        if options.pgherd.is_none() && options.nodes.iter().any(|n| n.kind == Kind::Pgherd) {
            pgherd = binary::pgherd();
        }
        if pgherd.exists() {
            pgherd = binary::copy_for_everybody(&pgherd, janitor.dir());
        }
        let mut nodes = Vec::new();
        for (index, node) in options.nodes.iter().enumerate() {
            let plugged = options.network.as_ref().map(|n| n.plug(index));
            let host = plugged
                .as_ref()
                .map_or("127.0.0.1", |(_, a)| a.as_str())
                .to_owned();
            // The address of a plugged member exists in its namespace only; nobody else is there.
            let probe = if plugged.is_some() {
                "127.0.0.1"
            } else {
                host.as_str()
            };
            let mut parts = Parts {
                name: node.name.clone(),
                kind: node.kind.clone(),
                dir: janitor.dir().join(&node.name),
                config: Value::Null,
                pg_port: ports::free_port(probe),
                rest_port: ports::free_port(probe),
                host,
                netns: plugged.as_ref().map(|(ns, _)| ns.clone()),
                cable: options.network.clone().map(|n| (n, index)),
                rest_auth: options.rest_auth.clone(),
                superuser: ("postgres".to_owned(), password("super")),
                pgherd: pgherd.clone(),
            };
            parts.config = node_file(&scope, &parts, node, options, etcd, &password);
            nodes.push(Node::new(parts));
        }
        TestCluster {
            scope,
            nodes,
            quiet: false,
            janitor,
        }
    }

    /// [`TestCluster::new`], starts every agent at once and waits until the cluster is whole.
    ///
    /// # Panics
    /// When it is not whole within 60 s.
    pub async fn formed(etcd: &Etcd, options: &ClusterOptions) -> TestCluster {
        let cluster = Self::new(etcd, options);
        cluster.start_all();
        cluster.wait_whole(Duration::from_secs(60)).await;
        cluster
    }

    /// Starts every agent.
    pub fn start_all(&self) {
        for node in &self.nodes {
            node.start();
        }
    }

    /// Name of the cluster.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The directory that holds everything.
    pub fn dir(&self) -> &Path {
        self.janitor.dir()
    }

    /// Shell line to be run when everything of this cluster has ended (`umount ...`).
    pub fn at_end(&mut self, line: &str) {
        self.janitor.at_end(line);
    }

    /// No logs on stderr when the thread panics.
    pub fn quiet(&mut self) {
        self.quiet = true;
    }

    /// Key of this cluster in etcd (`leader`, `members/n1`).
    pub fn key(&self, name: &str) -> String {
        format!("/service/{}/{name}", self.scope)
    }

    /// All members.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One member.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .iter()
            .find(|n| n.name() == name)
            .expect("a member of this name")
    }

    /// One member, to change its file or kind.
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|n| n.name() == name)
            .expect("a member of this name")
    }

    /// How a superuser connects to each member.
    pub fn targets(&self) -> Vec<Target> {
        self.nodes.iter().map(Node::target).collect()
    }

    /// The same through their sockets in the file system, which no cut cable reaches.
    pub fn socket_targets(&self) -> Vec<Target> {
        let local = |n: &Node| Target {
            host: n.dir().to_string_lossy().into(),
            ..n.target()
        };
        self.nodes.iter().map(local).collect()
    }

    /// Names of the members out of recovery.
    pub async fn writable(&self) -> Vec<String> {
        let mut names = Vec::new();
        for node in &self.nodes {
            if node.writable().await {
                names.push(node.name().to_owned());
            }
        }
        names
    }

    /// The one writable member.
    ///
    /// # Errors
    /// When it is not exactly one.
    pub async fn primary(&self) -> Result<&Node, String> {
        match self.writable().await.as_slice() {
            [one] => Ok(self.node(one)),
            other => Err(format!("{} members are writable: {other:?}", other.len())),
        }
    }

    /// Waits for exactly one writable member other than `old`.
    ///
    /// # Panics
    /// After `deadline`, with logs.
    pub async fn wait_new_primary(&self, old: &str, deadline: Duration) -> &Node {
        self.wait_for(
            &format!("a primary instead of {old}"),
            deadline,
            async || {
                let node = self.primary().await?;
                if node.name() == old {
                    Err(format!("{old} is primary"))
                } else {
                    Ok(node)
                }
            },
        )
        .await
    }

    /// Waits for exactly one writable member.
    ///
    /// # Panics
    /// After `deadline`, with logs.
    pub async fn wait_primary(&self, deadline: Duration) -> &Node {
        self.wait_for("one primary", deadline, async || self.primary().await)
            .await
    }

    /// Waits until one primary is there, which also holds the lock, and every other member streams
    /// from it.
    ///
    /// # Panics
    /// After `deadline`, with logs.
    pub async fn wait_whole(&self, deadline: Duration) -> &Node {
        self.wait_streaming(self.nodes.len() - 1, deadline).await
    }

    /// Waits until one primary is there, which also holds the lock, and `replicas` members stream
    /// from it.
    ///
    /// # Panics
    /// After `deadline`, with logs.
    pub async fn wait_streaming(&self, replicas: usize, deadline: Duration) -> &Node {
        self.wait_for(
            &format!("{replicas} replicas stream"),
            deadline,
            async || {
                let primary = self.primary().await?;
                let health = primary.get("/primary").await?.status;
                if health != 200 {
                    return Err(format!(
                        "{} is writable, /primary says {health}",
                        primary.name()
                    ));
                }
                let names = self.streaming_from(primary).await?;
                if names.len() == replicas {
                    Ok(primary)
                } else {
                    Err(format!("streaming: {names:?}"))
                }
            },
        )
        .await
    }

    /// Names of the members that stream from this one now, by its word and by their own (a
    /// pg_basebackup under way streams too, but nothing runs there yet).
    ///
    /// # Errors
    /// Those of the query.
    pub async fn streaming_from(&self, node: &Node) -> Result<Vec<String>, String> {
        let sql = "select string_agg(distinct application_name, ',') \
                   from pg_stat_replication where state = 'streaming'";
        let senders = node.sql(sql).await?;
        let senders: Vec<&str> = senders.split(',').collect();
        let mut names = Vec::new();
        for replica in self.nodes.iter().filter(|n| senders.contains(&n.name())) {
            let receiver = replica.sql("select status from pg_stat_wal_receiver").await;
            if receiver.is_ok_and(|s| s == "streaming") {
                names.push(replica.name().to_owned());
            }
        }
        Ok(names)
    }

    /// [`crate::wait_for`]; the logs of all members follow when it panics.
    ///
    /// # Panics
    /// After `deadline`.
    pub async fn wait_for<T>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> T {
        crate::wait_for(what, deadline, look).await
    }

    /// `pgherd ctl -c n1.yml ARGS`, as the unprivileged user; `{scope}` in an argument is replaced.
    ///
    /// # Panics
    /// When it can not be started.
    pub fn ctl(&self, args: &[&str]) -> Output {
        let binary = self.dir().join("pgherd");
        let mut command = self.nodes[0].command(&binary);
        command.args(["ctl", "-c"]).arg(self.nodes[0].yaml());
        self.run(command, args)
    }

    /// Genuine `patronictl -c n1.yml ARGS`.
    ///
    /// # Panics
    /// When there is no genuine Patroni.
    pub fn patronictl(&self, args: &[&str]) -> Output {
        let program = oracle::patronictl().expect("genuine patronictl");
        let mut command = self.nodes[0].command(&program);
        // Without it the table is cut to 80 columns, and a terminal is asked for its size.
        command
            .env("COLUMNS", "200")
            .arg("-c")
            .arg(self.nodes[0].yaml());
        self.run(command, args)
    }

    /// [`TestCluster::ctl`], or genuine patronictl with the scope as second word where genuine
    /// Patroni stands in for pgherd.
    ///
    /// # Panics
    /// As those two.
    pub fn ctl_or_patronictl(&self, args: &[&str]) -> Output {
        if self.dir().join("pgherd").exists() {
            return self.ctl(args);
        }
        let mut words = vec![args[0], "{scope}"];
        words.extend(&args[1..]);
        self.patronictl(&words)
    }

    fn run(&self, mut command: std::process::Command, args: &[&str]) -> Output {
        command.args(args.iter().map(|a| a.replace("{scope}", &self.scope)));
        command.stdin(std::process::Stdio::null());
        crate::process::output(&mut command).unwrap_or_else(|e| panic!("{command:?}: {e}"))
    }

    /// Logs of all agents, shortened to their last `lines` lines.
    pub fn logs(&self, lines: usize) -> String {
        self.nodes
            .iter()
            .map(|n| {
                format!(
                    "---- {} ({:?})\n{}\n",
                    n.name(),
                    n.kind(),
                    n.log_tail(lines)
                )
            })
            .collect()
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.quiet {
            eprintln!("{}", self.logs(80));
        }
        // Agents first, so that none restarts what is killed after it.
        for node in &self.nodes {
            node.kill_agent();
        }
        for node in &self.nodes {
            node.kill_node();
            node.remove_shared_memory();
        }
    }
}

fn node_file(
    scope: &str,
    parts: &Parts,
    node: &NodeOptions,
    options: &ClusterOptions,
    etcd: &Etcd,
    password: &dyn Fn(&str) -> String,
) -> Value {
    let host = &parts.host;
    let rest = format!("{host}:{}", parts.rest_port);
    let pg = format!("{host}:{}", parts.pg_port);
    let mut etcd3 = json!({"hosts": etcd.hosts()});
    if let Some((user, secret)) = etcd.auth() {
        yaml::merge(&mut etcd3, &json!({"username": user, "password": secret}));
    }
    if let Some(pki) = etcd.pki() {
        let tls = json!({"protocol": "https", "cacert": pki.ca, "cert": pki.cert, "key": pki.key});
        yaml::merge(&mut etcd3, &tls);
    }
    let mut file = json!({
        "scope": scope,
        "name": parts.name,
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": etcd3,
        "bootstrap": {
            "dcs": options.dcs,
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
        },
        "postgresql": {
            "listen": pg,
            "connect_address": pg,
            "data_dir": parts.dir.join("data"),
            "bin_dir": process::pg_bin(),
            "pgpass": parts.dir.join("pgpass"),
            "authentication": {
                "superuser": {"username": parts.superuser.0, "password": parts.superuser.1},
                "replication": {"username": "replicator", "password": password("repl")},
                "rewind": {"username": "rewinder", "password": password("rewind")},
            },
            "parameters": {
                "unix_socket_directories": parts.dir,
                "shared_buffers": "16MB",
                "max_wal_size": "128MB",
            },
            "pg_hba": [
                "local all all scram-sha-256",
                "host all all 0.0.0.0/0 scram-sha-256",
                "host replication replicator 0.0.0.0/0 scram-sha-256",
            ],
        },
    });
    if parts.kind == Kind::Patroni {
        // Patroni leaves pg_basebackup's default, a checkpoint spread over minutes.
        let fast = json!({"postgresql": {"basebackup": [{"checkpoint": "fast"}]}});
        yaml::merge(&mut file, &fast);
    }
    if parts.dir.starts_with("/dev/shm") {
        // A killed PostgreSQL leaves its segments behind; in its own directory they go with it.
        let own = json!({"postgresql": {"parameters": {"dynamic_shared_memory_type": "mmap"}}});
        yaml::merge(&mut file, &own);
    }
    if let Some((user, secret)) = &options.rest_auth {
        let auth = json!({"restapi": {"authentication": {"username": user, "password": secret}}});
        yaml::merge(&mut file, &auth);
    }
    yaml::merge(&mut file, &options.config);
    yaml::merge(&mut file, &node.config);
    file
}
