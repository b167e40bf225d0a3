//! Files and environment into one document.

use super::yaml::{Data, Node, Place, parse};
use super::{ConfigError, CtlConfig, Loaded, environment, read};
use std::cell::RefCell;
use std::collections::BTreeMap;
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
    let mut document: Option<Node> = None;
    for file in files(path)? {
        let place = Place {
            source: file.display().to_string().into(),
            line: Some(1),
        };
        let text = fs::read_to_string(&file)
            .map_err(|error| ConfigError::new(&place.source, format!("cannot be read: {error}")))?;
        let node = parse(&text, &place, warnings)?;
        if !matches!(node.data, Data::Map(_)) {
            let problem = format!("expected a mapping of sections, found {}", node.kind());
            return Err(ConfigError::new(&node.place, problem));
        }
        match &mut document {
            None => document = Some(node),
            Some(document) => document.overlay(node),
        }
    }
    let Some(mut document) = document else {
        let problem = "Config is empty: no *.yml or *.yaml in this directory";
        return Err(ConfigError::new(path.display(), problem));
    };
    document.overlay(environment::document(env, warnings)?);
    Ok(document)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
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
        return parse(text, &place, warnings);
    }
    let document = environment::document(env, warnings)?;
    match &document.data {
        Data::Map(entries) if entries.is_empty() => {
            Err(ConfigError::new("environment", "Config is empty."))
        }
        _ => Ok(document),
    }
}
