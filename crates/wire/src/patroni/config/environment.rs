//! `PATRONI_*` variables as a document to be laid over the files
//! (contract: patroni-config, section 4).

use super::ConfigError;
use super::yaml::{Data, Entry, Node, Place, parse};
use std::collections::BTreeMap;

const TOP: &[&str] = &[
    "NAME",
    "NAMESPACE",
    "SCOPE",
    "THREAD_POOL_SIZE",
    "THREAD_STACK_SIZE",
];

/// (prefix, section, names)
const SECTIONS: &[(&str, &[&str], &[&str])] = &[
    (
        "LOG_",
        &["log"],
        &[
            "TYPE",
            "LEVEL",
            "TRACEBACK_LEVEL",
            "FORMAT",
            "DATEFORMAT",
            "STATIC_FIELDS",
            "MAX_QUEUE_SIZE",
            "DIR",
            "MODE",
            "FILE_SIZE",
            "FILE_NUM",
            "LOGGERS",
            "DEDUPLICATE_HEARTBEAT_LOGS",
        ],
    ),
    (
        "RESTAPI_",
        &["restapi", "authentication"],
        &["USERNAME", "PASSWORD"],
    ),
    (
        "RESTAPI_",
        &["restapi"],
        &[
            "LISTEN",
            "CONNECT_ADDRESS",
            "CERTFILE",
            "KEYFILE",
            "KEYFILE_PASSWORD",
            "CAFILE",
            "CIPHERS",
            "VERIFY_CLIENT",
            "HTTP_EXTRA_HEADERS",
            "HTTPS_EXTRA_HEADERS",
            "ALLOWLIST",
            "ALLOWLIST_INCLUDE_MEMBERS",
            "REQUEST_QUEUE_SIZE",
            "THREAD_POOL_SIZE",
            "SERVER_TOKENS",
        ],
    ),
    (
        "CTL_",
        &["ctl", "authentication"],
        &["USERNAME", "PASSWORD"],
    ),
    (
        "CTL_",
        &["ctl"],
        &[
            "INSECURE",
            "CACERT",
            "CERTFILE",
            "KEYFILE",
            "KEYFILE_PASSWORD",
        ],
    ),
    (
        "POSTGRESQL_",
        &["postgresql"],
        &[
            "LISTEN",
            "CONNECT_ADDRESS",
            "PROXY_ADDRESS",
            "CONFIG_DIR",
            "DATA_DIR",
            "PGPASS",
            "BIN_DIR",
        ],
    ),
    (
        "POSTGRESQL_BIN_",
        &["postgresql", "bin_name"],
        &[
            "PG_CTL",
            "INITDB",
            "PG_CONTROLDATA",
            "PG_BASEBACKUP",
            "POSTGRES",
            "PG_ISREADY",
            "PG_REWIND",
        ],
    ),
    (
        "SUPERUSER_",
        &["postgresql", "authentication", "superuser"],
        CREDENTIALS,
    ),
    (
        "REPLICATION_",
        &["postgresql", "authentication", "replication"],
        CREDENTIALS,
    ),
    (
        "REWIND_",
        &["postgresql", "authentication", "rewind"],
        CREDENTIALS,
    ),
    ("ETCD3_", &["etcd3"], ETCD),
    ("ETCD_", &["etcd"], ETCD),
    ("CITUS_", &["citus"], &["GROUP", "DATABASE"]),
];

const CREDENTIALS: &[&str] = &[
    "USERNAME",
    "PASSWORD",
    "SSLMODE",
    "SSLCERT",
    "SSLKEY",
    "SSLPASSWORD",
    "SSLROOTCERT",
    "SSLCRL",
    "SSLCRLDIR",
    "GSSENCMODE",
    "CHANNEL_BINDING",
    "SSLNEGOTIATION",
];

const ETCD: &[&str] = &[
    "HOST",
    "HOSTS",
    "USE_PROXIES",
    "PROTOCOL",
    "SRV",
    "SRV_SUFFIX",
    "URL",
    "PROXY",
    "CACERT",
    "CERT",
    "KEY",
    "USERNAME",
    "PASSWORD",
];

/// Older names: (older, section key).
const OLD: &[(&str, &str)] = &[
    ("LOGLEVEL", "level"),
    ("LOGFORMAT", "format"),
    ("LOG_DATEFMT", "dateformat"),
];

/// Other lock services: their variables count as their section.
const OTHER_DCS: &[&str] = &["CONSUL", "ZOOKEEPER", "EXHIBITOR", "KUBERNETES", "RAFT"];

