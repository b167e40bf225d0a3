//! A configuration to begin with (`--generate-config`, `--generate-sample-config`): YAML with
//! comments, from what was found and from `PATRONI_*` variables. What nobody has said yet is a
//! [`PLACEHOLDER`], which validation names until somebody has replaced it.

use super::emit::{indented, scalar};
use super::parameters::is_accepted;
use super::secrets::{HIDDEN, without_secrets};
use super::{ConfigError, PLACEHOLDER, Secret, environment, is_owned, merge_patch};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub use super::parameters::owned_parameters;

/// What is known of the node.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// First line of the file: what it was made from.
    pub origin: String,
    /// `scope`.
    pub scope: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// Where others find this machine.
    pub host: Option<String>,
    /// Addresses that PostgreSQL listens on; `None`: that host.
    pub listen: Option<String>,
    /// Its port.
    pub port: u16,
    /// `postgresql.data_dir`.
    pub data_dir: Option<String>,
    /// `postgresql.config_dir`, where it is another one.
    pub config_dir: Option<String>,
    /// `postgresql.bin_dir`.
    pub bin_dir: Option<String>,
    /// The local server is reached by its socket, without a password.
    pub unix_socket: bool,
    /// Parameters with their values.
    pub parameters: BTreeMap<String, String>,
    /// Lines; `None`: the file stays as it is.
    pub pg_hba: Option<Vec<String>>,
    /// Lines; `None`: the file stays as it is.
    pub pg_ident: Option<Vec<String>>,
    /// Superuser: name, password.
    pub superuser: (String, Option<Secret>),
    /// How it connects: libpq's options, as `postgresql.authentication` has them.
    pub superuser_options: BTreeMap<String, String>,
    /// Password of its key.
    pub sslpassword: Option<Secret>,
    /// Replication role: name, password.
    pub replication: (String, Option<Secret>),
    /// There are data already: nothing is created by initdb.
    pub exists: bool,
}

/// Parameters that only this node's files can say, or that follow from other keys.
const LEFT_OUT: &[&str] = &[
    "data_directory",
    "config_file",
    "external_pid_file",
    "listen_addresses",
    "port",
    "cluster_name",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_end_command",
    "promote_trigger_file",
    "hot_standby",
];

/// The text of the file. Without `secrets` every password, also in addresses and lines of pg_hba.conf, is a
/// placeholder, also those of `env`.
///
/// # Errors
/// A variable that cannot be read.
pub fn generate(
    found: &Found,
    env: &BTreeMap<String, String>,
    secrets: bool,
) -> Result<String, ConfigError> {
    let mut document = document(found);
    let mut said = environment::document(env, &mut Vec::new())?.to_json();
    // Only what is the node's own; a variable of another lock service would add a section.
    if let Value::Object(said) = &mut said {
        said.retain(|key, _| !matches!(key.as_str(), "consul" | "zookeeper" | "kubernetes"));
    }
    merge_patch(&mut document, &said);
    if !secrets {
        document = with_placeholders(without_secrets("", document));
    }
    Ok(text(found, &document))
}

/// Keys of a generated document whose placeholder waits for a person.
pub fn placeholders(text: &str) -> Vec<String> {
    let place = super::yaml::Place {
        source: "the generated file".into(),
        line: Some(1),
    };
    let Ok(node) = super::yaml::parse(text, &place, &mut Vec::new()) else {
        return Vec::new();
    };
    let mut keys = Vec::new();
    collect("", &node.to_json(), &mut keys);
    keys
}

fn collect(path: &str, value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                collect(&path, inner, keys);
            }
        }
        Value::String(text) if text.contains(PLACEHOLDER) => keys.push(path.to_owned()),
        Value::Array(items) => items.iter().for_each(|item| collect(path, item, keys)),
        _ => {}
    }
}

