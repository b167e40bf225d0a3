//! The configuration read again, on SIGHUP or `POST /reload`: what can change does, without touching
//! the lock, and what cannot is told. A configuration with an error changes nothing.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use pgherd_dcs::{Leases, Store};
use pgherd_model::Settings;
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{self, ConfigError, Journal, Loaded, NodeConfig};
use tokio::sync::{mpsc, oneshot};

use crate::configured::Configured;
use crate::event::Event;
use crate::service::Service;
use crate::{logging, rest, settings};

/// Longest read of the files, and longest opening of the log's: they may lie on a disk that hangs.
const READ: Duration = Duration::from_secs(10);

/// What is asked of the [`Reloader`].
pub(crate) enum Request {
    /// To read the configuration again.
    Reload,
    /// To serve nobody any more: another program does, at these sockets.
    GiveUp(oneshot::Sender<Vec<TcpListener>>),
}

/// Where it is asked.
pub(crate) type Requests = mpsc::UnboundedSender<Request>;

/// Where the configuration comes from.
#[derive(Clone)]
pub(crate) struct Source {
    /// File or directory; `None`: the environment alone.
    pub(crate) path: Option<PathBuf>,
    /// The environment of the agent, which does not change.
    pub(crate) env: BTreeMap<String, String>,
}

impl Source {
    /// Reads it.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        match &self.path {
            Some(path) => config::load(path, &self.env),
            None => config::load_environment(&self.env),
        }
    }
}

/// What takes effect in the loop.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) node: NodeConfig,
    pub(crate) peers: Peers,
}

/// The hands that are told beside the loop.
pub(crate) struct Reloader {
    pub(crate) source: Source,
    /// What is told of it.
    pub(crate) configured: Arc<Configured>,
    /// What holds now.
    pub(crate) node: NodeConfig,
    /// What was said of it.
    pub(crate) warnings: Vec<String>,
    /// Only for the lives of leases, which the loop sets.
    pub(crate) settings: Settings,
    pub(crate) server: rest::Server,
    pub(crate) store: Store,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) service: Service,
}

impl Reloader {
    /// Until nobody can ask any more, or another program serves.
    pub(crate) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(first) = requests.recv().await {
            // Several at once are one.
            let others = std::iter::from_fn(|| requests.try_recv().ok());
            for request in std::iter::once(first).chain(others) {
                if let Request::GiveUp(answer) = request {
                    answer.send(self.server.give_up().await).ok();
                    return;
                }
            }
            self.service.reloading();
            let reloaded = self.reload().await;
            self.service.ready();
            if let Err(error) = reloaded {
                self.configured.refuse(&format!("{error:#}"));
                tracing::error!(
                    "the configuration was not reloaded, the one of before holds: {error:#}"
                );
            }
        }
    }

    /// First everything that can fail, then what cannot.
    async fn reload(&mut self) -> Result<()> {
        let source = self.source.clone();
        let loaded = by_deadline(move || source.load(), "it could not be read").await??;
        let mut node = loaded.node;
        let fixed = keep_fixed(&self.node, &mut node);
        let (peers, others) = (settings::peers(&node)?, settings::peers(&node)?);
        let store = settings::store(&node, &self.settings, Leases::default());
        Store::check(&store)?;
        let log = node.log.clone();
        let log = by_deadline(
            move || logging::prepare(&log),
            "log.dir: the file could not be opened",
        );
        let log = log.await?.map_err(anyhow::Error::msg)?;
        self.server.reload(&node.restapi, others).await?;
        self.store.change(store)?;
        logging::change(log);
        for warning in &loaded.warnings {
            if !self.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        for warning in fixed {
            tracing::warn!("{warning}");
        }
        match changed(&self.node, &node).as_slice() {
            [] => tracing::info!("the configuration was reloaded, nothing in it has changed"),
            names => tracing::info!(
                "the configuration was reloaded, changed: {}",
                names.join(", ")
            ),
        }
        self.configured.change(&loaded.givens);
        self.warnings = loaded.warnings;
        self.node = node.clone();
        let reloaded = Box::new(Reloaded { node, peers });
        self.events.send(Event::Reloaded(reloaded)).ok();
        Ok(())
    }
}

/// What may wait for a disk, which may hang.
async fn by_deadline<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    not: &'static str,
) -> Result<T> {
    let work = tokio::time::timeout(READ, tokio::task::spawn_blocking(work)).await;
    work.with_context(|| format!("{not} within {} s", READ.as_secs()))?
        .context("reading it was interrupted")
}

