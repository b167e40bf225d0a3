//! Section `postgresql` of a node.

use super::ConfigError;
use super::effective::is_owned;
use super::node::*;
use super::read::{address, connect_address};
use super::read_bootstrap::options;
use super::section::Section;
use super::yaml::{Data, Node};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, ConfigError>;

/// Keys that may also come from the dynamic configuration, apart from sections of methods.
const SHARED: &[&str] = &[
    "parameters",
    "pg_hba",
    "pg_ident",
    "recovery_conf",
    "create_replica_methods",
    "create_replica_method",
    "basebackup",
    "callbacks",
    "pre_promote",
    "before_stop",
    "use_pg_rewind",
    "remove_data_directory_on_rewind_failure",
    "remove_data_directory_on_diverged_timelines",
    "pg_ctl_timeout",
];

pub(super) fn postgresql(section: &Section<'_>) -> Result<Postgresql> {
    let listen = listen(section)?;
    let first = listen.addresses.split(',').next().unwrap_or_default();
    let first = HostPort {
        host: first.trim().to_owned(),
        port: listen.port,
    };
    let data_dir = section.path("data_dir")?;
    let data_dir = data_dir.ok_or_else(|| section.missing("data_dir", "a directory"))?;
    let config_dir = section.path("config_dir")?;
    let base_name = section.text("config_base_name")?;
    let database = section.text("database")?.filter(|name| !name.is_empty());
    let config = Postgresql {
        connect_address: connect_address(section, &first, 5432)?,
        listen,
        proxy_address: address(section, "proxy_address", 5432)?,
        config_dir: config_dir.unwrap_or_else(|| data_dir.clone()),
        data_dir,
        config_base_name: base_name.unwrap_or_else(|| "postgresql".into()),
        custom_conf: section.path("custom_conf")?,
        bin_dir: section.path("bin_dir")?,
        bin_name: section.texts("bin_name")?,
        pgpass: section.path("pgpass")?,
        authentication: authentication(&section.child("authentication")?)?,
        use_unix_socket: section.flag("use_unix_socket")?.unwrap_or(false),
        use_unix_socket_repl: section.flag("use_unix_socket_repl")?.unwrap_or(false),
        database: database.unwrap_or_else(|| "postgres".into()),
        krbsrvname: section.text("krbsrvname")?,
        shared: shared(section)?,
    };
    if section.node("use_slots").is_some() {
        let what = "ignored, it is only taken from the dynamic configuration";
        section.warn_at("use_slots", what);
    }
    section.finish();
    Ok(config)
}

/// `addr[,addr…]:port`
fn listen(section: &Section<'_>) -> Result<Listen> {
    let text = section.required_text("listen")?;
    let wrong = || {
        section.error(
            "listen",
            format!("expected ADDRESS[,…]:PORT, found {text:?}"),
        )
    };
    let (addresses, port) = match text.rsplit_once(':') {
        Some((addresses, port)) if !port.ends_with(']') => {
            (addresses, port.parse().map_err(|_| wrong())?)
        }
        _ => (text.as_str(), 5432),
    };
    let addresses = addresses.split(',').map(|address| {
        let address = address.trim().trim_start_matches('[').trim_end_matches(']');
        address.to_owned()
    });
    let addresses: Vec<String> = addresses.filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(wrong());
    }
    Ok(Listen {
        addresses: addresses.join(","),
        port,
    })
}

fn authentication(section: &Section<'_>) -> Result<Authentication> {
    let rewind = section.child("rewind")?;
    let authentication = Authentication {
        superuser: credentials(&section.child("superuser")?)?,
        replication: credentials(&section.child("replication")?)?,
        rewind: match rewind.present {
            true => Some(credentials(&rewind)?),
            false => None,
        },
    };
    section.finish();
    Ok(authentication)
}

fn credentials(section: &Section<'_>) -> Result<Credentials> {
    const OPTIONS: &[&str] = &[
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslcrldir",
        "gssencmode",
        "channel_binding",
        "sslnegotiation",
    ];
    let mut given = BTreeMap::new();
    for option in OPTIONS {
        if let Some(value) = section.text(option)? {
            given.insert((*option).to_owned(), value);
        }
    }
    let credentials = Credentials {
        username: section.required_text("username")?,
        password: section.secret("password")?,
        sslpassword: section.secret("sslpassword")?,
        options: given,
    };
    section.finish();
    Ok(credentials)
}

/// Checks types here, where file and line are known; [`super::effective`] reads the values.
fn shared(section: &Section<'_>) -> Result<Map<String, Value>> {
    parameters(section)?;
    for list in ["pg_hba", "pg_ident"] {
        section.lines(list)?;
    }
    section.texts("recovery_conf")?;
    let methods = match section.words("create_replica_methods")? {
        Some(methods) => methods,
        None => section.words("create_replica_method")?.unwrap_or_default(),
    };
    options(section, "basebackup")?;
    let callbacks = section.child("callbacks")?;
    for callback in [
        "on_start",
        "on_stop",
        "on_restart",
        "on_reload",
        "on_role_change",
    ] {
        callbacks.text(callback)?;
    }
    callbacks.finish();
    for script in ["pre_promote", "before_stop"] {
        section.text(script)?;
    }
    for flag in [
        "use_pg_rewind",
        "remove_data_directory_on_rewind_failure",
        "remove_data_directory_on_diverged_timelines",
    ] {
        section.flag(flag)?;
    }
    section.span("pg_ctl_timeout")?;
    let mut shared = Map::new();
    for key in section.keys() {
        let Some(node) = section.node_if(key, |node| is_shared(key, node, &methods)) else {
            continue;
        };
        shared.insert(key.to_owned(), node.to_json());
    }
    Ok(shared)
}

/// Sections of methods have any name: those that `create_replica_methods` lists, or that hold a
/// command (the list may come from the dynamic configuration).
fn is_shared(key: &str, node: &Node, methods: &[String]) -> bool {
    SHARED.contains(&key)
        || methods.iter().any(|method| method == key)
        || node.entry("command").is_some()
}

fn parameters(section: &Section<'_>) -> Result<()> {
    let parameters = section.child("parameters")?;
    for name in parameters.keys() {
        let Some(node) = parameters.node(name) else {
            continue;
        };
        if matches!(node.data, Data::List(_) | Data::Map(_)) {
            return Err(parameters.wrong(name, "text, a number or a boolean"));
        }
        if is_owned(&name.to_ascii_lowercase()) {
            let what = "ignored, it is only taken from the dynamic configuration";
            parameters.warn_at(name, what);
        }
    }
    Ok(())
}
