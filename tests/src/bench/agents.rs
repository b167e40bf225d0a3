//! A cluster kept by agents, pgherd's or Patroni's, with what the benchmark adds to the library:
//! endpoints for its clients, the cut of a network that is used again, and errors instead of panics.

use super::client::{Endpoint, SETUP, Session, Target, hunt, within};
use super::hand::wait_streaming;
use super::plan::Entrant;
use super::report::System;
use anyhow::{Context as _, Result, anyhow, bail};
use pgherd_tests::{ClusterOptions, Etcd, Kind, Network, Node, TestCluster, json, process};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a cluster may take to form or to become whole again.
const WHOLE: Duration = Duration::from_secs(120);
/// Role of the measuring clients; it needs no password, so that none of its connections waits for
/// one to be hashed.
const ROLE: &str = "bench";

/// What every cluster of a run has in common.
#[derive(Debug)]
pub(crate) struct Common {
    /// Data directories are made below this one.
    pub(crate) disk: PathBuf,
    /// The lock service on the loopback.
    pub(crate) etcd: Arc<Etcd>,
    /// Patroni's command, without the node file.
    pub(crate) patroni: Option<Vec<String>>,
    /// The product, if it takes part.
    pub(crate) pgherd: Option<PathBuf>,
    /// Where the agents' logs are kept.
    pub(crate) logs: Option<PathBuf>,
    /// The private network, and the etcd that listens on it.
    pub(crate) network: Option<(Network, Etcd)>,
}

/// Three members.
#[derive(Debug)]
pub(crate) struct Agents {
    cluster: TestCluster,
    plugged: bool,
    /// Members that were cut off.
    cut: Mutex<Vec<usize>>,
}

