//! Everything that is wrong with a configuration, at once (`--validate-config`): what genuine
//! Patroni would refuse, letter by letter in its words (contract: patroni-config, section 1), file and line
//! apart from them; then what the agent itself would stop at. Warnings are no problems: a good file is silent.

mod leaf;
mod schema;
mod shown;
mod strict;

use super::load::{any_document, finish};
use super::read_etcd3::OTHER_DCS;
use super::yaml::{Data, Entry, Node, Place};
use super::{ConfigError, Loaded};
use schema::{Field, Rule};
use serde_json::Value;
use shown::{hidden, shown};
use std::collections::BTreeMap;
use std::path::Path;

/// What validation asks of the machine.
pub trait Probe {
    /// Whether somebody accepts connections there.
    ///
    /// # Errors
    /// The name is not known, in words.
    fn accepts(&self, host: &str, port: u16) -> Result<bool, String>;

    /// What `postgres --version` says.
    ///
    /// # Errors
    /// In words.
    fn postgres_version(&self, program: &Path) -> Result<String, String>;
}

/// How strict validation is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Strictness {
    /// `--ignore-listen-port`: a port that is in use is no problem.
    pub ignore_listen_port: bool,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// One line: Patroni's, and nothing else, where Patroni refuses it too; else the agent's own, with its place.
    pub line: String,
    /// `FILE:LINE` or `environment variable NAME`, where the line does not say it.
    pub place: Option<String>,
}

impl Finding {
    /// In words of our own.
    pub fn own(line: impl ToString) -> Finding {
        Finding {
            line: line.to_string(),
            place: None,
        }
    }
}

/// What was found.
#[derive(Debug)]
pub struct Validated {
    /// Empty: the configuration is good.
    pub problems: Vec<Finding>,
    /// The configuration, where the agent could use it.
    pub loaded: Option<Loaded>,
    /// The merged document, passwords hidden.
    pub shown: Value,
}

/// Validates a file or directory with the variables of `env`; `None`: the variables alone.
///
/// # Errors
/// What is no configuration at all: it cannot be read, or is not YAML.
pub fn validate(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    probe: &dyn Probe,
    strictness: Strictness,
) -> Result<Validated, ConfigError> {
    let mut warnings = Vec::new();
    let read = any_document(path, env, &mut warnings)?;
    let document = &read.document;
    if !matches!(document.data, Data::Map(_)) {
        let problem = format!("expected a mapping of sections, found {}", document.kind());
        return Err(ConfigError::new(&document.place, problem));
    }
    let mut walk = Walk {
        root: document,
        probe,
        strictness,
        found: Vec::new(),
    };
    walk.section("", document, schema::ROOT);
    walk.placeholders("", document);
    let mut found = walk.found;
    for (key, error) in strict::errors(document) {
        if !found.iter().any(|known| known.covers(&key)) {
            let told = Finding::own(error);
            found.push(Problem { key, told });
        }
    }
    let shown = hidden(document);
    let loaded = match found.is_empty() {
        true => Some(finish(read, warnings)?),
        false => None,
    };
    Ok(Validated {
        problems: found.into_iter().map(|problem| problem.told).collect(),
        loaded,
        shown,
    })
}

/// What is told about a key.
struct Problem {
    key: String,
    told: Finding,
}

impl Problem {
    /// Whether a problem with `key` has been told with this one: the same key, one around it or one
    /// within it.
    fn covers(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        within(key, &self.key) || within(&self.key, key)
    }
}

struct Walk<'a> {
    root: &'a Node,
    probe: &'a dyn Probe,
    strictness: Strictness,
    found: Vec<Problem>,
}

