//! Configurations as people write them, and what is said about broken ones.

mod logs;
mod mistakes;
mod shapes;

use super::*;
use pgherd_model::{CommitsWait, CrashHandover, GuardMode, Settings, Span, SynchronousMode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// In the manner of Patroni's own examples.
const SAMPLE: &str = r#"
scope: batman
#namespace: /service/
name: postgresql0

restapi:
  listen: 127.0.0.1:8008
  connect_address: 127.0.0.1:8008
#  authentication:
#    username: username

etcd3:
  hosts:
    - 127.0.0.1:2379
    - etcd2:2379

bootstrap:
  dcs:
    ttl: 30
    loop_wait: 10
    retry_timeout: 10
    maximum_lag_on_failover: 1048576
    postgresql:
      use_pg_rewind: true
      pg_hba:
      - host replication replicator 127.0.0.1/32 md5
      - host all all 0.0.0.0/0 md5
      parameters:
        wal_level: hot_standby
        hot_standby: "on"
        max_connections: 100
        wal_log_hints: "on"
        archive_mode: "on"
        archive_timeout: 1800s
  initdb:
  - encoding: UTF8
  - data-checksums
  pg_hba:
  - host replication replicator 127.0.0.1/32 md5
  - host all all 0.0.0.0/0 md5
  post_init: /usr/local/bin/setup_cluster.sh

postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: data/postgresql0
  pgpass: /tmp/pgpass0
  authentication:
    replication:
      username: replicator
      password: rep-pass
    superuser:
      username: postgres
      password: zalando
    rewind:
      username: rewind_user
      password: rewind_password
  parameters:
    unix_socket_directories: '..'
    shared_buffers: 128MB
    log_lock_waits: on
    random_page_cost: 1.1

tags:
    noloadbalance: false
    clonefrom: false
    nostream: false
"#;

/// TLS everywhere, quorum, our own section, anchors.
const TLS: &str = r#"
scope: &scope payments
name: "pg-1.dc1"
namespace: /db/
log: {level: INFO, type: json, dir: /var/log/patroni, mode: 0640, file_size: 1000000,
  static_fields: {app: patroni}}
restapi:
  listen: '*:8008'
  connect_address: '[fd00::1]:8008'
  certfile: &cert /etc/ssl/pg.pem
  keyfile: &key /etc/ssl/pg.key
  cafile: &ca /etc/ssl/ca.pem
  verify_client: optional
  allowlist: [10.0.0.0/8, host.example]
  authentication: {username: patroni, password: 12e45}
ctl: {certfile: *cert, keyfile: *key}
etcd3:
  protocol: https
  hosts: e1:2379,e2:2379, e3
  username: root
  password: 1234
  cacert: *ca
  cert: *cert
  key: *key
bootstrap:
  dcs: {synchronous_mode: quorum, failsafe_mode: yes, slots: {dr: {type: physical}}}
  initdb: [data-checksums, {locale: C.UTF-8}]
postgresql:
  listen: 10.0.0.1,fd00::1:5433
  connect_address: 10.0.0.1:5433
  data_dir: /var/lib/postgresql/15/main
  bin_dir: /usr/lib/postgresql/15/bin
  use_unix_socket: on
  create_replica_methods: [pgbackrest, basebackup]
  pgbackrest: {command: 'pgbackrest restore', keep_data: true, no_params: true}
  basebackup: [{max-rate: 100M}, checkpoint: fast, verbose]
  callbacks: {on_role_change: /etc/patroni/vip.sh}
  remove_data_directory_on_rewind_failure: true
  recovery_conf: {restore_command: "cp /archive/%f %p"}
  authentication:
    superuser: &user {username: postgres, sslmode: verify-ca, sslrootcert: *ca}
    replication: {<<: *user, username: replicator, password: secret-one}
  parameters: {cluster_note: *scope}
watchdog: {mode: off}
tags: {failover_priority: 2, rack: "7", nofailover: false}
pgherd: {lease_ttl: 5, guard: required, crash_handover: sync}
"#;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let name = format!("pgherd-wire-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Dir(path)
    }
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// Through `PATRONI_CONFIGURATION`: needs no file.
fn read(yaml: &str) -> Result<Loaded, ConfigError> {
    load_environment(&env(&[("PATRONI_CONFIGURATION", yaml)]))
}