fn document(found: &Found) -> Value {
    let or_placeholder = |text: &Option<String>| text.clone().unwrap_or(PLACEHOLDER.to_owned());
    let host = or_placeholder(&found.host);
    let address = |host: &str, port: u16| match host.contains(':') && !host.contains(',') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let rest = address(&host, 8008);
    let connect = address(&host, found.port);
    let listen = found.listen.as_deref().unwrap_or(&host);
    let password = |secret: &Option<Secret>| match secret {
        Some(secret) => secret.expose().to_owned(),
        None => PLACEHOLDER.to_owned(),
    };
    let role = |(name, secret): &(String, Option<Secret>)| json!({"username": name, "password": password(secret)});
    let (dynamic, local) = parameters(found);
    let mut postgresql = Map::new();
    let mut put = |key: &str, value: Value| drop(postgresql.insert(key.to_owned(), value));
    put("listen", address(listen, found.port).into());
    put("connect_address", connect.into());
    put("data_dir", or_placeholder(&found.data_dir).into());
    if let Some(dir) = &found.config_dir {
        put("config_dir", dir.clone().into());
    }
    if let Some(dir) = &found.bin_dir {
        put("bin_dir", dir.clone().into());
    }
    if found.unix_socket {
        put("use_unix_socket", true.into());
    }
    let mut superuser = role(&found.superuser);
    for (key, value) in &found.superuser_options {
        superuser[key] = value.clone().into();
    }
    if let Some(secret) = &found.sslpassword {
        superuser["sslpassword"] = secret.expose().into();
    }
    put(
        "authentication",
        json!({"superuser": superuser, "replication": role(&found.replication)}),
    );
    if !local.is_empty() {
        put("parameters", local.into());
    }
    for (key, lines) in [("pg_hba", &found.pg_hba), ("pg_ident", &found.pg_ident)] {
        if let Some(lines) = lines.as_ref().filter(|lines| !lines.is_empty()) {
            put(key, lines.clone().into());
        }
    }
    let mut bootstrap = json!({"dcs": {
        "ttl": 30, "loop_wait": 10, "retry_timeout": 10, "maximum_lag_on_failover": 1_048_576,
        "postgresql": {"use_pg_rewind": true},
    }});
    if !dynamic.is_empty() {
        bootstrap["dcs"]["postgresql"]["parameters"] = dynamic.into();
    }
    if !found.exists {
        bootstrap["initdb"] = json!([{"encoding": "UTF8"}, "data-checksums"]);
    }
    json!({
        "scope": or_placeholder(&found.scope),
        "name": or_placeholder(&found.name),
        "restapi": {"listen": rest, "connect_address": rest},
        "etcd3": {"hosts": format!("{PLACEHOLDER}:2379")},
        "bootstrap": bootstrap,
        "postgresql": postgresql,
    })
}

/// (for all members, for this one): commands and places of files belong to the node, since nobody who
/// can write into etcd should be able to run a command everywhere.
fn parameters(found: &Found) -> (Map<String, Value>, Map<String, Value>) {
    let (mut dynamic, mut local) = (Map::new(), Map::new());
    for (name, value) in &found.parameters {
        let own = name.ends_with("_command")
            || name.ends_with("_file")
            || name.ends_with("_directory")
            || name.ends_with("_directories")
            || name.ends_with("_library")
            || name.starts_with("ssl");
        let text = value.as_str();
        let number = text.parse::<i64>().ok();
        let value = match number.filter(|number| number.to_string() == text) {
            Some(number) => Value::from(number),
            None => Value::from(text),
        };
        if LEFT_OUT.contains(&name.as_str()) || name.starts_with("recovery_target") {
            continue;
        }
        if is_owned(name) {
            // What the agent would not take is replaced by its default, and would only warn.
            if is_accepted(name, text) {
                dynamic.insert(name.clone(), value);
            }
        } else if own {
            local.insert(name.clone(), value);
        } else {
            dynamic.insert(name.clone(), value);
        }
    }
    (dynamic, local)
}

