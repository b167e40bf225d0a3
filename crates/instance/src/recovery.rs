//! The recovery part of postgresql.conf: whom a standby follows, and the passfile for it.

use crate::files;
use crate::parameters::Effective;
use crate::quote::{conninfo, parse_conninfo, pgpass_field};
use crate::{Credentials, Options, Result};
use pgherd_model::Upstream;
use std::collections::BTreeMap;

/// All settings of a standby's recovery part, sorted by name.
pub(crate) fn settings(
    options: &Options,
    effective: &Effective,
    upstream: Option<&Upstream>,
) -> BTreeMap<String, String> {
    let mut out = effective.recovery.clone();
    for target in ["", "_lsn", "_name", "_time", "_xid"] {
        out.insert(format!("recovery_target{target}"), String::new());
    }
    out.insert("recovery_target_timeline".to_owned(), "latest".to_owned());
    // Explicitly empty without an upstream: an included file may hold something else.
    let (connection, slot) = match upstream {
        Some(upstream) => (
            primary_conninfo(options, upstream),
            upstream.slot.clone().unwrap_or_default(),
        ),
        None => (String::new(), String::new()),
    };
    if upstream.is_none() || !slot.is_empty() {
        out.insert("primary_slot_name".to_owned(), slot);
    }
    out.insert("primary_conninfo".to_owned(), connection);
    out
}

/// The connection string of a standby, with the keys and in the order that Patroni writes.
pub(crate) fn primary_conninfo(options: &Options, upstream: &Upstream) -> String {
    let role = &options.replication;
    let mut pairs: Vec<(&str, String)> = vec![("dbname", options.database.clone())];
    pairs.extend(role.username.clone().map(|user| ("user", user)));
    if role.password.is_some() {
        pairs.push(("passfile", options.pgpass.to_string_lossy().into_owned()));
    }
    pairs.push(("host", upstream.host.clone()));
    pairs.push(("port", upstream.port.to_string()));
    let setting = |key: &str, default: &str| {
        let given = role.settings.get(key).cloned();
        given.unwrap_or_else(|| default.to_owned())
    };
    pairs.push(("sslmode", setting("sslmode", "prefer")));
    pairs.push(("application_name", options.name.0.clone()));
    pairs.push(("gssencmode", setting("gssencmode", "prefer")));
    pairs.push(("channel_binding", setting("channel_binding", "prefer")));
    for (key, value) in &role.settings {
        if !pairs.iter().any(|(known, _)| known == key) {
            pairs.push((key, value.clone()));
        }
    }
    if let Some(secret) = &role.sslpassword {
        pairs.push(("sslpassword", secret.expose().to_owned()));
    }
    pairs.extend(options.krbsrvname.clone().map(|name| ("krbsrvname", name)));
    conninfo(&pairs)
}

/// Host and port of a primary_conninfo.
pub(crate) fn upstream_of(text: &str, slot: Option<String>) -> Option<Upstream> {
    let pairs = parse_conninfo(text);
    let get = |name: &str| {
        pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    Some(Upstream {
        host: get("host").or(get("hostaddr"))?.to_owned(),
        port: get("port").map_or(Some(5432), |port| port.parse().ok())?,
        slot,
    })
}

/// One line of a passfile; None without a password.
pub(crate) fn pgpass_line(role: &Credentials, host: &str, port: u16) -> Option<String> {
    let password = role.password.as_ref()?;
    let user = role
        .username
        .as_deref()
        .map_or("*".to_owned(), pgpass_field);
    let host = if host.starts_with('/') {
        "localhost"
    } else {
        host
    };
    Some(format!(
        "{}:{port}:*:{user}:{}\n",
        pgpass_field(host),
        pgpass_field(password.expose())
    ))
}

/// Writes the passfile that primary_conninfo names.
pub(crate) fn write_pgpass(options: &Options, upstream: &Upstream) -> Result<()> {
    match pgpass_line(&options.replication, &upstream.host, upstream.port) {
        Some(line) => files::replace(&options.pgpass, &line, 0o600).map(|_| ()),
        None => Ok(()),
    }
}
