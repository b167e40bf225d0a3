//! Files and environment into one document.

use super::yaml::{Data, Entry, Node, Place, parse};
use super::{ConfigError, CtlConfig, Loaded, environment, read};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads a node's configuration: a file, or a directory whose `*.yml` and `*.yaml` are merged in
/// the order of their names (`null` deletes), then the `PATRONI_*` variables of `env`.
///
/// # Errors
/// The first thing that is missing, of a wrong type or unreadable, as one line.
pub fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let read = document(path, env, &mut warnings)?;
    finish(read, warnings)
}

/// Reads a node's configuration where no file was named: `PATRONI_CONFIGURATION` holds the YAML
/// (and other variables are not looked at), else `PATRONI_*` variables alone.
///
/// # Errors
/// As [`load`]; nothing set at all is `Config is empty.`.
pub fn load_environment(env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let read = environment_alone(env, &mut warnings)?;
    finish(read, warnings)
}

/// Reads what `pgherd ctl` needs, from a node's file or one made for patronictl; `None`: from
/// the environment. Also returns warnings.
///
/// # Errors
/// As [`load`].
pub fn load_ctl(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<(CtlConfig, Vec<String>), ConfigError> {
    let mut warnings = Vec::new();
    let read = any_document(path, env, &mut warnings)?;
    let warnings = RefCell::new(warnings);
    let config = read::ctl_config(&read.document, &warnings)?;
    Ok((config, warnings.into_inner()))
}

/// Reads one YAML document that is no configuration of a node: what a person gave to a command.
/// `source` names it in errors. An empty one is null.
///
/// # Errors
/// Syntax, with its line.
pub fn read_document(text: &str, source: &str) -> Result<Value, ConfigError> {
    let place = Place {
        source: source.into(),
        line: Some(1),
    };
    Ok(parse(text, &place, &mut Vec::new())?.to_json())
}

/// One value that a node's own configuration gives: lists and empty mappings are one value. Several are in the order in
/// which they are laid over each other: files, then the environment; the last one of a path counts.
#[derive(Clone, PartialEq)]
pub struct Given {
    /// Keys from the outermost inwards.
    pub path: Vec<String>,
    /// The value; `null` deletes what an earlier file says. May be a secret: not for output unless
    /// the path says that it is none.
    pub value: Value,
    /// `FILE:LINE`, or `environment variable NAME`.
    pub place: String,
    /// It is from the environment.
    pub from_environment: bool,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("path", &self.path)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// Every value of a node's file(s), then of its environment, also where they are no whole configuration. `None`: it has
/// the environment alone.
///
/// # Errors
/// As [`load`] and [`load_environment`], of the syntax alone.
pub fn givens(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Given>, ConfigError> {
    Ok(any_document(path, env, &mut Vec::new())?.givens)
}

/// What was read of files and variables.
pub(super) struct Read {
    /// Laid over each other.
    pub(super) document: Node,
    /// Each value by itself.
    pub(super) givens: Vec<Given>,
}

impl Read {
    fn of(document: Node, from_environment: bool) -> Read {
        let mut givens = Vec::new();
        flatten(&document, &mut Vec::new(), from_environment, &mut givens);
        Read { document, givens }
    }

    fn overlay(&mut self, node: Node, from_environment: bool) {
        flatten(&node, &mut Vec::new(), from_environment, &mut self.givens);
        self.document.overlay(node);
    }
}

fn flatten(node: &Node, path: &mut Vec<String>, from_environment: bool, found: &mut Vec<Given>) {
    match &node.data {
        Data::Map(entries) if !entries.is_empty() || path.is_empty() => {
            for entry in entries {
                path.push(entry.key.clone());
                // The key stands where a person looks, not the value below it.
                let inner = Node {
                    data: entry.node.data.clone(),
                    place: entry.place.clone(),
                };
                flatten(&inner, path, from_environment, found);
                path.pop();
            }
        }
        // A file with nothing but comments.
        Data::Null if path.is_empty() => {}
        _ => found.push(Given {
            path: path.clone(),
            value: node.to_json(),
            place: node.place.to_string(),
            from_environment,
        }),
    }
}

/// Files and variables, or the variables alone; not looked at yet.
pub(super) fn any_document(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Read, ConfigError> {
    match path {
        Some(path) => document(path, env, warnings),
        None => environment_alone(env, warnings),
    }
}

/// What was read, understood.
pub(super) fn finish(read: Read, warnings: Vec<String>) -> Result<Loaded, ConfigError> {
    let warnings = RefCell::new(warnings);
    let node = read::node_config(&read.document, &warnings)?;
    Ok(Loaded {
        node,
        warnings: warnings.into_inner(),
        raw: read.document.to_json(),
        givens: read.givens,
    })
}

/// Reads the configuration of a node whose values are known one by one: as an agent tells them ([`super::Told`]), or
/// without one of them, to learn what holds then. How the node is first set up is left out but for `dcs`: it may not
/// be told, and nothing that runs depends on it.
///
/// # Errors
/// As [`load`].
pub fn rebuilt(givens: &[Given]) -> Result<Loaded, ConfigError> {
    let mut document = Node {
        data: Data::Map(Vec::new()),
        place: Place {
            source: "configuration".into(),
            line: None,
        },
    };
    let is_wanted = |given: &&Given| {
        let mut keys = given.path.iter().map(String::as_str);
        keys.next() != Some("bootstrap") || keys.next() == Some("dcs")
    };
    for given in givens.iter().filter(is_wanted) {
        let place = Place {
            source: given.place.as_str().into(),
            line: None,
        };
        let mut patch = Node::from_json(&given.value, &place);
        for key in given.path.iter().rev() {
            let entry = Entry {
                key: key.clone(),
                place: place.clone(),
                node: patch,
            };
            patch = Node {
                data: Data::Map(vec![entry]),
                place: place.clone(),
            };
        }
        document.overlay(patch);
    }
    let givens = givens.to_vec();
    finish(Read { document, givens }, Vec::new())
}

fn document(
    path: &Path,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Read, ConfigError> {
    let files = files(path)?;
    if files.is_empty() {
        let problem = "Config is empty: no *.yml or *.yaml in this directory";
        return Err(ConfigError::new(path.display(), problem));
    }
    let mut read: Option<Read> = None;
    for file in files {
        let node = file_document(&file, warnings)?;
        match (&node.data, &mut read) {
            // Nothing but comments.
            (Data::Null, _) => {}
            (Data::Map(_), None) => read = Some(Read::of(node, false)),
            (Data::Map(_), Some(read)) => read.overlay(node, false),
            _ => {
                let problem = format!("expected a mapping of sections, found {}", node.kind());
                return Err(ConfigError::new(&node.place, problem));
            }
        }
    }
    let mut read = read.ok_or_else(ConfigError::empty)?;
    read.overlay(environment::document(env, warnings)?, true);
    Ok(read)
}

fn file_document(file: &Path, warnings: &mut Vec<String>) -> Result<Node, ConfigError> {
    let place = Place {
        source: file.display().to_string().into(),
        line: Some(1),
    };
    let text = fs::read_to_string(file)
        .map_err(|error| ConfigError::new(&place.source, format!("cannot be read: {error}")))?;
    parse(&text, &place, warnings)
}

/// The files that a configuration consists of, in the order in which they are laid over each other: the
/// one that is named, or those of a directory.
///
/// # Errors
/// It is not there, or cannot be read.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |error: std::io::Error| {
        ConfigError::new(path.display(), format!("cannot be read: {error}"))
    };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let yaml = file
            .extension()
            .is_some_and(|ext| ext == "yml" || ext == "yaml");
        if yaml && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn environment_alone(
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Read, ConfigError> {
    let variable = env.get("PATRONI_CONFIGURATION");
    if let Some(text) = variable.filter(|text| !text.trim().is_empty()) {
        let place = Place {
            source: "environment variable PATRONI_CONFIGURATION".into(),
            line: Some(1),
        };
        let document = parse(text, &place, warnings)?;
        return match document.data {
            Data::Null => Err(ConfigError::empty()),
            _ => Ok(Read::of(document, true)),
        };
    }
    let document = environment::document(env, warnings)?;
    match &document.data {
        Data::Map(entries) if entries.is_empty() => Err(ConfigError::empty()),
        _ => Ok(Read::of(document, true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a directory, of variables alone, and of a document in one of them.
    #[test]
    fn every_value_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.yml"), "# nothing\n").unwrap();
        std::fs::write(dir.path().join("b.yml"), "scope: x\ntags: {}\n").unwrap();
        let env = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let givens = |path: Option<&Path>, env: &BTreeMap<String, String>| {
            let found = super::givens(path, env)?;
            let place = |given: &Given| (given.path.join("."), given.place.clone());
            Ok::<_, ConfigError>(found.iter().map(place).collect::<Vec<_>>())
        };
        let variable = env("PATRONI_NAME", "n1");
        let pair = |path: &str, place: &str| (path.to_owned(), place.to_owned());
        let of_variable = pair("name", "environment variable PATRONI_NAME");
        let file = dir.path().join("b.yml").display().to_string();
        let expected = [
            pair("scope", &format!("{file}:1")),
            pair("tags", &format!("{file}:2")),
            of_variable.clone(),
        ];
        assert_eq!(givens(Some(dir.path()), &variable).unwrap(), expected);
        assert_eq!(givens(None, &variable).unwrap(), [of_variable]);
        let document = env("PATRONI_CONFIGURATION", "scope: x\nname: n1\n");
        let second = "environment variable PATRONI_CONFIGURATION:2";
        assert_eq!(givens(None, &document).unwrap()[1], pair("name", second));
        assert!(givens(None, &env("PATRONI_CONFIGURATION", "# none\n")).is_err());
    }
}
