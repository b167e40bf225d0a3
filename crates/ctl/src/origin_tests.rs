//! Stories of a node's settings: one file, one dynamic configuration, one environment variable.

use super::*;
use pgherd_wire::patroni::config::{Configured, load, tell};
use serde_json::json;
use std::collections::BTreeMap;

const FILE: &str = "\
scope: demo
name: n1
ttl: 60
restapi: {listen: 127.0.0.1:8008, connect_address: 127.0.0.1:8008}
etcd3: {url: 'https://me:verysecret@etcd:2379'}
pgherd:
  guard: required
bootstrap:
  dcs:
    loop_wait: 7
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /data
  use_pg_rewind: true
  authentication:
    superuser: {username: postgres, password: verysecret}
    replication: {username: rep, password: verysecret}
  parameters:
    work_mem: 8MB
    max_connections: 200
    port: 1
    primary_conninfo: password=verysecret
  pg_hba:
    - host all all 0.0.0.0/0 ldap ldapserver=h ldapbindpasswd=verysecret
  recovery_conf: {primary_conninfo: password=verysecret, restore_command: cp}
  keyfile_password: verysecret
";

fn origins() -> Origins {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("n1.yml");
    std::fs::write(&path, FILE).unwrap();
    let env = BTreeMap::from([(
        "PATRONI_RESTAPI_LISTEN".to_owned(),
        "127.0.0.1:8009".to_owned(),
    )]);
    let loaded = load(&path, &env).unwrap();
    let mut found = loaded.givens;
    // Directories of tests have other names every time.
    for given in &mut found {
        given.place = given.place.replace(&path.display().to_string(), "n1.yml");
    }
    let pending = |name: &str, old: &str, new: &str| Pending {
        name: name.into(),
        old: old.into(),
        new: new.into(),
    };
    Origins {
        givens: found,
        node: loaded.node,
        compared: None,
        refused: Vec::new(),
        dynamic: json!({"ttl": 5, "postgresql": {"use_pg_rewind": false,
            "parameters": {"max_connections": 50, "work_mem": "4MB"}}}),
        etcd: "etcd".into(),
        pending: vec![pending("max_connections", "100", "50")],
    }
}

fn told(layers: &[Layer]) -> Vec<String> {
    layers.iter().map(Layer::told).collect()
}

fn ignored(story: &Story) -> Vec<String> {
    let ignored = story.ignored.iter();
    ignored.map(|(layer, _)| layer.told()).collect()
}

#[test]
fn the_file_wins_over_the_dynamic_configuration() {
    let story = origins().story("work_mem");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("8MB", "n1.yml:20")
    );
    assert_eq!(told(&story.overrides), ["etcd (4MB)"]);
    let story = origins().story("postgresql.use_pg_rewind");
    assert_eq!(story.source, "n1.yml:15");
    assert_eq!(told(&story.overrides), ["etcd (off)", "default (off)"]);
    let story = origins().story("pgherd.guard");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("required", "n1.yml:7")
    );
}

#[test]
fn what_the_agent_owns_comes_from_the_dynamic_configuration() {
    let story = origins().story("postgresql.parameters.max_connections");
    assert_eq!(
        (story.in_force().as_str(), &story.value),
        ("100", &json!("50"))
    );
    assert_eq!(story.source, "etcd");
    assert_eq!(told(&story.overrides), ["default (100)"]);
    assert_eq!(ignored(&story), ["n1.yml:21 (200)"]);
    assert_eq!(story.pending.as_ref().unwrap().told(), "100 -> 50");
    let first = "a standby must not have less than its primary: restart the primary first";
    assert!(story.notes[0].starts_with(first), "{:?}", story.notes);
    let story = origins().story("port");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("5432", "n1.yml:12 (postgresql.listen)")
    );
    assert_eq!(ignored(&story), ["n1.yml:22 (1)"]);
    let story = origins().story("max_wal_senders");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("10", "default")
    );
}

#[test]
fn what_is_adjusted_is_told() {
    let story = origins().story("ttl");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("20", "etcd")
    );
    assert_eq!(ignored(&story), ["n1.yml:3 (60)"]);
    assert!(
        story.notes[0].starts_with("ttl=5 can't be smaller than 20"),
        "{:?}",
        story.notes
    );
    let story = origins().story("loop_wait");
    assert_eq!(ignored(&story), ["n1.yml:10 (7)"]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let story = origins().story("restapi.listen");
    assert_eq!(story.source, "environment variable PATRONI_RESTAPI_LISTEN");
    assert_eq!(told(&story.overrides), ["n1.yml:4 (127.0.0.1:8008)"]);
}

