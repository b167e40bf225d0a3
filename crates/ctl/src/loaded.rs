//! What the agent says it has loaded of its configuration, beside what this program reads itself: a file may have been
//! edited since, or be another one, and the environment of a shell is not that of a service.

use crate::members::ask;
use crate::origin::Layer;
use pgherd_model::{Member, Span};
use pgherd_peer::Peers;
use pgherd_wire::patroni::config::{Configured, Given, Told, in_force, tell};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::canonicalize;
use std::path::{Path, PathBuf, absolute};

/// How long the member may take.
const LIMIT: Span = Span::from_secs(5);

const OF_SHELL: &str = "of this shell: the agent has an environment of its own";

/// What the agent of a member has loaded; else why that is not known.
pub(crate) async fn loaded(peers: &Peers, member: &Member) -> Result<Configured, String> {
    let name = &member.name;
    let answer = ask(peers, member, ("GET", "pgherd/configuration"), None, LIMIT).await;
    let answer = answer.map_err(|cause| cause.to_string())?;
    if let (200, Ok(told)) = (answer.status, serde_json::from_str(&answer.text)) {
        return Ok(told);
    }
    // An earlier version and Patroni take the path for a health check.
    let document: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    Err(match document.get("patroni") {
        Some(_) => format!("{name} runs Patroni, or a pgherd that does not tell it yet"),
        None => format!("{name} answered {} ({})", answer.status, answer.text.trim()),
    })
}

/// A value that this program reads and the agent has not loaded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unloaded {
    /// Where it stands, and what it is; null: it is not there any more.
    pub(crate) layer: Layer,
    /// What the agent has there; null: nothing.
    pub(crate) agent_has: Value,
    /// It stands in the file of the agent, and not in another one.
    pub(crate) is_of_agent: bool,
    /// Since when the agent has what it has, and what to do.
    why: String,
}

impl Unloaded {
    /// `n1.yml:50 (64MB): the agent has 4MB (since 2026-12-01T12:00:00.000Z); reload: pgherd ctl reload demo n1`.
    pub(crate) fn told(&self) -> String {
        let has = match &self.agent_has {
            // Both are hidden.
            has if *has == self.layer.value => "another one".to_owned(),
            Value::Null => "nothing there".to_owned(),
            has => crate::origin::text(has),
        };
        format!("{}: the agent has {has} {}", self.layer.told(), self.why)
    }
}

/// Both.
pub(crate) struct Compared {
    agent: Configured,
    own: Vec<Told>,
    /// Its name, and whether the agent has the same.
    file: Option<(PathBuf, bool)>,
    reload: String,
}

/// Values by their keys.
type Leaves<'a> = BTreeMap<&'a [String], &'a Told>;

impl Compared {
    /// `member`: cluster and name; `file`: that of which `own` was read, beside the environment.
    pub(crate) fn new(
        member: (&str, &str),
        agent: Configured,
        file: Option<&Path>,
        own: &[Given],
    ) -> Compared {
        let (cluster, name) = member;
        let file = file.map(|file| {
            let theirs = agent.file.as_deref().map(Path::new);
            let is_same = theirs.is_some_and(|theirs| is_same(file, theirs));
            (file.to_owned(), is_same)
        });
        Compared {
            own: own.iter().map(|given| tell(given, &agent.salt)).collect(),
            agent,
            file,
            reload: format!("pgherd ctl reload {cluster} {name}"),
        }
    }