impl Walk<'_> {
    /// In Patroni's words.
    fn tell(&mut self, key: &str, value: &str, error: &str, place: &Place) {
        let nowhere = place.line.is_none() && &*place.source == "environment";
        self.found.push(Problem {
            key: key.to_owned(),
            told: Finding {
                line: format!("{key} {value} {error}"),
                place: (!nowhere).then(|| place.to_string()),
            },
        });
    }

    fn section(&mut self, path: &str, node: &Node, fields: &[Field]) {
        let Data::Map(entries) = &node.data else {
            let value = shown(path, node);
            self.tell(path, &value, "is not a dictionary", &node.place);
            return;
        };
        for field in fields {
            match field {
                Field::Needed(key, rule) => self.needed(path, node, entries, key, rule),
                Field::Maybe(key, rule) => {
                    if let Some(entry) = entry(entries, key) {
                        self.entry(path, entry, rule);
                    }
                }
                Field::OrEmpty(key, rule) => match entry(entries, key) {
                    Some(entry) => self.entry(path, entry, rule),
                    None => {
                        let data = Data::Text(String::new());
                        let place = node.place.clone();
                        self.value(&join(path, key), &Node { data, place }, rule);
                    }
                },
                Field::OneOf(choices) => {
                    let there = choices
                        .iter()
                        .filter(|(key, _)| entry(entries, key).is_some());
                    if there.clone().next().is_none() && !self.other_dcs(path, entries) {
                        for (key, _) in *choices {
                            self.tell(&join(path, key), "", "is not defined.", &node.place);
                        }
                    }
                    for (key, rule) in there {
                        self.needed(path, node, entries, key, rule);
                    }
                }
                Field::AtMostOne(choices) => self.at_most_one(path, node, entries, choices),
            }
        }
    }

    /// At the root: another lock service is told by the strict reader, with what to do.
    fn other_dcs(&self, path: &str, entries: &[Entry]) -> bool {
        path.is_empty() && OTHER_DCS.iter().any(|dcs| entry(entries, dcs).is_some())
    }

    fn needed(&mut self, path: &str, node: &Node, entries: &[Entry], key: &str, rule: &Rule) {
        match entry(entries, key) {
            Some(entry) => self.entry(path, entry, rule),
            None => self.tell(&join(path, key), "", "is not defined.", &node.place),
        }
    }

    fn at_most_one(
        &mut self,
        path: &str,
        node: &Node,
        entries: &[Entry],
        choices: &[(&'static str, Rule)],
    ) {
        let there: Vec<_> = choices
            .iter()
            .filter(|(key, _)| entry(entries, key).is_some())
            .collect();
        if there.len() > 1 {
            let names: Vec<String> = choices.iter().map(|(key, _)| format!("'{key}'")).collect();
            let error = format!("Multiple of ({}) provided", names.join(", "));
            self.tell(path, "", &error, &node.place);
            return;
        }
        for (key, rule) in there {
            self.needed(path, node, entries, key, rule);
        }
    }

    fn entry(&mut self, path: &str, entry: &Entry, rule: &Rule) {
        let node = Node {
            data: entry.node.data.clone(),
            place: entry.place.clone(),
        };
        self.value(&join(path, &entry.key), &node, rule);
    }

    fn value(&mut self, path: &str, node: &Node, rule: &Rule) {
        if matches!(&node.data, Data::Text(text) if text.contains(super::PLACEHOLDER)) {
            self.placeholders(path, node);
            return;
        }
        match rule {
            Rule::Section(fields) => self.section(path, node, fields),
            Rule::List(rule) => self.list(path, node, rule),
            Rule::BinDir => {
                let Data::Text(directory) = &node.data else {
                    return;
                };
                for error in leaf::missing_programs(self.root, directory) {
                    self.tell(path, "", &error, &node.place);
                }
            }
            Rule::ProgramOption => match node.data {
                Data::Text(_) | Data::Map(_) => {}
                _ => {
                    let value = shown(path, node);
                    for error in ["is not a string", "is not a dictionary"] {
                        self.tell(path, &value, error, &node.place);
                    }
                }
            },
            rule => {
                let checked = leaf::check(self.root, node, rule, self.probe, self.strictness);
                if let Err(error) = checked {
                    let value = shown(path, node);
                    self.tell(path, &value, &error, &node.place);
                }
            }
        }
    }

    fn list(&mut self, path: &str, node: &Node, rule: &Rule) {
        let Data::List(items) = &node.data else {
            let value = shown(path, node);
            self.tell(path, &value, "is not a list", &node.place);
            return;
        };
        if items.is_empty() {
            self.tell(path, "[]", "is an empty list", &node.place);
        }
        for (index, item) in items.iter().enumerate() {
            self.value(&join(path, &index.to_string()), item, rule);
        }
    }

    /// What `--generate-config` leaves for a person to fill in.
    fn placeholders(&mut self, path: &str, node: &Node) {
        match &node.data {
            Data::Map(entries) => {
                for entry in entries {
                    let path = join(path, &entry.key);
                    self.placeholders(&path, &entry.node);
                }
            }
            Data::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.placeholders(&join(path, &index.to_string()), item);
                }
            }
            Data::Text(text) if text.contains(super::PLACEHOLDER) => {
                let told = self.found.iter().any(|known| known.key == path);
                if !told {
                    let error = "didn't pass validation: put your own value here";
                    let line = format!("{path} {text} {error} ({})", node.place);
                    self.found.push(Problem {
                        key: path.to_owned(),
                        told: Finding::own(line),
                    });
                }
            }
            _ => {}
        }
    }
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

fn entry<'a>(entries: &'a [Entry], key: &str) -> Option<&'a Entry> {
    entries.iter().find(|entry| entry.key == key)
}

#[cfg(test)]
mod tests;