/// Everything that the variables say. Unknown `PATRONI_*` names give a warning.
pub(super) fn document(
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Node, ConfigError> {
    let mut root = Node {
        data: Data::Map(Vec::new()),
        place: Place {
            source: "environment".into(),
            line: None,
        },
    };
    let variables = env
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("PATRONI_")?, value)))
        .filter(|(_, value)| !value.is_empty());
    // Older names come first, so that newer ones win.
    let (old, new): (Vec<_>, Vec<_>) =
        variables.partition(|(name, _)| OLD.iter().any(|(old, _)| old == name));
    for (name, value) in old.into_iter().chain(new) {
        match target(name) {
            Some((sections, key)) => set(&mut root, name, &sections, &key, value)?,
            None if name == "CONFIGURATION" => {}
            None => match OTHER_DCS.iter().find(|dcs| name.starts_with(*dcs)) {
                Some(dcs) => {
                    let section = dcs.to_ascii_lowercase();
                    set(&mut root, name, &[&section], "host", value)?;
                }
                None => warnings.push(format!(
                    "environment variable PATRONI_{name}: unknown, ignored"
                )),
            },
        }
    }
    Ok(root)
}

fn target(name: &str) -> Option<(Vec<&'static str>, String)> {
    if TOP.contains(&name) {
        return Some((Vec::new(), name.to_ascii_lowercase()));
    }
    if let Some((_, key)) = OLD.iter().find(|(old, _)| *old == name) {
        return Some((vec!["log"], (*key).to_owned()));
    }
    SECTIONS.iter().find_map(|(prefix, sections, names)| {
        let name = name.strip_prefix(prefix)?;
        let key = names.contains(&name).then(|| name.to_ascii_lowercase())?;
        Some((sections.to_vec(), key))
    })
}

/// Every setting that has a variable, by its keys.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = String> {
    let top = TOP.iter().map(|name| name.to_ascii_lowercase());
    top.chain(SECTIONS.iter().flat_map(|(_, sections, names)| {
        let section = sections.join(".");
        let name = move |name: &&str| format!("{section}.{}", name.to_ascii_lowercase());
        names.iter().map(name)
    }))
}

fn set(
    root: &mut Node,
    name: &str,
    sections: &[&str],
    key: &str,
    value: &str,
) -> Result<(), ConfigError> {
    let place = Place {
        source: format!("environment variable PATRONI_{name}").into(),
        line: None,
    };
    let data = match key {
        "loggers" | "static_fields" | "http_extra_headers" | "https_extra_headers" => {
            mapping(value, &place)?
        }
        "hosts" | "allowlist" => list(value, &place),
        // As Patroni tells them apart.
        "format" if !value.contains("%(") => list(value, &place),
        _ => Data::Text(value.to_owned()),
    };
    let entry = |key: &str, data| Entry {
        key: key.to_owned(),
        place: place.clone(),
        node: Node {
            data,
            place: place.clone(),
        },
    };
    let mut patch = entry(key, data);
    for section in sections.iter().rev() {
        patch = entry(section, Data::Map(vec![patch]));
    }
    root.overlay(Node {
        data: Data::Map(vec![patch]),
        place,
    });
    Ok(())
}

/// A YAML mapping, with or without its braces.
fn mapping(value: &str, place: &Place) -> Result<Data, ConfigError> {
    let value = value.trim();
    let text = match value.starts_with('{') || value.contains('\n') {
        true => value.to_owned(),
        false => format!("{{{value}}}"),
    };
    Ok(parse(&text, place, &mut Vec::new())?.data)
}