fn problem(yaml: &str) -> String {
    let error = read(yaml).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error.replace("environment variable PATRONI_CONFIGURATION", "n.yml")
}

#[test]
fn a_sample_loads_without_warnings() {
    let dir = Dir::new("sample");
    let loaded = load(&dir.write("postgres0.yml", SAMPLE), &env(&[])).unwrap();
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let node = &loaded.node;
    assert_eq!(
        (node.scope.as_str(), node.name.as_str()),
        ("batman", "postgresql0")
    );
    assert_eq!(node.namespace, "/service");
    assert_eq!(
        node.etcd3.endpoints,
        ["http://127.0.0.1:2379", "http://etcd2:2379"]
    );
    assert_eq!(node.conn_url(), "postgres://127.0.0.1:5432/postgres");
    assert_eq!(node.api_url(), "http://127.0.0.1:8008/patroni");
    assert_eq!(node.bootstrap.initdb.len(), 2);
    assert_eq!(node.bootstrap.initdb[0].value.as_deref(), Some("UTF8"));
    assert_eq!(
        node.bootstrap.post_bootstrap.as_deref(),
        Some("/usr/local/bin/setup_cluster.sh")
    );
    assert_eq!(node.tags.json, "{}");
    let rewind = node.postgresql.authentication.rewind.as_ref().unwrap();
    assert_eq!(
        rewind.password.as_ref().unwrap().expose(),
        "rewind_password"
    );
    let effective = effective(node, Some(&node.bootstrap.dcs));
    assert_eq!(effective.warnings, [] as [String; 0]);
    assert_eq!(
        effective.settings,
        Settings {
            use_pg_rewind: true,
            ..Settings::default()
        }
    );
    let parameters = &effective.postgresql.parameters;
    for (name, value) in [
        ("wal_level", "hot_standby"),
        ("max_connections", "100"),
        ("log_lock_waits", "on"),
        ("random_page_cost", "1.1"),
        ("archive_timeout", "1800s"),
        ("listen_addresses", "127.0.0.1"),
        ("port", "5432"),
        ("cluster_name", "batman"),
        ("wal_keep_size", "128MB"),
    ] {
        assert_eq!(
            parameters.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(effective.postgresql.pg_hba.unwrap().len(), 2);
    assert_eq!(effective.postgresql.methods, [ReplicaMethod::Basebackup]);
}

#[test]
fn a_tls_sample_loads() {
    let loaded = read(TLS).unwrap();
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let node = &loaded.node;
    assert_eq!(node.api_url(), "https://[fd00::1]:8008/patroni");
    assert_eq!(
        node.etcd3.endpoints,
        ["https://e1:2379", "https://e2:2379", "https://e3:2379"]
    );
    assert_eq!(node.etcd3.login.as_ref().unwrap().password.expose(), "1234");
    assert_eq!(
        node.restapi
            .authentication
            .as_ref()
            .unwrap()
            .password
            .expose(),
        "12e45"
    );
    assert_eq!(node.ctl.authentication, node.restapi.authentication);
    assert_eq!(node.ctl.cacert, Some("/etc/ssl/ca.pem".into()));
    assert_eq!(node.postgresql.listen.addresses, "10.0.0.1,fd00::1");
    assert_eq!(node.postgresql.listen.port, 5433);
    assert_eq!(node.log.mode, Some(0o640));
    assert_eq!(node.watchdog.mode, WatchdogMode::Off);
    let replication = &node.postgresql.authentication.replication;
    assert_eq!(replication.username, "replicator");
    assert_eq!(replication.options["sslmode"], "verify-ca");
    assert_eq!(node.tags.failover_priority, 2);
    let tags: Value = serde_json::from_str(&node.tags.json).unwrap();
    assert_eq!(
        tags,
        json!({"failover_priority": 2, "rack": "7", "nofailover": false})
    );
}

#[test]
fn a_tls_sample_takes_effect() {
    let node = &read(TLS).unwrap().node;
    let effective = effective(node, Some(&node.bootstrap.dcs));
    assert_eq!(effective.warnings, Vec::<String>::new());
    let settings = effective.settings;
    assert_eq!(settings.synchronous_mode, SynchronousMode::Quorum);
    assert!(settings.failsafe_mode);
    assert_eq!(settings.lease_ttl, Span::from_secs(5));
    assert_eq!(settings.guard, GuardMode::Required);
    assert_eq!(settings.crash_handover, CrashHandover::Sync);
    assert_eq!(settings.permanent_slots, ["dr"]);
    let postgresql = effective.postgresql;
    let [
        ReplicaMethod::Custom {
            name,
            command,
            keep_data: true,
            ..
        },
        ReplicaMethod::Basebackup,
    ] = postgresql.methods.as_slice()
    else {
        panic!("{:?}", postgresql.methods);
    };
    assert_eq!(
        (name.as_str(), command.as_str()),
        ("pgbackrest", "pgbackrest restore")
    );
    assert_eq!(postgresql.basebackup.len(), 3);
    assert_eq!(postgresql.basebackup[1].value.as_deref(), Some("fast"));
    assert_eq!(
        postgresql.callbacks.on_role_change.as_deref(),
        Some("/etc/patroni/vip.sh")
    );
    assert_eq!(
        postgresql.recovery_conf["restore_command"],
        "cp /archive/%f %p"
    );
    assert_eq!(postgresql.parameters["cluster_note"], "payments");
}

fn container() -> BTreeMap<String, String> {
    env(&[
        ("PATH", "/bin"),
        ("PATRONI_SCOPE", "demo"),
        ("PATRONI_NAME", "n0"),
        ("PATRONI_RESTAPI_LISTEN", "0.0.0.0:8008"),
        ("PATRONI_RESTAPI_CONNECT_ADDRESS", "10.0.0.1:8008"),
        ("PATRONI_RESTAPI_USERNAME", "admin"),
        ("PATRONI_RESTAPI_PASSWORD", "top-secret"),
        (
            "PATRONI_RESTAPI_HTTP_EXTRA_HEADERS",
            "X-Frame-Options: DENY, X-A: b",
        ),
        ("PATRONI_ETCD3_HOSTS", "'e1:2379','e2:2379'"),
        ("PATRONI_POSTGRESQL_LISTEN", "0.0.0.0:5432"),
        ("PATRONI_POSTGRESQL_CONNECT_ADDRESS", "10.0.0.1:5432"),
        ("PATRONI_POSTGRESQL_DATA_DIR", "/data"),
        ("PATRONI_POSTGRESQL_BIN_PG_CTL", "pg_ctl15"),
        ("PATRONI_SUPERUSER_USERNAME", "postgres"),
        ("PATRONI_SUPERUSER_PASSWORD", "top-secret"),
        ("PATRONI_REPLICATION_USERNAME", "replicator"),
        ("PATRONI_REPLICATION_PASSWORD", "top-secret"),
        ("PATRONI_LOGLEVEL", "DEBUG"),
        ("PATRONI_LOG_LEVEL", "ERROR"),
    ])
}

#[test]
fn the_environment_alone_is_enough() {
    let loaded = load_environment(&container()).unwrap();
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let node = &loaded.node;
    assert_eq!(node.etcd3.endpoints, ["http://e1:2379", "http://e2:2379"]);
    assert_eq!(node.restapi.http_extra_headers["X-A"], "b");
    assert_eq!(node.postgresql.bin_name["pg_ctl"], "pg_ctl15");
    assert_eq!(node.log.level, LogLevel::Error);
    assert!(!node.bootstrap.configured);
    assert!(!format!("{loaded:?}").contains("top-secret"));
    let mut broken = container();
    broken.insert("PATRONI_RESTAPI_LISTEN".into(), "nonsense:port".into());
    broken.insert("PATRONI_FOO".into(), "1".into());
    let error = load_environment(&broken).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment variable PATRONI_RESTAPI_LISTEN: restapi.listen: expected HOST:PORT, \
         found \"nonsense:port\""
    );
    let error = load_environment(&env(&[("PATH", "/bin")])).unwrap_err();
    assert_eq!(error.to_string(), "Config is empty.");
}

/// Patroni's line, and nothing before it.
#[test]
fn nothing_but_comments_is_nothing() {
    let dir = Dir::new("comments");
    let file = dir.write("a.yml", "# scope: batman\n");
    let comments = env(&[("PATRONI_CONFIGURATION", "# none\n")]);
    let variable = env(&[("PATRONI_NAME", "n1")]);
    for error in [
        load(&file, &env(&[])).unwrap_err(),
        load(&file, &variable).unwrap_err(),
        load(&dir.0, &env(&[])).unwrap_err(),
        load_environment(&comments).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "Config is empty.");
    }
    dir.write("b.yml", SAMPLE);
    assert_eq!(load(&dir.0, &env(&[])).unwrap().node.scope, "batman");
}

