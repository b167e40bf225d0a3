//! From the configuration as people write it to what each hand wants to know.

use pgherd_dcs as dcs;
use pgherd_ha::Identity;
use pgherd_instance as instance;
use pgherd_model::{Settings, Version};
use pgherd_peer::{PeerError, PeerOptions, Peers};
use pgherd_wire::patroni::config::{
    self, BootstrapMethod, BootstrapRecovery, Credentials, Effective, EffectivePostgres,
    InitdbOption, NodeConfig, ReplicaMethod,
};
use pgherd_wire::patroni::{dcs as wire, keys};
use std::io::ErrorKind;

use crate::clock;

/// The version that others see: they parse it (contract: patroni-dcs, section 2).
pub(crate) const PATRONI_VERSION: Version = Version(4, 1, 5);

/// The same as text.
pub(crate) fn patroni_version() -> String {
    let Version(major, minor, patch) = PATRONI_VERSION;
    format!("{major}.{minor}.{patch}")
}

/// Other agents, over connections of their own: those of one pool are driven by whoever opened them,
/// so that no two threads may share it.
pub(crate) fn peers(node: &NodeConfig) -> Result<Peers, PeerError> {
    Peers::new(&PeerOptions::new(&node.ctl, true, clock::now))
}

/// What holds now: local and dynamic configuration (JSON text; empty: none) joined.
pub(crate) fn effective(node: &NodeConfig, dynamic: &str) -> Effective {
    let dynamic = serde_json::from_str(dynamic).ok();
    config::effective(node, dynamic.as_ref())
}

