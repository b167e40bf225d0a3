//! Section `postgresql` of a node.

use super::ConfigError;
use super::effective::is_owned;
use super::node::*;
use super::read::{address, connect_address};
use super::section::Section;
use super::shape::POSTGRESQL;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

type Result<T> = std::result::Result<T, ConfigError>;

/// Keys that only count in the node's own configuration.
pub(super) const LOCAL_KEYS: &[&str] = &[
    "listen",
    "connect_address",
    "proxy_address",
    "data_dir",
    "config_dir",
    "config_base_name",
    "custom_conf",
    "bin_dir",
    "bin_name",
    "pgpass",
    "authentication",
    "use_unix_socket",
    "use_unix_socket_repl",
    "database",
    "krbsrvname",
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
        connect_address: connect_address(section, &first)?,
        listen,
        proxy_address: address(section, "proxy_address")?,
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
    let (addresses, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(wrong)?;
    let addresses = addresses.split(',').map(|address| {
        let address = address.trim().trim_start_matches('[').trim_end_matches(']');
        address.to_owned()
    });
    let addresses: Vec<String> = addresses.filter(|address| !address.is_empty()).collect();
    let clean = |address: &String| {
        address
            .chars()
            .all(|c| c.is_alphanumeric() || ".-_:%*".contains(c))
    };
    if addresses.is_empty() || !addresses.iter().all(clean) {
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
    let methods = check_shared(section)?;
    let parameters = section.child("parameters")?;
    for name in parameters.keys() {
        if is_owned(&name.to_ascii_lowercase()) {
            let what = "ignored, it is only taken from the dynamic configuration";
            parameters.warn_at(name, what);
        }
    }
    let mut shared = Map::new();
    for key in section.keys().filter(|key| *key != "use_slots") {
        if is_shared(section, key, &methods)
            && let Some(node) = section.node(key)
        {
            shared.insert(key.to_owned(), node.to_json());
        }
    }
    Ok(shared)
}

/// Checks what the local and the dynamic `postgresql` have in common; the names of the methods.
pub(super) fn check_shared(section: &Section<'_>) -> Result<Vec<String>> {
    for (key, shape) in POSTGRESQL.iter().filter(|(key, _)| *key != "use_slots") {
        section.check(key, shape)?;
    }
    Ok(match section.words("create_replica_methods")? {
        Some(methods) => methods,
        None => section.words("create_replica_method")?.unwrap_or_default(),
    })
}

/// Sections of methods have any name: those that `create_replica_methods` lists, or that hold a
/// command (the list may come from the dynamic configuration). The key counts as known then.
pub(super) fn is_shared(section: &Section<'_>, key: &str, methods: &[String]) -> bool {
    POSTGRESQL.iter().any(|(known, _)| *known == key)
        || section
            .node_if(key, |node| {
                methods.iter().any(|method| method == key) || node.entry("command").is_some()
            })
            .is_some()
}