#[test]
fn the_environment_overrides_files_of_a_directory() {
    let dir = Dir::new("directory");
    dir.write("10-base.yml", SAMPLE);
    dir.write(
        "20-more.yaml",
        "scope: robin\ntags: {noloadbalance: true}\nrestapi:\n  colour: red\nbootstrap: {post_init: null}\n",
    );
    dir.write("30-not-yaml.txt", "scope: [");
    let loaded = load(
        &dir.0,
        &env(&[("PATRONI_NAME", "other"), ("PATRONI_FOO", "1")]),
    )
    .unwrap();
    assert_eq!(loaded.node.scope, "robin");
    assert_eq!(loaded.node.name.as_str(), "other");
    assert!(loaded.node.tags.noloadbalance);
    assert_eq!(loaded.node.bootstrap.post_bootstrap, None, "null deletes");
    let more = dir.0.join("20-more.yaml");
    assert_eq!(
        loaded.warnings,
        [
            "environment variable PATRONI_FOO: unknown, ignored".to_owned(),
            format!("{}:4: restapi.colour: unknown key, ignored", more.display()),
        ]
    );
}

#[test]
fn files_that_are_not_there_or_not_yaml() {
    let dir = Dir::new("broken");
    let error = load(&dir.0.join("none.yml"), &env(&[]))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("none.yml: cannot be read: No such file or directory (os error 2)"));
    assert!(
        load(&dir.0, &env(&[]))
            .unwrap_err()
            .problem
            .contains("Config is empty")
    );
    let error = load(&dir.write("a.yml", "- a\n- b\n"), &env(&[]))
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("a.yml:1: expected a mapping of sections, found a list"),
        "{error}"
    );
    let error = load(&dir.write("a.yml", "a: 'x\n"), &env(&[]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a.yml:") && error.contains("not valid YAML"),
        "{error}"
    );
}

