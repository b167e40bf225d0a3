//! Steps of a scenario as signals, dropped packets, requests and the like.

use super::settings;
use super::world::{World, steps};
use crate::etcd::CABLES;
use crate::process::signal;
use crate::sql::{self, Target};
use crate::{Node, Signal, rest};
use pgherd_scenario::words::{EtcdPart, Frozen, Place, Scenario, Starter, Step, Victim};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// An order of an operator that is answered at once.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether packets are dropped in it.
pub(super) fn drops_packets(scenario: &Scenario) -> bool {
    steps(scenario).any(|step| matches!(step, Step::Cut { .. }))
}

impl World {
    /// Does it; `nodes`: whom [`Step::named`] names. Time and writers are the player's business.
    pub(super) async fn perform(&mut self, step: &Step, nodes: &[usize]) -> Result<(), String> {
        let node = nodes.first().copied().unwrap_or(0);
        match step {
            Step::Start => self.cluster.start_all(),
            Step::Wait(_) | Step::Writers(_) => {}
            Step::Kill(victim, _) => self.kill(*victim, node)?,
            Step::StartAgain(starter, _) => self.start_again(*starter, node)?,
            Step::Freeze(Frozen::Disk, _, true) => self.disk(node)?.freeze()?,
            Step::Freeze(Frozen::Disk, _, false) => self.disk(node)?.thaw(),
            Step::Freeze(what, _, frozen) => self.freeze(*what, node, *frozen)?,
            Step::FillDisk(_, true) => {
                self.disk(node)?.fill()?;
                self.need_room();
            }
            Step::FillDisk(_, false) => self.disk(node)?.clear(),
            Step::Cut {
                from,
                to,
                both_ways,
            } => self.cut(from, to, *both_ways, nodes),
            Step::HealNetwork => self.network.let_pass(),
            Step::KillEtcd(part) => self.kill_etcd(*part).await,
            Step::StartEtcd => self.start_etcd(),
            Step::Switchover(to) => {
                let leader = self.leader().ok_or("nobody holds the lock")?;
                let mut body = json!({"leader": self.node(leader).name()});
                if to.is_some() {
                    body["candidate"] = json!(self.node(node).name());
                }
                self.order(self.asked()?, "/switchover", &body);
            }
            Step::Failover(_) => {
                let body = json!({"candidate": self.node(node).name()});
                self.order(self.asked()?, "/failover", &body);
            }
            Step::Restart(_) => self.order(node, "/restart", &json!({})),
            Step::Reinitialize(_) => self.order(node, "/reinitialize", &json!({})),
            Step::Upgrade(_) => {
                self.replace_program()?;
                self.order(node, "/pgherd/upgrade", &json!({}));
            }
            Step::Pause(pause) => {
                self.configure(&json!({"pause": pause})).await?;
                self.paused = *pause;
            }
            Step::Set(wanted) => self.configure(&settings::document(wanted)).await?,
            Step::SetParameter { name, value } => {
                let mut parameters = json!({});
                parameters[name.as_str()] = json!(value);
                let patch = json!({"postgresql": {"parameters": parameters}});
                self.configure(&patch).await?;
            }
        }
        Ok(())
    }

    fn kill(&mut self, victim: Victim, node: usize) -> Result<(), String> {
        let member = self.node(node);
        let name = member.name();
        match victim {
            Victim::Agent if !member.agent_alive() => {
                return Err(format!("the agent of {name} does not run"));
            }
            Victim::Agent => {
                member.kill_agent();
                self.ended[node] = true;
            }
            Victim::Guard if !member.signal_guard(Signal::KILL) => {
                return Err(format!("{name} has no guard"));
            }
            Victim::Postmaster if !member.signal_postmaster(Signal::KILL) => {
                return Err(format!("PostgreSQL of {name} does not run"));
            }
            Victim::Guard | Victim::Postmaster => {}
            Victim::Postgres if member.postmaster_pid().is_none() => {
                return Err(format!("PostgreSQL of {name} does not run"));
            }
            Victim::Postgres => member.kill_postgres(),
            Victim::Node if self.dark[node] => {
                return Err(format!("the machine of {name} has no power already"));
            }
            Victim::Node => {
                member.lose_power();
                self.dark[node] = true;
            }
        }
        Ok(())
    }

    fn start_again(&mut self, starter: Starter, node: usize) -> Result<(), String> {
        let member = self.node(node);
        match starter {
            Starter::Node if !self.dark[node] => {
                return Err(format!("the machine of {} has power", member.name()));
            }
            Starter::Agent if member.agent_alive() || self.dark[node] => {
                let name = member.name();
                return Err(format!("the agent of {name} runs, or cannot"));
            }
            Starter::Node => member.regain_power(),
            Starter::Agent => member.start(),
        }
        self.dark[node] = false;
        self.ended[node] = false;
        Ok(())
    }

    fn freeze(&self, what: Frozen, node: usize, frozen: bool) -> Result<(), String> {
        let member = self.node(node);
        let name = match what {
            Frozen::Agent => "agent",
            Frozen::Guard => "guard",
            Frozen::Postmaster => "postmaster",
            Frozen::Walreceiver => "walreceiver",
            Frozen::Disk => "disk",
        };
        let pids = match what {
            Frozen::Agent => Vec::from_iter(member.agent_pid()),
            Frozen::Guard => member.guards(),
            Frozen::Postmaster => Vec::from_iter(member.postmaster_pid()),
            Frozen::Walreceiver => walreceivers(member),
            Frozen::Disk => Vec::new(),
        };
        let to = if frozen { Signal::STOP } else { Signal::CONT };
        let told = pids.iter().filter(|pid| signal(**pid, to)).count();
        // What was frozen may have been killed meanwhile: no need to thaw it.
        match frozen && told == 0 {
            true => Err(format!("{} has no {name}", member.name())),
            false => Ok(()),
        }
    }

