//! `slots` and `ignore_slots` of the dynamic configuration: which replication slots are kept for ever, and which are
//! somebody else's (contract: patroni-config, section 2; patroni-ha-rules, section 12).

use super::dynamic::Dynamic;
use super::effective::plain;
use pgherd_model::{IgnoredSlot, LogicalSlot};
use serde_json::Value;

/// What `slots` asks for, in the order of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Permanent {
    /// Names of the physical ones.
    pub(super) physical: Vec<String>,
    /// The logical ones.
    pub(super) logical: Vec<LogicalSlot>,
}

/// `slots`, or one of its older names. A value that says nothing is a physical slot, and so is one without a type that
/// does not name both a database and a plugin. What only the other kind of cluster has is left out, and a standby cluster
/// has no logical ones: it could not make them.
pub(super) fn permanent(dynamic: &mut Dynamic<'_>, standby_cluster: bool) -> Permanent {
    let keys = ["slots", "permanent_slots", "permanent_replication_slots"];
    let slots = keys.into_iter().find_map(|key| dynamic.section(key));
    let (mut permanent, mut told) = (Permanent::default(), Vec::new());
    for (name, value) in slots.into_iter().flatten() {
        if !is_name(name) {
            told.push(format!("slots: {name:?} is no name for a slot, ignored"));
            continue;
        }
        match read(name, value) {
            Ok(read) if !read.belongs_to(standby_cluster) => {}
            Ok(Read { logical: None, .. }) => permanent.physical.push(name.clone()),
            Ok(_) if standby_cluster => {}
            Ok(Read { logical, .. }) => permanent.logical.extend(logical),
            Err(problem) => told.push(format!("slots.{name}: {problem}, ignored")),
        }
    }
    dynamic.warnings.append(&mut told);
    permanent
}

/// One entry.
struct Read {
    cluster_type: Option<String>,
    logical: Option<LogicalSlot>,
}

impl Read {
    /// In Patroni any other word than the wrong one of two means both.
    fn belongs_to(&self, standby_cluster: bool) -> bool {
        let other = if standby_cluster {
            "primary"
        } else {
            "standby"
        };
        self.cluster_type.as_deref() != Some(other)
    }
}

fn read(name: &str, value: &Value) -> Result<Read, String> {
    if !is_said(value) {
        return Ok(Read {
            cluster_type: None,
            logical: None,
        });
    }
    let Value::Object(entry) = value else {
        return Err("expected a mapping (type, database, plugin)".into());
    };
    let text = |key: &str| {
        let text = entry.get(key).and_then(plain);
        text.filter(|text| !text.is_empty())
    };
    let (database, plugin) = (text("database"), text("plugin"));
    let kind = text("type").unwrap_or_else(|| match (&database, &plugin) {
        (Some(_), Some(_)) => "logical".into(),
        _ => "physical".into(),
    });
    let logical = match (kind.as_str(), database, plugin) {
        ("physical", ..) => None,
        ("logical", Some(database), Some(plugin)) => Some(LogicalSlot {
            name: name.to_owned(),
            database,
            plugin,
        }),
        ("logical", ..) => return Err("a logical slot needs a database and a plugin".into()),
        _ => return Err("expected physical or logical as type".into()),
    };
    Ok(Read {
        cluster_type: text("cluster_type"),
        logical,
    })
}

/// Neither null, 0, false nor an empty text or collection.
fn is_said(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(said) => *said,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// `ignore_slots`. As in Patroni what is empty is not asked for, but for a name: `{}` is every slot, and `name: ''` none.
pub(super) fn ignored(dynamic: &mut Dynamic<'_>) -> Vec<IgnoredSlot> {
    let (mut ignored, mut told) = (Vec::new(), Vec::new());
    for entry in dynamic.list("ignore_slots") {
        let text = |key: &str| {
            let text = entry.get(key).and_then(plain);
            text.filter(|text| !text.is_empty())
        };
        let slot = IgnoredSlot {
            name: entry.get("name").and_then(plain),
            kind: text("type"),
            database: text("database"),
            plugin: text("plugin"),
        };
        if !entry.is_object() {
            told.push(format!("ignore_slots: {entry} is no mapping, ignored"));
        } else {
            ignored.push(slot);
        }
    }
    dynamic.warnings.append(&mut told);
    ignored
}

/// PostgreSQL's rule.
pub(super) fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (1..=63).contains(&name.len()) && name.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patroni::rest::Mode;
    use serde_json::json;

    fn read(document: &Value) -> (Permanent, Vec<String>) {
        let mut told = Vec::new();
        let document = document.as_object().unwrap();
        let mut dynamic = Dynamic::new(document, &mut told);
        let read = permanent(
            &mut dynamic,
            Mode::of(&Value::Object(document.clone())).standby_cluster,
        );
        (read, told)
    }

    #[test]
    fn what_is_a_slot_and_of_which_type() {
        let (read, told) = read(&json!({"slots": {
            "a": null, "b": {}, "c": 0, "d": {"type": "physical", "database": "x"}, "e": {"database": "x"},
            "l": {"type": "logical", "database": "app", "plugin": "pgoutput"},
            "m": {"database": "app", "plugin": "test_decoding"},
            "Bad-Name": {}, "n": {"type": "logical", "database": "app"}, "o": {"type": "odd"}, "p": 7
        }}));
        let logical = |name: &str, plugin: &str| LogicalSlot {
            name: name.into(),
            database: "app".into(),
            plugin: plugin.into(),
        };
        assert_eq!(read.physical, ["a", "b", "c", "d", "e"]);
        assert_eq!(
            read.logical,
            [logical("l", "pgoutput"), logical("m", "test_decoding")]
        );
        assert_eq!(
            told,
            [
                "slots: \"Bad-Name\" is no name for a slot, ignored",
                "slots.n: a logical slot needs a database and a plugin, ignored",
                "slots.o: expected physical or logical as type, ignored",
                "slots.p: expected a mapping (type, database, plugin), ignored",
            ]
        );
    }

    #[test]
    fn the_type_of_the_cluster_decides() {
        let slots = json!({
            "a": {"cluster_type": "primary"}, "b": {"cluster_type": "standby"}, "c": {"cluster_type": "any"},
            "l": {"database": "app", "plugin": "p", "cluster_type": "primary"},
            "m": {"database": "app", "plugin": "p", "cluster_type": "standby"}
        });
        let logical = |read: &Permanent| -> Vec<String> {
            read.logical.iter().map(|slot| slot.name.clone()).collect()
        };
        let (primary, told) = read(&json!({"slots": slots}));
        assert_eq!(primary.physical, ["a", "c"]);
        assert_eq!(logical(&primary), ["l"]);
        assert_eq!(told, Vec::<String>::new());
        for (section, standby) in [
            (json!({}), false),
            (json!({"host": ""}), false),
            (json!({"create_replica_methods": ["x"]}), false),
            (json!({"host": "x"}), true),
            (json!({"restore_command": "cp"}), true),
        ] {
            let (read, _) = read(&json!({"permanent_slots": slots, "standby_cluster": section}));
            let (physical, logical) = (read.physical.clone(), logical(&read));
            match standby {
                true => assert_eq!((physical, logical), (vec!["b".into(), "c".into()], vec![])),
                false => assert_eq!(read, primary),
            }
        }
    }
}
