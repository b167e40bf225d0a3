//! Section `bootstrap`, and options of programs as lists.

use super::ConfigError;
use super::node::{Bootstrap, BootstrapMethod, InitdbOption};
use super::section::Section;
use super::yaml::{Data, Node};
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, ConfigError>;

pub(super) fn bootstrap(section: &Section<'_>) -> Result<Bootstrap> {
    let dcs = section.child("dcs")?;
    dcs.without_effect(&["standby_cluster", "ignore_slots"]);
    for key in super::effective::DYNAMIC_KEYS {
        dcs.node(key);
    }
    dcs.finish();
    dcs.child("postgresql")?.child("parameters")?;
    let method = match section.text("method")?.as_deref() {
        None | Some("initdb") => BootstrapMethod::Initdb,
        Some(name) => {
            let custom = section.child(name)?;
            custom.required_text("command")?;
            let found = section.node(name).map(Node::to_json);
            let section = match found {
                Some(Value::Object(section)) => section,
                _ => Map::new(),
            };
            BootstrapMethod::Custom {
                name: name.to_owned(),
                section,
            }
        }
    };
    let post_bootstrap = section.text("post_bootstrap")?;
    let config = Bootstrap {
        configured: section.present,
        dcs: match section.node("dcs") {
            Some(node) => node.to_json(),
            None => Value::Object(Map::new()),
        },
        method,
        initdb: initdb(section)?,
        pg_hba: section.lines("pg_hba")?.unwrap_or_default(),
        post_bootstrap: post_bootstrap.or(section.text("post_init")?),
    };
    // Sections of methods that are not chosen.
    for key in section.keys() {
        section.node_if(key, |node| node.entry("command").is_some());
    }
    if section.node("users").is_some() {
        section.warn_at(
            "users",
            "ignored as in Patroni 4: create them in post_bootstrap",
        );
    }
    section.finish();
    Ok(config)
}

/// A list of flags and single pairs, or a mapping.
fn initdb(section: &Section<'_>) -> Result<Vec<InitdbOption>> {
    let options = options(section, "initdb")?;
    let mut kept = Vec::new();
    for (name, value) in options {
        if matches!(
            name.as_str(),
            "pgdata" | "nosync" | "pwfile" | "sync-only" | "version"
        ) {
            section.warn_at("initdb", &format!("option {name} is not allowed, left out"));
        } else {
            kept.push(InitdbOption { name, value });
        }
    }
    Ok(kept)
}

/// Options of a program: (name without dashes, value; `None`: a flag).
pub(super) fn options(section: &Section<'_>, key: &str) -> Result<Vec<(String, Option<String>)>> {
    let what = "a list of names and `name: value`";
    let pair = |name: &str, node: &Node| {
        let text = |node: &Node| match &node.data {
            Data::Bool(flag) => Some(flag.to_string()),
            Data::Text(text) => Some(text.clone()),
            Data::Int(number) => Some(number.to_string()),
            Data::Float(number) => Some(format!("{number:?}")),
            _ => None,
        };
        let name = name.trim_start_matches('-').to_owned();
        match &node.data {
            Data::Null | Data::Bool(true) => Ok((name, None)),
            _ => match text(node) {
                Some(text) => Ok((name, Some(text))),
                None => Err(section.wrong(key, what)),
            },
        }
    };
    match section.node(key).map(|node| &node.data) {
        None => Ok(Vec::new()),
        Some(Data::Map(entries)) => entries.iter().map(|e| pair(&e.key, &e.node)).collect(),
        Some(Data::List(items)) => items
            .iter()
            .map(|item| match &item.data {
                Data::Text(name) => Ok((name.trim_start_matches('-').to_owned(), None)),
                Data::Map(entries) if entries.len() == 1 => pair(&entries[0].key, &entries[0].node),
                _ => Err(section.wrong(key, what)),
            })
            .collect(),
        Some(_) => Err(section.wrong(key, what)),
    }
}
