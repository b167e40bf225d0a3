//! Section `bootstrap`, and options of programs as lists.

use super::dynamic::ONLY_LOCAL;
use super::node::{Bootstrap, InitdbOption};
use super::parameters::FIXED;
use super::read::pgherd;
use super::read_postgresql::{LOCAL_KEYS, check_shared, is_shared};
use super::section::{Section, plain_text};
use super::shape::{DYNAMIC, Shape};
use super::yaml::{Data, Entry, Node};
use super::{BootstrapMethod, ConfigError, methods};
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, ConfigError>;

pub(super) fn bootstrap(section: &Section<'_>) -> Result<Bootstrap> {
    dcs(&section.child("dcs")?)?;
    let method = match section.text("method")?.as_deref() {
        None | Some("initdb") => None,
        Some(name) => Some(custom(section, name)?),
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

/// The section of a method that makes the cluster. Nobody may get an empty one where the configuration says how to
/// restore one: a section that is missing, or holds no command, is an error.
fn custom(section: &Section<'_>, name: &str) -> Result<BootstrapMethod> {
    let custom = section.child(name)?;
    custom.required_text("command")?;
    custom.check("recovery_conf", &Shape::Scalars)?;
    match section.node(name).map(Node::to_json) {
        Some(Value::Object(given)) => Ok(methods::bootstrap(name, &given)),
        _ => Err(section.missing(name, "a mapping")),
    }
}

/// The first dynamic configuration: strict, because file and line are known here.
fn dcs(dcs: &Section<'_>) -> Result<()> {
    for (key, shape) in DYNAMIC {
        match *key {
            "postgresql" => dynamic_postgresql(&dcs.child(key)?)?,
            "pgherd" => drop(pgherd(&dcs.child(key)?)?),
            key => dcs.check(key, shape)?,
        }
    }
    dcs.finish();
    Ok(())
}

/// `bootstrap.dcs.postgresql`: what can not be taken from there is told.
fn dynamic_postgresql(section: &Section<'_>) -> Result<()> {
    let methods = check_shared(section)?;
    section.check("use_slots", &Shape::Flag)?;
    let parameters = section.child("parameters")?;
    for name in parameters.keys() {
        if FIXED.contains(&name.to_ascii_lowercase().as_str()) {
            let what = "ignored, it follows from scope and postgresql.listen of each node";
            parameters.warn_at(name, what);
        }
    }
    for key in section.keys() {
        if is_shared(section, key, &methods) {
            continue;
        }
        if LOCAL_KEYS.contains(&key) {
            section.node(key);
            section.warn_at(key, ONLY_LOCAL);
        }
    }
    section.finish();
    Ok(())
}

/// Options of initdb that the agent decides, long and short; `nosync` is Patroni's word.
const INITDB_REFUSED: &[&str] = &[
    "pgdata",
    "D",
    "no-sync",
    "nosync",
    "N",
    "pwfile",
    "pwprompt",
    "W",
    "sync-only",
    "S",
    "version",
    "V",
];

/// A list of flags and single pairs, or a mapping.
fn initdb(section: &Section<'_>) -> Result<Vec<InitdbOption>> {
    let options = options(section, "initdb")?;
    let mut kept = Vec::new();
    for (name, value) in options {
        if INITDB_REFUSED.contains(&name.as_str()) {
            section.warn_at("initdb", &format!("option {name} is not allowed, left out"));
        } else {
            kept.push(InitdbOption { name, value });
        }
    }
    Ok(kept)
}

/// Options of a program: (name without dashes, value; `None`: a flag).
pub(super) fn options(section: &Section<'_>, key: &str) -> Result<Vec<(String, Option<String>)>> {
    let wrong = |node: &Node, found: &str| {
        let key = section.full(key);
        let problem = format!("{key}: expected `- name` or `- name: value`, found {found}");
        ConfigError::new(&node.place, problem)
    };
    let pair = |entry: &Entry| {
        let name = entry.key.trim_start_matches('-').to_owned();
        match &entry.node.data {
            Data::Null | Data::Bool(true) => Ok((name, None)),
            Data::Bool(false) => Ok((name, Some("false".into()))),
            _ => match plain_text(&entry.node) {
                Some(text) => Ok((name, Some(text))),
                None => Err(wrong(
                    &entry.node,
                    &format!("{} as value of {name}", entry.node.kind()),
                )),
            },
        }
    };
    match section.node(key).map(|node| &node.data) {
        None => Ok(Vec::new()),
        Some(Data::Map(entries)) => entries.iter().map(pair).collect(),
        Some(Data::List(items)) => items
            .iter()
            .map(|item| match &item.data {
                Data::Text(name) => Ok((name.trim_start_matches('-').to_owned(), None)),
                Data::Map(entries) => match entries.as_slice() {
                    [entry] => pair(entry),
                    _ => {
                        let keys: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
                        let keys = keys.join(", ");
                        let found = format!(
                            "one item with {} keys ({keys}): put a dash before each",
                            entries.len()
                        );
                        Err(wrong(item, &found))
                    }
                },
                _ => Err(wrong(item, item.kind())),
            })
            .collect(),
        Some(_) => Err(section.wrong(key, &Shape::Options.expected())),
    }
}