/// Each row: what stands in the sample, what is put in its place, the error that this gives.
fn refused(rows: &[(&str, &str, &str)]) {
    for (old, new, expected) in rows {
        assert!(SAMPLE.contains(old), "{old}");
        assert_eq!(problem(&SAMPLE.replacen(old, new, 1)), *expected);
    }
}

#[test]
fn errors_name_what_is_missing() {
    refused(&[
        (
            "scope: batman",
            "",
            "n.yml:4: scope: expected text, found nothing: add this key",
        ),
        (
            "  data_dir: data/postgresql0\n",
            "",
            "n.yml:43: postgresql.data_dir: expected a directory, found nothing: add this key",
        ),
        (
            "      username: replicator\n      password: rep-pass",
            "      password: rep-pass",
            "n.yml:49: postgresql.authentication.replication.username: expected text, found \
             nothing: add this key",
        ),
    ]);
}

#[test]
fn errors_name_what_has_another_shape() {
    refused(&[
        (
            "  parameters:\n    unix",
            "  parameters: [a]\n  x:\n    unix",
            "n.yml:58: postgresql.parameters: expected a mapping, found a list",
        ),
        (
            "      password: zalando",
            "      password: [zalando]",
            "n.yml:54: postgresql.authentication.superuser.password: expected text, found a list",
        ),
        (
            "listen: 127.0.0.1:8008",
            "listen: {a: 1}",
            "n.yml:7: restapi.listen: expected text, found a mapping",
        ),
        (
            "  - host all all 0.0.0.0/0 md5\n  post",
            "  - host: all\n  post",
            "n.yml:40: bootstrap.pg_hba: expected text, found a mapping: put the whole line in \
             quotes",
        ),
    ]);
}

