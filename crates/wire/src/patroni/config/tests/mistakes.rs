//! Mistakes that people make in a node's file: refused with one line, or told at start.

use super::{SAMPLE, container, effective, env, load_environment, problem, read, refused};
use serde_json::{Value, json};

/// The sample with something else in the place of `old`.
fn with(old: &str, new: &str) -> String {
    assert!(SAMPLE.contains(old), "{old}");
    SAMPLE.replacen(old, new, 1)
}

/// The sample with a value in `bootstrap.dcs`, at line 19.
fn with_dcs(line: &str) -> String {
    with("    ttl: 30\n", &format!("    {line}\n"))
}

/// Warnings about the sample with these lines added to the top level.
fn told(yaml: &str) -> Vec<String> {
    let warnings = read(yaml).unwrap().warnings;
    let place = "environment variable PATRONI_CONFIGURATION";
    warnings
        .iter()
        .map(|line| line.replace(place, "n.yml"))
        .collect()
}

#[test]
fn addresses_are_host_and_port() {
    let api = "connect_address: 127.0.0.1:8008";
    let pg = "connect_address: 127.0.0.1:5432";
    let expected =
        |place: &str, found: &str| format!("n.yml:{place}: expected HOST:PORT, found \"{found}\"");
    for bad in [
        "nonsense",
        "http://h:1",
        "h:port",
        "h:0",
        "h:70000",
        "a b:1",
        "u@h:1",
    ] {
        let line = format!("connect_address: '{bad}'");
        assert_eq!(
            problem(&with(api, &line)),
            expected("8: restapi.connect_address", bad)
        );
        assert_eq!(
            problem(&with(pg, &line)),
            expected("45: postgresql.connect_address", bad)
        );
        let line = format!("proxy_address: '{bad}'\n  {pg}");
        assert_eq!(
            problem(&with(pg, &line)),
            expected("45: postgresql.proxy_address", bad)
        );
        let line = format!("listen: '{bad}'");
        let listen = with("listen: 127.0.0.1:8008", &line);
        assert_eq!(problem(&listen), expected("7: restapi.listen", bad));
        let listen = with("listen: 127.0.0.1:5432", &line);
        assert_eq!(
            problem(&listen),
            format!("n.yml:44: postgresql.listen: expected ADDRESS[,…]:PORT, found \"{bad}\"")
        );
    }
    for bad in ["*:8008", ":8008", "0.0.0.0:8008", "[::]:8008"] {
        let error = problem(&with(api, &format!("connect_address: '{bad}'")));
        let start = "n.yml:8: restapi.connect_address: expected an address that others can reach";
        assert!(error.starts_with(start), "{error}");
    }
    let error = problem(&with(pg, "").replace("listen: 127.0.0.1:5432", "listen: '*:5432'"));
    assert!(
        error.contains("postgresql.connect_address: expected HOST:PORT"),
        "{error}"
    );
    for good in [
        "db-1.example:5432",
        "[fd00::1]:5432",
        "fd00::1:5432",
        "db_1:1",
    ] {
        read(&with(pg, &format!("connect_address: '{good}'"))).unwrap();
    }
}

#[test]
fn names_that_would_break_keys_are_refused() {
    let slash = "without `/`, because it is one part of the keys in etcd";
    for (key, old) in [("scope", "scope: batman"), ("name", "name: postgresql0")] {
        let line = if key == "scope" { 2 } else { 4 };
        for (value, expected) in [
            ("a/b", format!("expected text {slash}, found \"a/b\"")),
            ("''", "expected text, found empty text".into()),
            ("'  '", "expected text, found empty text".into()),
            (
                "' a'",
                "expected text without blanks at its ends, found \" a\"".into(),
            ),
            ("[a]", "expected text, found a list".into()),
        ] {
            let error = problem(&with(old, &format!("{key}: {value}")));
            assert_eq!(error, format!("n.yml:{line}: {key}: {expected}"));
        }
    }
}

/// Each row: a line of `bootstrap.dcs`, and what is said about it.
fn refused_in_dcs(rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        let yaml = with_dcs(line).replace("    maximum_lag_on_failover: 1048576\n", "");
        assert_eq!(
            problem(&yaml),
            format!("n.yml:19: bootstrap.dcs.{expected}")
        );
    }
}