/// Puts back what does not change while the agent runs; one line for each such key that is another.
fn keep_fixed(old: &NodeConfig, new: &mut NodeConfig) -> Vec<String> {
    fn keep<T: Clone + PartialEq>(
        key: &str,
        old: &T,
        new: &mut T,
        shown: impl Fn(&T) -> String,
        told: &mut Vec<String>,
    ) {
        if old == new {
            return;
        }
        let (before, after) = (shown(old), shown(new));
        told.push(format!(
            "{key}: {after} in the configuration takes effect when the agent is started anew; until then {before} holds"
        ));
        *new = old.clone();
    }
    let mut told = Vec::new();
    let path = |path: &PathBuf| path.display().to_string();
    // By default it lies where the data do.
    if new.postgresql.config_dir == new.postgresql.data_dir
        && old.postgresql.config_dir == old.postgresql.data_dir
    {
        new.postgresql.config_dir = old.postgresql.config_dir.clone();
    }
    keep(
        "scope",
        &old.scope,
        &mut new.scope,
        String::clone,
        &mut told,
    );
    keep(
        "name",
        &old.name,
        &mut new.name,
        |name| name.to_string(),
        &mut told,
    );
    keep(
        "namespace",
        &old.namespace,
        &mut new.namespace,
        String::clone,
        &mut told,
    );
    let (was, is) = (&old.postgresql, &mut new.postgresql);
    let key = "postgresql.data_dir";
    keep(key, &was.data_dir, &mut is.data_dir, path, &mut told);
    let key = "postgresql.config_dir";
    keep(key, &was.config_dir, &mut is.config_dir, path, &mut told);
    let key = "postgresql.config_base_name";
    keep(
        key,
        &was.config_base_name,
        &mut is.config_base_name,
        String::clone,
        &mut told,
    );
    let key = "pgherd.journal";
    let (was, is) = (&old.pgherd.journal, &mut new.pgherd.journal);
    keep(key, was, is, Journal::to_string, &mut told);
    told
}

/// Names of the sections that differ.
fn changed(old: &NodeConfig, new: &NodeConfig) -> Vec<&'static str> {
    let sections = [
        ("log", old.log != new.log),
        ("restapi", old.restapi != new.restapi),
        ("ctl", old.ctl != new.ctl),
        ("etcd3", old.etcd3 != new.etcd3),
        ("bootstrap", old.bootstrap != new.bootstrap),
        ("postgresql", old.postgresql != new.postgresql),
        ("tags", old.tags != new.tags),
        ("watchdog", old.watchdog != new.watchdog),
        ("pgherd", old.pgherd != new.pgherd),
    ];
    let differ = sections.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> NodeConfig {
        let env = [("PATRONI_CONFIGURATION".to_owned(), text.to_owned())];
        let env = BTreeMap::from(env);
        Source { path: None, env }.load().unwrap().node
    }

    const FIRST: &str = "\
scope: demo
name: n1
restapi: {listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}
etcd3: {hosts: '127.0.0.1:2379'}
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /d
  authentication: {superuser: {username: postgres}, replication: {username: repl}}
";

    #[test]
    fn what_cannot_change_stays_and_is_told() {
        let old = node(FIRST);
        let text = FIRST
            .replace("demo", "other")
            .replace("n1", "n2")
            .replace("/d\n", "/e\n  config_base_name: pg\n")
            + "namespace: /x\ntags: {nofailover: true}\npgherd: {journal: /j}\n";
        let mut new = node(&text);
        let told = keep_fixed(&old, &mut new);
        let line = |key: &str, after: &str, before: &str| {
            format!(
                "{key}: {after} in the configuration takes effect when the agent is started anew; until then {before} holds"
            )
        };
        assert_eq!(
            told,
            [
                line("scope", "other", "demo"),
                line("name", "n2", "n1"),
                line("namespace", "/x", "/service"),
                line("postgresql.data_dir", "/e", "/d"),
                line("postgresql.config_base_name", "pg", "postgresql"),
                line("pgherd.journal", "/j", "the default"),
            ]
        );
        assert_eq!(changed(&old, &new), ["tags"]);
        assert!(new.tags.nofailover);
        let mut elsewhere = node(&FIRST.replace("/d\n", "/d\n  config_dir: /c\n"));
        assert_eq!(
            keep_fixed(&old, &mut elsewhere),
            [line("postgresql.config_dir", "/c", "/d")]
        );
        assert_eq!(changed(&old, &elsewhere), Vec::<&str>::new());
        // All of them, as others are told.
        let kept = config::KEPT_UNTIL_START.iter().map(|path| path.join("."));
        let mut kept: Vec<String> = kept.collect();
        let line = |line: &String| line.split(':').next().unwrap().to_owned();
        let mut here: Vec<String> = told.iter().map(line).collect();
        here.push("postgresql.config_dir".to_owned());
        kept.sort();
        here.sort();
        assert_eq!(here, kept);
    }
}
