//! Which crate may use which: arrows point down, and two hands never know each other.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

/// Crate, layer, and every crate of ours that it may use. A new arrow is a decision: it is drawn
/// here and in ARCHITECTURE.md.
const TABLE: &[(&str, u64, &[&str])] = &[
    ("model", 0, &[]),
    ("scenario", 0, &[]),
    ("ha", 1, &["model"]),
    ("fleet", 1, &["model"]),
    ("wire", 1, &["model"]),
    ("instance", 2, &["model"]),
    ("pooler", 2, &["model"]),
    ("backup", 2, &["model"]),
    ("guard", 2, &["ha", "model"]),
    ("dcs", 2, &["wire", "model"]),
    ("peer", 2, &["wire", "model"]),
    ("sim", 2, &["ha", "fleet", "scenario", "model"]),
    (
        "agent",
        3,
        &[
            "ha", "dcs", "instance", "guard", "peer", "pooler", "backup", "wire", "model",
        ],
    ),
    (
        "host",
        3,
        &["instance", "pooler", "backup", "peer", "wire", "model"],
    ),
    ("server", 3, &["fleet", "wire", "model"]),
    ("ctl", 3, &["dcs", "instance", "peer", "wire", "model"]),
    ("pgherd", 4, &["agent", "ctl", "guard", "host", "server"]),
    // Fakes beside what they stand for: in tests only.
    (
        "conformance",
        3,
        &["sim", "ha", "dcs", "instance", "tests", "model"],
    ),
    // They drive programs from outside.
    ("tests", 1, &["scenario"]),
    ("xtask", 0, &[]),
];

/// Names that say nothing and attract everything.
const EMPTY_NAMES: [&str; 6] = ["common", "core", "helper", "helpers", "util", "utils"];

/// A member of the workspace.
pub(super) struct Package {
    /// Without our prefix.
    pub(super) name: String,
    pub(super) layer: Option<u64>,
    pub(super) features: Vec<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// What it uses.
pub(super) struct Dependency {
    /// Of ours: without the prefix.
    pub(super) name: String,
    pub(super) ours: bool,
    pub(super) for_tests: bool,
    pub(super) default_features: bool,
}

/// All members, from cargo.
pub(super) fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut command = crate::run::cargo(&["metadata", "--no-deps", "--format-version=1"]);
    let text = crate::run::output(command.current_dir(root))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    Ok(packages.iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    let features = value["features"].as_object();
    let dependencies = value["dependencies"].as_array();
    Package {
        name: short(value["name"].as_str().unwrap_or_default()),
        layer: value["metadata"]["layer"].as_u64(),
        features: features.map_or_else(Vec::new, |all| all.keys().cloned().collect()),
        dependencies: dependencies
            .map_or_else(Vec::new, |all| all.iter().map(dependency).collect()),
    }
}

fn dependency(value: &Value) -> Dependency {
    Dependency {
        name: short(value["name"].as_str().unwrap_or_default()),
        ours: value["path"].is_string(),
        for_tests: value["kind"] == "dev",
        default_features: value["uses_default_features"] == true,
    }
}

fn short(name: &str) -> String {
    name.strip_prefix("pgherd-").unwrap_or(name).to_owned()
}

/// Broken rules.
pub(super) fn check(packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(check_one).collect()
}

fn check_one(package: &Package) -> Vec<String> {
    let name = &package.name;
    let mut broken = Vec::new();
    if name.split('-').any(|part| EMPTY_NAMES.contains(&part)) {
        broken.push(format!("crate {name}: name it for what it does"));
    }
    if !package.features.is_empty() {
        broken.push(format!(
            "crate {name}: has cargo features ({}); each doubles what must be tested, none is needed yet",
            package.features.join(", ")
        ));
    }
    let Some((_, layer, allowed)) = TABLE.iter().find(|(known, ..)| known == name) else {
        broken.push(format!(
            "crate {name}: not in the table of layers (ARCHITECTURE.md, xtask/src/tidy/layers.rs)"
        ));
        return broken;
    };
    if package.layer != Some(*layer) {
        broken.push(format!(
            "crate {name}: its Cargo.toml must say `[package.metadata] layer = {layer}`"
        ));
    }
    for dependency in package.dependencies.iter().filter(|one| one.ours) {
        if !allowed.contains(&dependency.name.as_str()) {
            broken.push(format!(
                "crate {name} may not use {}{}: a body joins them (ARCHITECTURE.md)",
                dependency.name,
                if dependency.for_tests {
                    ", nor in tests"
                } else {
                    ""
                },
            ));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(name: &str, layer: u64, used: &str) -> Package {
        Package {
            name: name.into(),
            layer: Some(layer),
            features: Vec::new(),
            dependencies: vec![Dependency {
                name: used.into(),
                ours: true,
                for_tests: false,
                default_features: true,
            }],
        }
    }

    #[test]
    fn the_table_points_down_only() {
        for (name, layer, allowed) in TABLE {
            for used in *allowed {
                let (_, below, _) = TABLE.iter().find(|(known, ..)| known == used).unwrap();
                assert!(below < layer, "{name} uses {used}");
            }
        }
    }

    #[test]
    fn hands_do_not_know_each_other() {
        assert!(check(&[uses("agent", 3, "dcs")]).is_empty());
        assert_eq!(check(&[uses("dcs", 2, "instance")]).len(), 1);
        assert_eq!(check(&[uses("ha", 2, "model")]).len(), 1, "wrong layer");
        assert_eq!(check(&[uses("core", 0, "model")]).len(), 2, "name, unknown");
    }
}