#[test]
fn wrong_values_in_bootstrap_dcs_are_refused_where_they_stand() {
    refused_in_dcs(&[
        ("ttl: thirty", "ttl: expected an integer, found \"thirty\""),
        ("ttl: [30]", "ttl: expected an integer, found a list"),
        ("ttl: yes", "ttl: expected an integer, found true"),
        (
            "pause: maybe",
            "pause: expected a boolean (on or off), found \"maybe\"",
        ),
        (
            "maximum_lag_on_failover: -1",
            "maximum_lag_on_failover: expected a size of 0 or more, in bytes or with a unit, found -1",
        ),
        (
            "maximum_lag_on_syncnode: -2",
            "maximum_lag_on_syncnode: expected a size of -1 or more, in bytes or with a unit, found -2",
        ),
        (
            "synchronous_node_count: 0",
            "synchronous_node_count: expected an integer of 1 or more, found 0",
        ),
        (
            "max_timelines_history: -1",
            "max_timelines_history: expected an integer of 0 or more, found -1",
        ),
        (
            "synchronous_mode: always",
            "synchronous_mode: expected one of off, on, quorum, found \"always\"",
        ),
        (
            "primary_start_timeout: -1",
            "primary_start_timeout: expected a time in seconds or with a unit, found -1",
        ),
        (
            "member_slots_ttl: 5x",
            "member_slots_ttl: expected a time in seconds or with a unit, found \"5x\"",
        ),
    ]);
}

#[test]
fn wrong_collections_in_bootstrap_dcs_are_refused_where_they_stand() {
    refused_in_dcs(&[
        ("slots: [a]", "slots: expected a mapping, found a list"),
        (
            "slots: {Bad-Name: {}}",
            "slots.Bad-Name: expected a name of at most 63 of a-z, 0-9 and _ for this slot",
        ),
        (
            "slots: {a: b}",
            "slots.a: expected a mapping (type, database, plugin), found text",
        ),
        (
            "ignore_slots: {a: b}",
            "ignore_slots: expected a list, found a mapping",
        ),
        (
            "standby_cluster: on",
            "standby_cluster: expected a mapping, found a boolean",
        ),
        ("pgherd: x", "pgherd: expected a mapping, found text"),
        (
            "pgherd: {lease_ttl: five}",
            "pgherd.lease_ttl: expected a time of 2 s or more, found \"five\"",
        ),
        (
            "pgherd: {lease_ttl: 2.5}",
            "pgherd.lease_ttl: expected whole seconds, found a fraction",
        ),
        (
            "pgherd: {guard: maybe}",
            "pgherd.guard: expected one of automatic, required, off, found \"maybe\"",
        ),
    ]);
}

#[test]
fn wrong_values_in_dynamic_postgresql_are_refused_where_they_stand() {
    let old = "      use_pg_rewind: true";
    for (line, expected) in [
        (
            "use_slots: maybe",
            "use_slots: expected a boolean (on or off), found \"maybe\"",
        ),
        (
            "use_pg_rewind: 7",
            "use_pg_rewind: expected a boolean (on or off), found 7",
        ),
        (
            "pg_ident: x",
            "pg_ident: expected a list of text, found text",
        ),
        (
            "recovery_conf: x",
            "recovery_conf: expected a mapping, found text",
        ),
        (
            "basebackup: x",
            "basebackup: expected a list of names and `name: value`, found text",
        ),
        (
            "callbacks: {on_stop: [x]}",
            "callbacks.on_stop: expected text, found a list",
        ),
        (
            "pg_ctl_timeout: -1",
            "pg_ctl_timeout: expected a time in seconds or with a unit, found -1",
        ),
    ] {
        let error = problem(&with(old, &format!("      {line}")));
        assert_eq!(
            error,
            format!("n.yml:24: bootstrap.dcs.postgresql.{expected}")
        );
    }
    let error = problem(&with("wal_level: hot_standby", "work_mem: [1]"));
    assert_eq!(
        error,
        "n.yml:29: bootstrap.dcs.postgresql.parameters.work_mem: expected text, a number or a \
         boolean, found a list"
    );
    let error =
        problem(&with("    postgresql:\n", "    x:\n").replace("    ttl: 30", "    postgresql: x"));
    assert_eq!(
        error,
        "n.yml:19: bootstrap.dcs.postgresql: expected a mapping, found text"
    );
}

