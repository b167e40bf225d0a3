//! Output of `list` compared with that of the genuine patronictl 4.1.5, captured from an etcd that
//! held the keys of `golden/clusters.json`.

use super::{Shape, render};
use crate::args::Format;
use pgherd_model::{Cluster, Leader, Stored};
use pgherd_wire::patroni::dcs;
use pgherd_wire::patroni::rest::Mode;
use serde_json::Value;

const KEYS: &str = include_str!("../golden/clusters.json");
const CAPTURED: &str = include_str!("../golden/list.txt");

/// The cluster that these keys are.
fn cluster(keys: &Value) -> (Cluster, Value) {
    let text = |key: &str| match keys.get(key)? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    fn stored<T>(value: T) -> Option<Stored<T>> {
        Some(Stored { value, revision: 1 })
    }
    let members = keys
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let name = key.strip_prefix("members/")?;
            let member = dcs::member_from_json(name.into(), &value.to_string(), 1);
            Some((
                name.into(),
                Stored {
                    value: member,
                    revision: 1,
                },
            ))
        });
    let cluster = Cluster {
        revision: 1,
        initialize: text("initialize").and_then(|text| stored(dcs::initialize_from_text(&text))),
        leader: text("leader").map(|name| Leader {
            name: name.as_str().into(),
            lease: 0,
            create_revision: 1,
            mod_revision: 1,
        }),
        members: members.collect(),
        status: text("status").and_then(|text| stored(dcs::status_from_text(&text))),
        sync: text("sync").and_then(|text| stored(dcs::sync_from_text(&text))),
        failover: text("failover").and_then(|text| stored(dcs::failover_from_text(&text))),
        ..Cluster::default()
    };
    (cluster, keys.get("config").cloned().unwrap_or(Value::Null))
}

fn list(extended: bool, format: Format) -> Shape {
    Shape::List { extended, format }
}

#[test]
fn every_form_is_as_patronictl_has_it() {
    let clusters: Value = serde_json::from_str(KEYS).unwrap();
    let mut compared = 0;
    for section in CAPTURED.split("## ").skip(1) {
        let (command, expected) = section.split_once('\n').unwrap();
        let words: Vec<&str> = command.split(' ').collect();
        let (cluster, dynamic) = cluster(&clusters[words[0]]);
        let format = match words[words.len() - 1] {
            "pretty" => Format::Pretty,
            "tsv" => Format::Tsv,
            "json" => Format::Json,
            _ => Format::Yaml,
        };
        let extended = words.contains(&"-e");
        let shown = render(
            &cluster,
            words[0],
            Mode::of(&dynamic),
            Shape::List { extended, format },
        );
        assert!(
            shown == expected,
            "{command}\n--- shown\n{shown}--- patronictl\n{expected}"
        );
        compared += 1;
    }
    assert_eq!(compared, 30);
}

#[test]
fn a_missing_guard_has_a_column_of_its_own() {
    let mut clusters: Value = serde_json::from_str(KEYS).unwrap();
    let (name, keys) = clusters
        .as_object_mut()
        .and_then(|all| all.iter_mut().find(|(_, keys)| keys["leader"].is_string()))
        .unwrap();
    let (name, leader) = (name.clone(), keys["leader"].as_str().unwrap().to_owned());
    let row = |keys: &Value| {
        let (cluster, dynamic) = cluster(keys);
        let text = render(
            &cluster,
            &name,
            Mode::of(&dynamic),
            list(true, Format::Json),
        );
        let rows: Value = serde_json::from_str(&text).unwrap();
        let mut rows = rows.as_array().unwrap().iter();
        rows.find(|row| row["Member"] == leader.as_str()).unwrap()["Guard"].clone()
    };
    assert_eq!(row(keys), Value::Null);
    keys[format!("members/{leader}")]["guard"] = "missing".into();
    assert_eq!(row(keys), "missing");
    let (cluster, dynamic) = cluster(keys);
    let table = render(
        &cluster,
        &name,
        Mode::of(&dynamic),
        list(false, Format::Pretty),
    );
    assert!(
        table.contains(" Guard ") && table.contains(" missing "),
        "{table}"
    );
}

#[test]
fn the_tree_is_as_patronictl_draws_it() {
    let trees = include_str!("../golden/topology.txt");
    let keys: Value = serde_json::from_str(include_str!("../golden/topology.json")).unwrap();
    let mut compared = 0;
    for section in trees.split("## ").skip(1) {
        let (leader, expected) = section.split_once('\n').unwrap();
        let mut keys = keys.clone();
        if leader != "nobody" {
            keys["leader"] = leader.into();
        }
        let (cluster, dynamic) = cluster(&keys);
        let shown = render(&cluster, "topo", Mode::of(&dynamic), Shape::Tree);
        assert!(
            shown == expected,
            "{leader}\n--- shown\n{shown}--- patronictl\n{expected}"
        );
        compared += 1;
    }
    assert_eq!(compared, 3);
}

#[test]
fn members_that_replicate_in_a_circle_are_drawn_too() {
    let member = serde_json::json!({"conn_url": "postgres://h:5432/postgres", "role": "replica"});
    let with = |from: &str| {
        let mut member = member.clone();
        member["tags"] = serde_json::json!({"replicatefrom": from});
        member
    };
    let keys = serde_json::json!({"leader": "a", "members/a": member, "members/g": with("h"),
        "members/h": with("g")});
    let (cluster, dynamic) = cluster(&keys);
    let shown = render(&cluster, "topo", Mode::of(&dynamic), Shape::Tree);
    for name in ["| a ", "| + g ", "|   + h "] {
        assert_eq!(shown.matches(name).count(), 1, "{shown}");
    }
}
