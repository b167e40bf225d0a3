//! Files and environment into one document.

use super::yaml::{Data, Node, Place, parse};
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
    let document = document(path, env, &mut warnings)?;
    finish(&document, warnings)
}

/// Reads a node's configuration where no file was named: `PATRONI_CONFIGURATION` holds the YAML
/// (and other variables are not looked at), else `PATRONI_*` variables alone.
///
/// # Errors
/// As [`load`]; nothing set at all is `Config is empty.`.
pub fn load_environment(env: &BTreeMap<String, String>) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    let document = environment_alone(env, &mut warnings)?;
    finish(&document, warnings)
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
    let document = any_document(path, env, &mut warnings)?;
    let warnings = RefCell::new(warnings);
    let config = read::ctl_config(&document, &warnings)?;
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

/// One value that a node's own configuration gives: lists and empty mappings are one value.
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

/// Every value of a node's file(s), then of its environment, in the order in which they are laid
/// over each other: the last one of a path counts. `None`: it has the environment alone.
///
/// # Errors
/// As [`load`] and [`load_environment`], of the syntax alone.
pub fn givens(
    path: Option<&Path>,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Given>, ConfigError> {
    let mut found = Vec::new();
    let Some(path) = path else {
        let node = environment_alone(env, &mut Vec::new())?;
        flatten(&node, &mut Vec::new(), true, &mut found);
        return Ok(found);
    };
    for file in files(path)? {
        let node = file_document(&file, &mut Vec::new())?;
        flatten(&node, &mut Vec::new(), false, &mut found);
    }
    let node = environment::document(env, &mut Vec::new())?;
    flatten(&node, &mut Vec::new(), true, &mut found);
    Ok(found)
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
) -> Result<Node, ConfigError> {
    match path {
        Some(path) => document(path, env, warnings),
        None => environment_alone(env, warnings),
    }
}

fn finish(document: &Node, warnings: Vec<String>) -> Result<Loaded, ConfigError> {
    let warnings = RefCell::new(warnings);
    let node = read::node_config(document, &warnings)?;
    Ok(Loaded {
        node,
        warnings: warnings.into_inner(),
        raw: document.to_json(),
    })
}

fn document(
    path: &Path,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Result<Node, ConfigError> {
    let files = files(path)?;
    if files.is_empty() {
        let problem = "Config is empty: no *.yml or *.yaml in this directory";
        return Err(ConfigError::new(path.display(), problem));
    }
    let mut document: Option<Node> = None;
    for file in files {
        let node = file_document(&file, warnings)?;
        match (&node.data, &mut document) {
            // Nothing but comments.
            (Data::Null, _) => {}
            (Data::Map(_), None) => document = Some(node),
            (Data::Map(_), Some(document)) => document.overlay(node),
            _ => {
                let problem = format!("expected a mapping of sections, found {}", node.kind());
                return Err(ConfigError::new(&node.place, problem));
            }
        }
    }
    let mut document = document.ok_or_else(ConfigError::empty)?;
    document.overlay(environment::document(env, warnings)?);
    Ok(document)
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
) -> Result<Node, ConfigError> {
    let variable = env.get("PATRONI_CONFIGURATION");
    if let Some(text) = variable.filter(|text| !text.trim().is_empty()) {
        let place = Place {
            source: "environment variable PATRONI_CONFIGURATION".into(),
            line: Some(1),
        };
        let document = parse(text, &place, warnings)?;
        return match document.data {
            Data::Null => Err(ConfigError::empty()),
            _ => Ok(document),
        };
    }
    let document = environment::document(env, warnings)?;
    match &document.data {
        Data::Map(entries) if entries.is_empty() => Err(ConfigError::empty()),
        _ => Ok(document),
    }
}
