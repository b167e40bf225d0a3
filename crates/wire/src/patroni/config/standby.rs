//! `standby_cluster`: the cluster is a copy of another one (contract: patroni-config, section 2).
//!
//! What cannot be read of it never makes a cluster of its own of this one: a standby cluster that knows nobody to follow
//! waits for somebody who corrects the section.

use super::ReplicaMethod;
use super::dynamic::Dynamic;
use super::effective::{methods_named, plain, words};
use super::slots::is_name;
use crate::patroni::rest::Mode;
use pgherd_model::{MemberName, StandbyCluster, slot_name};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What PostgreSQL of a standby cluster is to be run with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FarPostgres {
    /// Recovery settings of every member: `restore_command`, `archive_cleanup_command`.
    pub recovery: BTreeMap<String, String>,
    /// Those of whoever streams from the other cluster: `recovery_min_apply_delay`.
    pub recovery_of_leader: BTreeMap<String, String>,
    /// `create_replica_methods`, default `basebackup`: how whoever begins the cluster makes its copy.
    pub methods: Vec<ReplicaMethod>,
}

/// The section, if it makes this a standby cluster. `shared` is the joined `postgresql`.
pub(super) fn read(
    dynamic: &mut Dynamic<'_>,
    given: &Map<String, Value>,
    shared: &Map<String, Value>,
) -> Option<(StandbyCluster, FarPostgres)> {
    if !Mode::of(&Value::Object(given.clone())).standby_cluster {
        return None;
    }
    let section = dynamic.section("standby_cluster").cloned();
    let section = section.unwrap_or_default();
    let text = |key: &str| {
        let text = section.get(key).and_then(plain);
        text.map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let places = match places(text("host"), text("port")) {
        Ok(places) => places,
        Err(reason) => {
            let line = format!("standby_cluster: {reason}: nobody is followed");
            dynamic.warnings.push(line);
            Vec::new()
        }
    };
    let recovery = |keys: &[&str]| {
        let known = keys.iter();
        known
            .filter_map(|key| Some(((*key).to_owned(), text(key)?)))
            .collect::<BTreeMap<_, _>>()
    };
    let named = section.get("create_replica_methods");
    let methods = methods_named(&named.map(words).unwrap_or_default(), shared);
    let copies_alone = methods.iter().any(|method| {
        matches!(
            method,
            ReplicaMethod::Custom {
                no_leader: true,
                ..
            }
        )
    });
    let cluster = StandbyCluster {
        places,
        slot: text("primary_slot_name").map(|name| slot(&name, dynamic.warnings)),
        copies_alone,
    };
    let far = FarPostgres {
        recovery: recovery(&["restore_command", "archive_cleanup_command"]),
        recovery_of_leader: recovery(&["recovery_min_apply_delay"]),
        methods,
    };
    Some((cluster, far))
}

/// Hosts, comma separated, and one port for all of them or one for each.
fn places(host: Option<String>, port: Option<String>) -> Result<Vec<(String, u16)>, String> {
    let Some(host) = host else {
        return match port {
            Some(_) => Err("there is a port and no host".into()),
            None => Ok(Vec::new()),
        };
    };
    let listed = |text: &str| -> Vec<String> {
        let parts = text.split(',').map(str::trim);
        parts.map(str::to_owned).collect()
    };
    let hosts = listed(&host);
    let ports: Vec<u16> = match &port {
        None => vec![5432],
        Some(text) => listed(text)
            .iter()
            .map(|port| port.parse::<u16>().ok().filter(|port| *port > 0))
            .collect::<Option<_>>()
            .ok_or_else(|| format!("expected a port from 1 to 65535, found {text:?}"))?,
    };
    if hosts.iter().any(String::is_empty) {
        return Err(format!("one of the hosts in {host:?} is empty"));
    }
    if ports.len() != 1 && ports.len() != hosts.len() {
        let (hosts, ports) = (hosts.len(), ports.len());
        return Err(format!("{hosts} hosts and {ports} ports"));
    }
    let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = hosts.into_iter().enumerate();
    Ok(hosts.map(|(at, host)| (host, port(at))).collect())
}

/// As Patroni, which makes a name for a slot of it.
fn slot(name: &str, warnings: &mut Vec<String>) -> String {
    if is_name(name) {
        return name.to_owned();
    }
    let slot = slot_name(&MemberName(name.to_owned()));
    warnings.push(format!(
        "standby_cluster.primary_slot_name: {name:?} is no name for a slot, {slot} is used"
    ));
    slot
}

#[cfg(test)]
mod tests {
    use super::super::{effective, load_environment};
    use super::*;
    use pgherd_model::{Settings, SynchronousMode};
    use serde_json::json;

    fn found(host: Option<&str>, port: Option<&str>) -> String {
        match places(host.map(str::to_owned), port.map(str::to_owned)) {
            Ok(places) => places
                .iter()
                .map(|(host, port)| format!("{host}:{port}"))
                .collect::<Vec<_>>()
                .join(" "),
            Err(reason) => reason,
        }
    }

    /// What is effective with this section.
    fn settings(section: Value) -> (Option<StandbyCluster>, Option<FarPostgres>, Settings) {
        let text = "
scope: demo
name: n1
restapi: {listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}
etcd3: {hosts: '127.0.0.1:2379'}
postgresql:
  listen: 127.0.0.1:5432
  connect_address: 127.0.0.1:5432
  data_dir: /nonexistent
  authentication: {superuser: {username: postgres}, replication: {username: repl}}
  recovery_conf: {restore_command: mine, recovery_end_command: mine}
  wal_g: {command: fetch, no_leader: true}
";
        let env = [("PATRONI_CONFIGURATION".to_owned(), text.to_owned())];
        let node = load_environment(&env.into()).unwrap().node;
        let dynamic = json!({
            "standby_cluster": section, "synchronous_mode": true, "failsafe_mode": true,
        });
        let effective = effective(&node, Some(&dynamic));
        let cluster = effective.settings.standby_cluster.clone();
        (cluster, effective.postgresql.far, effective.settings)
    }

    #[test]
    fn a_section_that_cannot_be_read_is_one_all_the_same() {
        for section in [
            json!({"host": ["a"]}),
            json!({"port": "x"}),
            json!({"host": "a", "port": 0}),
        ] {
            let (cluster, ..) = settings(section.clone());
            assert_eq!(cluster, Some(StandbyCluster::default()), "{section}");
        }
        for section in [
            json!(null),
            json!({}),
            json!({"primary_slot_name": "x"}),
            json!([]),
        ] {
            let (cluster, far, settings) = settings(section.clone());
            assert_eq!((cluster, far), (None, None), "{section}");
            assert!(settings.failsafe_mode);
        }
    }

    #[test]
    fn a_section_says_whom_to_follow_and_how_to_begin() {
        let (cluster, far, settings) = settings(json!({
            "host": "a,b", "port": 6000, "primary_slot_name": "Site B", "restore_command": "theirs",
            "recovery_min_apply_delay": "5min", "create_replica_methods": ["wal_g", "basebackup"],
        }));
        let cluster = cluster.unwrap();
        assert_eq!(cluster.slot.as_deref(), Some("siteu0032b"));
        assert!(cluster.copies_alone);
        let upstream = cluster.upstream().unwrap();
        assert_eq!(
            upstream.places().collect::<Vec<_>>(),
            [("a", 6000), ("b", 6000)]
        );
        let far = far.unwrap();
        assert_eq!(far.methods.len(), 2);
        assert_eq!(far.recovery["restore_command"], "theirs");
        assert_eq!(far.recovery_of_leader["recovery_min_apply_delay"], "5min");
        assert_eq!(settings.synchronous_mode, SynchronousMode::Off);
        assert!(!settings.failsafe_mode);
    }

    #[test]
    fn places_are_hosts_and_ports() {
        for (host, port, expected) in [
            (None, None, ""),
            (Some("a"), None, "a:5432"),
            (Some("a"), Some("6000"), "a:6000"),
            (Some("a, b"), Some("6000"), "a:6000 b:6000"),
            (Some("a,b"), Some("6000, 6001"), "a:6000 b:6001"),
            (None, Some("6000"), "there is a port and no host"),
            (Some("a,b,c"), Some("1,2"), "3 hosts and 2 ports"),
            (Some("a"), Some("1,2"), "1 hosts and 2 ports"),
            (Some("a,,b"), None, "one of the hosts in \"a,,b\" is empty"),
            (
                Some("a"),
                Some("0"),
                "expected a port from 1 to 65535, found \"0\"",
            ),
            (
                Some("a"),
                Some("x"),
                "expected a port from 1 to 65535, found \"x\"",
            ),
        ] {
            assert_eq!(found(host, port), expected, "{host:?} {port:?}");
        }
    }
}