/// A YAML list, with or without its brackets. Anything else (such as `[::1]:2379`) stays text,
/// which is split at its commas later.
fn list(value: &str, place: &Place) -> Data {
    let value = value.trim();
    let text = match value.starts_with(['-', '[']) {
        true => value.to_owned(),
        false => format!("[{value}]"),
    };
    match parse(&text, place, &mut Vec::new()).map(|node| node.data) {
        Ok(list @ Data::List(_)) => list,
        _ => Data::Text(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Of each word of the first list with each of the second. Patroni's names; `PATRONI_CONFIGURATION` is read elsewhere.
    const NAMES: [(&str, &str); 12] = [
        (
            "",
            "NAME NAMESPACE SCOPE THREAD_POOL_SIZE THREAD_STACK_SIZE",
        ),
        (
            "LOG_",
            "TYPE LEVEL TRACEBACK_LEVEL FORMAT DATEFORMAT STATIC_FIELDS MAX_QUEUE_SIZE DIR MODE FILE_SIZE FILE_NUM \
             LOGGERS DEDUPLICATE_HEARTBEAT_LOGS",
        ),
        ("", "LOGLEVEL LOGFORMAT LOG_DATEFMT"),
        (
            "RESTAPI_",
            "LISTEN CONNECT_ADDRESS USERNAME PASSWORD CERTFILE KEYFILE KEYFILE_PASSWORD CAFILE CIPHERS VERIFY_CLIENT \
             HTTP_EXTRA_HEADERS HTTPS_EXTRA_HEADERS ALLOWLIST ALLOWLIST_INCLUDE_MEMBERS REQUEST_QUEUE_SIZE \
             SERVER_TOKENS",
        ),
        (
            "CTL_",
            "USERNAME PASSWORD INSECURE CACERT CERTFILE KEYFILE KEYFILE_PASSWORD",
        ),
        (
            "POSTGRESQL_",
            "LISTEN CONNECT_ADDRESS PROXY_ADDRESS CONFIG_DIR DATA_DIR PGPASS BIN_DIR",
        ),
        (
            "POSTGRESQL_BIN_",
            "PG_CTL INITDB PG_CONTROLDATA PG_BASEBACKUP POSTGRES PG_ISREADY PG_REWIND",
        ),
        ("SUPERUSER_", ROLE),
        ("REPLICATION_", ROLE),
        ("REWIND_", ROLE),
        (
            "ETCD3_",
            "HOST HOSTS USE_PROXIES PROTOCOL SRV SRV_SUFFIX URL PROXY CACERT CERT KEY USERNAME PASSWORD",
        ),
        ("CITUS_", "GROUP DATABASE"),
    ];

    const ROLE: &str = "USERNAME PASSWORD SSLMODE SSLCERT SSLKEY SSLPASSWORD SSLROOTCERT SSLCRL SSLCRLDIR GSSENCMODE \
                        CHANNEL_BINDING SSLNEGOTIATION";

    #[test]
    fn every_variable_of_patroni_has_its_key() {
        for (prefix, names) in NAMES {
            for name in names.split_whitespace() {
                let name = format!("PATRONI_{prefix}{name}");
                let env = BTreeMap::from([(name.clone(), "x: 1".to_owned())]);
                let mut warnings = Vec::new();
                let node = document(&env, &mut warnings).unwrap();
                assert_eq!(warnings, [] as [String; 0], "{name}");
                assert_ne!(node.to_json(), json!({}), "{name}");
                // Nothing is said by one that is empty.
                let env = BTreeMap::from([(name.clone(), String::new())]);
                let node = document(&env, &mut warnings).unwrap();
                assert_eq!(node.to_json(), json!({}), "{name}");
            }
        }
    }

    #[test]
    fn lists_and_mappings_in_all_their_forms() {
        for (name, value, expected) in [
            ("HOSTS", "a:1,b:2", json!(["a:1", "b:2"])),
            ("HOSTS", "'a:1', \"b:2\"", json!(["a:1", "b:2"])),
            ("HOSTS", "[a:1, b:2]", json!(["a:1", "b:2"])),
            ("HOSTS", "- a:1\n- b:2\n", json!(["a:1", "b:2"])),
            ("HOSTS", "[::1]:2379,b:2", json!("[::1]:2379,b:2")),
        ] {
            let env = BTreeMap::from([(format!("PATRONI_ETCD3_{name}"), value.to_owned())]);
            let node = document(&env, &mut Vec::new()).unwrap();
            assert_eq!(
                node.to_json(),
                json!({"etcd3": {"hosts": expected}}),
                "{value}"
            );
        }
        for (value, expected) in [
            ("%(message)s, %(name)s", json!("%(message)s, %(name)s")),
            (
                "message, {levelname: level}",
                json!(["message", {"levelname": "level"}]),
            ),
            (
                "- message\n- levelname: level",
                json!(["message", {"levelname": "level"}]),
            ),
        ] {
            let env = BTreeMap::from([("PATRONI_LOG_FORMAT".to_owned(), value.to_owned())]);
            let node = document(&env, &mut Vec::new()).unwrap();
            assert_eq!(node.to_json(), json!({"log": {"format": expected}}));
        }
        for value in [
            "a: DEBUG, b: INFO",
            "{a: DEBUG, b: INFO}",
            "a: DEBUG\nb: INFO",
        ] {
            let env = BTreeMap::from([("PATRONI_LOG_LOGGERS".to_owned(), value.to_owned())]);
            let node = document(&env, &mut Vec::new()).unwrap();
            assert_eq!(
                node.to_json(),
                json!({"log": {"loggers": {"a": "DEBUG", "b": "INFO"}}})
            );
        }
    }
}