/// Patroni raises them with a warning, so they end nobody's start.
#[test]
fn times_that_are_raised_are_not_refused() {
    let node = read(&with_dcs("ttl: 5")).unwrap().node;
    let warnings = effective(&node, Some(&node.bootstrap.dcs)).warnings;
    assert!(
        warnings[0].starts_with("ttl=5 can't be smaller than 20"),
        "{warnings:?}"
    );
}

/// Patroni takes every text for true: so what says so is.
#[test]
fn a_quoted_flag_that_says_true_is_true() {
    let text = SAMPLE.replace("clonefrom: false", "clonefrom: 'true'");
    let loaded = read(&text).unwrap();
    assert!(loaded.node.tags.clonefrom);
    assert_eq!(told(&text), [] as [String; 0]);
}

#[test]
fn tags_are_of_their_types() {
    refused(&[
        (
            "noloadbalance: false",
            "nofailover: maybe",
            "n.yml:65: tags.nofailover: expected a boolean (true or false, without quotes), found text",
        ),
        (
            "noloadbalance: false",
            "nosync: 'false'",
            "n.yml:65: tags.nosync: expected a boolean (true or false, without quotes), found text",
        ),
        (
            "clonefrom: false",
            "clonefrom: [x]",
            "n.yml:66: tags.clonefrom: expected a boolean (on or off), found a list",
        ),
        (
            "nostream: false",
            "nostream: 2",
            "n.yml:67: tags.nostream: expected a boolean (on or off), found 2",
        ),
        (
            "clonefrom: false",
            "failover_priority: high",
            "n.yml:66: tags.failover_priority: expected an integer of 0 or more, found \"high\"",
        ),
        (
            "clonefrom: false",
            "sync_priority: -1",
            "n.yml:66: tags.sync_priority: expected an integer of 0 or more, found -1",
        ),
        (
            "clonefrom: false",
            "replicatefrom: [a]",
            "n.yml:66: tags.replicatefrom: expected text, found a list",
        ),
    ]);
    let node = read(&with("clonefrom: false", "replicatefrom: 7"))
        .unwrap()
        .node;
    assert_eq!(node.tags.replicatefrom.unwrap().as_str(), "7");
}

/// What the agent gives to programs itself is left out wherever it is given.
#[test]
fn options_that_the_agent_decides_are_left_out() {
    for name in [
        "pgdata",
        "-D",
        "no-sync",
        "nosync",
        "-N",
        "pwfile",
        "sync-only",
        "version",
    ] {
        for item in [format!("  - {name}"), format!("  - {name}: /x")] {
            let yaml = with("  - data-checksums", &item);
            let name = name.trim_start_matches('-');
            let line =
                format!("n.yml:35: bootstrap.initdb: option {name} is not allowed, left out");
            assert_eq!(told(&yaml), [line]);
            assert_eq!(read(&yaml).unwrap().node.bootstrap.initdb.len(), 1);
        }
    }
    let node = read(SAMPLE).unwrap().node;
    let given = |option: Value| {
        let dynamic = json!({"postgresql": {"basebackup": [option]}});
        effective(&node, Some(&dynamic))
    };
    for option in [
        json!({"compress": "gzip"}),
        json!({"compress": 9}),
        json!("compress"),
        json!({"-Z": "client-lz4"}),
        json!("gzip"),
        json!({"wal-method": "fetch"}),
        json!({"-D": "/x"}),
    ] {
        let got = given(option.clone());
        assert!(got.postgresql.basebackup.is_empty(), "{option}");
        assert_eq!(got.warnings.len(), 1, "{option}: {:?}", got.warnings);
    }
    for option in [
        json!({"compress": "server-lz4"}),
        json!({"compress": "none"}),
        json!({"max-rate": "10M"}),
    ] {
        let got = given(option.clone());
        assert_eq!(got.postgresql.basebackup.len(), 1, "{option}");
        assert_eq!(got.warnings, [] as [String; 0]);
    }
}