/// The dynamic configuration to begin with, until `config` in etcd says more: what this node last
/// took from there, else what it would store in a new cluster (contract: patroni-config, section 1).
pub(crate) fn kept_config(node: &NodeConfig) -> String {
    let path = node.postgresql.data_dir.join("patroni.dynamic.json");
    match std::fs::read_to_string(&path) {
        Ok(text) if wire::config_from_text(&text).is_object => return text,
        Ok(_) => tracing::warn!("{}: no JSON object, ignored", path.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("{}: cannot be read, ignored: {error}", path.display()),
    }
    match &node.bootstrap.dcs {
        _ if !node.bootstrap.configured => String::new(),
        serde_json::Value::Object(dcs) => serde_json::Value::Object(dcs.clone()).to_string(),
        _ => "{}".to_owned(),
    }
}

/// For the lock service.
pub(crate) fn store(node: &NodeConfig, settings: &Settings, leases: dcs::Leases) -> dcs::Options {
    let prefix = keys::prefix(&node.namespace, &node.scope);
    let lives = (settings.ttl, settings.lease_ttl);
    let options = dcs::Options::new(&node.etcd3, prefix, node.name.clone(), lives, clock::now);
    dcs::Options { leases, ..options }
}

/// What does not change about the local PostgreSQL.
pub(crate) fn postgres(node: &NodeConfig, effective: &EffectivePostgres) -> instance::Options {
    let postgres = &node.postgresql;
    let mut options = instance::Options::new(
        &node.scope,
        node.name.as_str(),
        postgres.data_dir.clone(),
        (&postgres.listen.addresses, postgres.listen.port),
        credentials(&postgres.authentication.superuser),
        credentials(&postgres.authentication.replication),
    );
    options.config_dir = Some(postgres.config_dir.clone());
    options.config_base_name = postgres.config_base_name.clone();
    options.bin_dir = postgres.bin_dir.clone();
    options.bin_name = postgres.bin_name.clone();
    options.connect_host = postgres.connect_address.host.clone();
    options.connect_port = postgres.connect_address.port;
    options.rewind = postgres.authentication.rewind.as_ref().map(credentials);
    if let Some(pgpass) = &postgres.pgpass {
        options.pgpass = pgpass.clone();
    }
    options.database = postgres.database.clone();
    options.use_unix_socket = postgres.use_unix_socket;
    options.use_unix_socket_repl = postgres.use_unix_socket_repl;
    options.krbsrvname = postgres.krbsrvname.clone();
    options.initdb = node.bootstrap.initdb.iter().map(initdb_option).collect();
    options.bootstrap_pg_hba = node.bootstrap.pg_hba.clone();
    options.bootstrap_method = node.bootstrap.method.as_ref().map(bootstrap_method);
    options.post_bootstrap = node.bootstrap.post_bootstrap.clone();
    options.replica_methods = effective.methods.iter().map(replica_method).collect();
    if let Some(far) = &effective.far {
        options.far_methods = far.methods.iter().map(replica_method).collect();
    }
    options.basebackup = effective
        .basebackup
        .iter()
        .map(|option| program_option(&option.name, option.value.as_ref()))
        .collect();
    options
}

fn bootstrap_method(method: &BootstrapMethod) -> instance::BootstrapMethod {
    instance::BootstrapMethod {
        method: instance::Method {
            name: method.name.clone(),
            command: method.command.clone(),
            no_params: method.no_params,
            arguments: method.arguments.clone(),
        },
        recovery: match &method.recovery {
            BootstrapRecovery::Crash => instance::Recovery::Crash,
            BootstrapRecovery::Kept => instance::Recovery::Kept,
            BootstrapRecovery::Given(settings) => instance::Recovery::Given(settings.clone()),
        },
    }
}

fn replica_method(method: &ReplicaMethod) -> instance::ReplicaMethod {
    match method {
        ReplicaMethod::Basebackup => instance::ReplicaMethod::Basebackup,
        ReplicaMethod::Custom {
            name,
            command,
            no_params,
            no_leader,
            keep_data,
            arguments,
        } => instance::ReplicaMethod::Custom {
            method: instance::Method {
                name: name.clone(),
                command: command.clone(),
                no_params: *no_params,
                arguments: arguments.clone(),
            },
            no_leader: *no_leader,
            keep_data: *keep_data,
        },
    }
}

fn initdb_option(option: &InitdbOption) -> instance::ProgramOption {
    program_option(&option.name, option.value.as_ref())
}

fn program_option(name: &str, value: Option<&String>) -> instance::ProgramOption {
    match value {
        Some(value) => instance::ProgramOption::Value(name.to_owned(), value.clone()),
        None => instance::ProgramOption::Flag(name.to_owned()),
    }
}

fn credentials(from: &Credentials) -> instance::Credentials {
    instance::Credentials {
        username: Some(from.username.clone()),
        password: from.password.clone(),
        sslpassword: from.sslpassword.clone(),
        settings: from.options.clone(),
    }
}

/// Whether logical slots need the feedback of this standby, before it is known who else is there: were it off for a
/// moment, the leader would let go what they need.
pub(crate) fn feedback(node: &NodeConfig, effective: &Effective) -> bool {
    let settings = &effective.settings;
    let slots = settings.use_slots && !settings.logical_slots.is_empty();
    slots && !node.tags.nostream
}

/// What may change about it. With `feedback` a standby tells whom it streams from what it needs, whatever is configured.
pub(crate) fn server(
    node: &NodeConfig,
    effective: &Effective,
    dynamic: Option<&str>,
    feedback: bool,
) -> instance::ServerConfig {
    let far = effective.settings.standby_cluster.as_ref();
    let effective = &effective.postgresql;
    let mut parameters = effective.parameters.clone();
    if feedback {
        parameters.insert("hot_standby_feedback".to_owned(), "on".to_owned());
    }
    instance::ServerConfig {
        parameters,
        pg_hba: effective.pg_hba.clone(),
        pg_ident: effective.pg_ident.clone(),
        custom_conf: node
            .postgresql
            .custom_conf
            .as_ref()
            .map(|path| path.display().to_string()),
        recovery: effective.recovery_conf.clone(),
        far: far
            .zip(effective.far.as_ref())
            .map(|(cluster, far)| instance::Far {
                places: cluster.places.clone(),
                recovery: far.recovery_of_leader.clone(),
            }),
        dynamic_json: dynamic.map(str::to_owned),
    }
}

/// What this node publishes about itself whatever happens.
pub(crate) fn identity(node: &NodeConfig, effective: &EffectivePostgres) -> Identity {
    let address = &node.postgresql.connect_address;
    Identity {
        conn_url: node.conn_url(),
        address: Some((address.host.clone(), address.port)),
        api_url: node.api_url(),
        proxy_url: node.proxy_url(),
        version: PATRONI_VERSION,
        tags: node.tags.clone(),
        may_bootstrap: node.bootstrap.configured,
        custom_bootstrap: node.bootstrap.method.is_some(),
        copies_alone: effective.methods.iter().any(|method| {
            matches!(
                method,
                ReplicaMethod::Custom {
                    no_leader: true,
                    ..
                }
            )
        }),
        leader_key: keys::prefix(&node.namespace, &node.scope) + &keys::Key::Leader.path(),
        data_dir: node.postgresql.data_dir.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_hold_in_a_new_cluster_holds_until_etcd_says_more() {
        let node = |bootstrap: &str| {
            let text = format!(
                "
scope: demo
name: n1
restapi: {{listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}}
etcd3: {{hosts: '127.0.0.1:2379'}}
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /nonexistent
  authentication: {{superuser: {{username: postgres}}, replication: {{username: repl}}}}
{bootstrap}
"
            );
            let env = [("PATRONI_CONFIGURATION".to_owned(), text)];
            config::load_environment(&env.into()).unwrap().node
        };
        let custom = "method: mine, mine: {command: /bin/true}";
        for (bootstrap, kept) in [
            ("", ""),
            ("bootstrap: {dcs: {ttl: 40}}", r#"{"ttl":40}"#),
            ("bootstrap: {initdb: [data-checksums]}", "{}"),
            (
                &format!("bootstrap: {{{custom}, dcs: {{ttl: 40}}}}"),
                r#"{"ttl":40}"#,
            ),
        ] {
            assert_eq!(kept_config(&node(bootstrap)), kept, "{bootstrap}");
        }
    }
}
