//! Against what genuine Patroni 4.1.5 prints for the same files.

use super::*;
use std::fs;

/// A machine where somebody listens on port 1000 and on no other.
struct Machine;

impl Probe for Machine {
    fn accepts(&self, host: &str, port: u16) -> Result<bool, String> {
        match host {
            "nowhere" => Err("Name or service not known".to_owned()),
            _ => Ok(port == 1000),
        }
    }

    fn postgres_version(&self, _: &Path) -> Result<String, String> {
        Ok("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n".to_owned())
    }
}

/// Makes `n.yml` and a `bin` with all programs; the problems without the directory's name.
fn found(text: &str, strictness: Strictness) -> Vec<Finding> {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in [
        "pg_ctl",
        "initdb",
        "pg_controldata",
        "pg_basebackup",
        "postgres",
        "pg_isready",
    ] {
        use std::os::unix::fs::PermissionsExt as _;
        let file = bin.join(program);
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let data = dir.path().join("old");
    fs::create_dir_all(data.join("pg_wal")).unwrap();
    fs::write(data.join("PG_VERSION"), "14\n").unwrap();
    let here = format!("{}/", dir.path().display());
    let file = dir.path().join("n.yml");
    fs::write(&file, text.replace("HERE/", &here)).unwrap();
    let validated = validate(Some(&file), &BTreeMap::new(), &Machine, strictness).unwrap();
    assert_eq!(validated.loaded.is_some(), validated.problems.is_empty());
    let here = |text: String| text.replace(&here, "");
    let problems = validated.problems.into_iter();
    let problems = problems.map(|Finding { line, place }| Finding {
        line: here(line),
        place: place.map(here),
    });
    problems.collect()
}

/// The lines alone.
fn problems_with(text: &str, strictness: Strictness) -> Vec<String> {
    let found = found(text, strictness).into_iter();
    found.map(|finding| finding.line).collect()
}

fn problems(text: &str) -> Vec<String> {
    problems_with(text, Strictness::default())
}

const GOOD: &str = "\
scope: demo
name: n1
restapi:
  listen: 127.0.0.1:8008
  connect_address: 10.0.0.1:8008
etcd3: {host: '127.0.0.1:1000'}
postgresql:
  listen: '*:5432'
  connect_address: 10.0.0.1:5432
  data_dir: HERE/none
  bin_dir: HERE/bin
  authentication:
    superuser: {username: postgres, password: secret}
    replication: {username: repl, password: secret}
surplus: 1
";

#[test]
fn a_good_file_is_silent() {
    assert_eq!(problems(GOOD), Vec::<String>::new());
}

#[test]
fn everything_is_told_at_once_in_patronis_words() {
    let text = "\
scope: demo
name: 5
log: {level: LOUD}
restapi: {listen: '127.0.0.1:70000'}
etcd3: {hosts: '127.0.0.1:2999'}
bootstrap:
  dcs: {ttl: 5, loop_wait: x, postgresql: {parameters: {max_connections: 0}}}
  initdb: [{encoding: UTF8}, 5]
postgresql:
  listen: 127.0.0.1:1000
  connect_address: 127.0.0.1:5432
  data_dir: HERE/bin
  bin_dir: /nonexistent
  authentication: {superuser: {username: postgres}, replication: {}}
  pg_hba: hello
watchdog: {mode: sometimes}
tags: {nofailover: 5, failover_priority: 1, nosync: true, sync_priority: 1}
";
    assert_eq!(
        problems(text),
        [
            "name 5 is not a string",
            "log.level LOUD didn't pass validation: Wrong value",
            "restapi.listen 127.0.0.1:70000 didn't pass validation: contains a wrong value",
            "restapi.connect_address  is not defined.",
            "bootstrap.dcs.ttl 5 didn't pass validation: Wrong value",
            "bootstrap.dcs.loop_wait x didn't pass validation: Wrong value",
            "bootstrap.dcs.postgresql.parameters.max_connections 0 didn't pass validation: Wrong value",
            "bootstrap.initdb.1 5 is not a string",
            "bootstrap.initdb.1 5 is not a dictionary",
            "etcd3.hosts 127.0.0.1:2999 didn't pass validation: 127.0.0.1:2999 is not reachable",
            "postgresql.listen 127.0.0.1:1000 didn't pass validation: Port 1000 is already in use.",
            "postgresql.connect_address 127.0.0.1:5432 didn't pass validation: must not contain \"127.0.0.1\", \"0.0.0.0\", \"*\", \"::1\", \"localhost\"",
            "postgresql.authentication.replication.username  is not defined.",
            "postgresql.data_dir bin didn't pass validation: doesn't look like a valid data directory",
            "postgresql.bin_dir  Directory '/nonexistent' does not exist.",
            "postgresql.pg_hba hello is not a list",
            "watchdog.mode sometimes didn't pass validation: Wrong value",
            "tags  Multiple of ('nofailover', 'failover_priority') provided",
            "tags  Multiple of ('nosync', 'sync_priority') provided",
        ]
    );
}

/// Patroni's lines are for programs too; where to look is told beside them.
#[test]
fn places_stand_beside_patronis_lines() {
    let text = GOOD
        .replace("  connect_address: 10.0.0.1:8008\n", "")
        .replace("surplus: 1", "watchdog: {mode: sometimes}");
    let told = |line: &str, place: &str| Finding {
        line: line.to_owned(),
        place: Some(place.to_owned()),
    };
    assert_eq!(
        found(&text, Strictness::default()),
        [
            told("restapi.connect_address  is not defined.", "n.yml:3"),
            told(
                "watchdog.mode sometimes didn't pass validation: Wrong value",
                "n.yml:14"
            ),
        ]
    );
}

#[test]
fn nothing_there_is_told_key_by_key() {
    assert_eq!(
        problems("namespace: x\n"),
        [
            "name  is not defined.",
            "scope  is not defined.",
            "restapi  is not defined.",
            "etcd3  is not defined.",
            "postgresql  is not defined.",
        ]
    );
}

/// Contract: patroni-config, section 1.
#[test]
fn nothing_configured_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.yml");
    fs::write(&file, "# scope: demo\n").unwrap();
    for path in [Some(file.as_path()), None] {
        let error = validate(path, &BTreeMap::new(), &Machine, Strictness::default());
        assert_eq!(error.unwrap_err().to_string(), "Config is empty.");
    }
}