/// What is hidden is to be filled in.
fn with_placeholders(document: Value) -> Value {
    match document {
        Value::Object(map) => map
            .into_iter()
            .map(|(key, inner)| (key, with_placeholders(inner)))
            .collect(),
        Value::Array(items) => items.into_iter().map(with_placeholders).collect(),
        Value::String(text) => Value::String(text.replace(HIDDEN, PLACEHOLDER)),
        other => other,
    }
}

/// What stands before a key, by its path.
const COMMENTS: &[(&str, &str)] = &[
    (
        "scope",
        "Name of the cluster, the same on every node, and of this node, another one on each.",
    ),
    (
        "restapi",
        "Health checks for load balancers, and orders of operators. With certfile and keyfile it is HTTPS;\n\
         with authentication (username, password) only who knows it gives orders.",
    ),
    (
        "etcd3",
        "Where etcd is: all of its members. With TLS: protocol: https, cacert, cert and key; with users:\n\
         username and password.",
    ),
    (
        "bootstrap",
        "Only for the first start of a new cluster. Later `patronictl edit-config` changes the settings in `dcs`,\n\
         which all members share.",
    ),
    (
        "bootstrap.dcs.postgresql",
        "Parameters here are the same on all members; some (max_connections, wal_level, ...) can stand only here.",
    ),
    ("bootstrap.initdb", "Options of initdb."),
    (
        "postgresql.authentication",
        "The same on every node. The roles must exist where there are data already; a new cluster gets them.",
    ),
    ("postgresql.parameters", "Parameters of this node alone."),
    (
        "postgresql.pg_hba",
        "The whole pg_hba.conf. Other members need a line that lets the replication role in, for example\n\
         host replication replicator 10.0.0.0/24 scram-sha-256",
    ),
];

fn text(found: &Found, document: &Value) -> String {
    let mut out = format!(
        "# {}\n# Check it before use: pgherd agent --validate-config -i THIS_FILE\n\
         # Passwords are in it: it must be readable by its owner only.\n",
        found.origin
    );
    let Value::Object(sections) = document else {
        return out;
    };
    for (key, value) in sections {
        // Names stand together.
        if key != "name" {
            out.push('\n');
        }
        entry(&mut out, "", key, value, 0);
    }
    out
}

