//! What holds of a node's own settings where nobody has set them, as their reader filled it in: no second list of
//! defaults. Settings without one (passwords, certificates, files) are not here, nor are those that the dynamic
//! configuration may set too ([`super::effective()`]).

use super::log_form::{LINE, LogShape};
use super::node::*;
use super::read_etcd3::PROTOCOL;
use serde_json::Value;

type Held = (&'static str, fn(&NodeConfig) -> Value);

/// Sorted.
const HELD: &[Held] = &[
    ("ctl.insecure", |node| node.ctl.insecure.into()),
    ("etcd3.protocol", |_| PROTOCOL.into()),
    ("etcd3.use_proxies", |node| node.etcd3.use_proxies.into()),
    ("log.deduplicate_heartbeat_logs", |node| {
        node.log.deduplicate_heartbeat_logs.into()
    }),
    ("log.file_num", |node| node.log.file_num.into()),
    ("log.file_size", |node| node.log.file_size.into()),
    ("log.format", |_| LINE.into()),
    ("log.level", |node| level(node.log.level).into()),
    ("log.max_queue_size", |node| node.log.max_queue_size.into()),
    ("log.type", |node| match node.log.form.shape {
        LogShape::Plain(_) => "plain".into(),
        LogShape::Json { .. } => "json".into(),
    }),
    ("namespace", |node| node.namespace.as_str().into()),
    ("pgherd.journal", |node| match node.journal_path() {
        Some(path) => path.display().to_string().into(),
        None => "off".into(),
    }),
    ("postgresql.config_base_name", |node| {
        node.postgresql.config_base_name.as_str().into()
    }),
    ("postgresql.config_dir", |node| {
        node.postgresql.config_dir.display().to_string().into()
    }),
    ("postgresql.connect_address", |node| {
        node.postgresql.connect_address.to_string().into()
    }),
    ("postgresql.database", |node| {
        node.postgresql.database.as_str().into()
    }),
    ("postgresql.use_unix_socket", |node| {
        node.postgresql.use_unix_socket.into()
    }),
    ("postgresql.use_unix_socket_repl", |node| {
        node.postgresql.use_unix_socket_repl.into()
    }),
    ("restapi.allowlist_include_members", |node| {
        node.restapi.allowlist_include_members.into()
    }),
    ("restapi.connect_address", |node| {
        node.restapi.connect_address.to_string().into()
    }),
    ("restapi.request_queue_size", |node| {
        node.restapi.request_queue_size.into()
    }),
    ("restapi.server_tokens", |node| {
        match node.restapi.server_tokens {
            ServerTokens::Original => "original".into(),
            ServerTokens::Minimal => "minimal".into(),
            ServerTokens::ProductOnly => "productonly".into(),
        }
    }),
    ("restapi.verify_client", |node| {
        match node.restapi.verify_client {
            VerifyClient::None => "none".into(),
            VerifyClient::Optional => "optional".into(),
            VerifyClient::Required => "required".into(),
        }
    }),
    ("tags.clonefrom", |node| node.tags.clonefrom.into()),
    ("tags.failover_priority", |node| {
        node.tags.failover_priority.into()
    }),
    ("tags.nofailover", |node| node.tags.nofailover.into()),
    ("tags.noloadbalance", |node| node.tags.noloadbalance.into()),
    ("tags.nostream", |node| node.tags.nostream.into()),
    ("tags.nosync", |node| node.tags.nosync.into()),
    ("tags.sync_priority", |node| node.tags.sync_priority.into()),
    ("watchdog.device", |node| {
        node.watchdog.device.display().to_string().into()
    }),
    ("watchdog.mode", |node| match node.watchdog.mode {
        WatchdogMode::Off => "off".into(),
        WatchdogMode::Automatic => "automatic".into(),
        WatchdogMode::Required => "required".into(),
    }),
    ("watchdog.safety_margin", |node| {
        let margin = node.watchdog.safety_margin.map(|it| it.as_secs());
        margin.map_or_else(|| (-1).into(), Into::into)
    }),
];

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
        LogLevel::Critical => "CRITICAL",
    }
}

/// Names of a node's own settings that hold something where nobody sets them, sorted.
pub fn local_settings() -> impl Iterator<Item = &'static str> {
    HELD.iter().map(|(name, _)| *name)
}

/// What holds of one of [`local_settings`]; `None`: it is none of them. What `etcd3.protocol` and `log.format` say where
/// they are set is not seen here.
pub fn held(name: &str, node: &NodeConfig) -> Option<Value> {
    let (_, of) = HELD.iter().find(|(known, _)| *known == name)?;
    Some(of(node))
}

#[cfg(test)]
mod tests {
    use super::super::read_postgresql::LOCAL_KEYS;
    use super::super::{environment, load_environment, merge_patch, read_document, to_yaml};
    use super::*;
    use serde_json::json;

    const LEAST: &str = "\
scope: demo
name: n1
restapi: {listen: '127.0.0.1:8008'}
etcd3: {hosts: '127.0.0.1:2379'}
postgresql:
  listen: 127.0.0.1:5432
  data_dir: /d
  authentication: {superuser: {username: postgres}, replication: {username: repl}}
";

