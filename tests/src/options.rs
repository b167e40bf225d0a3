//! What a test asks for: kinds of members, dynamic settings, additions to the node files.

use crate::net::Network;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which program keeps a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `pgherd agent NODE.yml`.
    Pgherd,
    /// Genuine Patroni, from [`crate::oracle::patroni`].
    Patroni,
    /// Another command that takes the node file as its last argument (benchmarks).
    Command(Vec<String>),
}

/// One member.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Member name.
    pub name: String,
    /// Program that keeps it.
    pub kind: Kind,
    /// Merged into the node file last (`null` removes a key).
    pub config: Value,
}

impl NodeOptions {
    /// A member without particularities.
    pub fn new(name: &str, kind: Kind) -> Self {
        NodeOptions {
            name: name.to_owned(),
            kind,
            config: json!({}),
        }
    }

    /// Merges `patch` into this member's node file.
    #[must_use]
    pub fn with(mut self, patch: Value) -> Self {
        crate::yaml::merge(&mut self.config, &patch);
        self
    }
}

/// A cluster.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Members, `n1` to `n3` by default.
    pub nodes: Vec<NodeOptions>,
    /// `bootstrap.dcs`; default: ttl 20, loop_wait 2, retry_timeout 5, pg_rewind on, and
    /// `pgherd.lease_ttl: 5`.
    pub dcs: Value,
    /// Merged into every node file (`null` removes a key).
    pub config: Value,
    /// `restapi.authentication`, if any: user and password.
    pub rest_auth: Option<(String, String)>,
    /// Members live in network namespaces of their own on this bridge.
    pub network: Option<Network>,
    /// Directory below which the cluster's own directory is made; default: see
    /// [`crate::process::scratch_dir`] (memory where there is enough of it).
    pub base_dir: Option<PathBuf>,
    /// What passwords are made of; default: the name of the cluster. Two clusters with the same data have the same.
    pub secrets: Option<String>,
    /// `PGHERD_BIN` or a fresh build if `None`.
    pub pgherd: Option<PathBuf>,
}

impl ClusterOptions {
    /// Three members, `n1` to `n3`, of the given kind.
    pub fn new(kind: Kind) -> Self {
        Self::with_kinds(&[kind.clone(), kind.clone(), kind])
    }

    /// `n1`, `n2`, ... of the given kinds.
    pub fn with_kinds(kinds: &[Kind]) -> Self {
        let nodes = (1..)
            .zip(kinds)
            .map(|(i, k)| NodeOptions::new(&format!("n{i}"), k.clone()));
        ClusterOptions {
            nodes: nodes.collect(),
            dcs: json!({
                "ttl": 20,
                "loop_wait": 2,
                "retry_timeout": 5,
                "maximum_lag_on_failover": 1_048_576,
                "pgherd": {"lease_ttl": 5},
                "postgresql": {"use_pg_rewind": true, "parameters": {"max_connections": 60}},
            }),
            config: json!({}),
            rest_auth: None,
            network: None,
            base_dir: None,
            secrets: None,
            pgherd: None,
        }
    }

    /// Merges `patch` into the dynamic settings.
    #[must_use]
    pub fn dcs(mut self, patch: Value) -> Self {
        crate::yaml::merge(&mut self.dcs, &patch);
        self
    }

    /// Merges `patch` into every node file.
    #[must_use]
    pub fn config(mut self, patch: Value) -> Self {
        crate::yaml::merge(&mut self.config, &patch);
        self
    }

    /// Merges `patch` into the node file of one member.
    ///
    /// # Panics
    /// When there is no such member.
    #[must_use]
    pub fn node(mut self, name: &str, patch: Value) -> Self {
        let node = self
            .nodes
            .iter_mut()
            .find(|n| n.name == name)
            .expect("a member of this name");
        crate::yaml::merge(&mut node.config, &patch);
        self
    }

    /// Members in namespaces of their own.
    #[must_use]
    pub fn network(mut self, network: &Network) -> Self {
        self.network = Some(network.clone());
        self
    }

    /// Sets the REST user and password.
    #[must_use]
    pub fn rest_auth(mut self, user: &str, password: &str) -> Self {
        self.rest_auth = Some((user.to_owned(), password.to_owned()));
        self
    }
}