fn entry(out: &mut String, path: &str, key: &str, value: &Value, depth: usize) {
    let path = match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    let pad = "  ".repeat(depth);
    if let Some((_, comment)) = COMMENTS.iter().find(|(known, _)| *known == path) {
        for line in comment.lines() {
            out.push_str(&format!("{pad}# {line}\n"));
        }
    }
    let key = scalar(&Value::from(key));
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push_str(&format!("{pad}{key}:\n"));
            for (inner, value) in map {
                entry(out, &path, inner, value, depth + 1);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            out.push_str(&format!("{pad}{key}:\n"));
            out.push_str(&indented(value, depth + 1));
        }
        flat => out.push_str(&format!("{pad}{key}: {}\n", scalar(flat))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::*;

    fn found() -> Found {
        let parameters = [
            ("max_connections", "150"),
            ("max_wal_senders", "0"),
            ("work_mem", "8MB"),
            ("archive_command", "cp %p '/a/%f'"),
            ("ssl_cert_file", "/c.pem"),
            ("port", "5433"),
            ("hot_standby", "on"),
        ];
        Found {
            origin: "Made from a test.".into(),
            scope: Some("demo".into()),
            name: Some("n1".into()),
            host: Some("10.0.0.1".into()),
            listen: Some("*".into()),
            port: 5433,
            data_dir: Some("/d".into()),
            parameters: parameters.map(|(n, v)| (n.into(), v.into())).into(),
            pg_hba: Some(vec!["host all all 0.0.0.0/0 md5".into()]),
            superuser: ("postgres".into(), Some(Secret::new("s1: #x"))),
            replication: ("repl".into(), None),
            exists: true,
            ..Found::default()
        }
    }

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter().map(|(n, v)| ((*n).into(), (*v).into()));
        pairs.collect()
    }

    #[test]
    fn what_was_found_stands_where_it_belongs() {
        let env = env(&[
            ("PATRONI_ETCD3_HOSTS", "10.0.0.1:2379,10.0.0.2:2379"),
            ("PATRONI_REPLICATION_PASSWORD", "s2"),
        ]);
        let text = generate(&found(), &env, true).unwrap();
        assert_eq!(placeholders(&text), Vec::<String>::new(), "{text}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n1.yml");
        std::fs::write(&file, &text).unwrap();
        let loaded = load(&file, &BTreeMap::new()).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new(), "{text}");
        let raw = &loaded.raw;
        assert_eq!(
            raw["bootstrap"]["dcs"]["postgresql"]["parameters"],
            json!({"max_connections": 150, "work_mem": "8MB"})
        );
        assert_eq!(
            raw["postgresql"]["parameters"],
            json!({"archive_command": "cp %p '/a/%f'", "ssl_cert_file": "/c.pem"})
        );
        assert_eq!(raw["postgresql"]["listen"], "*:5433");
        assert_eq!(raw["postgresql"]["connect_address"], "10.0.0.1:5433");
        let roles = loaded.node.postgresql.authentication;
        let password = |role: &super::super::Credentials| {
            role.password
                .as_ref()
                .map(|secret| secret.expose().to_owned())
        };
        assert_eq!(password(&roles.superuser).as_deref(), Some("s1: #x"));
        assert_eq!(password(&roles.replication).as_deref(), Some("s2"));
        assert!(raw["bootstrap"].get("initdb").is_none());
    }

    /// On standard output, which anybody may see, there is neither a password nor a login.
    #[test]
    fn no_secret_is_shown() {
        let mut found = found();
        found.superuser_options = [("sslmode".into(), "require".into())].into();
        found.sslpassword = Some(Secret::new("s4"));
        found.pg_hba = Some(vec!["host all all all ldap ldapbindpasswd=s9".into()]);
        let env = env(&[
            ("PATRONI_ETCD3_URL", "https://u:s5@h:2379"),
            ("PATRONI_ETCD3_HOSTS", "u:s6@a:2379,http://u:s7@b:2379"),
            ("PATRONI_RESTAPI_KEYFILE_PASSWORD", "s8"),
        ]);
        let whole = generate(&found, &env, true).unwrap();
        let shown = generate(&found, &env, false).unwrap();
        for secret in ["s1", "s4", "s5", "s6", "s7", "s8", "s9"] {
            assert!(whole.contains(secret), "{secret}: {whole}");
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for (key, kept) in [
            ("etcd3.url", "https://#FIXME@h:2379"),
            ("etcd3.hosts", "http://#FIXME@b:2379"),
            (
                "postgresql.authentication.superuser.sslpassword",
                "sslmode: require",
            ),
        ] {
            assert!(shown.contains(kept), "{kept}: {shown}");
            assert!(
                placeholders(&shown).contains(&key.to_owned()),
                "{key}: {shown}"
            );
        }
    }

    #[test]
    fn what_nobody_has_said_is_a_placeholder() {
        let text = generate(
            &Found::default(),
            &env(&[("PATRONI_SUPERUSER_PASSWORD", "s3")]),
            false,
        );
        let text = text.unwrap();
        assert!(!text.contains("s3"), "{text}");
        assert_eq!(
            placeholders(&text),
            [
                "scope",
                "name",
                "restapi.listen",
                "restapi.connect_address",
                "etcd3.hosts",
                "postgresql.listen",
                "postgresql.connect_address",
                "postgresql.data_dir",
                "postgresql.authentication.superuser.password",
                "postgresql.authentication.replication.password",
            ]
        );
    }
}