    fn node(document: &Value) -> NodeConfig {
        let env = [("PATRONI_CONFIGURATION".to_owned(), to_yaml(document))];
        load_environment(&env.into()).unwrap().node
    }

    /// The defaults are those of the reader: whoever writes one down changes nothing.
    #[test]
    fn a_default_that_is_written_down_changes_nothing() {
        let least = read_document(LEAST, "least").unwrap();
        let bare = node(&least);
        for name in local_settings() {
            let held = held(name, &bare).unwrap();
            assert!(!held.is_null() && held != "", "{name}");
            let mut document = least.clone();
            let around = |inner: Value, key: &str| json!({key: inner});
            let patch = name.rsplit('.').fold(held.clone(), around);
            merge_patch(&mut document, &patch);
            let mut written = node(&document);
            // As they are published, which is more than what holds, and a path instead of no path.
            written.tags.json = bare.tags.json.clone();
            // Only whether the section is there.
            written.watchdog.configured = bare.watchdog.configured;
            if name == "pgherd.journal" {
                assert_eq!(written.journal_path(), bare.journal_path());
                written.pgherd.journal = bare.pgherd.journal.clone();
            }
            assert_eq!(written, bare, "{name}: {held}");
            assert_eq!(super::held(name, &written), Some(held), "{name}");
        }
        let names: Vec<&str> = local_settings().collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn what_is_set_is_seen() {
        let mut document = read_document(LEAST, "least").unwrap();
        let patch = json!({
            "ctl": {"insecure": true}, "etcd3": {"use_proxies": true}, "namespace": "/x",
            "log": {"level": "error", "type": "json", "file_num": 1, "file_size": 2, "max_queue_size": 3,
                "deduplicate_heartbeat_logs": true},
            "restapi": {"server_tokens": "minimal", "request_queue_size": 9, "allowlist_include_members": true},
            "pgherd": {"journal": "off"}, "postgresql": {"database": "db", "use_unix_socket": true},
            "watchdog": {"mode": "required", "device": "/w", "safety_margin": 7},
            "tags": {"nofailover": true},
        });
        merge_patch(&mut document, &patch);
        let node = node(&document);
        for (name, expected) in [
            ("ctl.insecure", json!(true)),
            ("etcd3.use_proxies", json!(true)),
            ("namespace", json!("/x")),
            ("log.level", json!("ERROR")),
            ("log.type", json!("json")),
            ("log.file_num", json!(1)),
            ("log.file_size", json!(2)),
            ("log.max_queue_size", json!(3)),
            ("log.deduplicate_heartbeat_logs", json!(true)),
            ("restapi.server_tokens", json!("minimal")),
            ("restapi.request_queue_size", json!(9)),
            ("pgherd.journal", json!("off")),
            ("postgresql.database", json!("db")),
            ("postgresql.use_unix_socket", json!(true)),
            ("watchdog.mode", json!("required")),
            ("watchdog.device", json!("/w")),
            ("watchdog.safety_margin", json!(7)),
            ("tags.nofailover", json!(true)),
        ] {
            assert_eq!(held(name, &node), Some(expected), "{name}");
        }
        assert_eq!(held("ttl", &node), None);
    }

    /// A key that the reader gets has its default here, or is known to have none.
    #[test]
    fn no_setting_with_a_default_is_missing() {
        let without = [
            "scope",
            "name",
            "thread_pool_size",
            "thread_stack_size",
            // Not acted on, or nothing where they are not set.
            "log.traceback_level",
            "log.dateformat",
            "log.static_fields",
            "log.dir",
            "log.mode",
            "log.loggers",
            "restapi.listen",
            "restapi.certfile",
            "restapi.keyfile",
            "restapi.keyfile_password",
            "restapi.cafile",
            "restapi.ciphers",
            "restapi.http_extra_headers",
            "restapi.https_extra_headers",
            "restapi.allowlist",
            "restapi.thread_pool_size",
            "ctl.cacert",
            "ctl.certfile",
            "ctl.keyfile",
            "ctl.keyfile_password",
            "postgresql.listen",
            "postgresql.proxy_address",
            "postgresql.data_dir",
            "postgresql.custom_conf",
            "postgresql.bin_name",
            "postgresql.authentication",
            "postgresql.krbsrvname",
            "etcd3.host",
            "etcd3.hosts",
            "etcd3.srv",
            "etcd3.srv_suffix",
            "etcd3.url",
            "etcd3.proxy",
            "etcd3.cacert",
            "etcd3.cert",
            "etcd3.key",
            "etcd3.username",
            "etcd3.password",
            // They depend on the account and the programs of the agent.
            "postgresql.pgpass",
            "postgresql.bin_dir",
        ];
        let local = LOCAL_KEYS.iter().map(|key| format!("postgresql.{key}"));
        for name in environment::names().chain(local) {
            let first = name.split('.').next().unwrap();
            let deep = name.split('.').count() > 2;
            if matches!(first, "citus" | "etcd") || deep {
                continue;
            }
            let known = local_settings().any(|known| known == name);
            assert_ne!(known, without.contains(&name.as_str()), "{name}");
        }
    }
}