#[test]
fn errors_name_sections_that_are_not_supported() {
    refused(&[
        (
            "etcd3:",
            "etcd:",
            "n.yml:12: etcd: expected section etcd3, found etcd, the old v2 API: rename the \
             section to etcd3 if the servers are etcd 3",
        ),
        (
            "etcd3:",
            "consul:",
            "n.yml:12: consul: expected section etcd3, found consul, which is not supported",
        ),
    ]);
}

#[test]
fn errors_name_values_out_of_range() {
    refused(&[
        (
            "tags:\n",
            "watchdog: {mode: maybe}\ntags:\n",
            "n.yml:64: watchdog.mode: expected one of off, false, automatic, required, found \
             \"maybe\"",
        ),
        (
            "tags:\n",
            "pgherd: {lease_ttl: 1}\ntags:\n",
            "n.yml:64: pgherd.lease_ttl: expected a time of 2 s or more, found 1",
        ),
        (
            "tags:\n",
            "pgherd: {lease_ttl: soon}\ntags:\n",
            "n.yml:64: pgherd.lease_ttl: expected a time of 2 s or more, found \"soon\"",
        ),
        (
            "tags:\n",
            "pgherd: {journal: here}\ntags:\n",
            "n.yml:64: pgherd.journal: expected an absolute path, or off, found \"here\"",
        ),
        (
            "tags:\n",
            "pgherd: {journal: [x]}\ntags:\n",
            "n.yml:64: pgherd.journal: expected an absolute path, or off, found a list",
        ),
    ]);
}

#[test]
fn doubtful_things_are_told() {
    let yaml = format!(
        "{SAMPLE}    nofailover: true\n    failover_priority: 1\nconsul: {{host: x}}\ncitus: {{group: 0}}\nlogg: 1\n"
    );
    let yaml = yaml
        .replace(
            "    shared_buffers",
            "    max_connections: 5\n    shared_buffers",
        )
        .replace("    ttl: 30\n", "    ttl: 30\n    tttl: 3\n")
        .replace("  - data-checksums", "  - pgdata: /x");
    let loaded = read(&yaml).unwrap();
    let warnings = loaded.warnings.join("\n");
    for part in [
        ": tags.nofailover: Conflicting configuration between nofailover: True and \
         failover_priority: 1. Defaulting to nofailover: True",
        ": consul: ignored, etcd3 is used",
        ": citus: has no effect yet",
        ": logg: unknown key, ignored",
        ":20: bootstrap.dcs.tttl: unknown key, ignored",
        "postgresql.parameters.max_connections: ignored, it is only taken from the dynamic",
        "bootstrap.initdb: option pgdata is not allowed, left out",
    ] {
        assert!(warnings.contains(part), "{part} in\n{warnings}");
    }
    assert!(loaded.node.tags.nofailover);
    let effective = effective(&loaded.node, None);
    assert_eq!(effective.postgresql.parameters["max_connections"], "100");
}

#[test]
fn ctl_needs_little() {
    let dir = Dir::new("ctl");
    let path = dir.write(
        "ctl.yml",
        "etcd3: {host: 'e1'}\nscope: x\nrestapi: {cafile: /ca}\n",
    );
    let (config, warnings) = load_ctl(Some(&path), &env(&[])).unwrap();
    assert_eq!(warnings, [] as [String; 0]);
    assert_eq!(config.scope.as_deref(), Some("x"));
    assert_eq!(config.etcd3.endpoints, ["http://e1:2379"]);
    assert_eq!(config.ctl.cacert, Some("/ca".into()));
    let url = dir.write("url.yml", "etcd3: {url: 'https://me:pw@e:1'}\n");
    let (config, _) = load_ctl(Some(&url), &env(&[])).unwrap();
    assert_eq!(config.etcd3.endpoints, ["https://e:1"]);
    assert_eq!(config.etcd3.login.unwrap().password.expose(), "pw");
}

