//! Every error of the agent's own reader. It stops at the first one, so what was wrong is replaced by
//! something that is right, and it reads again.

use crate::patroni::config::read_etcd3::OTHER_DCS;
use crate::patroni::config::yaml::{Data, Entry, Node};
use crate::patroni::config::{ConfigError, read};
use std::cell::RefCell;

/// More than anybody wants to read, and an end whatever happens.
const MOST: usize = 100;

/// What a needed key can be while the rest is looked at.
const STAND_INS: &[(&str, &str)] = &[
    ("scope", "stand-in"),
    ("name", "stand-in"),
    ("restapi.listen", "192.0.2.1:1"),
    ("restapi.connect_address", "192.0.2.1:1"),
    ("restapi.authentication.username", "stand-in"),
    ("restapi.authentication.password", "stand-in"),
    ("ctl.authentication.username", "stand-in"),
    ("ctl.authentication.password", "stand-in"),
    ("etcd3.host", "192.0.2.1:1"),
    ("etcd3.hosts", "192.0.2.1:1"),
    ("etcd3.url", "http://192.0.2.1:1"),
    ("etcd3.proxy", "http://192.0.2.1:1"),
    ("etcd3.password", "stand-in"),
    ("postgresql.listen", "192.0.2.1:1"),
    ("postgresql.connect_address", "192.0.2.1:1"),
    ("postgresql.data_dir", "/stand-in"),
    ("postgresql.authentication.superuser.username", "stand-in"),
    ("postgresql.authentication.replication.username", "stand-in"),
    ("postgresql.authentication.rewind.username", "stand-in"),
];

/// (key, error) in the order in which they are met.
pub(super) fn errors(document: &Node) -> Vec<(String, ConfigError)> {
    let mut document = document.clone();
    let mut found: Vec<(String, ConfigError)> = Vec::new();
    while found.len() < MOST {
        let Err(error) = read::node_config(&document, &RefCell::default()) else {
            break;
        };
        let key = match error.problem.split_once(": ") {
            Some((key, _)) if !key.contains(' ') => key.to_owned(),
            _ => String::new(),
        };
        let told = found.iter().any(|(known, _)| *known == key);
        if !told {
            found.push((key.clone(), error));
        }
        if key.is_empty() || !repair(&mut document, &key, told) {
            break;
        }
    }
    found
}

/// False: nothing more can be done. `again`: what was there has been removed, and that did not help.
fn repair(document: &mut Node, key: &str, again: bool) -> bool {
    if let Some((_, value)) = STAND_INS.iter().find(|(known, _)| *known == key) {
        return !again && put(document, key, value);
    }
    if key == "etcd3" || OTHER_DCS.contains(&key) {
        return !again && put(document, "etcd3.hosts", "192.0.2.1:1");
    }
    remove(document, key)
}

/// Keys may have dots themselves.
fn split<'k>(entries: &[Entry], key: &'k str) -> Option<(usize, &'k str)> {
    entries.iter().enumerate().find_map(|(index, entry)| {
        let rest = key.strip_prefix(entry.key.as_str())?;
        match rest.strip_prefix('.') {
            Some(rest) => Some((index, rest)),
            None => rest.is_empty().then_some((index, "")),
        }
    })
}

fn remove(node: &mut Node, key: &str) -> bool {
    let Data::Map(entries) = &mut node.data else {
        return false;
    };
    match split(entries, key) {
        None => false,
        Some((index, "")) => {
            entries.remove(index);
            true
        }
        Some((index, rest)) => {
            remove(&mut entries[index].node, rest) || {
                entries.remove(index);
                true
            }
        }
    }
}

fn put(node: &mut Node, key: &str, value: &str) -> bool {
    let place = node.place.clone();
    let make = |data| Node {
        data,
        place: place.clone(),
    };
    if !matches!(node.data, Data::Map(_)) {
        node.data = Data::Map(Vec::new());
    }
    let Data::Map(entries) = &mut node.data else {
        return false;
    };
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let index = match entries.iter().position(|entry| entry.key == first) {
        Some(index) => index,
        None => {
            entries.push(Entry {
                key: first.to_owned(),
                place: place.clone(),
                node: make(Data::Map(Vec::new())),
            });
            entries.len() - 1
        }
    };
    match rest {
        "" => {
            entries[index].node = make(Data::Text(value.to_owned()));
            true
        }
        rest => put(&mut entries[index].node, rest, value),
    }
}