#[test]
fn options_of_initdb_are_one_each() {
    refused(&[
        (
            "  - encoding: UTF8\n",
            "  - encoding: UTF8\n    locale: C\n",
            "n.yml:36: bootstrap.initdb: expected `- name` or `- name: value`, found one item with 2 \
             keys (encoding, locale): put a dash before each",
        ),
        (
            "  - data-checksums\n",
            "  - [data-checksums]\n",
            "n.yml:37: bootstrap.initdb: expected `- name` or `- name: value`, found a list",
        ),
        (
            "  - encoding: UTF8\n",
            "  - encoding: [UTF8]\n",
            "n.yml:36: bootstrap.initdb: expected `- name` or `- name: value`, found a list as value \
             of encoding",
        ),
    ]);
}

#[test]
fn unknown_keys_are_told_at_every_level() {
    let yaml = SAMPLE
        .replace(
            "    ttl: 30\n",
            "    ttl: 30\n    pgherd: {gard: off}\n    k1: 1\n",
        )
        .replace(
            "      use_pg_rewind: true\n",
            "      use_pg_rewind: true\n      k2: 1\n",
        )
        .replace("  initdb:\n", "  k3: 1\n  initdb:\n")
        .replace(
            "  pgpass: /tmp/pgpass0\n",
            "  k4: 1\n  callbacks: {k5: x}\n",
        )
        .replace(
            "      username: replicator\n",
            "      username: replicator\n      k6: 1\n",
        )
        .replace("    superuser:\n", "    k7: 1\n    superuser:\n")
        .replace(
            "  - 127.0.0.1:2379\n    - etcd2:2379\n",
            "  - e1\n  k8: 1\n",
        )
        + "log: {k9: 1}\nctl: {k10: 1}\npgherd: {k11: 1}\nwatchdog: {mode: off, k12: 1}\nk13: 1\n";
    let warnings = told(&yaml);
    for (place, key) in [
        (20, "bootstrap.dcs.pgherd.gard"),
        (21, "bootstrap.dcs.k1"),
        (27, "bootstrap.dcs.postgresql.k2"),
        (38, "bootstrap.k3"),
        (51, "postgresql.k4"),
        (52, "postgresql.callbacks.k5"),
        (56, "postgresql.authentication.replication.k6"),
        (58, "postgresql.authentication.k7"),
        (15, "etcd3.k8"),
        (75, "log.k9"),
        (76, "ctl.k10"),
        (77, "pgherd.k11"),
        (78, "watchdog.k12"),
        (79, "k13"),
    ] {
        let line = format!("n.yml:{place}: {key}: unknown key, ignored");
        assert!(
            warnings.contains(&line),
            "{line} in\n{}",
            warnings.join("\n")
        );
    }
    let unknown = warnings.iter().filter(|line| line.contains("unknown key"));
    assert_eq!(unknown.count(), 14, "{}", warnings.join("\n"));
}

/// What Patroni takes only from the node's own section, or decides itself.
#[test]
fn keys_at_the_wrong_level_are_told() {
    let yaml = with(
        "      use_pg_rewind: true\n",
        "      use_slots: false\n      data_dir: /x\n      pgbackrest: {command: x, any: 1}\n",
    )
    .replace("wal_level: hot_standby", "port: 7")
    .replace("  pgpass: /tmp/pgpass0\n", "  use_slots: false\n");
    assert_eq!(
        told(&yaml),
        [
            "n.yml:31: bootstrap.dcs.postgresql.parameters.port: ignored, it follows from scope and \
             postgresql.listen of each node",
            "n.yml:25: bootstrap.dcs.postgresql.data_dir: ignored, it is only taken from section \
             postgresql of the node itself",
            "n.yml:49: postgresql.use_slots: ignored, it is only taken from the dynamic \
             configuration",
        ]
    );
}

#[test]
fn what_is_not_acted_on_is_told() {
    let start = |section: &str| told(&format!("{SAMPLE}{section}\n"));
    assert_eq!(start("watchdog: {mode: required}"), [] as [String; 0]);

    let postgresql = "  pre_promote: x\n  before_stop: x\n  pg_ctl_timeout: 7\n  \
                      create_replica_methods: [basebackup, wal_e]\n  wal_e: {command: x}\n";
    let warnings = told(&with("  pgpass: /tmp/pgpass0\n", postgresql));
    assert_eq!(warnings, Vec::<String>::new());

    let node = read(SAMPLE).unwrap().node;
    let dynamic = json!({
        "standby_cluster": {"host": "x", "port": "y"}, "ignore_slots": [{}, 5],
        "slots": {"a": {"type": "logical", "database": "d"}},
        "postgresql": {"pg_ctl_timeout": 7, "create_replica_methods": ["wal_e"]},
    });
    let told = effective(&node, Some(&dynamic)).warnings;
    for key in ["standby_cluster", "ignore_slots", "slots.a:"] {
        assert_eq!(
            told.iter().filter(|line| line.starts_with(key)).count(),
            1,
            "{key} in {told:?}"
        );
    }
    assert_eq!(told.len(), 3, "{told:?}");
}

