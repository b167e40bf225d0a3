//! The cluster of a scenario in real processes: each member in a network namespace of its own, three etcds in
//! theirs, disks that can be full or frozen where the scenario asks for such, and the clients that look.

use super::disk::Disk;
use super::looks::Watch;
use super::settings;
use super::trace::Trace;
use super::view::View;
use crate::{ClusterOptions, Etcd, EtcdOptions, Kind, Network, Node, TestCluster};
use pgherd_scenario::words::{Frozen, Scenario, Statement, Step};
use serde_json::{Value, json};
use tokio::time::Instant;

/// It ends in this order: disks must answer before anything on them can be killed.
pub(super) struct World {
    pub(super) trace: Trace,
    disks: Vec<Disk>,
    watch: Watch,
    pub(super) cluster: TestCluster,
    pub(super) etcd: Etcd,
    pub(super) network: Network,
    /// Members without power.
    pub(super) dark: Vec<bool>,
    /// Agents that a step has killed.
    pub(super) ended: Vec<bool>,
    pub(super) paused: bool,
}

impl World {
    /// Etcd runs then, and no agent does.
    pub(super) async fn new(scenario: &Scenario) -> Result<World, String> {
        let network = Network::new();
        let etcd = Etcd::start_with(EtcdOptions {
            network: Some(network.clone()),
            ..EtcdOptions::new(3)
        })
        .await;
        let mut options =
            ClusterOptions::with_kinds(&vec![Kind::Pgherd; scenario.nodes]).network(&network);
        options.dcs = settings::document(&scenario.settings);
        let mut cluster = TestCluster::new(&etcd, &options);
        let disks = match wants_disks(scenario) {
            true => disks(&mut cluster)?,
            false => Vec::new(),
        };
        let trace = Trace::new();
        let prefix = cluster.key("");
        let watch = Watch::begin(cluster.targets(), etcd.hosts(), prefix, &trace);
        Ok(World {
            trace,
            disks,
            watch,
            cluster,
            etcd,
            network,
            dark: vec![false; scenario.nodes],
            ended: vec![false; scenario.nodes],
            paused: false,
        })
    }

    pub(super) fn node(&self, node: usize) -> &Node {
        &self.cluster.nodes()[node]
    }

    pub(super) fn nodes(&self) -> usize {
        self.cluster.nodes().len()
    }

    /// The disk of a member.
    pub(super) fn disk(&self, node: usize) -> Result<&Disk, String> {
        let disk = self.disks.get(node);
        disk.ok_or_else(|| "no member has a disk of its own".into())
    }

    /// What was seen, if all has been looked at since then.
    pub(super) fn view(&self, after: Instant) -> Option<View> {
        let nodes = self.cluster.nodes().iter().zip(&self.dark);
        let names: Vec<(String, String, bool)> = nodes
            .map(|(node, dark)| {
                let (host, port) = node.pg_address();
                (node.name().to_owned(), format!("{host}:{port}"), *dark)
            })
            .collect();
        View::since(after, &self.watch.last(), &names)
    }

    /// No process of its data directory is left.
    pub(super) fn is_down(&self, node: usize) -> bool {
        self.node(node).postgres().is_empty()
    }

    /// Whose agent is asked when no particular one is meant: of the one that holds the lock, if it can answer.
    pub(super) fn asked(&self) -> Result<usize, String> {
        let able = |node: &usize| {
            let node = self.node(*node);
            node.agent_alive() && !stopped(node)
        };
        let leader = self.leader().filter(able);
        let any = leader.or_else(|| (0..self.nodes()).find(able));
        any.ok_or_else(|| "there is no agent to ask".into())
    }

    /// Who holds the lock, by what was seen last.
    pub(super) fn leader(&self) -> Option<usize> {
        let leader = self.watch.last().picture?.leader?;
        let mut nodes = self.cluster.nodes().iter();
        nodes.position(|node| node.name() == leader)
    }

    /// One line per member, as it is now.
    pub(super) fn lines(&self) -> Vec<String> {
        let long_ago = self.trace.begun();
        let Some(view) = self.view(long_ago) else {
            return vec!["not every member, and etcd, was looked at".into()];
        };
        let agents =
            self.cluster
                .nodes()
                .iter()
                .map(|node| match (node.agent_alive(), stopped(node)) {
                    (false, _) => ", agent dead",
                    (true, true) => ", agent frozen",
                    (true, false) => "",
                });
        let lines = view.lines().into_iter().zip(agents);
        lines.map(|(line, agent)| line + agent).collect()
    }
}

fn stopped(node: &Node) -> bool {
    let process = node.agent_pid().and_then(crate::process::of);
    process.is_some_and(|process| process.state == 'T')
}

/// Some step fills or freezes a disk.
pub(super) fn wants_disks(scenario: &Scenario) -> bool {
    let disk = |step: &Step| matches!(step, Step::Freeze(Frozen::Disk, ..) | Step::FillDisk(..));
    steps(scenario).any(disk)
}

/// All steps.
pub(super) fn steps(scenario: &Scenario) -> impl Iterator<Item = &Step> {
    scenario
        .lines
        .iter()
        .filter_map(|line| match &line.statement {
            Statement::Step(step) => Some(step),
            Statement::Let { .. } | Statement::Expect(_) => None,
        })
}

/// Each member's data directory goes to a disk of its own. What else it has, its log, its sockets, stays where
/// it was.
fn disks(cluster: &mut TestCluster) -> Result<Vec<Disk>, String> {
    let names: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|n| n.name().to_owned())
        .collect();
    let mut disks = Vec::new();
    for name in names {
        let image = cluster.dir().join(format!("{name}.disk"));
        let at = cluster.node(&name).dir().join("disk");
        let disk = Disk::make(&image, &at)?;
        cluster.at_end(&disk.at_end());
        let data: Value = json!({"postgresql": {"data_dir": at.join("data")}});
        cluster.node_mut(&name).change_config(&data);
        disks.push(disk);
    }
    Ok(disks)
}
