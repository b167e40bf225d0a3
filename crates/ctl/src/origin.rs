//! The rules of precedence, told for one setting: default, dynamic configuration, file, environment
//! (contract: patroni-config, section 1). What holds is calculated by `wire`; here is only said why.

use crate::defaults::{Of, SETTINGS, nearest, older, today};
use crate::loaded::{Compared, Unloaded};
use crate::not_lower::advice;
use pgherd_wire::patroni::config::{
    Effective, Given, HIDDEN, NodeConfig, Stands, accepts, effective, held, is_fixed, is_owned,
    is_taken, local_settings, owned_default, rebuilt, stands, text_without_secrets,
    without_secrets,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What is known.
pub(crate) struct Origins {
    /// The node's own configuration, piece by piece: as the agent has loaded it, if it says so.
    pub(crate) givens: Vec<Given>,
    /// The same, read.
    pub(crate) node: NodeConfig,
    /// The dynamic configuration.
    pub(crate) dynamic: Value,
    /// Where that is.
    pub(crate) etcd: String,
    /// What waits for a restart of PostgreSQL.
    pub(crate) pending: Vec<Pending>,
    /// What the installed PostgreSQL does not take, as the member says.
    pub(crate) refused: Vec<Refused>,
    /// What this program reads, beside what the agent has loaded; `None`: the agent did not say, and all of this is
    /// what this program reads.
    pub(crate) compared: Option<Compared>,
}

/// A parameter that the agent leaves out, because PostgreSQL would not start with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Parameter.
    pub(crate) name: String,
    /// The value that was not taken, as it may be shown.
    pub(crate) value: String,
    /// What PostgreSQL says of it.
    pub(crate) why: String,
    /// What PostgreSQL has instead; `None`: no such parameter, or it does not run.
    pub(crate) in_force: Option<String>,
}

impl Refused {
    /// `1kB is outside ...; in force: 4MB`.
    pub(crate) fn told(&self) -> String {
        let in_force = self.in_force.as_deref().unwrap_or(DELETED);
        format!("{}; in force: {in_force}", self.why)
    }
}

/// A parameter that PostgreSQL takes at its next start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Parameter.
    pub(crate) name: String,
    /// What PostgreSQL has.
    pub(crate) old: String,
    /// What it will have.
    pub(crate) new: String,
}

impl Pending {
    /// As it may be shown.
    fn hidden(&self) -> Pending {
        let value = |value: &str| text(&hide(&self.name, value.into()));
        Pending {
            name: self.name.clone(),
            old: value(&self.old),
            new: value(&self.new),
        }
    }