#[test]
fn secrets_are_hidden() {
    let mut origins = origins();
    origins.dynamic["postgresql"]["recovery_conf"] =
        json!({"primary_conninfo": "host=h password=verysecret", "restore_command": "cp"});
    origins.dynamic["postgresql"]["pg_hba"] =
        json!(["host all all all ldap ldapbindpasswd=verysecret"]);
    origins.dynamic["postgresql"]["parameters"]["archive_command"] =
        "curl https://me:verysecret@h/%f".into();
    let conninfo = |host: &str| format!("host={host} password=verysecret");
    for name in ["primary_conninfo", "archive_command"] {
        origins.pending.push(Pending {
            name: name.into(),
            old: conninfo("a"),
            new: conninfo("b"),
        });
    }
    let mut stories = origins.all();
    let names: Vec<String> = origins
        .givens
        .iter()
        .map(|given| given.path.join("."))
        .collect();
    for name in names.iter().map(String::as_str).chain([
        "postgresql.authentication.superuser",
        "postgresql.authentication",
        "postgresql",
        "postgresql.parameters",
        "postgresql.recovery_conf",
        "primary_conninfo",
        "etcd3",
    ]) {
        stories.push(origins.story(name));
    }
    let shown = format!("{stories:?}");
    assert!(!shown.contains("verysecret"), "{shown}");
    let of = |name: &str| {
        let story = origins.story(name);
        (
            story.in_force(),
            story.pending.map(|pending| pending.told()),
        )
    };
    let (url, _) = of("etcd3.url");
    assert_eq!(url, "https://********@etcd:2379");
    // What is beside a secret stays.
    let (hba, _) = of("postgresql.pg_hba");
    assert!(
        hba.contains("ldapserver=h ldapbindpasswd=********"),
        "{hba}"
    );
    let pending = "host=a password=******** -> host=b password=********";
    let (_, told) = of("archive_command");
    assert_eq!(told.as_deref(), Some(pending));
    let (old, told) = of("primary_conninfo");
    assert_eq!(old, HIDDEN);
    assert_eq!(told, Some(format!("{HIDDEN} -> {HIDDEN}")));
}

#[test]
fn older_names_count_where_none_of_today_stands() {
    let mut origins = origins();
    origins.dynamic = json!({"master_start_timeout": 100,
        "postgresql": {"parameters": {"wal_keep_segments": 20}}});
    for name in ["primary_start_timeout", "master_start_timeout"] {
        let story = origins.story(name);
        assert_eq!(story.name, "primary_start_timeout");
        assert_eq!(story.in_force(), "100");
        assert_eq!(story.source, "etcd (master_start_timeout)");
        assert_eq!(told(&story.overrides), ["default (300)"]);
    }
    for name in ["wal_keep_size", "wal_keep_segments"] {
        let story = origins.story(name);
        assert_eq!(story.name, "wal_keep_size");
        assert_eq!(story.in_force(), "320MB");
        assert_eq!(story.source, "etcd (wal_keep_segments, 16 MB each)");
    }
    origins.dynamic["primary_start_timeout"] = 50.into();
    let story = origins.story("primary_start_timeout");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("50", "etcd")
    );
    assert_eq!(
        told(&story.overrides),
        ["etcd (master_start_timeout) (100)", "default (300)"]
    );
    origins.dynamic["postgresql"]["parameters"]["wal_keep_size"] = "64MB".into();
    let story = origins.story("wal_keep_size");
    assert_eq!(
        (story.in_force().as_str(), story.source.as_str()),
        ("64MB", "etcd")
    );
    assert_eq!(
        ignored(&story),
        ["etcd (wal_keep_segments, 16 MB each) (20)"]
    );
}

