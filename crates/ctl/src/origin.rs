//! The rules of precedence, told for one setting: default, dynamic configuration, file, environment
//! (contract: patroni-config, section 1). What holds is calculated by `wire`; here is only said why.

use crate::not_lower::advice;
use pgherd_model::{CrashHandover, GuardMode, Settings, Span, SynchronousMode};
use pgherd_wire::patroni::config::{
    Given, HIDDEN, NodeConfig, effective, is_fixed, is_owned, owned_default, text_without_secrets,
    without_secrets,
};
use serde_json::{Map, Value};

/// What is known.
pub(crate) struct Origins {
    /// The node's own configuration, piece by piece.
    pub(crate) givens: Vec<Given>,
    /// The same, read.
    pub(crate) node: NodeConfig,
    /// The dynamic configuration.
    pub(crate) dynamic: Value,
    /// Where that is.
    pub(crate) etcd: String,
    /// What waits for a restart of PostgreSQL.
    pub(crate) pending: Vec<Pending>,
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
    /// What else is to be known.
    pub(crate) notes: Vec<String>,
}

impl Story {
    /// What holds at this moment.
    pub(crate) fn in_force(&self) -> String {
        match &self.pending {
            Some(pending) => pending.old.clone(),
            None => text(&self.value),
        }
    }

    /// As [`Story::in_force`], for programs.
    pub(crate) fn in_force_value(&self) -> Value {
        match &self.pending {
            Some(pending) => pending.old.as_str().into(),
            None => self.value.clone(),
        }
    }
}

const DYNAMIC_ONLY: &str = "only the dynamic configuration counts, the same for all members";
const OWNED: &str = "the agent owns this parameter: only the dynamic configuration counts";
const FIXED: &str = "follows from the configuration of the node, nobody can set it";
const FIRST: &str = "bootstrap.dcs counts only when the cluster is created";
const DELETED: &str = "not set";

impl Origins {
    /// Everything that has a default here or is set somewhere, sorted within its section.
    pub(crate) fn all(&self) -> Vec<Story> {
        let settings = SETTINGS.iter().map(|(name, ..)| (*name).to_owned());
        let holds = effective(&self.node, Some(&self.dynamic));
        let parameters = holds.postgresql.parameters.into_keys();
        settings
            .chain(parameters)
            .map(|name| self.story(&name))
            .collect()
    }

    /// About a setting or parameter.
    pub(crate) fn story(&self, name: &str) -> Story {
        let parameter = name.strip_prefix("postgresql.parameters.").unwrap_or(name);
        if parameter == name {
            if let Some((name, local, of)) = SETTINGS.iter().find(|(known, ..)| *known == name) {
                return self.setting(name, *local, *of);
            }
            let path: Vec<&str> = name.split('.').collect();
            let known = |given: &Given| given.path.starts_with_parts(&path);
            if path.len() > 1 && (self.givens.iter().any(known) || self.at(&path).is_some()) {
                return self.other(name, &path);
            }
            let top = path.len() == 1 && self.givens.iter().any(|given| given.path == path);
            if top {
                return self.other(name, &path);
            }
        }
        self.parameter(&parameter.to_ascii_lowercase())
    }

    /// A setting of the agent with a default.
    fn setting(&self, name: &str, local_counts: bool, of: fn(&Settings) -> Value) -> Story {
        let mut bare = self.node.clone();
        bare.pgherd = Default::default();
        bare.postgresql.shared = Map::new();
        let default = of(&effective(&bare, None).settings);
        let holds = effective(&self.node, Some(&self.dynamic));
        let path: Vec<&str> = name.split('.').collect();
        let mut telling = Telling::new(name, default);
        if let Some(value) = self.at(&path) {
            telling.lay(&self.etcd, value.clone());
        }
        for given in self.givens.iter().filter(|given| given.path == path) {
            match local_counts {
                true => telling.lay(&given.place, given.value.clone()),
                false => telling.ignore(&given.place, &given.value, DYNAMIC_ONLY),
            }
        }
        self.ignore_first(&mut telling, &path);
        let value = of(&holds.settings);
        let last = path.last().copied().unwrap_or_default();
        let mut story = telling.story();
        let mentions = |line: &&String| has_word(line, last);
        story.notes = notes(holds.warnings.iter().filter(mentions));
        // Adjusted: what holds is neither default nor what anybody wrote.
        story.value = value;
        story
    }

    fn parameter(&self, name: &str) -> Story {
        let holds = effective(&self.node, Some(&self.dynamic));
        let value = holds.postgresql.parameters.get(name).cloned();
        let default = owned_default(name).map_or(Value::Null, Value::from);
        let mut telling = Telling::new(name, default);
        if owned_default(name).is_none() {
            telling.source = "PostgreSQL: its default, its own files or ALTER SYSTEM".to_owned();
        }
        let path = ["postgresql", "parameters", name];
        let dynamic = self.at(&path[..2]).and_then(Value::as_object);
        let dynamic = dynamic.into_iter().flatten();
        for (_, given) in dynamic.filter(|(key, _)| key.eq_ignore_ascii_case(name)) {
            match is_fixed(name) {
                true => telling.ignore(&self.etcd, given, FIXED),
                false => telling.lay(&self.etcd, given.clone()),
            }
        }
        let same = |given: &&Given| {
            given.path.len() == 3
                && given.path[..2] == path[..2]
                && given.path[2].eq_ignore_ascii_case(name)
        };
        for given in self.givens.iter().filter(same) {
            match (is_fixed(name), is_owned(name)) {
                (true, _) => telling.ignore(&given.place, &given.value, FIXED),
                (false, true) => telling.ignore(&given.place, &given.value, OWNED),
                (false, false) => telling.lay(&given.place, given.value.clone()),
            }
        }
        self.ignore_first(&mut telling, &path);
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
        let pending = self.pending.iter().find(|pending| pending.name == name);
        story.pending = pending.map(Pending::hidden);
        if let Some(pending) = pending {
            let advice = advice(name, &pending.old, &pending.new);
            story.notes.push(advice.to_owned());
        }
        story
    }