/// What Patroni lets pass and the agent would not start with.
#[test]
fn the_agents_own_errors_follow_all_of_them() {
    let text = GOOD
        .replace("scope: demo", "scope: a/b")
        .replace("etcd3:", "consul:")
        .replace("surplus: 1", "pgherd: {guard: perhaps, lease_ttl: 2.5}")
        .replace(
            "8008\n  connect",
            "8008\n  allowlist_include_members: true\n  connect",
        );
    let told = problems(&text);
    assert_eq!(
        told,
        [
            "n.yml:1: scope: expected text without `/`, because it is one part of the keys in etcd, found \"a/b\"",
            "n.yml:7: consul: expected section etcd3, found consul, which is not supported",
            "n.yml:16: pgherd.guard: expected one of automatic, required, off, found \"perhaps\"",
            "n.yml:16: pgherd.lease_ttl: expected whole seconds, found a fraction",
        ]
    );
}

#[test]
fn ports_in_use_can_be_ignored() {
    let text = GOOD.replace("'*:5432'", "'*:1000'");
    assert_eq!(
        problems(&text),
        ["postgresql.listen *:1000 didn't pass validation: Port 1000 is already in use."]
    );
    let ignored = Strictness {
        ignore_listen_port: true,
    };
    assert_eq!(problems_with(&text, ignored), Vec::<String>::new());
    let text = GOOD.replace("'*:5432'", "'nowhere:5432'");
    assert_eq!(
        problems_with(&text, ignored),
        ["postgresql.listen nowhere:5432 didn't pass validation: Name or service not known"]
    );
}

#[test]
fn data_of_another_version() {
    assert_eq!(
        problems(&GOOD.replace("HERE/none", "HERE/old")),
        [
            "postgresql.data_dir old didn't pass validation: data_dir directory postgresql version (14) doesn't match with 'postgres --version' output (15)"
        ]
    );
}

#[test]
fn no_secret_is_told() {
    let text = GOOD
        .replace("password: secret", "password: 5155")
        .replace("host: '127.0.0.1:1000'", "hosts: 'me:5155@nowhere:2379'")
        + "ctl: {authentication: '5155'}\n";
    let told = problems(&text);
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(
        told[1].contains("replication.password ******** is not a string"),
        "{told:?}"
    );
    assert!(!told.iter().any(|line| line.contains("5155")), "{told:?}");
    let env = BTreeMap::from([("PATRONI_CONFIGURATION".to_owned(), text)]);
    let printed = validate(None, &env, &Machine, Strictness::default()).unwrap();
    assert!(
        !printed.shown.to_string().contains("5155"),
        "{}",
        printed.shown
    );
}

#[test]
fn placeholders_are_to_be_filled_in() {
    let text = GOOD
        .replace(
            "password: secret}\n    repl",
            "password: '#FIXME'}\n    repl",
        )
        .replace("127.0.0.1:1000", "#FIXME:2379");
    assert_eq!(
        problems(&text),
        [
            "etcd3.host #FIXME:2379 didn't pass validation: put your own value here (n.yml:6)",
            "postgresql.authentication.superuser.password #FIXME didn't pass validation: put your own value here (n.yml:13)",
        ]
    );
}