#[test]
fn what_is_not_accepted_does_not_count() {
    let mut origins = origins();
    origins.pending.clear();
    origins.dynamic = json!({"ttl": "soon", "slots": 5, "ttll": 5, "restapi": {"listen": "x"},
        "postgresql": {"data_dir": "/x", "parameters": {"max_connections": 10}}});
    let variable = "environment variable PATRONI_RESTAPI_LISTEN";
    for (name, held, source) in [
        ("max_connections", "100", "default"),
        ("ttl", "30", "default"),
        ("slots", "not set", "not set"),
        ("ttll", "not set", "not set"),
        ("restapi.listen", "127.0.0.1:8009", variable),
        ("postgresql.data_dir", "/data", "n1.yml:14"),
    ] {
        let story = origins.story(name);
        assert_eq!(story.in_force(), held, "{name}");
        assert_eq!(story.source, source, "{name}");
        assert!(ignored(&story)[0].starts_with("etcd ("), "{story:?}");
    }
    // Nor does a file count for what is the same for all members.
    let story = origins.story("ttl");
    assert_eq!(ignored(&story), ["etcd (soon)", "n1.yml:3 (60)"]);
}

#[test]
fn keys_without_a_default_are_no_parameters() {
    let mut origins = origins();
    origins.dynamic["standby_cluster"] = json!({"host": "far"});
    origins.dynamic["ignore_slots"] = json!([{"name": "a"}]);
    let of = |name: &str| {
        let story = origins.story(name);
        (story.in_force(), story.source)
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(of("standby_cluster"), pair("{\"host\":\"far\"}", "etcd"));
    assert_eq!(of("ignore_slots"), pair("[{\"name\":\"a\"}]", "etcd"));
    assert_eq!(of("pgherd"), pair("{\"guard\":\"required\"}", "n1.yml:7"));
    for name in ["slots", "tags", "watchdog.driver", "restapi.certfile"] {
        assert_eq!(of(name), pair("not set", "not set"), "{name}");
    }
    let extension = of("auto_explain.log_nested_statements");
    assert_eq!(extension, pair("not set", POSTGRESQL));
    let story = origins.story("ttll");
    assert_eq!(story.source, PERHAPS);
    let note = "no setting of the agent has this name: was ttl meant?";
    assert_eq!(story.notes, [note]);
}

#[test]
fn all_that_is_set_is_told_once() {
    let mut origins = origins();
    origins.dynamic["permanent_slots"] = json!({"a": {"type": "physical"}});
    origins.dynamic["surplus"] = 1.into();
    let stories = origins.all();
    let names: Vec<&str> = stories.iter().map(|story| story.name.as_str()).collect();
    for name in [
        "ttl",
        "slots",
        "surplus",
        "restapi.listen",
        "etcd3.url",
        "pgherd.guard",
        "postgresql.listen",
        "postgresql.pg_hba",
        "postgresql.recovery_conf",
        "work_mem",
        "max_connections",
    ] {
        let times = names.iter().filter(|known| **known == name).count();
        assert_eq!(times, 1, "{name}: {names:?}");
    }
    let first = |name: &&str| name.starts_with("bootstrap.dcs");
    assert!(!names.iter().any(first), "{names:?}");
}

#[test]
fn what_nobody_set_is_postgresqls() {
    let story = origins().story("Random_Page_Cost");
    assert_eq!(story.in_force(), "not set");
    assert!(story.source.starts_with("PostgreSQL"), "{}", story.source);
}

#[test]
fn what_postgresql_refused_is_not_in_force() {
    let mut origins = origins();
    let refused = |name: &str, value: &str, in_force: Option<&str>| Refused {
        name: name.into(),
        value: value.into(),
        why: "out of range".into(),
        in_force: in_force.map(str::to_owned),
    };
    origins.dynamic["postgresql"]["parameters"]["nonsense"] = 1.into();
    origins.refused = vec![
        refused("work_mem", "8MB", Some("4MB")),
        refused("nonsense", "1", None),
    ];
    let story = origins.story("work_mem");
    assert_eq!(
        (story.in_force().as_str(), &story.value),
        ("4MB", &json!("8MB"))
    );
    let told = story.refused.map(|refused| refused.told());
    assert_eq!(told.as_deref(), Some("out of range; in force: 4MB"));
    let story = origins.story("nonsense");
    assert_eq!(story.in_force_value(), Value::Null);
    let told = story.refused.map(|refused| refused.told());
    assert_eq!(told.as_deref(), Some("out of range; in force: not set"));
    // It was said of an earlier value.
    origins.refused = vec![refused("work_mem", "1kB", Some("4MB"))];
    let story = origins.story("work_mem");
    assert_eq!((story.in_force().as_str(), story.refused), ("8MB", None));
}

#[test]
fn settings_of_the_node_have_their_defaults() {
    let mut origins = origins();
    let of = |origins: &Origins, name: &str| {
        let story = origins.story(name);
        (story.in_force(), story.source)
    };
    for (name, value) in [
        ("log.level", "INFO"),
        ("log.type", "plain"),
        ("namespace", "/service"),
        ("postgresql.database", "postgres"),
        ("postgresql.config_dir", "/data"),
        ("postgresql.pg_ctl_timeout", "60"),
        ("postgresql.create_replica_methods", "[\"basebackup\"]"),
        ("watchdog.mode", "automatic"),
        ("restapi.request_queue_size", "5"),
        ("tags.nofailover", "off"),
        ("pgherd.journal", "/data.pgherd-journal"),
    ] {
        let expected = (value.to_owned(), "default".to_owned());
        assert_eq!(of(&origins, name), expected, "{name}");
        let times = origins
            .all()
            .iter()
            .filter(|told| told.name == name)
            .count();
        assert_eq!(times, 1, "{name}");
    }
    // They go on to be what is overridden.
    origins.givens.push(Given {
        path: vec!["watchdog".into(), "mode".into()],
        value: "off".into(),
        place: "n1.yml:40".into(),
        from_environment: false,
    });
    let story = origins.story("watchdog.mode");
    assert_eq!(
        (story.in_force(), story.source),
        ("off".into(), "n1.yml:40".into())
    );
    assert_eq!(told(&story.overrides), ["default (automatic)"]);
    // It has to be set.
    assert_eq!(origins.story("restapi.listen").overrides.len(), 1);
}

/// The agent has what [`origins`] has; this program reads something else.
fn edited() -> Origins {
    let mut origins = origins();
    let told = origins.givens.iter().map(|given| tell(given, "salt"));
    let agent = Configured {
        file: Some("/c/n1.yml".into()),
        given: told.collect(),
        salt: "salt".into(),
        ..Configured::default()
    };
    let mut own = origins.givens.clone();
    let given = |path: &[&str], value: &str, place: &str| Given {
        path: path.iter().map(|key| (*key).to_owned()).collect(),
        value: value.into(),
        place: place.into(),
        from_environment: place.starts_with("environment"),
    };
    for own in &mut own {
        if own.path.ends_with(&["work_mem".to_owned()]) {
            own.value = "64MB".into();
        }
    }
    let parameters = ["postgresql", "parameters"];
    let deep = |name: &'static str| [parameters.as_slice(), &[name]].concat();
    own.push(given(&deep("Temp_Buffers"), "9MB", "/c/n1.yml:50"));
    own.push(given(&deep("ext.one"), "1", "/c/n1.yml:51"));
    own.push(given(&["surplus"], "x", "/c/n1.yml:52"));
    own.push(given(
        &["log", "level"],
        "ERROR",
        "environment variable PATRONI_LOG_LEVEL",
    ));
    let file = std::path::Path::new("/c/n1.yml");
    origins.compared = Some(Compared::new(("demo", "n1"), agent, Some(file), &own));
    origins
}

/// What the agent has is in force; what was edited since is told beside it, also where it is new.
#[test]
fn what_is_not_loaded_is_not_in_force() {
    let origins = edited();
    let all = origins.all();
    for (name, in_force, unloaded) in [
        ("work_mem", "8MB", "n1.yml:20 (64MB): the agent has 8MB "),
        (
            "temp_buffers",
            "not set",
            "/c/n1.yml:50 (9MB): the agent has nothing there ",
        ),
        (
            "ext.one",
            "not set",
            "/c/n1.yml:51 (1): the agent has nothing there ",
        ),
        (
            "surplus",
            "not set",
            "/c/n1.yml:52 (x): the agent has nothing there ",
        ),
    ] {
        let story = origins.story(name);
        assert_eq!(story.in_force(), in_force, "{name}");
        let said = story.unloaded.as_ref().map(|told| told.told()).unwrap();
        assert!(said.starts_with(unloaded), "{said}");
        assert!(
            said.ends_with("; reload: pgherd ctl reload demo n1"),
            "{said}"
        );
        assert_eq!(
            all.iter().filter(|told| told.name == name).count(),
            1,
            "{name}"
        );
    }
    let story = origins.story("log.level");
    assert_eq!(
        (story.in_force().as_str(), &story.unloaded),
        ("INFO", &None)
    );
    assert_eq!(
        ignored(&story),
        ["environment variable PATRONI_LOG_LEVEL (ERROR)"]
    );
    assert_eq!(all.iter().filter(|told| told.unloaded.is_some()).count(), 4);
}
