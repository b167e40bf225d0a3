//! The YAML of each member: the same file that Patroni would take.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One member.
pub(super) struct Node {
    /// `n1`, `n2`, ...
    pub(super) name: String,
    /// Port of PostgreSQL.
    pub(super) port: u16,
    /// Port of the REST API.
    pub(super) rest_port: u16,
    /// Its own directory: configuration, log, sockets, password file.
    pub(super) home: PathBuf,
    /// PostgreSQL's data directory.
    pub(super) data: PathBuf,
}

impl Node {
    /// Its configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.home.join(format!("{}.yml", self.name))
    }

    /// What its agent and PostgreSQL's start say.
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("agent.log")
    }
}

/// What all members share.
pub(super) struct Shared {
    /// Name of the cluster.
    pub(super) scope: &'static str,
    /// Client port of etcd.
    pub(super) etcd_port: u16,
    /// PostgreSQL's programs.
    pub(super) bin_dir: PathBuf,
    /// Passwords.
    pub(super) secrets: Secrets,
}

/// Passwords, made for one run.
pub(super) struct Secrets {
    pub(super) superuser: String,
    pub(super) replication: String,
    pub(super) rewind: String,
    pub(super) rest: String,
}

/// The configuration of `node`. JSON strings are YAML strings: that is how paths are quoted.
pub(super) fn yaml(shared: &Shared, node: &Node) -> String {
    let mut text = String::new();
    section_cluster(&mut text, shared, node);
    section_bootstrap(&mut text);
    section_postgresql(&mut text, shared, node);
    text
}

fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.to_string_lossy()).to_string()
}

fn section_cluster(text: &mut String, shared: &Shared, node: &Node) {
    let Shared {
        scope, etcd_port, ..
    } = shared;
    let Node {
        name, rest_port, ..
    } = node;
    let password = &shared.secrets.rest;
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\
# Made by `cargo xtask up` for one run. The keys are Patroni's.
scope: {scope}
name: {name}

restapi:
  listen: 127.0.0.1:{rest_port}
  connect_address: 127.0.0.1:{rest_port}
  authentication:
    username: pgherd
    password: \"{password}\"

etcd3:
  hosts: 127.0.0.1:{etcd_port}

"
    );
}

fn section_bootstrap(text: &mut String) {
    text.push_str(
        "\
bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    pgherd:
      lease_ttl: 5  # seconds until a dead leader's lock is free
    postgresql:
      use_pg_rewind: true
      use_slots: true
  initdb:
    - encoding: UTF8
    - locale: C.UTF-8
    - data-checksums

",
    );
}

fn section_postgresql(text: &mut String, shared: &Shared, node: &Node) {
    let port = node.port;
    let data = quoted(&node.data);
    let bin = quoted(&shared.bin_dir);
    let home = quoted(&node.home);
    let pgpass = quoted(&node.home.join("pgpass"));
    let Secrets {
        superuser,
        replication,
        rewind,
        ..
    } = &shared.secrets;
    let _ = write!(
        text,
        "\
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {data}
  bin_dir: {bin}
  pgpass: {pgpass}
  authentication:
    superuser:
      username: postgres
      password: \"{superuser}\"
    replication:
      username: replicator
      password: \"{replication}\"
    rewind:
      username: rewinder
      password: \"{rewind}\"
  parameters:
    unix_socket_directories: {home}
    password_encryption: scram-sha-256
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication replicator 127.0.0.1/32 scram-sha-256
"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_what_a_node_needs() {
        let shared = Shared {
            scope: "demo",
            etcd_port: 2379,
            bin_dir: "/usr/lib/postgresql/15/bin".into(),
            secrets: Secrets {
                superuser: "s".into(),
                replication: "r".into(),
                rewind: "w".into(),
                rest: "a".into(),
            },
        };
        let node = Node {
            name: "n2".into(),
            port: 5433,
            rest_port: 8009,
            home: "/tmp/up 1/n2".into(),
            data: "/tmp/up 1/n2/data".into(),
        };
        let text = yaml(&shared, &node);
        for line in [
            "name: n2",
            "  listen: 127.0.0.1:8009",
            "  hosts: 127.0.0.1:2379",
            "  listen: 127.0.0.1:5433",
            "  data_dir: \"/tmp/up 1/n2/data\"",
            "      lease_ttl: 5  # seconds until a dead leader's lock is free",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert!(!text.contains("trust"), "nobody gets in without a password");
    }
}