    /// `100 -> 101`.
    pub(crate) fn told(&self) -> String {
        format!("{} -> {}", self.old, self.new)
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layer {
    /// `default`, `etcd key ...`, `n1.yml:12`, `environment variable ...`.
    pub(crate) source: String,
    /// Value.
    pub(crate) value: Value,
}

impl Layer {
    /// `n1.yml:12 (100)`.
    pub(crate) fn told(&self) -> String {
        format!("{} ({})", self.source, text(&self.value))
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Story {
    /// Its name.
    pub(crate) name: String,
    /// What is configured; null: nothing.
    pub(crate) value: Value,
    /// Where that comes from.
    pub(crate) source: String,
    /// What it takes precedence of, nearest first.
    pub(crate) overrides: Vec<Layer>,
    /// What does not count, and why.
    pub(crate) ignored: Vec<(Layer, String)>,
    /// Not in force yet.
    pub(crate) pending: Option<Pending>,
    /// Not in force, and will not be.
    pub(crate) refused: Option<Refused>,
    /// What stands in the file and is not loaded.
    pub(crate) unloaded: Option<Unloaded>,
    /// What else is to be known.
    pub(crate) notes: Vec<String>,
}

impl Story {
    /// What holds at this moment.
    pub(crate) fn in_force(&self) -> String {
        text(&self.in_force_value())
    }

    /// As [`Story::in_force`], for programs.
    pub(crate) fn in_force_value(&self) -> Value {
        match (&self.refused, &self.pending) {
            (Some(refused), _) => refused.in_force.as_deref().map_or(Value::Null, Value::from),
            (None, Some(pending)) => pending.old.as_str().into(),
            (None, None) => self.value.clone(),
        }
    }
}

const DYNAMIC_ONLY: &str = "only the dynamic configuration counts, the same for all members";
const OWNED: &str = "the agent owns this parameter: only the dynamic configuration counts";
const FIXED: &str = "follows from the configuration of the node, nobody can set it";
const NODE_ONLY: &str = "only the node's own configuration counts";
const NOT_TAKEN: &str = "not accepted: of a wrong type or out of range";
const UNKNOWN: &str = "the agent has no such setting: nothing reads it";
const FIRST: &str = "bootstrap.dcs counts only when the cluster is created";
const DELETED: &str = "not set";
const POSTGRESQL: &str = "PostgreSQL: its default, its own files or ALTER SYSTEM";
const PERHAPS: &str =
    "PostgreSQL, if it has a parameter of this name: its default, its own files or ALTER SYSTEM";
const JOINED: &str = "both count, key by key: ask for one of its keys";

impl Origins {
    /// Everything that has a default here or is set somewhere: settings with a default, others, parameters.
    pub(crate) fn all(&self) -> Vec<Story> {
        let settings = SETTINGS.iter().map(|(name, ..)| (*name).to_owned());
        let holds = effective(&self.node, Some(&self.dynamic));
        let mut parameters: BTreeSet<String> = holds.postgresql.parameters.into_keys().collect();
        // Of names that the agent has not loaded, too.
        for path in self.compared.iter().flat_map(Compared::paths) {
            if let [first, second, name] = path
                && (first.as_str(), second.as_str()) == ("postgresql", "parameters")
            {
                parameters.insert(name.to_ascii_lowercase());
            }
        }
        let parameters = parameters.iter().map(|name| format!("{PARAMETERS}{name}"));
        let mut stories: Vec<Story> = settings
            .chain(self.others())
            .chain(parameters)
            .map(|name| self.story(&name))
            .collect();
        // A parameter has a newer name.
        stories.dedup_by(|story, before| story.name == before.name);
        stories
    }

    /// Names of what a node has for itself, and of what is set somewhere and is not in the table; without parameters.
    fn others(&self) -> BTreeSet<String> {
        let mut paths = dynamic_paths(&self.dynamic);
        let own = self.compared.iter().flat_map(Compared::paths);
        let givens = self.givens.iter().map(|given| given.path.as_slice());
        for path in givens.chain(own) {
            paths.push(path.iter().map(String::as_str).collect());
        }
        let set = paths.iter().filter_map(|path| told_as(path));
        set.chain(local_settings().map(str::to_owned))
            .filter(|name| !SETTINGS.iter().any(|(known, ..)| known == name))
            .collect()
    }

    /// About a setting or parameter.
    pub(crate) fn story(&self, name: &str) -> Story {
        let mut story = self.of(name);
        if let Some(compared) = &self.compared {
            let name = story.name.clone();
            let within = |path: &[String]| keys_of(&name, path);
            story.unloaded = compared.differs(within);
            story.ignored.extend(compared.of_shell(within));
        }
        story
    }

    fn of(&self, name: &str) -> Story {
        if let Some(parameter) = name.strip_prefix(PARAMETERS) {
            return self.parameter(&parameter.to_ascii_lowercase());
        }
        let mut story = self.named(today(name));
        if today(name) != name {
            story.notes.push(format!("{name} is an older name of it"));
        }
        story
    }

    fn named(&self, name: &str) -> Story {
        if let Some((name, local, of)) = SETTINGS.iter().find(|(known, ..)| *known == name) {
            return self.setting(name, *local, *of);
        }
        let path: Vec<&str> = name.split('.').collect();
        if stands(&path).is_some() {
            return self.other(name, &path);
        }
        let parameter = name.to_ascii_lowercase();
        if self.is_parameter(&parameter) {
            return self.parameter(&parameter);
        }
        let is_read = self.compared.iter().flat_map(Compared::paths);
        let is_read = is_read.into_iter().any(|read| starts_with(read, &path));
        if self.at(&path).is_some() || !self.given(&path).is_empty() || is_read {
            return self.other(name, &path);
        }
        // PostgreSQL is not asked, and it may have been mistyped.
        let mut story = self.parameter(&parameter);
        story.source = PERHAPS.to_owned();
        let mut note = "no setting of the agent has this name".to_owned();
        if let Some(nearest) = nearest(&parameter) {
            note.push_str(&format!(": was {nearest} meant?"));
        }
        story.notes.push(note);
        story
    }

    /// Whether a name can only be that of a parameter, or is set as one. Those of extensions have a dot.
    fn is_parameter(&self, name: &str) -> bool {
        let own = self.compared.iter().flat_map(Compared::paths);
        let givens = self.givens.iter().map(|given| given.path.as_slice());
        let mut paths = givens.chain(own);
        is_owned(name)
            || name.contains('.')
            || self.dynamic_parameter(name).is_some()
            || paths.any(|path| is_parameter(path, name))
            || self.pending.iter().any(|pending| pending.name == name)
    }

    /// A setting of the agent with a default.
    fn setting(&self, name: &str, local_counts: bool, of: Of) -> Story {
        let value = |holds: &Effective| match of {
            Of::Settings(of) => of(&holds.settings),
            Of::Postgres(of) => of(&holds.postgresql),
        };
        let mut bare = self.node.clone();
        bare.pgherd = Default::default();
        bare.postgresql.shared = Map::new();
        let default = value(&effective(&bare, None));
        let mut telling = Telling::new(name, default);
        let stands = match local_counts {
            true => Stands::Both,
            false => Stands::Dynamic,
        };
        self.layers(&mut telling, name, Some(stands));
        let holds = effective(&self.node, Some(&self.dynamic));
        let mut story = telling.story();
        story.notes = mentions(name, &holds.warnings);
        // Adjusted: what holds is neither default nor what anybody wrote.
        story.value = value(&holds);
        story
    }

    fn parameter(&self, name: &str) -> Story {
        let name = match name {
            "wal_keep_segments" => "wal_keep_size",
            name => name,
        };
        let holds = effective(&self.node, Some(&self.dynamic));
        let value = holds.postgresql.parameters.get(name).cloned();
        let default = owned_default(name).map_or(Value::Null, Value::from);
        let mut telling = Telling::new(name, default);
        if owned_default(name).is_none() {
            telling.source = POSTGRESQL.to_owned();
        }
        self.lay_parameter(&mut telling, name);
        if is_fixed(name) {
            let key = if name == "cluster_name" {
                "scope"
            } else {
                "postgresql.listen"
            };
            telling.source = self.place_of(key).unwrap_or_else(|| key.to_owned());
        }
        let mut story = telling.story();
        let mentions = |line: &&String| has_word(line, name);
        story.notes = notes(holds.warnings.iter().filter(mentions));
        story.value = hide(name, value.map_or(Value::Null, Value::from));
        // Of another value it was said before this one was given.
        let refused = self
            .refused
            .iter()
            .find(|refused| refused.name == name && story.value.as_str() == Some(&refused.value));
        story.refused = refused.cloned();
        let pending = self.pending.iter().find(|pending| pending.name == name);
        story.pending = pending.map(Pending::hidden);
        if let Some(pending) = pending {
            let advice = advice(name, &pending.old, &pending.new);
            story.notes.push(advice.to_owned());
        }
        story
    }

    /// What is given for a parameter: dynamic, then local.
    fn lay_parameter(&self, telling: &mut Telling, name: &str) {
        let path = ["postgresql", "parameters", name];
        let dynamic = self.dynamic_parameter(name);
        let older = match name {
            "wal_keep_size" => Some("wal_keep_segments"),
            _ => None,
        };
        if let Some((older, given)) =
            older.and_then(|older| Some((older, self.dynamic_parameter(older)?)))
        {
            let source = format!("{} ({older}, 16 MB each)", self.etcd);
            match (dynamic.is_some(), accepts(older, given)) {
                (true, _) => telling.ignore(&source, given, "wal_keep_size stands beside it"),
                (false, true) => telling.lay(&source, given.clone()),
                (false, false) => telling.ignore(&source, given, NOT_TAKEN),
            }
        }
        if let Some(given) = dynamic {
            let taken = match is_owned(name) {
                true => accepts(name, given),
                false => is_taken(&path, given),
            };
            match (is_fixed(name), taken) {
                (true, _) => telling.ignore(&self.etcd, given, FIXED),
                (false, true) => telling.lay(&self.etcd, given.clone()),
                (false, false) => telling.ignore(&self.etcd, given, NOT_TAKEN),
            }
        }
        let same = |given: &&Given| {
            let is = |name: &str| given.path[2].eq_ignore_ascii_case(name);
            given.path.len() == 3
                && starts_with(&given.path, &path[..2])
                && (is(name) || older.is_some_and(is))
        };
        for given in self.givens.iter().filter(same) {
            match (is_fixed(name), is_owned(name)) {
                (true, _) => telling.ignore(&given.place, &given.value, FIXED),
                (false, true) => telling.ignore(&given.place, &given.value, OWNED),
                (false, false) => telling.lay(&given.place, given.value.clone()),
            }
        }
        self.ignore_first(telling, &path);
    }

    /// What the reader of the configuration fills in where a node does not set it; null: nothing.
    fn local_default(&self, name: &str, path: &[&str]) -> Value {
        let others = self.givens.iter().filter(|given| given.path != path);
        let others: Vec<Given> = others.cloned().collect();
        // One that has to be set has no default.
        let without = rebuilt(&others).ok();
        without
            .and_then(|without| held(name, &without.node))
            .unwrap_or(Value::Null)
    }

    /// Something that only the node's own configuration or only the dynamic one has.
    fn other(&self, name: &str, path: &[&str]) -> Story {
        let stands = stands(path);
        let mut telling = Telling::new(name, self.local_default(name, path));
        if telling.value.is_null() {
            telling.source = DELETED.to_owned();
        }
        self.layers(&mut telling, name, stands);
        let mut story = telling.story();
        if matches!(stands, Some(Stands::Dynamic | Stands::Both)) && path.len() < 3 {
            let holds = effective(&self.node, Some(&self.dynamic));
            story.notes = mentions(name, &holds.warnings);
        }
        if matches!(name, "postgresql" | "postgresql.parameters" | "pgherd") {
            story.notes.push(JOINED.to_owned());
        }
        story
    }

    /// What is given under a name, its older names first.
    fn layers(&self, telling: &mut Telling, name: &str, stands: Option<Stands>) {
        for known in older(name).iter().copied().chain([name]) {
            let path: Vec<&str> = known.split('.').collect();
            let source = |place: &str| match known == name {
                true => place.to_owned(),
                false => format!("{place} ({known})"),
            };
            if let Some(value) = self.at(&path) {
                let source = source(&self.etcd);
                match stands {
                    Some(Stands::Node) => telling.ignore(&source, value, NODE_ONLY),
                    None => telling.ignore(&source, value, UNKNOWN),
                    Some(_) if is_taken(&path, value) => telling.lay(&source, value.clone()),
                    Some(_) => telling.ignore(&source, value, NOT_TAKEN),
                }
            }
            for (place, value) in self.given(&path) {
                let source = source(place);
                match stands {
                    Some(Stands::Dynamic) => telling.ignore(&source, &value, DYNAMIC_ONLY),
                    None => telling.ignore(&source, &value, UNKNOWN),
                    Some(Stands::Node | Stands::Both) => telling.lay(&source, value),
                }
            }
            self.ignore_first(telling, &path);
        }
    }

    /// What the node's own configuration gives, in the order in which it is laid over each other: (place, value). Of
    /// a section all that it gives in one, with the place of its first key.
    fn given(&self, path: &[&str]) -> Vec<(&str, Value)> {
        let mut found: Vec<(&str, Value)> = Vec::new();
        let mut section: Option<(&str, Value)> = None;
        let of_it = |given: &&Given| starts_with(&given.path, path);
        for given in self.givens.iter().filter(of_it) {
            let rest = &given.path[path.len()..];
            if rest.is_empty() {
                found.push((given.place.as_str(), given.value.clone()));
                continue;
            }
            let (_, whole) = section.get_or_insert((given.place.as_str(), Value::Null));
            put(whole, rest, &given.value);
        }
        found.extend(section);
        found
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let mut value = &self.dynamic;
        for key in path {
            value = value.get(key)?;
        }
        (!value.is_null()).then_some(value)
    }

    fn dynamic_parameter(&self, name: &str) -> Option<&Value> {
        let parameters = self.at(&["postgresql", "parameters"])?.as_object()?;
        let mut found = None;
        for (key, value) in parameters {
            if key.eq_ignore_ascii_case(name) && !value.is_null() {
                found = Some(value);
            }
        }
        found
    }

    fn place_of(&self, key: &str) -> Option<String> {
        let path: Vec<&str> = key.split('.').collect();
        let given = self.givens.iter().rfind(|given| given.path == path)?;
        Some(format!("{} ({key})", given.place))
    }

    fn ignore_first(&self, telling: &mut Telling, path: &[&str]) {
        let first: Vec<&str> = ["bootstrap", "dcs"].iter().chain(path).copied().collect();
        for given in self.givens.iter().filter(|given| given.path == first) {
            telling.ignore(&given.place, &given.value, FIRST);
        }
    }
}

/// How parameters are called where they could be something else.
const PARAMETERS: &str = "postgresql.parameters.";

/// Keys that the dynamic configuration has: of the first level, and below the two sections that nodes have too.
fn dynamic_paths(document: &Value) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    for (key, value) in document.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(section) if matches!(key.as_str(), "postgresql" | "pgherd") => {
                let there = section.iter().filter(|(_, value)| !value.is_null());
                paths.extend(there.map(|(inner, _)| vec![key.as_str(), inner.as_str()]));
            }
            _ => paths.push(vec![key.as_str()]),
        }
    }
    paths
}

/// The name under which something is told: as deep as one value takes the place of another. `None`: it is told with a
/// setting or parameter.
fn told_as(path: &[&str]) -> Option<String> {
    let depth = match path {
        ["bootstrap", "dcs", ..] | ["postgresql", "parameters", ..] => return None,
        ["postgresql", _, ..] if stands(path) != Some(Stands::Node) => 2,
        _ if stands(path) == Some(Stands::Dynamic) => 1,
        path => path.len(),
    };
    Some(today(&path[..depth].join(".")).to_owned())
}

/// Puts a value where its keys lead.
fn put(section: &mut Value, path: &[String], value: &Value) {
    let Some((key, rest)) = path.split_first() else {
        *section = value.clone();
        return;
    };
    if !section.is_object() {
        *section = Value::Object(Map::new());
    }
    if let Value::Object(map) = section {
        put(map.entry(key.clone()).or_insert(Value::Null), rest, value);
    }
}

fn starts_with(path: &[String], parts: &[&str]) -> bool {
    path.len() >= parts.len() && path.iter().zip(parts).all(|(own, part)| own == part)
}

/// Whether a path is that of a parameter.
fn is_parameter(path: &[String], name: &str) -> bool {
    path.len() == 3
        && starts_with(path, &["postgresql", "parameters"])
        && path[2].eq_ignore_ascii_case(name)
}

/// Whether a path is told under this name, and how many of its keys the name stands for.
fn keys_of(name: &str, path: &[String]) -> Option<usize> {
    let segments = (name == "wal_keep_size").then_some("wal_keep_segments");
    let mut parameters = segments.into_iter().chain([name]);
    if parameters.any(|name| is_parameter(path, name)) {
        return Some(path.len());
    }
    let mut names = older(name).iter().copied().chain([name]);
    names.find_map(|name| {
        let keys: Vec<&str> = name.split('.').collect();
        starts_with(path, &keys).then_some(keys.len())
    })
}

/// A story while its layers are laid over each other.
struct Telling {
    name: String,
    source: String,
    value: Value,
    overrides: Vec<Layer>,
    ignored: Vec<(Layer, String)>,
}

impl Telling {
    fn new(name: &str, default: Value) -> Telling {
        Telling {
            name: name.to_owned(),
            source: "default".to_owned(),
            value: default,
            overrides: Vec::new(),
            ignored: Vec::new(),
        }
    }

