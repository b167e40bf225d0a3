//! The recovery part of postgresql.conf: whom a standby follows, and the passfile for it.

use crate::files;
use crate::parameters::{self, Effective};
use crate::quote::{conninfo, parse_conninfo, pgpass_field};
use crate::{Credentials, Far, Options, Result};
use pgherd_model::Upstream;
use std::collections::BTreeMap;

/// All settings of a standby's recovery part, sorted by name.
pub(crate) fn settings(
    options: &Options,
    effective: &Effective,
    far: Option<&Far>,
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
    if let Some(far) = far.filter(|far| far.is(upstream)) {
        out.extend(far.recovery.clone());
    }
    if upstream.is_none() || !slot.is_empty() {
        out.insert("primary_slot_name".to_owned(), slot);
    }
    out.insert("primary_conninfo".to_owned(), connection);
    out
}

/// Recovery settings of `bootstrap.<method>.recovery_conf`: those that PostgreSQL knows. Older names are read too.
pub(crate) fn of_bootstrap(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (name, value) in given {
        match name.as_str() {
            name if parameters::is_recovery(name) => {
                settings.insert(name.to_owned(), value.clone());
            }
            // What it would be called there is a default, another name for the file `promote`, or in `standby.signal`.
            "standby_mode" | "pause_at_recovery_target" | "trigger_file" => {}
            other => tracing::warn!(
                "recovery_conf of bootstrap: {other} is no recovery setting, left out"
            ),
        }
    }
    if let Some(pause) = given.get("pause_at_recovery_target") {
        let action = if is_on(pause) { "pause" } else { "promote" };
        let action = settings
            .entry("recovery_target_action".to_owned())
            .or_insert(action.to_owned());
        action.make_ascii_lowercase();
    }
    settings
}

/// The file that makes PostgreSQL read them.
pub(crate) fn signal_of_bootstrap(given: &BTreeMap<String, String>) -> &'static str {
    match given.get("standby_mode").is_some_and(|mode| is_on(mode)) {
        true => "standby.signal",
        false => "recovery.signal",
    }
}

fn is_on(value: &str) -> bool {
    ["on", "true", "yes", "1"].contains(&value.to_ascii_lowercase().as_str())
}

/// The connection string of a standby, with the keys and in the order that Patroni writes.
pub(crate) fn primary_conninfo(options: &Options, upstream: &Upstream) -> String {
    let role = &options.replication;
    let mut pairs: Vec<(&str, String)> = vec![("dbname", options.database.clone())];
    pairs.extend(role.username.clone().map(|user| ("user", user)));
    if role.password.is_some() {
        pairs.push(("passfile", options.pgpass.to_string_lossy().into_owned()));
    }
    let (hosts, ports): (Vec<&str>, Vec<String>) = upstream
        .places()
        .map(|(host, port)| (host, port.to_string()))
        .unzip();
    pairs.push(("host", hosts.join(",")));
    pairs.push(("port", ports.join(",")));
    if !upstream.others.is_empty() {
        pairs.push(("target_session_attrs", "read-write".to_owned()));
    }
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

/// Hosts and ports of a primary_conninfo.
pub(crate) fn upstream_of(text: &str, slot: Option<String>) -> Option<Upstream> {
    let pairs = parse_conninfo(text);
    let get = |name: &str| {
        pairs
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let port = |text: &str| match text {
        "" => Some(5432),
        text => text.parse::<u16>().ok(),
    };
    let ports: Vec<u16> = get("port")
        .unwrap_or_default()
        .split(',')
        .map(port)
        .collect::<Option<_>>()?;
    // As libpq: one port for each host, or one for all.
    let hosts = get("host").or(get("hostaddr"))?.split(',').enumerate();
    let mut places = hosts.map(|(at, host)| {
        let port = ports.get(at).or(ports.last()).copied();
        (host.to_owned(), port.unwrap_or(5432))
    });
    let (host, port) = places.next()?;
    Some(Upstream {
        host,
        port,
        slot,
        others: places.collect(),
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
    let lines = upstream.places();
    let lines: Option<String> = lines
        .map(|(host, port)| pgpass_line(&options.replication, host, port))
        .collect();
    match lines {
        Some(lines) => files::replace(&options.pgpass, &lines, 0o600).map(|_| ()),
        None => Ok(()),
    }
}