fn settings(dynamic: Value) -> (Settings, Vec<String>) {
    let node = read(SAMPLE).unwrap().node;
    let effective = effective(&node, Some(&dynamic));
    (effective.settings, effective.warnings)
}

fn seconds(settings: &Settings) -> (u64, u64, u64, u64) {
    (
        settings.ttl.as_secs(),
        settings.loop_wait.as_secs(),
        settings.retry_timeout.as_secs(),
        settings.lease_ttl.as_secs(),
    )
}

#[test]
fn times_are_brought_into_range() {
    for (dynamic, expected, warnings) in [
        (json!({}), (30, 10, 10, 20), vec![]),
        (
            json!({"ttl": "30", "loop_wait": 5}),
            (30, 5, 10, 25),
            vec![],
        ),
        (
            json!({"ttl": 5}),
            (20, 1, 9, 19),
            vec![
                "ttl=5 can't be smaller than 20, adjusting...",
                "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl=20. \
                 Adjusting loop_wait from 10 to 1 and retry_timeout from 10 to 9",
            ],
        ),
        (
            json!({"ttl": 30, "loop_wait": 20, "retry_timeout": 10}),
            (30, 10, 10, 20),
            vec![
                "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl=30 and \
                 retry_timeout=10. Adjusting loop_wait from 20 to 10",
            ],
        ),
        (
            json!({"loop_wait": 0, "retry_timeout": "x", "pgherd": {"lease_ttl": 4}}),
            (30, 1, 10, 4),
            vec![
                "retry_timeout=x failed validation (expected an integer), ignored",
                "loop_wait=0 can't be smaller than 1, adjusting...",
                "pgherd.lease_ttl=4 is less than 5: a change of etcd's leader may demote the \
                 primary",
            ],
        ),
        (
            json!({"pgherd": {"lease_ttl": "2min"}}),
            (30, 10, 10, 30),
            vec!["pgherd.lease_ttl=120 is larger than ttl=30, using ttl"],
        ),
    ] {
        let (settings, told) = settings(dynamic.clone());
        assert_eq!(seconds(&settings), expected, "{dynamic}");
        assert_eq!(told, warnings, "{dynamic}");
    }
}

#[test]
fn the_other_settings() {
    let (settings, told) = settings(json!({
        "synchronous_mode": true, "synchronous_node_count": 0, "master_start_timeout": 0,
        "primary_stop_timeout": "1min", "maximum_lag_on_failover": "2MB",
        "maximum_lag_on_syncnode": 10, "pause": "on", "member_slots_ttl": 0, "check_timeline": 1,
        "postgresql": {"use_slots": false, "use_pg_rewind": "no",
            "parameters": {"synchronous_commit": "remote_apply"}},
        "slots": {"a": null, "Bad-Name": {}, "l": {"type": "logical", "database": "d", "plugin": "p"}},
        "pgherd": {"guard": false, "hang_timeout": 10, "crash_handover": "sync"},
        "unknown": {"kept": true}
    }));
    assert_eq!(
        told,
        [
            "synchronous_node_count=0 failed validation (expected an integer of 1 or more), ignored",
            "slots: \"Bad-Name\" is no name for a slot, ignored",
        ]
    );
    assert_eq!(settings.synchronous_mode, SynchronousMode::On);
    assert_eq!(settings.synchronous_node_count, 1);
    assert_eq!(settings.primary_start_timeout, Span::ZERO);
    assert_eq!(settings.primary_stop_timeout, Span::from_secs(60));
    assert_eq!(settings.maximum_lag_on_failover, 2 << 20);
    assert_eq!(settings.maximum_lag_on_syncnode, Some(10));
    assert_eq!(settings.commits_wait, CommitsWait::Replayed);
    assert!(settings.pause && settings.check_timeline);
    assert!(!settings.use_slots && !settings.use_pg_rewind);
    assert_eq!(settings.permanent_slots, ["a"]);
    assert_eq!(settings.guard, GuardMode::Off);
    assert_eq!(settings.hang_timeout, Span::from_secs(10));
    assert_eq!(settings.crash_handover, CrashHandover::Sync);
    let (defaults, _) = self::settings(json!([1]));
    assert_eq!(defaults, Settings::default());
}