    /// Something without a default that is known here.
    fn other(&self, name: &str, path: &[&str]) -> Story {
        let mut telling = Telling::new(name, Value::Null);
        telling.source = DELETED.to_owned();
        if let Some(value) = self.at(path) {
            telling.lay(&self.etcd, value.clone());
        }
        for given in self.givens.iter().filter(|given| given.path == path) {
            telling.lay(&given.place, given.value.clone());
        }
        let below =
            |given: &&Given| given.path.len() > path.len() && given.path.starts_with_parts(path);
        let below: Vec<&Given> = self.givens.iter().filter(below).collect();
        if let Some(first) = below.first() {
            telling.lay(&first.place, "a section".into());
        }
        self.ignore_first(&mut telling, path);
        telling.story()
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        let mut value = &self.dynamic;
        for key in path {
            value = value.get(key)?;
        }
        (!value.is_null()).then_some(value)
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

/// `starts_with` for parts that are `String` here and `str` there.
trait Parts {
    fn starts_with_parts(&self, parts: &[&str]) -> bool;
}

impl Parts for Vec<String> {
    fn starts_with_parts(&self, parts: &[&str]) -> bool {
        self.len() >= parts.len() && self.iter().zip(parts).all(|(own, part)| own == part)
    }
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

/// What was told of a value may repeat it.
fn notes<'a>(lines: impl Iterator<Item = &'a String>) -> Vec<String> {
    lines.map(|line| text_without_secrets(line)).collect()
}

/// A value for a person.
fn text(value: &Value) -> String {
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

fn seconds(span: Span) -> Value {
    match span.subsec_nanos() {
        0 => span.as_secs().into(),
        _ => span.as_secs_f64().into(),
    }
}

/// Name, whether the node's own file counts, and what holds.
type Known = (&'static str, bool, fn(&Settings) -> Value);

const SETTINGS: &[Known] = &[
    ("check_timeline", false, |s| s.check_timeline.into()),
    ("failsafe_mode", false, |s| s.failsafe_mode.into()),
    ("loop_wait", false, |s| seconds(s.loop_wait)),
    ("max_timelines_history", false, |s| {
        s.max_timelines_history.into()
    }),
    ("maximum_lag_on_failover", false, |s| {
        s.maximum_lag_on_failover.into()
    }),
    ("maximum_lag_on_syncnode", false, |s| {
        s.maximum_lag_on_syncnode
            .map_or_else(|| (-1).into(), Value::from)
    }),
    ("member_slots_ttl", false, |s| seconds(s.member_slots_ttl)),
    ("pause", false, |s| s.pause.into()),
    ("pgherd.crash_handover", true, |s| match s.crash_handover {
        CrashHandover::Off => "off".into(),
        CrashHandover::Sync => "sync".into(),
    }),
    ("pgherd.guard", true, |s| match s.guard {
        GuardMode::Automatic => "automatic".into(),
        GuardMode::Required => "required".into(),
        GuardMode::Off => "off".into(),
    }),
    ("pgherd.hang_timeout", true, |s| seconds(s.hang_timeout)),
    ("pgherd.lease_ttl", true, |s| seconds(s.lease_ttl)),
    (
        "postgresql.remove_data_directory_on_diverged_timelines",
        true,
        |s| s.remove_data_directory_on_diverged_timelines.into(),
    ),
    (
        "postgresql.remove_data_directory_on_rewind_failure",
        true,
        |s| s.remove_data_directory_on_rewind_failure.into(),
    ),
    ("postgresql.use_pg_rewind", true, |s| s.use_pg_rewind.into()),
    ("postgresql.use_slots", false, |s| s.use_slots.into()),
    ("primary_start_timeout", false, |s| {
        seconds(s.primary_start_timeout)
    }),
    ("primary_stop_timeout", false, |s| {
        seconds(s.primary_stop_timeout)
    }),
    ("retry_timeout", false, |s| seconds(s.retry_timeout)),
    ("synchronous_mode", false, |s| match s.synchronous_mode {
        SynchronousMode::Off => "off".into(),
        SynchronousMode::On => "on".into(),
        SynchronousMode::Quorum => "quorum".into(),
    }),
    ("synchronous_mode_strict", false, |s| {
        s.synchronous_mode_strict.into()
    }),
    ("synchronous_node_count", false, |s| {
        s.synchronous_node_count.into()
    }),
    ("ttl", false, |s| seconds(s.ttl)),
];

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
