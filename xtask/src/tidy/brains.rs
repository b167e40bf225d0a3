//! The brains stay pure: no standard library, nothing that brings it, nothing whose order changes
//! from run to run.

use super::layers::Package;
use super::tree::{File, has_word};

/// Crates that decide, and the words they decide with.
const BRAINS: [&str; 3] = ["model", "ha", "fleet"];

/// Crates of others that a brain may use, without their default features.
const HARMLESS: [&str; 2] = ["serde", "thiserror"];

/// Their order of iteration differs between runs: the same view would give another decision.
const UNORDERED: [&str; 2] = ["HashMap", "HashSet"];

/// Broken rules.
pub(super) fn check(files: &[File], packages: &[Package]) -> Vec<String> {
    let mut broken = Vec::new();
    for brain in BRAINS {
        let folder = format!("crates/{brain}/src/");
        let sources = files.iter().filter(|file| file.path.starts_with(&folder));
        for file in sources {
            if file.path == format!("{folder}lib.rs") && !has_line(&file.text, "#![no_std]") {
                broken.push(format!("{}: must be `#![no_std]`", file.path));
            }
            if !file.path.contains("test") && has_line(&file.text, "extern crate std;") {
                broken.push(format!("{}: takes std in again", file.path));
            }
            for word in UNORDERED.iter().filter(|word| has_word(&file.text, word)) {
                broken.push(format!(
                    "{}: {word} has another order in each run, take its BTree sibling",
                    file.path
                ));
            }
        }
        let package = packages.iter().find(|package| package.name == brain);
        broken.extend(package.into_iter().flat_map(check_dependencies));
    }
    broken
}

fn has_line(text: &str, wanted: &str) -> bool {
    // Indented lines belong to a module of tests.
    text.lines().any(|line| line.trim_end() == wanted)
}

fn check_dependencies(package: &Package) -> Vec<String> {
    let name = &package.name;
    package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.for_tests && !dependency.ours)
        .filter_map(|dependency| {
            let used = &dependency.name;
            if !HARMLESS.contains(&used.as_str()) {
                return Some(format!("crate {name} decides: it may not use {used}"));
            }
            dependency
                .default_features
                .then(|| format!("crate {name}: {used} must come without default features (std)"))
        })
        .collect()
}