    /// Keys of all that this program reads.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &[String]> {
        self.own.iter().map(|told| told.path.as_slice())
    }

    /// What differs of the values that `within` knows; it says how many of the keys belong to their common name.
    pub(crate) fn differs(&self, within: impl Fn(&[String]) -> Option<usize>) -> Option<Unloaded> {
        let (file, is_same) = self.file.as_ref()?;
        let (own, theirs) = self.of_files(*is_same);
        let mut there: Vec<(&[String], Option<&Told>, Option<&Told>)> = Vec::new();
        for (path, told) in &own {
            there.push((path, Some(told), theirs.get(path).copied()));
        }
        // Who keeps but a part in a file of his own does not take away the rest.
        let gone = theirs
            .iter()
            .filter(|(path, _)| *is_same && !own.contains_key(*path));
        there.extend(gone.map(|(path, told)| (*path, None, Some(*told))));
        let is_other = |own: &Option<&Told>, theirs: &Option<&Told>| match (own, theirs) {
            (Some(own), Some(theirs)) => !own.is_like(theirs),
            (own, theirs) => own.is_some() != theirs.is_some(),
        };
        let (mut read, mut has) = (Vec::new(), Vec::new());
        let (mut source, mut is_kept) = (None, false);
        for (path, own, theirs) in there {
            let Some(depth) = within(path).filter(|_| is_other(&own, &theirs)) else {
                continue;
            };
            let rest = path[depth..].join(".");
            source = source.or(own.map(|told| told.place.clone()));
            is_kept |= own.or(theirs).is_some_and(Told::is_kept);
            read.push((rest.clone(), own));
            has.push((rest, theirs));
        }
        if read.is_empty() {
            return None;
        }
        Some(Unloaded {
            layer: Layer {
                source: source.unwrap_or_else(|| file.display().to_string()),
                value: joined(read),
            },
            agent_has: joined(has),
            is_of_agent: *is_same,
            why: self.why(*is_same, is_kept),
        })
    }

    /// What is compared: what the two files say; with a file that is none of the agent, all that the agent has.
    fn of_files(&self, is_same: bool) -> (Leaves<'_>, Leaves<'_>) {
        let of_file = |told: &&Told| !told.from_environment;
        let own = in_force(self.own.iter().filter(of_file));
        let theirs = self.agent.given.iter();
        (
            own,
            in_force(theirs.filter(|told| !is_same || of_file(told))),
        )
    }

    fn why(&self, is_same: bool, is_kept: bool) -> String {
        let at = self.agent.read_at;
        let mut why = match (is_same, is_kept, &self.agent.file) {
            (true, false, _) => format!("(since {at}); reload: {}", self.reload),
            (true, true, _) => {
                format!("(since {at}); it takes effect when the agent is started anew")
            }
            (false, _, Some(file)) => format!("(since {at}); its file is {file}"),
            (false, _, None) => format!("(since {at}); it has no file, only its environment"),
        };
        if let Some(refusal) = &self.agent.refusal {
            why += &format!(
                "; its last reload, at {}, failed: {}",
                refusal.at, refusal.reason
            );
        }
        why
    }

    /// What the environment of this program says otherwise than the agent has it.
    pub(crate) fn of_shell(
        &self,
        within: impl Fn(&[String]) -> Option<usize>,
    ) -> Vec<(Layer, String)> {
        let theirs = in_force(&self.agent.given);
        let own = in_force(self.own.iter().filter(|told| told.from_environment));
        let other = |(path, told): &(&[String], &Told)| {
            let same = theirs.get(path).is_some_and(|theirs| theirs.is_like(told));
            within(path).is_some() && !same
        };
        let layer = |told: &Told| Layer {
            source: told.place.clone(),
            value: told.value.clone(),
        };
        let own = own.into_iter().filter(other);
        own.map(|(_, told)| (layer(told), OF_SHELL.to_owned()))
            .collect()
    }
}

/// One value, or several by the rest of their keys.
fn joined(values: Vec<(String, Option<&Told>)>) -> Value {
    let value = |told: Option<&Told>| told.map_or(Value::Null, |told| told.value.clone());
    match values.as_slice() {
        [(rest, told)] if rest.is_empty() => value(*told),
        values => {
            let there = values.iter().filter(|(_, told)| told.is_some());
            let pairs = there.map(|(rest, told)| (rest.clone(), value(*told)));
            let pairs: Map<String, Value> = pairs.collect();
            match pairs.is_empty() {
                true => Value::Null,
                false => Value::Object(pairs),
            }
        }
    }
}

/// Also by another name, where this is the agent's machine.
fn is_same(own: &Path, theirs: &Path) -> bool {
    absolute(own).is_ok_and(|own| own == theirs)
        || match (canonicalize(own), canonicalize(theirs)) {
            (Ok(own), Ok(theirs)) => own == theirs,
            _ => false,
        }
}

#[cfg(test)]
#[path = "loaded_tests.rs"]
mod tests;