/// Nobody may get an empty cluster where the configuration says how to restore one.
#[test]
fn a_method_that_makes_the_cluster_needs_its_command() {
    let with_method = |method: &str| with("  initdb:\n", &format!("{method}\n  initdb:\n"));
    let good = with_method("  method: pitr\n  pitr: {command: restore, recovery_conf: {a: 1}}");
    let loaded = read(&good).unwrap();
    assert!(loaded.node.bootstrap.configured);
    assert_eq!(loaded.node.bootstrap.method.unwrap().command, "restore");
    for (wrong, key) in [
        ("  method: pitr", "bootstrap.pitr.command"),
        (
            "  method: pitr\n  pitr: {no_params: true}",
            "bootstrap.pitr.command",
        ),
        ("  method: pitr\n  pitr: restore", "bootstrap.pitr"),
        (
            "  method: pitr\n  pitr: {command: x, recovery_conf: [a]}",
            "bootstrap.pitr.recovery_conf",
        ),
    ] {
        let error = read(&with_method(wrong)).unwrap_err().to_string();
        assert!(error.contains(&format!("{key}: ")), "{error}");
    }
    let initdb = read(&with_method("  method: initdb")).unwrap().node;
    assert!(initdb.bootstrap.method.is_none());
}

/// `PATCH /config` takes what each node has for itself, and no node takes it from there.
#[test]
fn local_keys_from_etcd_are_told() {
    let keys = [
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
    let node = read(SAMPLE).unwrap().node;
    let defaults = effective(&node, Some(&json!({})));
    for key in keys {
        let got = effective(&node, Some(&json!({"postgresql": {key: "on"}})));
        assert_eq!(got.postgresql, defaults.postgresql, "{key}");
        let line = format!(
            "postgresql.{key}: ignored, it is only taken from section postgresql of the node itself"
        );
        assert_eq!(got.warnings, [line]);
    }
    // In bootstrap.dcs it was told with its line, and is not told again.
    let yaml = with("      use_pg_rewind: true\n", "      bin_dir: /x\n");
    let node = read(&yaml).unwrap().node;
    let stored = node.bootstrap.dcs.clone();
    assert_eq!(effective(&node, Some(&stored)).warnings, [] as [String; 0]);
    assert_eq!(told(&yaml).len(), 1);
}

/// Each row: a dynamic configuration, the key that is wrong, and its value. One warning that names
/// both, and the rest as it is by default.
fn replaced(rows: &[(Value, &str, &str)]) {
    let node = read(SAMPLE).unwrap().node;
    let defaults = effective(&node, Some(&json!({})));
    for (dynamic, key, value) in rows {
        let got = effective(&node, Some(dynamic));
        assert_eq!(got.settings, defaults.settings, "{dynamic}");
        assert_eq!(got.postgresql, defaults.postgresql, "{dynamic}");
        let [warning] = got.warnings.as_slice() else {
            panic!("{dynamic}: {:?}", got.warnings);
        };
        let start = format!("{key}={value} failed validation (expected ");
        assert!(
            warning.replace("e+", "e").starts_with(&start),
            "{dynamic}: {warning}"
        );
    }
}

/// What arrives through `PATCH /config` or etcd ends nothing.
#[test]
fn wrong_values_from_etcd_are_replaced() {
    replaced(&[
        (json!({"ttl": "thirty"}), "ttl", "thirty"),
        (json!({"ttl": 1e300}), "ttl", "1e300"),
        (
            json!({"loop_wait": i64::MIN}),
            "loop_wait",
            "-9223372036854775808",
        ),
        (json!({"pause": "maybe"}), "pause", "maybe"),
        (json!({"pgherd": "x"}), "pgherd", "x"),
        (
            json!({"pgherd": {"lease_ttl": "five"}}),
            "pgherd.lease_ttl",
            "five",
        ),
        (
            json!({"pgherd": {"lease_ttl": 1e18}}),
            "pgherd.lease_ttl",
            "1e18",
        ),
        (
            json!({"pgherd": {"guard": "maybe"}}),
            "pgherd.guard",
            "maybe",
        ),
        (
            json!({"pgherd": {"crash_handover": "on"}}),
            "pgherd.crash_handover",
            "on",
        ),
        (json!({"slots": 5}), "slots", "5"),
        (json!({"synchronous_mode": "x"}), "synchronous_mode", "x"),
        (
            json!({"maximum_lag_on_failover": -1}),
            "maximum_lag_on_failover",
            "-1",
        ),
        (
            json!({"primary_start_timeout": "x"}),
            "primary_start_timeout",
            "x",
        ),
    ]);
}

#[test]
fn wrong_values_of_postgresql_from_etcd_are_replaced() {
    replaced(&[
        (json!({"postgresql": "x"}), "postgresql", "x"),
        (
            json!({"postgresql": {"use_slots": "maybe"}}),
            "postgresql.use_slots",
            "maybe",
        ),
        (
            json!({"postgresql": {"use_pg_rewind": 7}}),
            "postgresql.use_pg_rewind",
            "7",
        ),
        (
            json!({"postgresql": {"parameters": 7}}),
            "postgresql.parameters",
            "7",
        ),
    ]);
}

#[test]
fn a_dynamic_configuration_that_is_no_object_is_replaced() {
    let node = read(SAMPLE).unwrap().node;
    let defaults = effective(&node, Some(&json!({})));
    for whole in [json!([1]), json!("x"), json!(1), Value::Null] {
        let got = effective(&node, Some(&whole));
        assert_eq!(got.settings, defaults.settings);
        assert_eq!(got.warnings.len(), 1, "{whole}");
    }
}

/// The largest values that are taken: nothing that is computed from them may overflow.
#[test]
fn the_largest_times_are_taken() {
    let node = read(SAMPLE).unwrap().node;
    let most = i64::from(i32::MAX);
    let times = json!({"ttl": most, "loop_wait": most, "retry_timeout": most,
        "pgherd": {"lease_ttl": most, "hang_timeout": most}, "member_slots_ttl": most});
    let settings = effective(&node, Some(&times)).settings;
    assert_eq!(settings.ttl.as_secs(), most.unsigned_abs());
    assert!(settings.loop_wait + settings.retry_timeout * 2 <= settings.ttl);
}

/// What stands in a variable is named by the variable.
#[test]
fn variables_are_named() {
    for (name, value, expected) in [
        ("SCOPE", "a/b", "scope: expected text without `/`"),
        (
            "RESTAPI_CONNECT_ADDRESS",
            "nonsense",
            "restapi.connect_address: expected HOST:PORT",
        ),
        (
            "POSTGRESQL_LISTEN",
            "nonsense",
            "postgresql.listen: expected ADDRESS",
        ),
        (
            "ETCD3_PROTOCOL",
            "htp",
            "etcd3.protocol: expected one of http, https, found \"htp\"",
        ),
        (
            "ETCD3_USE_PROXIES",
            "maybe",
            "etcd3.use_proxies: expected a boolean",
        ),
        (
            "ETCD3_HOSTS",
            "a b:1",
            "etcd3.hosts: expected HOST:PORT, found \"a b:1\"",
        ),
        (
            "LOG_LEVEL",
            "LOUD",
            "log.level: expected one of DEBUG, INFO",
        ),
        (
            "RESTAPI_VERIFY_CLIENT",
            "maybe",
            "restapi.verify_client: expected one of none",
        ),
        ("CTL_INSECURE", "maybe", "ctl.insecure: expected a boolean"),
    ] {
        let mut variables = container();
        variables.insert(format!("PATRONI_{name}"), value.into());
        let error = load_environment(&variables).unwrap_err().to_string();
        let start = format!("environment variable PATRONI_{name}: {expected}");
        assert!(error.starts_with(&start), "{error}");
    }
    let error = load_environment(&env(&[("PATRONI_SCOPE", "x")])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment: name: expected text, found nothing: add this key"
    );
}