#[test]
fn parameters_of_the_agent_are_guarded() {
    let node = read(SAMPLE).unwrap().node;
    let effective = effective(
        &node,
        Some(&json!({"postgresql": {"parameters": {
            "max_connections": "x", "max_wal_senders": 2, "wal_level": "minimal",
            "hot_standby": false, "track_commit_timestamp": true, "max_worker_processes": "0x10",
            "wal_keep_segments": 32, "port": 1, "Work_Mem": "8MB", "shared_buffers": "1GB",
            "archive_mode": true, "gone": null}}})),
    );
    let parameters = &effective.postgresql.parameters;
    for (name, value) in [
        ("max_connections", "100"),
        ("max_wal_senders", "10"),
        ("wal_level", "replica"),
        ("hot_standby", "on"),
        ("track_commit_timestamp", "on"),
        ("max_worker_processes", "16"),
        ("wal_keep_size", "512MB"),
        ("port", "5432"),
        ("work_mem", "8MB"),
        ("shared_buffers", "128MB"),
        ("archive_mode", "on"),
    ] {
        assert_eq!(
            parameters.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert!(!parameters.contains_key("gone"));
    assert!(!parameters.contains_key("wal_keep_segments"));
    assert_eq!(
        effective.warnings,
        [
            "postgresql parameter wal_level=minimal failed validation, defaulting to replica",
            "postgresql parameter hot_standby=off failed validation, defaulting to on",
            "postgresql parameter max_connections=x failed validation, defaulting to 100",
            "postgresql parameter max_wal_senders=2 failed validation, defaulting to 10",
        ]
    );
}

#[test]
fn merge_patches() {
    let mut config = json!({"ttl": 30, "postgresql": {"parameters": {"a": 1}, "x": 2}});
    merge_patch(
        &mut config,
        &json!({"ttl": null, "postgresql": {"parameters": {"b": 2}, "x": null}, "new": [1]}),
    );
    assert_eq!(
        config,
        json!({"postgresql": {"parameters": {"a": 1, "b": 2}}, "new": [1]})
    );
}

/// What an entry of `ignore_slots` does not name is any; an empty name is nobody's.
#[test]
fn slots_of_others_are_known_by_all_that_is_named() {
    let (settings, warnings) = settings(json!({"ignore_slots": [
        {"name": "barman", "type": "physical"},
        {"database": "app", "plugin": "pgoutput", "type": "logical"}, {"name": "", "type": "physical"},
        "barman",
    ]}));
    assert_eq!(
        warnings,
        ["ignore_slots: \"barman\" is no mapping, ignored"]
    );
    let slot = |name: &str, kind: pgherd_model::SlotKind| pgherd_model::Slot {
        name: name.into(),
        kind,
        active: false,
        temporary: false,
        restart: None,
        confirmed_flush: None,
        holds_xmin: false,
        lost: false,
        failover: false,
    };
    let physical = || pgherd_model::SlotKind::Physical;
    let logical = |database: &str, plugin: &str| pgherd_model::SlotKind::Logical {
        database: database.into(),
        plugin: plugin.into(),
    };
    for (name, kind, ignored) in [
        ("barman", physical(), true),
        ("other", physical(), false),
        ("barman", logical("app", "x"), false),
        ("any", logical("app", "pgoutput"), true),
        ("any", logical("other", "pgoutput"), false),
    ] {
        let slot = slot(name, kind);
        let fits = settings.ignored_slots.iter().any(|entry| entry.fits(&slot));
        assert_eq!(fits, ignored, "{slot:?}");
    }
}
