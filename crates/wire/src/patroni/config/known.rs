//! Which settings there are, where each of them counts, and whether a dynamic value is taken at all: for those who explain
//! a configuration. What holds is calculated elsewhere ([`super::effective()`]).

use super::read_postgresql::LOCAL_KEYS;
use super::shape::{DYNAMIC, PGHERD, sound};
use serde_json::{Map, Value};

/// Where a setting counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// In the dynamic configuration only.
    Dynamic,
    /// In a node's own configuration only.
    Node,
    /// In both; the node's own wins.
    Both,
}

/// Keys of the first level that a node has for itself. `etcd` and the like are read, to say that they are not supported.
const OF_NODE: &[&str] = &[
    "scope",
    "name",
    "namespace",
    "log",
    "restapi",
    "ctl",
    "bootstrap",
    "tags",
    "watchdog",
    "citus",
    "thread_pool_size",
    "thread_stack_size",
    "etcd3",
    "etcd",
    "consul",
    "zookeeper",
    "exhibitor",
    "kubernetes",
    "raft",
];

/// Where a setting counts, by its keys from the outermost inwards. `None`: its first key is none of a configuration.
pub fn stands(path: &[&str]) -> Option<Stands> {
    let (first, rest) = path.split_first()?;
    let of_pgherd = |key: &str| PGHERD.iter().any(|(known, _)| *known == key);
    match (*first, rest.first().copied()) {
        ("postgresql", Some("use_slots")) => Some(Stands::Dynamic),
        ("postgresql", Some(key)) if LOCAL_KEYS.contains(&key) => Some(Stands::Node),
        ("pgherd", Some(key)) if !of_pgherd(key) => Some(Stands::Node),
        ("postgresql" | "pgherd", _) => Some(Stands::Both),
        (key, _) if OF_NODE.contains(&key) => Some(Stands::Node),
        (key, _) if DYNAMIC.iter().any(|(known, _)| *known == key) => Some(Stands::Dynamic),
        _ => None,
    }
}

/// All keys of the first level.
pub fn top_level() -> impl Iterator<Item = &'static str> {
    let dynamic = DYNAMIC.iter().map(|(name, _)| *name);
    OF_NODE.iter().copied().chain(dynamic)
}

/// Whether a dynamic value is of the right type and range, or can be brought into range. One that is not is left out.
pub fn is_taken(path: &[&str], value: &Value) -> bool {
    let around = |inner: Value, key: &&str| {
        let pair = ((*key).to_owned(), inner);
        Value::Object(Map::from_iter([pair]))
    };
    let Value::Object(document) = path.iter().rev().fold(value.clone(), around) else {
        return false;
    };
    let kept = Value::Object(sound(&document, &mut Vec::new()));
    let found = path
        .iter()
        .try_fold(&kept, |section, key| section.get(*key));
    found.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_count_where_their_readers_look() {
        for (name, expected) in [
            ("ttl", Some(Stands::Dynamic)),
            ("slots", Some(Stands::Dynamic)),
            ("standby_cluster.host", Some(Stands::Dynamic)),
            ("postgresql.use_slots", Some(Stands::Dynamic)),
            ("postgresql.pg_hba", Some(Stands::Both)),
            ("postgresql", Some(Stands::Both)),
            ("pgherd.guard", Some(Stands::Both)),
            ("pgherd.journal", Some(Stands::Node)),
            ("postgresql.data_dir", Some(Stands::Node)),
            ("restapi.listen", Some(Stands::Node)),
            ("tags", Some(Stands::Node)),
            ("work_mem", None),
            ("ttll", None),
        ] {
            let path: Vec<&str> = name.split('.').collect();
            assert_eq!(stands(&path), expected, "{name}");
        }
        assert!(top_level().any(|key| key == "ttl"));
    }

    #[test]
    fn values_that_cannot_be_used_are_not_taken() {
        assert!(is_taken(&["ttl"], &json!(5)));
        assert!(!is_taken(&["ttl"], &json!("thirty")));
        assert!(!is_taken(&["slots"], &json!("x")));
        assert!(is_taken(&["postgresql", "use_pg_rewind"], &json!("on")));
        assert!(!is_taken(
            &["postgresql", "use_pg_rewind"],
            &json!("perhaps")
        ));
        assert!(!is_taken(&["pgherd", "lease_ttl"], &json!(1)));
        let parameter = ["postgresql", "parameters", "auto_explain.x"];
        assert!(is_taken(&parameter, &json!(1)));
        assert!(!is_taken(&parameter, &json!([1])));
    }
}