impl Agents {
    /// Files for three members; nothing runs yet.
    pub(crate) fn prepare(common: &Common, entrant: &Entrant, plugged: bool) -> Result<Agents> {
        let kind = match entrant.system {
            System::Hand => bail!("no agent keeps a cluster by hand"),
            System::Pgherd => Kind::Pgherd,
            System::Patroni => {
                let command = common
                    .patroni
                    .clone()
                    .context("no Patroni: give --patroni CMD")?;
                Kind::Command(command)
            }
        };
        let base = json!({"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "pgherd": null});
        let hba = [
            "local all bench trust",
            "host all bench 0.0.0.0/0 trust",
            "local all all scram-sha-256",
            "host all all 0.0.0.0/0 scram-sha-256",
            "host replication replicator 0.0.0.0/0 scram-sha-256",
        ];
        let mut options = ClusterOptions::new(kind)
            .dcs(base)
            .dcs(entrant.dcs.clone())
            .config(json!({"postgresql": {"pg_hba": hba}}));
        options.base_dir = Some(common.disk.clone());
        options.pgherd = common.pgherd.clone();
        let mut etcd: &Etcd = &common.etcd;
        if plugged {
            let (network, outside) = common.network.as_ref().context("no private network")?;
            options.network = Some(network.clone());
            etcd = outside;
        }
        Ok(Agents {
            cluster: TestCluster::new(etcd, &options),
            plugged,
            cut: Mutex::default(),
        })
    }

    /// A whole cluster with the table and the role of the clients.
    pub(crate) async fn formed(
        common: &Common,
        entrant: &Entrant,
        plugged: bool,
    ) -> Result<Agents> {
        let agents = Self::prepare(common, entrant, plugged)?;
        agents.cluster.start_all();
        let primary = agents.wait_whole().await?;
        primary
            .run(&format!("CREATE ROLE {ROLE} SUPERUSER LOGIN; {SETUP}"))
            .await?;
        agents.known().await?;
        Ok(agents)
    }

    /// Starts the three agents at once.
    pub(crate) fn start(&self) {
        self.cluster.start_all();
    }

    /// Waits until two standbys stream; a superuser's session at the primary.
    pub(crate) async fn wait_whole(&self) -> Result<Session> {
        let endpoints: Vec<Endpoint> = self
            .cluster
            .nodes()
            .iter()
            .zip(0..)
            .map(superuser)
            .collect();
        let whole = async {
            let primary = hunt(&endpoints).await;
            wait_streaming(&primary, 2).await.map(|()| primary)
        };
        match within(WHOLE, whole).await {
            Some(Ok(primary)) => Ok(primary),
            Some(Err(e)) => self.explained(Err(e)),
            None => self.explained(Err(anyhow!("the cluster is not whole after {WHOLE:?}"))),
        }
    }

    /// Waits until the agents know it, too: one leader, two members that stream.
    async fn known(&self) -> Result<()> {
        let end = Instant::now() + WHOLE;
        loop {
            let answer = self.node(0).get("/cluster").await;
            let seen = match answer {
                Ok(answer) if answer.status == 200 => {
                    let document = answer.json();
                    let members = document["members"].as_array().cloned().unwrap_or_default();
                    let states: Vec<_> = members
                        .iter()
                        .filter_map(|m| {
                            Some((
                                m["role"].as_str()?.to_owned(),
                                m["state"].as_str()?.to_owned(),
                            ))
                        })
                        .collect();
                    let count = |role: &str, state: &str| {
                        states
                            .iter()
                            .filter(|(r, s)| r == role && s == state)
                            .count()
                    };
                    if count("leader", "running") == 1 && count("replica", "streaming") == 2 {
                        return Ok(());
                    }
                    format!("{states:?}")
                }
                Ok(answer) => format!("status {}", answer.status),
                Err(e) => e,
            };
            if Instant::now() > end {
                bail!("the agents do not report a whole cluster after {WHOLE:?}: {seen}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where the clients find the members.
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        let all = self.cluster.nodes().iter().zip(0..).map(|(node, number)| {
            let (host, port) = node.pg_address();
            endpoint(number, Target::Tcp(host, port), ROLE, None)
        });
        all.collect()
    }

    /// The way to a member that needs no network.
    pub(crate) fn socket(&self, number: usize) -> Endpoint {
        let node = self.node(number);
        let target = Target::Unix(node.dir().to_owned(), node.pg_address().1);
        endpoint(number, target, ROLE, None)
    }

    /// A member.
    pub(crate) fn node(&self, number: usize) -> &Node {
        &self.cluster.nodes()[number]
    }

    /// Name of the cluster's key in etcd (`leader`).
    pub(crate) fn key(&self, name: &str) -> String {
        self.cluster.key(name)
    }

    /// Orders a planned change from `old` to another member and waits for the answer.
    pub(crate) async fn switchover(&self, old: usize) -> Result<()> {
        let new = (old + 1) % 3;
        let body = json!({"leader": self.node(old).name(), "candidate": self.node(new).name()});
        let answer = self
            .node(old)
            .request("POST", "/switchover", &body.to_string())
            .await
            .map_err(anyhow::Error::msg)?;
        if answer.status != 200 {
            bail!("POST /switchover: {} {}", answer.status, answer.body);
        }
        Ok(())
    }

    /// Cuts a member off from the network, both ways.
    pub(crate) fn cut_network(&self, number: usize) {
        self.node(number).cut_network();
        self.cut
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(number);
    }

    /// Writes all logs to a file.
    pub(crate) fn keep_logs(&self, file: &Path) -> Result<()> {
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        std::fs::write(file, self.cluster.logs(usize::MAX))
            .with_context(|| format!("cannot keep logs in {}", file.display()))
    }

    /// The last lines of every agent's log.
    pub(crate) fn logs(&self, lines: usize) -> String {
        self.cluster.logs(lines)
    }

    /// Adds the last lines of every agent's log to an error.
    pub(crate) fn explained<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| anyhow!("{e:#}\n{}", self.logs(25)))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        if !self.plugged {
            return;
        }
        // The library's network serves one cluster; here the next one follows.
        for node in self.cluster.nodes() {
            node.kill_agent();
        }
        process::kill_of_dir(self.cluster.dir());
        for number in self
            .cut
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            self.node(number).mend_network();
        }
        for number in 0..self.cluster.nodes().len() {
            ip(&["link", "del", &format!("phv{number}")]);
            ip(&["netns", "del", &format!("ph{number}")]);
        }
    }
}

fn superuser((node, number): (&Node, usize)) -> Endpoint {
    let target = node.target();
    let tcp = Target::Tcp(target.host, target.port);
    endpoint(number, tcp, &target.user, Some(target.password))
}

fn endpoint(node: usize, target: Target, user: &str, password: Option<String>) -> Endpoint {
    Endpoint {
        node,
        target,
        user: user.to_owned(),
        password,
    }
}

/// Best effort: what is not there need not be removed.
fn ip(arguments: &[&str]) {
    let _ = std::process::Command::new("ip").args(arguments).output();
}

/// The command of Patroni: as given, else the one that the library knows.
pub(crate) fn patroni(given: Option<&str>) -> Option<Vec<String>> {
    match given {
        Some(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        None => {
            let program: &Path = &pgherd_tests::oracle::patroni()?;
            Some(vec![program.display().to_string()])
        }
    }
}