    fn cut(&self, from: &Place, to: &Place, both_ways: bool, nodes: &[usize]) {
        let mut members = nodes.iter().copied();
        let etcd: Vec<usize> = (0..self.etcd.len()).map(|index| CABLES + index).collect();
        let mut ends = |place: &Place, other: &Place| match place {
            Place::Member(_) => members.next().into_iter().collect(),
            Place::Etcd => etcd.clone(),
            Place::Others | Place::Everybody => {
                // Whoever is at the other end; the parser wants a member at one of them.
                let there = match other {
                    Place::Member(_) => nodes.first().copied(),
                    Place::Etcd | Place::Others | Place::Everybody => None,
                };
                let others = (0..self.nodes()).filter(|node| Some(*node) != there);
                let mut all: Vec<usize> = others.collect();
                if *place == Place::Everybody {
                    all.extend(&etcd);
                }
                all
            }
        };
        let (from, to) = (ends(from, to), ends(to, from));
        for (a, b) in from.iter().flat_map(|a| to.iter().map(move |b| (*a, *b))) {
            self.network.drop_packets(a, b);
            if both_ways {
                self.network.drop_packets(b, a);
            }
        }
    }

    async fn kill_etcd(&self, part: EtcdPart) {
        let leader = self.etcd.leader().await;
        let other = (0..self.etcd.len()).find(|index| *index != leader && self.etcd.runs(*index));
        if matches!(part, EtcdPart::Leader | EtcdPart::Majority) {
            self.etcd.kill(leader);
        }
        if matches!(part, EtcdPart::Minority | EtcdPart::Majority)
            && let Some(other) = other
        {
            self.etcd.kill(other);
        }
    }

    fn start_etcd(&self) {
        for index in (0..self.etcd.len()).filter(|index| !self.etcd.runs(*index)) {
            self.etcd.restart(index);
        }
    }

    /// A request whose answer comes when all is done: the story goes on meanwhile.
    fn order(&self, node: usize, path: &'static str, body: &Value) {
        let (url, body) = (self.node(node).url(path), body.to_string());
        let (name, trace) = (self.node(node).name().to_owned(), self.trace.clone());
        tokio::spawn(async move {
            let answer = rest::request("POST", &url, None, Some(&body)).await;
            let answer = answer.map(|it| format!("{} {}", it.status, it.body.trim()));
            let answer = answer.unwrap_or_else(|error| error);
            trace.say(&format!("POST {path} to {name}, {body}: {answer}"));
        });
    }

    async fn configure(&self, patch: &Value) -> Result<(), String> {
        let node = self.node(self.asked()?);
        let patch = patch.to_string();
        let answer = timeout(ANSWER, node.request("PATCH", "/config", &patch));
        let answer = answer
            .await
            .map_err(|_| format!("PATCH /config to {}: no answer", node.name()))??;
        match answer.status {
            200 => Ok(()),
            status => Err(format!("PATCH /config, {patch}: {status} {}", answer.body)),
        }
    }

    /// As a package manager does it: another file under the same name, of another build.
    fn replace_program(&self) -> Result<(), String> {
        let program = self.cluster.dir().join("pgherd");
        let new = program.with_extension("new");
        let replaced = std::fs::copy(&program, &new).and_then(|_| {
            use std::io::Write as _;
            let mut file = std::fs::OpenOptions::new().append(true).open(&new)?;
            file.write_all(b"another build")?;
            drop(file);
            std::fs::rename(&new, &program)
        });
        replaced.map_err(|e| format!("cannot replace {}: {e}", program.display()))
    }

    /// On a busy primary WAL soon needs a new file; here it is made to.
    fn need_room(&self) {
        if let Some(leader) = self.leader() {
            let target = self.node(leader).target();
            let trace = self.trace.clone();
            tokio::spawn(async move {
                let end = timeout(ANSWER, fill_wal(&target)).await;
                let end = end.unwrap_or_else(|_| "it goes on".into());
                trace.say(&format!("WAL of {} is switched: {end}", target.name));
            });
        }
    }

    /// Ends all that steps have begun.
    pub(super) async fn heal(&mut self) -> Result<(), String> {
        self.network.let_pass();
        self.start_etcd();
        for node in 0..self.nodes() {
            if let Ok(disk) = self.disk(node) {
                disk.thaw();
                disk.clear();
            }
            for what in [
                Frozen::Agent,
                Frozen::Guard,
                Frozen::Postmaster,
                Frozen::Walreceiver,
            ] {
                self.freeze(what, node, false)?;
            }
            if self.dark[node] {
                self.start_again(Starter::Node, node)?;
            } else if self.ended[node] {
                self.start_again(Starter::Agent, node)?;
            }
        }
        if self.paused {
            self.perform(&Step::Pause(false), &[]).await?;
        }
        Ok(())
    }
}

fn walreceivers(member: &Node) -> Vec<i32> {
    let processes = member.postgres();
    let receivers = processes
        .iter()
        .filter(|it| it.cmdline.contains("walreceiver"));
    receivers.map(|it| it.pid).collect()
}

/// How that ended.
async fn fill_wal(target: &Target) -> String {
    let switch = "select pg_logical_emit_message(false, 'pgherd', ''), pg_switch_wal()";
    let client = match sql::connect(target, ANSWER).await {
        Ok(client) => client,
        Err(error) => return error,
    };
    loop {
        if let Err(error) = client.batch_execute(switch).await {
            return sql::text(&error);
        }
    }
}