    fn lay(&mut self, source: &str, value: Value) {
        let before = Layer {
            source: std::mem::replace(&mut self.source, source.to_owned()),
            value: std::mem::replace(&mut self.value, hide(&self.name, value)),
        };
        if !before.value.is_null() {
            self.overrides.insert(0, before);
        }
    }

    fn ignore(&mut self, source: &str, value: &Value, why: &str) {
        let layer = Layer {
            source: source.to_owned(),
            value: hide(&self.name, value.clone()),
        };
        self.ignored.push((layer, why.to_owned()));
    }

    fn story(self) -> Story {
        Story {
            name: self.name,
            value: self.value,
            source: self.source,
            overrides: self.overrides,
            ignored: self.ignored,
            pending: None,
            refused: None,
            unloaded: None,
            notes: Vec::new(),
        }
    }
}

/// Without passwords, wherever in it they are. What creates a cluster names users and runs programs: all of it is
/// hidden.
fn hide(name: &str, value: Value) -> Value {
    match name.starts_with("bootstrap") && !value.is_null() {
        true => HIDDEN.into(),
        false => without_secrets(name, value),
    }
}

/// What was told about a setting, under any of its names.
fn mentions(name: &str, warnings: &[String]) -> Vec<String> {
    let names = older(name).iter().copied().chain([name]);
    let words: Vec<&str> = names.filter_map(|name| name.rsplit('.').next()).collect();
    let told = |line: &&String| words.iter().any(|word| has_word(line, word));
    notes(warnings.iter().filter(told))
}

/// What was told of a value may repeat it.
fn notes<'a>(lines: impl Iterator<Item = &'a String>) -> Vec<String> {
    lines.map(|line| text_without_secrets(line)).collect()
}

/// A value for a person.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::Bool(true) => "on".to_owned(),
        Value::Bool(false) => "off".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn has_word(line: &str, word: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.any(|found| found == word)
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
